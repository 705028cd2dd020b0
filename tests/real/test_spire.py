"""A SPIRE agent's identities: asked without gRPC, held by the daemon, certified by Fulcio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real import spire as names
from tests.real.cases import wrongly_judged
from tests.real.clients import Expected
from tests.real.outcomes import failure_of
from tests.real.people import PeoplesHouse

from keylessd.errors import IdentityError
from keylessd.identity.held.spiffe import WorkloadApi
from keylessd.identity.token import parse_token
from keylessd.secret import Secret
from standing import bundle_of


async def test_svids_of_the_agent(spire) -> None:
    svids = await WorkloadApi(str(spire.socket)).fetch(["sigstore", "other"])
    token = parse_token(Secret(svids[0].token))

    # Both that are registered for us, and not the one that is for another user.
    assert {svid.spiffe_id for svid in svids} == {names.BUILDER, names.RELEASE}
    assert {svid.hint for svid in svids} == {"", names.RELEASE_HINT}
    assert token.issuer == spire.issuer
    assert token.subject == svids[0].spiffe_id
    # As a list, also where it is one.
    assert set(token.audience) == {"sigstore", "other"}


async def test_one_svid_by_name(spire) -> None:
    (svid,) = await WorkloadApi(str(spire.socket)).fetch(["sigstore"], spiffe_id=names.RELEASE)

    assert (svid.spiffe_id, svid.hint) == (names.RELEASE, names.RELEASE_HINT)
    assert parse_token(Secret(svid.token)).subject == names.RELEASE


async def test_the_agent_gives_the_same_token_for_a_while(spire) -> None:
    api = WorkloadApi(str(spire.socket))
    one, other = [
        (await api.fetch(["sigstore"], spiffe_id=names.BUILDER))[0].token for _ in range(2)
    ]

    assert one == other


@pytest.mark.parametrize("spiffe_id", [names.STRANGER, names.BUILDER + "x"])
async def test_identity_that_is_not_ours(spire, spiffe_id: str) -> None:
    with pytest.raises(IdentityError, match="permission denied") as found:
        await WorkloadApi(str(spire.socket)).fetch(["sigstore"], spiffe_id=spiffe_id)

    assert found.value.details["grpc_status"] == 7
    assert found.value.code == "identity_unavailable"


async def test_an_id_of_another_form(spire) -> None:
    with pytest.raises(IdentityError, match="refused") as found:
        await WorkloadApi(str(spire.socket)).fetch(["sigstore"], spiffe_id="nonsense")

    assert not found.value.retryable


async def test_without_the_security_header(spire, monkeypatch: pytest.MonkeyPatch) -> None:
    from keylessd.identity.held import spiffe

    headers = {**spiffe._HEADERS}
    del headers["workload.spiffe.io"]
    monkeypatch.setattr(spiffe, "_HEADERS", headers)
    with pytest.raises(IdentityError, match="invalid argument") as found:
        await WorkloadApi(str(spire.socket)).fetch(["sigstore"])

    assert found.value.details["grpc_status"] == 3


# --- held by the daemon ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def farm(stack, spire) -> Iterator[PeoplesHouse]:
    """A daemon that holds the agent's identities, and others that it cannot have."""
    socket = f'kind = "spiffe"\nsocket = "unix://{spire.socket}"\n'
    tables = {
        "builder": f'{socket}spiffe_id = "{names.BUILDER}"\n',
        "release": f'{socket}hint = "{names.RELEASE_HINT}"\n',
        "stranger": f'{socket}spiffe_id = "{names.STRANGER}"\n',
        "unhinted": f'{socket}hint = "no-such-hint"\n',
        "away": 'kind = "spiffe"\nsocket = "/nowhere/api.sock"\n',
        "other-audience": f'{socket}audience = "corp"\n',
        # From the environment, as a bare path, and the agent's default.
        "default": 'kind = "spiffe"\n',
    }
    house = PeoplesHouse(stack, "farm", environ={"SPIFFE_ENDPOINT_SOCKET": str(spire.socket)})
    with house.config.open("a") as config:
        for name, text in tables.items():
            config.write(f"[identity.{name}]\n{text}")
    yield house
    house.close()


def signed(house: PeoplesHouse, *words: str, stem: str) -> Path:
    (path,) = house.files(1, stem=stem)
    done = house.keyless("sign", "--instance", "v1-tsa", *words, path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize(
    ("words", "spiffe_id"),
    [
        ((), names.BUILDER),
        (("--identity", "builder"), names.BUILDER),
        (("--identity", "release"), names.RELEASE),
    ],
    ids=["first", "builder", "release"],
)
def test_signing_as_a_workload(farm, spire, judges, keyless, words, spiffe_id: str) -> None:
    path = signed(farm, *words, stem=f"workload-{'-'.join(words)}-")
    who = Expected(spiffe_id, spire.issuer)
    cases = {
        "good": who,
        "identity": Expected(spiffe_id + "x", who.issuer),
        "prefix": Expected(spiffe_id[:-1], who.issuer),
        "issuer": Expected(spiffe_id, who.issuer + "x"),
    }
    judging = (keyless, *judges.values())
    row = "keyless, signed as spiffe, SPIRE"
    assert wrongly_judged(row, judging, bundle_of(path), path, cases) == []


def test_the_agents_default(farm, spire) -> None:
    path = signed(farm, "--identity", "default", stem="workload-default-")
    whoami = farm.keyless("whoami", "--json", "--instance", "v1-tsa", "--identity", "default")
    (found,) = [json.loads(line) for line in whoami.stdout.splitlines()]

    assert found["identity"] in {names.BUILDER, names.RELEASE}
    assert found["issuer"] == spire.issuer
    assert farm.verify_as(Expected(found["identity"], spire.issuer), path).returncode == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stranger", "permission denied"),
        ("unhinted", "no-such-hint"),
        ("away", "No such file or directory"),
    ],
)
def test_an_identity_that_cannot_be_had_is_nobody_elses(farm, name: str, words: str) -> None:
    (path,) = farm.files(1, stem=f"not-{name}-")
    failure = failure_of(
        farm.keyless("sign", "--json", "--instance", "v1-tsa", "--identity", name, path)
    )

    assert failure.code == "identity_unavailable"
    assert words in failure.message
    assert not bundle_of(path).exists()


def test_another_audience_is_refused_before_the_ca_is_asked(farm, stack) -> None:
    (path,) = farm.files(1, stem="audience-")
    before = stack.certificates()
    words = ("--instance", "v1-tsa", "--identity", "other-audience")
    failure = failure_of(farm.keyless("sign", "--json", *words, path))

    assert failure.code == "token_audience"
    assert stack.certificates() == before

"""Where and whom the environment names, for programs that use the library as for the command."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from fakedaemon import FakeDaemon, answer, fake_daemon
from keyless import Ambient, Client, Digest, KeylessError, Where
from keyless._surroundings import MAX_DOCUMENT, where_named
from keyless.trio_client import open_client
from keyless.wire import Reply, Request

DIGEST = Digest("sha256", bytes(32))
SANDBOX = {"KEYLESS_INSTANCE": "sandbox", "KEYLESS_IDENTITY": "me@example.org"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sign.sock")


def client_of(path: str, environ: Mapping[str, str]) -> Client:
    return Client(socket_path=path, autostart=False, environ=environ)


def whatever(request: Request) -> object:
    if request.op == "whoami":
        return Reply(request.id, {"identities": []})
    if request.op in {"trust_refresh", "trust_status"}:
        return Reply(request.id, {"instances": []})
    return answer(request)


def asked(daemon: FakeDaemon) -> list[tuple[str, object, object]]:
    return [
        (request.op, request.body.get("where"), request.body.get("identity"))
        for request in daemon.requests
    ]


def ask_everything(client: Client) -> None:
    client.sign(DIGEST)
    list(client.sign_many([DIGEST]))
    client.sign_batch([("f", DIGEST)])
    client.attest(predicate=b"{}", predicate_type="t", subjects=[("f", DIGEST)])
    client.verify(DIGEST, b"{}", key=b"k")
    list(client.verify_many([(DIGEST, b"{}")], key=b"k"))
    client.whoami()
    client.trust_refresh()


NOWHERE: list[tuple[str, object, object]] = [
    *[(op, None, None) for op in ("sign", "sign", "sign_batch", "attest")],
    *[(op, None, None) for op in ("verify", "verify", "whoami", "trust_refresh")],
]


def test_without_a_word_of_it_the_daemon_chooses(path: str) -> None:
    with fake_daemon(path, whatever) as daemon, client_of(path, {"KEYLESS_INSTANCE": ""}) as client:
        ask_everything(client)
        assert asked(daemon) == NOWHERE
        assert daemon.requests[-1].body == {}


def test_the_environment_names_an_instance_and_an_identity(path: str) -> None:
    with fake_daemon(path, whatever) as daemon, client_of(path, SANDBOX) as client:
        ask_everything(client)
        client.trust_status()
    here, me = {"instance": "sandbox"}, "me@example.org"
    assert asked(daemon) == [
        *[(op, here, me) for op in ("sign", "sign", "sign_batch", "attest")],
        # Who could sign is all of them, and what is verified says itself who did.
        *[(op, here, None) for op in ("verify", "verify", "whoami")],
        ("trust_refresh", None, None),
        ("trust_status", None, None),
    ]
    assert [request.body for request in daemon.requests[-2:]] == [here, {}]


def test_what_the_program_says_goes_first(path: str) -> None:
    with fake_daemon(path, whatever) as daemon, client_of(path, SANDBOX) as client:
        client.sign(DIGEST, where=Where(instance="corp"), identity="you")
        client.sign(DIGEST, where=Where())
        client.sign(DIGEST, identity_token="eyJ.e30.x")
        client.sign(DIGEST, ambient=Ambient("github", "t", url="https://ci.example"))
        client.verify(DIGEST, b"{}", key=b"k", where=Where(instance="corp"))
        client.trust_refresh("corp")
    here, corp, me = {"instance": "sandbox"}, {"instance": "corp"}, "me@example.org"
    assert asked(daemon) == [
        ("sign", corp, "you"),
        ("sign", None, me),
        ("sign", here, None),
        ("sign", here, None),
        ("verify", corp, None),
        ("trust_refresh", None, None),
    ]
    assert daemon.requests[-1].body == corp


async def test_the_client_for_trio_too(path: str) -> None:
    with fake_daemon(path, whatever) as daemon:
        async with open_client(socket_path=path, environ=SANDBOX, autostart=False) as client:
            await client.sign(DIGEST)
            await client.sign_batch([("f", DIGEST)])
            await client.attest(statement=b"{}")
            await client.verify(DIGEST, b"{}", key=b"k")
            await client.whoami()
            await client.trust_refresh()
            await client.sign(DIGEST, where=Where(instance="corp"), identity_token="eyJ.e30.x")
    here, me = {"instance": "sandbox"}, "me@example.org"
    assert asked(daemon) == [
        *[(op, here, me) for op in ("sign", "sign_batch", "attest")],
        *[(op, here, None) for op in ("verify", "whoami")],
        ("trust_refresh", None, None),
        ("sign", {"instance": "corp"}, None),
    ]
    assert daemon.requests[-2].body == here


def test_a_file_of_both_trust_documents(path: str, tmp_path: Path) -> None:
    (tmp_path / "both").write_bytes(b"both of them")
    environ = {"KEYLESS_TRUST_CONFIG": str(tmp_path / "both")}
    with fake_daemon(path, whatever) as daemon, client_of(path, environ) as client:
        client.sign(DIGEST)
    assert daemon.requests[-1].body["where"] == {"trust_config": sha256(b"both of them").digest()}
    # An instance goes first, as on the command line.
    named = where_named({**environ, "KEYLESS_INSTANCE": "sandbox"})
    assert named is not None
    assert (named.instance, named.trust_config) == ("sandbox", None)


async def test_a_file_of_both_trust_documents_for_trio(path: str, tmp_path: Path) -> None:
    (tmp_path / "both").write_bytes(b"both of them")
    environ = {"KEYLESS_TRUST_CONFIG": str(tmp_path / "both")}
    with fake_daemon(path, whatever) as daemon:
        async with open_client(socket_path=path, environ=environ, autostart=False) as client:
            await client.sign(DIGEST)
    assert daemon.requests[-1].body["where"] == {"trust_config": sha256(b"both of them").digest()}


def test_a_file_that_cannot_be_read(path: str, tmp_path: Path) -> None:
    environ = {"KEYLESS_TRUST_CONFIG": str(tmp_path / "gone")}
    with fake_daemon(path, whatever) as daemon, client_of(path, environ) as client:
        with pytest.raises(
            KeylessError, match=r"KEYLESS_TRUST_CONFIG: cannot read .*gone: No such"
        ):
            client.sign(DIGEST)
        assert daemon.requests == []


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(MAX_DOCUMENT + 1)
    with pytest.raises(KeylessError, match="larger than 16777216 bytes") as caught:
        where_named({"KEYLESS_TRUST_CONFIG": str(tmp_path / "huge")})
    assert caught.value.code == "too_large"

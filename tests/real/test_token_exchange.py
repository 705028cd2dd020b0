"""A held identity that is traded in at a real Dex: RFC 8693 as Dex speaks it."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trio
from tests.real.cases import wrongly_judged
from tests.real.clients import Expected
from tests.real.outcomes import failure_of
from tests.real.people import PeoplesHouse
from tests.real.process import Program, answers, free_ports, plain_environ
from tests.real.services import FARM, FARM_SECRET, UPSTREAM, UPSTREAM_AUDIENCE
from tests.real.versions import program

from keylessd.clock import SystemClock
from keylessd.errors import IdentityError, TokenError
from keylessd.flow.threads import Threads
from keylessd.identity.held.identities import HeldIdentities
from keylessd.identity.held.source import Parts
from keylessd.identity.provider import Providers
from keylessd.identity.source import IdentityRequest
from keylessd.identity.token import IdentityToken
from keylessd.services.http import HttpClient, new_client
from keylessd.settings import parse_settings
from standing import bundle_of

SECRET = "secret-of-the-farm"
CONFIG = """
[identity.farm]
kind = "token-exchange"
issuer = "{issuer}"
client_id = "farm"
client_secret_file = "secret"
subject_token_file = "subject"
connector_id = "mock"
scopes = ["openid", "email", "audience:server:client_id:{audience}"]
"""


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Dex with a connector that takes any token, and two clients of which one trusts the farm."""
    dex = program("dex")
    if not dex.exists():
        pytest.skip("Dex is not built; run: python -m tests.real install")
    folder = tmp_path_factory.mktemp("dex")
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    config = {
        "issuer": url,
        "storage": {"type": "memory"},
        "web": {"http": url.removeprefix("http://")},
        "oauth2": {"grantTypes": ["urn:ietf:params:oauth:grant-type:token-exchange"]},
        "connectors": [{"type": "mockCallback", "id": "mock", "name": "Mock"}],
        "staticClients": [
            {"id": "sigstore", "name": "s", "public": True, "trustedPeers": ["farm"]},
            {"id": "closed", "name": "c", "public": True},
            {"id": "farm", "name": "f", "secret": SECRET},
        ],
    }
    path = folder / "dex.json"
    path.write_text(json.dumps(config))
    running = Program(
        "dex",
        [dex, "serve", path],
        log=folder / "dex.log",
        ready=answers(f"{url}/.well-known/openid-configuration"),
        environ=plain_environ(folder),
    )
    running.start()
    try:
        running.wait_until_ready()
        yield url
    finally:
        running.stop(signal.SIGKILL)


@asynccontextmanager
async def held(folder: Path, text: str) -> AsyncIterator[HeldIdentities]:
    clock, rng = SystemClock(), random.Random(0)
    async with new_client() as client, trio.open_nursery() as nursery:
        http = HttpClient(client, rng=rng, user_agent="test/1")
        providers = Providers(http, clock=clock, nursery=nursery)
        parts = Parts(http, clock, rng, Threads(), nursery, {}, providers)
        identities = HeldIdentities(parts, own_uid=1, system=False, find_user=int, find_group=int)
        identities.apply(parse_settings(text, file=str(folder / "config.toml")).identities)
        yield identities
        nursery.cancel_scope.cancel()


async def exchanged(
    folder: Path, issuer: str, *, secret: str = SECRET, audience: str = "sigstore"
) -> IdentityToken:
    (folder / "secret").write_text(secret)
    (folder / "subject").write_text("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJqb2IifQ.c2ln")
    text = CONFIG.format(issuer=issuer, audience=audience)
    request = IdentityRequest(1, "public", None)
    found: list[IdentityToken] = []
    error: Exception | None = None
    async with held(folder, text) as identities:
        source = identities.granted(request)
        assert source is not None
        try:
            found = [await source.token(request) for _ in range(2)]
        except (IdentityError, TokenError) as exc:
            error = exc
    if error is not None:
        raise error
    # Dex gives another each time it is asked.
    assert found[0].sha256 == found[1].sha256
    return found[0]


async def test_the_token_names_who_the_connector_says(tmp_path: Path, issuer: str) -> None:
    token = await exchanged(tmp_path, issuer)
    assert token.issuer == issuer
    assert (token.email, token.email_verified) == ("kilgore@kilgore.trout", True)
    assert set(token.audience) == {"sigstore", "farm"}


async def test_a_wrong_secret(tmp_path: Path, issuer: str) -> None:
    with pytest.raises(IdentityError) as caught:
        await exchanged(tmp_path, issuer, secret="another-secret")
    assert not caught.value.retryable
    assert "another-secret" not in caught.value.message
    assert "secret" in (caught.value.hint or "")


async def test_an_audience_that_does_not_trust_us(tmp_path: Path, issuer: str) -> None:
    with pytest.raises(IdentityError):
        await exchanged(tmp_path, issuer, audience="closed")


async def test_without_the_audience_the_token_is_for_us_alone(tmp_path: Path, issuer: str) -> None:
    with pytest.raises((TokenError, IdentityError)) as caught:
        await exchanged(tmp_path, issuer, audience="farm")
    assert caught.value.code == "token_audience"
    assert "'farm'" in caught.value.message


# --- to a bundle -------------------------------------------------------------------------------

BUILDER = "builder@ci.keyless.test"
TRADED = """
[identity.farm]
kind = "token-exchange"
issuer = "{dex}"
client_id = "{client}"
client_secret_file = "secret"
subject_token_file = "subject"
connector_id = "{connector}"
scopes = ["openid", "email", "audience:server:client_id:sigstore"]
"""


@pytest.fixture
def farm(stack, tmp_path: Path) -> Iterator[PeoplesHouse]:
    """A daemon that trades the tokens of a CI system for tokens of the Dex that Fulcio trusts."""
    house = PeoplesHouse(stack, f"traded-{tmp_path.name[-20:]}", settings='log_level = "debug"')
    (house.config.parent / "secret").write_text(FARM_SECRET)
    with house.config.open("a") as config:
        config.write(TRADED.format(dex=stack.urls.dex, client=FARM, connector=UPSTREAM))
    yield house
    house.close()


def issued(stack, farm: PeoplesHouse, **claims: object) -> str:
    """Put a token of the CI system where the daemon takes it from; return it."""
    token: str = stack.issuers.known.token(
        **{"email": BUILDER, "audience": UPSTREAM_AUDIENCE, **claims}
    )
    path = farm.config.parent / "subject"
    new = path.with_name("new")
    new.write_text(token)
    new.rename(path)
    return token


def test_what_was_traded_signs(stack, farm, keyless, judges) -> None:
    subject = issued(stack, farm)
    (path,) = farm.files(1, stem="traded-")
    done = farm.keyless("sign", "--instance", "v1-tsa", path)
    assert done.returncode == 0, done.stderr

    who = Expected(BUILDER, stack.urls.dex)
    cases = {
        "good": who,
        "identity": Expected(f"{who.identity}x", who.issuer),
        "prefix": Expected(who.identity[:-1], who.issuer),
        # Whoever issued the token that was given away.
        "issuer": Expected(who.identity, stack.urls.issuer),
    }
    judging = (keyless, *judges.values())
    row = "keyless, signed by an exchange, Dex"
    assert wrongly_judged(row, judging, bundle_of(path), path, cases) == []
    assert farm.records()[-2]["source"] == "held:farm"
    for text in (done.stdout, done.stderr, farm.log.read_text(), farm.ledger.read_text()):
        assert FARM_SECRET not in text
        assert subject.split(".")[1] not in text
        assert "eyJ" not in text


# Whom it is for, Dex does not look at.
@pytest.mark.parametrize(
    "claims",
    [{"issuer": "github"}, {"lifetime": timedelta(seconds=-60)}],
    ids=["of another issuer", "ended"],
)
def test_what_dex_does_not_take_signs_nothing(stack, farm, claims) -> None:
    issued(stack, farm, **claims)
    (path,) = farm.files(1, stem="untraded-")
    failure = failure_of(farm.keyless("sign", "--json", "--instance", "v1-tsa", path))

    assert failure.code == "identity_unavailable"
    assert "identity 'farm'" in failure.message
    assert not bundle_of(path).exists()

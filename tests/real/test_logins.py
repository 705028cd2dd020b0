"""Logins and sessions of the daemon at real issuers: flows, renewal, rotation, logout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
import trio
from tests.real import dex, oidc
from tests.real.logins import INSTANCE, UID, open_rooms

from keylessd.errors import IdentityError, LoginRequiredError
from keylessd.identity.session import State
from keylessd.secret import Secret

# Of a token that lives for five minutes: seconds until it is due, and until it is over.
DUE, OVER = 200.0, 400.0
PARALLEL = 200
Person = Callable[..., object]


@dataclass(frozen=True)
class Issuer:
    """One of the real issuers, and a person who has an account there."""

    name: str
    url: str
    sign_in: Person
    email: str
    revokes: bool
    names_itself: bool

    def browser(self, facts: Mapping[str, str | int]) -> None:
        page = self.sign_in(str(facts["url"]))
        assert "You are signed in" in page.text, page.text
        assert self.email in page.text

    def device(self, facts: Mapping[str, str | int]) -> None:
        self.sign_in(str(facts["verification_uri_complete"]))


@pytest.fixture
def at_dex(stack) -> Issuer:
    return Issuer("Dex", stack.urls.dex, dex.sign_in, dex.EMAIL, revokes=False, names_itself=False)


@pytest.fixture
def at_provider(oidc_provider) -> Issuer:
    return Issuer(
        "oidc-provider",
        oidc_provider.url,
        oidc.sign_in,
        oidc.EMAIL,
        revokes=True,
        names_itself=True,
    )


@pytest.fixture(params=["at_dex", "at_provider"])
def issuer(request: pytest.FixtureRequest) -> Issuer:
    found: Issuer = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("flow", ["browser", "device"])
async def test_login(issuer: Issuer, flow: str) -> None:
    async with open_rooms() as rooms:
        status = await rooms.log_in(issuer.url, getattr(issuer, flow), flow=flow)
        (session,) = rooms.sessions.find(UID)
        token = await rooms.sessions.token(session, must_live=True)

    assert (status.key.identity, status.key.issuer) == (issuer.email, issuer.url)
    assert status.is_renewable
    assert (token.email, token.email_verified) == (issuer.email, True)


async def test_login_by_a_pasted_code(at_dex: Issuer) -> None:
    async with open_rooms() as rooms:

        def person(facts: Mapping[str, str | int]) -> None:
            code = dex.code_of(dex.sign_in(str(facts["url"])))
            trio.from_thread.run_sync(rooms.pasted.give, UID, facts["login"], Secret(code))

        status = await rooms.log_in(at_dex.url, person, flow="oob")

    assert status.key.identity == at_dex.email


async def test_another_person_than_was_asked_for(issuer: Issuer) -> None:
    async with open_rooms() as rooms:
        with pytest.raises(IdentityError, match="was asked for") as found:
            await rooms.log_in(
                issuer.url,
                lambda facts: issuer.sign_in(str(facts["url"])),
                identity="somebody@else.test",
            )

        assert rooms.sessions.find(UID) == []
    assert found.value.code == "login_failed"


async def test_person_who_declines(at_provider: Issuer) -> None:
    async with open_rooms() as rooms:
        with pytest.raises(IdentityError) as found:
            await rooms.log_in(at_provider.url, lambda facts: oidc.decline(str(facts["url"])))

    assert found.value.code == "login_denied"


async def test_device_that_is_declined(at_provider: Issuer) -> None:
    async with open_rooms() as rooms:
        with pytest.raises(IdentityError) as found:
            await rooms.log_in(
                at_provider.url,
                lambda facts: oidc.decline_device(str(facts["verification_uri_complete"])),
                flow="device",
            )

    assert found.value.code == "login_denied"


async def test_connector_is_taken_without_asking(at_dex: Issuer) -> None:
    async with open_rooms() as rooms:
        seen = []
        status = await rooms.log_in(
            at_dex.url,
            lambda facts: seen.append(dex.follow(str(facts["url"]))),
            connector="mock",
        )

    assert status.key.identity == dex.MOCK_EMAIL
    assert "You are signed in" in seen[0].text


async def test_answer_that_names_another_issuer_ends_nothing(issuer: Issuer) -> None:
    # RFC 9207: somebody passes off another issuer's answer as this one's.
    seen = []

    def person(facts: Mapping[str, str | int]) -> None:
        brought = issuer.sign_in(str(facts["url"]), until="http://localhost").url
        parts = urlsplit(brought)
        fields = dict(parse_qsl(parts.query))
        for change in ({"iss": "https://elsewhere.test"}, {"state": "another"}):
            forged = parts._replace(query=urlencode({**fields, **change})).geturl()
            seen.append(httpx.get(forged, trust_env=False).status_code)
        if issuer.names_itself:
            del fields["iss"]
            nameless = parts._replace(query=urlencode(fields)).geturl()
            seen.append(httpx.get(nameless, trust_env=False).status_code)
        assert "You are signed in" in httpx.get(brought, trust_env=False).text

    async with open_rooms() as rooms:
        status = await rooms.log_in(issuer.url, person)

    assert status.key.identity == issuer.email
    assert seen == [400] * len(seen)
    assert len(seen) == (3 if issuer.names_itself else 2)


# --- renewal -----------------------------------------------------------------------------------


async def test_everybody_at_a_tokens_end_renews_once(at_provider: Issuer) -> None:
    # It would notice a refresh token that is used twice, and end the session at once.
    async with open_rooms() as rooms:
        await rooms.log_in(at_provider.url, at_provider.browser)
        (session,) = rooms.sessions.find(UID)
        for _ in range(2):
            held, refresh_token = session.held, session.refresh_token
            rooms.clock.suspend(OVER)
            async with trio.open_nursery() as nursery:
                for _ in range(PARALLEL):
                    nursery.start_soon(partial(rooms.sessions.token, session, must_live=True))

            assert session.held is not held
            assert session.refresh_token != refresh_token
        (status,) = rooms.sessions.status(UID)

    assert status.state is State.ACTIVE


async def test_due_token_is_renewed_while_it_serves(issuer: Issuer) -> None:
    async with open_rooms() as rooms:
        await rooms.log_in(issuer.url, issuer.browser)
        (session,) = rooms.sessions.find(UID)
        held = session.held
        assert held is not None
        rooms.clock.suspend(DUE)
        # The one at hand is given out at once, and the other comes meanwhile.
        assert await rooms.sessions.token(session, must_live=True) is held.token
        await _until(lambda: session.held is not held)
        after = await rooms.sessions.token(session, must_live=True)

    assert (after.email, after.subject) == (held.token.email, held.token.subject)


async def _until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not holds():  # noqa: ASYNC110  # nobody tells when a renewal has ended
            await trio.sleep(0.01)


# --- the end -----------------------------------------------------------------------------------


async def test_logout(issuer: Issuer) -> None:
    async with open_rooms() as rooms:
        await rooms.log_in(issuer.url, issuer.browser)
        (session,) = rooms.sessions.find(UID)
        ended = await rooms.sessions.end(session)

        assert ended.revoked is issuer.revokes
        assert (ended.reason is None) is issuer.revokes
        assert rooms.sessions.find(UID) == []
        with pytest.raises(LoginRequiredError):
            await rooms.sessions.token(session, must_live=True)


async def test_revoked_elsewhere(at_provider: Issuer) -> None:
    async with open_rooms() as rooms:
        await rooms.log_in(at_provider.url, at_provider.browser)
        (session,) = rooms.sessions.find(UID)
        before = await rooms.sessions.token(session, must_live=True)
        assert session.refresh_token is not None
        await trio.to_thread.run_sync(
            partial(oidc.revoke, at_provider.url, session.refresh_token.reveal())
        )
        rooms.clock.suspend(DUE)
        await rooms.sessions.token(session, must_live=True)
        await _until(lambda: session.over is not None)
        (status,) = rooms.sessions.status(UID)

    assert before.email == at_provider.email
    assert status.state is State.LOGIN_REQUIRED
    assert status.reason is not None


async def test_evicted_by_another_tool(at_dex: Issuer) -> None:
    # At Dex there is one refresh token for a person and client.
    async with open_rooms() as rooms, open_rooms() as other:
        await rooms.log_in(at_dex.url, at_dex.browser)
        await other.log_in(at_dex.url, at_dex.browser)
        (session,) = rooms.sessions.find(UID)
        rooms.clock.suspend(DUE)
        await rooms.sessions.token(session, must_live=True)
        await _until(lambda: session.over is not None)
        (status,) = rooms.sessions.status(UID)

    assert status.state is State.LOGIN_REQUIRED
    assert status.reason is not None
    assert "another" in status.reason


async def test_a_session_is_of_its_user_and_instance(at_provider: Issuer) -> None:
    async with open_rooms() as rooms:
        await rooms.log_in(at_provider.url, at_provider.browser)

        assert rooms.sessions.default(UID, INSTANCE) is rooms.sessions.find(UID)[0]
        assert rooms.sessions.default(UID, "other") is None
        assert rooms.sessions.find(UID + 1) == []

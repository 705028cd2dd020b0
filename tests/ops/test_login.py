"""Logging in at the embedded issuer: each way, what each refusal becomes, and logging out."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from keylessd.errors import (
    BusyError,
    DaemonError,
    IdentityError,
    InvalidInputError,
    LoginRequiredError,
    NoServiceError,
)
from keylessd.identity.login.page import HEADERS
from keylessd.identity.session import State
from keylessd.ops.login import LoginOrder
from keylessd.ops.owner import Owner
from keylessd.sandbox.faults import Garbage, LostReply, Status
from keylessd.secret import Secret
from keylessd.trust.where import Urls, Where
from login_rig import ADA, exchange, get, open_login
from ops_rig import ME

EVE = "eve@example.org"
OTHER = Owner(1001)


async def test_a_browser_login_and_what_follows_from_it(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        status = await it.login()
        assert status.key.identity == ADA
        assert status.is_renewable
        assert status.is_default
        assert status.state is State.ACTIVE
        query = parse_qs(urlsplit(it.told[0][1]["url"]).query)
        assert query["scope"] == ["openid email offline_access"]
        assert query["code_challenge_method"] == ["S256"]
        assert len(query["state"][0]) == len(query["nonce"][0]) == 32
        assert "client_secret" not in query
        page = it.pages[0]
        assert page.status == 200
        assert ADA in page.body
        assert "close this tab" in page.body
        assert "<script" not in page.body
        for name, value in HEADERS.items():
            assert (
                page.headers[name.lower()] == value.lower() or page.headers[name.lower()] == value
            )
        assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
        assert not it.listeners[0].is_open
        # Nobody is asked again.
        result = await it.rig.sign(token=None)
        assert result.identity == ADA
        assert len(it.told) == 1
        assert it.rig.ledger()[-2]["source"] == "session"


async def test_nobody_is_logged_in(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        with pytest.raises(LoginRequiredError) as caught:
            await it.rig.sign(token=None)
        assert "keyless login" in (caught.value.hint or "")
        assert "--device" in (caught.value.hint or "")
        with pytest.raises(LoginRequiredError):
            await it.rig.sign(token=None, identity=ADA)
        assert it.token_requests == 0


async def test_another_user_neither_uses_nor_sees_a_session(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        await it.login()
        assert it.status(OTHER) == []
        assert await it.rig.house.status.sessions(OTHER) == []
        assert await it.rig.house.status.whoami(it.rig.request(owner=OTHER)) == []
        for identity in (None, ADA):
            with pytest.raises(LoginRequiredError):
                await it.rig.sign(token=None, owner=OTHER, identity=identity)
        with pytest.raises(LoginRequiredError):
            await it.rig.house.login.logout(OTHER, instance=None, identity=ADA, everyone=False)
        assert (
            await it.rig.house.login.logout(OTHER, instance=None, identity=None, everyone=True)
            == []
        )
        assert len(it.status()) == 1
        assert (await it.rig.sign(token=None)).identity == ADA


async def test_a_session_goes_to_no_services_it_was_not_begun_for(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        await it.login()
        elsewhere = Where(urls=Urls(fulcio="http://127.0.0.1:9/of-a-thief"))
        for identity in (None, ADA):
            with pytest.raises(LoginRequiredError):
                await it.rig.sign(token=None, identity=identity, where=elsewhere)
        with pytest.raises(LoginRequiredError):
            await it.rig.sign(token=None, where=Where(signing_config=b"of a thief"))
        assert (await it.rig.sign(token=None)).identity == ADA


async def test_a_session_may_be_begun_for_stated_services(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        stated = Where(urls=Urls(fulcio="http://fulcio.sandbox.test"))
        await it.login(where=stated)
        assert (await it.rig.sign(token=None, where=stated)).identity == ADA
        with pytest.raises(LoginRequiredError):
            await it.rig.sign(token=None)
        assert [one.instance for one in await it.rig.house.status.sessions(ME)] == [
            it.status()[0].key.instance
        ]


RIGHT = "/auth/callback?code=x&state={state}&iss={iss}"
STRAYS = {
    "another host": get(RIGHT, "evil.example:4711"),
    "another port": get(RIGHT, "localhost:80"),
    "no host": f"GET {RIGHT} HTTP/1.0\r\n\r\n".encode(),
    "two hosts": get(RIGHT, "localhost:4711", "Host: x:1"),
    "another page's": get(
        RIGHT,
        "localhost:4711",
        "Origin: https://evil.example",
    ),
    "a post": get(RIGHT, "localhost:4711", "Content-Length: 0").replace(b"GET", b"POST"),
    "another path": get("/other?code=x&state={state}&iss={iss}"),
    "no state": get("/auth/callback?code=x&iss={iss}"),
    "an empty state": get("/auth/callback?code=x&state=&iss={iss}"),
    "a wrong state": get("/auth/callback?code=x&state=AAAA&iss={iss}"),
    "a wrong state with an error": get("/auth/callback?error=access_denied&state=AAAA&iss={iss}"),
    "two states": get("/auth/callback?code=x&state={state}&state=AAAA&iss={iss}"),
    "the state twice": get("/auth/callback?code=x&state={state}&state={state}&iss={iss}"),
    "two codes": get("/auth/callback?code=x&code=y&state={state}&iss={iss}"),
    "another issuer": get("/auth/callback?code=x&state={state}&iss=https://evil.example"),
    "no issuer": get("/auth/callback?code=x&state={state}"),
    "an error of no issuer": get("/auth/callback?error=access_denied&state={state}"),
    "no code": get("/auth/callback?state={state}&iss={iss}"),
    "an empty code": get("/auth/callback?code=&state={state}&iss={iss}"),
    "many fields": get("/auth/callback?state={state}&" + "&".join("a=1" for _ in range(100))),
    "bad escapes": get("/auth/callback?state=%ff%fe&code=x"),
    "no request": b"\x16\x03\x01\x02\x00\x01\x00",
    "a long request": b"GET /" + b"a" * 100_000,
    "nothing": b"",
    "a favicon": get("/favicon.ico"),
}


@pytest.mark.parametrize("name", STRAYS)
async def test_no_other_request_ends_the_wait_or_has_an_effect(autojump_clock, tmp_path, name):
    async with open_login(tmp_path) as it:

        async def person() -> None:
            facts = await it.heard()
            query = parse_qs(urlsplit(facts["url"]).query)
            state, iss = query["state"][0].encode(), b"http://oidc.sandbox.test"
            raw = STRAYS[name].replace(b"{state}", state).replace(b"{iss}", iss)
            for _ in range(3):
                stream = it.listeners[0].connect()
                response = await exchange(stream, raw) if raw else None
                if response is not None:
                    assert 400 <= response.status < 500
                    assert response.headers["cache-control"] == "no-store"
                    assert state.decode() not in response.body
            assert it.token_requests == 0
            await it.callback(await it.consent(facts["url"], ADA))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(person)
            order = LoginOrder(ME, Where())
            assert (await it.rig.house.login.login(order, it.tell)).key.identity == ADA


async def test_slow_and_many_clients_keep_no_browser_out(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:

        async def person() -> None:
            facts = await it.heard()
            crowd = [it.listeners[0].connect() for _ in range(300)]
            for stream in crowd:
                await stream.send_all(b"GET /auth")
            location = await it.consent(facts["url"], ADA)
            before = trio.current_time()
            await it.callback(location)
            assert trio.current_time() - before < 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(person)
            await it.rig.house.login.login(LoginOrder(ME, Where()), it.tell)


async def test_a_code_counts_once_and_a_second_answer_not_at_all(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        from keylessd.sandbox.faults import Delay

        pages = {}

        async def person() -> None:
            facts = await it.heard()
            location = await it.consent(facts["url"], ADA)
            it.rig.faults["oidc"].fail_next(1, Delay(5), path="/token")
            parts = urlsplit(location)
            state = parse_qs(parts.query)["state"][0]
            other = f"/auth/callback?code=other&state={state}&iss=http://oidc.sandbox.test"

            async def hit(target: str) -> None:
                pages[target] = await exchange(it.listeners[0].connect(), get(target))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(hit, f"{parts.path}?{parts.query}")
                await trio.sleep(1)
                nursery.start_soon(hit, f"{parts.path}?{parts.query}")
                nursery.start_soon(hit, other)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(person)
            await it.rig.house.login.login(LoginOrder(ME, Where()), it.tell)
        assert it.token_requests == 1
        late = next(page for target, page in pages.items() if "code=other" in target)
        assert late is None or late.status == 400
        first = next(page for target, page in pages.items() if "code=other" not in target)
        assert first is None or ADA in first.body


async def test_codes_that_the_issuer_does_not_know_end_nothing(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:

        async def person() -> None:
            facts = await it.heard()
            state = parse_qs(urlsplit(facts["url"]).query)["state"][0]
            location = await it.consent(facts["url"], ADA)
            for number in range(10):
                target = f"/auth/callback?code={number}&state={state}&iss=http://oidc.sandbox.test"
                for _ in range(2):
                    wrong = await exchange(it.listeners[0].connect(), get(target))
                    assert wrong is not None
                    assert "did not succeed" in wrong.body
            assert it.token_requests == 10
            await it.callback(location)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(person)
            status = await it.rig.house.login.login(LoginOrder(ME, Where()), it.tell)
        assert status.key.identity == ADA


async def test_but_not_without_end(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:

        async def person() -> None:
            facts = await it.heard()
            state = parse_qs(urlsplit(facts["url"]).query)["state"][0]
            for number in range(32):
                target = f"/auth/callback?code={number}&state={state}&iss=http://oidc.sandbox.test"
                await exchange(it.listeners[0].connect(), get(target))

        async def login() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(person)
                await it.rig.house.login.login(LoginOrder(ME, Where()), it.tell)

        with pytest.raises(IdentityError, match="not known"):
            await one(login())
        assert it.token_requests == 32


async def test_the_person_says_no(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        with pytest.raises(DaemonError) as caught:
            await one(it.login(None))
        assert caught.value.code == "login_denied"
        assert "did not succeed" in it.pages[0].body
        assert it.status() == []
        assert not it.listeners[0].is_open


async def one(awaitable):
    """Unwrap the one error that comes out of the person's nursery."""
    try:
        return await awaitable
    except BaseExceptionGroup as group:
        (error,) = group.exceptions
        raise error from None


async def test_somebody_else_than_was_asked_for(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        with pytest.raises(IdentityError, match=r"'eve@example.org' has logged in") as caught:
            await one(it.login(EVE, identity=ADA))
        assert caught.value.code == "login_failed"
        assert "eve@example.org" in it.pages[0].body
        assert "did not succeed" in it.pages[0].body
        assert it.status() == []
        assert len(it.rig.sigstore.flows.grants) == 0  # given back
        assert parse_qs(urlsplit(it.told[0][1]["url"]).query)["login_hint"] == [ADA]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Status(400, b'{"error":"invalid_grant","error_description":"<b>no</b>"}'), "login_failed"),
        (Status(400, b'{"error":"invalid_scope","error_description":"<b>no</b>"}'), "login_failed"),
        (Status(500, b"{}"), "login_failed"),
        (Status(401, b'{"error":"invalid_client"}'), "login_failed"),
        (Garbage(), "service_invalid_reply"),
        (LostReply(), "service_unavailable"),
        (Status(200, b"{}"), "login_failed"),
        (Status(200, b'{"id_token":"a.b.c"}'), "login_failed"),
    ],
)
async def test_the_token_endpoint_refuses(autojump_clock, tmp_path, fault, code):
    async with open_login(tmp_path) as it:
        it.rig.faults["oidc"].fail(fault, path="/token")
        with pytest.raises(DaemonError) as caught:
            await one(it.login())
        assert caught.value.code == code
        assert "did not succeed" in it.pages[0].body
        assert "<b>" not in it.pages[0].body
        assert it.status() == []


async def test_a_token_of_another_login(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        foreign = it.rig.sigstore.token(email=ADA, claims={"nonce": "of another login"})
        it.rig.faults["oidc"].fail(
            Status(200, json.dumps({"id_token": foreign}).encode()), path="/token"
        )
        with pytest.raises(IdentityError, match="nonce"):
            await one(it.login())


async def test_nobody_comes(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        before = trio.current_time()
        with pytest.raises(IdentityError, match="nobody finished"):
            await it.rig.house.login.login(LoginOrder(ME, Where()), it.tell)
        assert trio.current_time() - before == pytest.approx(290)
        assert not it.listeners[0].is_open


async def test_a_client_that_leaves_closes_the_listener(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        with trio.move_on_after(5):
            await it.rig.house.login.login(LoginOrder(ME, Where()), it.tell)
        assert not it.listeners[0].is_open
        assert it.status() == []


async def test_too_many_logins_at_once(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        login = it.rig.house.login.login
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(login, LoginOrder(ME, Where()), it.tell)
            await trio.sleep(1)
            with pytest.raises(BusyError):
                await login(LoginOrder(ME, Where()), it.tell)
            nursery.start_soon(login, LoginOrder(OTHER, Where()), it.tell)
            await trio.sleep(1)
            assert len(it.listeners) == 5
            nursery.cancel_scope.cancel()


async def test_an_issuer_that_cannot_be_used(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        document = it.rig.sigstore.identities.login.discovery()
        for name, reason in (
            ("code_challenge_methods_supported", "PKCE"),
            ("authorization_endpoint", "no authorization endpoint"),
        ):
            changed = {k: v for k, v in document.items() if k != name}
            it.rig.faults["oidc"].clear()
            it.rig.faults["oidc"].fail(
                Status(200, json.dumps(changed).encode()), path="/.well-known"
            )
            it.clock.suspend(90_000)
            with pytest.raises(IdentityError, match=reason):
                await it.rig.house.login.login(LoginOrder(ME, Where()), it.tell)
        it.rig.faults["oidc"].fail(Status(503), path="")
        it.clock.suspend(90_000)


async def test_no_issuer_is_configured(autojump_clock, tmp_path):
    from dataclasses import replace

    async with open_login(tmp_path) as it:
        it.rig.trust.current = replace(it.rig.trust.current, signing_config=None)
        with pytest.raises(NoServiceError, match="which issuer"):
            await it.rig.house.login.login(LoginOrder(ME, Where()), it.tell)


# --- device -------------------------------------------------------------------------------


async def by_device(it, answer, **order):
    async def person() -> None:
        facts = await it.heard()
        if answer is not None:
            await answer(facts)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(person)
        order = LoginOrder(ME, Where(), flow="device", **order)
        return await it.rig.house.login.login(order, it.tell)


async def test_a_device_login(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:

        async def answer(facts) -> None:
            assert facts["verification_uri"] == "http://oidc.sandbox.test/device"
            assert facts["user_code"] in facts["verification_uri_complete"]
            await trio.sleep(42)
            assert it.rig.sigstore.flows.finish_device(facts["user_code"], ADA)

        status = await by_device(it, answer)
        assert status.key.identity == ADA
        assert status.is_renewable
        assert it.token_requests == 9  # every five seconds
        assert it.listeners == []
        assert (await it.rig.sign(token=None)).identity == ADA


async def test_a_device_login_that_is_declined_or_forgotten(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:

        async def decline(facts) -> None:
            it.rig.sigstore.flows.finish_device(facts["user_code"], None)

        with pytest.raises(IdentityError) as caught:
            await one(by_device(it, decline))
        assert caught.value.code == "login_denied"
        before = trio.current_time()
        with pytest.raises(IdentityError, match="nobody finished"):
            await one(by_device(it, None))
        assert trio.current_time() - before <= 300


async def test_a_device_login_leaves_an_issuer_alone_for_as_long_as_it_asks(
    autojump_clock, tmp_path
):
    async with open_login(tmp_path) as it:
        it.rig.faults["oidc"].fail_next(1, Status(429, retry_after="90"), path="/token")

        async def answer(facts) -> None:
            it.rig.sigstore.flows.finish_device(facts["user_code"], ADA)

        before = trio.current_time()
        assert (await by_device(it, answer)).key.identity == ADA
        assert 95 <= trio.current_time() - before <= 97


async def test_a_device_login_slows_down_for_good(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        slow = Status(400, b'{"error":"slow_down"}')
        pending = Status(400, b'{"error":"authorization_pending"}')
        it.rig.faults["oidc"].fail_next(2, slow, path="/token")
        it.rig.faults["oidc"].fail(pending, path="/token")
        times: list[float] = []
        real = it.rig.faults["oidc"].requests.append

        class Watch:
            def append(self, request) -> None:
                if request.path == "/token":
                    times.append(trio.current_time())
                real(request)

        it.rig.faults["oidc"].requests = Watch()  # type: ignore[assignment]
        with pytest.raises(IdentityError):
            await one(by_device(it, None))
        gaps = [round(b - a) for a, b in itertools.pairwise(times)]
        assert gaps[:4] == [10, 15, 15, 15]


async def test_a_device_login_outlives_an_issuer_that_is_away(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        it.rig.faults["oidc"].fail_next(2, LostReply(), path="/token")
        it.rig.faults["oidc"].fail_next(1, Status(503), path="/token")

        async def answer(facts) -> None:
            it.rig.sigstore.flows.finish_device(facts["user_code"], ADA)

        with pytest.raises(IdentityError, match="not known"):
            # A lost answer was the only one: the issuer gives a device's tokens once.
            await one(by_device(it, answer))
        it.rig.faults["oidc"].fail_next(2, Status(503), path="/token")
        assert (await by_device(it, answer)).key.identity == ADA


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Status(503), "503"),
        (Status(429), "429"),
        (LostReply(), "oidc.sandbox.test/token"),
        (Status(500, b'{"error":"server_error","error_description":"no disk"}'), "no disk"),
    ],
)
async def test_a_device_login_says_what_kept_it_from_asking(autojump_clock, tmp_path, fault, says):
    async with open_login(tmp_path) as it:
        it.rig.faults["oidc"].fail(fault, path="/token")
        with pytest.raises(IdentityError) as caught:
            await one(by_device(it, None))
        error = caught.value
        assert (error.code, error.retryable) == ("login_failed", True)
        assert "nobody" not in error.message
        assert says in error.message
        assert error.hint is not None


async def test_a_device_login_that_could_not_ask_for_a_while_says_nothing_of_it(
    autojump_clock, tmp_path
):
    async with open_login(tmp_path) as it:
        it.rig.faults["oidc"].fail_next(2, Status(503), path="/token")
        with pytest.raises(IdentityError, match="nobody finished") as caught:
            await one(by_device(it, None))
        assert not caught.value.retryable


async def test_a_device_code_that_ends_while_the_issuer_cannot_be_asked(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        expired = Status(400, b'{"error":"expired_token"}')
        it.rig.faults["oidc"].fail_next(2, Status(503), path="/token")
        it.rig.faults["oidc"].fail_next(1, expired, path="/token")
        with pytest.raises(IdentityError, match="503"):
            await one(by_device(it, None))
        it.rig.faults["oidc"].fail_next(1, expired, path="/token")
        with pytest.raises(IdentityError, match="nobody finished"):
            await one(by_device(it, None))


# --- a pasted code -----------------------------------------------------------------------


async def test_a_pasted_code(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:

        async def person() -> None:
            facts = await it.heard()
            page = await it.consent(facts["url"], ADA)
            code = page.partition("<code>")[2].partition("</code>")[0]
            give = it.rig.house.login.login_code
            with pytest.raises(InvalidInputError):
                give(OTHER, facts["login"], Secret(code))
            with pytest.raises(InvalidInputError):
                give(ME, "another", Secret(code))
            give(ME, facts["login"], Secret(code))
            with pytest.raises(InvalidInputError):
                give(ME, facts["login"], Secret("second"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(person)
            order = LoginOrder(ME, Where(), flow="oob")
            status = await it.rig.house.login.login(order, it.tell)
        assert status.key.identity == ADA
        assert it.told[0][0] == "enter_code"


async def test_a_code_that_is_wrong_or_never_comes(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:

        async def person() -> None:
            facts = await it.heard()
            it.rig.house.login.login_code(ME, facts["login"], Secret("wrong"))

        async def login() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(person)
                await it.rig.house.login.login(LoginOrder(ME, Where(), flow="oob"), it.tell)

        with pytest.raises(IdentityError, match="not known") as caught:
            await one(login())
        assert caught.value.code == "login_failed"
        with pytest.raises(IdentityError, match="nobody finished"):
            await it.rig.house.login.login(LoginOrder(ME, Where(), flow="oob"), it.tell)


# --- several identities ------------------------------------------------------------------


async def test_several_identities_side_by_side(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        await it.login(ADA)
        await it.login(EVE)
        assert (await it.rig.sign(token=None)).identity == ADA
        assert (await it.rig.sign(token=None, identity=EVE)).identity == EVE
        with pytest.raises(LoginRequiredError, match="bob"):
            await it.rig.sign(token=None, identity="bob@example.org")
        told = len(it.told)
        order = LoginOrder(ME, Where(), identity=EVE, as_default=True)
        status = await it.rig.house.login.login(order, it.tell)
        assert (status.key.identity, status.is_default) == (EVE, True)
        assert len(it.told) == told  # nobody was asked
        assert (await it.rig.sign(token=None)).identity == EVE
        found = await it.rig.house.status.whoami(it.rig.request())
        assert [(one.identity, one.is_default) for one in found] == [(EVE, True), (ADA, False)]
        [named] = await it.rig.house.status.whoami(it.rig.request(identity=ADA))
        assert named.identity == ADA
        await it.rig.house.login.logout(ME, instance=None, identity=EVE, everyone=False)
        assert (await it.rig.sign(token=None)).identity == ADA  # the only one left


async def test_without_a_default_nobody_is_guessed(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        for who in (ADA, EVE, "bob@example.org"):
            await it.login(who)
        await it.rig.house.login.logout(ME, instance=None, identity=ADA, everyone=False)
        with pytest.raises(LoginRequiredError, match="several identities") as caught:
            await it.rig.sign(token=None)
        assert "--identity" in (caught.value.hint or "")


async def test_instances_do_not_share_sessions(autojump_clock, tmp_path):
    from dataclasses import replace

    async with open_login(tmp_path) as it:
        await it.login(ADA)
        sandbox = it.rig.trust.current
        it.rig.trust.current = replace(sandbox, instance="other", version="w")
        await it.login(EVE, where=Where(instance="other"))
        assert (await it.rig.sign(token=None, where=Where(instance="other"))).identity == EVE
        it.rig.trust.current = sandbox
        assert (await it.rig.sign(token=None)).identity == ADA
        with pytest.raises(LoginRequiredError):
            await it.rig.sign(token=None, where=Where(instance="third"))
        assert {one.is_default for one in it.status()} == {True}
        found = await it.rig.house.status.whoami(it.rig.request(where=Where(instance="other")))
        assert [one.identity for one in found] == [EVE, ADA]


async def test_a_connector_is_asked_for_and_told(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        await it.login(connector="https://github.com/login/oauth")
        query = parse_qs(urlsplit(it.told[0][1]["url"]).query)
        assert query["connector_id"] == ["https://github.com/login/oauth"]
        assert "github.com" in it.pages[0].body


async def test_an_issuer_without_leave_to_renew(autojump_clock, tmp_path):
    async with open_login(tmp_path, token_lifetime=timedelta(seconds=60)) as it:
        document = it.rig.sigstore.identities.login.discovery()
        document["scopes_supported"] = ["openid", "email"]
        it.rig.faults["oidc"].fail(Status(200, json.dumps(document).encode()), path="/.well-known")
        status = await it.login()
        assert not status.is_renewable
        query = parse_qs(urlsplit(it.told[0][1]["url"]).query)
        assert query["scope"] == ["openid email"]
        assert "prompt" not in query
        first = await it.rig.sign(token=None)
        [told] = await it.rig.house.status.sessions(ME)
        assert told.prompt_due == first.not_after  # announced from now on
        it.clock.suspend(300)
        again = await it.rig.sign(token=None)
        assert again.certificate_serial == first.certificate_serial
        assert again.certificate_reused
        for changes in ({"reuse": "never"}, {"identity": ADA, "reuse": "never"}):
            with pytest.raises(LoginRequiredError, match="no leave to renew"):
                await it.rig.sign(token=None, **changes)
        assert (await it.rig.sign(token=None)).certificate_serial == first.certificate_serial
        it.clock.suspend(300)  # to its end
        with pytest.raises(LoginRequiredError, match="no leave to renew"):
            await it.rig.sign(token=None)
        assert it.rig.certificates == 1
        assert len(it.told) == 1


# --- logging out, locking ----------------------------------------------------------------


async def test_logging_out_revokes(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        await it.login()
        assert len(it.rig.sigstore.flows.grants) == 1
        [ended] = await it.rig.house.login.logout(ME, instance=None, identity=None, everyone=False)
        assert (ended.key.identity, ended.revoked, ended.reason) == (ADA, True, None)
        assert len(it.rig.sigstore.flows.grants) == 0
        with pytest.raises(LoginRequiredError):
            await it.rig.sign(token=None)
        with pytest.raises(LoginRequiredError):
            await it.rig.house.login.logout(ME, instance=None, identity=None, everyone=False)


async def test_the_keys_of_who_logs_out_are_forgotten(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        await it.login()
        await it.rig.sign(token=None)
        await it.rig.sign(token=it.rig.token(email="bob@example.org"))
        assert len(it.rig.house.status.slots(ME)) == 2
        await it.rig.house.login.logout(ME, instance=None, identity=ADA, everyone=False)
        assert [slot.identity for slot in it.rig.house.status.slots(ME)] == ["bob@example.org"]


async def test_logging_out_where_nothing_can_be_revoked(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        document = it.rig.sigstore.identities.login.discovery()
        del document["revocation_endpoint"]
        it.rig.faults["oidc"].fail(Status(200, json.dumps(document).encode()), path="/.well-known")
        await it.login()
        [ended] = await it.rig.house.login.logout(ME, instance=None, identity=None, everyone=True)
        assert not ended.revoked
        assert "no way to revoke" in (ended.reason or "")
        assert it.status() == []


async def test_logging_out_while_the_issuer_is_down(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        await it.login()
        it.rig.faults["oidc"].fail(Status(503))
        [ended] = await it.rig.house.login.logout(ME, instance=None, identity=ADA, everyone=False)
        assert not ended.revoked
        assert "did not revoke" in (ended.reason or "")
        assert it.status() == []


async def test_a_locked_daemon_signs_nothing_and_says_all_else(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        await it.login()
        house = it.rig.house
        bundle = (await it.rig.sign(token=None)).bundle
        await house.login.lock(ME, b"open sesame")
        for changes in (
            {"token": None},
            {"token": it.rig.token()},
            {"token": None, "identity": ADA},
        ):
            with pytest.raises(IdentityError) as caught:
                await it.rig.sign(**changes)
            assert caught.value.code == "locked"
        with pytest.raises(IdentityError):
            await one(it.login())
        assert len(await house.status.sessions(ME)) == 1
        assert house.login.is_locked(ME)
        assert not house.login.is_locked(OTHER)
        from keylessd.core.digests import HashAlgorithm, digest_of

        await it.rig.verify(bundle, digest_of(HashAlgorithm.SHA256, b"artifact"))
        await house.login.unlock(ME, b"open sesame", connection=1)
        assert (await it.rig.sign(token=None)).identity == ADA


async def test_a_lock_during_a_login(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:

        async def person() -> None:
            facts = await it.heard()
            await it.rig.house.login.lock(ME, b"x")
            await it.callback(await it.consent(facts["url"], ADA))

        async def login() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(person)
                await it.rig.house.login.login(LoginOrder(ME, Where()), it.tell)

        with pytest.raises(IdentityError) as caught:
            await one(login())
        assert caught.value.code == "locked"
        assert it.status() == []


async def test_clocks_that_differ_are_named(autojump_clock, tmp_path):
    async with open_login(tmp_path, token_lifetime=timedelta(minutes=5)) as it:
        it.clock.jump(3600)
        with pytest.raises(IdentityError, match="this machine's clock"):
            await one(it.login())

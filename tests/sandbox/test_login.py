"""The sandbox's issuer over HTTP, as a careful client and a careless one see it."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import jwt
import pytest

from keylessd.sandbox import oidc_app
from keylessd.sandbox.identities import Identities
from keylessd.sandbox.login import LoginFlows
from keylessd.sandbox.vault import MemoryVault, SandboxError

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
ISSUER = "http://oidc.sandbox.test"
CALLBACK = "http://localhost:8123/auth/callback"
VERIFIER = "v" * 43
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
)
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class FixedClock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Issuer:
    def __init__(self, vault: MemoryVault | None = None, **options) -> None:
        self.vault = vault if vault is not None else MemoryVault()
        self.clock = FixedClock()
        self.identities = Identities(ISSUER, vault=self.vault, clock=self.clock)
        self.flows = LoginFlows(
            self.identities.login, vault=self.vault, clock=self.clock, **options
        )
        app = oidc_app.make_app(self.flows, list(self.identities.workloads.values()))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ISSUER)

    async def authorize(self, **changes: str | None) -> httpx.Response:
        parameters: dict[str, str | None] = {
            "response_type": "code",
            "client_id": "sigstore",
            "redirect_uri": CALLBACK,
            "scope": "openid email",
            "state": "st&te",
            "nonce": "n",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            **changes,
        }
        kept = {name: value for name, value in parameters.items() if value is not None}
        return await self.client.get("/auth", params=kept)

    async def log_in(self, page: httpx.Response, identity="a@b.test", answer="yes"):
        assert page.status_code == 200, page.text
        handle = re.search(r'name="request" value="([^"]+)"', page.text)
        assert handle is not None
        form = {"request": html.unescape(handle[1]), "identity": identity, "answer": answer}
        return await self.client.post("/auth/answer", data=form)

    async def code(self, **changes: str | None) -> str:
        reply = await self.log_in(await self.authorize(**changes))
        return answer_of(reply)["code"]

    async def token(self, **form: str | None) -> httpx.Response:
        fields = {"client_id": "sigstore", **form}
        kept = {name: value for name, value in fields.items() if value is not None}
        return await self.client.post("/token", data=kept)

    async def redeem(self, right_code: str, /, **changes: str | None) -> httpx.Response:
        form: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": right_code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
            **changes,
        }
        return await self.token(**form)

    async def refresh(self, token: str, **changes: str) -> httpx.Response:
        return await self.token(grant_type="refresh_token", refresh_token=token, **changes)

    async def device(self, **changes: str) -> dict:
        form = {"client_id": "sigstore", "scope": "openid email", **changes}
        reply = await self.client.post("/device/code", data=form)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def poll(self, device: dict, **changes: str) -> httpx.Response:
        return await self.token(
            grant_type=DEVICE_GRANT, device_code=device["device_code"], **changes
        )

    async def approve(self, device: dict, answer: str = "yes") -> httpx.Response:
        form = {"user_code": device["user_code"], "identity": "a@b.test", "answer": answer}
        return await self.client.post("/device", data=form)


def answer_of(reply: httpx.Response) -> dict[str, str]:
    assert reply.status_code == 303, reply.text
    target = reply.headers["location"]
    assert target.startswith(CALLBACK + "?")
    return dict(parse_qsl(urlsplit(target).query))


def error_of(reply: httpx.Response) -> str:
    assert reply.status_code in (400, 401), reply.text
    assert reply.headers["cache-control"] == "no-store"
    return reply.json()["error"]


def claims_of(token: str) -> dict:
    return jwt.decode(token, options={"verify_signature": False})


# --- discovery --------------------------------------------------------------------------------


async def test_discovery_leads_to_the_key_that_verifies():
    issuer = Issuer()
    document = (await issuer.client.get("/.well-known/openid-configuration")).json()
    assert document["issuer"] == ISSUER
    assert document["authorization_response_iss_parameter_supported"] is True
    jwks = (await issuer.client.get(document["jwks_uri"])).json()
    token = issuer.identities.token(email="a@b.test")
    kid = jwt.get_unverified_header(token)["kid"]
    (key,) = [jwt.PyJWK(value) for value in jwks["keys"] if value["kid"] == kid]
    claims = jwt.decode(
        token,
        key,
        algorithms=["ES256"],
        audience="sigstore",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert (claims["email"], claims["email_verified"], claims["iss"]) == ("a@b.test", True, ISSUER)
    assert claims["exp"] - claims["iat"] == 3600


async def test_workload_issuer_has_its_own_document_and_no_login():
    issuer = Issuer()
    document = (await issuer.client.get("/ci/github/.well-known/openid-configuration")).json()
    assert document["issuer"] == f"{ISSUER}/ci/github"
    assert "token_endpoint" not in document
    keys = (await issuer.client.get(document["jwks_uri"])).json()
    assert keys != (await issuer.client.get("/keys")).json()


async def test_old_keys_stay_published_after_rotation_and_restart():
    issuer = Issuer()
    issuer.identities.login.rotate_key()
    keys = (await issuer.client.get("/keys")).json()
    assert len(keys["keys"]) == 2
    assert (await Issuer(issuer.vault).client.get("/keys")).json() == keys


def test_token_of_unknown_issuer():
    with pytest.raises(SandboxError, match="there are login, github"):
        Issuer().identities.token(issuer="nobody")


# --- authorization code -----------------------------------------------------------------------


async def test_code_flow():
    issuer = Issuer()
    answer = answer_of(await issuer.log_in(await issuer.authorize()))
    assert (answer["state"], answer["iss"]) == ("st&te", ISSUER)
    reply = await issuer.redeem(answer["code"])
    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "no-store"
    body = reply.json()
    claims = claims_of(body["id_token"])
    assert (claims["email"], claims["nonce"], claims["aud"]) == ("a@b.test", "n", "sigstore")
    digest = hashlib.sha256(body["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert "refresh_token" not in body


async def test_bare_name_becomes_the_subject():
    issuer = Issuer()
    reply = await issuer.log_in(await issuer.authorize(), identity="robot")
    body = (await issuer.redeem(answer_of(reply)["code"])).json()
    claims = claims_of(body["id_token"])
    assert (claims["sub"], "email" in claims) == ("robot", False)


async def test_connector_becomes_a_federated_claim():
    issuer = Issuer()
    code = await issuer.code(connector_id="https://github.com/login/oauth")
    claims = claims_of((await issuer.redeem(code)).json()["id_token"])
    assert claims["federated_claims"]["connector_id"] == "https://github.com/login/oauth"


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "other"},
        {"client_id": None},
        {"redirect_uri": "https://evil.test/"},
        {"redirect_uri": "http://evil.test/"},
        {"redirect_uri": "http://localhost@evil.test/"},
        {"redirect_uri": "http://[bad/"},
        {"redirect_uri": "http://localhost/#x"},
        {"redirect_uri": None},
    ],
    ids=str,
)
async def test_browser_is_never_sent_to_an_unknown_place(changes):
    reply = await Issuer().authorize(**changes)
    assert reply.status_code == 400
    assert "location" not in reply.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "email"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
    ],
    ids=str,
)
async def test_bad_request_is_answered_by_redirect_with_state_and_issuer(changes, error):
    answer = answer_of(await Issuer().authorize(**changes))
    assert (answer["error"], answer["state"], answer["iss"]) == (error, "st&te", ISSUER)


@pytest.mark.parametrize("redirect", ["http://127.0.0.1:1/", "http://[::1]:9/x?y=1"])
async def test_any_loopback_redirect_will_do(redirect):
    issuer = Issuer()
    reply = await issuer.log_in(await issuer.authorize(redirect_uri=redirect))
    assert reply.headers["location"].startswith(redirect)
    assert "code" in parse_qs(urlsplit(reply.headers["location"]).query)


async def test_declining_sends_access_denied():
    issuer = Issuer()
    answer = answer_of(await issuer.log_in(await issuer.authorize(), answer="no"))
    assert (answer["error"], answer["iss"]) == ("access_denied", ISSUER)


async def test_page_escapes_what_it_is_given():
    page = await Issuer().authorize(login_hint='"><script>')
    assert "<script>" not in page.text


async def test_out_of_band_shows_the_code():
    issuer = Issuer()
    oob = "urn:ietf:wg:oauth:2.0:oob"
    page = await issuer.log_in(await issuer.authorize(redirect_uri=oob))
    code = re.search(r"<code>([^<]+)</code>", page.text)
    assert code is not None
    assert (await issuer.redeem(code[1], redirect_uri=oob)).status_code == 200


async def test_login_expires():
    issuer = Issuer()
    page = await issuer.authorize()
    issuer.clock.advance(901)
    assert (await issuer.log_in(page)).status_code == 400


async def test_login_page_is_good_for_one_code():
    issuer = Issuer()
    page = await issuer.authorize()
    await issuer.log_in(page)
    assert (await issuer.log_in(page)).status_code == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code": "other"}, "invalid_grant"),
        ({"redirect_uri": CALLBACK + "/"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_grant"),
        ({"client_id": "other"}, "invalid_client"),
        ({"client_id": None}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": None}, "unsupported_grant_type"),
    ],
    ids=str,
)
async def test_code_is_not_redeemed(changes, error):
    issuer = Issuer()
    code = await issuer.code()
    assert error_of(await issuer.redeem(code, **changes)) == error
    # A failed attempt does not use the code up.
    assert (await issuer.redeem(code)).status_code == 200


async def test_code_expires():
    issuer = Issuer()
    code = await issuer.code()
    issuer.clock.advance(301)
    assert error_of(await issuer.redeem(code)) == "invalid_grant"


async def test_code_used_twice_takes_back_what_it_gave():
    issuer = Issuer()
    code = await issuer.code(scope="openid email offline_access")
    refresh_token = (await issuer.redeem(code)).json()["refresh_token"]
    assert error_of(await issuer.redeem(code)) == "invalid_grant"
    assert error_of(await issuer.refresh(refresh_token)) == "invalid_grant"


async def test_automatic_login_shows_no_page():
    issuer = Issuer(auto_login="robot@b.test")
    answer = answer_of(await issuer.authorize())
    claims = claims_of((await issuer.redeem(answer["code"])).json()["id_token"])
    assert claims["email"] == "robot@b.test"
    device = await issuer.device()
    assert (await issuer.poll(device)).status_code == 200


async def test_form_that_is_too_large():
    reply = await Issuer().client.post("/token", content=b"a=" + b"x" * 70_000)
    assert error_of(reply) == "invalid_request"


async def test_form_that_is_not_utf8():
    assert error_of(await Issuer().client.post("/token", content=b"\xff")) == "invalid_request"


# --- refresh ----------------------------------------------------------------------------------


async def session(issuer: Issuer) -> str:
    code = await issuer.code(scope="openid email offline_access")
    return (await issuer.redeem(code)).json()["refresh_token"]


async def test_refresh_rotates_and_keeps_the_nonce():
    issuer = Issuer()
    first = await session(issuer)
    body = (await issuer.refresh(first)).json()
    claims = claims_of(body["id_token"])
    assert (claims["email"], claims["nonce"]) == ("a@b.test", "n")
    assert body["refresh_token"] != first
    assert (await issuer.refresh(body["refresh_token"])).status_code == 200


async def test_used_refresh_token_ends_the_login():
    issuer = Issuer()
    first = await session(issuer)
    second = (await issuer.refresh(first)).json()["refresh_token"]
    assert error_of(await issuer.refresh(first)) == "invalid_grant"
    assert error_of(await issuer.refresh(second)) == "invalid_grant"


async def test_reuse_interval_forgives_a_lost_reply():
    issuer = Issuer(reuse_interval=timedelta(seconds=3))
    first = await session(issuer)
    await issuer.refresh(first)
    issuer.clock.advance(2)
    again = await issuer.refresh(first)
    assert again.status_code == 200
    issuer.clock.advance(4)
    assert error_of(await issuer.refresh(first)) == "invalid_grant"
    assert error_of(await issuer.refresh(again.json()["refresh_token"])) == "invalid_grant"


async def test_refresh_token_of_another_client_is_unknown():
    issuer = Issuer(client_ids=frozenset({"sigstore", "other"}))
    first = await session(issuer)
    assert error_of(await issuer.refresh(first, client_id="other")) == "invalid_grant"
    assert (await issuer.refresh(first)).status_code == 200


async def test_login_survives_a_restart():
    issuer = Issuer()
    first = await session(issuer)
    again = Issuer(issuer.vault)
    second = (await again.refresh(first)).json()["refresh_token"]
    assert error_of(await Issuer(issuer.vault).refresh(first)) == "invalid_grant"
    assert error_of(await Issuer(issuer.vault).refresh(second)) == "invalid_grant"


async def test_tokens_are_stored_as_hashes_only():
    issuer = Issuer()
    token = await session(issuer)
    stored = issuer.vault.load("oidc-grants.json")
    assert stored is not None
    assert token.encode() not in stored
    assert hashlib.sha256(token.encode()).hexdigest().encode() in stored


async def test_revoked_token_is_dead_and_unknown_ones_are_no_error():
    issuer = Issuer()
    first = await session(issuer)
    other = await session(issuer)
    for token in (first, "unknown"):
        form = {"client_id": "sigstore", "token": token}
        assert (await issuer.client.post("/revoke", data=form)).status_code == 200
    assert error_of(await issuer.refresh(first)) == "invalid_grant"
    assert (await issuer.refresh(other)).status_code == 200


async def test_login_that_was_idle_too_long_is_forgotten():
    issuer = Issuer()
    first = await session(issuer)
    issuer.clock.advance(91 * 86400)
    await session(issuer)
    assert len(issuer.flows.grants) == 1
    assert error_of(await issuer.refresh(first)) == "invalid_grant"


# --- device -----------------------------------------------------------------------------------


async def test_device_flow():
    issuer = Issuer()
    device = await issuer.device(scope="openid email offline_access")
    assert (device["interval"], device["expires_in"]) == (5, 300)
    assert device["verification_uri_complete"].endswith(device["user_code"])
    page = await issuer.client.get(device["verification_uri_complete"])
    assert device["user_code"] in page.text
    assert error_of(await issuer.poll(device)) == "authorization_pending"
    assert (await issuer.approve(device)).status_code == 200
    issuer.clock.advance(5)
    body = (await issuer.poll(device)).json()
    assert claims_of(body["id_token"])["email"] == "a@b.test"
    assert "refresh_token" in body
    issuer.clock.advance(5)
    assert error_of(await issuer.poll(device)) == "invalid_grant"


async def test_each_hasty_poll_adds_five_seconds_for_good():
    issuer = Issuer()
    device = await issuer.device()
    await issuer.poll(device)
    issuer.clock.advance(4.9)
    assert error_of(await issuer.poll(device)) == "slow_down"
    issuer.clock.advance(9.9)
    assert error_of(await issuer.poll(device)) == "slow_down"
    issuer.clock.advance(15)
    assert error_of(await issuer.poll(device)) == "authorization_pending"
    issuer.clock.advance(14.9)
    assert error_of(await issuer.poll(device)) == "slow_down"


async def test_declined_device():
    issuer = Issuer()
    device = await issuer.device()
    await issuer.approve(device, answer="no")
    assert error_of(await issuer.poll(device)) == "access_denied"


async def test_device_code_expires():
    issuer = Issuer()
    device = await issuer.device()
    issuer.clock.advance(301)
    assert (await issuer.approve(device)).status_code == 400
    assert error_of(await issuer.poll(device)) == "expired_token"


async def test_device_with_pkce_wants_the_verifier():
    issuer = Issuer()
    device = await issuer.device(code_challenge=CHALLENGE, code_challenge_method="S256")
    await issuer.approve(device)
    assert error_of(await issuer.poll(device)) == "invalid_grant"
    issuer.clock.advance(5)
    assert (await issuer.poll(device, code_verifier=VERIFIER)).status_code == 200


async def test_device_of_another_client_is_unknown():
    issuer = Issuer(client_ids=frozenset({"sigstore", "other"}))
    device = await issuer.device()
    await issuer.approve(device)
    assert error_of(await issuer.poll(device, client_id="other")) == "invalid_grant"


async def test_code_is_found_without_its_dash_and_in_small_letters():
    issuer = Issuer()
    device = await issuer.device()
    device["user_code"] = device["user_code"].replace("-", " ").lower()
    assert (await issuer.approve(device)).status_code == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"client_id": "other", "scope": "openid"}, "invalid_client"),
        ({"client_id": "sigstore", "scope": "email"}, "invalid_scope"),
        (
            {"client_id": "sigstore", "scope": "openid", "code_challenge": "x"},
            "invalid_request",
        ),
    ],
    ids=str,
)
async def test_bad_device_request(form, error):
    assert error_of(await Issuer().client.post("/device/code", data=form)) == error

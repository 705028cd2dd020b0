"""The token endpoint: what is sent for each grant, and what each refusal means."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from issuer_rig import ISSUER, open_issuer
from keylessd.errors import ServiceError, ServiceUnavailableError
from keylessd.identity.token_endpoint import (
    DEVICE_GRANT,
    EXCHANGE_GRANT,
    ID_TOKEN_TYPE,
    GrantError,
    TokenEndpoint,
    Verdict,
    begin_device,
    classify,
    revoke,
)
from keylessd.secret import Secret

REFUSALS = [
    (500, "invalid_request", "", "refresh_token", Verdict.RETRY),  # Dex: a race it lost
    (503, "", "", "refresh_token", Verdict.RETRY),
    (429, "slow_down", "", "refresh_token", Verdict.RETRY),
    (408, "", "", "refresh_token", Verdict.RETRY),
    (400, "invalid_grant", "", "refresh_token", Verdict.DEAD),
    (400, "invalid_grant", "Invalid code_verifier.", "authorization_code", Verdict.DEAD),
    (
        400,
        "invalid_request",
        "Refresh token is invalid or has already been claimed by another client.",
        "refresh_token",
        Verdict.DEAD,
    ),
    (400, "invalid_request", "Refresh token expired.", "refresh_token", Verdict.DEAD),
    (400, "invalid_request", "Refresh token", "authorization_code", Verdict.CONFIGURATION),
    (400, "invalid_request", "scope is missing", "refresh_token", Verdict.CONFIGURATION),
    (400, "invalid_scope", "", "refresh_token", Verdict.CONFIGURATION),
    (400, "unauthorized_client", "", "refresh_token", Verdict.CONFIGURATION),
    (401, "invalid_client", "", "refresh_token", Verdict.CONFIGURATION),
    (401, "invalid_grant", "", "refresh_token", Verdict.CONFIGURATION),
    (404, "", "", "refresh_token", Verdict.CONFIGURATION),
    (302, "", "", "refresh_token", Verdict.CONFIGURATION),
    (400, "authorization_pending", "", DEVICE_GRANT, Verdict.PENDING),
    (400, "slow_down", "", DEVICE_GRANT, Verdict.SLOW_DOWN),
    (400, "access_denied", "", DEVICE_GRANT, Verdict.DENIED),
    (400, "expired_token", "", DEVICE_GRANT, Verdict.EXPIRED),
]


@pytest.mark.parametrize(("status", "error", "description", "grant", "verdict"), REFUSALS)
async def test_what_a_refusal_means(autojump_clock, status, error, description, grant, verdict):
    assert classify(status, error, description, grant_type=grant) is verdict


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 7}', b"\xff"])
async def test_a_refusal_that_says_nothing(autojump_clock, body):
    async with open_issuer() as rig:
        rig.issuer.answers = [httpx.Response(400, content=body)]
        with pytest.raises(GrantError) as caught:
            await rig.endpoint.refresh(Secret("r-1"))
        assert caught.value.verdict is Verdict.CONFIGURATION
        assert not caught.value.retryable


async def test_every_grant_sends_what_it_must(autojump_clock):
    def echo(form: dict[str, str]) -> httpx.Response:
        return httpx.Response(200, json={"id_token": "a.b.c", "access_token": "acc"})

    async with open_issuer() as rig:
        rig.issuer.answers = [echo] * 6
        end = rig.endpoint
        await end.redeem_code(Secret("c"), verifier=Secret("v"), redirect_uri="http://localhost:1/")
        await end.redeem_device(Secret("d"), verifier=Secret("v"))
        await end.refresh(Secret("r"))
        confidential = TokenEndpoint(
            rig.http, rig.clock, f"{ISSUER}/token", client_id="farm", client_secret=Secret("s&=")
        )
        await confidential.client_credentials()
        await confidential.client_credentials(scope="", resource="urn:sigstore")
        found = await end.exchange(
            Secret("t"), subject_token_type=ID_TOKEN_TYPE, more={"connector_id": "ci"}
        )
        assert found.id_token == Secret("acc")
        assert rig.issuer.forms == [
            {
                "grant_type": "authorization_code",
                "client_id": "sigstore",
                "code": "c",
                "redirect_uri": "http://localhost:1/",
                "code_verifier": "v",
            },
            {
                "grant_type": DEVICE_GRANT,
                "client_id": "sigstore",
                "device_code": "d",
                "code_verifier": "v",
            },
            {"grant_type": "refresh_token", "client_id": "sigstore", "refresh_token": "r"},
            {
                "grant_type": "client_credentials",
                "client_id": "farm",
                "client_secret": "s&=",
                "scope": "openid email",
            },
            {
                "grant_type": "client_credentials",
                "client_id": "farm",
                "client_secret": "s&=",
                "resource": "urn:sigstore",
            },
            {
                "grant_type": EXCHANGE_GRANT,
                "client_id": "sigstore",
                "subject_token": "t",
                "subject_token_type": ID_TOKEN_TYPE,
                "requested_token_type": ID_TOKEN_TYPE,
                "scope": "openid email",
                "connector_id": "ci",
            },
        ]


async def test_an_issuer_that_repeats_our_secrets(autojump_clock):
    async with open_issuer() as rig:
        secret = "r-0123456789abcdef"
        rig.issuer.answers = [
            httpx.Response(
                400, json={"error": "invalid_grant", "error_description": f"bad {secret}\x1b[31m"}
            )
        ]
        with pytest.raises(GrantError) as caught:
            await rig.endpoint.refresh(Secret(secret))
        assert secret not in str(caught.value)
        assert "\x1b" not in str(caught.value)
        assert "invalid_grant" in str(caught.value)


async def test_clocks_are_compared(autojump_clock):
    async with open_issuer() as rig:
        date = "Sun, 01 Mar 2026 11:50:00 GMT"
        rig.issuer.answers = [
            httpx.Response(200, json={"id_token": "x"}, headers={"date": date}),
            httpx.Response(200, json={"id_token": "x", "expires_in": "60"}),
            httpx.Response(200, json={"expires_in": -5}, headers={"date": "never"}),
        ]
        assert (await rig.endpoint.refresh(Secret("r"))).ahead == timedelta(minutes=10)
        second = await rig.endpoint.refresh(Secret("r"))
        assert (second.ahead, second.expires_in) == (None, 60.0)
        third = await rig.endpoint.refresh(Secret("r"))
        assert (third.id_token, third.expires_in, third.ahead) == (None, None, None)


async def test_a_grant_is_not_sent_twice_once_it_may_have_arrived(autojump_clock):
    async with open_issuer() as rig:
        rig.issuer.answers = [httpx.ReadError("gone"), httpx.Response(200, json={})]
        with pytest.raises(ServiceUnavailableError):
            await rig.endpoint.refresh(Secret("r"))
        assert len(rig.issuer.forms) == 1
        rig.issuer.answers = [httpx.ConnectError("no"), httpx.Response(200, json={})]
        await rig.endpoint.refresh(Secret("r"))
        assert len(rig.issuer.forms) == 3


async def test_an_answer_that_is_no_answer(autojump_clock):
    async with open_issuer() as rig:
        rig.issuer.answers = [
            httpx.Response(200, content=b"<html>"),
            httpx.Response(200, content=b'{"id_token":"a","id_token":"b"}'),
            httpx.Response(200, content=b" " * (65 << 10)),
        ]
        for _ in range(3):
            with pytest.raises(ServiceError):
                await rig.endpoint.refresh(Secret("r"))


async def test_a_device_flow_begins(autojump_clock):
    async with open_issuer() as rig:
        whole = {
            "device_code": "d",
            "user_code": "BCDF-GHJK",
            "verification_uri": f"{ISSUER}/device",
            "verification_uri_complete": f"{ISSUER}/device?c=1",
            "expires_in": 300,
            "interval": 7,
        }
        bare = {
            "device_code": "d",
            "user_code": "X",
            "verification_url": f"{ISSUER}/d",
            "expires_in": 10**9,
        }
        rig.issuer.answers = [httpx.Response(200, json=whole), httpx.Response(200, json=bare)]

        async def begin():
            return await begin_device(
                rig.http,
                f"{ISSUER}/device",
                client_id="sigstore",
                scope="openid email",
                challenge="ch",
            )

        found = await begin()
        assert (found.interval, found.expires_in) == (7.0, 300.0)
        assert rig.issuer.forms[0] == {
            "client_id": "sigstore",
            "scope": "openid email",
            "code_challenge": "ch",
            "code_challenge_method": "S256",
        }
        found = await begin()
        assert (found.interval, found.expires_in) == (5.0, 1800.0)
        assert found.verification_uri == f"{ISSUER}/d"
        for missing in ("device_code", "user_code", "verification_uri"):
            body = {**whole, missing: ""}
            rig.issuer.answers = [httpx.Response(200, json=body)]
            with pytest.raises(GrantError, match="no device authorization"):
                await begin()


async def test_revocation(autojump_clock):
    async with open_issuer() as rig:
        rig.issuer.answers = [httpx.Response(200), httpx.Response(503)]
        url = f"{ISSUER}/revoke"
        await revoke(rig.http, url, client_id="sigstore", refresh_token=Secret("r"))
        assert rig.issuer.forms[0]["token"] == "r"
        assert rig.issuer.forms[0]["token_type_hint"] == "refresh_token"
        with pytest.raises(GrantError):
            await revoke(rig.http, url, client_id="sigstore", refresh_token=Secret("r"))

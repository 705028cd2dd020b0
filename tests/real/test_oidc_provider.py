"""A certified OpenID provider: code with PKCE, devices, refresh, revocation, RFC 9207."""

from __future__ import annotations

import secrets
from functools import partial

import pytest
import trio
from tests.real.oauth import CLIENT, Login, challenge_of, open_client
from tests.real.oidc import EMAIL, UNVERIFIED, decline_device, sign_in

from keylessd.identity.id_token import Expected, IdTokenInvalidError
from keylessd.identity.token_endpoint import begin_device, revoke
from keylessd.identity.token_refusal import GrantError, Verdict
from keylessd.secret import Secret


def _verdict(found: pytest.ExceptionInfo[GrantError]) -> tuple[Verdict, str]:
    return found.value.verdict, found.value.error


async def _brought_back(login: Login, **person: str) -> dict[str, str]:
    page = await trio.to_thread.run_sync(
        lambda: sign_in(login.url(), until=login.redirect, **person)
    )
    return login.answer(page)


async def test_discovery(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)

    assert provider.has_s256
    assert provider.names_itself
    assert provider.device_endpoint is not None
    assert provider.revocation_endpoint is not None
    assert "offline_access" in provider.scopes


# --- code with PKCE --------------------------------------------------------------------------


async def test_code_gives_a_genuine_token(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        login = Login(provider)
        answer = await _brought_back(login)
        reply = await client.endpoint(provider).redeem_code(
            Secret(answer["code"]), verifier=Secret(login.verifier), redirect_uri=login.redirect
        )
        token = await client.verified(provider, reply, nonce=login.nonce)

    assert (token.issuer, token.email, token.email_verified) == (oidc_provider.url, EMAIL, True)
    assert token.audience == (CLIENT,)
    assert reply.refresh_token is not None
    # Not a token of identity: it has no parts.
    assert reply.access_token is not None
    assert "." not in reply.access_token.reveal()


async def test_answer_names_the_issuer(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        good, bad = Login(provider), Login(provider)
        bad.parameters["prompt"] = "none"
        answers = [await _brought_back(good), await _brought_back(bad)]

    assert "code" in answers[0]
    assert answers[1]["error"] == "login_required"
    assert [answer["iss"] for answer in answers] == [oidc_provider.url] * 2


async def test_another_nonce_is_noticed(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        reply = await client.log_in(provider, sign_in)
        assert reply.id_token is not None
        with pytest.raises(IdTokenInvalidError, match="nonce"):
            await client.providers.verify(provider, reply.id_token, Expected(CLIENT, nonce="other"))
        with pytest.raises(IdTokenInvalidError, match="is for 'sigstore'"):
            await client.providers.verify(provider, reply.id_token, Expected("other"))


async def test_unverified_address_is_told(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        reply = await client.log_in(provider, partial(sign_in, email=UNVERIFIED))
        token = await client.verified(provider, reply)

    assert (token.email, token.email_verified) == (UNVERIFIED, False)


async def test_flow_without_proof_key_is_refused(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        login = Login(provider)
        del login.parameters["code_challenge"], login.parameters["code_challenge_method"]
        answer = await _brought_back(login)

    assert "code" not in answer
    assert "PKCE" in answer["error_description"]


async def test_foreign_redirect_is_refused(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        login = Login(provider)
        login.parameters["redirect_uri"] = "http://127.0.0.1:1/elsewhere"
        page = await trio.to_thread.run_sync(sign_in, login.url())

    assert page.status == 400
    assert "redirect_uri" in page.text


async def test_code_of_another_verifier_and_twice(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        login = Login(provider)
        answer = await _brought_back(login)
        redeem = partial(
            client.endpoint(provider).redeem_code,
            Secret(answer["code"]),
            redirect_uri=login.redirect,
        )
        with pytest.raises(GrantError) as wrong:
            await redeem(verifier=Secret("x" * 64))
        reply = await redeem(verifier=Secret(login.verifier))
        with pytest.raises(GrantError) as again:
            await redeem(verifier=Secret(login.verifier))
        assert reply.refresh_token is not None
        # A code that comes twice ends all that came of it (RFC 6749, 4.1.2).
        with pytest.raises(GrantError) as ended:
            await client.endpoint(provider).refresh(reply.refresh_token)

    dead = (Verdict.DEAD, "invalid_grant")
    assert [_verdict(found) for found in (wrong, again, ended)] == [dead] * 3
    assert answer["code"] not in wrong.value.message


async def test_no_refresh_token_where_the_client_may_not_refresh(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        login = Login(provider, client_id="no-refresh", scope="openid email")
        answer = await _brought_back(login)
        reply = await client.endpoint(provider, "no-refresh").redeem_code(
            Secret(answer["code"]), verifier=Secret(login.verifier), redirect_uri=login.redirect
        )

    assert reply.id_token is not None
    assert reply.refresh_token is None


# --- refresh and revocation --------------------------------------------------------------------


async def test_refresh_rotates(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        login = Login(provider)
        first = await client.log_in(provider, sign_in, login)
        assert first.refresh_token is not None
        second = await client.endpoint(provider).refresh(first.refresh_token)
        token = await client.verified(provider, second, nonce=login.nonce, lax=True)
        assert second.refresh_token is not None
        third = await client.endpoint(provider).refresh(second.refresh_token)

    assert token.email == EMAIL
    tokens = {one.refresh_token for one in (first, second, third)}
    assert len(tokens) == 3
    assert None not in tokens


async def test_reuse_of_a_refresh_token_ends_the_session(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        endpoint = client.endpoint(provider)
        first = await client.log_in(provider, sign_in)
        assert first.refresh_token is not None
        second = await endpoint.refresh(first.refresh_token)
        with pytest.raises(GrantError) as reused:
            await endpoint.refresh(first.refresh_token)
        assert second.refresh_token is not None
        with pytest.raises(GrantError) as newest:
            await endpoint.refresh(second.refresh_token)

    assert _verdict(reused) == _verdict(newest) == (Verdict.DEAD, "invalid_grant")
    assert first.refresh_token.reveal() not in reused.value.message


async def test_revocation(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        reply = await client.log_in(provider, sign_in)
        assert reply.refresh_token is not None
        assert provider.revocation_endpoint is not None
        take_back = partial(revoke, client.http, provider.revocation_endpoint, client_id=CLIENT)
        await take_back(refresh_token=reply.refresh_token)
        with pytest.raises(GrantError) as found:
            await client.endpoint(provider).refresh(reply.refresh_token)
        # RFC 7009, 2.2: a token that is not known is no error.
        await take_back(refresh_token=reply.refresh_token)
        await take_back(refresh_token=Secret("never-seen"))

    assert _verdict(found) == (Verdict.DEAD, "invalid_grant")


# --- devices -----------------------------------------------------------------------------------


async def test_device(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        verifier = secrets.token_urlsafe(48)
        begun = await _begin(client, provider, verifier)
        redeem = partial(
            client.endpoint(provider).redeem_device, begun.device_code, verifier=Secret(verifier)
        )
        with pytest.raises(GrantError) as pending:
            await redeem()
        assert begun.verification_uri_complete is not None
        assert begun.user_code in begun.verification_uri_complete
        await trio.to_thread.run_sync(sign_in, begun.verification_uri_complete)
        reply = await redeem()
        token = await client.verified(provider, reply)
        with pytest.raises(GrantError) as again:
            await redeem()

    assert begun.interval == 5  # it names none: RFC 8628's own
    assert _verdict(pending) == (Verdict.PENDING, "authorization_pending")
    assert token.email == EMAIL
    assert reply.refresh_token is not None
    assert _verdict(again) == (Verdict.DEAD, "invalid_grant")


async def test_device_that_the_person_refuses(oidc_provider) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(oidc_provider.url)
        verifier = secrets.token_urlsafe(48)
        begun = await _begin(client, provider, verifier)
        await trio.to_thread.run_sync(decline_device, begun.verification_uri_complete)
        with pytest.raises(GrantError) as denied:
            await client.endpoint(provider).redeem_device(
                begun.device_code, verifier=Secret(verifier)
            )

    assert _verdict(denied) == (Verdict.DENIED, "access_denied")


async def _begin(client, provider, verifier: str):
    return await begin_device(
        client.http,
        provider.device_endpoint,
        client_id=CLIENT,
        scope="openid email offline_access",
        challenge=challenge_of(verifier),
    )

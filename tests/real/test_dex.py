"""Logging in at Dex: its connectors, devices, rotation of refresh tokens, and its own errors."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from functools import partial

import pytest
import trio
from tests.real.dex import EMAIL, MOCK_EMAIL, code_of, sign_in
from tests.real.oauth import CLIENT, Login, challenge_of, open_client
from tests.real.process import free_ports
from tests.real.services import HOST, Maker

from keylessd.errors import ServiceUnavailableError
from keylessd.identity.token_endpoint import TokenEndpoint, begin_device
from keylessd.identity.token_refusal import GrantError, Verdict
from keylessd.secret import Secret

OOB = "urn:ietf:wg:oauth:2.0:oob"
CLAIMED = "Refresh token is invalid or has already been claimed by another client."


@pytest.fixture(scope="module")
def strict_dex(stack) -> Iterator[str]:
    """A Dex without the moment in which a used refresh token is good once more."""
    (port,) = free_ports(1)
    program = Maker(stack.directory).dex(port, name="dex-strict", reuse="0s")
    program.start()
    try:
        program.wait_until_ready()
        yield f"http://{HOST}:{port}"
    finally:
        program.stop()


@pytest.mark.parametrize(("connector", "email"), [("local", EMAIL), ("mock", MOCK_EMAIL)])
async def test_code_with_pkce(stack, connector: str, email: str) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(stack.urls.dex)
        login = Login(provider)
        reply = await client.log_in(provider, partial(sign_in, connector=connector), login)
        token = await client.verified(provider, reply, nonce=login.nonce)

    assert (token.issuer, token.email, token.email_verified) == (stack.urls.dex, email, True)
    assert reply.refresh_token is not None
    assert provider.has_s256
    assert provider.revocation_endpoint is None


async def test_a_named_connector_is_not_asked_for(stack) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(stack.urls.dex)
        login = Login(provider)
        login.parameters["connector_id"] = "mock"
        page = await trio.to_thread.run_sync(lambda: sign_in(login.url(), until=login.redirect))

    assert "code" in login.answer(page)
    # Dex does not name itself in its answer (RFC 9207), and does not say that it does.
    assert "iss" not in login.answer(page)
    assert not provider.names_itself


async def test_code_of_another_verifier(stack) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(stack.urls.dex)
        login = Login(provider)
        page = await trio.to_thread.run_sync(lambda: sign_in(login.url(), until=login.redirect))
        with pytest.raises(GrantError) as found:
            await client.endpoint(provider).redeem_code(
                Secret(login.answer(page)["code"]),
                verifier=Secret("x" * 64),
                redirect_uri=login.redirect,
            )

    assert found.value.verdict is Verdict.DEAD
    assert "Invalid code_verifier" in found.value.message


async def test_code_out_of_band(stack) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(stack.urls.dex)
        login = Login(provider, redirect=OOB)
        page = await trio.to_thread.run_sync(sign_in, login.url())
        reply = await client.endpoint(provider).redeem_code(
            Secret(code_of(page)), verifier=Secret(login.verifier), redirect_uri=OOB
        )
        token = await client.verified(provider, reply, nonce=login.nonce)

    assert token.email == EMAIL


# --- devices -----------------------------------------------------------------------------------


async def test_device(stack) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(stack.urls.dex)
        verifier = secrets.token_urlsafe(48)
        begun = await _begin(client, provider, verifier)
        redeem = partial(client.endpoint(provider).redeem_device, begun.device_code)
        with pytest.raises(GrantError) as pending:
            await redeem(verifier=Secret(verifier))
        with pytest.raises(GrantError) as hurried:
            await redeem(verifier=Secret(verifier))
        await trio.to_thread.run_sync(sign_in, begun.verification_uri_complete)
        with pytest.raises(GrantError) as stolen:
            await redeem(verifier=Secret("x" * 64))
        reply = await redeem(verifier=Secret(verifier))
        token = await client.verified(provider, reply)

    assert (begun.interval, begun.expires_in) == (5, 300)
    assert pending.value.verdict is Verdict.PENDING
    assert hurried.value.verdict is Verdict.SLOW_DOWN
    assert stolen.value.verdict is Verdict.DEAD
    assert token.email == EMAIL
    assert reply.refresh_token is not None


async def test_a_code_that_is_no_device_code(stack) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(stack.urls.dex)
        with pytest.raises(GrantError) as found:
            await client.endpoint(provider).redeem_device(
                Secret("never-given"), verifier=Secret("x" * 64)
            )

    assert found.value.verdict is not Verdict.PENDING
    assert not found.value.retryable


async def _begin(client, provider, verifier: str):
    return await begin_device(
        client.http,
        provider.device_endpoint,
        client_id=CLIENT,
        scope="openid email offline_access",
        challenge=challenge_of(verifier),
    )


# --- refresh -----------------------------------------------------------------------------------


async def test_refresh_rotates_and_a_used_token_is_dead(strict_dex) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(strict_dex)
        endpoint = client.endpoint(provider)
        login = Login(provider)
        tokens = [(await client.log_in(provider, sign_in, login)).refresh_token]
        for _ in range(2):
            assert tokens[-1] is not None
            reply = await endpoint.refresh(tokens[-1])
            tokens.append(reply.refresh_token)
        token = await client.verified(provider, reply, nonce=login.nonce, lax=True)
        found = []
        for used in tokens[:2]:
            assert used is not None
            with pytest.raises(GrantError) as refused:
                await endpoint.refresh(used)
            found.append(refused.value)
        # Dex does not take the reuse for a theft: the newest is good as before.
        assert tokens[2] is not None
        newest = await endpoint.refresh(tokens[2])

    assert len(set(tokens)) == 3
    assert token.email == EMAIL
    for refusal in found:
        assert (refusal.verdict, refusal.error) == (Verdict.DEAD, "invalid_request")
        assert CLAIMED in refusal.message
    assert newest.id_token is not None


async def test_a_lost_answer_is_forgiven_for_a_moment(stack) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(stack.urls.dex)
        endpoint = client.endpoint(provider)
        login = Login(provider)
        used = (await client.log_in(provider, sign_in, login)).refresh_token
        assert used is not None
        with trio.fail_after(30):
            # Nothing is rotated before the moment is over, and nobody tells when it is.
            while (newer := (await endpoint.refresh(used)).refresh_token) == used:  # noqa: ASYNC110
                await trio.sleep(0.2)
        again = await endpoint.refresh(used)
        token = await client.verified(provider, again, nonce=login.nonce, lax=True)

    assert newer is not None
    assert again.refresh_token == newer
    assert token.email == EMAIL


async def test_another_login_of_the_same_person_ends_the_session(stack) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(stack.urls.dex)
        first = await client.log_in(provider, sign_in)
        await client.log_in(provider, sign_in)
        assert first.refresh_token is not None
        with pytest.raises(GrantError) as found:
            await client.endpoint(provider).refresh(first.refresh_token)

    assert found.value.verdict is Verdict.DEAD


@pytest.mark.parametrize("token", ["never-given", "Cgx4", "a.b.c", "ä", " "])
async def test_a_token_that_dex_never_gave(stack, token: str) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(stack.urls.dex)
        with pytest.raises(GrantError) as found:
            await client.endpoint(provider).refresh(Secret(token))

    assert found.value.verdict in {Verdict.DEAD, Verdict.CONFIGURATION}
    assert not found.value.retryable


async def test_another_clients_token(stack) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(stack.urls.dex)
        reply = await client.log_in(provider, sign_in)
        assert reply.refresh_token is not None
        with pytest.raises(GrantError) as found:
            await client.endpoint(provider, "another").refresh(reply.refresh_token)

    assert found.value.verdict in {Verdict.DEAD, Verdict.CONFIGURATION}


async def test_dex_that_is_away(stack) -> None:
    async with open_client() as client:
        provider = await client.providers.discover(stack.urls.dex)
        port = stack.urls.dex.rpartition(":")[2]
        away = TokenEndpoint(
            client.http, client.clock, f"http://127.0.0.2:{port}/token", client_id=CLIENT
        )
        with pytest.raises(ServiceUnavailableError) as found:
            await away.refresh(Secret("any"))

    assert provider.token_endpoint == f"{stack.urls.dex}/token"
    assert found.value.retryable

"""A client's half of each login flow, by the daemon's own token endpoint and checks."""

from __future__ import annotations

import base64
import hashlib
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

import trio
from tests.real.browser import Page

from keylessd.clock import SystemClock
from keylessd.identity.id_token import Expected
from keylessd.identity.provider import Provider, Providers
from keylessd.identity.token import IdentityToken
from keylessd.identity.token_endpoint import TokenEndpoint, TokenReply
from keylessd.secret import Secret
from keylessd.services.http import HttpClient, new_client

CLIENT = "sigstore"
REDIRECT = "http://127.0.0.1:43210/auth/callback"  # nobody listens: the browser stops before it


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636, 4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass
class Login:
    """One authorization code flow, step by step.

    Attributes:
        provider: Where.
        parameters: What the browser brings; change it before url() is asked for.
        verifier: Of the proof key.
    """

    provider: Provider
    client_id: str = CLIENT
    scope: str = "openid email offline_access"
    redirect: str = REDIRECT
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    parameters: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect,
            "scope": self.scope,
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            "prompt": "consent",
        }

    def url(self) -> str:
        """Return where the person's browser is sent."""
        return f"{self.provider.authorization_endpoint}?{urlencode(self.parameters)}"

    def answer(self, page: Page) -> dict[str, str]:
        """Return the parameters that the browser brought back."""
        assert page.url.startswith(self.redirect), page.text or page.url
        return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


@dataclass
class Client:
    """What the daemon asks providers with."""

    http: HttpClient
    providers: Providers
    clock: SystemClock

    def endpoint(self, provider: Provider, client_id: str = CLIENT) -> TokenEndpoint:
        """Return a token endpoint."""
        assert provider.token_endpoint is not None
        return TokenEndpoint(self.http, self.clock, provider.token_endpoint, client_id=client_id)

    async def log_in(
        self, provider: Provider, person: Callable[..., Page], login: Login | None = None
    ) -> TokenReply:
        """Go through a login to its end."""
        login = login or Login(provider)
        page = await trio.to_thread.run_sync(lambda: person(login.url(), until=login.redirect))
        answer = login.answer(page)
        assert answer["state"] == login.state
        reply = await self.endpoint(provider, login.client_id).redeem_code(
            Secret(answer["code"]), verifier=Secret(login.verifier), redirect_uri=login.redirect
        )
        await self.verified(provider, reply, nonce=login.nonce)
        return reply

    async def verified(
        self, provider: Provider, reply: TokenReply, *, nonce: str | None = None, lax: bool = False
    ) -> IdentityToken:
        """Return the ID token of a reply, verified."""
        assert reply.id_token is not None
        return await self.providers.verify(
            provider,
            reply.id_token,
            Expected(CLIENT, nonce=nonce, nonce_may_lack=lax, access_token=reply.access_token),
        )


@asynccontextmanager
async def open_client() -> AsyncIterator[Client]:
    """Open the daemon's HTTP client as it is in the daemon."""
    clock = SystemClock()
    async with new_client() as transport, trio.open_nursery() as nursery:
        http = HttpClient(transport, rng=random.Random(0), user_agent="keylessd/tests")
        yield Client(http, Providers(http, clock=clock, nursery=nursery), clock)
        nursery.cancel_scope.cancel()

"""Tokens that an OpenID provider gives the daemon itself: client credentials and token exchange.

RFC 6749, 4.4, and RFC 8693. What comes is checked as a login's ID token is, with the provider's
own keys: a provider that is not the configured one must not choose whom the daemon signs as.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from keylessd.errors import DaemonError, IdentityError
from keylessd.held_settings import ClientCredentials, TokenExchange
from keylessd.identity.fetch import Giver, received, unavailable
from keylessd.identity.held.file import read_token_file
from keylessd.identity.held.secrets import read_secret
from keylessd.identity.id_token import Expected
from keylessd.identity.token_endpoint import TokenEndpoint
from keylessd.identity.token_refusal import GrantError, Verdict

if TYPE_CHECKING:
    from keylessd.held_settings import HeldSettings, SecretPlace
    from keylessd.identity.held.source import Parts
    from keylessd.identity.provider import Provider
    from keylessd.identity.token import IdentityToken
    from keylessd.identity.token_endpoint import TokenReply
    from keylessd.secret import Secret


class _OAuthSource(ABC):
    """What the two grants have in common."""

    _hint: str  # what to do where no token came

    def __init__(
        self,
        settings: HeldSettings,
        parts: Parts,
        *,
        issuer: str,
        client_id: str,
        secret: SecretPlace | None,
    ) -> None:
        self._name = settings.name
        self._audience = settings.audience
        self._parts = parts
        self._issuer = issuer
        self._client_id = client_id
        self._secret = secret
        self._giver = Giver(
            name=f"identity {settings.name!r} (the issuer {issuer!r})",
            hint=None,
            hints=MappingProxyType({}),
            audience_hint="the issuer gives tokens for the client itself: let its client_id be the"
            " audience that the certificate authority wants, or let it add that audience",
        )

    @property
    def keeps(self) -> bool:
        """A grant is asked for again only when its token is due."""
        return True

    async def fetch(self) -> IdentityToken:
        """Return a token that was granted just now."""
        try:
            provider = await self._parts.providers.discover(self._issuer)
            reply = await self._grant(provider)
            if reply.id_token is None:
                raise unavailable(
                    self._giver,
                    "it granted no ID token",
                    hint=self._hint,
                )
            # Its own claims first: their errors say more.
            token = received(
                reply.id_token,
                self._giver,
                audience=self._audience,
                now=self._parts.clock.now(),
            )
            expected = Expected(client_id=self._audience, party=self._client_id)
            await self._parts.providers.verify(provider, token.raw, expected)
        except IdentityError as exc:
            if exc.details.get("source") == self._giver.name:
                raise
            raise self._failed(exc) from exc
        except DaemonError as exc:
            if exc.code.startswith("token_"):
                raise
            raise self._failed(exc) from exc
        return token

    def _failed(self, exc: DaemonError) -> IdentityError:
        return unavailable(
            self._giver,
            exc.message,
            hint=exc.hint or _hint(exc),
            retryable=exc.retryable,
            retry_after_seconds=exc.retry_after_seconds,
        )

    @abstractmethod
    async def _grant(self, provider: Provider) -> TokenReply:
        """Ask for the token, each kind by its own grant."""

    async def _endpoint(self, provider: Provider) -> TokenEndpoint:
        if provider.token_endpoint is None:
            raise unavailable(self._giver, "it says nothing of a token endpoint")
        secret: Secret | None = None
        if self._secret is not None:
            # Anew each time: it may be rotated.
            secret = await self._parts.threads.run(
                "disk", read_secret, self._name, self._secret, self._parts.environ
            )
        return TokenEndpoint(
            self._parts.http,
            self._parts.clock,
            provider.token_endpoint,
            client_id=self._client_id,
            client_secret=secret,
        )


class ClientCredentialsSource(_OAuthSource):
    """The client's own identity."""

    _hint = (
        "the scope `openid` has to be among the scopes that are asked for; of a provider that"
        ' gives clients nothing but access tokens, set token = "access_token"'
    )

    def __init__(self, settings: HeldSettings, source: ClientCredentials, parts: Parts) -> None:
        super().__init__(
            settings,
            parts,
            issuer=source.issuer,
            client_id=source.client_id,
            secret=source.secret,
        )
        self._source = source

    async def _grant(self, provider: Provider) -> TokenReply:
        source = self._source
        endpoint = await self._endpoint(provider)
        reply = await endpoint.client_credentials(
            scope=" ".join(source.scopes), resource=source.resource
        )
        if source.token == "access_token":  # noqa: S105  # the name of a kind
            # Of this grant both are about the client. It is checked as an ID token is.
            return replace(reply, id_token=reply.access_token, access_token=None)
        return reply


class TokenExchangeSource(_OAuthSource):
    """Another issuer's token, traded in."""

    _hint = "the scope `openid` has to be among the scopes that are asked for"

    def __init__(self, settings: HeldSettings, source: TokenExchange, parts: Parts) -> None:
        super().__init__(
            settings,
            parts,
            issuer=source.issuer,
            client_id=source.client_id,
            secret=source.secret,
        )
        self._source = source

    async def _grant(self, provider: Provider) -> TokenReply:
        source = self._source
        subject = await self._parts.threads.run("disk", read_token_file, self._name, source.subject)
        more = {
            "requested_token_type": source.requested_type,
            "scope": " ".join(source.scopes),
        }
        if source.connector is not None:
            more["connector_id"] = source.connector
        endpoint = await self._endpoint(provider)
        return await endpoint.exchange(subject, subject_token_type=source.subject_type, more=more)


def _hint(exc: DaemonError) -> str | None:
    if isinstance(exc, GrantError) and exc.verdict is not Verdict.RETRY:
        return "does the issuer know client_id with this secret, and allow it this grant?"
    return None


def make_client_credentials(settings: HeldSettings, parts: Parts) -> ClientCredentialsSource:
    """Return the source of a ``kind = "client-credentials"``."""
    assert isinstance(settings.source, ClientCredentials)  # noqa: S101  # the registry pairs them
    return ClientCredentialsSource(settings, settings.source, parts)


def make_token_exchange(settings: HeldSettings, parts: Parts) -> TokenExchangeSource:
    """Return the source of a ``kind = "token-exchange"``."""
    assert isinstance(settings.source, TokenExchange)  # noqa: S101  # the registry pairs them
    return TokenExchangeSource(settings, settings.source, parts)

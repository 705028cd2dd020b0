"""What all ways to log in share: who is asked for what, and what makes an answer a login."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from keylessd.errors import DaemonError, IdentityError
from keylessd.identity.id_token import Expected, IdTokenInvalidError
from keylessd.identity.login.proof import Proof, RandomBytes, new_proof
from keylessd.identity.renewal import note_skew, skew_told
from keylessd.identity.session import hold
from keylessd.identity.session_facts import Login
from keylessd.identity.token_endpoint import GrantError, TokenEndpoint, Verdict, revoke
from keylessd.log import EventLog

if TYPE_CHECKING:
    import random

    from keylessd.clock import Clock
    from keylessd.identity.moment import Moment
    from keylessd.identity.provider import Provider, Providers
    from keylessd.identity.token_endpoint import TokenReply
    from keylessd.services.http import HttpClient

# What the client is told on the way: name and facts.
Tell = Callable[[str, Mapping[str, str | int]], None]

LOGIN_SECONDS = 290.0  # what a person has; the request as a whole has 300 s
OFFLINE = "offline_access"

_log = EventLog(__name__)


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """Who is to log in where.

    Attributes:
        owner_uid: For whom.
        issuer: Who is asked.
        client_id: Whom the issuer knows us as.
        connector: Which of a federating issuer's issuers, or None for its choice.
        identity: Who should log in, or None for anybody; anybody else is refused.
    """

    owner_uid: int
    issuer: str
    client_id: str
    connector: str | None = None
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """Where logins are made.

    Attributes:
        http: Asks.
        providers: Knows the issuers, and verifies their tokens.
        clock: Both clocks.
        rng: Jitter.
        random_bytes: Source of what must not be guessed.
    """

    http: HttpClient
    providers: Providers
    clock: Clock
    rng: random.Random
    random_bytes: RandomBytes

    def proof(self) -> Proof:
        """Return the secrets of one login."""
        return new_proof(self.random_bytes)

    async def provider(self, request: LoginRequest) -> Provider:
        """Return what the issuer says of itself, if people can log in there safely.

        Raises:
            IdentityError: ``login_failed``: they cannot.
            DaemonError: it cannot be asked.
        """
        provider = await self.providers.discover(request.issuer)
        if not provider.has_s256:
            raise IdentityError(
                "login_failed",
                f"the issuer {request.issuer!r} does not say that it checks proof keys (PKCE by"
                " S256), so a stolen answer could be used by the thief",
            )
        return provider

    def endpoint(self, provider: Provider, request: LoginRequest) -> TokenEndpoint:
        """Return the token endpoint of *provider*.

        Raises:
            IdentityError: ``login_failed``: it has none.
        """
        if provider.token_endpoint is None:
            raise lacks(provider, "token endpoint")
        return TokenEndpoint(
            self.http, self.clock, provider.token_endpoint, client_id=request.client_id
        )

    def authorization_url(
        self, provider: Provider, request: LoginRequest, proof: Proof, redirect_uri: str
    ) -> str:
        """Return where the browser goes (RFC 6749, 4.1.1; RFC 7636, 4.3; Core 1.0, 3.1.2.1).

        Raises:
            IdentityError: ``login_failed``: the issuer has no such page.
        """
        endpoint = provider.authorization_endpoint
        if endpoint is None:
            raise lacks(provider, "authorization endpoint")
        fields = {
            "response_type": "code",
            "client_id": request.client_id,
            "redirect_uri": redirect_uri,
            "scope": scope_of(provider),
            "state": proof.state.reveal(),
            "nonce": proof.nonce,
            "code_challenge": proof.challenge,
            "code_challenge_method": "S256",
        }
        if OFFLINE in provider.scopes:
            fields["prompt"] = "consent"  # without it some issuers drop offline_access
        if request.connector is not None:
            fields["connector_id"] = request.connector
        if request.identity is not None:
            fields["login_hint"] = request.identity
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(fields)}"

    async def login_of(
        self,
        provider: Provider,
        request: LoginRequest,
        reply: TokenReply,
        *,
        sent: Moment,
        nonce: str | None,
    ) -> Login:
        """Return the login that a token endpoint's answer is, once everything in it is checked.

        Raises:
            IdentityError: ``login_failed``: it is none, or somebody else's.
        """
        note_skew(reply, provider.issuer)
        if reply.id_token is None:
            raise IdentityError("login_failed", f"the issuer {provider.issuer!r} sent no ID token")
        expected = Expected(request.client_id, nonce=nonce, access_token=reply.access_token)
        try:
            token = await self.providers.verify(provider, reply.id_token, expected)
        except IdTokenInvalidError as exc:
            told = skew_told(exc, reply)
            raise IdentityError("login_failed", told.message, hint=told.hint) from exc
        if request.identity not in (None, token.identity_hint, token.subject):
            await self._give_back(provider, request, reply)
            raise IdentityError(
                "login_failed",
                f"{token.identity_hint!r} has logged in, and {request.identity!r} was asked for",
                hint="log in as that identity, or leave out --identity",
            )
        held = hold(token, sent=sent, expires_in=reply.expires_in, rng=self.rng)
        return Login(held, reply.refresh_token, nonce)

    async def _give_back(
        self, provider: Provider, request: LoginRequest, reply: TokenReply
    ) -> None:
        if reply.refresh_token is None or provider.revocation_endpoint is None:
            return
        try:
            await revoke(
                self.http,
                provider.revocation_endpoint,
                client_id=request.client_id,
                refresh_token=reply.refresh_token,
            )
        except DaemonError as exc:
            _log.info("login.not_revoked", issuer=provider.issuer, problem=exc.message)


def scope_of(provider: Provider) -> str:
    """Return the scopes to ask for: leave to renew only where the issuer lists it."""
    return f"openid email {OFFLINE}" if OFFLINE in provider.scopes else "openid email"


def lacks(provider: Provider, what: str) -> IdentityError:
    """Return the error for an issuer that cannot do what is wanted."""
    return IdentityError("login_failed", f"the issuer {provider.issuer!r} has no {what}")


def login_error(error: DaemonError) -> DaemonError:
    """Return what a refusal of the token endpoint means for a login."""
    if not isinstance(error, GrantError):
        return error
    if error.verdict is Verdict.DENIED:
        return IdentityError("login_denied", f"the login was declined: {error.message}")
    if error.verdict is Verdict.EXPIRED:
        return nobody_came()
    return IdentityError("login_failed", error.message, retryable=error.retryable)


def nobody_came() -> IdentityError:
    """Return the error of a login that nobody finished."""
    return IdentityError(
        "login_failed", "nobody finished the login in time", hint="run `keyless login` again"
    )


def could_not_ask(failure: DaemonError) -> IdentityError:
    """Return the error of a login of which nobody knows whether somebody finished it."""
    return IdentityError(
        "login_failed",
        "the issuer did not say in time whether anybody finished the login; it failed last by this:"
        f" {failure.message}",
        retryable=True,
        hint="run `keyless login` again when the issuer answers",
    )

"""What an OpenID provider says of itself, and whether an ID token is really its own.

Discovery documents and keys are asked for over the daemon's own HTTP client, capped, remembered,
and used on for a while when the provider cannot be reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keylessd.errors import DaemonError, IdentityError, InvalidInputError, TokenError
from keylessd.flow.singleflight import SingleFlight
from keylessd.identity.id_token import (
    Expected,
    IdTokenInvalidError,
    IssuerKey,
    header_of,
    is_signed_by,
    named,
    usable_keys,
    wrong_claim,
)
from keylessd.identity.token import IdentityToken, parse_token, seconds_text
from keylessd.identity.token_refusal import MAX_WAIT
from keylessd.services.http import refusal
from keylessd.services.reply import json_object
from keylessd.services.urls import printable, shown_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import trio

    from keylessd.clock import Clock
    from keylessd.core.strict_json import JsonValue
    from keylessd.secret import Secret
    from keylessd.services.http import HttpClient

__all__ = ["SERVICE", "Expected", "IdTokenInvalidError", "Provider", "Providers", "parse_provider"]

SERVICE = "the issuer"  # as it stands in messages
DEADLINE_SECONDS = 20.0
ATTEMPTS = 2
MAX_DISCOVERY = 64 << 10  # bytes
MAX_URL = 2048  # characters of an endpoint
MAX_JWKS = 256 << 10  # bytes
FRESH_SECONDS = 3600.0
# How long what was learned is used while the provider cannot be asked.
STALE_SECONDS = 24 * 3600.0
# A token that names an unknown key makes us ask again, but not more often than this.
KEYS_PAUSE_SECONDS = 10.0
MAX_KNOWN = 64  # providers
# Those support PKCE with S256 and do not say so.
SILENT_ABOUT_PKCE = ("https://login.microsoftonline.com/", "https://login.microsoftonline.us/")


@dataclass(frozen=True, slots=True)
class Provider:
    """What a discovery document says (OpenID Connect Discovery 1.0, 3; RFC 8414; RFC 9207).

    Attributes:
        issuer: The identifier, as it stands in tokens.
        jwks_uri: Where its keys are.
        authorization_endpoint: Where a browser goes, or None.
        token_endpoint: Where tokens are given out, or None.
        device_endpoint: Where a device flow begins (RFC 8628), or None.
        revocation_endpoint: Where tokens are revoked (RFC 7009), or None.
        scopes: Those it lists; empty if it lists none.
        has_s256: Whether it can be relied on to check the proof key (RFC 7636) by S256.
        names_itself: Whether its answers to the browser name the issuer (RFC 9207).
    """

    issuer: str
    jwks_uri: str
    authorization_endpoint: str | None
    token_endpoint: str | None
    device_endpoint: str | None
    revocation_endpoint: str | None
    scopes: frozenset[str]
    has_s256: bool
    names_itself: bool


@dataclass(slots=True)
class _Held:
    value: Any
    asked: float  # on the clock that counts suspend


class Providers:
    """All providers in use, with their keys."""

    def __init__(self, http: HttpClient, *, clock: Clock, nursery: trio.Nursery) -> None:
        """Store the parts; nothing is asked yet.

        Args:
            http: Asks.
            clock: Tells what is stale, and when a token ends.
            nursery: Runs shared calls.
        """
        self._http = http
        self._clock = clock
        self._asking: SingleFlight[Any] = SingleFlight(nursery)
        self._known: dict[tuple[str, str], _Held] = {}

    async def discover(self, issuer: str) -> Provider:
        """Return what *issuer* says of itself, at most an hour old if it can be asked.

        Raises:
            InvalidInputError: the URL cannot be used.
            IdentityError: ``identity_unavailable``: it is no provider, or another one.
            ServiceError, RateLimitedError: it cannot be asked, and nothing usable is known.
        """
        found: Provider = await self._remembered(
            ("provider", issuer), lambda: self._ask_provider(issuer)
        )
        return found

    async def verify(self, provider: Provider, raw: Secret, expected: Expected) -> IdentityToken:
        """Return the claims of an ID token that is genuine, for us, for this login, and valid.

        OpenID Connect Core 1.0, 3.1.3.7 and 3.1.3.8. A time of issue in the future is let pass:
        clocks differ, and the CA does not look at it.

        Raises:
            IdTokenInvalidError: it is anything else.
            ServiceError, RateLimitedError: the keys cannot be had.
        """
        try:
            token = parse_token(raw)
        except TokenError as exc:
            raise IdTokenInvalidError(provider.issuer, exc.message) from None
        algorithm, kid = header_of(provider.issuer, raw)
        await self._check_signature(provider, raw, algorithm, kid)
        wrong = wrong_claim(provider.issuer, token, expected, algorithm)
        if wrong is None and token.expires <= self._clock.now():
            wrong = (
                f"it ended {seconds_text(self._clock.now() - token.expires)} ago by this"
                " machine's clock, which may be ahead"
            )
        if wrong is not None:
            raise IdTokenInvalidError(provider.issuer, wrong)
        return token

    # --- signatures -------------------------------------------------------------------------

    async def _check_signature(
        self, provider: Provider, raw: Secret, algorithm: str, kid: str | None
    ) -> None:
        where = ("keys", provider.jwks_uri)

        async def ask() -> list[IssuerKey]:
            return await self._ask_keys(provider)

        def is_signed(keys: list[IssuerKey]) -> bool:
            return any(is_signed_by(raw, key, algorithm) for key in named(keys, kid))

        if is_signed(await self._remembered(where, ask)):
            return
        # The provider may have a new key since.
        held = self._known.get(where)
        is_new = held is not None and self._clock.boottime() - held.asked < KEYS_PAUSE_SECONDS
        if not is_new and is_signed(await self._fresh(where, ask)):
            return
        raise IdTokenInvalidError(provider.issuer, "no key of the issuer verifies its signature")

    # --- asking -----------------------------------------------------------------------------

    async def _remembered(
        self,
        where: tuple[str, str],
        ask: Callable[[], Awaitable[Any]],
    ) -> Any:  # noqa: ANN401  # a Provider or its keys, as `ask` gives it
        held = self._known.get(where)
        age = float("inf") if held is None else self._clock.boottime() - held.asked
        if held is not None and age < FRESH_SECONDS:
            return held.value
        try:
            return await self._fresh(where, ask)
        except DaemonError:
            if held is not None and age < STALE_SECONDS:
                return held.value
            raise

    async def _fresh(
        self,
        where: tuple[str, str],
        ask: Callable[[], Awaitable[Any]],
    ) -> Any:  # noqa: ANN401
        async def run() -> Any:  # noqa: ANN401
            value = await ask()
            while len(self._known) >= 2 * MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[where] = _Held(value, self._clock.boottime())
            return value

        return await self._asking.run(where, run)

    async def _ask_provider(self, issuer: str) -> Provider:
        url = issuer.rstrip("/") + "/.well-known/openid-configuration"
        document = await self._document(url, MAX_DISCOVERY)
        return parse_provider(issuer, document, check=self._http.check)

    async def _ask_keys(self, provider: Provider) -> list[IssuerKey]:
        return usable_keys(await self._document(provider.jwks_uri, MAX_JWKS))

    async def _document(self, url: str, max_body: int) -> Mapping[str, JsonValue]:
        reply = await self._http.send(
            "GET",
            url,
            service=SERVICE,
            headers={"Accept": "application/json"},
            deadline_seconds=DEADLINE_SECONDS,
            attempts=ATTEMPTS,
            max_body=max_body,
            retry_statuses=frozenset({502, 503, 504}),
        )
        if reply.status != 200:  # noqa: PLR2004
            raise refusal(reply, service=SERVICE, at_most=MAX_WAIT)
        return json_object(reply, SERVICE)


def parse_provider(
    issuer: str, document: Mapping[str, JsonValue], *, check: Callable[[str], None]
) -> Provider:
    """Read a discovery document.

    Args:
        issuer: Who was asked; the document must name exactly that.
        document: The JSON object.
        check: Raises InvalidInputError for a URL that must not be asked.

    Raises:
        IdentityError: ``identity_unavailable``: it is another's, lacks what every use needs, or
            has an endpoint that must not be asked.
    """

    def endpoint(name: str) -> str | None:
        url = document.get(name)
        if not isinstance(url, str) or not url:
            return None
        if not url.isascii() or not url.isprintable() or " " in url or len(url) > MAX_URL:
            raise _unusable(issuer, f"its {name} is no URL")
        if issuer.startswith("https://") and not url.startswith("https://"):
            raise _unusable(issuer, f"its {name} would be asked in clear text")
        try:
            check(url)
        except InvalidInputError as exc:
            # The issuer's fault, not that of whoever named the issuer.
            raise _unusable(issuer, f"its {name}: {exc.message}") from exc
        return url

    found = document.get("issuer")
    if found != issuer:
        raise _unusable(issuer, f"it calls itself {printable(str(found))!r}")
    jwks_uri = endpoint("jwks_uri")
    if jwks_uri is None:
        raise _unusable(issuer, "it does not say where its keys are")
    methods = _texts(document.get("code_challenge_methods_supported"))
    return Provider(
        issuer=issuer,
        jwks_uri=jwks_uri,
        authorization_endpoint=endpoint("authorization_endpoint"),
        token_endpoint=endpoint("token_endpoint"),
        device_endpoint=endpoint("device_authorization_endpoint"),
        revocation_endpoint=endpoint("revocation_endpoint"),
        scopes=_texts(document.get("scopes_supported")),
        has_s256="S256" in methods or issuer.startswith(SILENT_ABOUT_PKCE),
        names_itself=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _unusable(issuer: str, reason: str) -> IdentityError:
    return IdentityError(
        "identity_unavailable", f"the issuer {shown_url(issuer)} cannot be used: {reason}"
    )


def _texts(value: JsonValue) -> frozenset[str]:
    return (
        frozenset(one for one in value if isinstance(one, str))
        if isinstance(value, list)
        else (frozenset())
    )

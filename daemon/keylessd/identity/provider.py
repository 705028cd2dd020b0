"""What an OpenID provider says of itself, and whether an ID token is really its own.

Discovery documents and keys are asked for over the daemon's own HTTP client, capped, remembered,
and used on for a while when the provider cannot be reached. The signature is PyJWT's business,
the claims are ours: time is injected, and what an error says must not hold a token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from keylessd.core.strict_json import JsonValue, StrictJsonError, loads
from keylessd.errors import DaemonError, IdentityError, TokenError
from keylessd.flow.singleflight import SingleFlight
from keylessd.identity.token import IdentityToken, parse_token, seconds_text
from keylessd.services.http import refusal
from keylessd.services.reply import json_object
from keylessd.services.urls import printable, shown_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio
    from jwt.types import Options

    from keylessd.clock import Clock
    from keylessd.secret import Secret
    from keylessd.services.http import HttpClient

SERVICE = "oidc"
DEADLINE_SECONDS = 20.0
ATTEMPTS = 2
MAX_DISCOVERY = 64 << 10  # bytes
MAX_JWKS = 256 << 10  # bytes
MAX_KEYS = 64
MAX_HEADER = 4096  # characters of a token's header
FRESH_SECONDS = 3600.0
# How long what was learned is used while the provider cannot be asked.
STALE_SECONDS = 24 * 3600.0
# A token that names an unknown key makes us ask again, but not more often than this.
KEYS_PAUSE_SECONDS = 10.0
MAX_KNOWN = 64  # providers
MIN_RSA_BITS = 2048
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
# Those support PKCE with S256 and do not say so.
SILENT_ABOUT_PKCE = ("https://login.microsoftonline.com/", "https://login.microsoftonline.us/")

_SIGNATURE_ONLY: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


class IdTokenInvalidError(IdentityError):
    """A provider sent an ID token that cannot be believed."""

    def __init__(self, issuer: str, reason: str) -> None:
        super().__init__(
            "identity_unavailable",
            f"the ID token that {printable(issuer)!r} sent cannot be believed: {reason}",
        )
        self.reason = reason


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


@dataclass(frozen=True, slots=True)
class Expected:
    """What an ID token must say besides being genuine.

    Attributes:
        client_id: Whom it must be for.
        nonce: What it must hold, or None if none was sent.
        nonce_may_lack: A token from a refresh need not repeat the nonce (Core 1.0, 12.2).
        access_token: What came beside it; ``at_hash`` is checked against it if both are there.
    """

    client_id: str
    nonce: str | None = None
    nonce_may_lack: bool = False
    access_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key of a provider (RFC 7517).

    Attributes:
        kid: Its name, or None.
        algorithm: The only algorithm it is for, or None if it does not say.
        key: The key.
    """

    kid: str | None
    algorithm: str | None
    key: Any


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
        algorithm, kid = _header(provider, raw)
        await self._check_signature(provider, raw, algorithm, kid)
        wrong = _wrong_claim(provider, token, expected, algorithm)
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
            return any(_is_signed_by(raw, key, algorithm) for key in _named(keys, kid))

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
            raise refusal(reply, service=SERVICE)
        return json_object(reply, SERVICE)


def parse_provider(
    issuer: str, document: Mapping[str, JsonValue], *, check: Callable[[str], None]
) -> Provider:
    """Read a discovery document.

    Args:
        issuer: Who was asked; the document must name exactly that.
        document: The JSON object.
        check: Raises for a URL that must not be asked.

    Raises:
        IdentityError: ``identity_unavailable``: it is another's, or lacks what every use needs.
        InvalidInputError: an endpoint must not be asked.
    """

    def endpoint(name: str) -> str | None:
        url = document.get(name)
        if not isinstance(url, str) or not url:
            return None
        if issuer.startswith("https://") and not url.startswith("https://"):
            raise _unusable(issuer, f"its {name} would be asked in clear text")
        check(url)
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


def usable_keys(document: Mapping[str, JsonValue]) -> list[IssuerKey]:
    """Return the public keys we understand; others are passed over (RFC 7517, 5)."""
    values = document.get("keys")
    found: list[IssuerKey] = []
    for value in values[:MAX_KEYS] if isinstance(values, list) else []:
        if not isinstance(value, dict) or value.get("use") not in (None, "sig"):
            continue
        try:
            key = jwt.PyJWK.from_dict(value)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        weak = isinstance(key.key, rsa.RSAPublicKey) and key.key.key_size < MIN_RSA_BITS
        if key.key_type != "oct" and not weak:
            algorithm = value.get("alg")
            named = algorithm if isinstance(algorithm, str) else None
            found.append(IssuerKey(key.key_id, named, key.key))
    return found


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


def _header(provider: Provider, raw: Secret) -> tuple[str, str | None]:
    """Return algorithm and key id of a token that parse_token() has read."""
    part = raw.reveal().partition(".")[0]
    if len(part) > MAX_HEADER:
        raise IdTokenInvalidError(provider.issuer, "its header is too long")
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        header = loads(decoded, max_bytes=MAX_HEADER)
    except (ValueError, StrictJsonError):
        header = None
    algorithm = header.get("alg") if isinstance(header, dict) else None
    if not isinstance(header, dict) or algorithm not in ALGORITHMS:
        raise IdTokenInvalidError(
            provider.issuer, f"it is signed by the algorithm {printable(str(algorithm))!r}"
        )
    kid = header.get("kid")
    return str(algorithm), kid if isinstance(kid, str) else None


def _named(keys: list[IssuerKey], kid: str | None) -> list[IssuerKey]:
    return [key for key in keys if kid is None or key.kid in (kid, None)]


def _is_signed_by(raw: Secret, key: IssuerKey, algorithm: str) -> bool:
    if key.algorithm not in (algorithm, None):
        return False
    try:
        jwt.decode(raw.reveal(), key=key.key, algorithms=[algorithm], options=_SIGNATURE_ONLY)
    except (jwt.PyJWTError, TypeError, ValueError):
        return False
    return True


def _wrong_claim(
    provider: Provider, token: IdentityToken, expected: Expected, algorithm: str
) -> str | None:
    claims = token.claims
    if token.issuer != provider.issuer:
        return f"it names the issuer {token.issuer!r}"
    if expected.client_id not in token.audience:
        return f"it is for {token.audience[0]!r}, not for {expected.client_id!r}"
    party = claims.get("azp")
    if (len(token.audience) > 1 or party is not None) and party != expected.client_id:
        return f"it was given to {party!r}, not to {expected.client_id!r}"
    nonce = claims.get("nonce")
    if expected.nonce is not None:
        lacks = nonce is None and expected.nonce_may_lack
        if not lacks and not hmac.compare_digest((nonce or "").encode(), expected.nonce.encode()):
            return "its nonce is not that of this login"
    at_hash = claims.get("at_hash")
    if at_hash is not None and expected.access_token is not None:
        wanted = _half_hash(expected.access_token.reveal(), algorithm)
        if not hmac.compare_digest(at_hash.rstrip("=").encode(), wanted.encode()):
            return "its at_hash is not that of the access token beside it"
    return None


def _half_hash(text: str, algorithm: str) -> str:
    """Return the left half of the hash that goes with *algorithm* (Core 1.0, 3.1.3.6)."""
    name = {"384": "sha384", "512": "sha512"}.get(algorithm[2:], "sha256")
    digest = hashlib.new("sha512" if algorithm == "EdDSA" else name, text.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()

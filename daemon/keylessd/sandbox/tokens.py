"""Decides whether an ID token is genuine, for the sandbox's Fulcio; not whom it names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import jwt

if TYPE_CHECKING:
    from jwt.types import Options

    from keylessd.clock import Clock
    from keylessd.sandbox.issuers import IssuerRule
    from keylessd.sandbox.oidc import JsonValue

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
NOT_BEFORE_LEEWAY = timedelta(minutes=1)
FETCH_TIMEOUT_SECONDS = 10.0

_SIGNATURE_ONLY: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
}

# Returns the JWKS of an issuer; any httpx.HTTPError or ValueError means: not to be had.
FetchJwks = Callable[[str], Awaitable[Mapping[str, "JsonValue"]]]


class TokenRejectedError(ValueError):
    """The token is not accepted. The message is for the sandbox's log, not for the client."""


async def fetch_jwks(issuer: str) -> Mapping[str, JsonValue]:
    """Return the keys that the issuer's discovery document leads to. Redirects are not followed.

    Raises:
        httpx.HTTPError: The issuer cannot be reached, or refuses.
        ValueError: The document is not what it has to be.
    """
    async with httpx.AsyncClient(timeout=FETCH_TIMEOUT_SECONDS, trust_env=False) as client:
        found = await client.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        document = found.raise_for_status().json()
        if not isinstance(document, dict) or document.get("issuer") != issuer:
            raise ValueError("the discovery document is that of another issuer")
        keys = await client.get(str(document.get("jwks_uri")))
        jwks = keys.raise_for_status().json()
    if not isinstance(jwks, dict):
        raise ValueError("the JWKS is not an object")  # noqa: TRY004  # a value from outside
    return jwks


class TokenVerifier:
    """Checks tokens against the rules' issuers.

    Args:
        rules: The accepted issuers; the first that matches counts.
        clock: Tells when a token has ended; there is no leeway for that.
        fetch: Gets an issuer's keys where the rule has none. It is asked again when a token
            names a key that is not known.
    """

    def __init__(
        self, rules: Sequence[IssuerRule], *, clock: Clock, fetch: FetchJwks = fetch_jwks
    ) -> None:
        self.rules = list(rules)
        self._clock = clock
        self._fetch = fetch
        self._keys: dict[str, list[jwt.PyJWK]] = {}

    async def verify(self, token: str) -> tuple[IssuerRule, dict[str, JsonValue]]:
        """Return the rule and the claims of a genuine token for our audience, valid now.

        Raises:
            TokenRejectedError: It is anything else.
        """
        try:
            unverified = jwt.decode_complete(token, options={"verify_signature": False})
        except jwt.PyJWTError as exc:
            raise TokenRejectedError(f"the token cannot be read: {exc}") from exc
        issuer = unverified["payload"].get("iss")
        rule = self._rule(issuer)
        kid = unverified["header"].get("kid")
        for key in await self._candidates(rule, issuer, kid):
            claims = _verified_claims(token, key)
            if claims is not None:
                self._check_claims(rule, claims)
                return rule, claims
        raise TokenRejectedError("no key of the issuer verifies the token")

    def _rule(self, issuer: object) -> IssuerRule:
        if isinstance(issuer, str):
            for rule in self.rules:
                if rule.matches(issuer):
                    return rule
        raise TokenRejectedError(f"the issuer {issuer!r} is not accepted")

    async def _candidates(self, rule: IssuerRule, issuer: str, kid: object) -> list[jwt.PyJWK]:
        known = _named(self._keys.get(issuer, []), kid)
        if known:
            return known
        try:
            document = rule.jwks if rule.jwks is not None else await self._fetch(issuer)
            self._keys[issuer] = _usable_keys(document)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
            raise TokenRejectedError(f"the keys of {issuer!r} cannot be had: {exc}") from exc
        return _named(self._keys[issuer], kid)

    def _check_claims(self, rule: IssuerRule, claims: Mapping[str, JsonValue]) -> None:
        audience = claims.get("aud")
        if rule.audience not in (audience if isinstance(audience, list) else [audience]):
            raise TokenRejectedError(f"the token is for {audience!r}")
        now = self._clock.now().timestamp()
        expires = claims.get("exp")
        if not isinstance(expires, int | float) or expires < now:
            raise TokenRejectedError("the token has ended")
        begins = claims.get("nbf")
        latest = now + NOT_BEFORE_LEEWAY.total_seconds()
        if isinstance(begins, int | float) and begins > latest:
            raise TokenRejectedError("the token is not valid yet")


def _named(keys: list[jwt.PyJWK], kid: object) -> list[jwt.PyJWK]:
    return [key for key in keys if kid is None or key.key_id == kid]


def _usable_keys(document: Mapping[str, JsonValue]) -> list[jwt.PyJWK]:
    """Return the keys we understand; others are passed over (RFC 7517, 5)."""
    found = []
    values = document.get("keys")
    for value in values if isinstance(values, list) else []:
        if not isinstance(value, dict):
            continue
        try:
            key = jwt.PyJWK.from_dict(value)
        except jwt.PyJWTError:
            continue
        if key.key_type != "oct":
            found.append(key)
    return found


def _verified_claims(token: str, key: jwt.PyJWK) -> dict[str, Any] | None:
    """Return the claims if *key* verifies the signature, else None. Times are not looked at."""
    try:
        return jwt.decode(token, key=key, algorithms=list(ALGORITHMS), options=_SIGNATURE_ONLY)
    except (jwt.PyJWTError, TypeError):
        return None

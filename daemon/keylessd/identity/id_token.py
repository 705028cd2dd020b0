"""Whether an ID token is what an issuer was asked for. Pure: asks nobody, has no clock.

OpenID Connect Core 1.0, 3.1.3.7 and 3.1.3.8. The signature is PyJWT's business, the claims are
ours: what an error says must not hold a token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from keylessd.core.strict_json import JsonValue, StrictJsonError, loads
from keylessd.errors import IdentityError
from keylessd.services.urls import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jwt.types import Options

    from keylessd.identity.token import IdentityToken
    from keylessd.secret import Secret

MAX_KEYS = 64
MAX_HEADER = 4096  # characters of a token's header
MIN_RSA_BITS = 2048
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)

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
class Expected:
    """What an ID token must say besides being genuine.

    Attributes:
        client_id: Whom it must be for.
        party: To whom it must have been given where that is another than *client_id*; such a
            token need not say it. None: to *client_id* itself.
        nonce: What it must hold, or None if none was sent.
        nonce_may_lack: A token from a refresh need not repeat the nonce (Core 1.0, 12.2).
        access_token: What came beside it; ``at_hash`` is checked against it if both are there.
    """

    client_id: str
    party: str | None = None
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


def header_of(issuer: str, raw: Secret) -> tuple[str, str | None]:
    """Return algorithm and key id of a token that parse_token() has read.

    Raises:
        IdTokenInvalidError: the algorithm is none of ALGORITHMS.
    """
    part = raw.reveal().partition(".")[0]
    if len(part) > MAX_HEADER:
        raise IdTokenInvalidError(issuer, "its header is too long")
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        header = loads(decoded, max_bytes=MAX_HEADER)
    except (ValueError, StrictJsonError):
        header = None
    algorithm = header.get("alg") if isinstance(header, dict) else None
    if not isinstance(header, dict) or algorithm not in ALGORITHMS:
        raise IdTokenInvalidError(
            issuer, f"it is signed by the algorithm {printable(str(algorithm))!r}"
        )
    kid = header.get("kid")
    return str(algorithm), kid if isinstance(kid, str) else None


def named(keys: list[IssuerKey], kid: str | None) -> list[IssuerKey]:
    """Return the keys that a token with this key id may be signed by."""
    return [key for key in keys if kid is None or key.kid in (kid, None)]


def is_signed_by(raw: Secret, key: IssuerKey, algorithm: str) -> bool:
    """Return whether *key* verifies the token's signature."""
    if key.algorithm not in (algorithm, None):
        return False
    try:
        jwt.decode(raw.reveal(), key=key.key, algorithms=[algorithm], options=_SIGNATURE_ONLY)
    except (jwt.PyJWTError, TypeError, ValueError):
        return False
    return True


def wrong_claim(
    issuer: str, token: IdentityToken, expected: Expected, algorithm: str
) -> str | None:
    """Say which claim is not as it must be, or return None. Times are not looked at."""
    claims = token.claims
    if token.issuer != issuer:
        return f"it names the issuer {token.issuer!r}"
    if expected.client_id not in token.audience:
        return f"it is for {token.audience[0]!r}, not for {expected.client_id!r}"
    party, wanted = claims.get("azp"), expected.party or expected.client_id
    must_say = expected.party is None and len(token.audience) > 1
    if (must_say or party is not None) and party != wanted:
        return f"it was given to {party!r}, not to {wanted!r}"
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

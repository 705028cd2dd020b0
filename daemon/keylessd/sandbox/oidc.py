"""An OpenID Connect issuer: its keys, ID tokens, discovery document. No flows, no HTTP."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import jwt

from keylessd.sandbox.vault import Vault, ecdsa_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from keylessd.clock import Clock

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]

AUDIENCE = "sigstore"
ALGORITHM = "ES256"
TOKEN_LIFETIME = timedelta(hours=1)
COORDINATE_BYTES = 32  # P-256


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, JsonValue]:
    """Return the JSON Web Key of a P-256 key; its ``kid`` is the RFC 7638 thumbprint."""
    numbers = key.public_numbers()
    x = _base64url(numbers.x.to_bytes(COORDINATE_BYTES, "big"))
    y = _base64url(numbers.y.to_bytes(COORDINATE_BYTES, "big"))
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    kid = _base64url(hashlib.sha256(canonical.encode()).digest())
    return {
        "kty": "EC",
        "crv": "P-256",
        "x": x,
        "y": y,
        "use": "sig",
        "alg": ALGORITHM,
        "kid": kid,
    }


def subject_of(email: str) -> str:
    """Return the opaque, stable subject of the person with this address."""
    return _base64url(hashlib.sha256(b"sandbox subject\0" + email.encode()).digest()[:18])


class OidcIssuer:
    """Mints ID tokens and publishes the keys to check them with.

    Args:
        url: The issuer identifier, without a trailing slash; everything hangs below it.
        vault: Keeps the signing keys.
        name: Prefix of the keys' names in the vault, so that issuers do not share keys.
        clock: Gives ``iat`` and ``exp``.
        token_lifetime: How long an ID token is valid if nobody says otherwise.
        interactive: Whether discovery lists the endpoints of the login flows.
    """

    def __init__(
        self,
        url: str,
        *,
        vault: Vault,
        clock: Clock,
        name: str = "oidc",
        token_lifetime: timedelta = TOKEN_LIFETIME,
        interactive: bool = True,
    ) -> None:
        self.url = url
        self.token_lifetime = token_lifetime
        self._interactive = interactive
        self._vault = vault
        self._clock = clock
        self._name = name
        self._keys = [ecdsa_key(vault, f"{name}-1")]
        while vault.load(f"{name}-{len(self._keys) + 1}.key") is not None:
            self._keys.append(ecdsa_key(vault, f"{name}-{len(self._keys) + 1}"))

    def rotate_key(self) -> None:
        """Sign with a new key from now on; the old ones stay published."""
        self._keys.append(ecdsa_key(self._vault, f"{self._name}-{len(self._keys) + 1}"))

    def jwks(self) -> dict[str, JsonValue]:
        """Return the JSON Web Key Set."""
        return {"keys": [public_jwk(key.public_key()) for key in self._keys]}

    def mint(
        self,
        *,
        email: str | None = None,
        subject: str | None = None,
        email_verified: bool = True,
        audience: str | list[str] = AUDIENCE,
        lifetime: timedelta | None = None,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Return a signed ID token.

        Args:
            email: Address to claim; the subject is derived from it unless given.
            subject: The ``sub`` claim.
            email_verified: Goes with *email*.
            audience: The ``aud`` claim, as it is to appear.
            lifetime: Until ``exp``; negative for a token that has ended.
            claims: Further claims; they replace those of the same name, and a None removes one.

        Raises:
            ValueError: Neither *email* nor *subject* was given.
        """
        if subject is None:
            if email is None:
                raise ValueError("a token needs an email address or a subject")
            subject = subject_of(email)
        now = self._clock.now()
        payload: dict[str, JsonValue] = {
            "iss": self.url,
            "sub": subject,
            "aud": list(audience) if isinstance(audience, list) else audience,
            "iat": int(now.timestamp()),
            "exp": int((now + (lifetime or self.token_lifetime)).timestamp()),
        }
        if email is not None:
            payload |= {"email": email, "email_verified": email_verified}
        payload |= dict(claims or {})
        kept = {name: value for name, value in payload.items() if value is not None}
        key = self._keys[-1]
        headers = {"kid": str(public_jwk(key.public_key())["kid"])}
        return jwt.encode(kept, key, algorithm=ALGORITHM, headers=headers)

    def discovery(self) -> dict[str, JsonValue]:
        """Return the discovery document (OpenID Connect Discovery 1.0, 3)."""
        document: dict[str, JsonValue] = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "subject_types_supported": ["public"],
            "response_types_supported": ["code"],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "email", "email_verified"],
        }
        if self._interactive:
            document |= {
                "authorization_endpoint": f"{self.url}/auth",
                "token_endpoint": f"{self.url}/token",
                "device_authorization_endpoint": f"{self.url}/device/code",
                "revocation_endpoint": f"{self.url}/revoke",
                "scopes_supported": ["openid", "email", "offline_access"],
                "grant_types_supported": [
                    "authorization_code",
                    "refresh_token",
                    "urn:ietf:params:oauth:grant-type:device_code",
                ],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "response_modes_supported": ["query"],
                "authorization_response_iss_parameter_supported": True,
            }
        return document

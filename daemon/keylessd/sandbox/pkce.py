"""Checks proof keys for code exchange (RFC 7636), method S256 only. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac

from keylessd.sandbox.grants import OAuthError

VERIFIER_LENGTH = range(43, 129)  # RFC 7636, 4.1


def _challenge_of(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def check_verifier(challenge: str, verifier: str) -> None:
    """Check *verifier* against the S256 *challenge* (RFC 7636, 4.6).

    Raises:
        OAuthError: ``invalid_grant``.
    """
    if len(verifier) not in VERIFIER_LENGTH or not hmac.compare_digest(
        _challenge_of(verifier).encode(), challenge.encode()
    ):
        raise OAuthError("invalid_grant", "the code verifier does not match")

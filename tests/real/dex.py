"""Logs in at the real Dex without a browser."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from tests.real.services import EMAIL, PASSWORD


def password_grant(url: str) -> Mapping[str, object]:
    """Return Dex's answer: an identity token for EMAIL, a refresh token, an access token.

    Args:
        url: Dex's own, as an issuer.
    """
    reply = httpx.post(
        f"{url}/token",
        data={
            "grant_type": "password",
            "client_id": "sigstore",
            "username": EMAIL,
            "password": PASSWORD,
            "scope": "openid email offline_access",
        },
        trust_env=False,
    )
    reply.raise_for_status()
    found = reply.json()
    assert isinstance(found, dict)
    return found

"""What binds a login to this process: proof key, state and nonce. Pure but for the random bytes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from keylessd.secret import Secret

RandomBytes = Callable[[int], bytes]

VERIFIER_BYTES = 48  # 64 characters; RFC 7636, 4.1 wants 43 to 128
TEXT_BYTES = 24  # 192 bits for state and nonce


@dataclass(frozen=True, slots=True)
class Proof:
    """The secrets of one login.

    Attributes:
        verifier: Shown to the token endpoint only (RFC 7636).
        challenge: Its SHA-256, shown to everybody.
        state: Comes back with the browser (RFC 6749, 10.12).
        nonce: Comes back in the ID token.
    """

    verifier: Secret
    challenge: str
    state: Secret
    nonce: str


def new_proof(random_bytes: RandomBytes) -> Proof:
    """Return a fresh proof."""
    verifier = _text(random_bytes(VERIFIER_BYTES))
    return Proof(
        verifier=Secret(verifier),
        challenge=_text(hashlib.sha256(verifier.encode()).digest()),
        state=Secret(_text(random_bytes(TEXT_BYTES))),
        nonce=_text(random_bytes(TEXT_BYTES)),
    )


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

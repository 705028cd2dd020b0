"""Verifies what logs sign, and remembers what verified. Knows no format.

Many bundles hold the same words of a log: all entries of a batch share a checkpoint, all
signatures with one certificate its promises.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ed25519

from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.keys import (
    BadSignatureError,
    PublicKey,
    spki,
    verify_digest,
    verify_message,
)
from keylessd.core.remembered import Memory

_REMEMBERED = 512  # signatures


def verify_log_signature(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Verify a log's signature, which is over SHA-256 for every key but Ed25519.

    Other than for artifacts, the curve does not choose the hash here. So it is of promises, and of
    SCTs by RFC 6962, 2.1.4; `verify_checkpoint_signature` is for checkpoints.

    Raises:
        BadSignatureError: It does not verify.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        verify_message(key, signature, message)
    else:
        verify_digest(key, signature, digest_of(HashAlgorithm.SHA256, message))


def verify_shared_signature(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Do what verify_log_signature() does, at once where the very same was verified before.

    For what many bundles hold alike. Only what verified is remembered, so nobody without a
    log's key can fill the memory.

    Raises:
        BadSignatureError: It does not verify.
    """
    what = (spki(key), signature, message)
    if _VERIFIED.get(what):
        return
    verify_log_signature(key, signature, message)
    _VERIFIED.put(what, True)


def verify_checkpoint_signature(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Verify a log's signature on a checkpoint, which many bundles hold alike.

    Rekor v1 signs these too over SHA-256, whatever its curve; Rekor v2 over the hash that belongs
    to the curve, like a signer of artifacts.

    Raises:
        BadSignatureError: It does not verify.
    """
    try:
        verify_shared_signature(key, signature, message)
    except BadSignatureError:
        verify_message(key, signature, message)


# Key, signature and message. The key as DER, since the library's cannot be looked up.
_VERIFIED: Memory[tuple[bytes, bytes, bytes], bool] = Memory(_REMEMBERED)


def forget() -> None:
    """Forget all that verified, so that the next verification does its whole work."""
    _VERIFIED.cache_clear()

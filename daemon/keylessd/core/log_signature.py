"""Verifies what logs sign, and remembers what verified. Knows no format.

Many bundles hold the same words of a log: all entries of a batch share a checkpoint, all
signatures with one certificate its promises.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ed25519

from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.keys import PublicKey, spki, verify_digest, verify_message

_REMEMBERED = 512  # signatures


def verify_log_signature(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Verify a log's signature, which is over SHA-256 for every key but Ed25519.

    Other than for artifacts, the curve does not choose the hash here.

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
    _verify_once(_Key(key), signature, message)


@lru_cache(maxsize=_REMEMBERED)
def _verify_once(key: _Key, signature: bytes, message: bytes) -> None:
    verify_log_signature(key.key, signature, message)


def forget() -> None:
    """Forget all that verified, so that the next verification does its whole work."""
    _verify_once.cache_clear()


class _Key:
    """A key that can be looked up by its content, which the library's own cannot."""

    __slots__ = ("_der", "key")

    def __init__(self, key: PublicKey) -> None:
        self.key = key
        self._der = spki(key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._der == other._der

    def __hash__(self) -> int:
        return hash(self._der)

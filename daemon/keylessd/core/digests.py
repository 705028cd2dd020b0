"""Digest values with their algorithm. Hashes bytes in memory; never reads files or streams."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes


class HashAlgorithm(enum.StrEnum):
    """The hash algorithms of Sigstore signatures, by their name in in-toto and in Rekor v1."""

    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"

    @property
    def size(self) -> int:
        """Length of a digest, in bytes."""
        return _SIZES[self]

    @property
    def proto(self) -> str:
        """Name in the Sigstore protobuf enumeration, for example ``"SHA2_256"``."""
        return f"SHA2_{self.value.removeprefix('sha')}"

    def hash(self) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
        """Return a new hash object of the cryptography package."""
        return _HASHES[self]()

    @classmethod
    def from_proto(cls, name: str) -> HashAlgorithm:
        """Return the algorithm that the Sigstore protobuf enumeration calls *name*.

        Raises:
            ValueError: It is not one of the three that are supported.
        """
        for algorithm in cls:
            if algorithm.proto == name:
                return algorithm
        raise ValueError(f"unsupported hash algorithm {name!r}")


_FUNCTIONS = {
    HashAlgorithm.SHA256: hashlib.sha256,
    HashAlgorithm.SHA384: hashlib.sha384,
    HashAlgorithm.SHA512: hashlib.sha512,
}
_SIZES = {HashAlgorithm.SHA256: 32, HashAlgorithm.SHA384: 48, HashAlgorithm.SHA512: 64}
_HASHES: dict[HashAlgorithm, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    HashAlgorithm.SHA256: hashes.SHA256,
    HashAlgorithm.SHA384: hashes.SHA384,
    HashAlgorithm.SHA512: hashes.SHA512,
}


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest of something, usually of an artifact.

    Attributes:
        algorithm: How it was computed.
        value: The raw digest, ``algorithm.size`` bytes.

    Raises:
        ValueError: The value does not have the algorithm's length.
    """

    algorithm: HashAlgorithm
    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != _SIZES[self.algorithm]:
            raise ValueError(
                f"{self.algorithm.value} digest of {len(self.value)} bytes; "
                f"it has {self.algorithm.size}"
            )

    @property
    def hex(self) -> str:
        """The value in lower-case hexadecimal digits."""
        return self.value.hex()

    def __str__(self) -> str:
        return f"{self.algorithm.value}:{self.hex}"


def digest_of(algorithm: HashAlgorithm, data: bytes) -> Digest:
    """Return the digest of *data*."""
    return Digest(algorithm, _FUNCTIONS[algorithm](data).digest())

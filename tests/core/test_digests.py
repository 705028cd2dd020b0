"""Digest values."""

from __future__ import annotations

import hashlib

import pytest

from keylessd.core.digests import Digest, HashAlgorithm, digest_of

ALGORITHMS = list(HashAlgorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("change", [-1, 1])
def test_value_of_wrong_length_is_refused(algorithm: HashAlgorithm, change: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        Digest(algorithm, bytes(algorithm.size + change))


@pytest.mark.parametrize("name", ["SHA2_224", "SHA3_256", "sha256", "", "SHA256"])
def test_unknown_proto_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unsupported"):
        HashAlgorithm.from_proto(name)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_names_sizes_and_hashes_belong_together(algorithm: HashAlgorithm) -> None:
    assert HashAlgorithm.from_proto(algorithm.proto) is algorithm
    assert algorithm.hash().name == algorithm.value
    assert algorithm.hash().digest_size == algorithm.size
    assert digest_of(algorithm, b"x").value == hashlib.new(algorithm.value, b"x").digest()


def test_digest_shows_as_algorithm_and_lower_case_hex() -> None:
    digest = Digest(HashAlgorithm.SHA256, b"\xab" * 32)
    assert digest.hex == "ab" * 32
    assert str(digest) == "sha256:" + "ab" * 32
    assert HashAlgorithm.SHA384.proto == "SHA2_384"

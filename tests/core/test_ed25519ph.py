"""Ed25519ph: the RFC's own signature, and what is not one."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core import ed25519ph as ph
from keylessd.core.ed25519ph import verify_prehashed
from sigsim.worlds import sign_prehashed

ORDER = 2**252 + 27742317777372353535851937790883648493
# RFC 8032, 7.3.
SECRET = bytes.fromhex("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42")
PUBLIC = bytes.fromhex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf")
SIGNATURE = bytes.fromhex(
    "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41"
    "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
)
DIGEST = hashlib.sha512(b"abc").digest()


def with_scalar(scalar: int) -> bytes:
    return SIGNATURE[:32] + scalar.to_bytes(32, "little")


def test_signature_of_the_rfc() -> None:
    assert verify_prehashed(PUBLIC, SIGNATURE, DIGEST)
    assert sign_prehashed(ed25519.Ed25519PrivateKey.from_private_bytes(SECRET), b"abc") == SIGNATURE


def test_pure_signature_is_another_thing() -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(SECRET)
    assert not verify_prehashed(PUBLIC, key.sign(b"abc"), DIGEST)
    assert not verify_prehashed(PUBLIC, key.sign(DIGEST), DIGEST)


@pytest.mark.parametrize(
    ("key", "signature", "digest"),
    [
        (PUBLIC, SIGNATURE[:-1], DIGEST),
        (PUBLIC, SIGNATURE + b"\0", DIGEST),
        (PUBLIC, b"", DIGEST),
        (PUBLIC, SIGNATURE, DIGEST[:-1]),
        (PUBLIC, SIGNATURE, DIGEST + b"\0"),
        (PUBLIC[:-1], SIGNATURE, DIGEST),
        (PUBLIC, SIGNATURE[32:] + SIGNATURE[:32], DIGEST),
        (PUBLIC, bytes(64), DIGEST),
        # The same scalar, beyond the order of the group.
        (PUBLIC, with_scalar(int.from_bytes(SIGNATURE[32:], "little") + ORDER), DIGEST),
        (PUBLIC, with_scalar(ORDER), DIGEST),
        # y is not below p, x has no root, x is zero with a sign.
        ((2**255 - 19).to_bytes(32, "little"), SIGNATURE, DIGEST),
        ((2).to_bytes(32, "little"), SIGNATURE, DIGEST),
        ((1 | 1 << 255).to_bytes(32, "little"), SIGNATURE, DIGEST),
        (bytes([PUBLIC[0] ^ 1]) + PUBLIC[1:], SIGNATURE, DIGEST),
        (PUBLIC[:31] + bytes([PUBLIC[31] ^ 0x80]), SIGNATURE, DIGEST),
    ],
)
def test_what_is_no_signature(key: bytes, signature: bytes, digest: bytes) -> None:
    assert not verify_prehashed(key, signature, digest)


@settings(max_examples=30)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100), st.integers(0, 511))
def test_every_bit_counts(seed: bytes, message: bytes, bit: int) -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    signature = sign_prehashed(key, message)
    digest = hashlib.sha512(message).digest()
    assert verify_prehashed(public, signature, digest)
    for whole in (signature, digest):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        given_ = (bytes(changed), digest) if whole is signature else (signature, bytes(changed))
        assert not verify_prehashed(public, *given_)


def of_order_8() -> bytes:
    """A point that the curve has beside the group: any other one times the group's order."""
    y = next(y for y in range(2, 99) if (found := ph._decode(y.to_bytes(32, "little"))))
    found = ph._decode(y.to_bytes(32, "little"))
    assert found is not None
    return ph._encode(ph._sum_of_multiples(ORDER, found, 0, found))


@pytest.mark.parametrize(
    "key", [bytes(32), (1).to_bytes(32, "little"), (2**255 - 20).to_bytes(32, "little")]
)
def test_key_of_small_order_fits_nothing(key: bytes) -> None:
    # By the bare equation, the key itself with the scalar 0 would be a signature of much.
    for encoded in (key, bytes(32), (1).to_bytes(32, "little")):
        assert not verify_prehashed(key, encoded + bytes(32), DIGEST)


def test_key_of_order_8_fits_nothing() -> None:
    key = of_order_8()
    assert ph._decode(key) is not None
    for n in range(64):
        digest = hashlib.sha512(bytes([n])).digest()
        assert not verify_prehashed(key, (1).to_bytes(32, "little") + bytes(32), digest)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_any_bytes_are_judged(key: bytes, signature: bytes) -> None:
    assert not verify_prehashed(key, signature, DIGEST)

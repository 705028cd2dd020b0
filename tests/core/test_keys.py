"""Public keys: what is read, how it is named, what it verifies."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.keys import (
    BadSignatureError,
    key_details,
    load_public_key,
    signing_hash,
    spki,
    verify_digest,
    verify_message,
)
from keylessd.errors import InvalidInputError

MESSAGE = b"a message"
CURVES = {
    "P256": (ec.SECP256R1(), HashAlgorithm.SHA256, "PKIX_ECDSA_P256_SHA_256"),
    "P384": (ec.SECP384R1(), HashAlgorithm.SHA384, "PKIX_ECDSA_P384_SHA_384"),
    "P521": (ec.SECP521R1(), HashAlgorithm.SHA512, "PKIX_ECDSA_P521_SHA_512"),
}


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.generate_private_key(ec.SECP256K1()).public_key(), id="secp256k1"),
        pytest.param(ec.generate_private_key(ec.SECP224R1()).public_key(), id="p224"),
        pytest.param(ed448.Ed448PrivateKey.generate().public_key(), id="ed448"),
        pytest.param(rsa.generate_private_key(65537, 1024).public_key(), id="rsa1024"),
        pytest.param(dsa.generate_private_key(1024).public_key(), id="dsa"),
    ],
)
def test_key_of_unsupported_kind_is_refused(key: object) -> None:
    with pytest.raises(InvalidInputError):
        load_public_key(_pem(key))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"junk",
        b"-----BEGIN PUBLIC KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"\x30\x00",
        bytes(1 << 20),
    ],
    ids=["empty", "junk", "pem-cut", "pem-junk", "der-empty", "huge"],
)
def test_what_is_no_key_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        load_public_key(raw)


def test_private_key_is_refused() -> None:
    raw = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(InvalidInputError):
        load_public_key(raw)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_only_invalid_input_escapes_from_loading(raw: bytes) -> None:
    try:
        load_public_key(raw)
    except InvalidInputError:
        return
    pytest.fail("random bytes were taken for a key")


@pytest.mark.parametrize("name", CURVES)
def test_ecdsa_key_signs_with_the_hash_of_its_curve(name: str) -> None:
    curve, algorithm, details = CURVES[name]
    private = ec.generate_private_key(curve)
    key = load_public_key(_pem(private.public_key()))
    assert signing_hash(key) is algorithm
    assert key_details(key) == details
    signature = private.sign(MESSAGE, ec.ECDSA(algorithm.hash()))
    verify_message(key, signature, MESSAGE)
    verify_digest(key, signature, digest_of(algorithm, MESSAGE))
    with pytest.raises(BadSignatureError):
        verify_message(key, signature, MESSAGE + b".")
    with pytest.raises(BadSignatureError):
        verify_digest(key, signature, digest_of(algorithm, b"other"))
    with pytest.raises(BadSignatureError):
        verify_message(key, b"", MESSAGE)


def test_digest_of_another_hash_than_the_curves_is_verified_as_given() -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    signature = private.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))
    verify_digest(private.public_key(), signature, digest_of(HashAlgorithm.SHA256, MESSAGE))
    with pytest.raises(BadSignatureError):
        verify_message(private.public_key(), signature, MESSAGE)


def test_signature_of_another_key_is_refused() -> None:
    private, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    signature = other.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(BadSignatureError):
        verify_message(private.public_key(), signature, MESSAGE)


def test_ed25519_signs_the_message_itself() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    key = load_public_key(_pem(private.public_key()))
    signature = private.sign(MESSAGE)
    assert signing_hash(key) is None
    assert key_details(key) == "PKIX_ED25519"
    verify_message(key, signature, MESSAGE)
    with pytest.raises(BadSignatureError):
        verify_message(key, signature, b"other")
    with pytest.raises(BadSignatureError):
        verify_message(key, signature[:-1], MESSAGE)
    with pytest.raises(BadSignatureError):
        verify_digest(key, signature, digest_of(HashAlgorithm.SHA512, MESSAGE))
    with pytest.raises(BadSignatureError, match="SHA-512 digests"):
        verify_digest(key, signature, digest_of(HashAlgorithm.SHA256, MESSAGE))


def test_rsa_verifies_pkcs1_v15_and_not_pss(rsa_key: rsa.RSAPrivateKey) -> None:
    key = load_public_key(_pem(rsa_key.public_key()))
    assert key_details(key) == "PKIX_RSA_PKCS1V15_2048_SHA256"
    verify_message(key, rsa_key.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA256()), MESSAGE)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    with pytest.raises(BadSignatureError):
        verify_message(key, rsa_key.sign(MESSAGE, pss, hashes.SHA256()), MESSAGE)


def test_rsa_of_a_size_without_a_name_has_no_details() -> None:
    key = rsa.generate_private_key(65537, 2304).public_key()
    assert load_public_key(spki(key)) == key
    with pytest.raises(InvalidInputError):
        key_details(key)


def test_pem_der_and_pkcs1_give_the_same_key(rsa_key: rsa.RSAPrivateKey) -> None:
    public = rsa_key.public_key()
    pkcs1 = serialization.PublicFormat.PKCS1
    forms = [
        _pem(public),
        b"\n" + _pem(public).replace(b"\n", b"\r\n"),
        spki(public),
        public.public_bytes(serialization.Encoding.DER, pkcs1),
        public.public_bytes(serialization.Encoding.PEM, pkcs1),
    ]
    assert {spki(load_public_key(form)) for form in forms} == {spki(public)}


def test_large_text_is_no_key_however_good() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert load_public_key(pem + b"\n" * 1000) == key
    with pytest.raises(InvalidInputError):
        load_public_key(pem + b"\n" * (64 << 10))

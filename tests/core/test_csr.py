"""Certificate signing requests."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keylessd.core.csr import build_csr

KEYS = {
    "p256": (lambda: ec.generate_private_key(ec.SECP256R1()), hashes.SHA256),
    "p384": (lambda: ec.generate_private_key(ec.SECP384R1()), hashes.SHA384),
    "p521": (lambda: ec.generate_private_key(ec.SECP521R1()), hashes.SHA512),
    "rsa": (lambda: rsa.generate_private_key(65537, 2048), hashes.SHA256),
    "ed25519": (ed25519.Ed25519PrivateKey.generate, None),
}


@pytest.mark.parametrize("name", KEYS)
def test_request_is_signed_by_its_key_with_the_keys_own_hash(name: str) -> None:
    make, algorithm = KEYS[name]
    key = make()
    raw = build_csr(key)
    request = x509.load_pem_x509_csr(raw)
    assert raw.startswith(b"-----BEGIN CERTIFICATE REQUEST-----\n")
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()
    found = request.signature_hash_algorithm
    assert found is None if algorithm is None else isinstance(found, algorithm)


def test_request_names_nobody() -> None:
    request = x509.load_pem_x509_csr(build_csr(ec.generate_private_key(ec.SECP256R1())))
    assert list(request.subject) == []
    assert len(request.extensions) == 0

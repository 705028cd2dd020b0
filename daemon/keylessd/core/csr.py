"""Builds the certificate signing request that asks Fulcio for a certificate. Asks nobody itself."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keylessd.core.keys import signing_hash

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def build_csr(private_key: PrivateKey) -> bytes:
    """Return a PKCS#10 request for the key, signed by it.

    Fulcio uses the public key and the signature alone. The subject stays empty: the identity
    comes from the token, and a name in it could only be wrong or badly encoded.

    Args:
        private_key: The ephemeral key; its default hash signs the request.

    Returns:
        PEM text, as the ``certificateSigningRequest`` field holds it before its own base64.
    """
    algorithm = signing_hash(private_key.public_key())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if isinstance(private_key, ed25519.Ed25519PrivateKey) or algorithm is None:
        request = builder.sign(private_key, None)
    else:
        request = builder.sign(private_key, algorithm.hash())
    return request.public_bytes(serialization.Encoding.PEM)

"""The signer's certificate or key in each form a log's request wants. Pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keylessd.core.keys import PublicKey, key_details, spki

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a log is told to check a signature with; encoded once, used for many entries.

    Attributes:
        der: The certificate, or the key's SubjectPublicKeyInfo.
        is_certificate: Which of the two.
        der_base64: *der* for Rekor v2.
        pem_base64: The PEM text of *der*, base64 once more, for Rekor v1.
        key_details: The key's algorithm by its name in the public registry.
    """

    der: bytes
    is_certificate: bool
    der_base64: str
    pem_base64: str
    key_details: str


def certificate_verifier(certificate: x509.Certificate, key: PublicKey) -> Verifier:
    """Return the forms of a certificate over *key*."""
    der = certificate.public_bytes(Encoding.DER)
    pem = certificate.public_bytes(Encoding.PEM)
    return Verifier(der, True, _b64(der), _b64(pem), key_details(key))


def key_verifier(key: PublicKey) -> Verifier:
    """Return the forms of a bare key."""
    der = spki(key)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Verifier(der, False, _b64(der), _b64(pem), key_details(key))


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()

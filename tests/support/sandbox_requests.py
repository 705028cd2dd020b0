"""Signers, clocks and clients for the tests of the sandbox's services."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import NameOID

from keylessd.core.dsse import pae
from keylessd.core.keys import key_details, signing_hash, spki
from keylessd.sandbox.inprocess import InProcessTransport

NOW = datetime(2026, 7, 1, 12, 0, 0, 123456, UTC)


class SteppedClock:
    """A wall clock that moves only when told."""

    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def advance(self, **by: float) -> None:
        self.time += timedelta(**by)


class Signer:
    """A key with a self-signed certificate, and the requests it makes to logs."""

    def __init__(self, key=None, *, email: str = "jo@example.com") -> None:
        self.key = key if key is not None else ec.generate_private_key(ec.SECP256R1())
        self.public = self.key.public_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.public)
            .serial_number(7)
            .not_valid_before(NOW - timedelta(minutes=1))
            .not_valid_after(NOW + timedelta(minutes=9))
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(email)]), critical=True)
            .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        )

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def digest(self, artifact: bytes) -> bytes:
        return hashlib.new(signing_hash(self.public) or "sha256", artifact).digest()

    def sign_digest(self, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(digest, padding.PKCS1v15(), Prehashed(algorithm))
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(digest, ec.ECDSA(Prehashed(algorithm)))
        return self.key.sign(digest)

    def sign(self, artifact: bytes) -> bytes:
        algorithm = signing_hash(self.public)
        return self.sign_digest(
            self.digest(artifact), algorithm.hash() if algorithm else hashes.SHA256()
        )

    def v2_request(self, artifact: bytes = b"artifact", *, as_key: bool = False) -> dict:
        verifier = (
            {"publicKey": {"rawBytes": b64(spki(self.public))}}
            if as_key
            else {"x509Certificate": {"rawBytes": b64(self.der)}}
        )
        return {
            "hashedRekordRequestV002": {
                "digest": b64(self.digest(artifact)),
                "signature": {
                    "content": b64(self.sign(artifact)),
                    "verifier": {**verifier, "keyDetails": key_details(self.public)},
                },
            }
        }

    def v1_request(self, artifact: bytes = b"artifact", *, pem: bytes | None = None) -> dict:
        algorithm = signing_hash(self.public) or "sha256"
        return {
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": algorithm, "value": self.digest(artifact).hex()}},
                "signature": {
                    "content": b64(self.sign(artifact)),
                    "publicKey": {"content": b64(self.pem if pem is None else pem)},
                },
            },
        }

    def envelope(self, payload: bytes, kind: str = "application/vnd.in-toto+json") -> dict:
        # Rekor v1 verifies envelopes with SHA-256 whatever the curve is.
        digest = hashlib.sha256(pae(kind, payload)).digest()
        signature = self.sign_digest(digest, hashes.SHA256())
        return {
            "payload": b64(payload),
            "payloadType": kind,
            "signatures": [{"sig": b64(signature)}],
        }

    def v1_dsse_request(self, payload: bytes) -> dict:
        return v1_dsse_request(json.dumps(self.envelope(payload)), self.pem)


def v1_dsse_request(envelope: str, *verifiers: bytes) -> dict:
    return {
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "proposedContent": {
                "envelope": envelope,
                "verifiers": [b64(verifier) for verifier in verifiers],
            }
        },
    }


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def client_of(app) -> httpx.AsyncClient:
    """A client whose every request goes to *app*."""
    transport = InProcessTransport({"it": app}, {"it": "http://service.test"})
    return httpx.AsyncClient(transport=transport, base_url="http://service.test", trust_env=False)

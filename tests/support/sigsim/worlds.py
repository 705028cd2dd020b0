"""A small Sigstore of keys alone: signs, logs and stamps, and gives the trust root for it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from keylessd.core import ed25519ph
from keylessd.core.bundle import (
    Bundle,
    BundleVersion,
    DsseEnvelope,
    InclusionProof,
    MessageSignature,
    TlogEntry,
)
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.dsse import pae
from keylessd.core.entry import hashedrekord_v2_body, set_payload
from keylessd.core.keys import key_details, signing_hash, spki
from keylessd.core.merkle import leaf_hash, node_hash
from keylessd.core.note import NoteSignature, checkpoint_body, format_note, note_key_id
from keylessd.core.trusted_root import TimeRange, TransparencyLog, TrustedRoot
from sigsim.pki import (
    ALWAYS,
    START,
    Ca,
    CtLog,
    Leaf,
    PrivateKey,
    authority,
    der,
    ec_key,
    mint_ca,
    mint_leaf,
)
from sigsim.stamps import Tsa, mint_tsa, stamp

ARTIFACT = b"an artifact\n"
SIGNED = START + timedelta(minutes=1)  # when everything happens
V1_OFFSET = 5000  # entries of earlier shards of the Rekor v1 log
IN_TOTO = "application/vnd.in-toto+json"


def sign(key: PrivateKey, message: bytes, algorithm: HashAlgorithm | None = None) -> bytes:
    """Sign as a signer or a log would, with a hash other than the key's own if wanted."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        usual = signing_hash(key.public_key())
        chosen = algorithm or usual
        assert chosen is not None
        return key.sign(message, ec.ECDSA(chosen.hash()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), (algorithm or HashAlgorithm.SHA256).hash())
    return sign_prehashed(key, message) if algorithm is HashAlgorithm.SHA512 else key.sign(message)


def sign_prehashed(key: ed25519.Ed25519PrivateKey, message: bytes) -> bytes:
    """Sign as Ed25519ph does (RFC 8032, 5.1.6), which the library does not."""
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    public = key.public_key().public_bytes(*raw)
    expanded = hashlib.sha512(key.private_bytes_raw()).digest()
    scalar = int.from_bytes(expanded[:32], "little") & ((1 << 254) - 8) | 1 << 254
    digest = hashlib.sha512(message).digest()
    domain = b"SigEd25519 no Ed25519 collisions\x01\x00"
    nonce = hashlib.sha512(domain + expanded[32:] + digest).digest()
    order = ed25519ph._ORDER
    secret = int.from_bytes(nonce, "little") % order
    base = ed25519ph._BASE
    point = ed25519ph._encode(ed25519ph._sum_of_multiples(secret, base, 0, base))
    hashed = hashlib.sha512(domain + point + public + digest).digest()
    challenge = int.from_bytes(hashed, "little") % order
    return point + ((secret + challenge * scalar) % order).to_bytes(32, "little")


@dataclass
class RekorLog:
    """A log that holds what it is told to. Version 1 makes promises, version 2 does not."""

    generation: int
    key: PrivateKey
    base_url: str = "https://rekor.example"
    operator: str = ""
    leaves: list[bytes] = field(default_factory=lambda: [b"first", b"second", b"third"])

    @property
    def name(self) -> str:
        return self.base_url.removeprefix("https://")

    @property
    def key_id(self) -> bytes:
        return note_key_id(self.name, self.key.public_key())

    def trusted(self, valid_for: TimeRange = ALWAYS) -> TransparencyLog:
        return TransparencyLog(
            base_url=self.base_url,
            name=self.name,
            key=self.key.public_key(),
            key_details=key_details(self.key.public_key()),
            valid_for=valid_for,
            log_id=self.key_id,
            checkpoint_key_id=None,
            operator=self.operator,
        )

    def checkpoint(self, *, origin: str | None = None) -> str:
        usual = self.name if self.generation == 2 else f"{self.name} - 42"
        body = checkpoint_body(origin or usual, len(self.leaves), _root(self._hashes()))
        signature = sign(self.key, body, HashAlgorithm.SHA256)
        return format_note(body, [NoteSignature(self.name, self.key_id[:4], signature)])

    def add(self, body: bytes, *, at: datetime = SIGNED, promise: bool = True) -> TlogEntry:
        """Log an entry and return it with its proof."""
        self.leaves.append(body)
        index = len(self.leaves) - 1
        kind = json.loads(body)
        proof = InclusionProof(
            log_index=index,
            root_hash=_root(self._hashes()),
            tree_size=len(self.leaves),
            hashes=tuple(_path(index, self._hashes())),
            checkpoint=self.checkpoint(),
        )
        entry = TlogEntry(
            log_index=index if self.generation == 2 else index + V1_OFFSET,
            log_id=self.key_id,
            kind=kind["kind"],
            version=kind["apiVersion"],
            integrated_time=None,
            promise=None,
            proof=proof,
            body=body,
        )
        return self.promised(entry, at=at) if self.generation == 1 and promise else entry

    def promised(self, entry: TlogEntry, *, at: datetime) -> TlogEntry:
        """Return the entry with a time and a promise for it."""
        timed = _replace(entry, integrated_time=int(at.timestamp()))
        return _replace(timed, promise=sign(self.key, set_payload(timed), HashAlgorithm.SHA256))

    def _hashes(self) -> list[bytes]:
        return [leaf_hash(leaf) for leaf in self.leaves]


@dataclass
class World:
    """One of everything, all of it right, and the bundles it makes.

    Attributes:
        key: The signer's.
        leaf: What the signer's certificate says.
    """

    key: PrivateKey = field(default_factory=ec_key)
    leaf: Leaf = field(default_factory=Leaf)
    ca_root: Ca = field(default_factory=lambda: mint_ca("root"))
    ca: Ca = None  # type: ignore[assignment]  # below ca_root unless given
    ct: CtLog = field(default_factory=lambda: CtLog(ec_key()))
    tsa: Tsa = field(default_factory=mint_tsa)
    rekor: RekorLog = field(
        default_factory=lambda: RekorLog(2, ed25519.Ed25519PrivateKey.generate())
    )

    def __post_init__(self) -> None:
        if self.ca is None:
            self.ca = mint_ca("intermediate", parent=self.ca_root)

    def root(self, **changes: Any) -> TrustedRoot:
        fields: dict[str, Any] = {
            "tlogs": (self.rekor.trusted(),),
            "ctlogs": (self.ct.trusted(),),
            "certificate_authorities": (authority(self.ca, self.ca_root),),
            "timestamp_authorities": (self.tsa.trusted(),),
            "disabled": (),
            "sha256": "00" * 32,
        }
        return TrustedRoot(**(fields | changes))

    def certificate(self, leaf: Leaf | None = None) -> x509.Certificate:
        return mint_leaf(self.key, self.ca, [self.ct], leaf or self.leaf)

    def message(
        self,
        *,
        certificate: x509.Certificate | None = None,
        managed: bool = False,
        algorithm: HashAlgorithm | None = None,
        stamps: Sequence[datetime] = (SIGNED,),
        logged_at: datetime = SIGNED,
        promise: bool = True,
    ) -> Bundle:
        """A bundle that signs ARTIFACT."""
        chosen = algorithm or signing_hash(self.key.public_key())
        assert chosen is not None
        digest = digest_of(chosen, ARTIFACT)
        content = MessageSignature(sign(self.key, ARTIFACT, chosen), digest)
        verifier = self._verifier(certificate, managed=managed)
        body = self.body(content, digest, verifier, managed=managed)
        entry = self.rekor.add(body, at=logged_at, promise=promise)
        return self._bundle(content, entry, stamps, None if managed else verifier)

    def envelope(
        self,
        payload: bytes,
        *,
        payload_type: str = IN_TOTO,
        algorithm: HashAlgorithm | None = None,
        managed: bool = False,
    ) -> Bundle:
        """A bundle that signs a payload."""
        message = pae(payload_type, payload)
        content = DsseEnvelope(payload, payload_type, sign(self.key, message, algorithm), "")
        chosen = algorithm or signing_hash(self.key.public_key()) or HashAlgorithm.SHA256
        digest = digest_of(chosen, message)
        verifier = self._verifier(None, managed=managed)
        body = self.body(content, digest, verifier, managed=managed)
        return self._bundle(content, self.rekor.add(body), (SIGNED,), None if managed else verifier)

    def body(
        self,
        content: MessageSignature | DsseEnvelope,
        digest: Digest,
        verifier: bytes,
        *,
        managed: bool,
    ) -> bytes:
        """What the log is told about a signature."""
        if self.rekor.generation == 2:
            hash_bits = digest.algorithm.value.removeprefix("sha")
            details = re.sub(r"(?<=_SHA_)\d+", hash_bits, key_details(self.key.public_key()))
            if isinstance(self.key, ed25519.Ed25519PrivateKey):
                details = "PKIX_ED25519_PH"
            return hashedrekord_v2_body(
                digest,
                content.signature,
                verifier=verifier,
                is_certificate=not managed,
                details=details,
            )
        label = "PUBLIC KEY" if managed else "CERTIFICATE"
        pem = base64.b64encode(_pem(label, verifier)).decode()
        signature = base64.b64encode(content.signature).decode()
        if isinstance(content, DsseEnvelope):
            value = {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {"algorithm": "sha256", "value": "00" * 32},
                    "payloadHash": {
                        "algorithm": "sha256",
                        "value": hashlib.sha256(content.payload).hexdigest(),
                    },
                    "signatures": [{"signature": signature, "verifier": pem}],
                },
            }
        else:
            value = {
                "apiVersion": "0.0.1",
                "kind": "hashedrekord",
                "spec": {
                    "data": {"hash": {"algorithm": digest.algorithm.value, "value": digest.hex}},
                    "signature": {"content": signature, "publicKey": {"content": pem}},
                },
            }
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()

    def _verifier(self, certificate: x509.Certificate | None, *, managed: bool) -> bytes:
        if managed:
            return spki(self.key.public_key())
        return der(certificate or self.certificate())

    def _bundle(
        self,
        content: MessageSignature | DsseEnvelope,
        entry: TlogEntry,
        stamps: Sequence[datetime],
        certificate: bytes | None,
    ) -> Bundle:
        return Bundle(
            version=BundleVersion.V03,
            certificates=() if certificate is None else (certificate,),
            key_hint="" if certificate is None else None,
            entries=(entry,),
            timestamps=tuple(stamp(self.tsa, content.signature, at=at) for at in stamps),
            content=content,
        )


def v1_log(**changes: Any) -> RekorLog:
    return RekorLog(1, ec_key(), **changes)


def statement(*subjects: dict[str, str], predicate_type: str = "https://example.com/p") -> bytes:
    """An in-toto statement; each subject is given by its digests."""
    value = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": f"s{n}", "digest": item} for n, item in enumerate(subjects)],
        "predicateType": predicate_type,
        "predicate": {},
    }
    return json.dumps(value).encode()


def digests(artifact: bytes = ARTIFACT, *algorithms: HashAlgorithm) -> dict[HashAlgorithm, Digest]:
    chosen = algorithms or (HashAlgorithm.SHA256,)
    return {algorithm: digest_of(algorithm, artifact) for algorithm in chosen}


def _replace(entry: TlogEntry, **changes: Any) -> TlogEntry:
    fields = {name: getattr(entry, name) for name in TlogEntry.__dataclass_fields__}
    return TlogEntry(**(fields | changes))


def _pem(label: str, raw: bytes) -> bytes:
    if label == "CERTIFICATE":
        return x509.load_der_x509_certificate(raw).public_bytes(serialization.Encoding.PEM)
    return serialization.load_der_public_key(raw).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _root(hashes_: Sequence[bytes]) -> bytes:
    # RFC 6962, 2.1, as it is written there, so that it shares nothing with the verifier.
    if len(hashes_) == 1:
        return hashes_[0]
    half = _split(len(hashes_))
    return node_hash(_root(hashes_[:half]), _root(hashes_[half:]))


def _path(index: int, hashes_: Sequence[bytes]) -> list[bytes]:
    if len(hashes_) == 1:
        return []
    half = _split(len(hashes_))
    if index < half:
        return [*_path(index, hashes_[:half]), _root(hashes_[half:])]
    return [*_path(index - half, hashes_[half:]), _root(hashes_[:half])]


def _split(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1


def tampered(value: bytes) -> bytes:
    """Return *value* with its last bit flipped."""
    return value[:-1] + bytes([value[-1] ^ 1])


def self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A root that nobody trusts."""
    return mint_ca("stranger", key=key).certificate


__all__ = [
    "ARTIFACT",
    "SIGNED",
    "RekorLog",
    "World",
    "digests",
    "self_signed",
    "sign",
    "statement",
    "tampered",
    "v1_log",
]

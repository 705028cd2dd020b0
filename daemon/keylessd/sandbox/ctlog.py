"""A certificate transparency log (RFC 6962): promises, entries, tree heads. No HTTP."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from keylessd.sandbox.store import LogStore, NewRecord
from keylessd.sandbox.tree import MerkleTree

if TYPE_CHECKING:
    from keylessd.clock import Clock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

# RFC 6962, 3.2 and 3.4: enumeration values.
V1 = b"\x00"
CERTIFICATE_TIMESTAMP = b"\x00"
TREE_HASH = b"\x01"
TIMESTAMPED_ENTRY = b"\x00"
X509_ENTRY = 0
PRECERT_ENTRY = 1
# RFC 5246, 7.4.1.4.1: SHA-256, ECDSA.
SHA256_ECDSA = b"\x04\x03"
# The Static CT API puts the leaf's index into extension 0, as a 40-bit number.
LEAF_INDEX_EXTENSION = 0

OID_SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One stored entry: the Merkle leaf's bytes, and the precertificate (or nothing)."""

    leaf: bytes
    precertificate: bytes


@dataclass(frozen=True, slots=True)
class SignedCertificateTimestamp:
    """A promise to log; ``timestamp`` in milliseconds since the epoch, ``signature`` in DER."""

    log_id: bytes
    timestamp: int
    extensions: bytes
    signature: bytes

    def serialized(self) -> bytes:
        """Return the TLS encoding (RFC 6962, 3.2)."""
        return (
            V1
            + self.log_id
            + struct.pack(">QH", self.timestamp, len(self.extensions))
            + self.extensions
            + SHA256_ECDSA
            + struct.pack(">H", len(self.signature))
            + self.signature
        )


@dataclass(frozen=True, slots=True)
class TreeHead:
    """What the log claims to hold at a time; ``signature`` is a TLS DigitallySigned."""

    size: int
    timestamp: int
    root_hash: bytes
    signature: bytes


def _u24(content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + content


def milliseconds(moment: datetime) -> int:
    """Return the whole milliseconds between the epoch and *moment*."""
    return (moment - EPOCH) // MILLISECOND


def sct_list_extension(scts: Sequence[bytes]) -> x509.UnrecognizedExtension:
    """Return the certificate extension that carries *scts*, each TLS-encoded (RFC 6962, 3.3)."""
    inner = b"".join(struct.pack(">H", len(sct)) + sct for sct in scts)
    content = struct.pack(">H", len(inner)) + inner
    return x509.UnrecognizedExtension(OID_SCT_LIST, asn1.encode_der(content))


class CtLog:
    """Signs SCTs and stores what it signed.

    Args:
        key: The log's P-256 key.
        store: Where entries are kept; those already there are the log's past.
        clock: Gives the time of SCTs and tree heads.
        leaf_index_extension: Put the leaf's index into every SCT, as static-CT logs do.
    """

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        store: LogStore,
        *,
        clock: Clock,
        leaf_index_extension: bool = False,
    ) -> None:
        self._key = key
        self._store = store
        self._clock = clock
        self._leaf_index_extension = leaf_index_extension
        self._tree = MerkleTree(store.leaves())
        self.public_key_der = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.log_id = hashlib.sha256(self.public_key_der).digest()

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The key that SCTs and tree heads verify with."""
        return self._key.public_key()

    @property
    def size(self) -> int:
        """How many entries the log holds."""
        return self._tree.size

    def add_precertificate(
        self, tbs: bytes, *, issuer_key_hash: bytes, precertificate: bytes
    ) -> SignedCertificateTimestamp:
        """Log a precertificate and promise it.

        Args:
            tbs: DER of the TBSCertificate without poison and without SCT list.
            issuer_key_hash: SHA-256 of the issuing CA's SubjectPublicKeyInfo.
            precertificate: DER of the signed precertificate, with its poison.
        """
        signed_entry = issuer_key_hash + _u24(tbs)
        return self._add(PRECERT_ENTRY, signed_entry, precertificate)

    def add_certificate(self, certificate: bytes) -> SignedCertificateTimestamp:
        """Log a final certificate (DER) and promise it: the detached form."""
        return self._add(X509_ENTRY, _u24(certificate), b"")

    def _add(self, kind: int, entry: bytes, precertificate: bytes) -> SignedCertificateTimestamp:
        timestamp = milliseconds(self._clock.now())
        extensions = b""
        if self._leaf_index_extension:
            index = self.size.to_bytes(5, "big")
            extensions = struct.pack(">BH", LEAF_INDEX_EXTENSION, len(index)) + index
        timestamped = (
            struct.pack(">QH", timestamp, kind)
            + entry
            + struct.pack(">H", len(extensions))
            + extensions
        )
        signature = self._sign(V1 + CERTIFICATE_TIMESTAMP + timestamped)
        leaf = V1 + TIMESTAMPED_ENTRY + timestamped
        leaf_hash = hashlib.sha256(b"\x00" + leaf).digest()
        # Only the same certificate in the same millisecond makes the same leaf.
        if self._store.index_of(leaf_hash) is None:
            self._store.append([NewRecord(leaf_hash, leaf_hash, leaf, precertificate)])
            self._tree.append(leaf_hash)
        return SignedCertificateTimestamp(self.log_id, timestamp, extensions, signature)

    def tree_head(self) -> TreeHead:
        """Return the signed head of the tree as it is now."""
        timestamp = milliseconds(self._clock.now())
        root = self._tree.root()
        signed = V1 + TREE_HASH + struct.pack(">QQ", timestamp, self.size) + root
        signature = self._sign(signed)
        digitally_signed = SHA256_ECDSA + struct.pack(">H", len(signature)) + signature
        return TreeHead(self.size, timestamp, root, digitally_signed)

    def entries(self, start: int, end: int) -> list[LogEntry]:
        """Return the entries *start* to *end*, both included, as far as they exist."""
        return [
            LogEntry(record.body, record.extra) for record in self._store.records(start, end + 1)
        ]

    def proof(self, leaf_hash: bytes, size: int) -> tuple[int, tuple[bytes, ...]] | None:
        """Return the leaf's index and its path to the root of the tree of *size* leaves.

        None if that tree does not hold the leaf.
        """
        index = self._store.index_of(leaf_hash)
        if index is None or not index < size <= self.size:
            return None
        return index, self._tree.inclusion_proof(index, size)

    def consistency(self, first: int, second: int) -> tuple[bytes, ...] | None:
        """Return the proof that the tree of *second* leaves extends that of *first*.

        None unless 0 < first <= second <= size.
        """
        if not 0 < first <= second <= self.size:
            return None
        return self._tree.consistency_proof(first, second)

    def _sign(self, message: bytes) -> bytes:
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))


def precert_chain_entry(entry: LogEntry, chain: Sequence[bytes]) -> bytes:
    """Return the ``extra_data`` of get-entries (RFC 6962, 4.6); *chain* is DER, CA first."""
    certificates = _u24(b"".join(_u24(certificate) for certificate in chain))
    return (_u24(entry.precertificate) if entry.precertificate else b"") + certificates

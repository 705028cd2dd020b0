"""A certificate transparency log (RFC 6962): promises, entries, tree heads. No HTTP."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

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


class EntryStore(Protocol):
    """An append-only list of entries."""

    def __len__(self) -> int: ...

    def append(self, entry: LogEntry) -> None:
        """Keep *entry* at the end."""
        ...

    def __getitem__(self, index: int) -> LogEntry: ...


class MemoryEntries:
    """Entries that end with the object."""

    def __init__(self) -> None:
        self._entries: list[LogEntry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> LogEntry:
        return self._entries[index]

    def append(self, entry: LogEntry) -> None:
        """Keep *entry* at the end."""
        self._entries.append(entry)


class FileEntries:
    """Entries in one append-only file; a record that a crash cut short is dropped at the start.

    Record: u32be length of the leaf, u32be length of the precertificate, then both.
    """

    _HEAD = struct.Struct(">II")

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._offsets: list[int] = []
        self._end = 0
        total = os.fstat(self._file).st_size
        while self._end + self._HEAD.size <= total:
            head = os.pread(self._file, self._HEAD.size, self._end)
            following = self._end + self._HEAD.size + sum(self._HEAD.unpack(head))
            if following > total:
                break
            self._offsets.append(self._end)
            self._end = following
        os.ftruncate(self._file, self._end)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> LogEntry:
        offset = self._offsets[index]
        lengths = self._HEAD.unpack(os.pread(self._file, self._HEAD.size, offset))
        body = os.pread(self._file, sum(lengths), offset + self._HEAD.size)
        return LogEntry(leaf=body[: lengths[0]], precertificate=body[lengths[0] :])

    def append(self, entry: LogEntry) -> None:
        """Write *entry* behind the others, in one system call."""
        head = self._HEAD.pack(len(entry.leaf), len(entry.precertificate))
        record = head + entry.leaf + entry.precertificate
        written = os.pwrite(self._file, record, self._end)
        if written != len(record):
            os.ftruncate(self._file, self._end)
            raise OSError(f"only {written} of {len(record)} bytes of a log entry were written")
        self._offsets.append(self._end)
        self._end += len(record)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Frontier:
    """The roots of the full subtrees of a growing Merkle tree, largest first (RFC 6962, 2.1)."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Add the leaf with these bytes."""
        node = hashlib.sha256(b"\x00" + leaf).digest()
        below = self.size
        while below & 1:
            node = hashlib.sha256(b"\x01" + self._peaks.pop() + node).digest()
            below >>= 1
        self._peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the 32-byte root hash; that of the empty string for the empty tree."""
        if not self._peaks:
            return hashlib.sha256().digest()
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = hashlib.sha256(b"\x01" + peak + root).digest()
        return root


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
        entries: Where entries are kept; those already there are the log's past.
        clock: Gives the time of SCTs and tree heads.
        leaf_index_extension: Put the leaf's index into every SCT, as static-CT logs do.
    """

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        entries: EntryStore,
        *,
        clock: Clock,
        leaf_index_extension: bool = False,
    ) -> None:
        self._key = key
        self._entries = entries
        self._clock = clock
        self._leaf_index_extension = leaf_index_extension
        self._tree = Frontier()
        for index in range(len(entries)):
            self._tree.append(entries[index].leaf)
        self.public_key_der = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.log_id = hashlib.sha256(self.public_key_der).digest()

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
        self._entries.append(LogEntry(leaf=leaf, precertificate=precertificate))
        self._tree.append(leaf)
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
        return [self._entries[index] for index in range(start, min(end + 1, self.size))]

    def _sign(self, message: bytes) -> bytes:
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))


def precert_chain_entry(entry: LogEntry, chain: Sequence[bytes]) -> bytes:
    """Return the ``extra_data`` of get-entries (RFC 6962, 4.6); *chain* is DER, CA first."""
    certificates = _u24(b"".join(_u24(certificate) for certificate in chain))
    return (_u24(entry.precertificate) if entry.precertificate else b"") + certificates

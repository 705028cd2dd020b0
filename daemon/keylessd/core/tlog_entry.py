"""One entry of a transparency log, to and from JSON. Reads the form; proves nothing about it."""

from __future__ import annotations

from dataclasses import dataclass

from keylessd.core.strict_json import Fields, JsonObject, JsonValue, StrictJsonError, encode_base64
from keylessd.errors import VerificationError

HASH_BYTES = 32
MAX_PROOF_HASHES = 64  # a tree of 2**63 leaves needs 63

_ENTRY = frozenset(
    {
        "logIndex",
        "logId",
        "kindVersion",
        "integratedTime",
        "inclusionPromise",
        "inclusionProof",
        "canonicalizedBody",
    }
)
_LOG_ID = frozenset({"keyId"})
_KIND_VERSION = frozenset({"kind", "version"})
_PROMISE = frozenset({"signedEntryTimestamp"})
_PROOF = frozenset({"logIndex", "rootHash", "treeSize", "hashes", "checkpoint"})
_CHECKPOINT = frozenset({"envelope"})


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """A claim that a leaf is in a tree, to be checked against a signed checkpoint.

    Attributes:
        log_index: Position of the leaf in this tree, from 0. For Rekor v1 it differs from the
            entry's own index, which counts over all shards.
        root_hash: 32 bytes, unauthenticated; the checkpoint has the authentic one.
        tree_size: Number of leaves, unauthenticated likewise.
        hashes: Sibling hashes of 32 bytes, leaf level first.
        checkpoint: The signed note, or None in old bundles.
    """

    log_index: int
    root_hash: bytes
    tree_size: int
    hashes: tuple[bytes, ...]
    checkpoint: str | None


@dataclass(frozen=True, slots=True)
class TlogEntry:
    """An entry of a Rekor log, as a bundle or Rekor v2 has it.

    Attributes:
        log_index: Index in the whole log, from 0.
        log_id: Identifier of the log's key, 32 bytes by the present formats.
        kind: For example ``"hashedrekord"``.
        version: Version of the kind, for example ``"0.0.1"``.
        integrated_time: Seconds since 1970, authentic only with a verified promise; None if
            absent or 0, as Rekor v2 has it.
        promise: The signed entry timestamp, or None.
        proof: The inclusion proof, or None.
        body: The leaf, decoded from canonicalizedBody.
    """

    log_index: int
    log_id: bytes
    kind: str
    version: str
    integrated_time: int | None
    promise: bytes | None
    proof: InclusionProof | None
    body: bytes


def parse_tlog_entry(value: JsonValue) -> TlogEntry:
    """Return the entry that a TransparencyLogEntry's JSON object describes.

    Which parts must be there is a matter of the bundle's version and not judged here, beyond
    what every entry has: a log id, a kind, a version, a body; and a time if it has a promise.

    Args:
        value: The object as it stands in a bundle, or in the 201 answer of Rekor v2.

    Raises:
        VerificationError: ``check="bundle-entry"`` if it is malformed.
    """
    try:
        return entry_of(Fields(value, path="tlogEntry", known=_ENTRY))
    except StrictJsonError as exc:
        raise VerificationError("bundle-entry", str(exc)) from exc


def entry_fields(fields: Fields, name: str, *, limit: int) -> list[Fields]:
    """Return the entries in a repeated field, still to be read by entry_of()."""
    return fields.children(name, _ENTRY, limit=limit)


def entry_of(fields: Fields) -> TlogEntry:
    """Read an entry.

    Raises:
        StrictJsonError: It is malformed.
    """
    log_id = fields.child("logId", _LOG_ID)
    kind_version = fields.child("kindVersion", _KIND_VERSION)
    kind = kind_version.text("kind") if kind_version is not None else ""
    version = kind_version.text("version") if kind_version is not None else ""
    if not kind or not version:
        fields.fail("kindVersion", "kind or version is missing")
    promise = _promise_of(fields)
    integrated_time = fields.int64("integratedTime")
    if promise is not None and integrated_time == 0:
        fields.fail("integratedTime", "missing beside an inclusion promise")
    body = fields.octets("canonicalizedBody")
    if not body:
        fields.fail("canonicalizedBody", "missing")
    key_id = log_id.octets("keyId") if log_id is not None else b""
    if not key_id:
        fields.fail("logId", "missing")
    return TlogEntry(
        log_index=fields.int64("logIndex"),
        log_id=key_id,
        kind=kind,
        version=version,
        integrated_time=integrated_time or None,
        promise=promise,
        proof=_proof_of(fields),
        body=body,
    )


def tlog_entry_json(entry: TlogEntry) -> JsonObject:
    """Return the entry as a TransparencyLogEntry's JSON object.

    Numbers and lists are written out also where they are zero or empty, since not every reader
    takes the first entry of a log otherwise; what is None is left out.
    """
    value: JsonObject = {
        "logIndex": str(entry.log_index),
        "logId": {"keyId": encode_base64(entry.log_id)},
        "kindVersion": {"kind": entry.kind, "version": entry.version},
    }
    if entry.integrated_time is not None:
        value["integratedTime"] = str(entry.integrated_time)
    if entry.promise is not None:
        value["inclusionPromise"] = {"signedEntryTimestamp": encode_base64(entry.promise)}
    if entry.proof is not None:
        value["inclusionProof"] = _proof_json(entry.proof)
    value["canonicalizedBody"] = encode_base64(entry.body)
    return value


def _promise_of(fields: Fields) -> bytes | None:
    promise = fields.child("inclusionPromise", _PROMISE)
    if promise is None:
        return None
    signature = promise.octets("signedEntryTimestamp")
    if not signature:
        promise.fail("signedEntryTimestamp", "empty")
    return signature


def _proof_of(fields: Fields) -> InclusionProof | None:
    proof = fields.child("inclusionProof", _PROOF)
    if proof is None:
        return None
    root_hash = proof.octets("rootHash")
    if len(root_hash) != HASH_BYTES:
        proof.fail("rootHash", f"{len(root_hash)} bytes; a hash has {HASH_BYTES}")
    hashes = proof.octet_items("hashes", limit=MAX_PROOF_HASHES)
    if any(len(item) != HASH_BYTES for item in hashes):
        proof.fail("hashes", f"an item does not have {HASH_BYTES} bytes")
    checkpoint = proof.child("checkpoint", _CHECKPOINT)
    envelope = checkpoint.text("envelope") if checkpoint is not None else ""
    return InclusionProof(
        log_index=proof.int64("logIndex"),
        root_hash=root_hash,
        tree_size=proof.int64("treeSize"),
        hashes=tuple(hashes),
        checkpoint=envelope or None,
    )


def _proof_json(proof: InclusionProof) -> JsonObject:
    value: JsonObject = {
        "logIndex": str(proof.log_index),
        "rootHash": encode_base64(proof.root_hash),
        "treeSize": str(proof.tree_size),
        "hashes": [encode_base64(item) for item in proof.hashes],
    }
    if proof.checkpoint is not None:
        value["checkpoint"] = {"envelope": proof.checkpoint}
    return value

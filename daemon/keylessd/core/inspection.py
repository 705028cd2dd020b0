"""Shows what is in a bundle of any form. Verifies nothing, and says so in what it returns.

Every part is read by itself, so that one that cannot be read hides no other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from keylessd.core import asn1
from keylessd.core.bundle import (
    MAX_BUNDLE_BYTES,
    MAX_DEPTH,
    Bundle,
    DsseEnvelope,
    MessageSignature,
    TlogEntry,
)
from keylessd.core.certificate import EXTENSIONS, key_of, parse_leaf, signer_of
from keylessd.core.explain import key_name
from keylessd.core.keys import load_public_key
from keylessd.core.legacy import Detached, read_bundle
from keylessd.core.note import parse_checkpoint
from keylessd.core.sct import embedded_scts
from keylessd.core.statement import MAX_STATEMENT_BYTES, parse_statement
from keylessd.core.strict_json import (
    JsonObject,
    JsonValue,
    StrictJsonError,
    decode_base64,
    format_timestamp,
    loads,
)
from keylessd.core.timestamp_token import Token, hash_of
from keylessd.errors import DaemonError, InvalidInputError, VerificationError

if TYPE_CHECKING:
    from datetime import datetime

NOTE = "nothing of this was verified"
MAX_SUBJECTS = 64  # shown; their number is told
MAX_PREDICATE = 256 << 10  # bytes of a payload whose predicate is shown
MAX_SHOWN = 12 << 20  # bytes; a reply carries at most 16 MiB
MAX_PARTS = 100  # shown of a bundle that cannot be read as a whole
_TEXT = 2000  # characters of a text that a stranger wrote


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in a bundle, unverified.

    Attributes:
        form: Its format, ``"0.1"`` to ``"0.3"``, ``"cosign"``, ``"detached"``; None if it cannot
            be read as a whole.
        json: A JSON object, see clientlib/doc/protocol.md, 8.6.
    """

    form: str | None
    json: bytes


def inspect_bundle(raw: bytes | None, detached: Detached) -> Inspection:
    """Return what is in a bundle, whatever it is.

    Args:
        raw: See `keylessd.core.legacy.read_bundle`.
        detached: Likewise.

    Raises:
        InvalidInputError: There is no signature, or parts stand beside a bundle that has its own.
    """
    shown: JsonObject = {"verified": False, "note": NOTE}
    form = None
    try:
        bundle = read_bundle(raw, detached)
    except VerificationError as exc:
        shown["problem"] = _problem(exc)
        shown["parts"] = list(_parts(raw or b""))
    else:
        form = bundle.version.value
        shown |= {"form": form} | _whole(bundle)
    encoded = _encoded(shown)
    if len(encoded) > MAX_SHOWN:
        size: JsonObject = {"check": "too-large", "message": f"{len(encoded)} bytes to show"}
        encoded = _encoded({"verified": False, "note": NOTE, "form": form, "problem": size})
    return Inspection(form, encoded)


def _encoded(shown: JsonObject) -> bytes:
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _whole(bundle: Bundle) -> JsonObject:
    shown: JsonObject = {}
    if bundle.certificates:
        shown["certificates"] = [_read(certificate, der) for der in bundle.certificates]
    else:
        shown["managed_key"] = {"hint": _cut(bundle.key_hint or "")}
    content = bundle.content
    if isinstance(content, MessageSignature):
        shown["signature"] = _signature(content)
    else:
        shown["envelope"] = _envelope(content)
    shown["entries"] = [_entry(entry) for entry in bundle.entries]
    shown["timestamps"] = [_read(timestamp, response) for response in bundle.timestamps]
    return shown


def _read(read: Callable[[bytes], JsonObject], raw: bytes) -> JsonObject:
    """Return what *read* makes of *raw*, or why it can make nothing of it."""
    try:
        return read(raw)
    except (VerificationError, InvalidInputError) as exc:
        return {"problem": _problem(exc), "sha256": hashlib.sha256(raw).hexdigest()}


def _problem(exc: DaemonError) -> JsonObject:
    check = exc.check if isinstance(exc, VerificationError) else exc.code
    return {"check": check, "message": _cut(exc.message)}


# --- parts ---------------------------------------------------------------------------------


def certificate(der: bytes) -> JsonObject:
    """Return what a certificate says.

    Raises:
        VerificationError: It cannot be read.
    """
    parsed = parse_leaf(der)
    shown: JsonObject = {
        "subject": _cut(parsed.subject.rfc4514_string()),
        "issuer": _cut(parsed.issuer.rfc4514_string()),
        "serial": f"{parsed.serial_number:x}",
        "not_before": _time(parsed.not_valid_before_utc),
        "not_after": _time(parsed.not_valid_after_utc),
        "key": key_name(key_of(parsed)),
        "sha256": hashlib.sha256(der).hexdigest(),
    }
    try:
        signer = signer_of(parsed)
    except VerificationError as exc:
        shown["signer"] = {"problem": _problem(exc)}
    else:
        shown["signer"] = {
            "identity": _cut(signer.identity),
            "identity_kind": signer.kind,
            "issuer": _cut(signer.issuer),
            "extensions": {
                name: _cut(signer.extensions[name])
                for name in EXTENSIONS
                if name != "issuer" and name in signer.extensions
            },
        }
    try:
        shown["scts"] = [
            {"log_id": sct.log_id.hex(), "time_ms": sct.timestamp_ms}
            for sct in embedded_scts(parsed)
        ]
    except VerificationError as exc:
        shown["scts"] = [{"problem": _problem(exc)}]
    return shown


def _signature(content: MessageSignature) -> JsonObject:
    shown: JsonObject = {"bytes": len(content.signature), "sha256": _sha256(content.signature)}
    if content.digest is not None:
        shown["claimed_digest"] = str(content.digest)
    return shown


def _envelope(content: DsseEnvelope) -> JsonObject:
    shown: JsonObject = {
        "payload_type": _cut(content.payload_type),
        "payload_bytes": len(content.payload),
        "payload_sha256": _sha256(content.payload),
        "signature": {"bytes": len(content.signature), "sha256": _sha256(content.signature)},
    }
    if content.keyid:
        shown["keyid"] = _cut(content.keyid)
    shown["statement"] = _read(statement, content.payload)
    return shown


def statement(payload: bytes) -> JsonObject:
    """Return what an in-toto statement says.

    Raises:
        VerificationError: It is none.
    """
    parsed = parse_statement(payload)
    shown: JsonObject = {
        "type": parsed.type,
        "predicate_type": _cut(parsed.predicate_type),
        "subject_count": len(parsed.subjects),
        "subjects": [
            {
                "name": _cut(subject.name),
                "digests": {_cut(name): _cut(value) for name, value in subject.digests.items()},
            }
            for subject in parsed.subjects[:MAX_SUBJECTS]
        ],
    }
    if len(payload) <= MAX_PREDICATE:
        whole = loads(payload, max_bytes=MAX_STATEMENT_BYTES)
        shown["predicate"] = whole.get("predicate") if isinstance(whole, dict) else None
    return shown


def _entry(entry: TlogEntry) -> JsonObject:
    shown: JsonObject = {
        "log_id": entry.log_id.hex(),
        "log_index": entry.log_index,
        "kind": _cut(entry.kind),
        "version": _cut(entry.version),
        "body_bytes": len(entry.body),
        "promise": entry.promise is not None,
    }
    if entry.integrated_time is not None:
        shown["integrated_time"] = entry.integrated_time
    proof = entry.proof
    if proof is None:
        return shown
    described: JsonObject = {
        "log_index": proof.log_index,
        "tree_size": proof.tree_size,
        "root_hash": proof.root_hash.hex(),
        "hashes": len(proof.hashes),
    }
    if proof.checkpoint is not None:
        described["checkpoint"] = _read(checkpoint, proof.checkpoint.encode("utf-8", "replace"))
    shown["proof"] = described
    return shown


def checkpoint(envelope: bytes) -> JsonObject:
    """Return what a checkpoint says, and in whose names it is signed.

    Raises:
        VerificationError: It is none.
    """
    parsed = parse_checkpoint(envelope.decode("utf-8", "replace"))
    return {
        "origin": _cut(parsed.origin),
        "size": parsed.size,
        "root_hash": parsed.root_hash.hex(),
        "signatures": [
            {"name": _cut(line.name), "key_hint": line.key_hint.hex()} for line in parsed.signatures
        ],
    }


def timestamp(response: bytes) -> JsonObject:
    """Return what a timestamp says.

    Raises:
        VerificationError: It cannot be read, or is none.
    """
    token = Token.parse(response)
    algorithm = hash_of(token.info.message_imprint.hash_algorithm)
    shown: JsonObject = {
        "time": _time(token.time),
        "serial": f"{token.info.serial_number:x}",
        "imprint": f"{algorithm.value if algorithm is not None else 'another hash'}:"
        f"{token.info.message_imprint.hashed_message.hex()}",
        "certificates": len(token.data.certificates or ()),
    }
    signer = token.signer.sid
    if isinstance(signer, asn1.IssuerAndSerial):
        shown["signer_serial"] = f"{signer.serial_number:x}"
    return shown


def public_key(raw: bytes) -> JsonObject:
    """Return what kind of key it is.

    Raises:
        InvalidInputError: It is none.
    """
    key = load_public_key(raw)
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {"key": key_name(key), "sha256": _sha256(spki)}


# --- what cannot be read as a whole --------------------------------------------------------

_READERS: dict[str, tuple[Callable[[bytes], JsonObject], ...]] = {
    "rawBytes": (certificate, public_key),
    "cert": (certificate, public_key),
    "signedTimestamp": (timestamp,),
    "payload": (statement,),
}


def _parts(raw: bytes) -> Iterator[JsonValue]:
    """Yield what can be read of a JSON value that is no bundle, by the names of its fields."""
    try:
        value = loads(raw, max_bytes=MAX_BUNDLE_BYTES, max_depth=MAX_DEPTH)
    except StrictJsonError:
        return
    pending: list[tuple[str, str, JsonValue]] = [("bundle", "", value)]
    count = 0
    while pending and count < MAX_PARTS:
        path, name, item = pending.pop()
        if isinstance(item, dict):
            children = [(f"{path}.{_cut(key)}", key, child) for key, child in item.items()]
            pending += reversed(children)
        elif isinstance(item, list):
            # An element is what its list is called, as far as readers are concerned.
            listed = list(enumerate(item[:MAX_PARTS]))
            pending += [(f"{path}[{at}]", name, child) for at, child in reversed(listed)]
        else:
            shown = _part(name, item)
            if shown is not None:
                count += 1
                yield {"path": _cut(path), **shown}


def _part(name: str, item: JsonValue) -> JsonObject | None:
    """Return what one field holds, None if people would make nothing of it."""
    if not isinstance(item, str):
        return {"value": item} if item is not None else None
    if name == "envelope":
        return {"checkpoint": _read(checkpoint, item.encode("utf-8", "replace"))}
    readers = _READERS.get(name)
    if readers is None:
        return {"value": _cut(item)}
    try:
        decoded = decode_base64(item)
    except StrictJsonError as exc:
        return {"value": _cut(item), "problem": {"check": "bundle-json", "message": str(exc)}}
    found: JsonObject = {}
    for read in readers:
        found = _read(read, decoded)
        if "problem" not in found:
            break
    return found


# --- words ---------------------------------------------------------------------------------


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 3]}..."


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _time(moment: datetime) -> str:
    return format_timestamp(moment)

"""Rekor v1: proposes an entry and reads the log's entry back, also after a lost answer.

What the log proves about the entry is checked by the bundle's verification, not here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from keylessd.core.bundle import DsseEnvelope, InclusionProof, TlogEntry
from keylessd.core.certificate import read_pem_certificate
from keylessd.core.keys import load_public_key, spki
from keylessd.core.strict_json import JsonValue, StrictJsonError, decode_base64, loads
from keylessd.errors import InvalidInputError, ServiceReplyError, ServiceUnavailableError
from keylessd.services.http import refusal
from keylessd.services.reply import MAX_REPLY, json_object, message_of

if TYPE_CHECKING:
    from keylessd.core.digests import Digest
    from keylessd.services.http import HttpClient, HttpReply
    from keylessd.services.verifier import Verifier

SERVICE = "rekor"
ENTRIES = "/api/v1/log/entries"
WRITE_DEADLINE_SECONDS = 45.0  # in all; one answer may take its 30 s
READ_DEADLINE_SECONDS = 30.0
ATTEMPTS = 3
# An entry that the log has named will be there, so it is the deadline that ends the asking.
READ_ATTEMPTS = 40
# A repeated POST is safe: if the first did arrive, the log answers 409 and names the entry.
RETRY_STATUSES = frozenset({429, 499, 500, 502, 503, 504})
# 64 hex digits of the leaf hash, which 16 of the tree's id may precede.
UUID = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{16})?[0-9a-f]{64}(?![0-9a-f])")
HASH = re.compile(r"[0-9a-f]{64}")
LEAF_HASH_DIGITS = 64
HASH_BYTES = 32
MAX_HASHES = 64
INT64_END = 1 << 63
_encode = json.JSONEncoder(separators=(",", ":")).encode


def hashedrekord_request(digest: Digest, signature: bytes, verifier: Verifier) -> bytes:
    """Return the body that proposes ``hashedrekord 0.0.1`` for an artifact's digest."""
    return _dump(
        {
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": digest.algorithm.value, "value": digest.hex}},
                "signature": {
                    "content": base64.b64encode(signature).decode(),
                    "publicKey": {"content": verifier.pem_base64},
                },
            },
        }
    )


def dsse_request(envelope: DsseEnvelope, verifier: Verifier) -> bytes:
    """Return the body that proposes ``dsse 0.0.1`` for a signed envelope."""
    signature: dict[str, JsonValue] = {"sig": base64.b64encode(envelope.signature).decode()}
    if envelope.keyid:
        signature["keyid"] = envelope.keyid
    text = json.dumps(
        {
            "payload": base64.b64encode(envelope.payload).decode(),
            "payloadType": envelope.payload_type,
            "signatures": [signature],
        }
    )
    return _dump(
        {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "proposedContent": {"envelope": text, "verifiers": [verifier.pem_base64]},
            },
        }
    )


async def add(http: HttpClient, base_url: str, request: bytes) -> TlogEntry:
    """Propose *request* and return the log's entry, new or already there.

    If the log has an equivalent entry (409), that one is fetched from *base_url*, whatever
    host the answer names, and compared with the request in every part.

    Raises:
        ServiceRefusedError, RateLimitedError, ServiceUnavailableError: no entry, or one that the
            log has named and does not show.
        ServiceReplyError: the answer is not a log entry, or not this one.
    """
    root = base_url.rstrip("/")
    reply = await http.send(
        "POST",
        root + ENTRIES,
        service=SERVICE,
        content=request,
        headers={"Content-Type": "application/json", "Accept": "application/json"},
        deadline_seconds=WRITE_DEADLINE_SECONDS,
        attempts=ATTEMPTS,
        retry_statuses=RETRY_STATUSES,
        idempotent=True,
    )
    if reply.status == 201:  # noqa: PLR2004
        return parse_entry(reply)[1]
    if reply.status == 409:  # noqa: PLR2004
        return await _fetch_existing(http, root, request, existing_uuid(reply))
    raise refusal(reply, service=SERVICE)


async def _fetch_existing(http: HttpClient, root: str, request: bytes, uuid: str) -> TlogEntry:
    reply = await http.send(
        "GET",
        f"{root}{ENTRIES}/{uuid}",
        service=SERVICE,
        headers={"Accept": "application/json"},
        deadline_seconds=READ_DEADLINE_SECONDS,
        attempts=READ_ATTEMPTS,
        # The log names an entry from when it is queued, and shows it once it is integrated. A slow
        # one gives up on its own queue (500) long before, and a repeated POST finds it there.
        retry_statuses=RETRY_STATUSES | {404},
    )
    if reply.status == 404:  # noqa: PLR2004
        raise ServiceUnavailableError(
            SERVICE,
            f"{SERVICE} at {reply.url} has the entry but has not shown it within"
            f" {READ_DEADLINE_SECONDS:g} seconds",
            url=reply.url,
            status=reply.status,
        )
    if reply.status != 200:  # noqa: PLR2004
        raise refusal(reply, service=SERVICE)
    answered, entry = parse_entry(reply)
    if answered[-LEAF_HASH_DIGITS:] != uuid[-LEAF_HASH_DIGITS:]:
        raise _bad(reply, f"the log answered with entry {answered} when asked for {uuid}")
    if hashlib.sha256(b"\x00" + entry.body).hexdigest() != uuid[-LEAF_HASH_DIGITS:]:
        raise _bad(reply, f"the body of entry {uuid} does not hash to the name of the entry")
    differing = difference(request, entry.body)
    if differing is not None:
        raise _bad(reply, f"the log's equivalent entry {uuid} differs from ours in {differing}")
    return entry


def existing_uuid(reply: HttpReply) -> str:
    """Return the UUID a 409 names, from the last part of Location or else from its message.

    Raises:
        ServiceReplyError: it names none.
    """
    # Of a URL only the last part of the path counts, so it need not be parsed: not even be a URL.
    path = re.split(r"[?#]", reply.headers.get("location", ""), maxsplit=1)[0]
    found = UUID.fullmatch(path.rsplit("/", 1)[-1]) or UUID.search(message_of(reply))
    if found is None:
        raise _bad(reply, "the log has an equivalent entry but does not name it")
    return found.group()


def parse_entry(reply: HttpReply) -> tuple[str, TlogEntry]:
    """Return (UUID, entry) of an answer that holds exactly one entry.

    Raises:
        ServiceReplyError: it has another form.
    """
    value = json_object(reply, SERVICE)
    if len(value) != 1:
        raise _bad(reply, f"the log's answer holds {len(value)} entries instead of one")
    uuid, entry = next(iter(value.items()))
    if UUID.fullmatch(uuid) is None:
        raise _bad(reply, "the log's answer names its entry by something else than a UUID")
    try:
        return uuid, _entry(_Fields(entry))
    except ValueError as exc:
        raise _bad(reply, f"the log's entry is malformed: {exc}") from exc


def _entry(fields: _Fields) -> TlogEntry:
    body = decode_base64(fields.text("body"))
    kind = _Fields(loads(body, max_bytes=MAX_REPLY))
    verification = fields.object("verification")
    proof = verification.object("inclusionProof")
    hashes = proof.member("hashes")
    if not isinstance(hashes, list) or len(hashes) > MAX_HASHES:
        raise ValueError("hashes is no list of hashes")
    return TlogEntry(
        log_index=fields.integer("logIndex"),
        log_id=_hash(fields.text("logID")),
        kind=kind.text("kind"),
        version=kind.text("apiVersion"),
        integrated_time=fields.integer("integratedTime"),
        promise=decode_base64(verification.text("signedEntryTimestamp")),
        proof=InclusionProof(
            log_index=proof.integer("logIndex"),
            root_hash=_hash(proof.text("rootHash")),
            tree_size=proof.integer("treeSize"),
            hashes=tuple(_hash(entry) for entry in hashes),
            checkpoint=proof.text("checkpoint"),
        ),
        body=body,
    )


class _Fields:
    """Typed members of a JSON object; ValueError names the member that is missing or wrong."""

    __slots__ = ("_members",)

    def __init__(self, value: JsonValue) -> None:
        if not isinstance(value, dict):
            raise ValueError("a part is no object")  # noqa: TRY004  # input, not a mistaken call
        self._members = value

    def member(self, name: str) -> JsonValue:
        return self._members.get(name)

    def text(self, name: str) -> str:
        value = self._members.get(name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name} is no text")
        return value

    def integer(self, name: str) -> int:
        value = self._members.get(name)
        if type(value) is not int or not 0 <= value < INT64_END:
            raise ValueError(f"{name} is no unsigned number")
        return value

    def object(self, name: str) -> _Fields:
        value = self._members.get(name)
        if not isinstance(value, dict):
            raise ValueError(f"{name} is no object")  # noqa: TRY004
        return _Fields(value)


def _hash(text: JsonValue) -> bytes:
    if not isinstance(text, str) or HASH.fullmatch(text) is None:
        raise ValueError("a hash is not 64 lower-case hex digits")
    return bytes.fromhex(text)


def difference(request: bytes, body: bytes) -> str | None:
    """Name the first part in which a stored body differs from what *request* proposed, or None.

    PEM text is re-written by the log, so certificates and keys are compared as DER.
    """
    try:
        sent = _Fields(loads(request, max_bytes=64 << 20))
        stored = _Fields(loads(body, max_bytes=MAX_REPLY))
        if (sent.text("kind"), sent.text("apiVersion")) != (
            stored.text("kind"),
            stored.text("apiVersion"),
        ):
            return "kind"
        theirs = stored.object("spec")
        if sent.text("kind") == "hashedrekord":
            return _hashedrekord_difference(sent.object("spec"), theirs)
        return _dsse_difference(sent.object("spec"), theirs)
    except (StrictJsonError, ValueError, InvalidInputError):
        return "form"


def _hashedrekord_difference(ours: _Fields, theirs: _Fields) -> str | None:
    mine, other = ours.object("data").object("hash"), theirs.object("data").object("hash")
    if mine.text("algorithm") != other.text("algorithm") or mine.text("value") != other.text(
        "value"
    ):
        return "digest"
    signed, stored = ours.object("signature"), theirs.object("signature")
    if signed.text("content") != stored.text("content"):
        return "signature"
    if _verifier_der(signed.object("publicKey").text("content")) != _verifier_der(
        stored.object("publicKey").text("content")
    ):
        return "certificate"
    return None


def _dsse_difference(ours: _Fields, theirs: _Fields) -> str | None:
    proposed = ours.object("proposedContent")
    envelope = _Fields(loads(proposed.text("envelope").encode(), max_bytes=64 << 20))
    payload_hash = theirs.object("payloadHash")
    payload = decode_base64(envelope.text("payload"))
    if (
        payload_hash.text("algorithm") != "sha256"
        or payload_hash.text("value") != hashlib.sha256(payload).hexdigest()
    ):
        return "payload"
    signed, stored = envelope.member("signatures"), theirs.member("signatures")
    verifiers = proposed.member("verifiers")
    if not isinstance(stored, list) or len(stored) != 1:
        return "number of signatures"
    if not isinstance(signed, list) or not isinstance(verifiers, list):
        return "form"
    other = _Fields(stored[0])
    if _Fields(signed[0]).text("sig") != other.text("signature"):
        return "signature"
    if _verifier_der(str(verifiers[0])) != _verifier_der(other.text("verifier")):
        return "certificate"
    return None


def _verifier_der(text: str) -> bytes:
    pem = decode_base64(text)
    if b"CERTIFICATE" in pem:
        return read_pem_certificate(pem).public_bytes(Encoding.DER)
    return spki(load_public_key(pem))


def _dump(value: JsonValue) -> bytes:
    return _encode(value).encode()


def _bad(reply: HttpReply, message: str) -> ServiceReplyError:
    return ServiceReplyError(SERVICE, message, url=reply.url, status=reply.status)

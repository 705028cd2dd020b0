"""Signed notes and log checkpoints (C2SP signed-note, tlog-checkpoint). Signs nothing itself."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from keylessd.core.keys import BadSignatureError, PublicKey, spki
from keylessd.core.log_signature import verify_checkpoint_signature
from keylessd.core.strict_json import StrictJsonError, decode_base64
from keylessd.errors import VerificationError

MAX_NOTE_BYTES = 1 << 20  # bytes; a checkpoint with ten witnesses has 2 KiB
MAX_SIGNATURES = 100
MAX_SIZE = (1 << 63) - 1

_HINT_BYTES = 4
_ROOT_BYTES = 32
_BODY_LINES = 3  # origin, size and root hash; extension lines may follow
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_DASH = "\N{EM DASH}"
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f]")  # signed-note: those below U+0020


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line of a note.

    Attributes:
        name: Who signed.
        key_hint: First 4 bytes of the key's identifier, see note_key_id().
        signature: The rest of the line's bytes.
    """

    name: str
    key_hint: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's statement about its own tree, not verified by being here.

    Attributes:
        origin: The log's name, for Rekor v1 followed by ``" - "`` and its tree's number.
        size: Number of leaves.
        root_hash: 32 bytes.
        signed: The bytes that the signatures are over.
        signatures: All lines, of the log, of witnesses, of strangers.
    """

    origin: str
    size: int
    root_hash: bytes
    signed: bytes
    signatures: tuple[NoteSignature, ...]


def parse_checkpoint(envelope: str) -> Checkpoint:
    """Return the checkpoint that *envelope* is the signed note of.

    C2SP tlog-checkpoint. A note that different readers split differently (a second blank line)
    and one with a malformed signature line is refused as a whole.

    Raises:
        VerificationError: ``check="checkpoint-format"``.
    """
    try:
        encoded = envelope.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise _malformed("it is not valid text") from exc
    if len(encoded) > MAX_NOTE_BYTES:
        raise _malformed(f"{len(encoded)} bytes; the limit is {MAX_NOTE_BYTES}")
    if _CONTROLS.search(envelope):
        raise _malformed("it has a control character")
    head, separator, tail = envelope.partition("\n\n")
    if not separator:
        raise _malformed("no blank line before the signatures")
    origin, size, root_hash = _parse_body(head)
    return Checkpoint(
        origin=origin,
        size=size,
        root_hash=root_hash,
        # The newline that ends the last line of the text is signed, the blank line is not.
        signed=f"{head}\n".encode(),
        signatures=_parse_signatures(tail),
    )


def verify_checkpoint(
    checkpoint: Checkpoint, *, log_name: str, key: PublicKey, key_hint: bytes, v2: bool
) -> None:
    """Verify that the log of that name and key signed the checkpoint.

    C2SP signed-note: lines of other names or hints are ignored wherever they stand, those of the
    log's own must all be right.

    Args:
        checkpoint: From parse_checkpoint().
        log_name: The log's base URL without scheme and trailing slash.
        key: The log's key.
        key_hint: 4 bytes, from the trust root or note_key_id().
        v2: Whether the log is a Rekor v2, whose origin is its name alone.

    Raises:
        VerificationError: ``check="checkpoint-origin"`` if the origin is another log's,
            ``check="checkpoint-signature"`` if the log's signature is missing or wrong.
    """
    find = _own_lines_v2 if v2 else _own_lines_v1
    own = find(checkpoint, log_name=log_name, key=key, key_hint=key_hint)
    if not own:
        raise VerificationError(
            "checkpoint-signature", f"the checkpoint has no signature of {log_name!r}"
        )
    for line in own:
        try:
            verify_checkpoint_signature(key, line.signature, checkpoint.signed)
        except BadSignatureError as exc:
            raise VerificationError(
                "checkpoint-signature", f"a signature of {log_name!r} on the checkpoint is wrong"
            ) from exc


def _own_lines_v2(
    checkpoint: Checkpoint, *, log_name: str, key: PublicKey, key_hint: bytes
) -> list[NoteSignature]:
    """Return the signatures of a Rekor v2, whose name is the origin and part of its key's id.

    A log may have been told its host's name alone, where its URL has a port or a path too.
    """
    origin = checkpoint.origin
    hints = {key_hint}
    if origin != log_name:
        if origin != host_of(log_name):
            raise _other_origin(checkpoint, log_name)
        hints.add(note_key_id(origin, key)[:_HINT_BYTES])
    return [
        line for line in checkpoint.signatures if line.name == origin and line.key_hint in hints
    ]


def _own_lines_v1(
    checkpoint: Checkpoint, *, log_name: str, key: PublicKey, key_hint: bytes
) -> list[NoteSignature]:
    """Return the signatures of a Rekor v1, which is known by its key and not by its name.

    It calls itself by a setting of its server that has the public instance's name unless changed,
    so private logs bear any name. But they bear one: that of the line is the origin's.
    """
    hints = {key_hint, hashlib.sha256(spki(key)).digest()[:_HINT_BYTES]}
    own = [line for line in checkpoint.signatures if line.key_hint in hints]
    origin = checkpoint.origin
    named = [line for line in own if origin == line.name or origin.startswith(f"{line.name} - ")]
    if own and not named:
        raise _other_origin(checkpoint, log_name)
    return named


def _other_origin(checkpoint: Checkpoint, log_name: str) -> VerificationError:
    return VerificationError(
        "checkpoint-origin",
        f"the checkpoint is of {checkpoint.origin[:200]!r}, not of {log_name!r}",
        found=checkpoint.origin[:200],
        wanted=log_name,
    )


def host_of(log_name: str) -> str:
    """Return a log's name without port and path."""
    authority = log_name.partition("/")[0]
    host, _, port = authority.rpartition(":")
    return host if host and port.isascii() and port.isdigit() else authority


def checkpoint_body(origin: str, size: int, root_hash: bytes) -> bytes:
    """Return the bytes that a log signs, without extension lines.

    Args:
        origin: The log's origin, one line.
        size: Number of leaves.
        root_hash: 32 bytes.
    """
    return f"{origin}\n{size}\n{base64.b64encode(root_hash).decode()}\n".encode()


def format_note(body: bytes, signatures: Sequence[NoteSignature]) -> str:
    """Return the signed note of *body*, which ends with a newline."""
    lines = [
        f"{_DASH} {line.name} {base64.b64encode(line.key_hint + line.signature).decode()}\n"
        for line in signatures
    ]
    return f"{body.decode()}\n{''.join(lines)}"


def note_key_id(name: str, key: PublicKey) -> bytes:
    """Return the identifier of a key on notes, 32 bytes; the first 4 are the hint.

    For Rekor v2 the whole of it is the log's id too.

    Args:
        name: The signer's name, as on its signature line.
        key: Its key. ECDSA keys are known by their own hash, without the name.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        return hashlib.sha256(spki(key)).digest()
    if isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return hashlib.sha256(name.encode() + b"\n\x01" + raw).digest()
    tagged = b"\n\xffPKIX-RSA-PKCS#1v1.5" + spki(key)
    return hashlib.sha256(name.encode() + tagged).digest()


def _parse_body(text: str) -> tuple[str, int, bytes]:
    lines = text.split("\n")
    if len(lines) < _BODY_LINES or not all(lines):
        raise _malformed("an empty or missing line before the signatures")
    origin, size, root_text = lines[:_BODY_LINES]
    if _SIZE.fullmatch(size) is None or int(size) > MAX_SIZE:
        raise _malformed("the size is not a decimal number")
    try:
        root_hash = decode_base64(root_text)
    except StrictJsonError as exc:
        raise _malformed("the root hash is not base64") from exc
    if len(root_hash) != _ROOT_BYTES:
        raise _malformed(f"the root hash has {len(root_hash)} bytes")
    return origin, int(size), root_hash


def _parse_signatures(text: str) -> tuple[NoteSignature, ...]:
    if not text.endswith("\n"):
        raise _malformed("no signature, or no newline after the last one")
    lines = text[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise _malformed(f"{len(lines)} signatures; the limit is {MAX_SIGNATURES}")
    return tuple(_parse_signature(line) for line in lines)


def _parse_signature(line: str) -> NoteSignature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != _DASH:  # noqa: PLR2004  # dash, name, base64
        raise _malformed("a signature line is not of the form dash, name, base64")
    _, name, encoded = parts
    if "+" in name or name.split() != [name]:  # empty, or with a space of any kind
        raise _malformed("the name on a signature line is not valid")
    try:
        decoded = decode_base64(encoded)
    except StrictJsonError as exc:
        raise _malformed("a signature is not base64") from exc
    if len(decoded) <= _HINT_BYTES:
        raise _malformed(f"a signature of {len(decoded)} bytes with its hint")
    return NoteSignature(name, decoded[:_HINT_BYTES], decoded[_HINT_BYTES:])


def _malformed(reason: str) -> VerificationError:
    return VerificationError("checkpoint-format", f"the checkpoint is malformed: {reason}")

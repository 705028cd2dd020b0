"""Reads an entry that a Rekor v2 log has already, with a proof made of the log's tiles.

The log's interface for writing answers 409 and gives no entry out again. Its tiles do, where they
are served beside it. What comes of it is checked by the bundle's verification, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from keylessd.core.bundle import InclusionProof, TlogEntry
from keylessd.core.merkle import HASH_BYTES, leaf_hash, root_from_inclusion_proof
from keylessd.core.note import parse_checkpoint
from keylessd.core.strict_json import JsonValue, StrictJsonError, decode_base64, loads
from keylessd.core.tiles import (
    LENGTH_BYTES,
    TILE_WIDTH,
    TileError,
    entries_tile,
    entry_of,
    inclusion_proof,
    proof_tiles,
)
from keylessd.errors import ServiceReplyError, ServiceUnavailableError, VerificationError
from keylessd.services.http import refusal
from keylessd.services.reply import MAX_REPLY
from keylessd.services.urls import shown_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keylessd.core.note import Checkpoint
    from keylessd.services.http import HttpClient, HttpReply

SERVICE = "rekor"
BASE = "/api/v2/"
CHECKPOINT = "checkpoint"
# Checkpoints come every second or so; the one with the entry may still be to come.
WAIT_SECONDS = 15.0
LOOK_SECONDS = 0.5
READ_DEADLINE_SECONDS = 10.0
ATTEMPTS = 3
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
MAX_ENTRY = (1 << 16) - 1
MAX_ENTRIES = TILE_WIDTH * (LENGTH_BYTES + MAX_ENTRY)  # bytes of a bundle of entries


async def find(
    http: HttpClient, base_url: str, *, index: int, request: bytes, log_ids: Mapping[str, bytes]
) -> TlogEntry:
    """Return the entry that *request* made before, as the log would have answered then.

    Args:
        http: Sends requests.
        base_url: The log's, as for writing.
        index: Where the log says the entry is.
        request: What was sent to write it.
        log_ids: Origin of a log's checkpoints -> its id, of all logs that are trusted.

    Raises:
        ServiceRefusedError, RateLimitedError, ServiceUnavailableError: the log cannot be read.
        ServiceReplyError: what is read is no entry, not this one, or of an unknown log.
    """
    root = base_url.rstrip("/") + BASE
    note, head = await _checkpoint_with(http, root, index)
    size, root_hash = head.size, head.root_hash
    if head.origin not in log_ids:
        raise _bad(root, "the log's checkpoint is of a log that is not trusted")
    holder = entries_tile(index, size)
    bundle = (await _read(http, root + holder.path, MAX_ENTRIES)).body
    # One after the other: they are few, and this is rare.
    tiles = {
        tile: (await _read(http, root + tile.path, TILE_WIDTH * HASH_BYTES)).body
        for tile in proof_tiles(index, size)
    }
    try:
        body = entry_of(bundle, holder, index)
        hashes = inclusion_proof(index, size, tiles)
        proven = root_from_inclusion_proof(leaf_hash(body), index, size, hashes)
    except (TileError, VerificationError) as exc:
        raise _bad(root, f"the log's tiles cannot be used: {exc}") from exc
    if proven != root_hash:
        raise _bad(root, "the log's tiles do not lead to the root of its checkpoint")
    version = _version_of(body, request)
    if version is None:
        raise _bad(root, f"the log's entry {index} is not the one that was sent")
    return TlogEntry(
        log_index=index,
        log_id=log_ids[head.origin],
        kind="hashedrekord",
        version=version,
        integrated_time=None,
        promise=None,
        proof=InclusionProof(
            log_index=index, root_hash=root_hash, tree_size=size, hashes=hashes, checkpoint=note
        ),
        body=body,
    )


async def _checkpoint_with(http: HttpClient, root: str, index: int) -> tuple[str, Checkpoint]:
    """Return the first checkpoint that covers an entry, as it is and as it reads."""
    with trio.move_on_after(WAIT_SECONDS):
        while True:
            reply = await _read(http, root + CHECKPOINT, MAX_REPLY)
            try:
                note = reply.body.decode("utf-8")
                head = parse_checkpoint(note)
            except (UnicodeDecodeError, VerificationError) as exc:
                raise _bad(root, f"the log's checkpoint is malformed: {exc}") from exc
            if head.size > index:
                return note, head
            await trio.sleep(LOOK_SECONDS)
    raise ServiceUnavailableError(
        SERVICE,
        f"no checkpoint of the log covers entry {index} after {WAIT_SECONDS:g} seconds",
        url=shown_url(root),
    )


async def _read(http: HttpClient, url: str, most: int) -> HttpReply:
    reply = await http.send(
        "GET",
        url,
        service=SERVICE,
        deadline_seconds=READ_DEADLINE_SECONDS,
        max_body=most,
        attempts=ATTEMPTS,
        retry_statuses=RETRY_STATUSES,
    )
    if reply.status != 200:  # noqa: PLR2004
        raise refusal(reply, service=SERVICE)
    return reply


def _version_of(body: bytes, request: bytes) -> str | None:
    """Return the version of an entry that holds just what was sent, or None."""
    try:
        stored, sent = loads(body, max_bytes=MAX_REPLY), loads(request, max_bytes=MAX_REPLY)
        asked = _at(sent, "hashedRekordRequestV002")
        held = _at(stored, "spec", "hashedRekordV002")
        if _at(stored, "kind") != "hashedrekord":
            return None
        mine = [_octets(asked, *path) for path in (("digest",), *_SIGNED)]
        theirs = [_octets(held, *path) for path in (("data", "digest"), *_SIGNED)]
        version = _at(stored, "apiVersion")
    except (StrictJsonError, KeyError):
        return None
    return version if mine == theirs and isinstance(version, str) else None


_SIGNED = (("signature", "content"), ("signature", "verifier", "*", "rawBytes"))


def _at(value: JsonValue, *path: str) -> JsonValue:
    for name in path:
        if not isinstance(value, dict):
            raise KeyError(name)
        if name == "*":
            # Certificate or key, whichever there is.
            forms = [key for key in ("x509Certificate", "publicKey") if key in value]
            if len(forms) != 1:
                raise KeyError(name)
            value = value[forms[0]]
        else:
            value = value[name]
    return value


def _octets(value: JsonValue, *path: str) -> bytes:
    found = _at(value, *path)
    if not isinstance(found, str):
        raise KeyError(path[-1])
    return decode_base64(found)


def _bad(url: str, message: str) -> ServiceReplyError:
    return ServiceReplyError(SERVICE, message, url=shown_url(url), status=200)

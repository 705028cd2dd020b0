"""Rekor v2: writes an entry and reads the log's answer, which holds its own proof.

What the proof is worth is checked by the bundle's verification, not here.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

from keylessd.core.bundle import TlogEntry, parse_tlog_entry
from keylessd.errors import ServiceRefusedError, ServiceReplyError, VerificationError
from keylessd.services.http import refusal
from keylessd.services.reply import json_object, message_of

if TYPE_CHECKING:
    from keylessd.core.digests import Digest
    from keylessd.services.http import HttpClient, HttpReply
    from keylessd.services.verifier import Verifier

SERVICE = "rekor"
ENTRIES = "/api/v2/log/entries"
# The log answers when the batch with the entry is integrated: 20 s have been seen. In all.
WRITE_DEADLINE_SECONDS = 50.0
ATTEMPTS = 3
# A repeated POST at worst makes a second leaf that nobody refers to, or answers 409.
RETRY_STATUSES = frozenset({429, 499, 500, 502, 503, 504})
_encode = json.JSONEncoder(separators=(",", ":")).encode
INDEX = re.compile(r"0|[1-9][0-9]{0,18}")


class EntryExistsError(ServiceRefusedError):
    """The log has this very entry; it does not answer with it again.

    Its tiles may have it. Else a signature with fresh randomness makes another entry.

    Attributes:
        index: Where the entry stands in the log, or None if the answer does not say.
    """

    def __init__(self, *, url: str, index: int | None) -> None:
        super().__init__(SERVICE, "the log already has this very entry", url=url, status=409)
        self.index = index


class LogFrozenError(ServiceRefusedError):
    """The log takes no entries any more; a newer signing configuration names its successor."""

    def __init__(self, *, url: str) -> None:
        super().__init__(
            SERVICE,
            "the log has been frozen",
            url=url,
            status=405,
            hint="run `keyless trust refresh` to learn of the log that follows it",
        )


def hashedrekord_request(digest: Digest, signature: bytes, verifier: Verifier) -> bytes:
    """Return the body that writes ``hashedrekord 0.0.2``.

    Args:
        digest: Of the artifact, or of the PAE for an envelope.
        signature: Over *digest*, raw.
        verifier: Certificate or key.
    """
    form = "x509Certificate" if verifier.is_certificate else "publicKey"
    return _encode(
        {
            "hashedRekordRequestV002": {
                "digest": base64.b64encode(digest.value).decode(),
                "signature": {
                    "content": base64.b64encode(signature).decode(),
                    "verifier": {
                        form: {"rawBytes": verifier.der_base64},
                        "keyDetails": verifier.key_details,
                    },
                },
            }
        }
    ).encode()


async def add(http: HttpClient, base_url: str, request: bytes) -> TlogEntry:
    """Write *request* and return the log's entry with its inclusion proof.

    Raises:
        EntryExistsError: the log has it already.
        LogFrozenError: the log is closed for good.
        ServiceRefusedError, RateLimitedError, ServiceUnavailableError: no entry.
        ServiceReplyError: the answer is not a log entry.
    """
    reply = await http.send(
        "POST",
        base_url.rstrip("/") + ENTRIES,
        service=SERVICE,
        content=request,
        headers={"Content-Type": "application/json", "Accept": "application/json"},
        deadline_seconds=WRITE_DEADLINE_SECONDS,
        attempts=ATTEMPTS,
        retry_statuses=RETRY_STATUSES,
        idempotent=True,
    )
    match reply.status:
        case 200 | 201:
            return parse_entry(reply)
        case 409:
            raise EntryExistsError(url=reply.url, index=_existing_index(reply))
        case 405:
            raise LogFrozenError(url=reply.url)
        case _:
            raise refusal(reply, service=SERVICE)


def parse_entry(reply: HttpReply) -> TlogEntry:
    """Return the entry of a successful answer.

    Raises:
        ServiceReplyError: the answer has another form, or lacks the proof.
    """
    try:
        entry = parse_tlog_entry(json_object(reply, SERVICE))
    except VerificationError as exc:
        raise ServiceReplyError(
            SERVICE, f"the log's entry is malformed: {exc.message}", url=reply.url, status=201
        ) from exc
    if entry.proof is None or entry.proof.checkpoint is None:
        raise ServiceReplyError(
            SERVICE, "the log's entry has no proof with a checkpoint", url=reply.url, status=201
        )
    return entry


def _existing_index(reply: HttpReply) -> int | None:
    header = reply.headers.get("x-log-index", "")
    if INDEX.fullmatch(header):
        return int(header)
    told = re.search(r"with index ([0-9]{1,19})\b", message_of(reply))
    return int(told.group(1)) if told is not None else None

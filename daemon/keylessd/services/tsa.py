"""Timestamp authorities (RFC 3161): asks for a stamp of a signature and reads the answer's form.

The stamp's own signature and chain are checked by the bundle's verification, not here.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from keylessd.core.asn1 import OID_SHA256, TimeStampResp, TstInfo, decode
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.timestamp import build_request
from keylessd.errors import ServiceReplyError
from keylessd.services.http import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from keylessd.services.http import HttpClient, HttpReply

SERVICE = "timestamp authority"
DEADLINE_SECONDS = 30.0
ATTEMPTS = 3
MAX_REPLY = 64 << 10  # bytes; a reply with its whole chain is under 8 KiB
# Asking twice makes two stamps, and either will do.
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
GRANTED = 0
NONCE_BITS = 63  # of a fresh nonce; a positive INTEGER of 8 bytes


async def stamp(
    http: HttpClient,
    url: str,
    signature: bytes,
    *,
    nonce: int,
    certificates: bool = False,
    on_retry: Callable[[], None] | None = None,
) -> bytes:
    """Return the authority's TimeStampResp (DER) over SHA-256 of *signature*.

    Args:
        http: Sends it.
        url: The full URL from the signing configuration; nothing is appended.
        signature: The raw signature bytes, never their base64 and never the artifact.
        nonce: Fresh and positive; the answer must repeat it.
        certificates: Whether the stamp shall hold its signer's certificate, which a trust root
            may leave to it.
        on_retry: Called when it failed and is asked again.

    Raises:
        ServiceRefusedError, RateLimitedError, ServiceUnavailableError: no stamp.
        ServiceReplyError: a rejection, or a stamp of something else.
    """
    request = build_request(
        digest_of(HashAlgorithm.SHA256, signature), nonce=nonce, certificates=certificates
    )
    reply = await http.send(
        "POST",
        url,
        service=SERVICE,
        content=request,
        headers={
            "Content-Type": "application/timestamp-query",
            "Accept": "application/timestamp-reply",
        },
        deadline_seconds=DEADLINE_SECONDS,
        max_body=MAX_REPLY,
        attempts=ATTEMPTS,
        retry_statuses=RETRY_STATUSES,
        idempotent=True,
        on_retry=on_retry,
    )
    # The status comes first: an error may well carry the content type of a stamp.
    if reply.status not in (200, 201):
        raise refusal(reply, service=SERVICE)
    media_type = reply.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type != "application/timestamp-reply":
        raise _bad(reply, "the answer's content type is not that of a timestamp")
    check_stamp(reply, signature, nonce=nonce)
    return reply.body


def check_stamp(reply: HttpReply, signature: bytes, *, nonce: int) -> None:
    """Check that the answer is granted and repeats our imprint and nonce.

    Raises:
        ServiceReplyError: one of them is not so.
    """
    try:
        answer = decode(TimeStampResp, reply.body)
    except ValueError as exc:
        raise _bad(reply, "the answer is not a timestamp response") from exc
    if answer.status.status != GRANTED:
        raise _bad(reply, f"the request was rejected with status {answer.status.status}")
    content = answer.token.content.content.content if answer.token is not None else None
    if content is None:
        raise _bad(reply, "the answer is granted but holds no stamp")
    try:
        info = decode(TstInfo, content)
    except ValueError as exc:
        raise _bad(reply, "the stamp cannot be read") from exc
    imprint = info.message_imprint
    if (
        imprint.hash_algorithm.algorithm != OID_SHA256
        or imprint.hashed_message != hashlib.sha256(signature).digest()
    ):
        raise _bad(reply, "the stamp is of something else than our signature")
    if info.nonce != nonce:
        raise _bad(reply, "the stamp does not repeat our nonce")


def _bad(reply: HttpReply, message: str) -> ServiceReplyError:
    return ServiceReplyError(SERVICE, f"{reply.url}: {message}", url=reply.url, status=reply.status)

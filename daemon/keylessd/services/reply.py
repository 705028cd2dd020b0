"""Reads the JSON of a service's answer, strictly. Pure: sends nothing, follows nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from keylessd.core.strict_json import JsonValue, StrictJsonError, loads
from keylessd.errors import ServiceReplyError

if TYPE_CHECKING:
    from keylessd.services.http import HttpReply

MAX_REPLY = 1 << 20  # bytes; the largest real answer, a Rekor v1 entry, is under 64 KiB


def json_object(reply: HttpReply, service: str) -> dict[str, JsonValue]:
    """Return the body as a JSON object.

    Raises:
        ServiceReplyError: the body is not strict JSON, or not an object.
    """
    try:
        value = loads(reply.body, max_bytes=MAX_REPLY)
    except StrictJsonError as exc:
        raise ServiceReplyError(
            service,
            f"{service} at {reply.url} answered {reply.status} with a body that is not JSON: {exc}",
            url=reply.url,
            status=reply.status,
        ) from exc
    if not isinstance(value, dict):
        raise ServiceReplyError(
            service,
            f"{service} at {reply.url} answered {reply.status} with JSON that is not an object",
            url=reply.url,
            status=reply.status,
        )
    return value


def message_of(reply: HttpReply) -> str:
    """Return the ``message`` of a gateway's error body, or an empty string. Never raises."""
    try:
        value = loads(reply.body, max_bytes=MAX_REPLY)
    except StrictJsonError:
        return ""
    message = value.get("message") if isinstance(value, dict) else None
    return message if isinstance(message, str) else ""


def date_of(reply: HttpReply) -> datetime | None:
    """Return the server's clock from its ``Date`` header, or None if it sent none that reads."""
    text = reply.headers.get("date")
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

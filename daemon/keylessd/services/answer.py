"""A service's answer as it came, and what it means if it is not the one hoped for. Asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from keylessd.errors import (
    DaemonError,
    RateLimitedError,
    ServiceRefusedError,
    ServiceReplyError,
    ServiceUnavailableError,
)
from keylessd.services.urls import upstream_message

MAX_RETRY_AFTER = 60.0  # seconds; a longer wish is cut to this, unless the caller says otherwise


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An answer, complete and within its cap.

    Attributes:
        status: HTTP status.
        headers: Its headers, to be looked up in lower case.
        body: Raw body.
        url: The URL that was asked, fit to be shown.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


def retry_after(reply: HttpReply, *, at_most: float = MAX_RETRY_AFTER) -> float | None:
    """Return how many seconds the service asks to wait, cut to *at_most*, or None.

    RFC 9110, 10.2.3. A date is taken relative to the answer's own ``Date``: the clocks of two
    machines need not agree.
    """
    value = reply.headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), at_most)
    until, since = _http_date(value), _http_date(reply.headers.get("date", ""))
    if until is None or since is None:
        return None
    return min(max((until - since).total_seconds(), 0.0), at_most)


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def refusal(reply: HttpReply, *, service: str, at_most: float = MAX_RETRY_AFTER) -> DaemonError:
    """Return the error that says what an unwelcome answer means; the caller raises it.

    Args:
        reply: An answer whose status is not the one hoped for.
        service: Name of the service.
        at_most: Seconds that it may ask to wait; more are cut to that.

    Returns:
        RateLimitedError for 429; ServiceUnavailableError for 408, 425 and 5xx (but 501 and 505);
        ServiceRefusedError for any other 4xx, 501 and 505; ServiceReplyError for the rest: a
        redirect is never followed, and an unexpected success is none.
    """
    status, wait = reply.status, retry_after(reply, at_most=at_most)
    said = upstream_message(reply.body)
    message = f"{service} at {reply.url} answered {status}" + (f": {said}" if said else "")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError(
            message,
            retry_after_seconds=wait,
            details={"service": service, "url": reply.url, "status": status},
        )
    if status in {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}:
        return ServiceRefusedError(service, message, url=reply.url, status=status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
    }:
        return ServiceUnavailableError(
            service, message, url=reply.url, status=status, retry_after_seconds=wait
        )
    if status >= HTTPStatus.BAD_REQUEST:
        return ServiceRefusedError(service, message, url=reply.url, status=status)
    return ServiceReplyError(service, message, url=reply.url, status=status)

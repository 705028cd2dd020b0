"""Reads the body of an answer, as it came and within a bound, and gives its connection back."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import trio

from keylessd.errors import ServiceReplyError
from keylessd.services.pieces import CLOSE_SECONDS, Pieces
from keylessd.services.urls import printable

if TYPE_CHECKING:
    import httpx


async def read_capped(
    response: httpx.Response, service: str, shown: str, *, max_body: int
) -> bytes:
    """Return the whole body.

    Args:
        response: The answer, unread.
        service: Name of the service, for errors.
        shown: The URL that was asked, fit to be shown.
        max_body: Most bytes.

    Raises:
        ServiceReplyError: it is longer, or compressed, which was not asked for: a bound on its
            size would mean nothing.
    """
    encoding = response.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in {"", "identity"}:
        raise ServiceReplyError(
            service,
            f"{service} at {shown} answered with content encoding {printable(encoding)!r}; none"
            " was asked for",
            url=shown,
            status=response.status_code,
        )
    chunks: list[bytes] = []
    size = 0
    async with aclosing(Pieces(response)) as pieces:
        async for piece in pieces:
            size += len(piece)
            if size > max_body:
                raise ServiceReplyError(
                    service,
                    f"{service} at {shown} sent more than {max_body} bytes",
                    url=shown,
                    status=response.status_code,
                )
            chunks.append(piece)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def close(response: httpx.Response) -> None:
    """Give the connection back; a request that was cancelled must do that too."""
    if not response.is_closed:
        deadline = trio.current_time() + CLOSE_SECONDS
        with trio.CancelScope(shield=True, deadline=deadline):
            await response.aclose()

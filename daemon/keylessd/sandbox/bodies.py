"""Reads request bodies up to a limit, for the sandbox's applications."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request


class BodyTooLargeError(ValueError):
    """The body is larger than the application takes."""


async def read_body(request: Request, limit: int) -> bytes:
    """Return the whole body, at most *limit* bytes.

    Raises:
        BodyTooLargeError: There is more; what follows is not read. If the length is announced,
            nothing is.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
        raise BodyTooLargeError(f"a body of {announced[:20]} bytes; the limit is {limit}")
    parts = []
    size = 0
    async with aclosing(request.stream()) as stream:
        async for part in stream:
            size += len(part)
            if size > limit:
                raise BodyTooLargeError(f"a body of more than {limit} bytes")
            parts.append(part)
    return b"".join(parts)

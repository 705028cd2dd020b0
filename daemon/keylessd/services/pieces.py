"""The body of an HTTP response, piece by piece. Does not cap, decode or close it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import httpx
import trio

CLOSE_SECONDS = 1.0  # for giving up what a cancelled request has open


class Pieces:
    """The body of a response as it comes, undecoded.

    httpx's own iterators are nested generators, which trio rightly calls leaked when a body is
    not read to its end.
    """

    __slots__ = ("_left", "_stream")

    def __init__(self, response: httpx.Response) -> None:
        """Prepare to read; *response* may be one that was made with its content in memory."""
        self._left: bytes | None = response.content if response.is_stream_consumed else None
        self._stream: AsyncIterator[bytes] | None = None
        if self._left is None and isinstance(response.stream, httpx.AsyncByteStream):
            self._stream = aiter(response.stream)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._stream is not None:
            return await anext(self._stream)
        left, self._left = self._left, None
        if left is None:
            raise StopAsyncIteration
        return left

    async def aclose(self) -> None:
        """Stop reading; the response is closed by whoever opened it."""
        stream, self._stream = self._stream, None
        if isinstance(stream, AsyncGenerator):
            with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_SECONDS):
                await stream.aclose()

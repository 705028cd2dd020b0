"""What waits to be written to one client: whole frames, in order, within a deadline.

Knows bytes only. Who has charged them to whom is the session's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio


class Outbox:
    """Frames on their way to one client.

    Args:
        stream: The connection; not closed here.
        seconds: How long the client may take to read what is flushed.
        send_now: Hands over what the connection takes without waiting, and says how many bytes
            that were. Nearly every answer goes that way, whole.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        seconds: float,
        send_now: Callable[[bytes], int] | None = None,
    ) -> None:
        self._stream = stream
        self._seconds = seconds
        self._send_now = send_now
        self._frames: deque[bytes] = deque()
        self._writing = trio.Lock()
        self._flushes: set[trio.CancelScope] = set()
        self._progress = trio.Event()
        self.unsent = 0  # bytes, those being written included

    @property
    def waiting(self) -> int:
        """Frames that nobody has begun to write."""
        return len(self._frames)

    @property
    def is_flushing(self) -> bool:
        """Whether somebody writes now, and will write what is put meanwhile."""
        return bool(self._flushes)

    def put(self, frame: bytes) -> None:
        """Queue one frame."""
        self._frames.append(frame)
        self.unsent += len(frame)

    async def flush(self) -> None:
        """Write what is queued.

        A frame cut in half would make the stream useless, so a cancel waits for the write; a
        client that does not read ends it by the deadline.

        Raises:
            trio.TooSlowError: the client did not read in time.
            trio.BrokenResourceError: it has gone.
        """
        if self._send_now is not None and not self._writing.locked():
            # Nobody else is in the middle of a frame, and nobody can come in between.
            data = b"".join(self._frames)
            self._frames.clear()
            self._sent(sent := self._send_now(data))
            if sent == len(data):
                return
            self._frames.append(data[sent:])
        deadline = trio.current_time() + self._seconds
        with trio.CancelScope(shield=True, deadline=deadline) as scope:
            self._flushes.add(scope)
            try:
                async with self._writing:
                    while self._frames:
                        data = b"".join(self._frames)
                        self._frames.clear()
                        await self._stream.send_all(data)
                        self._sent(len(data))
            finally:
                self._flushes.discard(scope)
        if scope.cancelled_caught:
            raise trio.TooSlowError

    def _sent(self, size: int) -> None:
        self.unsent -= size
        self._progress.set()
        self._progress = trio.Event()

    async def room(self, limit: int) -> None:
        """Wait until at most *limit* bytes are unsent. Somebody must be flushing."""
        while self.unsent > limit:
            await self._progress.wait()

    def cut(self) -> None:
        """Stop writing now; the stream is of no use afterwards."""
        for scope in self._flushes:
            scope.cancel()

"""Shares the event loop between processes, whatever number of connections each of them has."""

from __future__ import annotations

import trio


class Turns:
    """Lets the connections of one process do one step at a time, each in its turn.

    A process with three hundred busy connections then gets as much of the event loop as one
    with a single connection. A turn lasts until every other task that could run has run once.
    """

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def wait(self) -> None:
        """Wait for the turn; without others of the process, not at all."""
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def end(self) -> None:
        """Let everybody else run once, then pass the turn on."""
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._lock.release()

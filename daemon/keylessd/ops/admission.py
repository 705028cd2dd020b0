"""How many signatures one upstream may work on at once; the others queue, or are turned away.

A request waits here before it has a certificate, so that none grows old in the queue.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from keylessd.errors import BusyError, RateLimitedError
from keylessd.services.urls import shown_url

# A log that integrates once per second still gets a full batch of what waits for it.
MAX_ACTIVE = 256
MAX_QUEUED = 4096
MAX_WAIT_SECONDS = 60.0
RETRY_AFTER_SECONDS = 5.0


class Admission:
    """One gate per upstream; a gate without visitors is forgotten, unless it is held."""

    def __init__(
        self,
        *,
        active: int = MAX_ACTIVE,
        queued: int = MAX_QUEUED,
        wait_seconds: float = MAX_WAIT_SECONDS,
    ) -> None:
        """Store the limits, which hold for each upstream by itself.

        Args:
            active: Most requests at work.
            queued: Most requests waiting.
            wait_seconds: Longest wait.
        """
        self._active = active
        self._queued = queued
        self._wait_seconds = wait_seconds
        self._gates: dict[str, _Gate] = {}

    @asynccontextmanager
    async def enter(self, upstream: str, *, active: int | None = None) -> AsyncIterator[None]:
        """Wait for a place at *upstream*, and keep it for the block.

        Args:
            upstream: Its URL.
            active: Most requests at work there, if it bears fewer than others; always the same
                for one upstream.

        Raises:
            BusyError: too many wait already, or the wait was too long.
            RateLimitedError: the upstream asked to be left alone for longer than the wait.
        """
        gate = self._gates.get(upstream)
        if gate is None:
            self._prune()
            gate = self._gates[upstream] = _Gate(min(self._active, active or self._active))
        gate.visitors += 1
        try:
            if gate.visitors > gate.active + self._queued:
                raise BusyError(
                    f"{self._queued} requests wait for {shown_url(upstream)} already",
                    retry_after_seconds=RETRY_AFTER_SECONDS,
                )
            await self._wait(upstream, gate)
            try:
                yield
            finally:
                gate.places.release()
        finally:
            gate.visitors -= 1
            if gate.visitors == 0 and gate.held_until <= trio.current_time():
                self._gates.pop(upstream, None)

    def hold(self, upstream: str, seconds: float) -> None:
        """Let nobody pass to *upstream* for a while: it asked for that."""
        gate = self._gates.get(upstream)
        if gate is not None:
            gate.held_until = max(gate.held_until, trio.current_time() + seconds)

    def queued(self) -> int:
        """Return how many requests wait, for status."""
        return sum(max(0, gate.visitors - gate.active) for gate in self._gates.values())

    def _prune(self) -> None:
        # Gates that were left while held; requests may name any number of upstreams.
        now = trio.current_time()
        for upstream, gate in list(self._gates.items()):
            if gate.visitors == 0 and gate.held_until <= now:
                del self._gates[upstream]

    async def _wait(self, upstream: str, gate: _Gate) -> None:
        if gate.held_until <= trio.current_time():
            with suppress(trio.WouldBlock):
                gate.places.acquire_nowait()
                return
        deadline = trio.current_time() + self._wait_seconds
        if gate.held_until > deadline:
            raise RateLimitedError(
                f"{shown_url(upstream)} asked to be left alone",
                retry_after_seconds=gate.held_until - trio.current_time(),
            )
        with trio.CancelScope(deadline=deadline) as waiting:
            if gate.held_until > trio.current_time():
                await trio.sleep_until(gate.held_until)
            await gate.places.acquire()
        if waiting.cancelled_caught:
            raise BusyError(
                f"no place at {shown_url(upstream)} within {self._wait_seconds:g} seconds",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )


class _Gate:
    """One upstream: its places, who is at it, and until when it is closed."""

    __slots__ = ("active", "held_until", "places", "visitors")

    def __init__(self, active: int) -> None:
        self.active = active
        self.places = trio.Semaphore(active)
        self.visitors = 0
        self.held_until = float("-inf")

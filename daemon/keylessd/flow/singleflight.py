"""At most one call at a time per key; everybody who asks meanwhile gets that call's result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class CallAbandonedError(Exception):
    """The nursery that ran the call ended first: the daemon is shutting down."""


class SingleFlight(Generic[T]):
    """Merges concurrent calls with the same key.

    A call runs in the nursery given at construction, not in the task of whoever asked first:
    that one may be cancelled while others still wait. When the last waiter leaves, the call is
    cancelled. Neither values nor errors are remembered.

    Keys decide what is shared. Whatever belongs to a user carries the uid in its key.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._calls: dict[Hashable, _Call[T]] = {}

    async def run(self, key: Hashable, fn: Callable[[], Awaitable[T]]) -> T:
        """Return what *fn* returns, or raise what it raises, sharing a call that is in flight.

        The error of a shared call is one object raised in several tasks.

        Args:
            key: Calls with equal keys are one call.
            fn: Started if no call with this key is in flight; else not used.

        Raises:
            CallAbandonedError: If the nursery was cancelled before the call ended.
        """
        call = self._calls.get(key)
        if call is None:
            call = _Call()
            try:
                self._nursery.start_soon(self._drive, key, call, fn)
            except RuntimeError as exc:  # trio's word for: this nursery has ended
                raise CallAbandonedError("too late for another call") from exc
            self._calls[key] = call
        call.waiters += 1
        try:
            await call.done.wait()
        finally:
            call.waiters -= 1
            if call.waiters == 0 and not call.done.is_set():
                call.scope.cancel()
                # A caller who comes now must not join a call that is being cancelled.
                self._forget(key, call)
        if call.error is not None:
            raise call.error
        if not call.values:
            raise CallAbandonedError("the call was abandoned")
        return call.values[0]

    def in_flight(self, key: Hashable) -> bool:
        """Return whether a call with this key is running and would be joined."""
        return key in self._calls

    async def _drive(self, key: Hashable, call: _Call[T], fn: Callable[[], Awaitable[T]]) -> None:
        try:
            with call.scope:
                call.values.append(await fn())
        except Exception as exc:  # noqa: BLE001  # not swallowed: raised in every waiter
            call.error = exc
        finally:
            self._forget(key, call)
            call.done.set()

    def _forget(self, key: Hashable, call: _Call[T]) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]


class _Call(Generic[T]):
    """One call in flight: its scope, who waits, and in the end its result."""

    __slots__ = ("done", "error", "scope", "values", "waiters")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.waiters = 0
        self.values: list[T] = []
        self.error: Exception | None = None

"""Remembers finished requests by the key their caller gave them, and joins those in flight."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from keylessd.errors import IdempotencyConflictError, ShuttingDownError

T = TypeVar("T")

KEEP_SECONDS = 600.0  # a client that retries does so within minutes
MAX_KEPT = 4096  # results
MAX_KEPT_BYTES = 64 << 20


class Idempotency(Generic[T]):
    """One result per key for a while. Failures are not kept: the retry is what keys are for.

    A call runs in the nursery given at construction, so a client that comes back meets the call
    its lost connection began. When the last waiter leaves, the call is cancelled; should it be
    past its point of no return it ends nonetheless, and its result is kept.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        size_of: Callable[[T], int],
        keep_seconds: float = KEEP_SECONDS,
        capacity: int = MAX_KEPT,
        capacity_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        """Store the limits.

        Args:
            nursery: Runs the calls.
            size_of: Bytes that a result occupies.
            keep_seconds: How long a result is remembered, on trio's clock.
            capacity: Most results; the oldest goes first.
            capacity_bytes: Most bytes of all results.
        """
        self._nursery = nursery
        self._size_of = size_of
        self._keep_seconds = keep_seconds
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._running: dict[Hashable, _Call[T]] = {}
        self._kept: dict[Hashable, _Kept[T]] = {}  # oldest first
        self._kept_bytes = 0

    async def run(self, key: Hashable, fingerprint: bytes, fn: Callable[[], Awaitable[T]]) -> T:
        """Return the result kept for *key*, or that of the call in flight, or of a new one.

        Args:
            key: Owner and the caller's key.
            fingerprint: Hash of all that makes two requests the same.
            fn: Does the work.

        Raises:
            IdempotencyConflictError: the key stands for another request.
            ShuttingDownError: the nursery ended first.
        """
        while True:
            self._expire()
            kept = self._kept.get(key)
            if kept is not None:
                _check_same(kept.fingerprint, fingerprint)
                return kept.result
            call = self._running.get(key)
            if call is None:
                call = self._start(key, fingerprint, fn)
            _check_same(call.fingerprint, fingerprint)
            await call.wait()
            if call.results:
                return call.results[0]
            if call.error is not None:
                raise call.error
            if not call.scope.cancelled_caught:
                raise ShuttingDownError("the daemon is stopping")
            # Everybody who waited for it had left before we came: begin again.

    def _start(self, key: Hashable, fingerprint: bytes, fn: Callable[[], Awaitable[T]]) -> _Call[T]:
        call: _Call[T] = _Call(fingerprint)
        try:
            self._nursery.start_soon(self._drive, key, call, fn)
        except RuntimeError as exc:  # the nursery takes nothing new
            raise ShuttingDownError("the daemon is stopping") from exc
        self._running[key] = call
        return call

    async def _drive(self, key: Hashable, call: _Call[T], fn: Callable[[], Awaitable[T]]) -> None:
        try:
            with call.scope:
                result = await fn()
                call.results.append(result)
                self._keep(key, call.fingerprint, result)
        except Exception as exc:  # noqa: BLE001  # not swallowed: raised in every waiter
            call.error = exc
        finally:
            del self._running[key]
            call.done.set()

    def _keep(self, key: Hashable, fingerprint: bytes, result: T) -> None:
        size = self._size_of(result)
        if size > self._capacity_bytes:
            return
        self._kept[key] = _Kept(fingerprint, result, size, trio.current_time() + self._keep_seconds)
        self._kept_bytes += size
        self._expire()

    def _expire(self) -> None:
        now = trio.current_time()
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            fits = len(self._kept) <= self._capacity and self._kept_bytes <= self._capacity_bytes
            if fits and oldest.until > now:
                return
            del self._kept[key]
            self._kept_bytes -= oldest.size


def _check_same(known: bytes, asked: bytes) -> None:
    if known != asked:
        raise IdempotencyConflictError(
            "the idempotency key was used for another request",
            hint="take a new key for each request that differs in anything",
        )


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    fingerprint: bytes
    result: T
    size: int  # bytes
    until: float  # on trio's clock


class _Call(Generic[T]):
    """One call in flight, and in the end its result."""

    __slots__ = ("done", "error", "fingerprint", "results", "scope", "waiters")

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = fingerprint
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.waiters = 0
        self.results: list[T] = []
        self.error: Exception | None = None

    async def wait(self) -> None:
        """Wait for the end; the last waiter who leaves early cancels the call."""
        self.waiters += 1
        try:
            await self.done.wait()
        finally:
            self.waiters -= 1
            if self.waiters == 0 and not self.done.is_set():
                self.scope.cancel()

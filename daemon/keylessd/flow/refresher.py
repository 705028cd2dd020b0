"""Holds one value that expires and renews it before it does. Does not persist it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Dated(Generic[T]):
    """A value with two UTC times: renew it from the first, never use it from the second."""

    value: T
    renew_after: datetime
    expires: datetime


class Refresher(Generic[T]):
    """Serves the held value; from its ``renew_after`` on, one renewal runs in the background.

    Between ``renew_after`` and ``expires`` callers get the held value at once. Past ``expires``,
    or with nothing held, every caller waits for one fetch and gets its error.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Dated[T]]],
        *,
        now: Callable[[], datetime],
        nursery: trio.Nursery,
        expected: tuple[type[Exception], ...],
        retry_seconds: float = 30.0,
    ) -> None:
        """Store the parts; nothing is fetched yet.

        Args:
            fetch: Gets a new value. The caller's deadline applies to a fetch it waits for, so
                fetch has one of its own for the background.
            now: Wall clock, aware UTC.
            nursery: Runs background renewals.
            expected: Errors that a background renewal may meet; others are bugs and propagate.
            retry_seconds: Pause after a failed background renewal.
        """
        self._fetch = fetch
        self._now = now
        self._nursery = nursery
        self._expected = expected
        self._retry_seconds = retry_seconds
        self._held: Dated[T] | None = None
        self._cold = trio.Lock()
        self._renewing = False
        self._quiet_until = -float("inf")  # trio.current_time()

    @property
    def held(self) -> Dated[T] | None:
        """What is held, expired or not."""
        return self._held

    def put(self, dated: Dated[T]) -> None:
        """Hold *dated* from now on."""
        self._held = dated

    def drop(self) -> None:
        """Forget the held value; the next get() fetches."""
        self._held = None

    async def get(self) -> T:
        """Return a value that has not expired, fetching one if need be."""
        held, now = self._held, self._now()
        if held is not None and now < held.expires:
            if now >= held.renew_after:
                self._renew_soon()
            return held.value
        async with self._cold:
            held = self._held
            if held is None or self._now() >= held.expires:
                held = self._held = await self._fetch()
            return held.value

    def _renew_soon(self) -> None:
        if not self._renewing and trio.current_time() >= self._quiet_until:
            self._renewing = True
            self._nursery.start_soon(self._renew)

    async def _renew(self) -> None:
        try:
            self._held = await self._fetch()
        except self._expected:
            self._quiet_until = trio.current_time() + self._retry_seconds
        finally:
            self._renewing = False

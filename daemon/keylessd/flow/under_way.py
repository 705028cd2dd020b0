"""Tasks in a nursery of somebody else's that can be waited for: all that are under way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class UnderWay:
    """Starts tasks and counts them.

    Args:
        nursery: Runs them.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._count = 0
        self._all_done = trio.Event()

    def start_soon(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        """Start ``work(*args)``.

        Raises:
            RuntimeError: the nursery has ended.
        """
        self._nursery.start_soon(self._counted, work, *args)
        self._count += 1

    async def wait(self) -> None:
        """Wait until there is none, however many are started meanwhile."""
        while self._count:
            self._all_done = trio.Event()
            await self._all_done.wait()

    async def _counted(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        try:
            await work(*args)
        finally:
            self._count -= 1
            if not self._count:
                self._all_done.set()

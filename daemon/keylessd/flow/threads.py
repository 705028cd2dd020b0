"""Runs blocking work in worker threads, each kind of it under its own limit."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import trio

T = TypeVar("T")

# How many threads each kind of work may hold at once. trio's own default of 40 is never used:
# on a small machine 40 verifications at once only lengthen each other.
LIMITS: Mapping[str, int] = {
    "verify": os.cpu_count() or 1,  # pure computation
    "hash": 2,
    "disk": 2,  # small local files
    "keyring": 1,  # D-Bus; one, so that what is written later is what stays
    "passphrase": 1,  # slow and large on purpose: one guess at a time
    "tuf": 4,  # waits for the network: one per instance, so that a dead mirror blocks no other
}


class RunSync(Protocol):
    """What ``trio.to_thread.run_sync`` is, as far as it is used here."""

    def __call__(
        self,
        sync_fn: Callable[..., T],
        *args: object,
        limiter: trio.CapacityLimiter | None = None,
        abandon_on_cancel: bool = False,
    ) -> Awaitable[T]:
        """Run ``sync_fn(*args)`` in a thread."""
        ...


async def run_inline(
    sync_fn: Callable[..., T],
    *args: object,
    limiter: trio.CapacityLimiter | None = None,
    abandon_on_cancel: bool = False,  # noqa: ARG001  # the signature is RunSync's
) -> T:
    """Run the work in the calling task: for work under 1 ms, and for tests on virtual time.

    A thread is invisible to trio's autojump clock, which would then let every timeout pass.
    """
    if limiter is None:
        await trio.lowlevel.checkpoint()
        return sync_fn(*args)
    async with limiter:
        return sync_fn(*args)


class Threads:
    """Worker threads by kind of work."""

    def __init__(
        self,
        run_sync: RunSync = trio.to_thread.run_sync,
        limiters: Mapping[str, int] = LIMITS,
    ) -> None:
        """Store the limits; no thread is started.

        Args:
            run_sync: ``trio.to_thread.run_sync``, or ``run_inline`` in tests.
            limiters: Number of threads by kind of work.
        """
        self._run_sync = run_sync
        self._limiters = {kind: trio.CapacityLimiter(count) for kind, count in limiters.items()}

    async def run(
        self, kind: str, fn: Callable[..., T], *args: object, abandon_on_cancel: bool = False
    ) -> T:
        """Return ``fn(*args)``, run in a thread once the limit of *kind* lets it.

        Args:
            kind: A key of the limits.
            fn: Blocking function.
            *args: Its arguments.
            abandon_on_cancel: Whether a cancelled caller may leave the thread running. Only for
                pure computation: whatever writes must be waited for.

        Raises:
            KeyError: If there is no such kind of work.
        """
        limiter = self._limiters[kind]
        return await self._run_sync(fn, *args, limiter=limiter, abandon_on_cancel=abandon_on_cancel)

"""Runs short computations that wait at the same time side by side, one of them on the event loop.

A thread of its own for each computation of a millisecond costs more than the work: the event loop
goes on meanwhile, and the two take the interpreter's lock from each other at every system call and
every signature check. Here the event loop stands still and works along, so that the lock changes
hands in the signature checks alone, and several cores check signatures (decisions/0021).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import trio

T = TypeVar("T")

# Computations at once, at most: while they run, nobody else is served.
MOST: Final = 8
# Threads beside the event loop's. Beyond a few, all would wait for the interpreter's lock.
HELPERS: Final = min((os.cpu_count() or 1) - 1, 3)
# Seconds since the last computation after which the next one waits for no company.
QUIET: Final = 0.002
# Rounds of the event loop without another computation, after which none is expected: one request
# of each process is taken in a round, and its task runs in the next.
ROUNDS: Final = 4


class _Job(Generic[T]):
    """A computation and what came of it.

    Attributes:
        called: Set when it was computed, or when whoever wants it is to lead the next ones.
        done: Whether it was computed.
    """

    __slots__ = ("_args", "_error", "_fn", "_value", "called", "done")

    def __init__(self, fn: Callable[..., T], args: tuple[object, ...]) -> None:
        self._fn = fn
        self._args = args
        self._value: T
        self._error: BaseException | None = None
        self.called = trio.Event()
        self.done = False

    def run(self) -> None:
        """Compute; raises nothing."""
        try:
            self._value = self._fn(*self._args)
        except BaseException as exc:  # noqa: BLE001  # raised again by result()
            self._error = exc
        self.done = True

    def result(self) -> T:
        """Return the value, or raise what the computation raised."""
        if self._error is None:
            return self._value
        try:
            raise self._error
        finally:
            # The traceback holds this frame, and so would hold everything in it.
            del self


class Together:
    """Gathers computations and runs them side by side while the event loop waits.

    For pure ones of some milliseconds at most. Not for threads: all calls come from trio tasks.
    """

    def __init__(self, *, helpers: int = HELPERS, most: int = MOST) -> None:
        """Start nothing.

        Args:
            helpers: Threads beside the event loop's, of trio's own stock.
            most: Computations for which the event loop stands still at most.
        """
        self._helpers = helpers
        self._most = most
        self._waiting: list[_Job[Any]] = []
        self._is_led = False
        self._ended_at = float("-inf")

    async def run(self, fn: Callable[..., T], *args: object) -> T:
        """Return ``fn(*args)``, computed with those that others want now.

        A caller that is cancelled while others are computed is not computed any more.
        """
        job = _Job(fn, args)
        self._waiting.append(job)
        if self._is_led:
            try:
                await job.called.wait()
            except trio.Cancelled:
                if not job.done:
                    self._waiting.remove(job)
                    if job.called.is_set():
                        self._call_a_leader()
                raise
            if job.done:
                return job.result()
        self._is_led = True
        # Not to be cancelled: the others rely on whoever comes first.
        with trio.CancelScope(shield=True):
            await self._gather()
        self._compute()
        return job.result()

    async def _gather(self) -> None:
        if trio.current_time() - self._ended_at > QUIET:
            return
        rounds = 0
        while rounds < ROUNDS and len(self._waiting) < self._most:
            before = len(self._waiting)
            await trio.lowlevel.checkpoint()
            rounds = rounds + 1 if len(self._waiting) == before else 0

    def _compute(self) -> None:
        """Run those that have waited longest, the leader's among them."""
        jobs, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        if len(jobs) == 1:
            jobs[0].run()
        else:
            _side_by_side(jobs, helpers=min(self._helpers, len(jobs) - 1))
        for job in jobs:
            job.called.set()
        self._ended_at = trio.current_time()
        self._call_a_leader()

    def _call_a_leader(self) -> None:
        """Let whoever has waited longest go on, if anybody waits."""
        self._is_led = bool(self._waiting)
        if self._waiting:
            self._waiting[0].called.set()


def _side_by_side(jobs: list[_Job[Any]], *, helpers: int) -> None:
    """Run the jobs in this thread and in helpers, and wait for all of them."""
    left = deque(jobs)
    elsewhere = threading.Semaphore(0)

    def help_along() -> None:
        while left:
            try:
                job = left.popleft()
            except IndexError:
                return
            job.run()
            elsewhere.release()

    for _ in range(helpers):
        trio.lowlevel.start_thread_soon(help_along, lambda _: None)
    here = 0
    while left:
        try:
            job = left.popleft()
        except IndexError:
            break
        here += 1
        job.run()
    for _ in range(len(jobs) - here):
        elsewhere.acquire()

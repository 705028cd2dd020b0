"""One result per key: kept for a while, shared in flight, never for another request."""

from __future__ import annotations

import pytest
import trio

from keylessd.errors import IdempotencyConflictError, ServiceRefusedError, ShuttingDownError
from keylessd.ops.idempotency import Idempotency


class Work:
    """Counts its runs; each takes a second."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self.error = error

    async def __call__(self) -> str:
        self.runs += 1
        await trio.sleep(1)
        if self.error is not None:
            raise self.error
        return "result"


def kept(nursery: trio.Nursery, **limits) -> Idempotency[str]:
    return Idempotency(nursery, size_of=len, **limits)


async def test_a_result_is_kept_for_a_while(autojump_clock):
    async with trio.open_nursery() as nursery:
        idempotency, work = kept(nursery, keep_seconds=60), Work()
        assert await idempotency.run("k", b"f", work) == "result"
        await trio.sleep(59)
        assert await idempotency.run("k", b"f", work) == "result"
        assert work.runs == 1
        await trio.sleep(2)
        await idempotency.run("k", b"f", work)
        assert work.runs == 2


@pytest.mark.parametrize("limits", [{"capacity": 2}, {"capacity_bytes": 12}])
async def test_memory_is_bounded_oldest_first(autojump_clock, limits):
    async with trio.open_nursery() as nursery:
        idempotency, work = kept(nursery, **limits), Work()
        for key in "abc":
            await idempotency.run(key, b"f", work)
        assert work.runs == 3
        await idempotency.run("c", b"f", work)
        await idempotency.run("b", b"f", work)
        assert work.runs == 3
        await idempotency.run("a", b"f", work)
        assert work.runs == 4


async def test_what_is_too_large_is_not_kept(autojump_clock):
    async with trio.open_nursery() as nursery:
        idempotency, work = kept(nursery, capacity_bytes=3), Work()
        await idempotency.run("k", b"f", work)
        await idempotency.run("k", b"f", work)
        assert work.runs == 2


@pytest.mark.parametrize("is_running", [True, False])
async def test_a_key_for_another_request_is_a_conflict(autojump_clock, is_running):
    async with trio.open_nursery() as nursery:
        idempotency, work = kept(nursery), Work()
        if is_running:
            nursery.start_soon(idempotency.run, "k", b"f", work)
            await trio.sleep(0.5)
        else:
            await idempotency.run("k", b"f", work)
        with pytest.raises(IdempotencyConflictError):
            await idempotency.run("k", b"g", work)
        assert work.runs == 1


async def test_an_error_reaches_all_and_is_not_kept(autojump_clock):
    async with trio.open_nursery() as nursery:
        idempotency, work = kept(nursery), Work(ServiceRefusedError("log", "no"))
        errors = []

        async def one() -> None:
            try:
                await idempotency.run("k", b"f", work)
            except ServiceRefusedError as exc:
                errors.append(exc)

        async with trio.open_nursery() as callers:
            for _ in range(3):
                callers.start_soon(one)
        assert (len(errors), work.runs) == (3, 1)
        work.error = None
        assert await idempotency.run("k", b"f", work) == "result"


async def test_the_last_who_leaves_cancels_and_the_next_begins_anew(autojump_clock):
    async with trio.open_nursery() as nursery:
        idempotency, work = kept(nursery), Work()
        with trio.move_on_after(0.5):
            await idempotency.run("k", b"f", work)
        assert await idempotency.run("k", b"f", work) == "result"
        assert work.runs == 2


async def test_one_who_leaves_does_not_stop_the_others(autojump_clock):
    async with trio.open_nursery() as nursery:
        idempotency, work = kept(nursery), Work()
        results = []

        async def stays() -> None:
            results.append(await idempotency.run("k", b"f", work))

        async with trio.open_nursery() as callers:
            callers.start_soon(stays)
            with trio.move_on_after(0.5):
                await idempotency.run("k", b"f", work)
        assert (results, work.runs) == (["result"], 1)


async def test_who_comes_back_meets_the_call_that_could_not_be_stopped(autojump_clock):
    runs = []

    async def unstoppable() -> str:
        runs.append(1)
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
        return "result"

    async with trio.open_nursery() as nursery:
        idempotency = kept(nursery)
        with trio.move_on_after(1):
            await idempotency.run("k", b"f", unstoppable)
        assert await idempotency.run("k", b"f", unstoppable) == "result"
        assert len(runs) == 1


async def test_a_daemon_that_stops_tells_those_who_wait(autojump_clock):
    async with trio.open_nursery() as callers, trio.open_nursery() as nursery:
        idempotency, work = kept(nursery), Work()

        async def one() -> None:
            with pytest.raises(ShuttingDownError):
                await idempotency.run("k", b"f", work)

        callers.start_soon(one)
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()
    with pytest.raises(ShuttingDownError):
        await idempotency.run("k", b"f", work)

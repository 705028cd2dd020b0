"""One call per key: shared, cancelled only with its last waiter, never remembered."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from keylessd.flow.singleflight import CallAbandonedError, SingleFlight


class Work:
    def __init__(self, seconds=1.0, error=None):
        self.calls = self.cancelled = 0
        self.seconds, self.error = seconds, error

    async def __call__(self):
        self.calls += 1
        try:
            await trio.sleep(self.seconds)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self.calls


async def test_waiters_share_one_call(autojump_clock):
    work, results = Work(), []

    async def ask(flights):
        results.append(await flights.run("k", work))

    async with trio.open_nursery() as background, trio.open_nursery() as nursery:
        flights = SingleFlight(background)
        for _ in range(10):
            nursery.start_soon(ask, flights)
    assert results == [1] * 10


async def test_keys_are_apart_and_values_not_remembered(autojump_clock):
    work = Work()
    async with trio.open_nursery() as background:
        flights = SingleFlight(background)
        assert await flights.run("a", work) == 1
        assert await flights.run("a", work) == 2
        assert await flights.run("b", work) == 3
        assert not flights.in_flight("a")


async def test_first_waiter_may_leave(autojump_clock):
    work, results = Work(), []

    async def stay(flights):
        results.append(await flights.run("k", work))

    async with trio.open_nursery() as background, trio.open_nursery() as nursery:
        flights = SingleFlight(background)
        with trio.move_on_after(0.5):
            nursery.start_soon(stay, flights)
            await flights.run("k", work)
    assert results == [1]
    assert work.cancelled == 0


async def test_last_waiter_cancels_call(autojump_clock):
    work = Work(seconds=100)
    async with trio.open_nursery() as background:
        flights = SingleFlight(background)
        with trio.move_on_after(1):
            await flights.run("k", work)
        await trio.testing.wait_all_tasks_blocked()
        assert work.cancelled == 1
        work.seconds = 1
        assert await flights.run("k", work) == 2  # a new call, not the cancelled one


async def test_error_reaches_all_and_is_not_remembered(autojump_clock):
    work, errors = Work(error=OSError("down")), []

    async def ask(flights):
        with pytest.raises(OSError, match="down") as caught:
            await flights.run("k", work)
        errors.append(caught.value)

    async with trio.open_nursery() as background:
        flights = SingleFlight(background)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask, flights)
        work.error = None
        assert await flights.run("k", work) == 2
    assert len(errors) == 3


async def test_shutdown_wakes_waiters(autojump_clock):
    outcomes = []

    async def ask(flights):
        try:
            await flights.run("k", Work(seconds=100))
        except CallAbandonedError:
            outcomes.append("abandoned")

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as background:
            flights = SingleFlight(background)
            nursery.start_soon(ask, flights)
            await trio.testing.wait_all_tasks_blocked()
            background.cancel_scope.cancel()
        with pytest.raises(CallAbandonedError):
            await flights.run("k", Work())  # and a late comer is told so, too
    assert outcomes == ["abandoned"]

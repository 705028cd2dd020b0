"""Backoff, token bucket and threads."""

from __future__ import annotations

import random
import threading
from itertools import islice

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from keylessd.flow.backoff import backoff, jittered
from keylessd.flow.bucket import TokenBucket
from keylessd.flow.threads import Threads, run_inline
from keylessd.flow.under_way import UnderWay


class Highest(random.Random):
    def uniform(self, a, b):
        return b


def test_ceiling_doubles_up_to_the_cap():
    assert list(islice(backoff(1, 10, Highest()), 6)) == [1, 2, 4, 8, 10, 10]


def test_delays_are_spread_over_the_whole_range():
    delays = list(islice(backoff(8, 8, random.Random(1)), 500))
    assert min(delays) < 0.5
    assert max(delays) > 7.5


def test_jitter_stays_within_its_fraction():
    rng = random.Random(2)
    values = [jittered(100, 0.1, rng) for _ in range(500)]
    assert 90 <= min(values) < 92
    assert 108 < max(values) <= 110


def test_bucket_says_how_long_to_wait():
    bucket = TokenBucket(rate=2, burst=3)
    assert [bucket.take(10.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take(10.4) == pytest.approx(0.1)
    assert bucket.take(10.5) == 0
    assert not bucket.is_full(11.0)
    assert bucket.is_full(12.5)


def test_bucket_ignores_time_that_goes_back():
    bucket = TokenBucket(rate=1, burst=1)
    assert bucket.take(10) == 0
    assert bucket.take(5) == 1
    assert bucket.take(10.5) == 0.5


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0.5)])
def test_bucket_refuses_nonsense(rate, burst):
    with pytest.raises(ValueError, match="rate"):
        TokenBucket(rate, burst)


@given(
    rate=st.floats(0.1, 100),
    burst=st.floats(1, 50),
    steps=st.lists(st.floats(0, 5), max_size=60),
)
def test_bucket_never_gives_more_than_it_may(rate, burst, steps):
    bucket, now, taken = TokenBucket(rate, burst), 0.0, 0
    for step in steps:
        now += step
        taken += bucket.take(now) == 0
    assert taken <= burst + rate * now + 1e-6


async def test_threads_keep_to_their_limit():
    threads = Threads(limiters={"slow": 1})
    inside, most, lock = 0, 0, threading.Lock()
    ready = threading.Event()

    def work():
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        ready.wait(5)
        with lock:
            inside -= 1
        return threading.current_thread() is not threading.main_thread()

    results = []

    async def one():
        results.append(await threads.run("slow", work))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        ready.set()
    assert results == [True] * 4
    assert most == 1


async def test_threads_know_their_kinds(autojump_clock):
    threads = Threads(run_inline)
    assert await threads.run("hash", int, "7") == 7
    with pytest.raises(KeyError):
        await threads.run("coffee", int)


async def test_inline_work_runs_in_the_callers_thread(autojump_clock):
    assert await run_inline(threading.current_thread) is threading.main_thread()
    with pytest.raises(ZeroDivisionError):
        await Threads(run_inline).run("tuf", divmod, 1, 0)


async def test_all_that_is_under_way_is_waited_for(autojump_clock):
    async with trio.open_nursery() as nursery:
        tasks = UnderWay(nursery)
        await tasks.wait()  # nothing is

        async def work(seconds: float) -> None:
            await trio.sleep(seconds)
            if seconds > 1:
                tasks.start_soon(work, seconds - 1)

        began = trio.current_time()
        tasks.start_soon(work, 3.0)
        await tasks.wait()
        assert trio.current_time() - began == pytest.approx(6.0)


async def test_what_was_cancelled_is_waited_for_no_more(autojump_clock):
    async with trio.open_nursery() as nursery:
        tasks = UnderWay(nursery)
        tasks.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(5):
            await tasks.wait()

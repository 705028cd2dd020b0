"""A value between its two times: served at once, renewed behind the back, never used expired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio

from keylessd.flow.refresher import Dated, Refresher

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


def now():
    return EPOCH + timedelta(seconds=trio.current_time())


class Source:
    def __init__(self):
        self.fetches = 0
        self.error = None

    async def __call__(self):
        self.fetches += 1
        await trio.sleep(1)
        if self.error is not None:
            raise self.error
        time = now()
        return Dated(self.fetches, time + timedelta(seconds=300), time + timedelta(seconds=600))


def refresher(source, nursery):
    return Refresher(source, now=now, nursery=nursery, expected=(OSError,), retry_seconds=30)


async def test_cold_callers_wait_for_one_fetch(autojump_clock):
    source, values = Source(), []
    async with trio.open_nursery() as nursery:
        held = refresher(source, nursery)

        async def ask():
            values.append(await held.get())

        async with trio.open_nursery() as callers:
            for _ in range(5):
                callers.start_soon(ask)
    assert values == [1] * 5


async def test_soft_end_renews_in_the_background(autojump_clock):
    source = Source()
    async with trio.open_nursery() as nursery:
        held = refresher(source, nursery)
        await held.get()
        await trio.sleep(299)
        assert (await held.get(), source.fetches) == (1, 1)
        await trio.sleep(2)
        before = trio.current_time()
        assert await held.get() == 1
        assert await held.get() == 1
        assert trio.current_time() == before
        await trio.sleep(2)
        assert (await held.get(), source.fetches) == (2, 2)


async def test_failed_renewal_is_quiet_for_a_while(autojump_clock):
    source = Source()
    async with trio.open_nursery() as nursery:
        held = refresher(source, nursery)
        await held.get()
        await trio.sleep(310)
        source.error = OSError("down")
        for _ in range(20):
            assert await held.get() == 1
            await trio.sleep(1)
        assert source.fetches == 2
        await trio.sleep(30)
        await held.get()
        await trio.sleep(2)
        assert source.fetches == 3


async def test_hard_end_raises_from_the_fetch(autojump_clock):
    source = Source()
    async with trio.open_nursery() as nursery:
        held = refresher(source, nursery)
        await held.get()
        await trio.sleep(600)
        source.error = OSError("down")
        with pytest.raises(OSError, match="down"):
            await held.get()
        source.error = None
        assert await held.get() == 3


async def test_unexpected_error_of_a_renewal_propagates(autojump_clock):
    source = Source()

    async def run():
        async with trio.open_nursery() as nursery:
            held = refresher(source, nursery)
            await held.get()
            await trio.sleep(310)
            source.error = KeyError("bug")
            await held.get()

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert caught.group_contains(KeyError)


async def test_put_and_drop(autojump_clock):
    source = Source()
    async with trio.open_nursery() as nursery:
        held = refresher(source, nursery)
        held.put(Dated(99, now() + timedelta(seconds=5), now() + timedelta(seconds=9)))
        assert (await held.get(), source.fetches) == (99, 0)
        held.drop()
        assert held.held is None
        assert await held.get() == 1

"""The order in which a daemon ends: requests, then what would be lost, then everything."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from keylessd.server import app
from keylessd.server.dispatch import Handler
from keylessd.server.systemd import Notifier
from keylessd.settings import Settings


class Rooms:
    """Have something under way that takes some seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.happened: list[str] = []

    def handlers(self, daemon: app.Daemon) -> Mapping[str, Handler]:
        return {}

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    def apply(self, settings: Settings) -> None:
        raise NotImplementedError

    async def settle(self) -> None:
        self.happened.append("settles")
        await trio.sleep(self.seconds)
        self.happened.append("settled")

    def cut(self) -> int:
        self.happened.append("cut")
        return 0

    def drop_keys(self) -> int:
        return 0


async def lived(rooms: Rooms, *, signals: tuple[float, ...]) -> float:
    """Run a daemon with these rooms, and return how long it took to end.

    Args:
        rooms: Its rooms.
        signals: When it is told to end, in seconds from the first time on.
    """
    settings = Settings()
    settings = replace(settings, timeouts=replace(settings.timeouts, drain=30.0))

    @asynccontextmanager
    async def open_rooms(settings: Settings) -> AsyncIterator[Rooms]:
        yield rooms
        rooms.happened.append("closed")

    start = app.Start(
        settings=settings,
        load_settings=lambda: settings,
        listening=(),
        open_rooms=open_rooms,
        notifier=Notifier({}),
        watchdog_seconds=None,
        on_ready=lambda: None,
        agent="test/1",
        version="1",
    )
    ended: list[float] = []

    async def run() -> None:
        await app.run(start)
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.sleep(1)
        told = trio.current_time()
        for moment in signals:
            await trio.sleep_until(told + moment)
            os.kill(os.getpid(), signal.SIGTERM)
    return ended[0] - told


async def test_what_would_be_lost_is_finished_first(autojump_clock: object) -> None:
    rooms = Rooms(20.0)
    assert await lived(rooms, signals=(0.0,)) == pytest.approx(20.0)
    assert rooms.happened == ["settles", "settled", "closed"]


async def test_it_is_waited_for_as_long_as_requests_would_be(autojump_clock: object) -> None:
    rooms = Rooms(40.0)
    assert await lived(rooms, signals=(0.0,)) == pytest.approx(30.0)
    assert rooms.happened == ["settles", "cut", "closed"]


async def test_who_says_it_twice_does_not_wait(autojump_clock: object) -> None:
    rooms = Rooms(20.0)
    assert await lived(rooms, signals=(0.0, 5.0)) == pytest.approx(5.0)
    assert rooms.happened == ["settles", "cut", "closed"]

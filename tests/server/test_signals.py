"""What each signal does."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from keylessd.server.signals import Reactions, obey

TERM, INT, HUP, USR1 = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (TERM, INT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def arriving(numbers: list[int]) -> AsyncIterator[int]:
    for number in numbers:
        yield number


@pytest.mark.parametrize(
    ("numbers", "done"),
    [
        ([], []),
        ([TERM], ["drain"]),
        ([INT], ["drain"]),
        ([TERM, TERM], ["drain", "cut"]),
        ([INT, TERM], ["drain", "cut"]),
        ([HUP, HUP, USR1], ["reload", "reload", "drop"]),
        ([TERM, USR1, HUP, TERM], ["drain", "drop", "reload", "cut"]),
    ],
)
async def test_reactions(autojump_clock: object, numbers: list[int], done: list[str]) -> None:
    seen: list[str] = []

    async def reload() -> None:
        seen.append("reload")

    reactions = Reactions(
        drain=lambda: seen.append("drain"),
        cut=lambda: seen.append("cut"),
        reload=reload,
        drop_keys=lambda: seen.append("drop"),
    )
    await obey(arriving(numbers), reactions)

    assert seen == done


async def test_after_the_second_the_third_kills(autojump_clock: object) -> None:
    async def reload() -> None:
        pass

    reactions = Reactions(
        drain=lambda: None, cut=lambda: None, reload=reload, drop_keys=lambda: None
    )
    await obey(arriving([TERM, TERM]), reactions)

    assert signal.getsignal(TERM) is signal.SIG_DFL
    assert signal.getsignal(INT) is signal.SIG_DFL

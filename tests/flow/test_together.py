"""Computations side by side: all come to their end, several at once, and nobody harms another."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
import trio

from keylessd.flow.together import MOST, QUIET, ROUNDS, Together

HANGS = 20.0  # seconds, after which a computation that nobody joins gives up


async def test_one_alone_is_computed_on_the_event_loop(autojump_clock):
    together = Together(helpers=3)
    assert await together.run(threading.get_ident) == threading.get_ident()
    assert await together.run(divmod, 7, 2) == (3, 1)


@pytest.mark.parametrize("helpers", [0, 1, 3])
async def test_each_gets_its_own(autojump_clock, helpers):
    together = Together(helpers=helpers)
    found: dict[int, int] = {}

    async def ask(number: int) -> None:
        found[number] = await together.run(pow, number, 2)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, number)
    assert found == {number: number**2 for number in range(50)}


async def test_they_run_at_the_same_time(autojump_clock):
    together = Together(helpers=1)
    await together.run(int)  # just now, so that the next one waits for company
    both = threading.Barrier(2, timeout=HANGS)
    idents = set()

    def meet() -> None:
        both.wait()
        idents.add(threading.get_ident())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(together.run, meet)
        nursery.start_soon(together.run, meet)
    assert len(idents) == 2
    assert threading.get_ident() in idents


async def test_a_failure_is_its_own(autojump_clock):
    together = Together(helpers=1)
    await together.run(int)
    found: Counter[str] = Counter()

    async def ask(number: int) -> None:
        try:
            await together.run(divmod, 1, number % 2)
            found["done"] += 1
        except ZeroDivisionError:
            found["failed"] += 1

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(ask, number)
    assert found == {"done": 5, "failed": 5}


class Watched(trio.abc.Instrument):
    """Notes how many computations there were in each step of a task."""

    def __init__(self, together: Together) -> None:
        self._together = together
        self._step = 0
        self._computed: Counter[int] = Counter()
        trio.lowlevel.add_instrument(self)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count the steps."""
        del task
        self._step += 1

    def compute(self) -> None:
        self._computed[self._step] += 1

    async def ask_after(self, rounds: int) -> None:
        """Compute once, some rounds of the event loop later."""
        for _ in range(rounds):
            await trio.lowlevel.checkpoint()
        await self._together.run(self.compute)

    @property
    def batches(self) -> list[int]:
        """How many were computed while the event loop stood still, each time."""
        return list(self._computed.values())


async def test_no_more_at_once_than_the_event_loop_may_stand_still_for(autojump_clock):
    watched = Watched(together := Together(helpers=0))
    await together.run(int)
    async with trio.open_nursery() as nursery:
        for number in range(5 * MOST):
            nursery.start_soon(watched.ask_after, number)
        for _ in range(5 * MOST):
            nursery.start_soon(watched.ask_after, 0)
    assert sum(watched.batches) == 10 * MOST
    assert max(watched.batches) == MOST


@pytest.mark.parametrize(
    ("since", "rounds", "batches"),
    [
        (0.0, ROUNDS - 1, [2]),
        (0.0, ROUNDS + 2, [1, 1]),
        (QUIET * 2, 0, [1, 1]),
    ],
)
async def test_company_is_waited_for_while_there_is_any(autojump_clock, since, rounds, batches):
    watched = Watched(together := Together(helpers=0))
    await together.run(int)
    await trio.sleep(since)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.ask_after, 0)
        nursery.start_soon(watched.ask_after, rounds)
    assert watched.batches == batches


@pytest.mark.parametrize(("leaver", "computed"), [(0, [0, 1, 2]), (1, [0, 2]), (2, [0, 1])])
async def test_one_who_leaves_takes_nothing_from_the_others(autojump_clock, leaver, computed):
    together = Together(helpers=0)
    await together.run(int)
    found: dict[str, list[int]] = {"computed": [], "answered": []}

    def compute(number: int) -> int:
        found["computed"].append(number)
        return number

    async def ask(number: int, scope: trio.CancelScope) -> None:
        with scope:
            found["answered"].append(await together.run(compute, number))

    scopes = [trio.CancelScope() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 0, scopes[0])
        await trio.lowlevel.checkpoint()  # now it waits for company, and leads
        nursery.start_soon(ask, 1, scopes[1])
        nursery.start_soon(ask, 2, scopes[2])
        await trio.lowlevel.checkpoint()
        scopes[leaver].cancel()
    assert sorted(found["computed"]) == computed
    assert {0, 1, 2} - set(found["answered"]) <= {leaver}


@pytest.mark.parametrize("leaver", [2, 3])
async def test_one_who_was_to_lead_the_next_may_leave(autojump_clock, leaver):
    together = Together(helpers=0, most=2)
    await together.run(int)
    answered = []
    scopes = [trio.CancelScope() for _ in range(5)]

    async def ask(number: int) -> None:
        with scopes[number]:
            answered.append(await together.run(leave if number == 0 else int, number))

    def leave(number: int) -> int:
        scopes[leaver].cancel()
        return number

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(ask, number)
    # In which order they came is chance; nobody is left behind.
    assert {0, 1, 2, 3, 4} - set(answered) <= {leaver}


async def test_an_endless_row_of_failures_leaves_no_thread_waiting(autojump_clock):
    together = Together(helpers=3)

    async def ask() -> None:
        with pytest.raises(ValueError, match="nothing"):
            await together.run(_fail)

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask)
    assert await together.run(divmod, 9, 2) == (4, 1)


def _fail() -> None:
    raise ValueError("nothing")

"""The gate before signing: bounded at work, bounded in the queue, in order, and never leaking."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from keylessd.errors import BusyError, RateLimitedError
from keylessd.ops.admission import Admission

LOG = "https://log.example"


async def test_no_more_at_work_than_allowed(autojump_clock):
    admission = Admission(active=3, queued=100)
    inside = highest = 0

    async def visit() -> None:
        nonlocal inside, highest
        async with admission.enter(LOG):
            inside += 1
            highest = max(highest, inside)
            await trio.sleep(1)
            inside -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(visit)
        await trio.sleep(0.5)
        assert admission.queued() == 7
    assert highest == 3
    assert admission.queued() == 0
    assert admission._gates == {}


async def test_upstreams_do_not_wait_for_each_other(autojump_clock):
    admission = Admission(active=1)
    async with admission.enter(LOG), admission.enter("https://other.example"):
        pass


async def occupy(admission: Admission, seconds: float, task_status=trio.TASK_STATUS_IGNORED):
    async with admission.enter(LOG):
        task_status.started()
        await trio.sleep(seconds)


async def test_a_full_queue_turns_away_at_once(autojump_clock):
    admission = Admission(active=1, queued=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(occupy, admission, 10)
        nursery.start_soon(occupy, admission, 10)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(BusyError) as caught:
            async with admission.enter(LOG):
                pytest.fail("not let in")
        assert trio.current_time() == began
        assert caught.value.retry_after_seconds
        assert caught.value.retryable


async def test_a_wait_that_is_too_long_ends(autojump_clock):
    admission = Admission(active=1, wait_seconds=5)
    async with trio.open_nursery() as nursery:
        await nursery.start(occupy, admission, 60)
        with pytest.raises(BusyError):
            async with admission.enter(LOG):
                pytest.fail("not let in")


async def test_who_leaves_the_queue_takes_no_place_along(autojump_clock):
    admission = Admission(active=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(occupy, admission, 10)
        with trio.move_on_after(1):
            await occupy(admission, 0)
    async with admission.enter(LOG):
        pass
    assert admission._gates == {}


async def test_an_error_inside_gives_the_place_back(autojump_clock):
    admission = Admission(active=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with admission.enter(LOG):
                raise ZeroDivisionError
    assert admission._gates == {}


async def test_a_held_gate_lets_nobody_pass_until_its_time(autojump_clock):
    admission = Admission()
    async with admission.enter(LOG):
        admission.hold(LOG, 20)
    began = trio.current_time()
    async with admission.enter(LOG):
        assert trio.current_time() - began == pytest.approx(20)


async def test_a_gate_held_for_longer_than_the_wait_says_so(autojump_clock):
    admission = Admission(wait_seconds=10)
    async with admission.enter(LOG):
        admission.hold(LOG, 20)
    with pytest.raises(RateLimitedError) as caught:
        async with admission.enter(LOG):
            pytest.fail("not let in")
    assert caught.value.retry_after_seconds == pytest.approx(20)


async def test_gates_that_were_held_are_forgotten_in_time(autojump_clock):
    admission = Admission()
    for number in range(10):
        async with admission.enter(f"https://log{number}.example"):
            admission.hold(f"https://log{number}.example", 1)
    await trio.sleep(2)
    async with admission.enter(LOG):
        assert list(admission._gates) == [LOG]


async def test_an_upstream_that_bears_less_is_given_less(autojump_clock):
    admission = Admission(active=3, queued=100)
    inside: dict[str, int] = {"weak": 0, "strong": 0, "modest": 0}
    most = dict(inside)

    async def visit(name: str, active: int | None) -> None:
        async with admission.enter(name, active=active):
            inside[name] += 1
            most[name] = max(most[name], inside[name])
            await trio.sleep(1)
            inside[name] -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(visit, "weak", 2)
            nursery.start_soon(visit, "strong", 7)
            nursery.start_soon(visit, "modest", None)
        await trio.testing.wait_all_tasks_blocked()
        assert admission.queued() == 8 + 7 + 7
    # Never more than the house gives to anybody.
    assert most == {"weak": 2, "strong": 3, "modest": 3}


async def test_the_queue_begins_where_the_places_of_that_upstream_end(autojump_clock):
    admission = Admission(active=3, queued=1)
    refused = []

    async def visit() -> None:
        try:
            async with admission.enter("weak", active=1):
                await trio.sleep(1)
        except BusyError:
            refused.append(1)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(visit)
    assert len(refused) == 2

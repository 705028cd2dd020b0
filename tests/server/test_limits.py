"""Admission, penalties and the byte budget: arithmetic only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylessd.server.limits import (
    FREE_BYTES,
    MAX_EVICTING,
    MIB,
    Admission,
    ByteBudget,
    Holder,
    Penalties,
)
from keylessd.settings import Limits

A, B = Holder(1, 10), Holder(1, 11)
LIMITS = Limits(connections=4, connections_per_uid=3, connections_per_process=2)


class FakeConnection:
    def __init__(self, idle_since: float | None) -> None:
        self.idle_since = idle_since
        self.evicted = 0

    def evict(self) -> None:
        self.evicted += 1


@pytest.mark.parametrize(
    ("held", "newcomer", "refusal"),
    [
        ([], A, None),
        ([A], A, None),
        ([A, A], A, "process"),
        ([A, A], B, None),
        ([A, A, B], B, "uid"),
        ([A, A, B], Holder(2, 10), None),
        ([A, A, B, Holder(2, 1)], Holder(2, 10), "total"),
    ],
)
def test_each_limit(held: list[Holder], newcomer: Holder, refusal: str | None) -> None:
    admission = Admission(LIMITS)
    for holder in held:
        assert admission.refusal(holder) is None
        admission.enter(holder)

    assert admission.refusal(newcomer) == refusal


def test_leaving_gives_everything_back() -> None:
    admission = Admission(LIMITS)
    for _ in range(10):
        slots = [admission.enter(A), admission.enter(A)]
        assert admission.refusal(A) == "process"
        for slot in slots:
            admission.leave(slot, A)

    assert admission.total == 0
    assert admission.refusal(A) is None
    assert not admission._per_uid
    assert not admission._per_process


def _filled(*holders: tuple[Holder, float | None]) -> tuple[Admission, list[FakeConnection]]:
    admission = Admission(Limits())
    connections = []
    for holder, idle_since in holders:
        connection = FakeConnection(idle_since)
        admission.attach(admission.enter(holder), holder, connection)
        connections.append(connection)
    return admission, connections


def test_the_longest_idle_of_the_greediest_makes_room() -> None:
    admission, connections = _filled((A, 5.0), (A, 3.0), (A, None), (B, 1.0))

    assert admission.make_room(Holder(1, 99))
    assert [connection.evicted for connection in connections] == [0, 1, 0, 0]


def test_nobody_is_evicted_twice() -> None:
    admission, connections = _filled((A, 5.0), (A, 3.0))
    admission.make_room(B)
    admission.make_room(B)

    assert [connection.evicted for connection in connections] == [1, 1]
    assert not admission.make_room(B)


def test_only_so_many_are_evicted_before_the_first_has_gone() -> None:
    admission, connections = _filled(*[(A, 1.0)] * (MAX_EVICTING + 2))

    assert [admission.make_room(B) for _ in range(MAX_EVICTING + 1)][-2:] == [True, False]
    admission.leave(1, A)
    assert admission.make_room(B)
    assert sum(connection.evicted for connection in connections) == MAX_EVICTING + 1


def test_busy_connections_are_never_evicted() -> None:
    admission, _ = _filled((A, None), (A, None), (A, None))

    assert not admission.make_room(B)


@pytest.mark.parametrize("own", [1, 2])
def test_who_holds_as_much_evicts_nobody(own: int) -> None:
    admission, _ = _filled((A, 1.0), (A, 1.0), *[(B, 1.0)] * own)

    assert not admission.make_room(B)


def test_penalties_bar_and_are_forgotten() -> None:
    penalties = Penalties(burst=3, per_second=0.5)
    for _ in range(3):
        penalties.add(A, 10.0)
    assert not penalties.barred(A, 10.0)
    penalties.add(A, 10.0)

    assert penalties.barred(A, 10.0)
    assert not penalties.barred(B, 10.0)
    assert not penalties.barred(A, 12.0)


def test_a_long_flood_bars_no_longer_than_a_short_one() -> None:
    penalties = Penalties(burst=3, per_second=0.5)
    for _ in range(1000):
        penalties.add(A, 0.0)

    assert penalties.barred(A, 5.0)
    assert not penalties.barred(A, 7.0)


def test_penalties_of_many_processes_are_bounded() -> None:
    penalties = Penalties()
    for pid in range(10_000):
        penalties.add(Holder(1, pid), float(pid))

    assert len(penalties._scores) <= 4096


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ([(A, FREE_BYTES)] * 100, True),
        ([(A, FREE_BYTES + 2 * MIB)], True),
        ([(A, FREE_BYTES + 2 * MIB + 1)], False),
        ([(A, FREE_BYTES + MIB), (A, FREE_BYTES + MIB)], True),
        ([(A, FREE_BYTES + MIB), (A, FREE_BYTES + MIB + 1)], False),
        ([(A, FREE_BYTES + 2 * MIB), (B, FREE_BYTES + 2 * MIB)], True),
        ([(A, FREE_BYTES + 2 * MIB), (B, FREE_BYTES + MIB), (Holder(2, 1), 2 * MIB)], False),
    ],
)
def test_budget_per_process_and_in_all(changes: list[tuple[Holder, int]], allowed: bool) -> None:
    budget = ByteBudget(4)
    results = [budget.change(holder, before=0, after=size) for holder, size in changes]

    assert all(results[:-1])
    assert results[-1] is allowed


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6 * MIB)), max_size=40))
def test_budget_never_exceeds_its_limit_and_returns_to_zero(steps: list[tuple[int, int]]) -> None:
    budget = ByteBudget(4)
    held = dict.fromkeys(range(4), 0)
    for who, size in steps:
        if budget.change(Holder(1, who), before=held[who], after=size):
            held[who] = size
        assert 0 <= budget.held <= 4 * MIB
    for who, size in held.items():
        assert budget.change(Holder(1, who), before=size, after=0)

    assert budget.held == 0
    assert not budget._per_process

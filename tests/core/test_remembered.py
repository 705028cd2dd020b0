"""What is computed once of an object, and never of another one."""

from __future__ import annotations

import pytest

from keylessd.core.remembered import Memory, Remembered


class Thing:
    """Equal to any other of its kind, and not to be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def name_of(asked: list[str]) -> Remembered[Thing, str]:
    def compute(thing: Thing) -> str:
        asked.append(thing.name)
        if thing.name == "bad":
            raise ValueError(thing.name)
        return thing.name.upper()

    return Remembered(compute, most=3)


def test_of_one_object_it_is_computed_once(
    name_of: Remembered[Thing, str], asked: list[str]
) -> None:
    thing = Thing("a")
    assert [name_of(thing) for _ in range(3)] == ["A"] * 3
    assert asked == ["a"]


def test_an_equal_object_is_another(name_of: Remembered[Thing, str]) -> None:
    assert name_of(Thing("a")) == "A"
    assert name_of(Thing("b")) == "B"


def test_an_object_that_is_gone_does_not_speak_for_one_in_its_place(
    name_of: Remembered[Thing, str],
) -> None:
    """Memory that is free is used again, so an id alone tells nothing."""
    for number in range(2000):
        assert name_of(Thing(f"a{number}")) == f"A{number}"


def test_the_last_ones_are_kept(name_of: Remembered[Thing, str], asked: list[str]) -> None:
    things = [Thing(name) for name in "abc"]
    for thing in things * 3:
        assert name_of(thing) == thing.name.upper()
    assert asked == ["a", "b", "c"]


def test_a_failure_is_not_remembered(name_of: Remembered[Thing, str], asked: list[str]) -> None:
    bad = Thing("bad")
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            name_of(bad)
    assert asked == ["bad", "bad"]


def test_what_is_forgotten_is_computed_again(
    name_of: Remembered[Thing, str], asked: list[str]
) -> None:
    thing = Thing("a")
    name_of(thing)
    name_of.cache_clear()
    name_of(thing)
    assert asked == ["a", "a"]


def test_memory_keeps_the_last_ones_and_no_more_than_twice_as_many() -> None:
    memory: Memory[int, int] = Memory(3)
    sizes = []
    for number in range(12):
        assert memory.put(number, -number) == -number
        sizes.append(len(memory))
        assert all(
            last in memory._young or last in memory._old
            for last in range(number, number - 3, -1)
            if last >= 0
        )
    assert sizes == [1, 2, 3, 4, 5, 6, 4, 5, 6, 4, 5, 6]
    assert memory.get(0) is None
    memory.cache_clear()
    assert len(memory) == 0
    assert memory.get(11) is None


def test_memory_keeps_what_is_used() -> None:
    memory: Memory[str, int] = Memory(3)
    memory.put("used", 0)
    for number in range(20):
        memory.put(f"other {number}", number)
        assert memory.get("used") == 0
    assert memory.get("other 0") is None
    assert memory.get("other 19") == 19

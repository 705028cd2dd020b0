"""Remembers what was found out before, also of objects that are slow to look up by content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """Values by key, of which at least the last ones that were used are kept.

    There are two generations. When the young one is full, the old one is forgotten and the young
    one grows old; what is used out of the old one is young again. That takes less work than an
    order of all of them would.
    """

    __slots__ = ("_most", "_old", "_young")

    def __init__(self, most: int) -> None:
        """Remember nothing yet.

        Args:
            most: How many are surely kept, and half of how many are kept at most.
        """
        self._most = most
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, key: K) -> V | None:
        """Return the value of a key, None if it is not known (any more)."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> V:
        """Keep a value, which is not None, and return it."""
        if len(self._young) >= self._most:
            self._old = self._young
            self._young = {}
        self._young[key] = value
        return value

    def cache_clear(self) -> None:
        """Forget everything; named as what functools remembers with has it."""
        self._young = {}
        self._old = {}


class Remembered(Generic[K, V]):
    """A function of one object that never changes, computed once for each.

    Objects are told apart by identity: certificates and keys of the library are hashed by encoding
    them anew, which takes longer than much of what is asked of them. A failure is not remembered.
    """

    __slots__ = ("_compute", "_kept")

    def __init__(self, compute: Callable[[K], V], *, most: int) -> None:
        """Remember nothing yet.

        Args:
            compute: The function.
            most: Of how many objects is surely remembered.
        """
        self._compute = compute
        # The object is kept with its value, so that no other one can have its id meanwhile.
        self._kept: Memory[int, tuple[K, V]] = Memory(most)

    def __call__(self, of: K) -> V:
        """Return the function of an object."""
        known = self._kept.get(id(of))
        if known is None:
            known = self._kept.put(id(of), (of, self._compute(of)))
        return known[1]

    def cache_clear(self) -> None:
        """Forget everything."""
        self._kept.cache_clear()

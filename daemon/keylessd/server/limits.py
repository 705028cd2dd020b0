"""Admission: who may hold a connection, and how many bytes may wait. Pure: no sockets, no clock.

Every question is answered before what it bounds is allocated, and an answer of "no" costs the
daemon almost nothing; that is what keeps a healthy client fast while a hostile one floods.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from keylessd.settings import Limits

MIB: Final = 1 << 20
# Bytes a connection holds without being charged: one read, or a request of usual size.
FREE_BYTES: Final = 128 << 10
MAX_PENALTIES: Final = 4096  # processes remembered
# Connections told to go that have not gone yet. As many newcomers hold a place beyond the limit.
MAX_EVICTING: Final = 64

_Key = TypeVar("_Key")

Refusal = Literal["total", "uid", "process"]


class Idle(Protocol):
    """A connection that can be asked to make room."""

    @property
    def idle_since(self) -> float | None:
        """Monotonic seconds since when it has had nothing to do; None while it works."""
        ...

    def evict(self) -> None:
        """Close it soon; its slot is given back when its task has ended."""
        ...


class Holder(NamedTuple):
    """Whom a connection is counted for: a uid, and one process of it.

    pid is 0 for every process of a foreign PID namespace; those share one allowance.
    """

    uid: int
    pid: int


class Admission:
    """Counts connections in all, per uid and per process."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._per_uid: Counter[int] = Counter()
        self._per_process: Counter[Holder] = Counter()
        self._connections: dict[int, tuple[Holder, Idle]] = {}
        self._next = 0
        self._total = 0
        self._evicting: set[int] = set()

    @property
    def total(self) -> int:
        """Connections that hold a slot now."""
        return self._total

    def refusal(self, holder: Holder) -> Refusal | None:
        """Say which limit another connection of *holder* would break, or None."""
        if self._per_process[holder] >= self.limits.connections_per_process:
            return "process"
        if self._per_uid[holder.uid] >= self.limits.connections_per_uid:
            return "uid"
        if self._total >= self.limits.connections:
            return "total"
        return None

    def enter(self, holder: Holder) -> int:
        """Take a slot, whose number is returned; the caller has asked refusal() before."""
        self._next += 1
        self._total += 1
        self._per_uid[holder.uid] += 1
        self._per_process[holder] += 1
        return self._next

    def attach(self, slot: int, holder: Holder, connection: Idle) -> None:
        """Make the connection in *slot* known, so that make_room() can choose it."""
        self._connections[slot] = (holder, connection)

    def leave(self, slot: int, holder: Holder) -> None:
        """Give back what enter() took."""
        self._connections.pop(slot, None)
        self._evicting.discard(slot)
        self._total -= 1
        _decrease(self._per_uid, holder.uid)
        _decrease(self._per_process, holder)

    def make_room(self, newcomer: Holder) -> bool:
        """Evict the longest idle connection of the process that holds most, if that is fair.

        Fair means: that process holds more than *newcomer* would. So a process that took all
        slots and does nothing with them loses them one by one to others, and never the other
        way round. The slot is free a moment later, not at once; MAX_EVICTING bounds how many
        newcomers may be let in on that promise.

        Returns:
            Whether a connection was told to go.
        """
        most = max(self._per_process.values(), default=0)
        if len(self._evicting) >= MAX_EVICTING or most <= self._per_process[newcomer] + 1:
            return False
        waiting = [
            (self._per_process[holder], connection.idle_since, slot, connection)
            for slot, (holder, connection) in self._connections.items()
            if slot not in self._evicting and connection.idle_since is not None
        ]
        if not waiting:
            return False
        held, _, slot, victim = min(waiting, key=lambda item: (-item[0], item[1] or 0.0, item[2]))
        if held <= self._per_process[newcomer] + 1:
            return False
        self._evicting.add(slot)
        victim.evict()
        return True


def _decrease(counts: Counter[_Key], key: _Key) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]


class Penalties:
    """Remembers which processes broke the protocol lately, and for how long that counts.

    A process that only ever connects to send garbage would stay within every limit and still
    cost a task per connection; barred, it costs a refusal.

    Args:
        burst: Violations in a row that are let pass: a program under development makes some.
        per_second: Violations forgotten per second.
    """

    def __init__(self, *, burst: float = 32.0, per_second: float = 2.0) -> None:
        self._burst = burst
        self._per_second = per_second
        self._scores: dict[Holder, tuple[float, float]] = {}

    def add(self, holder: Holder, now: float) -> None:
        """Count one violation at *now*, in seconds of any steady clock."""
        if len(self._scores) >= MAX_PENALTIES:
            for other in [other for other in self._scores if self._score(other, now) <= 0]:
                del self._scores[other]
        if holder in self._scores or len(self._scores) < MAX_PENALTIES:
            self._scores[holder] = (self._score(holder, now) + 1, now)

    def barred(self, holder: Holder, now: float) -> bool:
        """Return whether *holder* is refused for now."""
        return holder in self._scores and self._score(holder, now) > self._burst

    def _score(self, holder: Holder, now: float) -> float:
        score, since = self._scores.get(holder, (0.0, now))
        # Capped, so that a long flood does not bar the process for hours.
        return max(0.0, min(score, 2 * self._burst) - (now - since) * self._per_second)


class ByteBudget:
    """Bounds what connections hold beyond a small free part each, in all and per process.

    The free part keeps ordinary requests out of the account: however much hostile clients
    send, a request of usual size is never refused for lack of memory.
    """

    def __init__(self, mib: int) -> None:
        self._limit = mib * MIB
        self._total = 0
        self._per_process: Counter[Holder] = Counter()

    @property
    def held(self) -> int:
        """Bytes accounted for now."""
        return self._total

    def resize(self, mib: int) -> None:
        """Set another limit; what is held already stays."""
        self._limit = mib * MIB

    def change(self, holder: Holder, *, before: int, after: int) -> bool:
        """Account for a connection of *holder* that held *before* bytes and now holds *after*.

        Returns:
            False if that is too much; then nothing has changed. Holding less never is.
        """
        if before <= FREE_BYTES and after <= FREE_BYTES:
            return True  # the usual
        delta = max(0, after - FREE_BYTES) - max(0, before - FREE_BYTES)
        if delta > 0 and (
            self._total + delta > self._limit
            or self._per_process[holder] + delta > self._limit // 2
        ):
            return False
        self._total += delta
        self._per_process[holder] += delta
        if self._per_process[holder] == 0:
            del self._per_process[holder]
        return True

"""Ends of things by two clocks: whichever says first that it is over is right. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keylessd.clock import Clock


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time on both clocks.

    Attributes:
        wall: Wall-clock time, UTC; it may jump.
        boot: Seconds on the clock that counts suspend; it never does.
    """

    wall: datetime
    boot: float

    @classmethod
    def now(cls, clock: Clock) -> Moment:
        """Return the present."""
        return cls(clock.now(), clock.boottime())

    def plus(self, seconds: float) -> Moment:
        """Return the moment so much later."""
        return Moment(self.wall + timedelta(seconds=seconds), self.boot + seconds)

    def left(self, now: Moment) -> float:
        """Return how many seconds there are until this moment: the fewer of the two clocks' counts.

        So a wall clock that is set back makes nothing live longer, and a machine that slept
        through the end finds that it is over.
        """
        return min((self.wall - now.wall).total_seconds(), self.boot - now.boot)

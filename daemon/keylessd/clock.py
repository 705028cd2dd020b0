"""Time as values that are passed in: the wall clock, and one that counts suspend and never jumps.

Deadlines of what waits use trio's clock, neither of these.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the current wall-clock time, aware, in UTC. It may jump, either way."""
        ...

    def boottime(self) -> float:
        """Return seconds since some moment before the start, suspend included; it never jumps.

        What must have ended after so long ends by this clock: trio's stands still while the
        machine is suspended, and the wall clock can be set back.
        """
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251  # the one place that reads the clock

    def boottime(self) -> float:
        """Return CLOCK_BOOTTIME in seconds; where there is none, the monotonic clock."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

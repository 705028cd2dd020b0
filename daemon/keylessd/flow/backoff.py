"""Delays between attempts. Decides how long; waiting and giving up are the caller's business."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff(first: float, cap: float, rng: random.Random) -> Iterator[float]:
    """Yield full-jitter delays without end: uniform between 0 and a ceiling that doubles.

    Args:
        first: Ceiling of the first delay, in seconds, above 0.
        cap: Largest ceiling, in seconds.
        rng: Source of the jitter.

    Yields:
        Seconds to wait before the next attempt.
    """
    ceiling = min(first, cap)
    while True:
        yield rng.uniform(0.0, ceiling)
        ceiling = min(cap, ceiling * 2)


def jittered(seconds: float, fraction: float, rng: random.Random) -> float:
    """Return *seconds* moved by up to *fraction* of itself either way.

    A thousand machines started by one event must not come back as one.
    """
    return seconds * (1.0 + rng.uniform(-fraction, fraction))

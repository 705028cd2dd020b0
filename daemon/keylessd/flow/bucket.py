"""A token bucket over a time that is passed in. Does not wait and knows nobody's name."""

from __future__ import annotations


class TokenBucket:
    """Allows *burst* takes at once and *rate* per second in the long run."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float) -> None:
        """Start full.

        Args:
            rate: Tokens that come back per second, above 0.
            burst: Most tokens that are held, at least 1.

        Raises:
            ValueError: If either is out of its range.
        """
        if rate <= 0 or burst < 1:
            raise ValueError(f"rate {rate} must be above 0 and burst {burst} at least 1")
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._updated: float | None = None

    def take(self, now: float) -> float:
        """Take one token and return 0.0, or take none and return the seconds until there is one.

        Args:
            now: Monotonic seconds (``trio.current_time()``). A time before the last one counts
                as the last one.
        """
        self._refill(now)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def is_full(self, now: float) -> bool:
        """Return whether nothing is owed: such a bucket can be dropped and made anew."""
        self._refill(now)
        return self._tokens >= self._burst

    def _refill(self, now: float) -> None:
        if self._updated is None or now > self._updated:
            elapsed = 0.0 if self._updated is None else now - self._updated
            self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
            self._updated = now

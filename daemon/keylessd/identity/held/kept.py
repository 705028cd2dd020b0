"""One token that the daemon holds: got when it is needed, renewed before it ends, never beyond.

Two thresholds: from the first on a renewal runs in the background while the held token is still
given out; past the second it is dead. Nothing is renewed that nobody asks for.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import trio

from keylessd.errors import DaemonError, IdentityError
from keylessd.identity.token import MIN_REMAINING
from keylessd.identity.token_refusal import MAX_WAIT
from keylessd.log import EventLog

if TYPE_CHECKING:
    import random

    from keylessd.clock import Clock
    from keylessd.flow.singleflight import SingleFlight
    from keylessd.identity.held.source import HeldSource
    from keylessd.identity.token import IdentityToken

# A token of at most SHORT seconds is renewed after half of its life, one that lives longer after
# most of it. One that lives for less than BRIEF seconds is not renewed ahead of time at all:
# twice a minute for ever is rude.
SHORT = 300.0
BRIEF = 120.0
SHORT_FRACTION = 0.5
LONG_FRACTION = 0.8
JITTER = 0.1  # of the fraction; a thousand machines must not come back as one
# A server with a cache of its own may give the same token again.
MIN_PAUSE = 10.0  # seconds between two renewals ahead of time
FIRST_PAUSE = 1.0  # seconds that a failure counts; it doubles with each further one
MAX_PAUSE = 60.0
# For all calls that one token takes; each has a shorter deadline of its own.
FETCH_SECONDS = 45.0

_log = EventLog(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """A token in hand.

    Attributes:
        token: The token.
        renew_at: From when on another is wanted, on the clock that counts suspend.
        dead_at: From when on it is not used, on the same clock.
        last_moment: From when on it is not used, on the wall clock. Whichever comes first.
    """

    token: IdentityToken
    renew_at: float
    dead_at: float
    last_moment: datetime

    def is_alive(self, *, boottime: float, now: datetime) -> bool:
        """Tell whether it can still be used. A clock that is set back revives nothing."""
        return boottime < self.dead_at and now < self.last_moment


def kept_from(token: IdentityToken, *, asked: float, now: datetime, rng: random.Random) -> Kept:
    """Return a token with its two thresholds.

    Args:
        token: Got just now.
        asked: When it was asked for, on the clock that counts suspend.
        now: Wall clock when it was asked for.
        rng: Jitter.
    """
    life = max((token.expires - now).total_seconds(), 0.0)
    usable = max(life - MIN_REMAINING.total_seconds(), 0.0)
    if life < BRIEF:
        wait = usable
    else:
        fraction = SHORT_FRACTION if life <= SHORT else LONG_FRACTION
        wait = life * fraction * (1.0 - rng.uniform(0.0, JITTER))
    return Kept(
        token=token,
        renew_at=asked + min(max(wait, MIN_PAUSE), usable),
        dead_at=asked + usable,
        last_moment=token.expires - MIN_REMAINING,
    )


@dataclass(frozen=True, slots=True)
class _Failure:
    error: DaemonError
    until: float  # on the clock that counts suspend
    pause: float


class KeptToken:
    """The token of one held identity, for everybody whom policy grants it."""

    def __init__(
        self,
        source: HeldSource,
        *,
        name: str,
        key: Hashable,
        flights: SingleFlight[IdentityToken],
        nursery: trio.Nursery,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """Store the parts; nothing is fetched yet.

        Args:
            source: Gets tokens.
            name: Of the identity, for errors and the log.
            key: Of the calls that are shared; one identity's alone.
            flights: Shares them.
            nursery: Runs renewals in the background.
            clock: Both clocks.
            rng: Jitter.
        """
        self._source = source
        self._name = name
        self._key = key
        self._flights = flights
        self._nursery = nursery
        self._clock = clock
        self._rng = rng
        self._kept: Kept | None = None
        self._failure: _Failure | None = None
        self._renewing = False
        self.last_used: datetime | None = None
        self.last_seen: IdentityToken | None = None

    @property
    def alive(self) -> IdentityToken | None:
        """The token in hand, if it can be used; None for one that is never kept."""
        kept = self._kept
        if kept is None or not kept.is_alive(
            boottime=self._clock.boottime(), now=self._clock.now()
        ):
            return None
        return kept.token

    @property
    def problem(self) -> str | None:
        """Why the last attempt to get a token failed, if none succeeded since."""
        return None if self._failure is None else self._failure.error.message

    async def get(self) -> IdentityToken:
        """Return a token that can be used.

        Raises:
            IdentityError, TokenError: it could not be got. For a while the same failure is
                repeated and nobody is asked.
        """
        token = self.alive
        if token is None:
            self._kept = None
            self._raise_recent()
            token = await self._flights.run(self._key, self._fetch)
            self.last_used = self._clock.now()
            return token
        self.last_used = self._clock.now()
        assert self._kept is not None  # noqa: S101  # `alive` found it there
        if self._clock.boottime() >= self._kept.renew_at and not self._is_quiet():
            self._renew_soon()
        return token

    async def _fetch(self) -> IdentityToken:
        now, asked = self._clock.now(), self._clock.boottime()
        try:
            with trio.fail_after(FETCH_SECONDS):
                token = await self._source.fetch()
        except trio.TooSlowError as exc:
            error = IdentityError(
                "identity_unavailable",
                f"identity {self._name!r} could not be had within {FETCH_SECONDS:g} seconds",
                retryable=True,
            )
            self._failure = self._failed(error)
            raise error from exc
        except DaemonError as exc:
            self._failure = self._failed(exc)
            raise
        self._failure = None
        self.last_seen = token
        if self._source.keeps:
            self._kept = kept_from(token, asked=asked, now=now, rng=self._rng)
        return token

    def _failed(self, error: DaemonError) -> _Failure:
        before = 0.0 if self._failure is None else self._failure.pause
        pause = min(max(FIRST_PAUSE, before * 2), MAX_PAUSE)
        wait = min(max(pause, error.retry_after_seconds or 0.0), MAX_WAIT)
        jittered = wait * (1.0 + self._rng.uniform(0.0, JITTER))
        return _Failure(error, self._clock.boottime() + jittered, pause)

    def _is_quiet(self) -> bool:
        return self._failure is not None and self._clock.boottime() < self._failure.until

    def _raise_recent(self) -> None:
        # A file costs nothing to look at again, and may be whole the next moment.
        if self._source.keeps and self._is_quiet() and self._failure is not None:
            raise self._failure.error.with_traceback(None)

    def _renew_soon(self) -> None:
        if not self._renewing:
            self._renewing = True
            self._nursery.start_soon(self._renew)

    async def _renew(self) -> None:
        try:
            await self._flights.run(self._key, self._fetch)
        except DaemonError as exc:
            # It is kept as the problem; the token in hand is good until it ends.
            _log.warning("identity.not_renewed", identity=self._name, problem=exc.message)
        finally:
            self._renewing = False

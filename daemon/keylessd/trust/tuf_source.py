"""One TUF instance's trust in force: loaded from the cache, renewed daily, kept on failure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import trio

from keylessd.errors import (
    InvalidInputError,
    RateLimitedError,
    TrustExpiredError,
    TrustInvalidError,
    TrustUnavailableError,
)
from keylessd.flow.backoff import backoff
from keylessd.flow.bucket import TokenBucket
from keylessd.services.urls import shown_url
from keylessd.trust.material import TrustMaterial
from keylessd.trust.parsed import version_of
from keylessd.trust.stated_urls import with_stated_urls
from keylessd.trust.status import InstanceStatus, State

if TYPE_CHECKING:
    import random

    from keylessd.clock import Clock
    from keylessd.flow.singleflight import SingleFlight
    from keylessd.trust.instances import TufInstance
    from keylessd.trust.material import Purpose
    from keylessd.trust.offline import Checked
    from keylessd.trust.parsed import Parsed
    from keylessd.trust.repository import Repository

RENEW_EVERY = timedelta(hours=24)
RENEW_JITTER = 0.25  # a renewal comes up to this fraction of the time earlier
STALE_AFTER = timedelta(hours=48)
# A wall clock that was set, or a machine that slept, is noticed after this long.
LOOK_SECONDS = 900.0
RETRY_FIRST_SECONDS = 60.0
RETRY_CAP_SECONDS = 3600.0
RETRY_LEAST_SECONDS = 5.0
# After a failure, requests that need a refresh get its error for this long, not an attempt each.
QUIET_SECONDS = 10.0
LOCAL_QUIET_SECONDS = 1.0  # asking this machine costs nothing
# How long a request waits for a refresh: with nothing usable held, and with something. The refresh
# itself goes on in the background.
WAIT_SECONDS = 20.0
HELD_WAIT_SECONDS = 3.0
# Refreshes that people ask for.
ASKED_RATE = 0.2  # per second
ASKED_BURST = 5

_TrustError = TrustUnavailableError | TrustInvalidError | TrustExpiredError
_EXPECTED = (TrustUnavailableError, TrustInvalidError, TrustExpiredError)


class TufSource:
    """Holds the material of one TUF instance and decides when to renew it.

    Whatever fails, the last good material stays in force until it expires.
    """

    def __init__(
        self,
        instance: TufInstance,
        *,
        repository: Repository,
        parsed: Parsed,
        clock: Clock,
        rng: random.Random,
        verify_with_expired_trust: bool,
        refresh_first: bool = False,
    ) -> None:
        """Store the parts; nothing is loaded before somebody asks.

        Args:
            instance: Which instance.
            repository: Loads and refreshes.
            parsed: Parses what was loaded.
            clock: Tells what has expired.
            rng: Jitter.
            verify_with_expired_trust: Whether verification may go on with expired material.
            refresh_first: Whether the first use asks the repository even if the cache has not
                expired. For a repository on this machine, which may be another one by now.
        """
        self.instance = instance
        self._repository = repository
        self._parsed = parsed
        self._clock = clock
        self._rng = rng
        self._verify_with_expired = verify_with_expired_trust
        self._held: TrustMaterial | None = None
        self._due: datetime | None = None
        self._error: _TrustError | None = None
        self._error_time: datetime | None = None
        self._loading = trio.Lock()
        self._is_loaded = False
        self._is_refreshing = False
        self._must_refresh = refresh_first
        self._quiet_seconds = LOCAL_QUIET_SECONDS if refresh_first else QUIET_SECONDS
        self._quiet_until = -float("inf")  # trio.current_time()
        self._wanted = trio.Event()
        self._asked = TokenBucket(ASKED_RATE, ASKED_BURST)

    # --- for requests ----------------------------------------------------------------------

    async def get(self, purpose: Purpose, flights: SingleFlight[TrustMaterial]) -> TrustMaterial:
        """Return the material in force; load or fetch it first if there is none.

        Raises:
            TrustExpiredError: If it has expired and cannot be renewed.
            TrustUnavailableError: If none is held and none can be fetched.
            TrustInvalidError: If none is held and what is served does not verify.
        """
        held = self._held
        must_ask = self._must_refresh and trio.current_time() >= self._quiet_until
        if held is not None and not must_ask and not held.has_expired(self._clock.now()):
            return held
        self._wanted.set()
        try:
            return await flights.run(("obtain", self.instance), lambda: self._obtain(flights))
        except _EXPECTED as exc:
            held = self._held
            if held is None:
                raise
            if purpose == "verify" and self._verify_with_expired:
                return held
            raise TrustExpiredError(
                f"the trust root of {self.instance.name!r} expired at"
                f" {held.expires:%Y-%m-%dT%H:%MZ} and cannot be renewed: {exc.message}",
                hint="check the network and this machine's clock, then: keyless trust refresh",
                retry_after_seconds=exc.retry_after_seconds,
            ) from exc

    async def refresh(self, flights: SingleFlight[TrustMaterial]) -> TrustMaterial:
        """Renew now because somebody asked, at a bounded rate.

        Raises:
            RateLimitedError: If people asked too often.
            TrustUnavailableError: If the repository cannot be read.
            TrustExpiredError: If what it serves has expired.
            TrustInvalidError: If what it serves does not verify.
        """
        wait = self._asked.take(trio.current_time())
        if wait:
            raise RateLimitedError(
                f"the trust root of {self.instance.name!r} was refreshed a moment ago",
                retry_after_seconds=wait,
            )
        self._wanted.set()
        return await flights.run(("refresh", self.instance), self._refresh)

    def status(self) -> InstanceStatus:
        """Return what there is to show."""
        held = self._held
        return InstanceStatus(
            name=self.instance.name,
            source="tuf",
            url=shown_url(self.instance.url),
            state=self._state(),
            version=None if held is None else held.version,
            fetched=None if held is None else held.fetched,
            expires=None if held is None else held.expires,
            error=None if self._error is None else self._error.message,
            error_time=self._error_time,
            refreshing=self._is_refreshing,
        )

    def _state(self) -> State:
        held, now = self._held, self._clock.now()
        if held is None:
            return "unavailable" if self._error is not None else "unused"
        if held.has_expired(now):
            return "expired"
        is_old = now - held.fetched > STALE_AFTER
        return "stale" if self._error is not None or is_old else "fresh"

    # --- in the background -----------------------------------------------------------------

    def want(self) -> None:
        """Load, and keep fresh from now on, though nobody has asked yet."""
        self._wanted.set()

    async def keep_fresh(self, flights: SingleFlight[TrustMaterial]) -> None:
        """Once the instance is wanted, load it and renew it when due, for ever."""
        await self._wanted.wait()
        await self._load()
        pauses = backoff(RETRY_FIRST_SECONDS, RETRY_CAP_SECONDS, self._rng)
        while True:
            if not self._is_due():
                await trio.sleep(LOOK_SECONDS)
                continue
            try:
                await flights.run(("refresh", self.instance), self._refresh)
            except _EXPECTED:
                await trio.sleep(max(RETRY_LEAST_SECONDS, next(pauses)))
            else:
                pauses = backoff(RETRY_FIRST_SECONDS, RETRY_CAP_SECONDS, self._rng)
                # Also of metadata that lives for seconds.
                await trio.sleep(RETRY_LEAST_SECONDS)

    def _is_due(self) -> bool:
        held, now = self._held, self._clock.now()
        # Fetched in the future: the clock was wrong then, or is now.
        return held is None or self._due is None or now >= self._due or now < held.fetched

    # --- the work --------------------------------------------------------------------------

    async def _obtain(self, flights: SingleFlight[TrustMaterial]) -> TrustMaterial:
        await self._load()
        held = self._held
        is_usable = held is not None and not held.has_expired(self._clock.now())
        wait = self._quiet_until - trio.current_time()
        if held is not None and is_usable and not (self._must_refresh and wait <= 0):
            return held
        if wait > 0 and self._error is not None:
            raise type(self._error)(self._error.message, retry_after_seconds=wait)
        patience = HELD_WAIT_SECONDS if is_usable else WAIT_SECONDS
        with trio.move_on_after(patience):
            try:
                return await flights.run(("refresh", self.instance), self._refresh)
            except _EXPECTED:
                if held is None or not is_usable:
                    raise
                return held
        self._quiet_until = trio.current_time() + QUIET_SECONDS
        if held is not None and is_usable:
            return held
        raise TrustUnavailableError(
            f"the TUF repository {shown_url(self.instance.url)} has not delivered within"
            f" {patience:g} seconds",
            hint="check the network, or try again; `keyless trust status` says more",
        )

    async def _load(self) -> None:
        """Take over what the cache holds, expired or not; without a network."""
        async with self._loading:
            if self._is_loaded:
                return
            try:
                checked = await self._repository.load(self.instance)
                if checked is not None and self._held is None:
                    self._hold(await self._material(checked), checked)
            except _EXPECTED as exc:
                self._note(exc)
            self._is_loaded = True

    async def _refresh(self) -> TrustMaterial:
        self._is_refreshing = True
        try:
            checked = await self._repository.refresh(self.instance)
            material = await self._material(checked)
        except _EXPECTED as exc:
            self._note(exc)
            self._quiet_until = trio.current_time() + self._quiet_seconds
            raise
        finally:
            self._is_refreshing = False
        self._hold(material, checked)
        self._is_loaded = True
        self._must_refresh = False
        self._error = self._error_time = None
        return material

    def _note(self, exc: _TrustError) -> None:
        self._error, self._error_time = exc, self._clock.now()

    def _hold(self, material: TrustMaterial, checked: Checked) -> None:
        self._held = material
        # Repositories whose metadata lives for hours are asked more often than daily.
        period = min(RENEW_EVERY, (checked.expires - checked.fetched) / 2)
        self._due = checked.fetched + period * (1.0 - self._rng.uniform(0.0, RENEW_JITTER))

    async def _material(self, checked: Checked) -> TrustMaterial:
        name, urls = self.instance.name, self.instance.urls
        try:
            root = await self._parsed.trusted_root(checked.trusted_root)
            config = None
            if checked.signing_config is not None:
                config = await self._parsed.signing_config(checked.signing_config)
        except InvalidInputError as exc:
            raise TrustInvalidError(
                f"what the repository of {name!r} holds: {exc.message}"
            ) from exc
        return TrustMaterial(
            instance=name,
            trusted_root=root,
            signing_config=with_stated_urls(config, urls, root),
            version=version_of(checked.trusted_root, checked.signing_config, urls),
            source="tuf",
            fetched=checked.fetched,
            expires=checked.expires,
        )

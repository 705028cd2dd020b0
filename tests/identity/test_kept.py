"""A held token: when it is renewed, when it is dead, who shares it."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import trio

from issuer_rig import EPOCH, FakeClock, Issuer
from keylessd.errors import IdentityError
from keylessd.flow.singleflight import SingleFlight
from keylessd.identity.held.kept import FETCH_SECONDS, MAX_PAUSE, KeptToken, kept_from
from keylessd.identity.token import parse_token
from keylessd.secret import Secret


class Source:
    """Mints; fails on demand; takes as long as it is told."""

    def __init__(self, clock: FakeClock, *, keeps: bool = True) -> None:
        self.issuer = Issuer(clock)
        self.keeps = keeps
        self.calls = 0
        self.errors: list[IdentityError] = []
        self.takes = 0.0
        self.same: Secret | None = None

    async def fetch(self):
        self.calls += 1
        await trio.sleep(self.takes)
        if self.errors:
            raise self.errors.pop(0)
        raw = self.same or Secret(self.issuer.token(jti=str(self.calls)))
        return parse_token(raw)


@asynccontextmanager
async def kept(*, keeps: bool = True, lifetime: int = 3600):
    clock = FakeClock()
    source = Source(clock, keeps=keeps)
    source.issuer.lifetime = lifetime
    async with trio.open_nursery() as nursery:
        token = KeptToken(
            source,
            name="it",
            key="it",
            flights=SingleFlight(nursery),
            nursery=nursery,
            clock=clock,
            rng=random.Random(0),
        )
        yield clock, source, token
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("lifetime", "earliest", "latest"),
    [
        (60, 50, 50),  # lazily, when it is dead
        (119, 109, 109),
        (120, 54, 60),
        (300, 135, 150),
        (301, 216, 241),
        (3600, 2592, 2880),
        (5, 0, 0),
    ],
)
def test_thresholds(lifetime: int, earliest: float, latest: float) -> None:
    token = parse_token(Secret(Issuer(FakeClock()).token(exp=int(EPOCH.timestamp()) + lifetime)))
    for seed in range(20):
        found = kept_from(token, asked=100.0, now=EPOCH, rng=random.Random(seed))
        assert earliest <= found.renew_at - 100.0 <= latest
        assert found.dead_at - 100.0 == max(lifetime - 10, 0)
        assert found.last_moment == EPOCH + timedelta(seconds=lifetime - 10)


async def test_a_thousand_at_a_time_are_one_call(autojump_clock) -> None:
    async with kept() as (_, source, token):
        source.takes = 1.0
        got = []

        async def ask() -> None:
            got.append(await token.get())

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(ask)
        assert (len(got), len({one.sha256 for one in got}), source.calls) == (1000, 1, 1)


async def test_between_the_thresholds_the_old_one_is_given_and_a_new_one_got(
    autojump_clock,
) -> None:
    async with kept() as (clock, source, token):
        first = await token.get()
        clock.advance(2500)
        assert await token.get() is first
        await trio.sleep(1)
        assert source.calls == 1
        clock.advance(400)
        for _ in range(100):
            assert await token.get() is first  # at once, also while it is renewed
        await trio.sleep(1)
        assert source.calls == 2
        assert await token.get() is not first


async def test_nothing_is_renewed_that_nobody_asks_for(autojump_clock) -> None:
    async with kept() as (clock, source, token):
        await token.get()
        clock.advance(3000)
        await trio.sleep(10_000)
        assert source.calls == 1


async def test_a_dead_one_is_never_given(autojump_clock) -> None:
    async with kept() as (clock, source, token):
        first = await token.get()
        clock.advance(3591)
        assert token.alive is None
        assert await token.get() is not first
        source.errors = [IdentityError("identity_unavailable", "no")]
        clock.advance(3591)
        with pytest.raises(IdentityError):
            await token.get()


async def test_only_a_token_that_was_had_is_a_use(autojump_clock) -> None:
    async with kept() as (clock, source, token):
        source.errors = [IdentityError("identity_unavailable", "no")]
        with pytest.raises(IdentityError):
            await token.get()
        assert token.last_used is None
        clock.advance(10)
        await token.get()
        first = token.last_used
        assert first == clock.now()
        clock.advance(10)
        await token.get()
        assert token.last_used == clock.now() != first


async def test_suspend_counts(autojump_clock) -> None:
    async with kept() as (clock, source, token):
        await token.get()
        clock.suspend(4000)
        await token.get()
        assert source.calls == 2


async def test_a_clock_that_is_set_back_revives_nothing(autojump_clock) -> None:
    async with kept() as (clock, source, token):
        await token.get()
        clock.advance(3591)
        clock.jump(-3000)
        assert token.alive is None
        await token.get()
        assert source.calls == 2


async def test_a_clock_that_is_set_ahead_ends_it(autojump_clock) -> None:
    async with kept() as (clock, _, token):
        await token.get()
        clock.jump(3600)
        assert token.alive is None


async def test_a_failed_renewal_is_told_and_the_token_used_on(autojump_clock) -> None:
    async with kept() as (clock, source, token):
        first = await token.get()
        clock.advance(3000)
        source.errors = [IdentityError("identity_unavailable", "down", retryable=True)]
        assert await token.get() is first
        await trio.sleep(1)
        assert token.problem == "down"
        assert await token.get() is first
        await trio.sleep(1)
        assert source.calls == 2  # not asked again at once
        clock.advance(2)
        await token.get()
        await trio.sleep(1)
        assert (source.calls, token.problem) == (3, None)


async def test_a_failure_counts_for_a_while_longer_each_time(autojump_clock) -> None:
    async with kept() as (clock, source, token):
        waits = []
        for _ in range(9):
            source.errors = [IdentityError("identity_unavailable", "down")]
            with pytest.raises(IdentityError):
                await token.get()
            calls, waited = source.calls, 0.0
            while source.calls == calls:
                source.errors = [IdentityError("identity_unavailable", "down")]
                clock.advance(0.5)
                waited += 0.5
                with pytest.raises(IdentityError):
                    await token.get()
            waits.append(waited)
        assert 1.0 <= waits[0] <= 3.0
        assert waits[:6] == sorted(waits[:6])
        assert MAX_PAUSE <= waits[-1] <= MAX_PAUSE * 1.1 + 0.5


@pytest.mark.parametrize(("asked", "waited"), [(20.0, 20.0), (9999.0, 300.0)])
async def test_retry_after_is_honoured_within_bounds(autojump_clock, asked, waited) -> None:
    async with kept() as (clock, source, token):
        source.errors = [IdentityError("identity_unavailable", "later", retry_after_seconds=asked)]
        with pytest.raises(IdentityError):
            await token.get()
        clock.advance(waited - 1)
        with pytest.raises(IdentityError, match="later"):
            await token.get()
        assert source.calls == 1
        clock.advance(waited * 0.1 + 2)
        await token.get()
        assert source.calls == 2


async def test_one_that_is_never_kept_is_got_for_every_use(autojump_clock) -> None:
    async with kept(keeps=False) as (_, source, token):
        first = await token.get()
        assert await token.get() is not first
        assert token.alive is None
        source.errors = [IdentityError("identity_unavailable", "half")]
        with pytest.raises(IdentityError):
            await token.get()
        await token.get()  # at once: a file may be whole the next moment
        assert source.calls == 4


async def test_a_server_that_gives_the_same_again_is_not_asked_all_the_time(
    autojump_clock,
) -> None:
    async with kept() as (clock, source, token):
        source.same = Secret(source.issuer.token())
        await token.get()
        clock.advance(3400)
        for _ in range(50):
            await token.get()
            await trio.sleep(0.1)
            clock.advance(1.0)
        assert source.calls <= 8


async def test_one_that_takes_for_ever_is_given_up(autojump_clock) -> None:
    async with kept() as (_, source, token):
        source.takes = 10_000.0
        began = trio.current_time()
        with pytest.raises(IdentityError, match="within 45 seconds") as caught:
            await token.get()
        assert caught.value.retryable
        assert trio.current_time() - began == FETCH_SECONDS


async def test_a_waiter_that_leaves_does_not_end_the_call_of_others(autojump_clock) -> None:
    async with kept() as (_, source, token):
        source.takes = 2.0
        async with trio.open_nursery() as nursery:
            got = []

            async def wait() -> None:
                got.append(await token.get())

            nursery.start_soon(wait)
            with trio.move_on_after(1.0):
                await token.get()
        assert (len(got), source.calls) == (1, 1)


async def test_the_log_tells_of_a_renewal_that_failed(autojump_clock, caplog) -> None:
    async with kept() as (clock, source, token):
        await token.get()
        clock.advance(3000)
        source.errors = [IdentityError("identity_unavailable", "the server is down")]
        await token.get()
        await trio.sleep(1)
        assert [record.getMessage() for record in caplog.records] == ["identity.not_renewed"]

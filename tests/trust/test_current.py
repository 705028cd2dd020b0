"""Which trust is in force, when it is renewed, and what happens if that fails: in virtual time."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx
import pytest
import trio
import trio.lowlevel
import trio.testing

from keylessd.core.signing_config import select_ca, select_rekor
from keylessd.errors import (
    InvalidInputError,
    RateLimitedError,
    ShuttingDownError,
    TrustExpiredError,
    TrustInvalidError,
    TrustUnavailableError,
    UnknownInstanceError,
)
from keylessd.flow.singleflight import SingleFlight
from keylessd.flow.threads import Threads, run_inline
from keylessd.services.http import HttpClient, new_client
from keylessd.trust.current import Trust
from keylessd.trust.instances import TufInstance
from keylessd.trust.offline import Checked
from keylessd.trust.where import Urls, Where
from sigsim.trust_files import log, signing_config, trusted_root

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
ROOT, CONFIG = trusted_root(), signing_config()
OTHER_ROOT = trusted_root(log("https://other.example", v2=True))


class Clock:
    """The wall clock runs with trio's virtual one."""

    offset = timedelta()

    def now(self):
        return EPOCH + timedelta(seconds=trio.current_time()) + self.offset


class FakeRepository:
    """What the network and the cache would say."""

    def __init__(self, clock):
        self.clock = clock
        self.cached = None
        self.cache_error = self.error = None
        self.refreshes = []
        self.loads = 0
        self.life = timedelta(days=7)
        self.root, self.config = ROOT, CONFIG
        self.seconds = 1.0

    def set_of_now(self, age=timedelta()):
        fetched = self.clock.now() - age
        return Checked(self.root, self.config, fetched, fetched + self.life, 1)

    async def load(self, instance):
        self.loads += 1
        await trio.lowlevel.checkpoint()
        if self.cache_error is not None:
            raise self.cache_error
        return self.cached

    async def refresh(self, instance):
        self.refreshes.append((instance.name, trio.current_time()))
        await trio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.set_of_now()


class House:
    def __init__(self, **kwargs):
        self.clock = Clock()
        self.repository = FakeRepository(self.clock)
        transport = httpx.MockTransport(lambda request: httpx.Response(500))
        self.trust = Trust(
            {
                name: TufInstance(name, f"https://{name}.example", b"root", **kwargs)
                for name in ("public", "other")
            },
            default="public",
            http=HttpClient(new_client(transport=transport), rng=random.Random(1), user_agent="t"),
            cache_dir=None,
            clock=self.clock,
            threads=Threads(run_inline),
            rng=random.Random(1),
            repository=self.repository,
        )

    @asynccontextmanager
    async def running(self):
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: self.trust.run(task_status=task_status))
            yield self.trust
            nursery.cancel_scope.cancel()

    def status(self, name="public"):
        return next(status for status in self.trust.status() if status.name == name)


async def settle():
    await trio.testing.wait_all_tasks_blocked()


# --- start ---------------------------------------------------------------------------------


async def test_warm_start_needs_no_network(autojump_clock):
    house = House()
    house.repository.cached = house.repository.set_of_now(age=timedelta(hours=3))
    async with house.running() as trust:
        assert trio.current_time() == 0  # nothing is waited for
        material = await trust.material(Where())
        assert material.fetched == EPOCH - timedelta(hours=3)
        assert material.instance == "public"
        assert not house.repository.refreshes
        assert house.status().state == "fresh"


async def test_cold_start_fetches_in_the_background_and_requests_join_in(autojump_clock):
    house, found = House(), []
    async with house.running() as trust:

        async def ask():
            found.append(await trust.material(Where()))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
        assert len(found) == 50
        assert all(one is found[0] for one in found)
        assert house.repository.refreshes == [("public", 0)]
        assert house.repository.loads == 1


async def test_instances_that_nobody_uses_are_left_alone(autojump_clock):
    house = House()
    async with house.running() as trust:
        await trio.sleep(3 * 86400)
        assert {name for name, _ in house.repository.refreshes} == {"public"}
        assert house.status("other").state == "unused"
        await trust.material(Where("other"))
        assert ("other", 3 * 86400) in house.repository.refreshes
        await trio.sleep(2 * 86400)
        assert len([name for name, _ in house.repository.refreshes if name == "other"]) >= 2


async def test_request_before_the_start_waits_for_it(autojump_clock):
    house, found = House(), []

    async def ask():
        found.append(await house.trust.material(Where()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(5)
        assert not found
        async with house.running():
            await trio.sleep(5)
            assert found


async def test_shutdown_is_said(autojump_clock):
    house = House()
    house.repository.seconds = 1000
    outcome = []

    async def ask():
        with pytest.raises(ShuttingDownError):
            await house.trust.material(Where())
        outcome.append("told")

    async with trio.open_nursery() as nursery, house.running():
        nursery.start_soon(ask)
        await settle()
    assert outcome == ["told"]


def test_unknown_default_is_refused():
    with pytest.raises(UnknownInstanceError, match="'nowhere'"):
        Trust(
            {},
            default="nowhere",
            http=None,
            cache_dir=None,
            clock=Clock(),
            threads=Threads(run_inline),
            rng=random.Random(1),
            repository=FakeRepository(None),
        )


# --- renewal -------------------------------------------------------------------------------


async def test_renewed_daily_with_jitter(autojump_clock):
    house = House()
    async with house.running():
        await trio.sleep(10 * 86400)
    times = [time for _, time in house.repository.refreshes]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert all(18 * 3600 <= gap <= 24.5 * 3600 for gap in gaps)
    assert len({round(gap / 900) for gap in gaps}) > 2


async def test_short_lived_metadata_is_renewed_in_time(autojump_clock):
    house = House()
    house.repository.life = timedelta(hours=4)
    async with house.running() as trust:
        for _ in range(100):
            await trio.sleep(1200)
            material = await trust.material(Where())
            assert material.expires - house.clock.now() > timedelta(hours=1)
            assert house.status().state == "fresh"


async def test_metadata_that_lives_for_an_instant_is_not_fetched_without_pause(autojump_clock):
    house = House()
    house.repository.life = timedelta(seconds=1)
    async with house.running():
        await trio.sleep(3600)
    assert len(house.repository.refreshes) <= 3600 / 5 + 1


async def test_clock_that_jumps_makes_it_due(autojump_clock):
    house = House()
    async with house.running():
        await trio.sleep(60)
        house.clock.offset = timedelta(hours=30)  # a machine that slept
        await trio.sleep(1000)
        assert len(house.repository.refreshes) == 2
        house.clock.offset = timedelta(days=-30)  # and one whose clock was put right
        await trio.sleep(1000)
        assert len(house.repository.refreshes) == 3


async def test_outage_of_days_is_survived_and_shown(autojump_clock):
    house = House()
    async with house.running() as trust:
        await trio.sleep(10)
        first = await trust.material(Where())
        house.repository.error = TrustUnavailableError("the CDN is down")
        await trio.sleep(5 * 86400)
        assert await trust.material(Where()) is first
        status = house.status()
        assert (status.state, status.error) == ("stale", "the CDN is down")
        assert status.error_time is not None
        # Tried again and again, but not in a frenzy.
        assert 50 < len(house.repository.refreshes) < 600

        house.repository.error = None
        await trio.sleep(3600)
        assert house.status().state == "fresh"
        assert house.status().error is None


async def test_past_expiry_signing_stops(autojump_clock):
    house = House()
    async with house.running() as trust:
        await trio.sleep(10)
        house.repository.error = TrustUnavailableError("the CDN is down")
        await trio.sleep(7 * 86400)
        for purpose in ("sign", "verify"):
            with pytest.raises(TrustExpiredError, match="the CDN is down") as caught:
                await trust.material(Where(), purpose)
            assert "2030-01-08" in caught.value.message
        assert house.status().state == "expired"
        house.repository.error = None
        await trio.sleep(3600)
        await trust.material(Where())


async def test_verification_may_go_on_if_the_settings_say_so(autojump_clock):
    house = House()
    for source in house.trust._sources.values():
        source._verify_with_expired = True
    house.repository.cached = house.repository.set_of_now(age=timedelta(days=9))
    house.repository.error = TrustUnavailableError("the CDN is down")
    async with house.running() as trust:
        material = await trust.material(Where(), "verify")
        assert material.has_expired(house.clock.now())
        with pytest.raises(TrustExpiredError):
            await trust.material(Where(), "sign")


@pytest.mark.parametrize("error", [TrustUnavailableError, TrustInvalidError, TrustExpiredError])
async def test_nothing_held_and_nothing_to_be_had(autojump_clock, error):
    house = House()
    house.repository.error = error("no luck")
    async with house.running() as trust:
        for _ in range(2):
            with pytest.raises(error, match="no luck"):
                await trust.material(Where())
        assert house.status().state == "unavailable"


async def test_requests_do_not_hammer_a_dead_repository(autojump_clock):
    house = House()
    house.repository.error = TrustUnavailableError("no route")
    async with house.running() as trust:
        for _ in range(200):
            with pytest.raises(TrustUnavailableError) as caught:
                await trust.material(Where("other"))
            await trio.sleep(0.1)
        asked = [time for name, time in house.repository.refreshes if name == "other"]
        assert len(asked) <= 4
        assert caught.value.retry_after_seconds is not None
        assert 0 < caught.value.retry_after_seconds <= 10


async def test_request_does_not_wait_long_for_what_drips_in(autojump_clock):
    house = House()
    house.repository.seconds = 60.0
    async with house.running() as trust:
        with pytest.raises(TrustUnavailableError, match=r"public\.example has not delivered"):
            await trust.material(Where())
        assert trio.current_time() == 20
        # It was not given up: whoever asks later finds it.
        await trio.sleep(41)
        assert (await trust.material(Where())).instance == "public"
        assert len(house.repository.refreshes) == 1


async def test_usable_material_is_not_held_back_by_a_slow_repository(autojump_clock):
    house = House()
    house.repository.cached = house.repository.set_of_now(age=timedelta(hours=1))
    house.repository.seconds = 60.0
    source = house.trust._tuf_source(
        TufInstance("local", "http://127.0.0.1:1", b"root"), refresh_first=True
    )
    async with trio.open_nursery() as nursery:
        flights = SingleFlight(nursery)
        material = await source.get("sign", flights)
        assert trio.current_time() == 3
        assert material.fetched == EPOCH - timedelta(hours=1)
        # Not each request waits anew.
        for _ in range(5):
            await source.get("sign", flights)
        assert trio.current_time() == 3
        house.repository.seconds = 1.0
        await trio.sleep(10)
        assert (await source.get("sign", flights)).fetched > EPOCH


async def test_damaged_cache_is_replaced(autojump_clock):
    house = House()
    house.repository.cache_error = TrustInvalidError("damaged")
    async with house.running() as trust:
        await trust.material(Where())
        assert house.status().state == "fresh"


@pytest.mark.parametrize(("root", "config"), [(b"{}", CONFIG), (ROOT, b"[]")])
async def test_target_that_does_not_parse_leaves_the_old_one(autojump_clock, root, config):
    house = House()
    async with house.running() as trust:
        first = await trust.material(Where())
        house.repository.root, house.repository.config = root, config
        with pytest.raises(TrustInvalidError, match="what the repository of 'public' holds"):
            await trust.refresh("public")
        assert await trust.material(Where()) is first
        assert house.status().state == "stale"


async def test_refresh_on_demand(autojump_clock):
    house = House()
    async with house.running() as trust:
        first = await trust.material(Where())
        house.repository.root = OTHER_ROOT
        second = await trust.refresh("public")
        assert second.version != first.version
        assert await trust.material(Where()) is second
        same = await trust.refresh("public")
        assert same.version == second.version
        assert same.fetched > second.fetched
        with pytest.raises(UnknownInstanceError):
            await trust.refresh("nowhere")


async def test_refresh_on_demand_is_limited(autojump_clock):
    house = House()
    house.repository.seconds = 0
    async with house.running() as trust:
        await trio.sleep(1)
        for _ in range(5):
            await trust.refresh("public")
        with pytest.raises(RateLimitedError) as caught:
            await trust.refresh("public")
        assert caught.value.retry_after_seconds == pytest.approx(5)
        await trio.sleep(5)
        await trust.refresh("public")


async def test_concurrent_refreshes_are_one(autojump_clock):
    house = House()
    async with house.running() as trust:
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(trust.refresh, "public")
        assert len(house.repository.refreshes) == 2


# --- what a request brings -----------------------------------------------------------------


async def test_unknown_instance(autojump_clock):
    with pytest.raises(UnknownInstanceError, match="known are other, public") as caught:
        await House().trust.material(Where("no\nwhere"))
    assert caught.value.message.isprintable()


async def test_files_of_the_request_need_no_instance(autojump_clock):
    house = House()
    material = await house.trust.material(Where(trusted_root=OTHER_ROOT, signing_config=CONFIG))
    assert material.source == "request"
    assert material.instance == f"files:{material.trusted_root.sha256[:12]}"
    assert material.expires is None
    assert material.signing_config is not None
    alone = await house.trust.material(Where(trusted_root=OTHER_ROOT))
    assert alone.signing_config is None
    assert alone.trusted_root is material.trusted_root  # parsed once
    assert alone.version != material.version
    assert not house.repository.loads


async def test_trust_config_is_both(autojump_clock):
    house = House()
    both = (
        b'{"mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json", "trustedRoot": '
        + OTHER_ROOT
        + b', "signingConfig": '
        + CONFIG
        + b"}"
    )
    material = await house.trust.material(Where(trust_config=both))
    assert [one.name for one in material.trusted_root.tlogs] == ["other.example"]
    assert material.signing_config is not None


@pytest.mark.parametrize(
    "where",
    [
        Where(trusted_root=ROOT, instance="public"),
        Where(trust_config=b"{}", trusted_root=ROOT),
        Where(trust_config=b"{}", signing_config=CONFIG),
        Where(trust_config=b"{}"),
        Where(trusted_root=b"{}"),
        Where(trusted_root=b""),
        Where(trusted_root=ROOT, signing_config=b"[]"),
        Where(trusted_root=b" " * ((1 << 20) + 1)),
        Where(trusted_root=ROOT, urls=Urls(fulcio="http://fulcio.example")),
        Where(trusted_root=ROOT, urls=Urls(rekor="rekor.example")),
        Where(trusted_root=ROOT, urls=Urls(tsa="ftp://tsa.example")),
        Where(trusted_root=ROOT, urls=Urls(oidc_issuer="")),
    ],
)
async def test_bad_choices_are_refused(autojump_clock, where):
    with pytest.raises(InvalidInputError):
        await House().trust.material(where)


async def test_signing_config_over_an_instance(autojump_clock):
    house = House()
    async with house.running() as trust:
        base = await trust.material(Where())
        mine = await trust.material(Where(signing_config=signing_config("mine.example")))
        assert mine.trusted_root is base.trusted_root
        assert mine.signing_config is not None
        assert select_ca(mine.signing_config, EPOCH).url == "https://fulcio.mine.example"
        assert mine.expires == base.expires
        assert mine.version != base.version


async def test_urls_over_an_instance(autojump_clock):
    house = House()
    async with house.running() as trust:
        base = await trust.material(Where())
        mine = await trust.material(Where(urls=Urls(rekor="https://mine.example")))
        assert mine.signing_config is not None
        assert select_rekor(mine.signing_config, EPOCH).services[0].url == "https://mine.example"
        assert mine.version != base.version
        again = await trust.material(Where("public", urls=Urls(rekor="https://mine.example")))
        assert again == mine


async def test_versions_tell_everything_apart(autojump_clock):
    trust = House().trust
    wheres = [
        Where(trusted_root=ROOT),
        Where(trusted_root=OTHER_ROOT),
        Where(trusted_root=ROOT, signing_config=CONFIG),
        *(
            Where(trusted_root=ROOT, signing_config=CONFIG, urls=Urls(**{name: url}))
            for name in ("fulcio", "rekor", "oidc_issuer", "tsa")
            for url in ("https://a.example", "https://b.example")
        ),
    ]
    versions = [(await trust.material(where)).version for where in wheres]
    assert len(set(versions)) == len(wheres)
    assert versions == [(await trust.material(where)).version for where in wheres]


async def test_urls_of_the_settings(autojump_clock):
    house = House(urls=Urls(fulcio="https://ours.example"))
    async with house.running() as trust:
        ours = await trust.material(Where())
        assert select_ca(ours.signing_config, EPOCH).url == "https://ours.example"
        both = await trust.material(Where(urls=Urls(fulcio="https://mine.example")))
        assert select_ca(both.signing_config, EPOCH).url == "https://mine.example"


async def test_parsed_files_are_bounded(autojump_clock):
    trust = House().trust
    for number in range(100):
        await trust.material(Where(trusted_root=ROOT + b" " * number))
    assert len(trust._parsed._roots._kept) == 64

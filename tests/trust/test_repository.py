"""TUF refreshes over HTTP, against a repository that attacks: the old set stays published.

Worker threads do the work here as they do in the daemon, so these tests use the real clock; none
of them waits on it.
"""

from __future__ import annotations

import copy
import errno
import fcntl
import os
import random
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import trio
import trio.testing
from tuf.api.metadata import MetaFile

from keylessd.errors import TrustExpiredError, TrustInvalidError, TrustUnavailableError
from keylessd.flow.threads import Threads
from keylessd.services.http import HttpClient, new_client
from keylessd.trust import downloads as downloads_module
from keylessd.trust import repository as repository_module
from keylessd.trust.instances import TufInstance
from keylessd.trust.repository import Repository
from keylessd.trust.store import CacheRefusedError
from sigsim.tuf import URL, Chunks, TufSim, sign

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
TARGETS = {"trusted_root.json": b'{"version": 1}', "signing_config.v0.2.json": b'{"config": 1}'}
NEWER = {"trusted_root.json": b'{"version": 2}', "signing_config.v0.2.json": b'{"config": 2}'}


class Clock:
    def __init__(self):
        self.time = NOW

    def now(self):
        return self.time


class NoPause(random.Random):
    def uniform(self, a, b):
        return 0.0


class House:
    """A repository, its client, and the client's cache."""

    def __init__(self, sim, cache_dir):
        self.sim = sim
        self.clock = Clock()
        self.cache_dir = cache_dir
        self.instance = TufInstance("test", URL, sim.first_root)
        http = HttpClient(
            new_client(transport=httpx.MockTransport(sim.handle)),
            rng=NoPause(),
            user_agent="test",
        )
        self.repository = Repository(
            http=http, cache_dir=cache_dir, clock=self.clock, threads=Threads()
        )

    @property
    def directory(self):
        return self.cache_dir / "tuf" / self.instance.cache_key

    async def refresh(self):
        self.sim.requests.clear()
        return await self.repository.refresh(self.instance)

    async def load(self):
        self.sim.requests.clear()
        checked = await self.repository.load(self.instance)
        assert not self.sim.requests
        return checked


@pytest.fixture(params=["ed25519", "ecdsa"])
def house(request, tmp_path):
    return House(TufSim(NOW, TARGETS, scheme=request.param), tmp_path / "cache")


@pytest.fixture
def plain(tmp_path):
    return House(TufSim(NOW, TARGETS), tmp_path / "cache")


async def refused(house, error, match):
    """Expect a refresh to fail, and the set from before to be in force and untouched."""
    before = await house.load()
    published = (house.directory / "published.json").read_bytes()
    with pytest.raises(error, match=match) as caught:
        await house.refresh()
    assert (house.directory / "published.json").read_bytes() == published
    assert await house.load() == before
    assert caught.value.message.isprintable()
    return caught.value


# --- what works ----------------------------------------------------------------------------


async def test_first_refresh(house):
    assert await house.load() is None
    checked = await house.refresh()
    assert checked.trusted_root == TARGETS["trusted_root.json"]
    assert checked.signing_config == TARGETS["signing_config.v0.2.json"]
    assert checked.fetched == NOW
    assert checked.expires == NOW + timedelta(days=7)
    assert checked.root_version == 1
    assert await house.load() == checked


async def test_unchanged_repository_costs_two_requests(plain):
    await plain.refresh()
    plain.clock.time += timedelta(days=1)
    checked = await plain.refresh()
    assert plain.sim.requests == ["2.root.json", "timestamp.json"]
    assert checked.fetched == NOW + timedelta(days=1)


async def test_new_targets_are_fetched(plain):
    await plain.refresh()
    plain.sim.set_targets(NEWER)
    plain.sim.publish()
    assert (await plain.refresh()).trusted_root == NEWER["trusted_root.json"]
    assert (await plain.load()).trusted_root == NEWER["trusted_root.json"]


@pytest.mark.parametrize("status", [403, 404])
async def test_no_next_root_means_current(plain, status):
    async def fault(request):
        return httpx.Response(status) if request.url.path.endswith("2.root.json") else None

    plain.sim.fault = fault
    assert (await plain.refresh()).root_version == 1


async def test_root_walks_over_several_rotations(house):
    await house.refresh()
    house.sim.rotate("root")
    house.sim.rotate("timestamp")
    house.sim.rotate("root")
    house.sim.publish()
    assert (await house.refresh()).root_version == 4
    assert (await house.load()).root_version == 4
    await house.refresh()
    assert house.sim.requests == ["5.root.json", "timestamp.json"]


async def test_expired_roots_on_the_way_do_not_matter(plain):
    plain.sim.root.expires = NOW - timedelta(days=1)
    plain.sim.publish_root()
    plain.sim.root.expires = NOW + timedelta(days=1)
    plain.sim.publish_root()
    checked = await plain.refresh()
    assert checked.root_version == 3
    assert checked.expires == NOW + timedelta(days=1)


async def test_newer_first_root_uses_the_same_cache(plain):
    plain.sim.rotate("root")
    plain.sim.rotate("root")
    checked = await plain.refresh()
    plain.instance = TufInstance("test", URL, plain.sim.files["2.root.json"])
    assert await plain.load() == checked
    plain.instance = TufInstance("test", URL, plain.sim.files["3.root.json"])
    assert await plain.load() == checked
    await plain.refresh()
    assert plain.sim.requests == ["4.root.json", "timestamp.json"]


async def test_signing_config_may_be_absent(plain):
    plain.sim.set_targets({"trusted_root.json": b"{}"})
    plain.sim.publish()
    assert (await plain.refresh()).signing_config is None


async def test_other_signing_config_may_be_chosen(plain):
    plain.sim.set_targets({**TARGETS, "signing_config_rekor_v2.v0.2.json": b'{"v2": 1}'})
    plain.sim.publish()
    await plain.refresh()
    plain.instance = TufInstance(
        "test", URL, plain.sim.first_root, "signing_config_rekor_v2.v0.2.json"
    )
    with pytest.raises(TrustInvalidError):
        await plain.load()
    assert (await plain.refresh()).signing_config == b'{"v2": 1}'
    assert (await plain.load()).signing_config == b'{"v2": 1}'


async def test_cache_outlives_its_expiry_and_says_so(plain):
    await plain.refresh()
    plain.clock.time = NOW + timedelta(days=30)
    assert (await plain.load()).expires == NOW + timedelta(days=7)


# --- attacks -------------------------------------------------------------------------------


async def test_rollback_of_the_timestamp(house):
    old = dict(house.sim.files)
    house.sim.set_targets(NEWER)
    house.sim.publish()
    await house.refresh()
    house.sim.files = old
    await refused(house, TrustInvalidError, "timestamp version 1 must be >= 2")


async def test_rollback_of_the_snapshot(plain):
    first = plain.sim.timestamp.snapshot_meta
    plain.sim.publish()
    await plain.refresh()
    plain.sim.timestamp.snapshot_meta = first
    plain.sim.publish_timestamp()
    await refused(plain, TrustInvalidError, "snapshot version must be >= 2")


async def test_rollback_of_the_targets(plain):
    old = plain.sim.files["1.targets.json"]
    plain.sim.publish()
    await plain.refresh()
    plain.sim.targets.version = 1
    plain.sim.publish_snapshot(old)
    await refused(plain, TrustInvalidError, r"targets.json version 1, got 2")


async def test_frozen_repository_ends_with_its_timestamp(plain):
    await plain.refresh()
    plain.clock.time = NOW + timedelta(days=6, hours=23)
    await plain.refresh()
    plain.clock.time = NOW + timedelta(days=7)
    await refused(plain, TrustExpiredError, "timestamp.json is expired")


@pytest.mark.parametrize("role", ["root", "snapshot", "targets"])
async def test_other_expired_roles(plain, role):
    await plain.refresh()
    getattr(plain.sim, role).expires = NOW - timedelta(seconds=1)
    if role == "root":
        plain.sim.publish_root()
    plain.sim.publish()
    await refused(plain, TrustExpiredError, "expired")


async def test_mix_and_match(plain):
    """A timestamp of now, and a snapshot that was signed for another one."""
    await plain.refresh()
    plain.sim.publish()
    plain.sim.files["2.snapshot.json"] = plain.sim.files["1.snapshot.json"]
    await refused(plain, TrustInvalidError, "not trusted")


async def test_mix_and_match_of_targets(plain):
    await plain.refresh()
    other = TufSim(NOW, NEWER)
    plain.sim.publish()
    plain.sim.files["2.targets.json"] = other.files["1.targets.json"]
    await refused(plain, TrustInvalidError, "not trusted")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
async def test_wrong_key(plain, role):
    await plain.refresh()
    plain.sim.signers[role] = [plain.sim.new_key()]
    plain.sim.publish()
    await refused(plain, TrustInvalidError, f"{role} was signed by 0/1 keys")


async def test_new_root_without_the_old_key(plain):
    await plain.refresh()
    old, new = plain.sim.signers["root"], plain.sim.new_key()
    plain.sim.root.revoke_key(old[0].public_key.keyid, "root")
    plain.sim.root.add_key(new.public_key, "root")
    plain.sim.signers["root"] = [new]
    plain.sim.publish_root()
    await refused(plain, TrustInvalidError, "root was signed by 0/1 keys")


async def test_new_root_without_its_own_key(plain):
    await plain.refresh()
    old = plain.sim.signers["root"]
    plain.sim.root.revoke_key(old[0].public_key.keyid, "root")
    plain.sim.root.add_key(plain.sim.new_key().public_key, "root")
    plain.sim.publish_root()
    await refused(plain, TrustInvalidError, "root was signed by 0/1 keys")


async def test_root_below_its_threshold(plain):
    await plain.refresh()
    plain.sim.root.add_key(plain.sim.new_key().public_key, "root")
    plain.sim.root.roles["root"].threshold = 2
    plain.sim.publish_root()
    await refused(plain, TrustInvalidError, "root was signed by 1/2 keys")


async def test_root_that_skips_a_version(plain):
    await plain.refresh()
    plain.sim.root.version += 1
    plain.sim.publish_root()
    plain.sim.files["2.root.json"] = plain.sim.files["3.root.json"]
    await refused(plain, TrustInvalidError, "Expected root version 2")


async def test_another_repository_altogether(plain):
    await plain.refresh()
    plain.sim.files = TufSim(NOW, NEWER).files
    await refused(plain, TrustInvalidError, "signed by 0/1 keys")


async def test_changed_target(plain):
    await plain.refresh()
    plain.sim.set_targets(NEWER)
    plain.sim.publish()
    for path in plain.sim.files:
        if path.endswith(".trusted_root.json"):
            plain.sim.files[path] = b'{"version": 6}'
    await refused(plain, TrustInvalidError, "not trusted")


async def test_repository_without_a_trusted_root(plain):
    await plain.refresh()
    plain.sim.set_targets({"artifact.pub": b"x"})
    plain.sim.publish()
    await refused(plain, TrustInvalidError, r"no trusted_root.json")


async def test_target_that_claims_to_be_huge(plain):
    await plain.refresh()
    plain.sim.set_targets({"trusted_root.json": b"x" * ((1 << 20) + 1)})
    plain.sim.publish()
    await refused(plain, TrustInvalidError, "1048577 bytes")
    assert not any("trusted_root" in path for path in plain.sim.requests)


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 15000, b'{"signed": {"_type": "timestamp"}}'],
    ids=["empty", "object", "list", "null", "not UTF-8", "deep", "half"],
)
async def test_metadata_that_is_none(plain, text):
    await plain.refresh()
    plain.sim.files["timestamp.json"] = text
    await refused(plain, TrustInvalidError, "not trusted")


async def test_metadata_of_another_role(plain):
    await plain.refresh()
    snapshot = copy.deepcopy(plain.sim.snapshot)
    plain.sim.files["timestamp.json"] = sign(snapshot, plain.sim.signers["timestamp"])
    await refused(plain, TrustInvalidError, "Expected 'timestamp', got 'snapshot'")


async def test_negative_versions_and_odd_lengths(plain):
    await plain.refresh()
    plain.sim.timestamp.snapshot_meta = MetaFile(version=2, length=1 << 60)
    plain.sim.publish_timestamp()
    error = await refused(plain, TrustUnavailableError, "could not be read")
    assert "check the network" in error.hint


# --- a mirror that does not work -------------------------------------------------------------


def on(path, answer):
    async def fault(request):
        return await answer(request) if request.url.path.endswith(path) else None

    return fault


async def cut(pieces, *, then=None):
    for piece in pieces:
        yield piece
    if then is not None:
        raise then


async def test_body_cut_short(plain):
    await plain.refresh()
    plain.sim.publish_timestamp()
    whole = plain.sim.files["timestamp.json"]

    async def answer(request):
        return httpx.Response(200, stream=Chunks(cut([whole[:100]])))

    plain.sim.fault = on("timestamp.json", answer)
    await refused(plain, TrustInvalidError, "not trusted")


async def test_connection_cut_in_mid_body(plain):
    await plain.refresh()
    body = Chunks(cut([b"{"], then=httpx.ReadError("reset")))

    async def answer(request):
        return httpx.Response(200, stream=body)

    plain.sim.fault = on("timestamp.json", answer)
    await refused(plain, TrustUnavailableError, "reset")
    assert body.is_closed


async def test_endless_body(plain):
    await plain.refresh()
    sent = 0

    class Endless(httpx.AsyncByteStream):
        def __aiter__(self):
            return self

        async def __anext__(self):
            nonlocal sent
            sent += 1000
            return b" " * 1000

    async def answer(request):
        return httpx.Response(200, stream=Endless())

    plain.sim.fault = on("timestamp.json", answer)
    await refused(plain, TrustUnavailableError, "maximum allowed length of 16384")
    assert sent < 20000


@pytest.mark.parametrize("path", ["2.root.json", "timestamp.json"])
async def test_redirect_is_not_followed(plain, path):
    await plain.refresh()
    asked = []

    async def answer(request):
        asked.append(str(request.url))
        return httpx.Response(302, headers={"Location": "https://evil.example/" + path})

    plain.sim.fault = on(path, answer)
    await refused(plain, TrustUnavailableError, "answered 302")
    assert asked == [f"{URL}/{path}"]


@pytest.mark.parametrize("path", ["2.root.json", "timestamp.json"])
async def test_server_error_is_not_the_end_of_the_walk(plain, path):
    await plain.refresh()

    async def answer(request):
        return httpx.Response(500, text="sorry")

    plain.sim.fault = on(path, answer)
    await refused(plain, TrustUnavailableError, "answered 500")


async def test_passing_trouble_is_tried_again(plain):
    answers = [503, 502]

    async def fault(request):
        return httpx.Response(answers.pop()) if answers else None

    plain.sim.fault = fault
    assert (await plain.refresh()).root_version == 1


async def test_encoded_body_is_refused(plain):
    await plain.refresh()

    async def answer(request):
        return httpx.Response(
            200, headers={"Content-Encoding": "gzip"}, stream=Chunks(cut([b"\x1f\x8b"]))
        )

    plain.sim.fault = on("timestamp.json", answer)
    await refused(plain, TrustUnavailableError, "content encoding 'gzip'")


async def test_no_network(plain):
    await plain.refresh()

    async def fault(request):
        raise httpx.ConnectError("no route\x1b[2J")

    plain.sim.fault = fault
    await refused(plain, TrustUnavailableError, "no route")


async def test_slow_mirror_meets_the_deadline(plain, monkeypatch):
    await plain.refresh()
    monkeypatch.setattr(repository_module, "REFRESH_SECONDS", 0.05)

    async def fault(request):
        await trio.sleep_forever()

    plain.sim.fault = fault
    await refused(plain, TrustUnavailableError, "did not deliver")


async def test_mirror_that_never_answers_is_asked_once_and_not_for_long(plain, monkeypatch):
    await plain.refresh()
    monkeypatch.setattr(downloads_module, "OPEN_SECONDS", 0.05)
    asked = []

    async def fault(request):
        asked.append(request)
        await trio.sleep_forever()

    plain.sim.fault = fault
    await refused(plain, TrustUnavailableError, r"tuf\.example.*no answer within")
    assert len(asked) == 1


async def test_cancelled_refresh_ends_its_thread_and_its_response(plain):
    reached = trio.Event()

    class Stuck(httpx.AsyncByteStream):
        closed = False

        def __aiter__(self):
            return self

        async def __anext__(self):
            reached.set()
            await trio.sleep_forever()

        async def aclose(self):
            self.closed = True

    stuck = Stuck()

    async def answer(request):
        return httpx.Response(200, stream=stuck)

    plain.sim.fault = on("timestamp.json", answer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plain.refresh)
        await reached.wait()
        nursery.cancel_scope.cancel()
    assert stuck.closed
    plain.sim.fault = None
    assert (await plain.refresh()).root_version == 1  # and the lock is free


# --- the cache -----------------------------------------------------------------------------


async def test_everything_in_the_cache_is_private(plain):
    await plain.refresh()
    for directory in (plain.cache_dir, plain.cache_dir / "tuf", plain.directory):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert (plain.directory / "published.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_cache_that_others_may_enter_is_refused(plain, mode, depth):
    await plain.refresh()
    directory = (plain.cache_dir, plain.cache_dir / "tuf", plain.directory)[depth]
    directory.chmod(mode)
    with pytest.raises(CacheRefusedError, match=f"{mode:04o}"):
        await plain.repository.load(plain.instance)
    with pytest.raises(CacheRefusedError, match="others may enter") as caught:
        await plain.refresh()
    assert not plain.sim.requests
    assert str(directory) in (caught.value.hint or "")
    assert not caught.value.retryable


async def test_cache_of_another_user_is_refused(plain, monkeypatch):
    await plain.refresh()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(CacheRefusedError, match="belongs to uid"):
        await plain.repository.load(plain.instance)
    with pytest.raises(CacheRefusedError, match="belongs to uid"):
        await plain.refresh()


async def test_cache_that_may_not_be_entered_is_an_error_and_no_fault(plain, monkeypatch):
    asked = []

    def stat(path, **options):
        if str(path).endswith("published.json"):
            asked.append(path)
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, **options)

    real = os.stat
    monkeypatch.setattr(os, "stat", stat)
    await plain.refresh()
    assert await plain.load() is None
    assert asked


async def test_link_in_the_place_of_the_cache_is_refused(plain, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    plain.cache_dir.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheRefusedError, match="not a directory"):
        await plain.refresh()


async def test_cache_that_cannot_be_created(plain, tmp_path):
    (tmp_path / "file").write_text("")
    plain.cache_dir = tmp_path / "file" / "cache"
    plain.repository._cache_dir = plain.cache_dir
    with pytest.raises(TrustUnavailableError, match="cannot be created"):
        await plain.refresh()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": 2}', '{"format": 1}', '{"format": 1, "fetched": "x"}'],
)
async def test_damaged_cache_is_mended_by_a_refresh(plain, text):
    await plain.refresh()
    (plain.directory / "published.json").write_text(text)
    with pytest.raises(TrustInvalidError, match="damaged"):
        await plain.repository.load(plain.instance)
    checked = await plain.refresh()
    assert await plain.load() == checked


async def test_every_byte_of_the_published_set_is_covered(plain):
    """Flip bytes of what is signed or hashed: the load refuses, or finds the very same set."""
    plain.sim.rotate("root")
    plain.sim.publish()
    checked = await plain.refresh()
    path = plain.directory / "published.json"
    raw = path.read_bytes()
    for position in range(0, len(raw), 23):
        changed = bytearray(raw)
        changed[position] ^= 0x01
        path.write_bytes(changed)
        try:
            loaded = await plain.repository.load(plain.instance)
        except TrustInvalidError:
            continue
        assert loaded is not None
        assert loaded.trusted_root == checked.trusted_root
        assert loaded.signing_config == checked.signing_config
        assert loaded.expires == checked.expires


async def test_first_root_of_somebody_else_does_not_take_the_cache_over(plain):
    await plain.refresh()
    other = TufSim(NOW, NEWER)
    plain.instance = TufInstance("test", URL, other.first_root)
    with pytest.raises(TrustInvalidError, match="signed by 0/1 keys"):
        await plain.repository.load(plain.instance)
    plain.sim.files = other.files
    assert (await plain.refresh()).trusted_root == NEWER["trusted_root.json"]


async def test_lock_keeps_others_out(plain):
    await plain.refresh()
    with (plain.directory / ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plain.refresh)
            for _ in range(20):
                await trio.testing.wait_all_tasks_blocked()
            assert not plain.sim.requests
            fcntl.flock(other, fcntl.LOCK_UN)
    assert plain.sim.requests == ["2.root.json", "timestamp.json"]


async def test_lock_that_is_never_given_back(plain, monkeypatch):
    await plain.refresh()
    monkeypatch.setattr(repository_module, "REFRESH_SECONDS", 0.12)
    with (plain.directory / ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        await refused(plain, TrustUnavailableError, "did not deliver")

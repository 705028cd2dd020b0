"""A daemon killed at any moment of a refresh leaves a cache that works.

One test dies in place of each system call that changes the file system, in turn, so that every
moment is visited; the other kills a real process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from keylessd.trust import store as store_module
from keylessd.trust.instances import TufInstance
from keylessd.trust.offline import check
from keylessd.trust.store import InstanceStore
from keylessd.trust.update import update
from sigsim.tuf import URL, TufSim

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
OLD = {"trusted_root.json": b'{"old": 1}', "signing_config.v0.2.json": b'{"old": 2}'}
NEW = {"trusted_root.json": b'{"new": 1}', "signing_config.v0.2.json": b'{"new": 2}'}


class Fetcher(FetcherInterface):
    def __init__(self, files, before=lambda: None):
        self.files, self.before = files, before

    def _fetch(self, url):
        self.before()
        path = url.removeprefix(URL + "/")
        if path not in self.files:
            raise DownloadHTTPError("not there", 404)
        return iter([self.files[path]])


class KilledError(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches a SIGKILL."""


class Fuse:
    """Lets a number of steps pass; every later one fails, for a dead process does nothing more."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        if self.left < 0:
            raise KilledError


def fused(function, fuse):
    def step(*args, **kwargs):
        fuse()
        return function(*args, **kwargs)

    return step


def content(store, instance):
    checked = check(
        store.read(),
        first_root=instance.root,
        signing_config_target=instance.signing_config_target,
    )
    return checked.trusted_root, checked.signing_config


def test_every_moment_of_a_refresh_may_be_the_last(tmp_path, monkeypatch):
    sim = TufSim(NOW, OLD)
    instance = TufInstance("test", URL, sim.first_root)
    before = dict(sim.files)
    sim.rotate("root")
    sim.rotate("snapshot")
    sim.set_targets(NEW)
    sim.publish()

    steps = 0
    outcomes = set()
    while True:
        store = InstanceStore(tmp_path / f"cache{steps}", "test")
        store.prepare()
        update(instance, store, Fetcher(before), NOW)
        fuse = Fuse(steps)
        with monkeypatch.context() as patch:
            for name in ("replace", "symlink", "remove", "unlink", "fsync", "open"):
                patch.setattr(os, name, fused(getattr(os, name), fuse))
            try:
                update(instance, store, Fetcher(sim.files, fuse), NOW)
            except KilledError:
                was_killed = True
            else:
                was_killed = False

        # The next start, without a network: one whole set or the other.
        found = content(store, instance)
        outcomes.add(found)
        assert found in {tuple(OLD.values()), tuple(NEW.values())}
        # The next refresh: as if nothing had happened, with nothing left behind.
        update(instance, store, Fetcher(sim.files), NOW)
        assert content(store, instance) == tuple(NEW.values())
        assert not list(store.directory.glob(".publish-*"))
        assert not list(store.metadata.glob("tmp*"))
        if not was_killed:
            break
        steps += 1
    assert steps > 20
    assert len(outcomes) == 2


def test_first_refresh_killed_at_any_moment(tmp_path, monkeypatch):
    sim = TufSim(NOW, NEW)
    instance = TufInstance("test", URL, sim.first_root)
    for steps in range(60):
        store = InstanceStore(tmp_path / f"cache{steps}", "test")
        store.prepare()
        fuse = Fuse(steps)
        with monkeypatch.context() as patch:
            for name in ("replace", "symlink", "remove", "unlink", "fsync", "open"):
                patch.setattr(os, name, fused(getattr(os, name), fuse))
            try:
                update(instance, store, Fetcher(sim.files, fuse), NOW)
            except KilledError:
                pass
            else:
                break
        if store.exists():
            assert content(store, instance) == tuple(NEW.values())
        update(instance, store, Fetcher(sim.files), NOW)
        assert content(store, instance) == tuple(NEW.values())
    else:
        pytest.fail("the refresh has more steps than that")


def test_full_disk_leaves_the_old_set(tmp_path, monkeypatch):
    sim = TufSim(NOW, OLD)
    instance = TufInstance("test", URL, sim.first_root)
    store = InstanceStore(tmp_path / "cache", "test")
    store.prepare()
    update(instance, store, Fetcher(sim.files), NOW)
    sim.set_targets(NEW)
    sim.publish()

    def no_space(fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "fsync", no_space)
        with pytest.raises(store_module.TrustUnavailableError, match="No space left"):
            update(instance, store, Fetcher(sim.files), NOW)
    assert content(store, instance) == tuple(OLD.values())
    assert not list(store.directory.glob(".publish-*"))


CHILD = """
    import sys
    from datetime import datetime, UTC
    from pathlib import Path
    from tuf.api.exceptions import DownloadHTTPError
    from tuf.ngclient.fetcher import FetcherInterface
    from keylessd.trust.instances import TufInstance
    from keylessd.trust.store import InstanceStore
    from keylessd.trust.update import update

    mirrors, cache = [Path(sys.argv[1]), Path(sys.argv[2])], Path(sys.argv[3])

    class Fetcher(FetcherInterface):
        def __init__(self, mirror):
            self.mirror = mirror
        def _fetch(self, url):
            path = self.mirror / url.removeprefix("https://tuf.example/repository/")
            if not path.is_file():
                raise DownloadHTTPError("not there", 404)
            return iter([path.read_bytes()])

    root = (mirrors[0] / "1.root.json").read_bytes()
    instance = TufInstance("t", "https://tuf.example/repository", root)
    now = datetime(2030, 5, 1, 12, tzinfo=UTC)
    print("ready", flush=True)
    while True:
        store = InstanceStore(cache, "test")
        store.prepare()
        # Forget what was seen, or the older mirror would be refused as a rollback.
        for path in store.metadata.glob("*.json"):
            path.unlink()
        for mirror in mirrors:
            update(instance, store, Fetcher(mirror), now)
            print("round", flush=True)
"""


@pytest.mark.slow
@pytest.mark.system
def test_process_killed_again_and_again(tmp_path):
    sim = TufSim(NOW, OLD)
    mirrors = []
    for number, targets in enumerate((OLD, NEW)):
        sim.set_targets(targets)
        sim.publish()
        mirror = tmp_path / f"mirror{number}"
        for path, data in sim.files.items():
            (mirror / path).parent.mkdir(parents=True, exist_ok=True)
            (mirror / path).write_bytes(data)
        mirrors.append(str(mirror))
    instance = TufInstance("t", URL, sim.first_root)
    cache = tmp_path / "cache"
    store = InstanceStore(cache, "test")
    for number in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), *mirrors, str(cache)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert child.stdout is not None
        # Not by the clock: after so many lines, that is anywhere within the following round.
        for _ in range(2 + number):
            assert child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        store.check()
        assert content(store, instance) in {tuple(OLD.values()), tuple(NEW.values())}

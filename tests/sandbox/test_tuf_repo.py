"""The sandbox's TUF repository, judged by python-tuf's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from tuf.api.exceptions import DownloadHTTPError, ExpiredMetadataError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from keylessd.clock import SystemClock
from keylessd.sandbox import tuf_app
from keylessd.sandbox.tuf_repo import TufRepository
from keylessd.sandbox.vault import MemoryVault

BASE = "http://tuf.sandbox.test"


class MovedClock:
    """The machine's time, moved: python-tuf takes its own from the machine."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return SystemClock().now() + self.ahead


class Direct(FetcherInterface):
    """Reads the repository without a network."""

    def __init__(self, repository: TufRepository) -> None:
        self.repository = repository
        self.fetched: list[str] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(f"{BASE}/")
        self.fetched.append(path)
        content = self.repository.read(path)
        if content is None:
            raise DownloadHTTPError("not found", 404)
        yield content


def fetch(repository: TufRepository, folder: Path, root: bytes, name: str = "a.json") -> bytes:
    targets = folder / "targets"
    targets.mkdir(exist_ok=True)
    updater = Updater(
        str(folder / "metadata"),
        f"{BASE}/",
        str(targets),
        f"{BASE}/targets/",
        fetcher=Direct(repository),
        bootstrap=root,
    )
    updater.refresh()
    info = updater.get_targetinfo(name)
    assert info is not None
    return Path(updater.download_target(info)).read_bytes()


def first_root(repository: TufRepository) -> bytes:
    root = repository.root(1)
    assert root is not None
    return root


def version(repository: TufRepository, path: str) -> int:
    raw = repository.read(path)
    assert raw is not None
    return json.loads(raw)["signed"]["version"]


def test_client_gets_the_target(tmp_path):
    repository = TufRepository(MemoryVault(), clock=SystemClock())
    repository.publish({"a.json": b"content", "b.json": b"other"})
    assert fetch(repository, tmp_path, first_root(repository)) == b"content"


def test_new_content_reaches_a_client_that_has_the_old(tmp_path):
    repository = TufRepository(MemoryVault(), clock=SystemClock())
    repository.publish({"a.json": b"content"})
    fetch(repository, tmp_path, first_root(repository))
    repository.publish({"a.json": b"new"})
    assert fetch(repository, tmp_path, first_root(repository)) == b"new"


def test_publishing_the_same_again_changes_nothing():
    repository = TufRepository(MemoryVault(), clock=SystemClock())
    repository.publish({"a.json": b"content"})
    before = repository.read("timestamp.json")
    repository.publish({"a.json": b"content"})
    assert repository.read("timestamp.json") == before


def test_client_follows_rotated_roots_from_the_first_one(tmp_path):
    repository = TufRepository(MemoryVault(), clock=SystemClock())
    repository.publish({"a.json": b"content"})
    for _ in range(3):
        repository.rotate_root()
    assert repository.root_version == 4
    keys = {
        tuple(json.loads(repository.root(n) or b"")["signed"]["roles"]["root"]["keyids"])
        for n in range(1, 5)
    }
    assert len(keys) == 4
    assert fetch(repository, tmp_path, first_root(repository)) == b"content"


def test_repository_goes_on_after_a_restart(tmp_path):
    vault = MemoryVault()
    repository = TufRepository(vault, clock=SystemClock())
    repository.publish({"a.json": b"content"})
    repository.rotate_root()
    again = TufRepository(vault, clock=SystemClock())
    again.publish({"a.json": b"new"})
    again.rotate_root()
    assert again.root_version == 3
    assert version(again, "timestamp.json") == 2
    assert fetch(again, tmp_path, first_root(repository)) == b"new"


class KilledError(Exception):
    """Stands for a kill -9."""


class MortalVault(MemoryVault):
    """Dies instead of saving, after so many documents."""

    left: int | None = None

    def save(self, name: str, content: bytes) -> None:
        if self.left == 0:
            raise KilledError
        if self.left is not None:
            self.left -= 1
        super().save(name, content)


def change(vault: MemoryVault) -> TufRepository:
    repository = TufRepository(vault, clock=SystemClock())
    repository.publish({"a.json": b"new", "b.json": b"other"})
    if repository.root_version == 1:
        repository.rotate_root()
    return repository


@pytest.mark.parametrize("published_before", [False, True])
def test_change_that_was_cut_short_anywhere_is_made_up_for(tmp_path, published_before):
    for saves in range(20):
        vault = MortalVault()
        if published_before:
            old = TufRepository(vault, clock=SystemClock())
            old.publish({"a.json": b"old"})
        vault.left = saves
        try:
            change(vault)
        except KilledError:
            finished = False
        else:
            finished = True
        vault.left = None
        folder = tmp_path / str(saves)
        folder.mkdir()
        again = TufRepository(vault, clock=SystemClock())
        if published_before:
            assert fetch(again, folder, first_root(again)) in (b"old", b"new")
        again = change(vault)
        again.rotate_root()
        assert fetch(again, folder, first_root(again)) == b"new"
        if finished:
            break
    assert finished


def test_timestamp_is_renewed_when_half_of_its_life_is_over():
    clock = MovedClock()
    repository = TufRepository(MemoryVault(), clock=clock)
    repository.publish({"a.json": b"content"})
    clock.ahead = timedelta(days=3)
    assert version(repository, "timestamp.json") == 1
    clock.ahead = timedelta(days=4)
    assert version(repository, "timestamp.json") == 2
    assert version(repository, "timestamp.json") == 2


def test_everything_is_renewed_in_time(tmp_path):
    clock = MovedClock()
    clock.ahead = timedelta(days=-400)
    repository = TufRepository(MemoryVault(), clock=clock)
    repository.publish({"a.json": b"content"})
    clock.ahead = timedelta(0)
    assert fetch(repository, tmp_path, first_root(repository)) == b"content"


def test_frozen_repository_expires(tmp_path):
    clock = MovedClock()
    clock.ahead = timedelta(days=-8)
    repository = TufRepository(MemoryVault(), clock=clock)
    repository.publish({"a.json": b"content"})
    clock.ahead = timedelta(0)
    repository.renewing = False
    with pytest.raises(ExpiredMetadataError):
        fetch(repository, tmp_path, first_root(repository))


@pytest.mark.parametrize(
    "path",
    ["../tuf-online.key", "..", "", "targets/../../tuf-online.key", "a//b", ".x", "2.root.json"],
)
def test_nothing_else_is_served(path):
    repository = TufRepository(MemoryVault(), clock=SystemClock())
    repository.publish({"a.json": b"content"})
    assert repository.read(path) is None


async def test_repository_over_http():
    repository = TufRepository(MemoryVault(), clock=SystemClock())
    repository.publish({"a.json": b"content"})
    transport = httpx.ASGITransport(tuf_app.make_app(repository))
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        assert (await client.get("/1.root.json")).content == repository.root(1)
        assert (await client.get("/2.root.json")).status_code == 404

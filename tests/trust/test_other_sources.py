"""Instances that are files, and the sandbox that describes itself in a directory."""

from __future__ import annotations

import json
import os
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio

from keylessd.errors import (
    InvalidInputError,
    TrustInvalidError,
    TrustUnavailableError,
)
from keylessd.flow.threads import Threads
from keylessd.services.http import HttpClient, new_client
from keylessd.settings import InstanceSettings
from keylessd.trust.current import Trust
from keylessd.trust.instances import (
    FileInstance,
    SandboxInstance,
    TufInstance,
    builtin,
    configured,
)
from keylessd.trust.where import Urls, Where
from sigsim.trust_files import log, signing_config, trusted_root
from sigsim.tuf import TufSim

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
TUF_URL = "https://tuf.example/repository"


class Clock:
    time = NOW

    def now(self):
        return self.time


class House:
    def __init__(self, spec, tmp_path, handle=lambda request: httpx.Response(500)):
        self.clock = Clock()
        self.trust = Trust(
            {spec.name: spec},
            default=spec.name,
            http=HttpClient(
                new_client(transport=httpx.MockTransport(handle)),
                rng=random.Random(1),
                user_agent="test",
            ),
            cache_dir=tmp_path / "cache",
            clock=self.clock,
            threads=Threads(),
            rng=random.Random(1),
        )

    @asynccontextmanager
    async def running(self):
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: self.trust.run(task_status=task_status))
            yield self.trust
            nursery.cancel_scope.cancel()

    @property
    def status(self):
        return self.trust.status()[0]


def replace_file(path, content):
    """As editors do: another inode, so that the change is seen whatever the clock's grain."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    os.replace(new, path)


# --- files ---------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    root, config = tmp_path / "trusted_root.json", tmp_path / "signing_config.json"
    root.write_bytes(trusted_root())
    config.write_bytes(signing_config())
    return FileInstance("lab", root, config)


async def test_files_are_read_once(files, tmp_path):
    house = House(files, tmp_path)
    assert house.status.state == "unused"
    first = await house.trust.material(Where())
    assert (first.source, first.instance, first.expires) == ("files", "lab", None)
    assert first.signing_config is not None
    assert await house.trust.material(Where()) is first
    assert house.status.state == "fresh"


@pytest.mark.parametrize("which", ["trusted_root", "signing_config"])
async def test_changed_file_is_read_again(files, tmp_path, which):
    house = House(files, tmp_path)
    first = await house.trust.material(Where())
    content = {"trusted_root": trusted_root(), "signing_config": signing_config("new.example")}
    replace_file(getattr(files, which), content[which])
    second = await house.trust.material(Where())
    assert second.version != first.version


async def test_file_that_turns_bad_leaves_the_old_content(files, tmp_path):
    house = House(files, tmp_path)
    first = await house.trust.material(Where())
    replace_file(files.trusted_root, trusted_root()[:100])
    assert await house.trust.material(Where()) is first
    assert house.status.state == "stale"
    assert "lab" in house.status.error
    with pytest.raises(TrustInvalidError):
        await house.trust.refresh("lab")
    files.trusted_root.unlink()
    assert await house.trust.material(Where()) is first
    replace_file(files.trusted_root, trusted_root(log("https://new.example", v2=True)))
    assert (await house.trust.material(Where())).trusted_root.tlogs[0].name == "new.example"
    assert house.status.error is None


async def test_file_that_never_was(files, tmp_path):
    files.signing_config.unlink()
    house = House(files, tmp_path)
    for _ in range(2):
        with pytest.raises(TrustUnavailableError, match=r"signing_config\.json cannot be read"):
            await house.trust.material(Where())
    assert house.status.state == "unavailable"
    files.signing_config.write_bytes(signing_config())
    await house.trust.material(Where())


async def test_file_that_never_was_good(files, tmp_path):
    files.trusted_root.write_bytes(b"{}")
    with pytest.raises(TrustInvalidError, match="lab"):
        await House(files, tmp_path).trust.material(Where())


async def test_endless_file_is_not_read(tmp_path):
    house = House(FileInstance("lab", Path("/dev/zero")), tmp_path)
    with pytest.raises(TrustUnavailableError, match="longer than"):
        await house.trust.material(Where())


# --- the sandbox ---------------------------------------------------------------------------


class Sandbox:
    """A directory and a TUF repository, as a sandbox has them."""

    def __init__(self, directory):
        self.directory = directory
        self.spec = SandboxInstance("sandbox", directory)
        self.sim = None

    def start(self, host):
        self.directory.mkdir(exist_ok=True)
        self.sim = TufSim(
            NOW,
            {"trusted_root.json": trusted_root(), "signing_config.v0.2.json": signing_config(host)},
        )
        replace_file(self.directory / "root.json", self.sim.first_root)
        self.describe(tuf_url=TUF_URL, tuf_root="root.json", name="sandbox", ports={"tuf": 1})

    def describe(self, **fields):
        replace_file(self.directory / "instance.json", json.dumps(fields).encode())

    async def handle(self, request):
        if self.sim is None:
            raise httpx.ConnectError("refused")
        return await self.sim.handle(request)


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path / "sandbox")


def host_of(material):
    return material.signing_config.ca_urls[0].url


async def test_no_sandbox(sandbox, tmp_path):
    house = House(sandbox.spec, tmp_path)
    with pytest.raises(TrustUnavailableError, match="no sandbox") as caught:
        await _ask(house)
    assert "keyless sandbox up" in caught.value.hint
    assert house.status.state == "unused"


async def _ask(house):
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: house.trust.run(task_status=task_status))
        error = None
        try:
            found = await house.trust.material(Where())
        except (TrustUnavailableError, TrustInvalidError) as exc:
            error = exc
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
    return found


async def test_sandbox_may_start_while_the_daemon_runs(sandbox, tmp_path):
    house = House(sandbox.spec, tmp_path, sandbox.handle)
    async with house.running() as trust:
        sandbox.start("one.example")
        first = await trust.material(Where())
        assert host_of(first) == "https://fulcio.one.example"
        assert first.source == "tuf"
        assert first.instance == "sandbox"
        sandbox.sim.requests.clear()
        assert await trust.material(Where()) is first
        assert not sandbox.sim.requests
        # Another one, with other keys, in the same place.
        sandbox.start("two.example")
        assert host_of(await trust.material(Where())) == "https://fulcio.two.example"


async def test_daemon_that_restarts_asks_the_sandbox_before_its_cache(sandbox, tmp_path):
    sandbox.start("one.example")
    assert host_of(await _ask(House(sandbox.spec, tmp_path, sandbox.handle)))
    sandbox.sim.set_targets(
        {
            "trusted_root.json": trusted_root(),
            "signing_config.v0.2.json": signing_config("moved.example"),
        }
    )
    sandbox.sim.publish()
    found = await _ask(House(sandbox.spec, tmp_path, sandbox.handle))
    assert host_of(found) == "https://fulcio.moved.example"
    sandbox.sim = None
    found = await _ask(House(sandbox.spec, tmp_path, sandbox.handle))
    assert host_of(found) == "https://fulcio.moved.example"


async def test_sandbox_that_expires_while_it_runs_is_asked_again(sandbox, tmp_path):
    sandbox.start("one.example")
    house = House(sandbox.spec, tmp_path, sandbox.handle)
    async with house.running() as trust:
        await trust.material(Where())
        sandbox.sim.timestamp.expires = NOW + timedelta(days=30)
        sandbox.sim.publish_timestamp()
        house.clock.time = NOW + timedelta(days=8)
        assert (await trust.material(Where())).expires == NOW + timedelta(days=30)


async def test_sandbox_of_files(sandbox, tmp_path):
    sandbox.directory.mkdir()
    (sandbox.directory / "t.json").write_bytes(trusted_root())
    (sandbox.directory / "s.json").write_bytes(signing_config("files.example"))
    sandbox.describe(trusted_root="t.json", signing_config="s.json")
    house = House(sandbox.spec, tmp_path)
    async with house.running() as trust:
        assert host_of(await trust.material(Where())) == "https://fulcio.files.example"
        assert (await trust.refresh("sandbox")).source == "files"
    assert house.status.state == "fresh"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"tuf_url": 7}',
        b'{"tuf_url": "https://x", "tuf_root": "gone.json"}',
        b'{"tuf_url": "https://x", "tuf_root": "nul\\u0000"}',
        b'{"trusted_root": "nul\\u0000"}',
    ],
)
async def test_description_that_is_none(sandbox, tmp_path, text):
    sandbox.directory.mkdir()
    (sandbox.directory / "instance.json").write_bytes(text)
    house = House(sandbox.spec, tmp_path)
    with pytest.raises(TrustInvalidError, match=r"instance\.json"):
        await _ask(house)
    assert house.status.state == "unavailable"


# --- what the settings say -----------------------------------------------------------------


def test_builtin_instances(tmp_path):
    instances = builtin(tmp_path)
    assert set(instances) == {"public", "staging", "sandbox"}
    assert instances["sandbox"] == SandboxInstance("sandbox", tmp_path)
    assert instances["public"].root != instances["staging"].root
    assert instances["public"].cache_key != instances["staging"].cache_key


def test_configured_instances(tmp_path):
    (tmp_path / "root.json").write_bytes(b"root")
    found = configured(
        [
            InstanceSettings(
                name="tuf",
                tuf_url="https://tuf.example",
                tuf_root=tmp_path / "root.json",
                fulcio_url="https://f.example",
                signing_config_target="other.json",
            ),
            InstanceSettings(name="files", trusted_root=tmp_path / "trusted_root.json"),
        ],
        sandbox_dir=tmp_path,
    )
    assert found["tuf"] == TufInstance(
        "tuf", "https://tuf.example", b"root", "other.json", Urls(fulcio="https://f.example")
    )
    assert found["files"] == FileInstance("files", tmp_path / "trusted_root.json")
    assert "public" in found


def test_of_a_builtin_instance_the_signing_configuration_can_be_chosen(tmp_path):
    target = "signing_config_rekor_v2.v0.2.json"
    found = configured(
        [InstanceSettings(name="public", signing_config_target=target)], sandbox_dir=tmp_path
    )
    own = builtin(tmp_path)
    assert found == {**own, "public": replace(own["public"], signing_config_target=target)}


def test_tuf_root_that_is_not_there(tmp_path):
    one = InstanceSettings(name="x", tuf_url="https://x", tuf_root=tmp_path / "none.json")
    with pytest.raises(InvalidInputError, match=r"^instance\.x\.tuf_root: .*none\.json cannot"):
        configured([one], sandbox_dir=tmp_path)


def test_mirrors_under_one_name_have_caches_of_their_own():
    one = TufInstance("x/y", "https://a.example", b"")
    other = TufInstance("x/y", "https://b.example", b"")
    assert one.cache_key != other.cache_key
    assert "/" not in one.cache_key

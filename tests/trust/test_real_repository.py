"""The public instance's own TUF repository, as a mirror serves it, under an injected clock."""

from __future__ import annotations

import hashlib
import random
import re
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import trio

from keylessd.core.signing_config import select_ca, select_rekor
from keylessd.errors import DaemonError, TrustExpiredError, TrustInvalidError
from keylessd.flow.threads import Threads
from keylessd.services.http import HttpClient, new_client
from keylessd.trust import instances
from keylessd.trust.current import Trust
from keylessd.trust.instances import REKOR_V2_SIGNING_CONFIG_TARGET, TufInstance
from keylessd.trust.where import Where

IN_TIME = datetime(2026, 8, 22, 12, tzinfo=UTC)
TOO_LATE = datetime(2026, 8, 28, 19, 25, 56, tzinfo=UTC)
# Older roots are signed with a key type that libraries have dropped since.
OLDEST_USABLE = 5


class Fixed:
    def __init__(self, time):
        self.time = time

    def now(self):
        return self.time


class Mirror:
    def __init__(self, folder):
        self.folder, self.requests = folder, []

    async def __call__(self, request):
        self.requests.append(request.url.path)
        path = self.folder / request.url.path.lstrip("/")
        if not path.is_file():
            return httpx.Response(404)
        return httpx.Response(200, content=path.read_bytes())


@pytest.fixture
def mirror(vectors):
    return Mirror(vectors / "tuf-production")


async def material(mirror, tmp_path, root, *, time=IN_TIME, **kwargs):
    instance = TufInstance("public", "https://tuf.example", root, **kwargs)
    trust = Trust(
        {"public": instance},
        default="public",
        http=HttpClient(
            new_client(transport=httpx.MockTransport(mirror)),
            rng=random.Random(1),
            user_agent="test",
        ),
        cache_dir=tmp_path / "cache",
        clock=Fixed(time),
        threads=Threads(),
        rng=random.Random(1),
    )
    found = failure = None
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: trust.run(task_status=task_status))
        try:
            found = await trust.material(Where())
        except DaemonError as exc:
            failure = exc
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return found


def embedded(name):
    return next(
        spec.root
        for spec in instances.builtin(Path("/nowhere")).values()
        if isinstance(spec, TufInstance) and spec.name == name
    )


def test_embedded_roots_are_those_of_the_table():
    folder = Path(instances.__file__).parent / "roots"
    rows = re.findall(
        r"\| `(\S+\.json)` \|.*`([0-9a-f]{64})` \|", (folder / "README.md").read_text()
    )
    assert {name for name, _ in rows} == {"public.root.json", "staging.root.json"}
    for name, digest in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert hashlib.sha256(embedded("public")).hexdigest() in dict(rows).values()


async def test_from_the_embedded_root(mirror, tmp_path):
    found = await material(mirror, tmp_path, embedded("public"))
    assert [log.name for log in found.trusted_root.tlogs] == [
        "rekor.sigstore.dev",
        "log2025-1.rekor.sigstore.dev",
    ]
    assert found.expires == TOO_LATE
    assert found.source == "tuf"
    assert found.signing_config is not None
    assert select_ca(found.signing_config, IN_TIME).url == "https://fulcio.sigstore.dev"
    selected = select_rekor(found.signing_config, IN_TIME).services[0]
    assert (selected.url, selected.api_version) == ("https://rekor.sigstore.dev", 1)


async def test_other_signing_config(mirror, tmp_path):
    found = await material(
        mirror,
        tmp_path,
        embedded("public"),
        signing_config_target=REKOR_V2_SIGNING_CONFIG_TARGET,
    )
    assert found.signing_config is not None
    assert select_rekor(found.signing_config, IN_TIME).services[0].api_version == 2


@pytest.mark.filterwarnings("ignore:keytype .* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("version", range(OLDEST_USABLE, 16))
async def test_from_every_usable_ancestor(mirror, tmp_path, version):
    root = (mirror.folder / f"{version}.root.json").read_bytes()
    found = await material(mirror, tmp_path, root)
    assert found.version == (await material(mirror, tmp_path, embedded("public"))).version
    walked = [path for path in mirror.requests if path.endswith(".root.json")]
    assert walked[: 16 - version] == [f"/{n}.root.json" for n in range(version + 1, 17)]


@pytest.mark.filterwarnings("ignore:keytype .* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("version", range(1, OLDEST_USABLE))
async def test_older_ones_are_refused(mirror, tmp_path, version):
    root = (mirror.folder / f"{version}.root.json").read_bytes()
    with pytest.raises(TrustInvalidError):
        await material(mirror, tmp_path, root)


async def test_second_start_needs_no_network(mirror, tmp_path):
    first = await material(mirror, tmp_path, embedded("public"))
    mirror.requests.clear()
    assert (await material(mirror, tmp_path, embedded("public"))).version == first.version
    assert not mirror.requests


async def test_expired_copy_is_refused(mirror, tmp_path):
    with pytest.raises(TrustExpiredError, match="expired metadata"):
        await material(mirror, tmp_path, embedded("public"), time=TOO_LATE)
    await material(mirror, tmp_path, embedded("public"))
    with pytest.raises(TrustExpiredError, match="cannot be renewed"):
        await material(mirror, tmp_path, embedded("public"), time=TOO_LATE)

"""The TUF repository changes, expires and lies while the daemon runs; other clients read it too."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.real import matrix
from tests.real.clients import Cosign
from tests.real.house import RealHouse
from tests.real.outcomes import counted, failure_of
from tests.real.stack import Stack
from tests.real.trust import SIGNING_CONFIG, TRUSTED_ROOT, Repository
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from keylessd.sandbox.tuf_repo import TufRepository
from standing import bundle_of

DAY = timedelta(days=1)
LIFETIMES = {Root.type: DAY, Targets.type: DAY, Snapshot.type: DAY, Timestamp.type: DAY}
SHORT_SECONDS = 6
PATIENCE = 30.0


def _targets(stack: Stack, config: str) -> dict[str, bytes]:
    return {
        TRUSTED_ROOT: (stack.trust / TRUSTED_ROOT).read_bytes(),
        SIGNING_CONFIG: (stack.trust / f"signing-{config}.json").read_bytes(),
    }


class Standing:
    """A repository of its own, and a house whose default instance it is."""

    def __init__(self, stack: Stack, name: str, **lifetimes: timedelta) -> None:
        kinds = {**LIFETIMES, **lifetimes}
        self.repository = Repository(stack.directory, stack.urls.files, name, lifetimes=kinds)
        self.repository.tuf.publish(_targets(stack, "v2"))
        self.house = RealHouse(stack, f"house-{name}", self.repository)
        self.house.environ["KEYLESS_INSTANCE"] = "tuf"

    @property
    def tuf(self) -> TufRepository:
        return self.repository.tuf

    def refresh(self) -> tuple[int, str]:
        """Refresh, as soon as that is allowed again; return exit status and last error."""
        end = time.monotonic() + PATIENCE
        while True:
            done = self.house.keyless("trust", "refresh", "tuf", "--json")
            text = done.stdout + done.stderr
            if "a moment ago" not in text:
                return done.returncode, text
            assert time.monotonic() < end, text
            time.sleep(0.5)


@pytest.fixture
def standing(stack, request) -> Iterator[Standing]:
    lifetimes = getattr(request, "param", {})
    one = Standing(stack, f"tuf-{os.urandom(4).hex()}", **lifetimes)
    yield one
    one.house.close()


def _signs(standing: Standing, stack: Stack, log: str) -> None:
    (path,) = standing.house.files(1, stem=os.urandom(4).hex())
    with counted(stack) as added:
        done = standing.house.keyless("sign", path)
    assert done.returncode == 0, done.stderr
    assert added == {log: 1}
    assert standing.house.verify(path).returncode == 0


def test_rotation_then_rollback(stack, standing: Standing) -> None:
    _signs(standing, stack, "rekor2-a")
    former = standing.repository.folder / "timestamp.json"
    former.with_name("former").write_bytes(former.read_bytes())

    # A new root key, and another log to write to: in force after a refresh, without a restart.
    standing.tuf.rotate_root()
    standing.tuf.publish(_targets(stack, "v1-tsa"))
    status, text = standing.refresh()
    assert status == 0, text
    _signs(standing, stack, "rekor1")

    # An older state, genuine in itself, is refused, and what was in force stays.
    former.write_bytes(former.with_name("former").read_bytes())
    status, text = standing.refresh()
    assert status != 0, text
    assert "version" in text
    _signs(standing, stack, "rekor1")


def test_root_of_a_stranger(stack, standing: Standing) -> None:
    _signs(standing, stack, "rekor2-a")
    stranger = Repository(stack.directory, stack.urls.files, f"tuf-{os.urandom(4).hex()}")
    stranger.tuf.publish(_targets(stack, "v1-tsa"))
    stranger.tuf.rotate_root()

    shutil.copyfile(stranger.folder / "2.root.json", standing.repository.folder / "2.root.json")
    status, text = standing.refresh()

    assert status != 0, text
    assert "signed by" in text
    _signs(standing, stack, "rekor2-a")


@pytest.mark.parametrize(
    "standing", [{Timestamp.type: timedelta(seconds=SHORT_SECONDS)}], indirect=True
)
def test_expiry_and_recovery(stack, standing: Standing) -> None:
    (first, second) = standing.house.files(2, stem="expiry-")
    done = standing.house.keyless("sign", first)
    assert done.returncode == 0, done.stderr

    time.sleep(SHORT_SECONDS)
    with counted(stack) as added:
        failure = failure_of(standing.house.keyless("sign", "--json", second))
    assert failure.code == "trust_expired", failure
    assert added == {}

    # The repository's keeper signs again, for longer.
    folder = standing.repository.folder.parent
    again = Repository(stack.directory, stack.urls.files, folder.name, lifetimes=LIFETIMES)
    again.tuf.renew()
    status, text = standing.refresh()
    assert status == 0, text
    done = standing.house.keyless("sign", second)
    assert done.returncode == 0, done.stderr


def test_repository_vanishes(stack, standing: Standing) -> None:
    _signs(standing, stack, "rekor2-a")
    served = stack.directory / "www" / standing.repository.url.rpartition("/")[2]
    served.rename(served.with_name("elsewhere-" + served.name))

    status, text = standing.refresh()

    assert status != 0, text
    _signs(standing, stack, "rekor2-a")
    # What is cached is enough for the next daemon too.
    standing.house.kill_daemon()
    _signs(standing, stack, "rekor2-a")


def test_cosign_takes_its_trust_from_our_repository(stack, house, primed, tmp_path) -> None:
    cosign = Cosign(stack)
    home = tmp_path / "tuf-root"
    repository = stack.repository
    words = ("initialize", "--mirror", repository.url, "--root", repository.root)
    done = cosign.run(*words, TUF_ROOT=str(home))
    assert done.returncode == 0, done.stderr
    (path,) = house.files(1, stem="cosign-by-tuf-")
    house.sign("tuf", path)

    def status(who) -> int:
        asked = cosign.verify_words(bundle_of(path), path, who)
        at = asked.index("--trusted-root")
        return cosign.run(*asked[:at], *asked[at + 2 :], TUF_ROOT=str(home)).returncode

    good, wrong = status(house.who), status(replace(house.who, identity="x@y.test"))
    row, column = "keyless, blob, Rekor v2 + TSA", "cosign by TUF"
    matrix.TABLE.put(row, column, "good", None if good == 0 else "refused")
    matrix.TABLE.put(row, column, "identity", None if wrong else "accepted")
    assert (good, wrong) == (0, 1)


def test_sigstore_python_takes_its_trust_from_our_repository(
    stack, house, primed, tmp_path, monkeypatch
) -> None:
    models = pytest.importorskip("sigstore.models")
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity

    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    repository = stack.repository
    (path,) = house.files(1, stem="python-by-tuf-")
    house.sign("tuf", path)

    config = models.ClientTrustConfig.from_tuf(repository.url, bootstrap_root=repository.root)
    verifier = Verifier(trusted_root=config.trusted_root)
    bundle = models.Bundle.from_json(bundle_of(path).read_text())
    who = Identity(identity=house.who.identity, issuer=house.who.issuer)

    verifier.verify_artifact(path.read_bytes(), bundle, who)
    matrix.TABLE.put("keyless, blob, Rekor v2 + TSA", "sigstore-python by TUF", "good", None)

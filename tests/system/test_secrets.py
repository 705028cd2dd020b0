"""An identity token is nowhere but in its request: no log, file, argument or message has it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from procfs import shown_of
from standing import Standing, bundle_of, standing

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Iterator[Standing]:
    directory = tmp_path_factory.mktemp("secrets")
    config = directory / "config" / "keyless"
    config.mkdir(parents=True)
    (config / "config.toml").write_text('log_level = "debug"\n')
    yield from standing(directory)


class Canary:
    """A token, and the search for any part of it that would be of use to a finder."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._parts = [part.encode() for part in token.split(".")[1:]]

    def search(self, house: Standing, *texts: str) -> list[str]:
        """Return where the token was found."""
        found = [f"text {number}" for number, text in enumerate(texts) if self._is_in(text)]
        pid = house.daemon_pid()
        places = shown_of(pid) if pid else {}
        files = [path for path in house.directory.rglob("*") if path.is_file()]
        places |= {str(path): path.read_bytes() for path in files}
        return found + [place for place, content in places.items() if self._is_in(content)]

    def _is_in(self, text: str | bytes) -> bool:
        data = text.encode() if isinstance(text, str) else text
        return any(part in data for part in self._parts)


@pytest.fixture
def canary(house: Standing) -> Iterator[Canary]:
    token = house.environ["SIGSTORE_ID_TOKEN"]
    yield Canary(token)
    house.environ["SIGSTORE_ID_TOKEN"] = token
    house.heal()


def test_the_search_finds(house: Standing, canary: Canary) -> None:
    planted = house.work / "planted"
    planted.write_text(f"x{canary.token}x")
    assert canary.search(house, "", canary.token) == ["text 1", str(planted)]
    planted.unlink()


def test_success_leaves_no_trace(house: Standing, canary: Canary) -> None:
    (path,) = house.files(1, stem="quiet")
    # The daemon is started by a client that has the token in its environment.
    house.kill_daemon()
    done = house.keyless("sign", "--json", path)
    assert done.returncode == 0, done.stderr
    more = [
        house.keyless("whoami", "--json"),
        house.keyless("status", "--json"),
        house.keyless("ledger", "--json"),
        house.verify("--verbose", path),
    ]

    assert canary.search(house, *(one.stdout + one.stderr for one in [done, *more])) == []
    assert any(event["level"] == "debug" for event in house.log_events())
    assert house.daemon_pid() is not None
    assert bundle_of(path).exists()


@pytest.mark.parametrize("service", ["fulcio", "rekor_v1", "tsa"])
@pytest.mark.parametrize("kind", ["status", "garbage"])
def test_service_that_repeats_the_token(
    house: Standing, canary: Canary, service: str, kind: str
) -> None:
    (path,) = house.files(1, stem=f"echo-{service}-{kind}")
    said = json.dumps({"code": 3, "message": f"cannot use the token {canary.token} of yours"})
    rule = {"status": 400} if kind == "status" else {}
    house.fault(service, fault=kind, method="POST", body=said, **rule)

    done = house.keyless("sign", "--json", "--reuse", "never", path)

    assert done.returncode == 7
    assert canary.search(house, done.stdout, done.stderr) == []


def test_token_that_cannot_be_used(house: Standing, canary: Canary) -> None:
    head, payload, tail = canary.token.split(".")
    (path,) = house.files(1, stem="unusable")
    for token in (f"{head}.{payload}", f"{head}.{payload}.{tail}.{tail}", f"{head}.{payload}.AAAA"):
        house.environ["SIGSTORE_ID_TOKEN"] = token
        done = house.keyless("sign", "--json", "--reuse", "never", path)
        assert done.returncode == 4
        assert canary.search(house, done.stdout, done.stderr) == []


def test_killed_in_the_middle(house: Standing, canary: Canary) -> None:
    house.fault("fulcio", fault="delay", seconds=5.0)
    process = house.start("sign", "--reuse", "never", *house.files(3, stem="killed"))
    house.wait_for_daemon()
    while house.asked("fulcio") == 0:
        assert process.poll() is None
    house.kill_daemon(signal.SIGABRT)
    (done,) = house.finish([process])

    assert done.returncode == 3
    assert canary.search(house, done.stdout, done.stderr) == []
    assert not list(house.directory.rglob("core*"))

"""Services that fail, lie, stall or die in mid-run, seen by whoever runs the command.

Clear codes and exit statuses, a retry that works, nothing lost and nothing twice.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from standing import LOOK, PATIENCE, Standing, bundle_of, log_indexes, standing

pytestmark = pytest.mark.system

TRY_LATER, REFUSED = 5, 7  # exit statuses
# Authorities do not depend on the log's version.
PLACES = [("v1", "fulcio"), ("v1", "log"), ("v1", "tsa"), ("v2", "log")]
# What is broken of each; its other paths are asked as well, once or by the tests.
PATHS = {
    "fulcio": "/api/v2/signingCert",
    "rekor_v1": "/api/v1/log/entries",
    "rekor_v2": "/api/v2/log/entries",
    "tsa": "/api/v1/timestamp",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Standing]:
    yield from standing(tmp_path_factory.mktemp("broken"))


@pytest.fixture
def house(running: Standing) -> Iterator[Standing]:
    yield running
    running.heal()


def break_service(house: Standing, version: str, service: str, **rule: object) -> None:
    name = f"rekor_{version}" if service == "log" else service
    house.fault(name, path=PATHS[name], method="POST", **rule)


def sign(house: Standing, version: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return house.keyless("sign", "--json", *house.where(version), *words)


def results(done: subprocess.CompletedProcess[str]) -> Counter[str]:
    """Count the results of a command with --json by their code, or "ok"."""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return Counter("ok" if line["ok"] else line["error"]["code"] for line in lines)


def check_healthy(house: Standing) -> None:
    """The daemon answers, and the next signature works."""
    house.heal()
    (path,) = house.files(1, stem="healthy")
    assert house.keyless("sign", path).returncode == 0
    assert house.verify(path).returncode == 0


PASSING = [
    {"fault": "status", "status": 503},
    {"fault": "status", "status": 429, "retry_after": "1"},
    {"fault": "lost_reply"},
]


@pytest.mark.parametrize(("version", "service"), PLACES)
@pytest.mark.parametrize("rule", PASSING, ids=lambda rule: "-".join(map(str, rule.values())))
def test_what_passes_is_not_even_noticed(
    house: Standing, version: str, service: str, rule: dict[str, object]
) -> None:
    files = house.files(3, stem="passing")
    before = house.counts()
    break_service(house, version, service, **rule, times=1)

    done = sign(house, version, "--reuse", "never", *files)

    assert (done.returncode, results(done)) == (0, {"ok": 3}), done.stderr
    new = house.counts().since(before)
    # Of a reply that was lost the entry is recovered; a certificate stays that nobody holds.
    lost = rule["fault"] == "lost_reply"
    assert new.entries == 3
    assert new.certificates == 3 + (lost and service == "fulcio")
    assert len(log_indexes([bundle_of(path) for path in files])) == 3
    assert house.verify(*files).returncode == 0


LASTING = [
    ({"fault": "status", "status": 503}, "service_unavailable", TRY_LATER),
    ({"fault": "status", "status": 429, "retry_after": "1"}, "rate_limited", TRY_LATER),
    ({"fault": "status", "status": 400}, "service_refused", REFUSED),
    ({"fault": "lost_reply"}, "service_unavailable", TRY_LATER),
    ({"fault": "garbage"}, "service_invalid_reply", REFUSED),
    ({"fault": "endless"}, "service_invalid_reply", REFUSED),
]


@pytest.mark.parametrize(("version", "service"), PLACES)
@pytest.mark.parametrize(
    ("rule", "code", "status"), LASTING, ids=["503", "429", "400", "lost", "garbage", "endless"]
)
def test_what_lasts_is_told_by_its_code(
    house: Standing, *, version: str, service: str, rule: dict[str, object], code: str, status: int
) -> None:
    (path,) = house.files(1, stem=f"lasting-{service}-{code}")
    before = house.counts()
    break_service(house, version, service, **rule)

    done = sign(house, version, "--reuse", "never", path)

    error = json.loads(done.stdout)["error"]
    assert (error["code"], done.returncode) == (code, status)
    assert error["retryable"] is (status == TRY_LATER)
    if "retry_after" in rule:
        assert error["retry_after_ms"] > 0
    # People are told which service it was.
    named = {"fulcio": "fulcio", "log": "rekor", "tsa": "timestamp"}[service]
    assert named in error["message"]
    assert "Traceback" not in done.stderr
    assert not bundle_of(path).exists()
    # However often it was tried: one signature is in the log at most.
    assert house.counts().since(before).entries <= 1
    assert house.records()[-1]["code"] == code
    check_healthy(house)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v2"])
def test_slow_services_are_waited_for(house: Standing, version: str) -> None:
    files = house.files(2, stem="slow")
    before = house.counts()
    for service in ("log", "tsa"):
        break_service(house, version, service, fault="delay", seconds=20.0)

    done = sign(house, version, *files)

    assert (done.returncode, results(done)) == (0, {"ok": 2}), done.stderr
    assert house.counts().since(before).entries == 2
    assert house.verify(*files).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "reuse", "number"),
    [("v1", "window", signal.SIGKILL), ("v2", "never", signal.SIGKILL), ("v1", "never", 15)],
)
def test_sandbox_that_dies_in_mid_run(
    house: Standing, version: str, reuse: str, number: int
) -> None:
    files = house.files(100, stem=f"dies-{version}-{number}-{reuse}")
    assert house.keyless("sign", *house.files(1)).returncode == 0  # the trust root is loaded
    before = house.counts()
    words = ("sign", "--json", "--reuse", reuse, *house.where(version))
    running = house.start(*words, *files)
    wait_for_bundles(files, 10)

    house.sandbox_signal(number)
    (done,) = house.finish([running])

    found = results(done)
    assert done.returncode == TRY_LATER, done.stderr
    assert set(found) == {"ok", "service_unavailable"}
    assert "Traceback" not in done.stderr
    finished = [path for path in files if bundle_of(path).exists()]
    assert found["ok"] == len(finished)
    pid = house.daemon_pid()
    assert house.keyless("status").returncode == 0

    house.sandbox_up()
    again = house.keyless(*words, *(path for path in files if path not in finished))

    assert (again.returncode, results(again)) == (0, {"ok": found["service_unavailable"]})
    assert house.daemon_pid() == pid
    bundles = [bundle_of(path) for path in files]
    assert len(log_indexes(bundles)) == len(files)
    assert house.verify(*files).returncode == 0
    # Entries whose reply was cut off by the death: no more than were in flight.
    orphans = house.counts().since(before).entries - len(files)
    assert 0 <= orphans <= 32
    check_ledger(house)


@pytest.mark.slow
def test_sandbox_that_stands_still_for_a_while(house: Standing) -> None:
    files = house.files(30, stem="still")
    before = house.counts()
    running = house.start("sign", "--json", "--reuse", "never", *files)
    wait_for_bundles(files, 5)

    house.sandbox_signal(signal.SIGSTOP)
    try:
        # The daemon answers whatever needs no service.
        assert house.keyless("status").returncode == 0
        assert house.verify(files[0]).returncode == 0
    finally:
        house.sandbox_signal(signal.SIGCONT)
    (done,) = house.finish([running])

    assert (done.returncode, results(done)) == (0, {"ok": 30}), done.stderr
    assert house.counts().since(before).entries == 30
    assert house.verify(*files).returncode == 0


def wait_for_bundles(files: list[Path], count: int) -> None:
    end = time.monotonic() + PATIENCE
    while sum(bundle_of(path).exists() for path in files) < count:
        assert time.monotonic() < end
        time.sleep(LOOK)


def check_ledger(house: Standing) -> None:
    """Every attempt has its outcome."""
    records = house.records()
    attempts = {record["id"] for record in records if record["event"] == "attempt"}
    outcomes = {record["id"] for record in records if record["event"] == "outcome"}
    assert attempts == outcomes

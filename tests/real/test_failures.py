"""Services that are slow, stopped, restarted, or lose answers: nothing lost, nothing doubled."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.real.outcomes import counted, failure_of
from tests.real.process import Program
from tests.real.relay import Relay
from tests.real.trust import TRUSTED_ROOT, signing_config

from standing import bundle_of, log_indexes

SLOW_SECONDS = 3.0
# Instance -> the log it writes to.
LOGS = {"v1-tsa": "rekor1", "v2": "rekor2-a"}


@contextmanager
def stopped(program: Program) -> Iterator[None]:
    program.stop(signal.SIGKILL)
    try:
        yield
    finally:
        program.start()
        program.wait_until_ready()


@contextmanager
def halted(program: Program) -> Iterator[None]:
    program.halt()
    try:
        yield
    finally:
        program.go_on()


@pytest.mark.parametrize("instance", LOGS)
def test_slow_log(stack, house, instance: str) -> None:
    (path,) = house.files(1, stem=f"slow-{instance}-")

    with counted(stack) as added:
        with halted(stack.programs[LOGS[instance]]):
            signing = house.start("sign", "--instance", instance, path)
            time.sleep(SLOW_SECONDS)
            assert signing.poll() is None
        (done,) = house.finish([signing])

    assert done.returncode == 0, done.stderr
    assert added == {LOGS[instance]: 1}
    assert house.verify(path).returncode == 0


@pytest.mark.parametrize("instance", LOGS)
def test_stopped_log(stack, house, instance: str) -> None:
    (path,) = house.files(1, stem=f"stopped-{instance}-")

    with counted(stack) as added, stopped(stack.programs[LOGS[instance]]):
        failure = failure_of(house.keyless("sign", "--json", "--instance", instance, path))

    assert (failure.code, failure.status) == ("service_unavailable", 5), failure
    assert "rekor" in failure.message.lower()
    assert added == {}
    assert not bundle_of(path).exists()
    with counted(stack) as added:
        house.sign(instance, path)
    assert added == {LOGS[instance]: 1}
    assert house.verify(path).returncode == 0


@pytest.mark.parametrize("instance", LOGS)
def test_log_restarted_under_load(stack, house, instance: str) -> None:
    log = stack.programs[LOGS[instance]]
    files = house.files(30, stem=f"restart-{instance}-")

    with counted(stack) as added:
        signing = [house.start("sign", "--instance", instance, *files[n::3]) for n in range(3)]
        time.sleep(0.7)
        with stopped(log):
            time.sleep(0.3)
        done = house.finish(signing)

    signed = [path for path in files if bundle_of(path).exists()]
    for one in done:
        assert one.returncode in {0, 5}, one.stderr
    # Every bundle has an entry of its own, and the log has none but these and those of
    # answers that were cut off, which nobody was told of.
    indexes = log_indexes([bundle_of(path) for path in signed])
    assert len(indexes) == len(signed)
    assert set(indexes.values()) <= {1}
    assert len(signed) <= added.entries[LOGS[instance]] <= len(files) + 30
    if signed:
        assert house.verify(*signed).returncode == 0
    # What is missing can be had now.
    rest = [path for path in files if path not in signed]
    if rest:
        house.sign(instance, *rest)


@pytest.mark.parametrize("instance", LOGS)
def test_stopped_timestamp_authority(stack, house, instance: str) -> None:
    (path,) = house.files(1, stem=f"no-tsa-{instance}-")

    house.sign(instance, path, "--bundle", house.work / "before")  # all is well until then

    with counted(stack) as added, stopped(stack.programs["tsa"]):
        failure = failure_of(house.keyless("sign", "--json", "--instance", instance, path))

    assert (failure.code, failure.status) == ("service_unavailable", 5), failure
    assert "timestamp" in failure.message.lower()
    # Nothing is logged of which nobody gets a bundle.
    assert added == {}
    assert not bundle_of(path).exists()
    with counted(stack) as added:
        house.sign(instance, path)
    assert added == {LOGS[instance]: 1}
    assert house.verify(path).returncode == 0


def test_stopped_timestamp_authority_that_is_not_asked_for(stack, house) -> None:
    (path,) = house.files(1, stem="no-tsa-wanted-")

    with stopped(stack.programs["tsa"]):
        house.sign("v1", path)

    assert house.verify(path).returncode == 0


def test_stopped_certificate_log(stack, house) -> None:
    # Fulcio gives no certificate that is not logged.
    (path,) = house.files(1, stem="no-ct-")

    with counted(stack) as added, stopped(stack.programs["ct"]):
        words = ("--json", "--reuse", "never", "--instance", "v2", path)
        failure = failure_of(house.keyless("sign", *words))

    assert (failure.code, failure.status) == ("service_unavailable", 5), failure
    assert "fulcio" in failure.message.lower()
    # It says nothing while it tries again and again; what it waits for is said all the same.
    assert "certificate transparency log" in failure.message
    assert added == {}
    assert added.certificates == 0
    house.sign("v2", "--reuse", "never", path)


def test_stopped_fulcio_does_not_stop_a_certificate_in_use(stack, house) -> None:
    first, second, third = house.files(3, stem="no-fulcio-")
    house.sign("v2", first)

    with stopped(stack.programs["fulcio"]):
        house.sign("v2", second)
        words = ("--json", "--reuse", "never", "--instance", "v2", third)
        failure = failure_of(house.keyless("sign", *words))

    assert (failure.code, failure.status) == ("service_unavailable", 5), failure
    assert house.verify(first, second).returncode == 0


def test_client_that_leaves_while_the_log_writes(stack, house) -> None:
    (path,) = house.files(1, stem="left-")
    house.sign("v1", *house.files(1, stem="warm-"))  # a certificate is there

    attempts = sum(one["event"] == "attempt" for one in house.records())

    with counted(stack) as added:
        with halted(stack.programs["rekor1"]):
            signing = house.start("sign", "--instance", "v1", path)
            _wait_for_attempts(house, attempts + 1)
            time.sleep(1.0)  # the request to the log follows at once
            signing.send_signal(signal.SIGINT)
            house.finish([signing])
        _wait_for_outcomes(house, attempts + 1)

    assert house.records()[-1]["result"] == "ok"
    assert added == {"rekor1": 1}
    assert not bundle_of(path).exists()


def _wait_for_attempts(house, attempts: int) -> None:
    """Wait until the ledger has that many attempts."""
    end = time.monotonic() + 20
    while sum(one["event"] == "attempt" for one in house.records()) < attempts:
        assert time.monotonic() < end
        time.sleep(0.02)


def _wait_for_outcomes(house, attempts: int) -> None:
    """Wait until the ledger has that many attempts, and an outcome for each."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        events = [one["event"] for one in house.records()]
        if events.count("attempt") == events.count("outcome") == attempts:
            return
        time.sleep(0.1)
    raise AssertionError(house.records()[-3:])


@pytest.fixture(params=["v1", "v2", "v2-without-tiles"])
def lossy(stack, request, tmp_path: Path) -> Iterator[tuple[Relay, list[str | Path], str]]:
    """A relay in front of a log, and the options that sign through it."""
    version = int(request.param[1])
    name = {1: "rekor1", 2: "rekor2_a"}[version]
    # The log's own server answers 501 to who reads; its tiles are files, served by another one.
    tiles = f"{stack.urls.files}/rekor2-a" if request.param == "v2" else None
    relay = Relay(getattr(stack.urls, name), tiles)
    config = tmp_path / "signing.json"
    config.write_bytes(signing_config(stack.keys, stack.urls, [(relay.url, version)]))
    root = stack.trust / TRUSTED_ROOT
    yield relay, ["--trusted-root", root, "--signing-config", config], request.param
    relay.close()


def test_lost_answer_is_recovered_from_a_real_conflict(stack, house, lossy) -> None:
    relay, where, log = lossy
    (path,) = house.files(1, stem=f"lost-{log}-")
    environ = {"KEYLESS_INSTANCE": ""}
    relay.lose = 1

    with counted(stack) as added:
        done = house.keyless("sign", *where, path, environ=environ)

    assert done.returncode == 0, done.stderr
    posts = [status for method, status in relay.statuses if method == "POST"]
    if log == "v2-without-tiles":
        # An entry that cannot be read again. A new signature makes another one.
        assert posts == [201, 409, 201]
        assert added == {"rekor2-a": 2}
    else:
        # The entry of the lost answer is found again: there is one.
        assert posts == [201, 409]
        assert ("GET", 200) in relay.statuses
        assert added == {"rekor1" if log == "v1" else "rekor2-a": 1}
    assert house.verify(path).returncode == 0
    assert len(json.loads(bundle_of(path).read_text())["verificationMaterial"]["tlogEntries"]) == 1

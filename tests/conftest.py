"""Glue of the test suite: trio tests, virtual time, and where the real data lies."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    from hypothesis import settings
    from trio.testing import MockClock, trio_test
except ImportError:  # the packaging tests also run where only the thin client is installed
    MockClock = None  # type: ignore[assignment,misc]
else:
    # No test is timed. The active profile's other settings stay as they are.
    settings.register_profile("untimed", settings(), deadline=None)
    settings.register_profile("inner loop", settings(), deadline=None, max_examples=40)
    settings.load_profile("untimed")


# A shell starts its background jobs with SIGINT ignored, and what we start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole inner loop on every core, unless the command says how many.

    Its tests hold the processor, not a service or the clock, so nothing is lost by it. A worker
    is left alone: it would start workers of its own.
    """
    option = config.option
    if (
        not hasattr(config, "workerinput")
        and getattr(option, "numprocesses", 0) is None
        and {"not system", "not real"} <= set(option.markexpr.split(" and "))
        and config.args_source is config.ArgsSource.TESTPATHS
        and not (option.keyword or option.usepdb or option.collectonly)
    ):
        option.numprocesses = "auto"


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples of a property in the inner loop than where everything runs."""
    if MockClock is not None and "not system" in config.option.markexpr:
        settings.load_profile("inner loop")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Run coroutine tests under trio; a Clock among the arguments becomes the run's clock."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = trio_test(pyfuncitem.obj)


@pytest.fixture(autouse=True)
def umask_is_left_as_it_was() -> Iterator[None]:
    """Fail a test after which files would be made with other modes than before it."""
    before = os.umask(0o077)
    os.umask(before)
    yield
    after = os.umask(before)
    assert after == before


@pytest.fixture
def autojump_clock() -> MockClock:
    """Virtual time that jumps as soon as every task waits. It does not see worker threads."""
    return MockClock(autojump_threshold=0)


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of real bundles, trust roots and a TUF repository; skips where it is absent."""
    named = os.environ.get("KEYLESS_TEST_VECTORS")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "vectors"
    if not (folder / "conformance").is_dir():
        pytest.skip("no real Sigstore data here; set KEYLESS_TEST_VECTORS to a folder that has it")
    return folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes many minutes unless -m names it, and the slow from the inner loop."""
    expression = config.getoption("markexpr")
    unnamed = {"nightly"} if "nightly" not in expression else set()
    if "not system" in expression and "slow" not in expression:
        unnamed.add("slow")
    left_out = {item for item in items if any(item.get_closest_marker(name) for name in unnamed)}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]

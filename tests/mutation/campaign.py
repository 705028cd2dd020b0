"""Starts pytest on the tests of verification with mutants in place of the tests' own results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import pytest
from tests.mutation.mutants import HOUSE, Mutant
from tests.mutation.running import Outcome, Run

TESTS = HOUSE.parent / "tests"


def run(
    mutants: Sequence[Mutant], *, jobs: int, alive: Callable[[Outcome], None] = lambda _: None
) -> tuple[list[Outcome], list[str]]:
    """Run mutants against the tests of core and policy.

    Starts pytest in this process, which should do nothing else: the modules under test stay
    loaded.

    Args:
        mutants: Which.
        jobs: How many at once.
        alive: Told of every survivor at once.

    Returns:
        What became of each, and the tests that fail without any mutant; if there is one, no
        mutant was run.
    """
    # The checkout's modules are mutated, whatever is installed beside it.
    sys.path[:0] = [str(HOUSE), str(HOUSE.parent / "clientlib")]
    plugin = Run(mutants, jobs=jobs, alive=alive)
    rooms = [str(TESTS / "core"), str(TESTS / "policy")]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
    status = pytest.main([*options, f"--rootdir={HOUSE.parent}", *rooms], plugins=[plugin])
    if status not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        plugin.broken.append(f"pytest ended with {status}")
    return plugin.outcomes, plugin.broken

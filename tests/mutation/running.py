"""Runs the tests against mutants: collected once, then each mutant in a child process of its own.

The child gives the live function the mutant's code, so every name that any module has for it means
the mutant, and runs the tests that come by the changed lines, until one of them fails.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import zip_longest
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from tests.mutation.mutants import Mutant, code_of, source_of

# Processor time of one test, and how often more than without the mutant. A loop that a mutant made
# endless ends here.
CPU_SECONDS = 2.0
TIMES_SLOWER = 20
MEMORY_BYTES = 8 << 30
# Slow, and about other things: another verifier, the whole of it by chance, and this run itself.
LEFT_OUT = ("test_differential", "test_fuzz", "test_costs", "test_mutants")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        mutant: Which.
        killer: The test that failed; ``"limits"`` if it ran out of time or memory; None if no
            test noticed.
        tests: How many tests come by.
    """

    mutant: Mutant
    killer: str | None
    tests: int


@dataclass
class _Coverage:
    """Which tests come by which lines, and how long each takes.

    Attributes:
        tests: (file, line) -> numbers of tests.
        seconds: By number of the test.
    """

    tests: dict[tuple[str, int], set[int]] = field(default_factory=lambda: defaultdict(set))
    seconds: dict[int, float] = field(default_factory=dict)


class Run:
    """A plugin for pytest that runs mutants in place of the tests themselves."""

    def __init__(
        self, mutants: Sequence[Mutant], *, jobs: int, alive: Callable[[Outcome], None]
    ) -> None:
        """Store what to do.

        Args:
            mutants: Which ones to run.
            jobs: How many at once.
            alive: Told of every survivor at once.
        """
        self._mutants = mutants
        self._alive = alive
        self._jobs = jobs
        # Read once, so that the code under test may be edited meanwhile.
        self._sources = {mutant.module: source_of(mutant.module).read_text() for mutant in mutants}
        self.outcomes: list[Outcome] = []
        self.broken: list[str] = []

    def pytest_configure(self) -> None:
        """Let Hypothesis try the same each time, and not explain what it finds."""
        # Not before pytest has prepared its import.
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutants",
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
        )
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what does not help here."""
        items[:] = [item for item in items if not any(name in item.nodeid for name in LEFT_OUT)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run all mutants; the tests are run once without any, to know which one goes where."""
        if session.testsfailed:
            raise session.Failed(f"{session.testsfailed} errors during collection")
        coverage, self.broken = self._cover(session.items)
        if not self.broken:
            self.outcomes = self._run_all(session.items, coverage)
        return True

    def _cover(self, items: list[pytest.Item]) -> tuple[_Coverage, list[str]]:
        files = {str(source_of(mutant.module)) for mutant in self._mutants}
        coverage = _Coverage()
        broken: list[str] = []
        # Split, so that each processor has its half; a test's fixtures are its own in either.
        halves = [list(range(number, len(items), self._jobs)) for number in range(self._jobs)]

        def noted(_: int, told: Any) -> None:
            if told is None or "error" in told:
                broken.append(f"the tests could not be run: {told}")
                return
            for name, line, numbers in told["lines"]:
                coverage.tests[name, line].update(numbers)
            coverage.seconds.update({int(key): value for key, value in told["seconds"].items()})
            broken.extend(told["failed"])

        works = [lambda half=half: _traced(items, half, files) for half in halves]
        _in_children(works, noted, jobs=self._jobs)
        return coverage, broken

    def _run_all(self, items: list[pytest.Item], coverage: _Coverage) -> list[Outcome]:
        chosen = [_order(mutant, items, coverage) for mutant in self._mutants]
        found: dict[int, Outcome] = {}

        def noted(number: int, told: Any) -> None:
            if told is not None and "error" in told:
                self.broken.append(f"{self._mutants[number].name}: {told['error']}")
                return
            killer = "limits" if told is None else told["killer"]
            found[number] = Outcome(self._mutants[number], killer, len(chosen[number]))
            if killer is None:
                self._alive(found[number])

        works = [
            lambda mutant=mutant, order=order: {
                "killer": _killer(
                    mutant, self._sources[mutant.module], items, order, coverage.seconds
                )
            }
            for mutant, order in zip(self._mutants, chosen, strict=True)
        ]
        _in_children(works, noted, jobs=self._jobs)
        return [found[number] for number in sorted(found)]


# --- in the child --------------------------------------------------------------------------


def _killer(
    mutant: Mutant,
    source: str,
    items: list[pytest.Item],
    order: list[int],
    seconds: Mapping[int, float],
) -> str | None:
    function = _live(mutant)
    function.__code__ = code_of(mutant, source)
    _forget()
    for number, following in zip_longest(order, order[1:]):
        next_item = None if following is None else items[following]
        # Nobody handles the signal, so it ends the process.
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS + TIMES_SLOWER * seconds[number])
        if not _passes(items[number], next_item):
            return items[number].nodeid
    return None


def _passes(item: pytest.Item, next_item: pytest.Item | None) -> bool:
    return not any(report.failed for report in runtestprotocol(item, False, next_item))


def _live(mutant: Mutant) -> FunctionType:
    """Return the function that has the mutant's code, below whatever decorates it."""
    found: Any = import_module(mutant.module)
    for name in mutant.function.split("."):
        found = vars(found)[name]
    found = getattr(found, "fget", None) or found  # a property
    found = getattr(found, "__func__", found)  # a class or static method
    while hasattr(found, "__wrapped__"):  # remembered results
        found = found.__wrapped__
    assert isinstance(found, FunctionType), mutant.name
    return found


def _forget() -> None:
    """Empty what the functions remember: it was made at import, without the mutant."""
    for name, module in list(sys.modules.items()):
        if name.startswith("keylessd."):
            for value in list(vars(module).values()):
                clear = getattr(value, "cache_clear", None)
                if clear is not None and not isinstance(value, type):
                    clear()


def _traced(items: list[pytest.Item], numbers: list[int], files: set[str]) -> dict[str, Any]:
    """Run tests and note by which lines of *files* each of them comes."""
    lines: dict[tuple[str, int], set[int]] = defaultdict(set)
    seconds: dict[int, float] = {}
    failed: list[str] = []
    seen: set[tuple[CodeType, int]] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        code, add = frame.f_code, seen.add

        def inside(frame: FrameType, event: str, _: object) -> Any:
            add((code, frame.f_lineno))
            return inside

        add((code, frame.f_lineno))
        return inside

    for number, following in zip_longest(numbers, numbers[1:]):
        # What is remembered from the test before would hide a line from this one.
        _forget()
        seen.clear()
        began = time.process_time()
        threading.settrace(trace)
        sys.settrace(trace)
        passed = _passes(items[number], None if following is None else items[following])
        sys.settrace(None)
        seconds[number] = time.process_time() - began
        if not passed:
            failed.append(items[number].nodeid)
        for code, line in seen:
            lines[code.co_filename, line].add(number)
    listed = [(name, line, sorted(numbers)) for (name, line), numbers in lines.items()]
    return {"lines": listed, "seconds": seconds, "failed": failed}


def _order(mutant: Mutant, items: list[pytest.Item], coverage: _Coverage) -> list[int]:
    """Return the tests that come by, those first that will most likely and soonest notice."""
    file = str(source_of(mutant.module))
    numbers = coverage.tests.get((file, mutant.line), set())
    for line in mutant.lines:
        numbers = numbers | coverage.tests.get((file, line), set())
    near: set[int] = set()
    for line in mutant.lines:
        near |= coverage.tests.get((file, line), set())
    own = f"test_{mutant.module.rpartition('.')[2]}.py"
    cost: dict[str, float] = defaultdict(float)
    for number in numbers:
        cost[items[number].path.name] += coverage.seconds[number]

    def rank(number: int) -> tuple[object, ...]:
        name = items[number].path.name
        return (
            coverage.seconds[number] > 0.2, name != own, number not in near, cost[name], name,
            coverage.seconds[number], number,
        )  # fmt: skip

    return sorted(numbers, key=rank)


# --- children ------------------------------------------------------------------------------


def _in_children(
    works: Iterable[Callable[[], Mapping[str, Any]]],
    noted: Callable[[int, Any], None],
    *,
    jobs: int,
) -> None:
    """Do each work in a forked process, *jobs* at once, and note what it returns.

    Args:
        works: What to do.
        noted: Told the number of the work and its result, None if the process died.
        jobs: How many at once.
    """
    waiting = list(enumerate(works))[::-1]
    running: dict[int, tuple[int, int, bytearray]] = {}
    with selectors.DefaultSelector() as selector:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, work = waiting.pop()
                pid, pipe = _fork(work)
                running[pipe] = (number, pid, bytearray())
                selector.register(pipe, selectors.EVENT_READ)
            for key, _ in selector.select():
                number, pid, told = running[key.fd]
                piece = os.read(key.fd, 1 << 16)
                if piece:
                    told += piece
                    continue
                selector.unregister(key.fd)
                os.close(key.fd)
                del running[key.fd]
                os.waitpid(pid, 0)
                noted(number, json.loads(told) if told else None)


def _fork(work: Callable[[], Mapping[str, Any]]) -> tuple[int, int]:
    """Start *work* in a child; return its process and the pipe that its result comes through."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writable)
        return pid, readable
    status = 1
    try:
        os.close(readable)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        told = _told(work)
        with os.fdopen(writable, "wb") as pipe:
            pipe.write(json.dumps(told).encode())
        status = 0
    finally:
        os._exit(status)


def _told(work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return work()
    except Exception as error:  # noqa: BLE001  # a fault of this run, which must not look like a kill
        return {"error": repr(error)}

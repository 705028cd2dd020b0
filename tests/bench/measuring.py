"""Times processes and reads their memory, in turns: a busy machine is busy for all alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Spent:
    """What one process took, in seconds.

    Attributes:
        wall: From its start until it was gone.
        cpu: Of it and its children, user and system.
    """

    wall: float
    cpu: float


def run(arguments: Sequence[str], environ: Mapping[str, str], *, directory: Path) -> Spent:
    """Run a process to its end and say what it took; its output goes nowhere.

    Raises:
        RuntimeError: it failed.
    """
    null = os.devnull
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, null, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, null, os.O_WRONLY, 0),
    ]
    before = os.getcwd()
    os.chdir(directory)
    try:
        began = time.perf_counter()
        pid = os.posix_spawn(arguments[0], list(arguments), dict(environ), file_actions=actions)
        _, status, used = os.wait4(pid, 0)
        wall = time.perf_counter() - began
    finally:
        os.chdir(before)
    if status != 0:
        code = os.waitstatus_to_exitcode(status)
        raise RuntimeError(f"{' '.join(arguments)} ended with {code}")
    return Spent(wall, used.ru_utime + used.ru_stime)


@dataclass(frozen=True, slots=True)
class Samples:
    """What was measured of one case, in the order it was measured."""

    values: tuple[float, ...]

    @property
    def least(self) -> float:
        """What it takes when nothing else gets in the way."""
        return min(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def in_turns(
    cases: Mapping[str, Callable[[], float]], *, rounds: int, warm_up: int = 2
) -> dict[str, Samples]:
    """Measure each case once per round, beginning with another one each time.

    Args:
        cases: Name -> returns one measurement.
        rounds: How many measurements of each.
        warm_up: Rounds before that count for nothing.
    """
    names = list(cases)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            value = cases[name]()
            if number >= 0:
                found[name].append(value)
    return {name: Samples(tuple(values)) for name, values in found.items()}


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that *percent* of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    return _status(pid, "VmRSS") / 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used with all its threads, user and system."""
    # clock_getcpuclockid(3), which Python does not have; /proc counts in steps of 10 ms.
    return time.clock_gettime((~pid << 3) | 2)


@contextmanager
def held_to_one_core(pid: int) -> Iterator[None]:
    """Let this process and another share one core of those that this one may use."""
    cores = os.sched_getaffinity(0)
    _hold(pid, {min(cores)})
    try:
        yield
    finally:
        _hold(pid, cores)


def _hold(other: int, cores: set[int]) -> None:
    for pid in (os.getpid(), other):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):  # it has ended since
                os.sched_setaffinity(int(thread.name), cores)


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(f"no {name} of process {pid}")

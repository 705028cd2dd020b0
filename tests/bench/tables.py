"""One table of ratios, with the machine and the versions it was measured with. Measures nothing."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata

MISSED = 1  # exit status of --check when a goal is missed


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on one number of a row.

    Attributes:
        limit: The bound itself is still good.
        at_least: Whether more is better.
        unit: After the number, where it is no ratio.
    """

    limit: float
    at_least: bool = False
    unit: str = ""

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}{self.unit}"

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(slots=True)
class Table:
    """What one benchmark prints.

    Attributes:
        title: What is measured, and against what.
        columns: Names of the numbers.
        conditions: How it was measured, besides machine and versions.
    """

    title: str
    columns: Sequence[str]
    conditions: list[str] = field(default_factory=list)
    _rows: list[tuple[str, list[str], Goal | None, bool]] = field(default_factory=list)

    def add(
        self,
        name: str,
        values: Sequence[float | None],
        *,
        goal: Goal | None = None,
        judged: int = 0,
    ) -> None:
        """Add a row.

        Args:
            name: What was measured.
            values: Its numbers, one per column; None where there is none.
            goal: What is wanted of one of them, or None.
            judged: Which one.
        """
        value = values[judged]
        met = goal is None or (value is not None and goal.met(value))
        self._rows.append((name, [_number(one) for one in values], goal, met))

    @property
    def missed(self) -> bool:
        """Whether any goal is."""
        return not all(met for *_, met in self._rows)

    def __str__(self) -> str:
        head = ["", *self.columns, "goal", ""]
        body = [
            [name, *values, "" if goal is None else str(goal), _verdict(goal, met=met)]
            for name, values, goal, met in self._rows
        ]
        widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
        lines = [self.title, *(f"  {line}" for line in [*conditions(), *self.conditions]), ""]
        for row in [head, *body]:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


def options(about: str) -> argparse.ArgumentParser:
    """Return a parser with what all benchmarks take."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    return parser


def finish(table: Table, *, check: bool) -> int:
    """Print the table; return the exit status."""
    print(table, flush=True)
    return MISSED if check and table.missed else 0


def conditions() -> list[str]:
    """Return what the numbers depend on besides the code."""
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    names = ("keyless", "msgpack", "trio", "httpx", "cryptography", "tuf")
    return [
        f"{platform.system()} {platform.machine()}, {cores} cores, load {load:.1f}",
        f"{platform.python_implementation()} {platform.python_version()}; "
        + ", ".join(f"{name} {_version(name)}" for name in names),
    ]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "from a checkout" if name == "keyless" else "-"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _verdict(goal: Goal | None, *, met: bool) -> str:
    if goal is None:
        return ""
    return "ok" if met else "MISSED"

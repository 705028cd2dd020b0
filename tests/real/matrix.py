"""The table of who verified what: filled by the tests, printed at the end, kept in the README."""

from __future__ import annotations

import os
from pathlib import Path

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- the table -->", "<!-- end of the table -->"
WRITE = "KEYLESS_REAL_WRITE"


_WRITERS = ("keyless", "cosign", "sigstore-python", "sigstore-js")


def _row_key(row: str) -> tuple[int, str]:
    return _WRITERS.index(row.partition(",")[0]), row


def _column_key(column: str) -> tuple[bool, int, str]:
    name = column.partition(" ")[0]
    return " " in column, _WRITERS.index(name), column


class Table:
    """Cells by row and column."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], dict[str, str | None]] = {}

    def put(self, row: str, column: str, case: str, finding: str | None) -> None:
        """Record one case of a cell.

        Args:
            row: What was made, by whom.
            column: Who judged.
            case: ``good`` or what was tampered with.
            finding: None if that came out as it should, else what happened instead.
        """
        self._cells.setdefault((row, column), {})[case] = finding

    def lines(self) -> list[str]:
        """Return the table in Markdown, with a note per exception below it."""
        if not self._cells:
            return []
        # In an order of its own, whatever order the tests ran in.
        rows = sorted({row for row, _ in self._cells}, key=_row_key)
        columns = sorted({column for _, column in self._cells}, key=_column_key)
        notes: list[str] = []
        lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for row in rows:
            cells = [self._cell(self._cells.get((row, column)), notes) for column in columns]
            lines.append(f"| {row} | {' | '.join(cells)} |")
        return [*lines, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]

    def _cell(self, cases: dict[str, str | None] | None, notes: list[str]) -> str:
        if cases is None:
            return "-"
        marks = []
        for case, finding in cases.items():
            if finding is not None:
                note = f"{case}: {finding}"
                if note not in notes:
                    notes.append(note)
                marks.append(str(notes.index(note) + 1))
        held = len(cases) - len(marks)
        return f"{held}/{len(cases)}" + (f" [{', '.join(marks)}]" if marks else "")

    def keep(self) -> str | None:
        """Write the table into the README if asked to; else say whether the one there differs."""
        text = README.read_text() if README.exists() else ""
        if BEGIN not in text:
            return None
        head, rest = text.split(BEGIN, 1)
        kept, tail = rest.split(END, 1)
        lines = self.lines()
        new = "\n" + "\n".join(lines) + "\n"
        rows = sum(line.startswith("| ") for line in lines)
        if new == kept or rows < sum(line.startswith("| ") for line in kept.splitlines()):
            return None  # the same, or not of a whole run
        if os.environ.get(WRITE):
            README.write_text(head + BEGIN + new + END + tail)
            return f"written to {README}"
        return f"this is not the table in {README.name}; {WRITE}=1 writes it there"


TABLE = Table()

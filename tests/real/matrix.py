"""The table of who verified what: filled by the tests, printed at the end, kept in the README."""

from __future__ import annotations

import os
import re
from pathlib import Path

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- the table -->", "<!-- end of the table -->"
WRITE = "KEYLESS_REAL_WRITE"


_WRITERS = ("keyless", "cosign", "cosign2", "gitsign", "sigstore-python", "sigstore-js")
MAX_WORDS = 100  # of a peer's message; what follows are the values of one run


def said(words: str) -> str:
    """Return a peer's own message as a note can have it: its first line, without what varies."""
    line = " ".join(words.split("\n", 1)[0].split())
    line = re.sub(r"/\S+/", ".../", re.sub(r"\b[0-9a-f]{16,}\b", "(hex)", line))
    return line if len(line) <= MAX_WORDS else line[:MAX_WORDS].rstrip() + "..."


def exception(peer: str, words: str | None, why: str) -> str:
    """Return the finding for a peer that answers otherwise than was asked of it.

    Args:
        peer: Its name.
        words: Its own message, or None if it accepted.
        why: What we know of the reason.
    """
    answer = "accepted" if words is None else f'refused, "{said(words)}"'
    return f"{peer}: {answer}; {why}"


def _row_key(row: str) -> tuple[int, str]:
    return _WRITERS.index(row.partition(",")[0]), row


def _column_key(column: str) -> tuple[bool, int, str]:
    name = column.partition(" ")[0]
    return " " in column, _WRITERS.index(name), column


class Table:
    """Cells by row and column."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], dict[str, str | None]] = {}
        self._versions: dict[str, str] = {}

    def introduce(self, name: str, version: str) -> None:
        """Say which version a peer has; it stands in the head and in every note about it."""
        self._versions[name] = version

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
        heads = [self._with_version(column) for column in columns]
        lines = [f"| | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|"]
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
                note = f"{case}: {self._with_version(finding)}"
                if note not in notes:
                    notes.append(note)
                marks.append(str(notes.index(note) + 1))
        held = len(cases) - len(marks)
        return f"{held}/{len(cases)}" + (f" [{', '.join(marks)}]" if marks else "")

    def _with_version(self, text: str) -> str:
        """Put the version after the name that a text begins with."""
        # The longest first: one name may begin with another.
        for name in sorted(self._versions, key=len, reverse=True):
            rest = text.removeprefix(name)
            if rest != text and not rest[:1].isalnum():
                return f"{name} {self._versions[name]}{rest}"
        return text

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

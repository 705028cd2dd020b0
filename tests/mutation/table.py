"""The table of mutants in daemon/doc/verification.md, between two marks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import HOUSE, KINDS, Mutant

DOCUMENT = HOUSE / "doc" / "verification.md"
BEGIN = "<!-- mutants: written by python -m tests.mutation --write -->"
END = "<!-- end of mutants -->"


def table_of(mutants: Sequence[Mutant]) -> str:
    """Return the table of all mutants, by function, and the list of those that are equivalent."""
    by_function: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        short = mutant.module.removeprefix("keylessd.")
        by_function[f"{short}.{mutant.function}"].append(mutant)
    head = ["function", "fails as", *KINDS]
    lines = [_row(head), _row(["---"] * len(head))]
    for name, listed in sorted(by_function.items()):
        checks = sorted({mutant.check for mutant in listed} - {""})
        counts = [sum(mutant.kind == kind for mutant in listed) for kind in KINDS]
        cells = [f"`{name}`", ", ".join(f"`{check}`" for check in checks)]
        lines.append(_row([*cells, *(str(count or "") for count in counts)]))
    total = [sum(mutant.kind == kind for mutant in mutants) for kind in KINDS]
    lines.append(_row(["all", "", *map(str, total)]))
    lines += ["", "Equivalent to what they were made from, so that no test can tell:", ""]
    lines += [f"- `{name}`: {why}." for name, why in sorted(EQUIVALENT.items())]
    return "\n".join(lines)


def written() -> str:
    """Return the table as the document has it."""
    _, _, rest = DOCUMENT.read_text().partition(BEGIN)
    return rest.partition(END)[0].strip()


def write(mutants: Sequence[Mutant]) -> None:
    """Put the table into the document."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table_of(mutants)}\n\n{END}{after}")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

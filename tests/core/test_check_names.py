"""The names of checks: each that can fail is in the documentation, and no other is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HOUSE = Path(__file__).parents[2] / "daemon" / "keylessd"
DOCUMENT = HOUSE.parent / "doc" / "verification.md"

# Built from a part's name, or passed on in a variable.
COMPOSED = {
    "bundle-json", "bundle-media-type", "bundle-timestamp", "bundle-content", "issuer",
}  # fmt: skip
# Proofs between checkpoints are no part of a bundle.
ELSEWHERE = {"consistency-proof"}


def names_in(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        given: list[ast.expr] = [word.value for word in node.keywords if word.arg == "check"]
        if called in {"VerificationError", "MissingDigestError"}:
            given += node.args[:1]
        found |= {
            item.value
            for item in given
            if isinstance(item, ast.Constant) and isinstance(item.value, str)
        }
    return found


def test_every_check_is_documented_and_no_other() -> None:
    used = set(COMPOSED)
    for room in ("core", "policy"):
        for path in (HOUSE / room).glob("*.py"):
            used |= names_in(path)
    # UnknownLogError passes its name to its parent class.
    used.add("log-unknown")
    text = DOCUMENT.read_text().split("## Beside")[0]
    rows = [row[2] for row in numbered(text)]
    documented = {name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row)}
    assert documented == used - ELSEWHERE


def numbered(text: str) -> list[list[str]]:
    """Return the cells of the rows that have a number."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows if row[0].isdigit()]


def test_every_check_has_its_number_and_a_function_that_is_there() -> None:
    text = DOCUMENT.read_text().split("## Beside")[0]
    rows = numbered(text)
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))
    defined = {
        f"{path.stem}.{node.name}"
        for room in ("core", "policy")
        for path in (HOUSE / room).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    bare = {name.partition(".")[2] for name in defined}
    for row in rows:
        for named in re.findall(r"`([A-Za-z0-9_.]+)`", row[3]):
            owner, _, function = named.rpartition(".")
            place = owner.rpartition(".")[0] or owner
            assert function in bare, named
            assert (
                not owner
                or owner[0].isupper()
                or "Token" in owner
                or (f"{place}.{function}" in defined)
            ), named


def test_every_step_is_in_the_table_with_its_checks() -> None:
    from keylessd.core.verify import KEYLESS_STEPS, MANAGED_KEY_STEPS

    text = DOCUMENT.read_text().split("## Where to look")[1].split("## The list")[0]
    cells = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    for number, pattern in ((1, r"`([a-z-]+)`"), (2, r"`([a-z_]+)`")):
        named = {name for row in cells for name in re.findall(pattern, row[number])}
        steps = {*KEYLESS_STEPS, *MANAGED_KEY_STEPS}
        real = {step.name if number == 1 else step.check.__name__ for step in steps}
        assert named == real
    covered = [int(n) for row in cells for n in re.findall(r"\d+", row[3])]
    assert covered == sorted(covered)
    assert covered[0] == 1
    assert covered[-1] == len(numbered(DOCUMENT.read_text().split("## Beside")[0]))

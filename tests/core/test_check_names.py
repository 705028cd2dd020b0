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
    rows = [line.split("|")[-2] for line in text.splitlines() if line.startswith("| ")]
    documented = {name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row)}
    documented.add("key-validity")
    assert documented == used - ELSEWHERE

"""No mutant of verification lives: each check, switched off alone, is missed by a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import KINDS, code_of, modules, mutants_in, mutants_of, source_of
from tests.mutation.table import table_of, written

HOUSE = Path(__file__).parents[2]
SAMPLE = os.environ.get("KEYLESS_TEST_MUTANTS", "150")
SEED = os.environ.get("KEYLESS_TEST_SEED", "1")

SOURCE = """
LIMIT = 3

def check(value, others=()):
    assert value is not None
    if value > LIMIT or value == 1:
        raise ValueError("wrong", value > 7)
    note(value)
    total = 0
    for other in others:
        if other == 5:
            continue
        total += other
    return total + sum(other for other in others if other != 9)

def note(value):
    if value == 2:
        raise LookupError
"""


def run(*options: str) -> None:
    jobs = "1" if "PYTEST_XDIST_WORKER" in os.environ else str(os.cpu_count() or 1)
    command = [sys.executable, "-m", "tests.mutation", "--jobs", jobs, *options]
    done = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_no_mutant_lives() -> None:
    run(*(() if SAMPLE == "all" else ("--sample", SAMPLE, "--seed", SEED)))


@pytest.mark.nightly
def test_no_mutant_at_all_lives() -> None:
    run()


def test_table_is_current() -> None:
    """Else: ``python -m tests.mutation --write``."""
    assert written() == table_of([mutant for name in modules() for mutant in mutants_of(name)])


def test_every_exception_is_a_mutant_and_has_a_reason() -> None:
    names = {mutant.name for module in modules() for mutant in mutants_of(module)}
    assert [name for name in EQUIVALENT if name not in names] == []
    assert all(EQUIVALENT.values())


def test_every_mutant_has_a_name_of_its_own() -> None:
    names = Counter(mutant.name for module in modules() for mutant in mutants_of(module))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.slow
def test_mutants_can_be_made_of_every_module() -> None:
    for module in modules():
        source = source_of(module).read_text()
        for mutant in mutants_in(source, module)[::10]:
            assert code_of(mutant, source).co_qualname == mutant.function


def outcomes(name: str) -> list[str]:
    """Return what a mutant of SOURCE does with some values."""
    (mutant,) = [found for found in mutants_in(SOURCE, "sample") if found.name == name]
    space: dict[str, object] = {}
    exec(SOURCE, space)
    space[mutant.function].__code__ = code_of(mutant, SOURCE)  # type: ignore[attr-defined]
    found = []
    for value in (0, 1, 2, 3, 4):
        try:
            found.append(str(space["check"](value, (1, 5, 9))))  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001
            found.append(type(error).__name__)
    return found


GOOD = ["16", "ValueError", "LookupError", "16", "ValueError"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("check: refusal: ValueError('wrong')", ["16", "16", "LookupError", "16", "16"]),
        ("check: call: note(value)", ["16", "ValueError", "16", "16", "ValueError"]),
        ("note: refusal: LookupError", ["16", "ValueError", "16", "16", "ValueError"]),
        ("check: boundary: value > LIMIT, the first sign", [*GOOD[:3], "ValueError", GOOD[4]]),
        (
            "check: condition: value > LIMIT in value > LIMIT or value == 1",
            [*GOOD[:4], "16"],
        ),
        (
            "check: condition: value == 1 in value > LIMIT or value == 1",
            ["16", "16", *GOOD[2:]],
        ),
        ("check: comparison: other == 5 is True", ["6", *GOOD[1:3], "6", GOOD[4]]),
        ("check: comparison: other == 5 is False", ["21", *GOOD[1:3], "21", GOOD[4]]),
        ("check: comparison: other != 9 is True", ["25", *GOOD[1:3], "25", GOOD[4]]),
        ("check: comparison: other != 9 is False", ["10", *GOOD[1:3], "10", GOOD[4]]),
        ("check: filter: other == 5", ["21", *GOOD[1:3], "21", GOOD[4]]),
        ("check: filter: other != 9", ["25", *GOOD[1:3], "25", GOOD[4]]),
    ],
)
def test_each_kind_changes_what_it_says(name: str, wanted: list[str]) -> None:
    assert outcomes(f"sample.{name}") == wanted


def test_all_places_of_the_sample_are_found() -> None:
    found = Counter(mutant.kind for mutant in mutants_in(SOURCE, "sample"))
    assert found == {
        "refusal": 2, "call": 1, "condition": 2, "boundary": 1, "comparison": 4, "filter": 2,
    }  # fmt: skip


def test_every_kind_occurs() -> None:
    kinds = {mutant.kind for module in modules() for mutant in mutants_of(module)}
    assert kinds == set(KINDS)


def test_every_step_of_a_verification_is_a_place() -> None:
    from keylessd.core.verify import KEYLESS_STEPS, MANAGED_KEY_STEPS

    switched_off = {
        (mutant.module, mutant.function)
        for module in modules()
        for mutant in mutants_of(module)
        if mutant.kind == "step"
    }
    for step in (*KEYLESS_STEPS, *MANAGED_KEY_STEPS):
        assert (step.check.__module__, step.check.__qualname__) in switched_off

"""Whatever is read from strangers: only the declared errors come out, and the work is bounded."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from pathlib import Path

import pytest

from fuzz_targets import ACCEPTED, Target, targets
from fuzzing import steps_of

NAMES = (
    "bundle", "trusted root", "signing config", "checkpoint", "timestamp", "certificate",
    "SCT list", "statement", "entry body", "key",
)  # fmt: skip
EACH = 1000  # inputs per target in the normal run, so ten thousand of all
NIGHTLY = int(os.environ.get("KEYLESS_TEST_FUZZ", "1000000"))
SLICES = 10
SEED = int(os.environ.get("KEYLESS_TEST_SEED", "20000000"))

# Steps of the interpreter that an input may cost, and those of each of its bytes.
STEPS = 60_000
STEPS_PER_BYTE = 20


@pytest.fixture(scope="module")
def all_targets(vectors: Path) -> dict[str, Target]:
    return targets(vectors)


def attempt(target: Target, seed: int) -> str:
    raw = target.spoilt(seed)
    try:
        return target.read(raw)
    except Exception as error:  # noqa: BLE001  # that is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"ESCAPED {error!r:.200} at {where.name}, seed {seed}: {raw[:2000]!r}"


def escaped(target: Target, first: int, count: int) -> list[str]:
    found = (attempt(target, seed) for seed in range(first, first + count))
    return [outcome for outcome in found if outcome.startswith("ESCAPED")]


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_good(all_targets: dict[str, Target], name: str) -> None:
    target = all_targets[name]
    outcomes = Counter(target.read(sample) for sample in target.samples)
    assert any(ACCEPTED in outcome for outcome in outcomes), outcomes


@pytest.mark.parametrize("name", NAMES)
def test_only_declared_errors_come_out(all_targets: dict[str, Target], name: str) -> None:
    assert escaped(all_targets[name], 0, EACH) == []


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("name", NAMES)
def test_only_declared_errors_come_out_of_a_million(
    all_targets: dict[str, Target], name: str, part: int
) -> None:
    count = NIGHTLY // (SLICES * len(NAMES))
    assert escaped(all_targets[name], SEED + part * count, count) == []


@pytest.mark.parametrize("name", NAMES)
def test_spoiling_comes_far(all_targets: dict[str, Target], name: str) -> None:
    """Were all inputs refused at once, nothing behind would be tried."""
    outcomes = {attempt(all_targets[name], seed) for seed in range(300)}
    assert len(outcomes) >= 3, outcomes


@pytest.mark.parametrize("name", NAMES)
def test_no_input_costs_much_more_than_a_good_one(
    all_targets: dict[str, Target], name: str
) -> None:
    target = all_targets[name]
    for seed in range(0, 3000, 60):
        raw = target.spoilt(seed)
        steps = steps_of(lambda raw=raw: target.read(raw))
        assert steps <= STEPS + STEPS_PER_BYTE * len(raw), (seed, len(raw), raw[:500])

"""This verifier and sigstore-python on the same bundles, good and mutated: no unexplained word."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mutations import Mutator

pytest.importorskip("sigstore", reason="the other verifier is not installed")

from differential import ACCEPTED, CASES, Subject, minted_subjects, real_subjects

# The warnings are those of the other one and its parts.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def minted(tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    return minted_subjects(tmp_path_factory.mktemp("roots"))


@pytest.fixture(scope="module")
def real(vectors: Path) -> list[Subject]:
    return real_subjects(vectors)


def findings(subjects: list[Subject], seed: int, count: int) -> list[str]:
    """Return what *count* mutations of these bundles bring to light."""
    donors = [subject.value for subject in subjects]
    found = []
    for number in range(seed, seed + count):
        subject = subjects[number % len(subjects)]
        how, raw = Mutator(number, donors).mutation(subject.value)
        problem = subject.finding(raw)
        if problem is not None:
            found.append(f"{subject.name}, seed {number}, {how}: {problem}")
    return found


@pytest.mark.parametrize("place", range(4))
def test_both_accept_what_was_just_minted(minted: list[Subject], place: int) -> None:
    raw = json.dumps(minted[place].value).encode()
    assert (minted[place].ours(raw), minted[place].theirs(raw)) == (ACCEPTED, ACCEPTED)


@pytest.mark.parametrize("place", range(len(CASES)), ids=CASES)
def test_both_accept_real_bundles(real: list[Subject], place: int) -> None:
    raw = json.dumps(real[place].value).encode()
    assert (real[place].ours(raw), real[place].theirs(raw)) == (ACCEPTED, ACCEPTED)


def test_mutated_minted_bundles(minted: list[Subject]) -> None:
    assert findings(minted, 1, 1500) == []


def test_mutated_real_bundles(real: list[Subject], minted: list[Subject]) -> None:
    assert findings([*real, *minted], 1_000_000, 1500) == []


@pytest.mark.slow
def test_many_mutated_bundles(real: list[Subject], minted: list[Subject]) -> None:
    # 5000 take half a minute; KEYLESS_TEST_MUTATIONS asks for more, KEYLESS_TEST_SEED for others.
    count = int(os.environ.get("KEYLESS_TEST_MUTATIONS", "5000"))
    seed = int(os.environ.get("KEYLESS_TEST_SEED", "10000000"))
    assert findings([*real, *minted], seed, count) == []


def test_every_kind_of_mutation_occurs(minted: list[Subject]) -> None:
    value = minted[0].value
    kinds = {Mutator(seed, [value]).mutation(value)[0].split()[0] for seed in range(2000)}
    assert kinds == {
        "characters", "flip", "inner", "key", "list", "null", "number", "remove", "resize",
        "retype", "swap", "twice",
    }  # fmt: skip

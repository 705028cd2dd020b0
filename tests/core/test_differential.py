"""This verifier and sigstore-python on the same bundles, good and mutated: no unexplained word."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from mutations import Mutator

pytest.importorskip("sigstore", reason="the other verifier is not installed")

from differential import (
    ACCEPTED,
    CASES,
    Subject,
    minted_subject,
    minted_subjects,
    real_subjects,
)
from minted_faults import FAULTS
from verdicts_beside import VERDICTS, Verdict, is_explained

# 5000 mutations take half a minute.
COUNT = int(os.environ.get("KEYLESS_TEST_MUTATIONS", "5000"))
SEED = int(os.environ.get("KEYLESS_TEST_SEED", "10000000"))
DOCUMENT = Path(__file__).parents[2] / "daemon" / "doc" / "verification.md"

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


@pytest.mark.slow
def test_mutated_minted_bundles(minted: list[Subject]) -> None:
    assert findings(minted, 1, 750) == []


@pytest.mark.slow
def test_mutated_real_bundles(real: list[Subject], minted: list[Subject]) -> None:
    assert findings([*real, *minted], 1_000_000, 750) == []


@pytest.mark.slow
def test_many_mutated_bundles(real: list[Subject], minted: list[Subject]) -> None:
    assert findings([*real, *minted], SEED, COUNT) == []


def test_every_kind_of_mutation_occurs(minted: list[Subject]) -> None:
    value = minted[0].value
    kinds = {Mutator(seed, [value]).mutation(value)[0].split()[0] for seed in range(2000)}
    assert kinds == {
        "characters", "flip", "inner", "key", "list", "null", "number", "remove", "resize",
        "retype", "swap", "twice",
    }  # fmt: skip


def test_an_empty_object_inside_is_left_alone() -> None:
    value = {"payload": "e30="}  # {}
    for seed in range(200):
        assert Mutator(seed, [value]).mutation(value)[0].split()[0] != "inner"


# --- made anew, with one part wrong ----------------------------------------------------------


JUDGED: dict[tuple[str, int], tuple[str, str]] = {}


def judged(fault: str, seed: int, folder: Path) -> tuple[str, str]:
    """Return both verdicts; the same fault is made once, whoever asks."""
    if (fault, seed) not in JUDGED:
        subject = minted_subject(fault, FAULTS[fault](random.Random(seed)), folder)
        raw = json.dumps(subject.value).encode()
        JUDGED[fault, seed] = subject.ours(raw), subject.theirs(raw)
    return JUDGED[fault, seed]


@pytest.mark.parametrize("fault", FAULTS)
def test_both_judge_a_fault_alike_or_it_is_listed(fault: str, tmp_path: Path) -> None:
    for seed in range(4):
        ours, theirs = judged(fault, seed, tmp_path)
        alike = (ours == ACCEPTED) == (theirs == ACCEPTED)
        assert alike or is_explained(fault, stricter=ours != ACCEPTED), (ours, theirs)


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda verdict: verdict.why)
def test_what_is_listed_is_so(verdict: Verdict, tmp_path: Path) -> None:
    outcomes = [judged(fault, seed, tmp_path) for fault in verdict.faults for seed in range(4)]
    refused, accepted = (0, 1) if verdict.stricter else (1, 0)
    assert any(pair[accepted] == ACCEPTED != pair[refused] for pair in outcomes), outcomes


@pytest.mark.slow
def test_many_faults_mutated_once_more(tmp_path: Path) -> None:
    names = list(FAULTS)
    found = []
    for number in range(SEED, SEED + COUNT // 50):
        fault = names[number % len(names)]
        subject = minted_subject(fault, FAULTS[fault](random.Random(number)), tmp_path)
        for again in range(10):
            how, raw = Mutator(10 * number + again, [subject.value]).mutation(subject.value)
            problem = subject.finding(raw)
            if problem and not is_explained(fault, stricter=not problem.startswith(ACCEPTED)):
                found.append(f"{fault}, seed {number} {again}, {how}: {problem}")
    assert found == []


def test_every_class_of_disagreement_is_in_the_documentation() -> None:
    section = DOCUMENT.read_text().split("## Beside sigstore-python")[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
    assert [verdict.why for verdict in VERDICTS if verdict.why not in rows] == []

"""Which logs are written to, by the signing configuration; counted in the logs themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.real import matrix
from tests.real.cases import Made, judge
from tests.real.outcomes import counted, failure_of

from standing import bundle_of

# Configuration -> entries that one signature makes. Of several versions the newest one counts.
EXPECTED = {
    "v1": {"rekor1": 1},
    "v1-tsa": {"rekor1": 1},
    "v2": {"rekor2-a": 1},
    "both-any": {"rekor2-a": 1},
    "both-all": {"rekor2-a": 1},
    "v2-all": {"rekor2-a": 1, "rekor2-b": 1},
    "v2-exact2": {"rekor2-a": 1, "rekor2-b": 1},
}
# What sigstore-python says of a bundle from two logs.
ONE_ENTRY = "InvalidBundle: expected exactly one log entry in bundle"
_REBUILT = "it rebuilds the entry from the bundle and does not read the one given"
_UNREAD_ROOT = "it takes the root hash of the signed checkpoint, not the proof's copy"
KNOWN: dict[str, dict[tuple[str, str], str]] = {
    "keyless": {},
    "cosign": {("*", "entry body"): _REBUILT, ("*", "root hash"): _UNREAD_ROOT},
    "sigstore-js": {("*", "root hash"): _UNREAD_ROOT},
}


@pytest.mark.parametrize("instance", EXPECTED)
def test_configuration_says_which_logs(stack, house, judges, instance: str) -> None:
    (path,) = house.files(1, stem=f"config-{instance}-")

    with counted(stack) as added:
        house.sign(instance, path)

    assert added == EXPECTED[instance], added
    entries = json.loads(bundle_of(path).read_text())["verificationMaterial"]["tlogEntries"]
    assert len(entries) == sum(EXPECTED[instance].values())
    assert house.verify(path).returncode == 0
    for name, one in judges.items():
        words = one.refusal(bundle_of(path), path, house.who)
        if name == "sigstore-python" and len(entries) > 1:
            assert words == ONE_ENTRY
        else:
            assert words is None, name


def test_exact_one_of_two(stack, house) -> None:
    (path,) = house.files(1, stem="config-exact1-")

    with counted(stack) as added:
        house.sign("v2-exact1", path)

    assert sum(added.entries.values()) == 1
    assert added.entries["rekor1"] == 0
    assert house.verify(path).returncode == 0


def test_exact_three_of_two_is_refused_before_anything_is_logged(stack, house) -> None:
    (path,) = house.files(1, stem="config-exact3-")

    with counted(stack) as added:
        done = house.keyless("sign", "--json", "--instance", "v2-exact3", path)

    assert failure_of(done).code == "no_service"
    assert added == {}
    assert not bundle_of(path).exists()


def test_both_entries_are_judged(house, primed, keyless, judges, tmp_path: Path) -> None:
    files = house.files(2, stem="two-logs-")
    house.sign("v2-all", "--reuse", "never", *files)
    bundle, other = map(bundle_of, files)
    made = Made("keyless, blob, two Rekor v2 logs + TSA", files[0], bundle, other, house.who)

    for one in (keyless, judges["cosign"], judges["sigstore-js"]):
        judge(made, one.name, one.refusal, tmp_path / one.name, known=KNOWN[one.name])
    words = judges["sigstore-python"].refusal(bundle, files[0], house.who)
    assert words == ONE_ENTRY
    found = matrix.exception("sigstore-python", words, "it takes bundles of one log")
    matrix.TABLE.put(made.row, "sigstore-python", "good", found)

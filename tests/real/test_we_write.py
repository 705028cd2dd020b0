"""keyless signs with the real services; cosign, sigstore-python and sigstore-js judge it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.real import matrix
from tests.real.cases import Made, judge
from tests.real.clients import PREDICATE_TYPE

from standing import bundle_of

KINDS = [
    ("blob", "v1"),
    ("blob", "v1-tsa"),
    ("blob", "v2"),
    ("attestation", "v1"),
    ("attestation", "v1-tsa"),
    ("attestation", "v2"),
]
LOGS = {"v1": "Rekor v1", "v1-tsa": "Rekor v1 + TSA", "v2": "Rekor v2 + TSA"}
# Where a peer answers otherwise than the case wants: judge -> (row or *, case) -> why.
_V2 = [f"keyless, {kind}, {LOGS['v2']}" for kind in ("blob", "attestation")]
_V1_TSA = [f"keyless, {kind}, {LOGS['v1-tsa']}" for kind in ("blob", "attestation")]
_REBUILT = "it rebuilds the entry from the bundle and does not read the one given"
_UNREAD_ROOT = "it takes the root hash of the signed checkpoint, not the proof's copy"
_ENOUGH = "the log's own time is enough for it"
_NO_PAE = "it compares the logged digest with that of the payload, Rekor v2 logs that of the "
_NO_PAE += "envelope's encoding"
KNOWN: dict[str, dict[tuple[str, str], str]] = {
    "keyless": {},
    "cosign": {
        **{(row, "entry body"): _REBUILT for row in _V2},
        **{(row, "root hash"): _UNREAD_ROOT for row in _V2},
    },
    "sigstore-python": {
        **{(row, "timestamp"): _ENOUGH for row in _V1_TSA},
        **{(row, "other's timestamp"): _ENOUGH for row in _V1_TSA},
    },
    "sigstore-js": {
        **{
            (f"keyless, {kind}, {logs}", "root hash"): _UNREAD_ROOT
            for kind in ("blob", "attestation")
            for logs in LOGS.values()
            if (kind, logs) != ("attestation", LOGS["v2"])
        },
        (_V2[1], "good"): _NO_PAE,
    },
}


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def made(house, primed, request) -> Made:
    kind, instance = request.param
    files = house.files(2, stem=f"{kind}-{instance}-")
    if kind == "blob":
        # Not one certificate for both, or there is nothing to swap.
        house.sign(instance, "--reuse", "never", *files)
    else:
        predicate = house.work / "predicate.json"
        predicate.write_text(json.dumps({"builder": "honest"}))
        for path in files:
            house.attest(
                instance,
                *("--reuse", "never", "--predicate", predicate, "--type", PREDICATE_TYPE),
                *("--bundle", bundle_of(path), path),
            )
    return Made(
        row=f"keyless, {kind}, {LOGS[instance]}",
        artifact=files[0],
        bundle=bundle_of(files[0]),
        other=bundle_of(files[1]),
        who=house.who,
        attestation=kind == "attestation",
    )


@pytest.fixture(params=list(KNOWN))
def one(keyless, judges, request):
    return {"keyless": keyless, **judges}[request.param]


def test_judge(made: Made, one, tmp_path: Path) -> None:
    def refusal(bundle, artifact, who):
        return one.refusal(bundle, artifact, who, attestation=made.attestation)

    judge(made, f"{one.name}", refusal, tmp_path / "cases", known=KNOWN[one.name])


def test_command_of_sigstore_js_by_the_tuf_repository(house, primed, sigstore_js) -> None:
    (path,) = house.files(1, stem="js-command")
    house.sign("v1-tsa", path)
    row, column = "keyless, blob, Rekor v1 + TSA", "sigstore-js command by TUF"

    good = sigstore_js.command_refusal(bundle_of(path), path, house.who)
    stranger = replace(house.who, identity="x" + house.who.identity)
    wrong = sigstore_js.command_refusal(bundle_of(path), path, stranger)
    path.write_bytes(b"changed")
    changed = sigstore_js.command_refusal(bundle_of(path), path, house.who)

    matrix.TABLE.put(row, column, "good", good)
    matrix.TABLE.put(row, column, "identity", None if wrong else "accepted")
    matrix.TABLE.put(row, column, "artifact", None if changed else "accepted")
    assert good is None
    assert wrong is not None
    assert changed is not None


def test_command_of_sigstore_js_knows_no_rekor_v2(house, primed, sigstore_js) -> None:
    (path,) = house.files(1, stem="js-command-v2")
    house.sign("tuf", path)

    words = sigstore_js.command_refusal(bundle_of(path), path, house.who)

    # A release that can is wanted in the test above.
    assert words is not None
    assert "invalid checkpoint signature" in words
    row, column = "keyless, blob, Rekor v2 + TSA", "sigstore-js command by TUF"
    why = "this release of the command knows no Rekor v2"
    matrix.TABLE.put(row, column, "good", matrix.exception("sigstore-js command", words, why))

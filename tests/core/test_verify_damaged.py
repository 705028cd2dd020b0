"""Damaged bundles: whatever is changed, nothing but a VerificationError comes out."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core.bundle import parse_bundle, serialize_bundle
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.trusted_root import TrustedRoot, parse_trusted_root
from keylessd.core.verify import verify_bundle
from keylessd.errors import VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
from sigsim.worlds import World, digests, statement, v1_log

ANYONE = AnySigner((ExpectedSigner(identity_regexp=".*", issuer_regexp=".*"),))
JUNK: tuple[Any, ...] = (None, "", "AA==", "\ud800", "é", 0, -1, 2**64, 1.5, True, [], {}, [None])

V2, V1 = World(), World(rekor=v1_log())
ABOUT = {"sha256": next(iter(digests().values())).hex}
SAMPLES = {
    "message-v2": (V2, V2.message()),
    "message-v1": (V1, V1.message()),
    "envelope-v2": (V2, V2.envelope(statement(ABOUT))),
    "envelope-v1": (V1, V1.envelope(statement(ABOUT))),
}
# What may be left out without making the bundle any less proven.
SPARE = {
    ("messageDigest",),
    ("inclusionPromise",),
    ("timestampVerificationData",),
    ("rfc3161Timestamps",),
}
RAW = {name: serialize_bundle(bundle) for name, (_, bundle) in SAMPLES.items()}


def outcome(raw: bytes, root: TrustedRoot, known: dict[HashAlgorithm, Digest]) -> str:
    try:
        verify_bundle(parse_bundle(raw), known, root, expected=ANYONE)
    except VerificationError as error:
        return error.check
    return "accepted"


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items if isinstance(value, dict | list) else ():
        yield from paths(item, (*at, key))


def changed(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    result = copy.deepcopy(value)
    inner = result
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return result


def removed(value: Any, at: tuple[Any, ...]) -> Any:
    result = copy.deepcopy(value)
    inner = result
    for key in at[:-1]:
        inner = inner[key]
    del inner[at[-1]]
    return result


@pytest.mark.parametrize("name", RAW)
def test_sample_is_good(name: str) -> None:
    assert outcome(RAW[name], SAMPLES[name][0].root(), digests()) == "accepted"


@pytest.mark.parametrize("name", RAW)
def test_no_part_can_be_replaced_or_left_out(name: str) -> None:
    root = SAMPLES[name][0].root()
    value = json.loads(RAW[name])
    for at in paths(value):
        variants = [changed(value, at, junk) for junk in JUNK]
        if at:
            variants.append(removed(value, at))
        for variant in variants:
            if variant == value:
                continue
            found = outcome(json.dumps(variant).encode(), root, digests())
            spare = at[-1:] in SPARE or at[-2:] == ("rfc3161Timestamps", 0)
            assert found != "accepted" or spare, (at, variant)


@pytest.mark.parametrize("name", RAW)
def test_no_prefix_is_accepted(name: str) -> None:
    root = SAMPLES[name][0].root()
    for size in range(0, len(RAW[name]), 97):
        assert outcome(RAW[name][:size], root, digests()) == "bundle-json"


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(RAW)),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_changed_bytes_raise_nothing_else(name: str, changes: list[tuple[int, int]]) -> None:
    raw = bytearray(RAW[name])
    for place, value in changes:
        raw[place % len(raw)] = value
    assert outcome(bytes(raw), SAMPLES[name][0].root(), digests())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(RAW)), st.data())
def test_changed_octets_inside_raise_nothing_else(name: str, data: st.DataObject) -> None:
    world, bundle = SAMPLES[name]
    where = data.draw(st.sampled_from(["certificate", "timestamp", "signature"]))
    raw = bytearray(
        {
            "certificate": bundle.certificates[0],
            "timestamp": bundle.timestamps[0],
            "signature": bundle.content.signature,
        }[where]
    )
    for _ in range(2):
        raw[data.draw(st.integers(0, 4096)) % len(raw)] = data.draw(st.integers(0, 255))
    whole = bytes(raw)
    if where == "certificate":
        bundle = replace(bundle, certificates=(whole,))
    elif where == "timestamp":
        bundle = replace(bundle, timestamps=(whole,))
    else:
        bundle = replace(bundle, content=replace(bundle.content, signature=whole))
    same = bundle == SAMPLES[name][1]
    try:
        verify_bundle(bundle, digests(), world.root(), expected=ANYONE)
    except VerificationError:
        assert not same


REAL = ["happy-path-v0.1", "happy-path-v0.3", "rekor2-happy-path", "rekor2-dsse-happy-path"]


@pytest.mark.parametrize("name", [*REAL, "intoto-with-custom-trust-root"])
def test_real_bundles_with_any_part_replaced(vectors: Path, name: str) -> None:
    folder = vectors / "conformance" / name
    artifact = folder / "artifact"
    content = (artifact if artifact.exists() else folder.parent / "a.txt").read_bytes()
    root_file = folder / "trusted_root.json"
    if not root_file.exists():
        root_file = vectors / "trust" / "production.trusted_root.json"
    root = parse_trusted_root(root_file.read_bytes())
    known = {algorithm: digest_of(algorithm, content) for algorithm in HashAlgorithm}
    value = json.loads((folder / "bundle.sigstore.json").read_bytes())
    assert outcome(json.dumps(value).encode(), root, known) == "accepted"
    for at in paths(value):
        for variant in [changed(value, at, junk) for junk in JUNK[:6]] + (
            [removed(value, at)] if at else []
        ):
            assert outcome(json.dumps(variant).encode(), root, known)

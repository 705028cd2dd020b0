"""Drives the fuzz target: pure noise, noise in frames, and valid conversations with damage."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyless.wire import OPERATIONS, _codec
from keyless.wire._framing import frame

_spec = importlib.util.spec_from_file_location(
    "fuzz_target", Path(__file__).with_name("fuzz_target.py")
)
fuzz_target = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz_target)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 2**63 - 1)
    | st.text(max_size=9)
    | st.binary(max_size=33)
    | st.sampled_from([bytes(32), "sha256", "window", "x" * 3000])
)
NAMES = st.sampled_from(
    ["t", "id", "op", "body", "att", "v", "agent", "limits", "error", "name", "digest", "alg",
     "value", "where", "instance", "accepted", "digests", "sha256", "progress", "code", "message",
     "retryable", "step", "records", "limit", "bundle", "statement"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
KINDS = st.sampled_from(["hello", "welcome", "request", "reply", "error", "event", "cancel"])
HEADS = st.fixed_dictionaries(
    {"t": KINDS},
    optional={
        "id": st.sampled_from([1, 2, 3, None, 0, 2**32]),
        "op": st.sampled_from([*OPERATIONS, "export_key"]),
        "name": st.just("progress"),
        "body": st.just({}) | st.dictionaries(NAMES, VALUES, max_size=4),
        "v": st.sampled_from([1, [1], [2], [1, 2]]),
        "agent": st.text(max_size=5),
        "limits": st.just({}),
        "att": st.lists(st.tuples(NAMES, st.integers(0, 20)), max_size=2),
        "error": st.just({"code": "busy", "message": "m", "retryable": True}) | VALUES,
    },
)
OPENINGS = st.sampled_from(
    [
        b"",
        frame(_codec.pack({"t": "hello", "v": [1], "agent": ""}), []),
        frame(_codec.pack({"t": "welcome", "v": 1, "agent": "", "limits": {}}), []),
    ]
)


@st.composite
def conversations(draw):
    data = bytearray(draw(OPENINGS))
    for head in draw(st.lists(HEADS, max_size=4)):
        size = sum(length for _, length in head.get("att", []))
        data += frame(_codec.pack(head), [bytes(size)])
    for _ in range(draw(st.integers(0, 2))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise(data):
    fuzz_target.one_input(data)


@settings(deadline=None)
@given(OPENINGS, VALUES)
def test_any_value_as_a_head(opening, value):
    fuzz_target.one_input(opening + frame(_codec.pack(value), []))


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(conversations())
def test_damaged_conversations(data):
    fuzz_target.one_input(data)

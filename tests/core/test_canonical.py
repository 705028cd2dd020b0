"""Canonical JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core.canonical import MAX_INTEGER, canonical_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "value",
    [1.5, float("nan"), MAX_INTEGER + 1, -MAX_INTEGER - 1, "\ud800", {"\udc00": 1}, [1.0]],
    ids=str,
)
def test_value_without_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"canonical form|surrogates"):
        canonical_json(value)  # type: ignore[arg-type]


def test_keys_are_ordered_by_utf16_code_units() -> None:
    # RFC 8785, 3.2.3: U+1F600 is written with surrogates, so it comes before U+FB33.
    value = {"\ufb33": 1, "\U0001f600": 2, "\u20ac": 3, "1": 4, "\r": 5, "\u0080": 6, "ö": 7}
    assert list(json.loads(canonical_json(value))) == [
        "\r", "1", "\u0080", "ö", "\u20ac", "\U0001f600", "\ufb33",
    ]  # fmt: skip


def test_strings_are_escaped_no_more_than_needed() -> None:
    value = ['"\\/\b\f\n\r\t\x00\x1f\x7f€<>&']
    assert canonical_json(value) == (
        b'["\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\xe2\x82\xac<>&"]'
    )


def test_nested_objects_are_ordered_too() -> None:
    value = {"b": [{"d": None, "c": True}], "a": {"z": 0, "y": -1}}
    assert canonical_json(value) == b'{"a":{"y":-1,"z":0},"b":[{"c":true,"d":null}]}'


@settings(deadline=None)
@given(VALUES)
def test_agrees_with_another_implementation(value: object) -> None:
    rfc8785 = pytest.importorskip("rfc8785")
    assert canonical_json(value) == rfc8785.dumps(value)  # type: ignore[arg-type]

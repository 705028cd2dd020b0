"""The pre-authentication encoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylessd.core.dsse import pae


@pytest.mark.parametrize(
    ("payload_type", "payload", "expected"),
    [
        # The example of the DSSE specification.
        (
            "http://example.com/HelloWorld",
            b"hello world",
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world",
        ),
        ("t", b"", b"DSSEv1 1 t 0 "),
        ("é", "ü€".encode(), b"DSSEv1 2 \xc3\xa9 5 \xc3\xbc\xe2\x82\xac"),
        ("a b", b"\x00\n ", b"DSSEv1 3 a b 3 \x00\n "),
    ],
)
def test_lengths_are_in_bytes(payload_type: str, payload: bytes, expected: bytes) -> None:
    assert pae(payload_type, payload) == expected


_TYPES = st.text(st.characters(exclude_categories=["Cs"]))


@given(_TYPES, st.binary(), _TYPES, st.binary())
def test_different_inputs_are_encoded_differently(
    type_a: str, payload_a: bytes, type_b: str, payload_b: bytes
) -> None:
    same = (type_a, payload_a) == (type_b, payload_b)
    assert (pae(type_a, payload_a) == pae(type_b, payload_b)) is same

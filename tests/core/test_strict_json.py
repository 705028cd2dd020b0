"""Strict JSON, and the JSON form of proto3 messages."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keylessd.core.strict_json import (
    MAX_INT64,
    Fields,
    StrictJsonError,
    decode_base64,
    encode_base64,
    format_timestamp,
    loads,
    parse_int64,
    parse_timestamp,
)

LIMIT = 1 << 20


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{} {}",
        b'{"a":1,}',
        b"'a'",
        b'{"a":1,"a":1}',
        b'[{"b":{"a":1,"c":2,"a":3}}]',
        b'{"a":1,"\\u0061":2}',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"[-1e999]",
        b"1" * 5000,
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        b'"\\ud800"',
        b'{"\\udc00":1}',
        b'["a",{"b":["\\udfff"]}]',
        b'"a\nb"',
        b'"\x00"',
        b"{}\x00",
        '{"a":1}'.encode("utf-16"),
        b"01",
        b"+1",
        b".5",
        b"[1,]",
        b"/* */ 1",
    ],
)
def test_ambiguous_or_malformed_json_is_refused(raw: bytes) -> None:
    with pytest.raises(StrictJsonError):
        loads(raw, max_bytes=LIMIT)


def test_size_limit_is_inclusive() -> None:
    assert loads(b"[1]", max_bytes=3) == [1]
    with pytest.raises(StrictJsonError, match="limit"):
        loads(b"[1] ", max_bytes=3)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"[[[":'])
def test_depth_limit_is_inclusive(opening: str) -> None:
    closing = "".join("]" if character == "[" else "}" for character in opening[:2][::-1])
    closing = {"[": "]", '{"a":': "}", '[{"[[[":': "}]"}[opening]
    per_level = len(closing)
    levels = 64 // per_level
    text = f"{opening * levels}1{closing * levels}"
    loads(text.encode(), max_bytes=LIMIT)
    with pytest.raises(StrictJsonError, match="deeper"):
        loads(f"[{text}]".encode(), max_bytes=LIMIT)


@pytest.mark.parametrize("raw", [b"[" * 500_000, b'{"a":' * 200_000, b'"' + b"[" * 500_000])
def test_extreme_nesting_does_not_exhaust_the_stack(raw: bytes) -> None:
    with pytest.raises(StrictJsonError):
        loads(raw, max_bytes=LIMIT)


@pytest.mark.parametrize("tail", [b"", b"\\", b"[" * 100])
def test_string_of_quotes_that_never_ends_is_refused_in_linear_time(tail: bytes) -> None:
    # A search that began again at each of these quotes would take hours.
    with pytest.raises(StrictJsonError, match="Unterminated string"):
        loads(b'"' + b'\\"' * 2_000_000 + tail, max_bytes=8 << 20)


def test_brackets_and_quotes_inside_strings_do_not_count_as_nesting() -> None:
    value = ['[[[[\\"{{{{', 'x"]', "\\"]
    assert loads(json.dumps(value).encode(), max_bytes=LIMIT, max_depth=1) == value


def test_ordinary_json_is_read() -> None:
    raw = (
        b' {"a": [1, -2.5, true, null, "\\u00e9\\ud83d\\ude00"], "b": {"a": 18446744073709551616}} '
    )
    assert loads(raw, max_bytes=LIMIT) == {
        "a": [1, -2.5, True, None, "é😀"],
        "b": {"a": 18446744073709551616},
    }


@settings(deadline=None)
@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b'{"a":1,"a":2}')
def test_only_strict_json_error_escapes(raw: bytes) -> None:
    try:
        loads(raw, max_bytes=LIMIT)
    except StrictJsonError:
        return
    json.loads(raw)  # what we accept, the standard library accepts


@pytest.mark.parametrize(
    "text",
    ["YQ", "YQ=", "YR==", " YQ==", "YQ==\n", "Y Q==", "YQ==YQ==", "-_-_", "YQ==!", "=", "é",
     "YQ===", "YWI", "YWJ=", "A"],
)  # fmt: skip
def test_base64_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(StrictJsonError):
        decode_base64(text)


@given(st.binary())
def test_base64_round_trip(data: bytes) -> None:
    assert decode_base64(encode_base64(data)) == data


@given(st.text())
def test_decoded_base64_encodes_to_the_same_text(text: str) -> None:
    try:
        data = decode_base64(text)
    except StrictJsonError:
        return
    assert base64.b64encode(data).decode() == text


@pytest.mark.parametrize(
    "value",
    ["", "-1", "+1", "01", " 735 ", "7_35", "7.0", "1e3", "0x10", "٣", "１", str(MAX_INT64 + 1),
     "9" * 30, -1, MAX_INT64 + 1, 1.0, True, None, [], {}, "NaN", "1\n"],
    ids=repr,
)  # fmt: skip
def test_what_is_no_int64_is_refused(value: object) -> None:
    with pytest.raises(StrictJsonError):
        parse_int64(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, 1, 735, MAX_INT64])
def test_int64_is_a_string_or_a_number(number: int) -> None:
    assert parse_int64(str(number)) == number
    assert parse_int64(number) == number


@pytest.mark.parametrize(
    "text",
    ["", "2022-01-01", "2022-01-01T00:00:00", "2022-01-01 00:00:00Z", "2022-13-01T00:00:00Z",
     "2022-02-30T00:00:00Z", "2022-01-01T24:00:00Z", "2022-01-01T00:00:60Z", "0000-01-01T00:00:00Z",
     "2022-01-01T00:00:00.Z", "2022-01-01T00:00:00.0000000001Z", "2022-01-01T00:00:00z",
     "2022-01-01T00:00:00+0000", "2022-01-01T00:00:00+24:00", "٢022-01-01T00:00:00Z",
     "2022-01-01T00:00:00Z\n", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00",
     "2022-1-1T0:0:0Z", "1640995200"],
)  # fmt: skip
def test_what_is_no_timestamp_is_refused(text: str) -> None:
    with pytest.raises(StrictJsonError):
        parse_timestamp(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2022-10-31T23:59:59.999Z", datetime(2022, 10, 31, 23, 59, 59, 999_000, UTC)),
        ("2022-10-31T23:59:59.1Z", datetime(2022, 10, 31, 23, 59, 59, 100_000, UTC)),
        ("2022-10-31T23:59:59.999999999Z", datetime(2022, 10, 31, 23, 59, 59, 999_999, UTC)),
        ("2022-01-01T00:00:00Z", datetime(2022, 1, 1, tzinfo=UTC)),
        ("2022-01-01T01:30:00+01:30", datetime(2022, 1, 1, tzinfo=UTC)),
        ("2021-12-31T23:00:00-01:00", datetime(2022, 1, 1, tzinfo=UTC)),
    ],
)
def test_timestamp_is_read_to_the_microsecond(text: str, expected: datetime) -> None:
    assert parse_timestamp(text) == expected
    assert parse_timestamp(text).utcoffset() == timedelta(0)


@given(st.datetimes(timezones=st.just(UTC)))
def test_timestamp_round_trip(time: datetime) -> None:
    assert parse_timestamp(format_timestamp(time)) == time


KNOWN = frozenset({"logIndex", "hashes", "name", "raw", "part", "when", "kind"})


def _fields(value: object) -> Fields:
    return Fields(value, path="thing", known=KNOWN)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_message_must_be_an_object(value: object) -> None:
    with pytest.raises(StrictJsonError, match="thing is not an object"):
        _fields(value)


def test_known_key_with_underscores_is_refused_and_unknown_is_ignored() -> None:
    _fields({"other_thing": 1, "other": 2, "_": 3, "a_b": 4})
    with pytest.raises(StrictJsonError, match=r"thing\.log_index"):
        _fields({"log_index": "1"})


def test_unknown_key_is_the_one_that_is_named() -> None:
    value = {"name": "x", "stranger": 1}
    with pytest.raises(StrictJsonError, match="unknown key 'stranger'"):
        Fields(value, path="thing", known=KNOWN, closed=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [{}, dict.fromkeys(KNOWN)], ids=["absent", "null"])
def test_absent_and_null_are_the_zero_value(value: dict[str, object]) -> None:
    fields = _fields(value)
    assert fields.text("name") == ""
    assert fields.octets("raw") == b""
    assert fields.int64("logIndex") == 0
    assert fields.timestamp("when") is None
    assert fields.child("part", frozenset()) is None
    assert fields.children("hashes", frozenset(), limit=1) == []
    assert fields.octet_items("hashes", limit=1) == []
    assert fields.enumerated("kind", {"A": 1}, default=7) == 7
    assert fields.value("name") is None
    assert not fields.has("name")


@pytest.mark.parametrize("value", [1, True, [], {}])
def test_field_of_wrong_type_is_refused_with_its_path(value: object) -> None:
    fields = _fields(dict.fromkeys(KNOWN, value))
    with pytest.raises(StrictJsonError, match=r"thing\.name"):
        fields.text("name")
    with pytest.raises(StrictJsonError, match=r"thing\.raw"):
        fields.octets("raw")
    with pytest.raises(StrictJsonError, match=r"thing\.when"):
        fields.timestamp("when")
    with pytest.raises(StrictJsonError, match=r"thing\.kind"):
        fields.enumerated("kind", {"A": 1}, default=7)


def test_enumeration_goes_by_name() -> None:
    assert _fields({"kind": "A"}).enumerated("kind", {"A": 1}, default=7) == 1
    with pytest.raises(StrictJsonError, match="unknown value"):
        _fields({"kind": "B"}).enumerated("kind", {"A": 1}, default=7)


def test_lists_are_limited_and_typed() -> None:
    assert _fields({"hashes": ["YQ==", "Yg=="]}).octet_items("hashes", limit=2) == [b"a", b"b"]
    for wrong in (["YQ==", "Yg==", "Yw=="], [1], [None], "YQ==", {"0": "YQ=="}, ["?"]):
        with pytest.raises(StrictJsonError, match=r"thing\.hashes"):
            _fields({"hashes": wrong}).octet_items("hashes", limit=2)
    with pytest.raises(StrictJsonError, match=r"thing\.hashes\[1\] is not an object"):
        _fields({"hashes": [{}, 1]}).children("hashes", frozenset(), limit=2)


def test_path_of_a_nested_field_is_told() -> None:
    part = _fields({"part": {"raw": "?"}}).child("part", frozenset({"raw"}))
    assert part is not None
    with pytest.raises(StrictJsonError, match=r"^thing\.part\.raw: not standard base64"):
        part.octets("raw")

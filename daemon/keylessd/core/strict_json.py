"""Reads JSON, and proto3's JSON form, with nothing ambiguous let through. Writes nothing.

What is refused and why: of two equal keys, readers disagree which one counts; junk in base64,
``"7_35"`` as a number and a time without zone are read by some and not by others. What proto3
itself leaves open is accepted: a field that is absent or null has its zero value, and a 64-bit
integer is a decimal string or a number.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from itertools import accumulate
from typing import NoReturn, TypeAlias, TypeVar

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]
_Place: TypeAlias = "str | tuple[Fields, str] | tuple[Fields, str, int]"

T = TypeVar("T")

MAX_INT64 = (1 << 63) - 1

# A string that never ends matches up to the end of the text. If it did not match, the search
# would start anew at each quote in it and take quadratic time.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = [1 if code in b"[{" else -1 for code in range(256)]
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_LAST_DIGITS = (_DIGITS, _DIGITS[::4], _DIGITS[::16])  # by number of pad characters
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)


class StrictJsonError(ValueError):
    """The JSON is malformed, ambiguous, or larger or deeper than allowed."""


def loads(raw: bytes, *, max_bytes: int, max_depth: int = 64) -> JsonValue:
    """Return the JSON value that is the whole of *raw*.

    Args:
        raw: UTF-8 text without a byte order mark.
        max_bytes: Largest accepted length.
        max_depth: Deepest accepted nesting of objects and lists.

    Raises:
        StrictJsonError: Too long or too deep; not UTF-8; not JSON (RFC 8259); a key twice in
            one object; NaN, an infinity, or a number that becomes one; a lone surrogate.
    """
    if len(raw) > max_bytes:
        raise StrictJsonError(f"JSON of {len(raw)} bytes; the limit is {max_bytes}")
    # Before parsing, as the parser itself recurses.
    if _depth(raw, enough=max_depth) > max_depth:
        raise StrictJsonError(f"JSON is nested deeper than {max_depth}")
    try:
        value: JsonValue = _DECODER.decode(raw.decode("utf-8"))
    except StrictJsonError:
        raise
    except UnicodeDecodeError as exc:
        raise StrictJsonError(f"not UTF-8 at byte {exc.start}") from exc
    except json.JSONDecodeError as exc:
        what = exc.msg.removesuffix(" at")
        raise StrictJsonError(f"not JSON: {what} at character {exc.pos}") from exc
    except (ValueError, RecursionError) as exc:  # an integer of thousands of digits
        raise StrictJsonError("not JSON that can be represented") from exc
    if _SURROGATE_ESCAPE.search(raw):
        _refuse_lone_surrogates(value)
    return value


def decode_base64(text: str) -> bytes:
    """Return the bytes of standard, padded base64 (RFC 4648, 4).

    Raises:
        StrictJsonError: Any other character, missing padding, or bits set after the end.
    """
    try:
        decoded = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as exc:
        raise StrictJsonError("not standard base64") from exc
    if len(text) % 4 or (text.endswith("=") and not _is_well_padded(text)):
        raise StrictJsonError("not standard base64: padding or unused bits are wrong")
    return decoded


def encode_base64(data: bytes) -> str:
    """Return *data* as standard, padded base64."""
    return base64.b64encode(data).decode("ascii")


def parse_int64(value: JsonValue) -> int:
    """Return a non-negative 64-bit integer given as proto3 JSON does.

    Args:
        value: Decimal digits in a string, or a number.

    Raises:
        StrictJsonError: Something else: a sign, spaces, leading zeros, a fraction, 2**63.
    """
    number: int
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise StrictJsonError("not an integer in decimal digits")
    if not 0 <= number <= MAX_INT64:
        raise StrictJsonError("integer out of range")
    return number


def parse_timestamp(text: str) -> datetime:
    """Return the UTC time of an RFC 3339 timestamp, at microsecond precision.

    Digits beyond the microsecond are cut off.

    Raises:
        StrictJsonError: Not RFC 3339 as proto3 writes it; in particular, no zone.
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise StrictJsonError("not an RFC 3339 timestamp with its zone")
    year, month, day, hour, minute, second, fraction, sign, off_hour, off_minute = match.groups()
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        zone = UTC
        if sign is not None:
            offset = timedelta(hours=int(off_hour), minutes=int(off_minute))
            zone = timezone(-offset if sign == "-" else offset)
        return datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond, zone
        ).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise StrictJsonError(f"no such time: {text}") from exc


def format_timestamp(time: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC, with as many digits as it needs."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Fields:
    """One JSON object read as a proto3 message: by name, type and zero value.

    Keys that the message does not have are ignored, or refused in a closed message. The
    underscore spelling of a key that it does have is always refused, since some readers take it
    for the same field.
    """

    __slots__ = ("_closed", "_object", "_place")

    def __init__(
        self, value: JsonValue, *, path: _Place, known: frozenset[str], closed: bool = False
    ) -> None:
        """Read *value*, of which *known* are the keys.

        Args:
            value: What stands there.
            path: Where: the document's name, or the message around it with the field's name and
                the position in that field if it is repeated.
            known: Names of the message's fields.
            closed: Refuse other keys, here and in the messages inside.

        Raises:
            StrictJsonError: It is not an object, has a known key in another spelling, or is
                closed and has an unknown one.
        """
        if not isinstance(value, dict):
            raise StrictJsonError(f"{_path_of(path)} is not an object")
        self._closed = closed
        self._object = value
        self._place = path
        if not value.keys() <= known:
            self._check_strangers(known)

    @property
    def path(self) -> str:
        """Where the object stands, put together only for those who are refused."""
        return _path_of(self._place)

    def fail(self, name: str, reason: object) -> NoReturn:
        """Refuse the field *name*.

        Raises:
            StrictJsonError: Always.
        """
        raise StrictJsonError(f"{self.path}.{name}: {reason}")

    def has(self, name: str) -> bool:
        """Return whether the field is there; null is not."""
        return self._object.get(name) is not None

    def value(self, name: str) -> JsonValue:
        """Return the field as it is, None if absent."""
        return self._object.get(name)

    def text(self, name: str) -> str:
        """Return a string field; ``""`` if absent."""
        value = self._object.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.fail(name, "not a string")
        return value

    def octets(self, name: str) -> bytes:
        """Return a bytes field, which JSON has as base64; ``b""`` if absent."""
        text = self._object.get(name)
        if text is None:
            return b""
        if not isinstance(text, str):
            self.fail(name, "not a string")
        try:
            return decode_base64(text)
        except StrictJsonError as exc:
            self._fail_of(name, exc)

    def int64(self, name: str) -> int:
        """Return a non-negative integer field; 0 if absent."""
        value = self._object.get(name)
        if value is None:
            return 0
        try:
            return parse_int64(value)
        except StrictJsonError as exc:
            self._fail_of(name, exc)

    def timestamp(self, name: str) -> datetime | None:
        """Return a time field; None if absent."""
        if not self.has(name):
            return None
        try:
            return parse_timestamp(self.text(name))
        except StrictJsonError as exc:
            self._fail_of(name, exc)

    def enumerated(self, name: str, names: Mapping[str, T], *, default: T) -> T:
        """Return what *names* has for an enumeration field; *default* if absent.

        Numbers are refused: Sigstore's JSON has enumerations by name.
        """
        if not self.has(name):
            return default
        text = self.text(name)
        if text not in names:
            self.fail(name, f"unknown value {text[:100]!r}")
        return names[text]

    def child(self, name: str, known: frozenset[str]) -> Fields | None:
        """Return a message field; None if absent."""
        value = self._object.get(name)
        if value is None:
            return None
        return Fields(value, path=(self, name), known=known, closed=self._closed)

    def items(self, name: str, *, limit: int) -> list[JsonValue]:
        """Return a repeated field as it is; empty if absent.

        Args:
            name: The field.
            limit: Most accepted items.
        """
        value = self._object.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fail(name, "not a list")
        if len(value) > limit:
            self.fail(name, f"{len(value)} items; the limit is {limit}")
        return value

    def children(self, name: str, known: frozenset[str], *, limit: int) -> list[Fields]:
        """Return a repeated message field; empty if absent."""
        return [
            Fields(value, path=(self, name, position), known=known, closed=self._closed)
            for position, value in enumerate(self.items(name, limit=limit))
        ]

    def octet_items(self, name: str, *, limit: int) -> list[bytes]:
        """Return a repeated bytes field; empty if absent."""
        texts: list[str] = []
        for value in self.items(name, limit=limit):
            if not isinstance(value, str):
                self.fail(name, "an item is not a string")
            texts.append(value)
        try:
            return [decode_base64(text) for text in texts]
        except StrictJsonError as exc:
            self._fail_of(name, exc)

    def _check_strangers(self, known: frozenset[str]) -> None:
        for key in self._object:
            if "_" in key and _camel(key) in known:
                raise StrictJsonError(f"{self.path}.{key} is not spelled {_camel(key)}")
            if self._closed and key not in known:
                raise StrictJsonError(f"{self.path} has the unknown key {key[:100]!r}")

    def _fail_of(self, name: str, cause: StrictJsonError) -> NoReturn:
        raise StrictJsonError(f"{self.path}.{name}: {cause}") from cause


def _is_well_padded(text: str) -> bool:
    # One pad character leaves 2 bits of the last digit unused, two leave 4: they must be zero.
    # The decoder does not look at them, nor at pad characters after the last group of four.
    pads = text[-2:].count("=")
    return text[-1 - pads : len(text) - pads] in _LAST_DIGITS[pads]


def _path_of(place: _Place) -> str:
    if isinstance(place, str):
        return place
    around, name, *position = place
    return f"{around.path}.{name}" + "".join(f"[{number}]" for number in position)


def _depth(raw: bytes, *, enough: int) -> int:
    """Return the deepest nesting of brackets outside strings, for well-formed JSON, or more."""
    opened = raw.count(b"{") + raw.count(b"[")
    if opened <= enough:
        return opened
    brackets = _STRINGS.sub(b"", raw).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def _unique(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise StrictJsonError(f"the key {key[:100]!r} stands twice in one object")
            seen.add(key)
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise StrictJsonError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise StrictJsonError("number out of range")
    return number


def _refuse_lone_surrogates(value: JsonValue) -> None:
    """Raise StrictJsonError if a string in *value* cannot be encoded again."""
    pending: list[JsonValue] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.keys())
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, str):
            try:
                item.encode("utf-8")
            except UnicodeEncodeError as exc:
                raise StrictJsonError("a string has half a surrogate pair") from exc


def _camel(name: str) -> str:
    """Return the lowerCamelCase spelling that proto3 JSON gives a field name."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
)

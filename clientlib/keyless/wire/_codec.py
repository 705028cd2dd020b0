"""Strict msgpack for heads, in pure Python and without one import. Pure: no I/O, no clock.

This is what a short-lived client uses: importing the msgpack package costs 4 ms (it brings in
datetime and collections), a third of what a whole `keyless sign` may take, to read heads of a
few hundred bytes. The daemon reads heads all day and uses `_msgpack.py`, which has the same two
functions and, as the tests show, the same opinion on every input.

Admitted are nil, booleans, integers of 64 signed bits, UTF-8 strings, binaries, arrays and maps
with distinct string keys, inside the bounds of `_limits`. Everything else (floats, extension
types, timestamps) is refused. An error never carries a byte of what was read.
"""

from keyless.wire._limits import (
    MAX_ARRAY,
    MAX_BIN,
    MAX_DEPTH,
    MAX_INT,
    MAX_MAP,
    MAX_NODES,
    MAX_STR,
    MIN_INT,
)


class CodecError(ValueError):
    """The bytes are no value this protocol admits, or the value has no such bytes."""


def unpack(data: bytes) -> object:
    """Return the one value that *data* holds.

    Raises:
        CodecError: it is cut short, has bytes to spare, or holds anything not admitted.
    """
    try:
        value, end = _read(data, 0, 0, [MAX_NODES])
    except IndexError:
        raise CodecError("cut short") from None
    except UnicodeDecodeError:
        # The exception holds the whole payload, so it is not chained.
        raise CodecError("a string is not UTF-8") from None
    if end != len(data):
        raise CodecError("bytes after the value")
    return value


def _read(data: bytes, at: int, depth: int, left: list[int]) -> "tuple[object, int]":
    """Read the value at offset *at*; return it and the offset after it."""
    left[0] -= 1
    if left[0] < 0:
        raise CodecError("too many values")
    tag = data[at]
    at += 1
    if tag < 0x80:
        return tag, at
    if tag >= 0xE0:
        return tag - 0x100, at
    if tag < 0x90:
        return _read_map(data, at, tag & 0x0F, depth, left)
    if tag < 0xA0:
        return _read_array(data, at, tag & 0x0F, depth, left)
    if tag < 0xC0:
        return _read_str(data, at, tag & 0x1F)
    if tag in _SIMPLE:
        return _SIMPLE[tag], at
    if tag not in _SIZED:
        raise CodecError("a type that is not admitted")
    kind, width = _SIZED[tag]
    raw = data[at : at + width]
    if len(raw) != width:
        raise CodecError("cut short")
    at += width
    number = int.from_bytes(raw, "big", signed=kind == "int")
    if kind == "str":
        return _read_str(data, at, number)
    if kind == "bin":
        return _read_bin(data, at, number)
    if kind == "array":
        return _read_array(data, at, number, depth, left)
    if kind == "map":
        return _read_map(data, at, number, depth, left)
    if number > MAX_INT:
        raise CodecError("an integer out of range")
    return number, at


def _read_str(data: bytes, at: int, length: int) -> "tuple[str, int]":
    if length > MAX_STR:
        raise CodecError("a string is too long")
    end = at + length
    if end > len(data):
        raise CodecError("cut short")
    return data[at:end].decode(), end


def _read_bin(data: bytes, at: int, length: int) -> "tuple[bytes, int]":
    if length > MAX_BIN:
        raise CodecError("a binary is too long")
    end = at + length
    if end > len(data):
        raise CodecError("cut short")
    return data[at:end], end


def _read_array(
    data: bytes, at: int, length: int, depth: int, left: list[int]
) -> "tuple[list[object], int]":
    if length > MAX_ARRAY:
        raise CodecError("an array is too long")
    if depth >= MAX_DEPTH:
        raise CodecError("nested too deeply")
    items = []
    for _ in range(length):
        item, at = _read(data, at, depth + 1, left)
        items.append(item)
    return items, at


def _read_map(
    data: bytes, at: int, length: int, depth: int, left: list[int]
) -> "tuple[dict[str, object], int]":
    if length > MAX_MAP:
        raise CodecError("a map is too long")
    if depth >= MAX_DEPTH:
        raise CodecError("nested too deeply")
    result: dict[str, object] = {}
    for _ in range(length):
        key, at = _read(data, at, depth + 1, left)
        if type(key) is not str:
            raise CodecError("a key is not a string")
        if key in result:
            raise CodecError("a key occurs twice")
        result[key], at = _read(data, at, depth + 1, left)
    return result, at


_SIMPLE = {0xC0: None, 0xC2: False, 0xC3: True}

# Tag -> what it starts, and the bytes of the number that follows.
_SIZED = {
    0xC4: ("bin", 1),
    0xC5: ("bin", 2),
    0xC6: ("bin", 4),
    0xCC: ("uint", 1),
    0xCD: ("uint", 2),
    0xCE: ("uint", 4),
    0xCF: ("uint", 8),
    0xD0: ("int", 1),
    0xD1: ("int", 2),
    0xD2: ("int", 4),
    0xD3: ("int", 8),
    0xD9: ("str", 1),
    0xDA: ("str", 2),
    0xDB: ("str", 4),
    0xDC: ("array", 2),
    0xDD: ("array", 4),
    0xDE: ("map", 2),
    0xDF: ("map", 4),
}


def pack(value: object) -> bytes:
    """Return the msgpack bytes of *value*, in the shortest form of each part.

    Raises:
        CodecError: the value holds a type that is not admitted, an integer out of range or a
            string that UTF-8 cannot express.
    """
    out = bytearray()
    try:
        _write(out, value)
    except UnicodeEncodeError:
        raise CodecError("a string that UTF-8 cannot express") from None
    return bytes(out)


def _write(out: bytearray, value: object) -> None:
    # bool before int, since a bool is an int.
    if value is None:
        out.append(0xC0)
    elif isinstance(value, bool):
        out.append(0xC3 if value else 0xC2)
    elif isinstance(value, int):
        _write_int(out, value)
    elif isinstance(value, str):
        raw = value.encode()
        _write_length(out, len(raw), (0xA0, 32), (0xD9, 0xDA, 0xDB))
        out += raw
    elif isinstance(value, bytes):
        _write_length(out, len(value), (0, 0), (0xC4, 0xC5, 0xC6))
        out += value
    elif isinstance(value, list | tuple):
        _write_length(out, len(value), (0x90, 16), (0, 0xDC, 0xDD))
        for item in value:
            _write(out, item)
    elif isinstance(value, dict):
        _write_length(out, len(value), (0x80, 16), (0, 0xDE, 0xDF))
        for key, item in value.items():
            if not isinstance(key, str):
                raise CodecError("a key is not a string")
            _write(out, key)
            _write(out, item)
    else:
        raise CodecError("a type that is not admitted")


def _write_int(out: bytearray, value: int) -> None:
    if not MIN_INT <= value <= MAX_INT:
        raise CodecError("an integer out of range")
    if -32 <= value < 0x80:
        out.append(value & 0xFF)
        return
    first = 0xCC if value >= 0 else 0xD0
    for step, width in enumerate((1, 2, 4, 8)):
        limit = 1 << (8 * width)
        if value < limit if value >= 0 else -value <= limit // 2:
            out.append(first + step)
            out += value.to_bytes(width, "big", signed=value < 0)
            return


def _write_length(
    out: bytearray, length: int, short: "tuple[int, int]", tags: "tuple[int, int, int]"
) -> None:
    """Write the tag and length; *short* is the one-byte form and the length it stops before."""
    if length < short[1]:
        out.append(short[0] | length)
        return
    for tag, width in zip(tags, (1, 2, 4), strict=True):
        if tag and length < 1 << (8 * width):
            out.append(tag)
            out += length.to_bytes(width, "big")
            return
    raise CodecError("too long")

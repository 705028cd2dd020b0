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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # (data, offset, the number after the tag, depth, values left) -> value, offset after it.
    Reader = Callable[[bytes, int, int, int, list[int]], tuple[object, int]]


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


def _read(data: bytes, at: int, depth: int, left: "list[int]") -> "tuple[object, int]":
    """Read the value at offset *at*; return it and the offset after it."""
    left[0] -= 1
    if left[0] < 0:
        raise CodecError("too many values")
    tag = data[at]
    at += 1
    if tag in _WHOLE:
        return _WHOLE[tag], at
    if tag in _SHORT:
        reader, number = _SHORT[tag]
        return reader(data, at, number, depth, left)
    if tag not in _SIZED:
        raise CodecError("a type that is not admitted")
    reader, width, signed = _SIZED[tag]
    if at + width > len(data):
        raise CodecError("cut short")
    number = int.from_bytes(data[at : at + width], "big", signed=signed)
    return reader(data, at + width, number, depth, left)


def _read_int(
    data: bytes, at: int, number: int, depth: int, left: "list[int]"
) -> "tuple[int, int]":
    del data, depth, left
    if number > MAX_INT:
        raise CodecError("an integer out of range")
    return number, at


def _read_str(
    data: bytes, at: int, length: int, depth: int, left: "list[int]"
) -> "tuple[str, int]":
    del depth, left
    if length > MAX_STR:
        raise CodecError("a string is too long")
    end = at + length
    if end > len(data):
        raise CodecError("cut short")
    return data[at:end].decode(), end


def _read_bin(
    data: bytes, at: int, length: int, depth: int, left: "list[int]"
) -> "tuple[bytes, int]":
    del depth, left
    if length > MAX_BIN:
        raise CodecError("a binary is too long")
    end = at + length
    if end > len(data):
        raise CodecError("cut short")
    return data[at:end], end


def _read_array(
    data: bytes, at: int, length: int, depth: int, left: "list[int]"
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
    data: bytes, at: int, length: int, depth: int, left: "list[int]"
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


# Tags that are a value, tags that hold a length, and tags after which a number of so many bytes
# follows: a length, or the integer itself.
_WHOLE: "dict[int, object]" = {
    **{tag: tag for tag in range(0x80)},
    0xC0: None,
    0xC2: False,
    0xC3: True,
    **{tag: tag - 0x100 for tag in range(0xE0, 0x100)},
}
_SHORT: "dict[int, tuple[Reader, int]]" = {
    **{0x80 + length: (_read_map, length) for length in range(16)},
    **{0x90 + length: (_read_array, length) for length in range(16)},
    **{0xA0 + length: (_read_str, length) for length in range(32)},
}
_SIZED: "dict[int, tuple[Reader, int, bool]]" = {
    0xC4: (_read_bin, 1, False),
    0xC5: (_read_bin, 2, False),
    0xC6: (_read_bin, 4, False),
    0xCC: (_read_int, 1, False),
    0xCD: (_read_int, 2, False),
    0xCE: (_read_int, 4, False),
    0xCF: (_read_int, 8, False),
    0xD0: (_read_int, 1, True),
    0xD1: (_read_int, 2, True),
    0xD2: (_read_int, 4, True),
    0xD3: (_read_int, 8, True),
    0xD9: (_read_str, 1, False),
    0xDA: (_read_str, 2, False),
    0xDB: (_read_str, 4, False),
    0xDC: (_read_array, 2, False),
    0xDD: (_read_array, 4, False),
    0xDE: (_read_map, 2, False),
    0xDF: (_read_map, 4, False),
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
    if value is None or isinstance(value, bool):
        out.append(_TAG_OF[value])
    elif isinstance(value, int):
        _write_int(out, value)
    elif isinstance(value, str):
        raw = value.encode()
        _write_length(out, len(raw), (0xA0, 32), (0xD9, 0xDA, 0xDB))
        out += raw
    elif isinstance(value, bytes):
        _write_length(out, len(value), (0, 0), (0xC4, 0xC5, 0xC6))
        out += value
    elif isinstance(value, (list, tuple)):
        _write_length(out, len(value), (0x90, 16), (0, 0xDC, 0xDD))
        for item in value:
            _write(out, item)
    elif isinstance(value, dict):
        _write_length(out, len(value), (0x80, 16), (0, 0xDE, 0xDF))
        for key, item in value.items():
            _write_key(out, key)
            _write(out, item)
    else:
        raise CodecError("a type that is not admitted")


_TAG_OF = {None: 0xC0, False: 0xC2, True: 0xC3}


def _write_key(out: bytearray, key: object) -> None:
    if not isinstance(key, str):
        raise CodecError("a key is not a string")
    _write(out, key)


def _write_int(out: bytearray, value: int) -> None:
    if not MIN_INT <= value <= MAX_INT:
        raise CodecError("an integer out of range")
    if value in _ONE_BYTE:
        out.append(value & 0xFF)
        return
    first = 0xCC if value >= 0 else 0xD0
    for step, width in enumerate((1, 2, 4, 8)):
        limit = 1 << (8 * width)
        if value < limit if value >= 0 else -value <= limit // 2:
            out.append(first + step)
            out += value.to_bytes(width, "big", signed=value < 0)
            return


_ONE_BYTE = range(-32, 128)


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

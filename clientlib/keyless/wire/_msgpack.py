"""Strict msgpack for heads, on the msgpack package. Pure: no I/O, no clock.

The same contract as `_codec.py`, for the end that reads many heads. `unpackb` on one whole head,
never the streaming Unpacker, which has had memory errors when used again after a failure.

What the package does not refuse by itself is refused here: keys that are not strings, keys that
occur twice, floats, unsigned integers above 63 bits, and depth. `max_ext_len=0` refuses every
extension type, timestamps included, which an `ext_hook` would not see.
"""

import msgpack  # type: ignore[import-untyped]  # it has no stubs

from keyless.wire._codec import CodecError
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
    from typing import Any


# Bytes; a buffer grows as it must. packb() begins with 256 KiB, which are mapped and unmapped again
# for every head.
USUAL_HEAD = 4096


def unpack(data: bytes) -> object:
    """Return the one value that *data* holds.

    Raises:
        CodecError: it is cut short, has bytes to spare, or holds anything not admitted.
    """
    maps_left = MAX_NODES

    def checked_map(pairs: "list[tuple[object, object]]") -> "dict[object, object]":
        nonlocal maps_left
        maps_left -= 1
        if maps_left < 0:
            raise CodecError("too many values")
        result = dict(pairs)
        if len(result) != len(pairs):
            raise CodecError("a key occurs twice")
        return result

    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=checked_map,
            max_str_len=MAX_STR,
            max_bin_len=MAX_BIN,
            max_array_len=MAX_ARRAY,
            max_map_len=MAX_MAP,
            max_ext_len=0,
        )
    except CodecError:
        raise
    except (ValueError, RecursionError):
        # Every failure of the package is a ValueError of some kind. Some of them hold the whole
        # payload (UnicodeDecodeError does), so none is chained or quoted.
        raise CodecError("not msgpack of the admitted kind") from None
    _walk(value, 0, [MAX_NODES])
    return value


def _walk(value: "Any", depth: int, left: "list[int]") -> None:  # noqa: ANN401  # what unpackb gave
    """Refuse what `unpackb` admits and the protocol does not."""
    left[0] -= 1
    if left[0] < 0:
        raise CodecError("too many values")
    kind = type(value)
    if kind not in _ADMITTED:
        raise CodecError("a type that is not admitted")
    if kind is int:
        if not MIN_INT <= value <= MAX_INT:
            raise CodecError("an integer out of range")
        return
    if kind is not dict and kind is not list:
        return
    if depth >= MAX_DEPTH:
        raise CodecError("nested too deeply")
    if kind is dict:
        if any(type(key) is not str for key in value):
            raise CodecError("a key is not a string")
        left[0] -= len(value)
        value = value.values()
    for item in value:
        _walk(item, depth + 1, left)


_ADMITTED = frozenset({dict, list, str, bytes, int, bool, type(None)})


def pack(value: object) -> bytes:
    """Return the msgpack bytes of *value*.

    Raises:
        CodecError: the value holds a type that is not admitted, an integer out of range or a
            string that UTF-8 cannot express.
    """
    try:
        packed: bytes = msgpack.Packer(use_bin_type=True, buf_size=USUAL_HEAD).pack(value)
    except (ValueError, TypeError, OverflowError):
        raise CodecError("a value that is not admitted") from None
    return packed

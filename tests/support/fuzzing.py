"""What core reads from strangers, and any way to spoil it: JSON, DER, text and plain bytes."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from mutations import Mutator

HUGE = (
    "1" * 5000, "-" + "9" * 400, "1e400", "-1e400", "1e-400", "0." + "0" * 500 + "1", "1" * 20,
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "NaN", "Infinity",
    "-0", "00", "1E+2",
)  # fmt: skip


@dataclass
class Spoiler:
    """Spoils inputs of one kind, by a seed.

    Attributes:
        samples: Good inputs, of which parts are exchanged too.
    """

    seed: int
    samples: Sequence[bytes]
    _rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def octets(self, raw: bytes) -> bytes:
        """Change some bytes, without knowing what they mean."""
        rng = self._rng
        place = rng.randrange(len(raw) + 1)
        few = rng.choice([1, 1, 2, 9])
        length = rng.randrange(1, 40)
        other = rng.choice(self.samples)
        return rng.choice(
            [
                lambda: raw[:place],
                lambda: raw[place:],
                lambda: raw[:place] + rng.randbytes(few) + raw[place:],
                lambda: raw[:place] + raw[place + few :],
                lambda: raw[:place] + other[rng.randrange(len(other) + 1) :],
                lambda: raw[:place] + raw[place : place + length] * 3 + raw[place:],
                lambda: self._flipped(raw),
                lambda: self._flipped(raw),
                lambda: self._replaced(raw),
            ]
        )()

    def _flipped(self, raw: bytes) -> bytes:
        changed = bytearray(raw)
        for _ in range(self._rng.choice([1, 1, 1, 2, 3, 8])):
            if changed:
                changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
        return bytes(changed)

    def _replaced(self, raw: bytes) -> bytes:
        place = self._rng.randrange(len(raw) + 1)
        value = self._rng.choice([0, 1, 0x7F, 0x80, 0xFF, 0x30, 0x0A, 0x22, 0x5C])
        return raw[:place] + bytes([value]) + raw[place + 1 :]

    def der(self, raw: bytes) -> bytes:
        """Change one element, and mostly the lengths of those around it too."""
        if self._rng.randrange(3) == 0:
            return self.octets(raw)
        elements = parse_der(raw)
        every = list(_all(elements))
        if not every:
            return self.octets(raw)
        holder, place = self._rng.choice(every)
        self._change(holder, place)
        return build_der(elements)

    def _change(self, holder: list[Element], place: int) -> None:
        rng = self._rng
        element = holder[place]
        others = [list_[at] for list_, at in _all(parse_der(rng.choice(self.samples)))]
        nested = element
        for _ in range(rng.choice([1, 5, 200])):
            nested = Element(element.tag | 0x20, [nested])
        tags = [1, 2, 3, 4, 5, 6, 12, 22, 23, 24, 48, 49, 0x80, 0xA0, 0xA3]
        tags.append(element.tag ^ 1 << rng.randrange(8))
        holder[place : place + 1] = rng.choice(
            [
                [],
                [element, element],
                [element] * 40,
                [Element(rng.choice(tags), element.content)],
                [Element(rng.choice(tags), element.content)],
                [Element(element.tag, self.octets(build_der(element.content)))],
                [Element(element.tag, self.octets(build_der(element.content)))],
                [Element(element.tag, b"")],
                [Element(element.tag, element.content, long_length=True)],
                [nested],
                [rng.choice(others) if others else element],
            ]
        )
        if rng.randrange(10) == 0:
            rng.shuffle(holder)

    def json(self, raw: bytes) -> bytes:
        """Change one part of a JSON document, or its text."""
        rng = self._rng
        kind = rng.randrange(10)
        if kind == 0:
            return self.octets(raw)
        value = json.loads(raw)
        mutator = Mutator(rng.randrange(1 << 60), [json.loads(rng.choice(self.samples))])
        _, changed = mutator.mutation(value)
        if kind == 1:  # a number that is hard to hold, where anything stood
            return self._exchange(value, rng.choice(HUGE).encode())
        if kind == 2:  # deep, in lists and objects
            depth = rng.choice([20, 33, 100, 3000])
            opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"b":', b"}]")])
            end = closing * rng.choice([0, depth, depth])
            return self._exchange(value, opening * depth + b"0" + end)
        if kind == 3:  # once more
            try:
                _, changed = mutator.mutation(json.loads(changed))
            except (ValueError, RecursionError, IndexError):
                return changed
        return changed

    def _exchange(self, value: Any, raw: bytes) -> bytes:
        """Put raw JSON where some part of *value* stands."""
        marker = "where-it-stood"
        holders = [item for item in _holders(value) if item]
        if not holders:
            return raw
        holder = self._rng.choice(holders)
        key = self._rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        holder[key] = marker
        return json.dumps(value).encode().replace(json.dumps(marker).encode(), raw)

    def text(self, raw: bytes) -> bytes:
        """Change lines or characters."""
        rng = self._rng
        if rng.randrange(2):
            return self.octets(raw)
        lines = raw.split(b"\n")
        place = rng.randrange(len(lines))
        kind = rng.randrange(6)
        if kind == 0:
            del lines[place]
        elif kind == 1:
            lines.insert(place, lines[place])
        elif kind == 2:
            lines.insert(place, rng.choice([b"", b" ", b"\r", "\N{EM DASH}".encode(), b"\x85"]))
        elif kind == 3:
            rng.shuffle(lines)
        elif kind == 4:
            lines[place] *= rng.choice([2, 300])
        else:
            lines[place:place] = [lines[place]] * rng.choice([2, 99, 101, 500])
        return b"\n".join(lines)


def _holders(value: Any) -> list[Any]:
    if not isinstance(value, dict | list):
        return []
    items = value.values() if isinstance(value, dict) else value
    return [value, *(holder for item in items for holder in _holders(item))]


# --- DER -----------------------------------------------------------------------------------


@dataclass
class Element:
    """One element of DER, as deep as it can be read.

    Attributes:
        tag: Its first byte.
        content: Its elements, or its bytes.
        long_length: Whether its length takes more bytes than it needs.
    """

    tag: int
    content: list[Element] | bytes
    long_length: bool = False


def parse_der(raw: bytes, depth: int = 0) -> list[Element]:
    """Return the elements that *raw* is made of, empty if it is not."""
    found: list[Element] = []
    at = 0
    while at < len(raw):
        if at + 2 > len(raw) or raw[at] & 0x1F == 0x1F:
            return []
        tag, length = raw[at], raw[at + 1]
        at += 2
        if length & 0x80:
            width = length & 0x7F
            if not 1 <= width <= 3 or at + width > len(raw):
                return []
            length = int.from_bytes(raw[at : at + width])
            at += width
        if at + length > len(raw):
            return []
        content = raw[at : at + length]
        at += length
        # Octet strings hold DER in extensions and timestamps.
        holds = tag & 0x20 or tag == 4
        inner = parse_der(content, depth + 1) if holds and depth < 40 else []
        found.append(Element(tag, inner or content))
    return found


def build_der(content: list[Element] | bytes) -> bytes:
    """Return the bytes of elements, with lengths that are right."""
    if isinstance(content, bytes):
        return content
    pieces = []
    for element in content:
        inner = build_der(element.content)
        size = len(inner)
        if size < 0x80 and not element.long_length:
            length = bytes([size])
        else:
            encoded = size.to_bytes((size.bit_length() + 7) // 8 + element.long_length)
            length = bytes([0x80 | len(encoded)]) + encoded
        pieces.append(bytes([element.tag]) + length + inner)
    return b"".join(pieces)


def _all(elements: list[Element]) -> list[tuple[list[Element], int]]:
    found = []
    for place, element in enumerate(elements):
        found.append((elements, place))
        if isinstance(element.content, list):
            found += _all(element.content)
    return found


# --- cost ----------------------------------------------------------------------------------


def steps_of(work: Callable[[], object]) -> int:
    """Return how many lines and calls of Python the work takes. The clock has no part in it."""
    count = 0

    def trace(_frame: FrameType, _event: str, _argument: object) -> object:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count

"""Changes a bundle's JSON in any way that a shape, a type or a byte can be wrong, by a seed."""

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[Any, ...]

JUNK: tuple[Any, ...] = (
    "", "AA==", "A", "AA=", " AA==", "é", "0", "-1", "01", "1_0", "1e3", "9223372036854775808",
    "junk", 0, 1, -1, 2**63, 1.5, True, False, [], {}, [None], [{}], {"a": 1}, "\x00",
)  # fmt: skip


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Yield where every part of a JSON value stands, the whole first."""
    yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*at, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from paths(item, (*at, number))


def part(value: Any, at: Path) -> Any:
    """Return what stands there."""
    for key in at:
        value = value[key]
    return value


def replaced(value: Any, at: Path, new: Any) -> Any:
    """Return a copy with another part there."""
    if not at:
        return new
    result = copy.deepcopy(value)
    part(result, at[:-1])[at[-1]] = new
    return result


def removed(value: Any, at: Path) -> Any:
    """Return a copy without that part."""
    result = copy.deepcopy(value)
    del part(result, at[:-1])[at[-1]]
    return result


class Mutator:
    """Makes one mutation after the other of a bundle, from a seed.

    Attributes:
        donors: JSON values of other bundles, of which parts are taken.
    """

    def __init__(self, seed: int, donors: list[Any]) -> None:
        self._rng = random.Random(seed)
        self.donors = donors
        self._kinds: list[Callable[[Any, Path], tuple[str, bytes] | None]] = [
            self._remove, self._null, self._retype, self._twice, self._flip, self._flip,
            self._resize, self._number, self._swap, self._swap, self._list, self._key,
            self._inner, self._characters,
        ]  # fmt: skip

    def mutation(self, value: Any) -> tuple[str, bytes]:
        """Return what was done, and the mutated bundle as JSON."""
        everywhere = list(paths(value))[1:]
        while True:
            at = self._rng.choice(everywhere)
            done = self._rng.choice(self._kinds)(value, at)
            if done is not None:
                kind, raw = done
                return f"{kind} {'.'.join(map(str, at))}", raw

    def _dump(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def _remove(self, value: Any, at: Path) -> tuple[str, bytes]:
        return "remove", self._dump(removed(value, at))

    def _null(self, value: Any, at: Path) -> tuple[str, bytes]:
        return "null", self._dump(replaced(value, at, None))

    def _retype(self, value: Any, at: Path) -> tuple[str, bytes]:
        junk = self._rng.choice(JUNK)
        return f"retype {junk!r}", self._dump(replaced(value, at, junk))

    def _twice(self, value: Any, at: Path) -> tuple[str, bytes] | None:
        """The key twice in its object, the second time with the same or another value."""
        holder = part(value, at[:-1])
        if not isinstance(holder, dict):
            return None
        marker = "keytwice"
        other = copy.deepcopy(holder)
        other[marker] = self._rng.choice([part(value, at), None, *JUNK])
        text = json.dumps(replaced(value, at[:-1], other))
        return "twice", text.replace(json.dumps(marker), json.dumps(at[-1])).encode()

    def _octets(self, value: Any, at: Path) -> bytearray | None:
        text = part(value, at)
        if not isinstance(text, str) or len(text) < 4:
            return None
        try:
            return bytearray(base64.b64decode(text, validate=True))
        except ValueError:
            return None

    def _flip(self, value: Any, at: Path) -> tuple[str, bytes] | None:
        raw = self._octets(value, at)
        if not raw:
            return None
        for _ in range(self._rng.choice([1, 1, 1, 2, 8])):
            raw[self._rng.randrange(len(raw))] ^= 1 << self._rng.randrange(8)
        return "flip", self._dump(replaced(value, at, base64.b64encode(raw).decode()))

    def _resize(self, value: Any, at: Path) -> tuple[str, bytes] | None:
        raw = self._octets(value, at)
        if raw is None:
            return None
        place = self._rng.randrange(len(raw) + 1)
        changed = self._rng.choice(
            [raw[:place], raw + b"\0", raw[:place] + b"\0" + raw[place:], raw + raw, raw[1:]]
        )
        return "resize", self._dump(replaced(value, at, base64.b64encode(changed).decode()))

    def _number(self, value: Any, at: Path) -> tuple[str, bytes] | None:
        text = part(value, at)
        if not isinstance(text, str) or not text.isdigit():
            return None
        number = int(text)
        others: list[Any] = [
            number, str(number + 1), str(number - 1), float(number), f"0{text}", f"+{text}",
            f" {text}", "0", str(2**63 - 1), str(2**64), number + 1, f"{text}.0",
        ]  # fmt: skip
        new = self._rng.choice(others)
        return f"number {type(new).__name__}", self._dump(replaced(value, at, new))

    def _swap(self, value: Any, at: Path) -> tuple[str, bytes] | None:
        try:
            other = part(self._rng.choice(self.donors), at)
        except (KeyError, IndexError, TypeError):
            return None
        return "swap", self._dump(replaced(value, at, other))

    def _list(self, value: Any, at: Path) -> tuple[str, bytes] | None:
        items = part(value, at)
        if not isinstance(items, list):
            return None
        mixed = list(items)
        self._rng.shuffle(mixed)
        new = self._rng.choice([[], items + items, items[:-1], items[1:], mixed, [*items, None]])
        return "list", self._dump(replaced(value, at, new))

    def _key(self, value: Any, at: Path) -> tuple[str, bytes] | None:
        """A key that nobody knows, or a known one in another spelling."""
        holder = part(value, at[:-1])
        if not isinstance(holder, dict):
            return None
        renamed = dict(holder)
        name = str(at[-1])
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        kind = self._rng.choice(["unknown", "added", "snake", "upper"])
        if kind == "unknown":
            renamed["somethingNew"] = self._rng.choice(JUNK)
        elif kind == "added":
            known = ["certificate", "publicKey", "messageSignature", "dsseEnvelope", "tlogEntries"]
            renamed.setdefault(self._rng.choice(known), self._rng.choice([None, *JUNK]))
        else:
            renamed[snake if kind == "snake" else name.upper()] = renamed.pop(name)
        return f"key {kind}", self._dump(replaced(value, at[:-1], renamed))

    def _inner(self, value: Any, at: Path) -> tuple[str, bytes] | None:
        """The same again inside JSON that stands there as base64."""
        raw = self._octets(value, at)
        if not raw or raw[:1] != b"{":
            return None
        try:
            inner = json.loads(bytes(raw))
        except ValueError:  # a hash may begin so too
            return None
        if not inner:  # nothing in it can be mutated
            return None
        _, changed = self.mutation(inner)
        return "inner", self._dump(replaced(value, at, base64.b64encode(changed).decode()))

    def _characters(self, value: Any, at: Path) -> tuple[str, bytes] | None:
        text = part(value, at)
        if not isinstance(text, str) or not text:
            return None
        place = self._rng.randrange(len(text))
        insert = self._rng.choice([" ", "\n", "=", "-", "_", "A", "\r", "\t", "\u2014", "\x7f"])
        new = self._rng.choice([text[:place] + insert + text[place:], text + insert, insert + text])
        return f"characters {insert!r}", self._dump(replaced(value, at, new))

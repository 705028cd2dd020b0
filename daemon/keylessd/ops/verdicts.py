"""Remembers what was verified, for those who ask the same again. Verifies nothing itself."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from keylessd.core.legacy import Detached
    from keylessd.core.verify import Verified
    from keylessd.ops.verify import VerifyRequest

MOST: Final = 512  # answers
MOST_BYTES: Final = 8 << 20  # of all requests that were answered
# Larger requests are not remembered: to hash them would hold up everybody else.
MOST_REQUEST_BYTES: Final = 256 << 10
# Another name for the trust root, which is in the key itself.
NOT_IN_KEY: Final = frozenset({"where"})
_FIELDS: Final[dict[type, tuple[str, ...]]] = {}


class Verdicts:
    """A bounded memory of answers. Refusals are not in it: whoever is refused costs nothing twice.

    An answer depends on nothing but the request and the trust root, and the key holds all of
    both. There is no clock in it but the one that a request's options name.
    """

    def __init__(self, *, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        """Remember nothing yet.

        Args:
            most: How many answers are kept; those asked for longest ago go first.
            most_bytes: How large all their requests may be together.
        """
        self._most = most
        self._most_bytes = most_bytes
        self._kept: OrderedDict[bytes, tuple[Verified, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes | None) -> Verified | None:
        """Return the answer that was given under *key*, if it is still known."""
        if key is None or key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: bytes | None, verified: Verified, size: int) -> None:
        """Keep an answer.

        Args:
            key: From `key_of`; under None nothing is kept.
            verified: The answer.
            size: Of the request, from `size_of`.
        """
        if key is None or key in self._kept:
            return
        self._kept[key] = (verified, size)
        self._bytes += size
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            _, (_, freed) = self._kept.popitem(last=False)
            self._bytes -= freed


def size_of(request: VerifyRequest) -> int:
    """Return about how many bytes a request has."""
    return signature_size(request.bundle, request.detached) + len(request.key or b"")


def signature_size(bundle: bytes | None, detached: Detached) -> int:
    """Return how many bytes a signature that exists has, whatever it is in."""
    parts = (
        bundle,
        detached.signature,
        detached.certificate,
        detached.chain,
        detached.timestamp,
    )
    return sum(len(part) for part in parts if part is not None)


def key_of(request: VerifyRequest, trusted_root: str) -> bytes | None:
    """Return the key of a request's answer, None if it is not one to be remembered.

    Args:
        request: All of it counts but where the trust root is from.
        trusted_root: SHA-256 of the trust root in force.
    """
    if size_of(request) > MOST_REQUEST_BYTES:
        return None
    parts: list[bytes] = []
    _add(parts, trusted_root)
    for name in _fields_of(type(request)):
        if name not in NOT_IN_KEY:
            _add(parts, getattr(request, name))
    return hashlib.sha256(b"".join(parts)).digest()


def _add(parts: list[bytes], value: object) -> None:
    """Add a value in a form that no other value has: its kind, its size, its parts."""
    if value is None:
        parts.append(b"-")
    elif isinstance(value, bool | int):
        parts.append(f"{type(value).__name__} {int(value)};".encode())
    elif isinstance(value, str | bytes):
        raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        parts += (b"%c%d:" % (b"b" if raw is value else b"s", len(raw)), raw)
    elif isinstance(value, tuple):
        parts.append(b"t%d:" % len(value))
        for item in value:
            _add(parts, item)
    elif is_dataclass(value):
        kind: type = type(value)
        names = _fields_of(kind)
        parts.append(b"d%d:" % len(names))
        for name in names:
            _add(parts, getattr(value, name))
    elif isinstance(value, Mapping):
        _add(parts, tuple(sorted(value.items())))
    elif isinstance(value, datetime):
        _add(parts, value.isoformat())
    else:
        raise TypeError(f"a request cannot be remembered with a {type(value).__name__}")


def _fields_of(kind: type) -> tuple[str, ...]:
    """Return the names of a dataclass's fields, without those that it computes from the others."""
    known = _FIELDS.get(kind)
    if known is None:
        listed = fields(kind)
        known = _FIELDS[kind] = tuple(field.name for field in listed if field.compare)
    return known

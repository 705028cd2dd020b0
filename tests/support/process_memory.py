"""What is in the memory of a process, for whoever may read it: root alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_JWT = re.compile(rb"eyJ[\w-]{10,}\.eyJ[\w-]{20,}\.[\w-]{20,}")
# 32 bytes look like 43 letters in base64url; others may lie beside them.
_WORD = re.compile(rb"[\w-]{43,80}")
_LETTERS = 43
_OVERLAP = 8192  # bytes; no token here is longer
_PIECE = 4 << 20


def pieces(pid: int) -> Iterator[bytes]:
    """Yield what a process could write to, in pieces that overlap."""
    regions = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, mode = line.split()[:2]
        if mode.startswith("rw"):
            start, end = (int(one, 16) for one in span.split("-"))
            regions.append((start, end))
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in regions:
            for at in range(start, end, _PIECE):
                with suppress(OSError, ValueError):
                    memory.seek(at)
                    yield memory.read(min(_PIECE + _OVERLAP, end - at))


def identity_tokens(pid: int) -> set[str]:
    """Return the JWTs in a process's memory."""
    return {one.decode() for piece in pieces(pid) for one in _JWT.findall(piece)}


def refresh_tokens(pid: int, grants: Path) -> set[str]:
    """Return the refresh tokens in a process's memory that the sandbox's issuer knows.

    Args:
        pid: The process.
        grants: The issuer's own file; it has their hashes.
    """
    known = {grant["current"] for grant in json.loads(grants.read_bytes())}
    found = {one for piece in pieces(pid) for one in _candidates(piece)}
    return {one.decode() for one in found if hashlib.sha256(one).hexdigest() in known}


def _candidates(piece: bytes) -> Iterator[bytes]:
    for word in _WORD.findall(piece):
        yield from (word[at : at + _LETTERS] for at in range(len(word) - _LETTERS + 1))

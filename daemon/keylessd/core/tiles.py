"""Tiles of a static log (C2SP tlog-tiles): their names, and a leaf's proof out of them. Pure.

A tile holds up to 256 hashes of one level of the tree in eight. What is found here is worth what
the verification of the bundle says; nothing is trusted and nothing asked for here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from keylessd.core.merkle import HASH_BYTES, node_hash

TILE_WIDTH = 256
LEVELS_PER_TILE = 8
LENGTH_BYTES = 2  # before each entry of a bundle


class TileError(Exception):
    """A tile is not what its name promises; the message is for people."""


@dataclass(frozen=True, slots=True)
class Tile:
    """The name of one tile, of hashes or of entries.

    Attributes:
        level: Which level of tiles, from 0; None for a bundle of entries.
        index: Which one of its level, from 0.
        width: How many items it has, 1 to 256.
    """

    level: int | None
    index: int
    width: int

    @property
    def path(self) -> str:
        """Its path below the log: ``tile/0/x001/x234/067.p/3``."""
        groups = [f"{self.index % 1000:03}"]
        rest = self.index // 1000
        while rest:
            groups.insert(0, f"x{rest % 1000:03}")
            rest //= 1000
        part = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        level = "entries" if self.level is None else str(self.level)
        return f"tile/{level}/{'/'.join(groups)}{part}"


def entries_tile(index: int, size: int) -> Tile:
    """Return the bundle that has the entry *index* of a log of *size* entries."""
    return _tile(None, index // TILE_WIDTH, size)


def proof_tiles(index: int, size: int) -> frozenset[Tile]:
    """Return the tiles that the inclusion proof of a leaf is made of.

    Args:
        index: Of the leaf, below *size*.
        size: Leaves of the tree.
    """
    return frozenset(
        _tile_of(level, position, size)
        for low, high in _siblings(index, size)
        for level, position in _whole_subtrees(low, high)
    )


def inclusion_proof(index: int, size: int, tiles: Mapping[Tile, bytes]) -> tuple[bytes, ...]:
    """Return the inclusion proof of a leaf (RFC 9162, 2.1.3.1), leaf level first.

    Args:
        index: Of the leaf, below *size*.
        size: Leaves of the tree.
        tiles: The contents of proof_tiles().

    Raises:
        TileError: One has another length than its width says.
    """
    for tile, content in tiles.items():
        if len(content) != tile.width * HASH_BYTES:
            raise TileError(f"{tile.path} has {len(content)} bytes")
    return tuple(_range_hash(low, high, size, tiles) for low, high in _siblings(index, size))


def entry_of(bundle: bytes, tile: Tile, index: int) -> bytes:
    """Return the entry *index* of the log out of a bundle of entries.

    Raises:
        TileError: The bundle does not hold just as many entries as its name says.
    """
    found: list[bytes] = []
    at = 0
    while at < len(bundle) and len(found) < tile.width:
        end = at + LENGTH_BYTES
        length = int.from_bytes(bundle[at:end], "big")
        at = end + length
        found.append(bundle[end:at])
    if at != len(bundle) or len(found) != tile.width:
        raise TileError(f"{tile.path} does not hold {tile.width} entries")
    return found[index % TILE_WIDTH]


def _tile(level: int | None, index: int, size: int) -> Tile:
    """Return a tile of the tree of that size, whole or as far as it is filled."""
    count = size >> LEVELS_PER_TILE * (level or 0)
    return Tile(level, index, min(TILE_WIDTH, count - index * TILE_WIDTH))


def _tile_of(level: int, position: int, size: int) -> Tile:
    """Return the tile that a whole subtree of 2**level leaves can be computed from."""
    above, below = divmod(level, LEVELS_PER_TILE)
    return _tile(above, (position << below) // TILE_WIDTH, size)


def _siblings(index: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of leaves whose hashes prove a leaf, the nearest first."""
    low, high = 0, size
    found = []
    while high - low > 1:
        middle = low + (1 << (high - low - 1).bit_length() - 1)
        if index < middle:
            found.append((middle, high))
            high = middle
        else:
            found.append((low, middle))
            low = middle
    return reversed(found)


def _whole_subtrees(low: int, high: int) -> list[tuple[int, int]]:
    """Return (level, position) of the whole subtrees that make up a range, from the left.

    The range begins where a subtree of at least its size does, so they get smaller.
    """
    found = []
    while low < high:
        level = (high - low).bit_length() - 1
        found.append((level, low >> level))
        low += 1 << level
    return found


def _range_hash(low: int, high: int, size: int, tiles: Mapping[Tile, bytes]) -> bytes:
    """Return the hash of the subtree over a range of leaves."""
    parts = [
        _subtree_hash(level, position, size, tiles)
        for level, position in _whole_subtrees(low, high)
    ]
    root = parts.pop()
    for left in reversed(parts):
        root = node_hash(left, root)
    return root


def _subtree_hash(level: int, position: int, size: int, tiles: Mapping[Tile, bytes]) -> bytes:
    content = tiles[_tile_of(level, position, size)]
    below = level % LEVELS_PER_TILE
    first = (position << below) % TILE_WIDTH
    row = [
        content[at * HASH_BYTES : (at + 1) * HASH_BYTES]
        for at in range(first, first + (1 << below))
    ]
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]

"""Names of tiles, and proofs out of them, against the proofs of whole trees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylessd.core.merkle import leaf_hash, node_hash, root_from_inclusion_proof
from keylessd.core.tiles import (
    TILE_WIDTH,
    Tile,
    TileError,
    entries_tile,
    entry_of,
    inclusion_proof,
    proof_tiles,
)


def _entry(number: int) -> bytes:
    return b"entry %d" % number


LEAVES = [leaf_hash(_entry(number)) for number in range(70_000)]


def _levels(leaves: list[bytes]) -> list[list[bytes]]:
    """Return the whole nodes of each level; what is not whole has no node."""
    found = [leaves]
    while len(found[-1]) > 1:
        row = found[-1]
        found.append([node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)])
    return found


def _root(leaves: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, as it is written there."""
    if len(leaves) == 1:
        return leaves[0]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(_root(leaves[:middle]), _root(leaves[middle:]))


def _serve(wanted: frozenset[Tile], leaves: list[bytes]) -> dict[Tile, bytes]:
    """Give out tiles as a log does: only those it has, each cut at its end."""
    levels = _levels(leaves)
    found = {}
    for tile in wanted:
        assert tile.level is not None
        row = levels[8 * tile.level][tile.index * TILE_WIDTH :][:TILE_WIDTH]
        assert len(row) == tile.width, tile
        found[tile] = b"".join(row)
    return found


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0, 256), "tile/0/000"),
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(1, 999, 255), "tile/1/999.p/255"),
        (Tile(2, 1000, 256), "tile/2/x001/000"),
        (Tile(None, 1234067, 256), "tile/entries/x001/x234/067"),
        (Tile(None, 1234067, 3), "tile/entries/x001/x234/067.p/3"),
    ],
)
def test_path(tile: Tile, path: str) -> None:
    assert tile.path == path


@given(st.data())
def test_proof_leads_to_the_root(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 600))
    index = data.draw(st.integers(0, size - 1))
    leaves = LEAVES[:size]

    tiles = _serve(proof_tiles(index, size), leaves)
    path = inclusion_proof(index, size, tiles)

    assert root_from_inclusion_proof(leaves[index], index, size, path) == _root(leaves)


@pytest.mark.parametrize("index", [0, 255, 256, 65_535, 65_536, 69_998, 69_999])
def test_proof_over_three_levels_of_tiles(index: int) -> None:
    tiles = _serve(proof_tiles(index, len(LEAVES)), LEAVES)
    path = inclusion_proof(index, len(LEAVES), tiles)

    assert root_from_inclusion_proof(LEAVES[index], index, len(LEAVES), path) == _root(LEAVES)
    # As few as there can be: on each level the leaf's own, and those at the border.
    assert len(tiles) <= 6


def test_proof_in_the_largest_tree_is_only_names() -> None:
    assert len(proof_tiles(0, (1 << 63) - 1)) < 70


def test_only_leaf_needs_no_tile() -> None:
    assert proof_tiles(0, 1) == frozenset()
    assert inclusion_proof(0, 1, {}) == ()


def test_tile_of_another_length_is_refused() -> None:
    tiles = _serve(proof_tiles(3, 10), LEAVES[:10])
    (tile,) = tiles
    for content in (tiles[tile][:-1], tiles[tile] + b"\0", b"", tiles[tile][:-32]):
        with pytest.raises(TileError, match=r"tile/0/000\.p/10 has"):
            inclusion_proof(3, 10, {tile: content})


def _bundle(entries: list[bytes]) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one for one in entries)


def test_entry_of_a_bundle() -> None:
    tile = entries_tile(258, 260)
    assert tile == Tile(None, 1, 4)
    bundle = _bundle([_entry(number) for number in range(256, 260)])

    assert entry_of(bundle, tile, 258) == _entry(258)
    assert entry_of(bundle, tile, 259) == _entry(259)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: raw + b"\0\0",
        lambda raw: b"",
        lambda raw: b"\xff" + raw[1:],
        lambda raw: raw[: len(raw) // 2],
    ],
)
def test_damaged_bundle_is_refused(damage) -> None:
    bundle = _bundle([_entry(number) for number in range(4)])
    with pytest.raises(TileError, match="does not hold 4 entries"):
        entry_of(damage(bundle), Tile(None, 0, 4), 1)

"""Merkle proofs, against trees that are computed from their definition."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core.merkle import (
    leaf_hash,
    node_hash,
    root_from_inclusion_proof,
    verify_consistency,
)
from keylessd.errors import VerificationError

LEAVES = [leaf_hash(b"leaf %d" % number) for number in range(65)]
SIZES = range(1, 66)


def _split(size: int) -> int:
    """The largest power of two below size (RFC 9162, 2.1.1)."""
    return 1 << (size - 1).bit_length() - 1


def _root(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    middle = _split(len(leaves))
    return node_hash(_root(leaves[:middle]), _root(leaves[middle:]))


def _path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 9162, 2.1.3.1."""
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    if index < middle:
        return [*_path(index, leaves[:middle]), _root(leaves[middle:])]
    return [*_path(index - middle, leaves[middle:]), _root(leaves[:middle])]


def _consistency(old: int, leaves: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """RFC 9162, 2.1.4.1."""
    if old == len(leaves):
        return [] if whole else [_root(leaves)]
    middle = _split(len(leaves))
    if old <= middle:
        return [*_consistency(old, leaves[:middle], whole=whole), _root(leaves[middle:])]
    return [*_consistency(old - middle, leaves[middle:], whole=False), _root(leaves[:middle])]


def test_hashes_are_separated_by_their_first_byte() -> None:
    assert leaf_hash(b"x") == hashlib.sha256(b"\x00x").digest()
    assert node_hash(b"l", b"r") == hashlib.sha256(b"\x01lr").digest()


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_of_every_tree_leads_to_the_root(size: int) -> None:
    leaves = LEAVES[:size]
    root = _root(leaves)
    for index in range(size):
        path = _path(index, leaves)
        assert root_from_inclusion_proof(leaves[index], index, size, path) == root


@pytest.mark.parametrize("size", SIZES)
def test_path_of_wrong_length_is_refused(size: int) -> None:
    leaves = LEAVES[:size]
    for index in range(size):
        path = _path(index, leaves)
        wrong = [[*path, LEAVES[0]], [LEAVES[0], *path]]
        if path:
            wrong += [path[:-1], path[1:]]
        for item in wrong:
            with pytest.raises(VerificationError) as caught:
                root_from_inclusion_proof(leaves[index], index, size, item)
            assert caught.value.check == "inclusion-proof"


@pytest.mark.parametrize("size", [2, 3, 5, 7, 8, 13, 33, 65])
def test_changed_path_leads_elsewhere(size: int) -> None:
    leaves = LEAVES[:size]
    root = _root(leaves)
    for index in range(size):
        path = _path(index, leaves)
        for level in range(len(path)):
            flipped = [*path]
            flipped[level] = bytes([path[level][0] ^ 1]) + path[level][1:]
            assert root_from_inclusion_proof(leaves[index], index, size, flipped) != root
        for level in range(len(path) - 1):
            swapped = [*path]
            swapped[level], swapped[level + 1] = path[level + 1], path[level]
            assert root_from_inclusion_proof(leaves[index], index, size, swapped) != root


@pytest.mark.parametrize("size", [2, 3, 5, 8, 33])
def test_path_of_another_leaf_leads_elsewhere(size: int) -> None:
    leaves = LEAVES[:size]
    for index in range(size):
        for other in range(size):
            if other == index:
                continue
            try:
                found = root_from_inclusion_proof(leaves[index], other, size, _path(index, leaves))
            except VerificationError:
                continue
            assert found != _root(leaves)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (5, 5), (6, 5), (-1, 5), (0, -1)])
def test_index_outside_the_tree_is_refused(index: int, size: int) -> None:
    # Whatever the path's length: some length fits any two numbers.
    for length in range(70):
        with pytest.raises(VerificationError) as caught:
            root_from_inclusion_proof(LEAVES[0], index, size, [LEAVES[0]] * length)
        assert caught.value.check == "inclusion-proof"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_hash_of_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(VerificationError):
        root_from_inclusion_proof(LEAVES[0], 0, 2, [bytes(length)])


@settings(deadline=None)
@given(
    st.integers(-5, 1 << 70),
    st.integers(-5, 1 << 70),
    st.lists(st.binary(max_size=33), max_size=70),
)
def test_only_verification_error_escapes(index: int, size: int, path: list[bytes]) -> None:
    try:
        root = root_from_inclusion_proof(LEAVES[0], index, size, path)
    except VerificationError:
        return
    assert len(root) == 32


@pytest.mark.parametrize("new", SIZES)
def test_every_tree_is_consistent_with_every_earlier_one(new: int) -> None:
    for old in range(1, new + 1):
        verify_consistency(
            old_size=old,
            old_root=_root(LEAVES[:old]),
            new_size=new,
            new_root=_root(LEAVES[:new]),
            path=_consistency(old, LEAVES[:new]),
        )


@pytest.mark.parametrize("new", [2, 3, 6, 8, 21])
def test_wrong_consistency_proof_is_refused(new: int) -> None:
    for old in range(1, new + 1):
        good = {
            "old_size": old,
            "old_root": _root(LEAVES[:old]),
            "new_size": new,
            "new_root": _root(LEAVES[:new]),
            "path": _consistency(old, LEAVES[:new]),
        }
        path = good["path"]
        assert isinstance(path, list)
        wrong: list[dict[str, object]] = [
            {"old_root": LEAVES[64]},
            {"new_root": LEAVES[64]},
            {"path": [*path, LEAVES[64]]},
            {"old_size": 0},
            {"old_size": new + 1},
        ]
        if path:
            wrong += [{"path": path[:-1]}, {"path": []}, {"path": [path[0][1:], *path[1:]]}]
            wrong += [{"path": [LEAVES[64], *path[1:]]}]
        for change in wrong:
            with pytest.raises(VerificationError) as caught:
                verify_consistency(**{**good, **change})  # type: ignore[arg-type]
            assert caught.value.check == "consistency-proof"

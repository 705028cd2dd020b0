"""The sandbox's Merkle tree against the RFC's own recursive definition."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylessd.sandbox.tree import EMPTY_ROOT, MerkleTree

LEAVES = [hashlib.sha256(b"\x00" + bytes([n])).digest() for n in range(70)]


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def plain_root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node(plain_root(leaves[:k]), plain_root(leaves[k:]))


def plain_path(m: int, leaves: list[bytes]) -> tuple[bytes, ...]:
    if len(leaves) == 1:
        return ()
    k = split(len(leaves))
    if m < k:
        return (*plain_path(m, leaves[:k]), plain_root(leaves[k:]))
    return (*plain_path(m - k, leaves[k:]), plain_root(leaves[:k]))


def plain_subproof(m: int, leaves: list[bytes], whole: bool) -> tuple[bytes, ...]:
    if m == len(leaves):
        return () if whole else (plain_root(leaves),)
    k = split(len(leaves))
    if m <= k:
        return (*plain_subproof(m, leaves[:k], whole), plain_root(leaves[k:]))
    return (*plain_subproof(m - k, leaves[k:], False), plain_root(leaves[:k]))


def test_known_answers():
    # The roots of the test data that certificate transparency implementations share.
    data = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    data.append("606162636465666768696a6b6c6d6e6f")
    tree = MerkleTree(hashlib.sha256(b"\x00" + bytes.fromhex(d)).digest() for d in data)
    assert tree.root(1).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert tree.root(8).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_empty_tree():
    tree = MerkleTree()
    assert tree.size == 0
    assert tree.root() == EMPTY_ROOT == hashlib.sha256(b"").digest()


def test_every_root_and_inclusion_proof_up_to_70_leaves():
    tree = MerkleTree(LEAVES)
    for size in range(1, len(LEAVES) + 1):
        assert tree.root(size) == plain_root(LEAVES[:size])
        for index in range(size):
            assert tree.inclusion_proof(index, size) == plain_path(index, LEAVES[:size])


def test_every_consistency_proof_up_to_70_leaves():
    tree = MerkleTree(LEAVES)
    for second in range(1, len(LEAVES) + 1):
        assert tree.consistency_proof(0, second) == ()
        for first in range(1, second + 1):
            wanted = plain_subproof(first, LEAVES[:second], True)
            assert tree.consistency_proof(first, second) == wanted, (first, second)


def test_old_proofs_do_not_change_as_the_tree_grows():
    tree = MerkleTree(LEAVES[:21])
    before = (tree.root(), tree.inclusion_proof(5), tree.consistency_proof(13))
    for leaf in LEAVES[21:]:
        tree.append(leaf)
    assert (tree.root(21), tree.inclusion_proof(5, 21), tree.consistency_proof(13, 21)) == before


@given(st.integers(0, 70), st.integers(0, 70))
def test_truncated_tree_equals_one_that_never_grew(kept, grown):
    tree = MerkleTree(LEAVES[: max(kept, grown)])
    tree.truncate(min(kept, grown))
    for leaf in LEAVES[min(kept, grown) : kept]:
        tree.append(leaf)
    assert tree.size == kept
    assert tree.root() == plain_root(LEAVES[:kept])


def test_nodes_of_a_level():
    tree = MerkleTree(LEAVES[:9])
    assert tree.nodes(0, 0, 9) == b"".join(LEAVES[:9])
    assert tree.nodes(3, 0, 1) == plain_root(LEAVES[:8])
    assert tree.nodes(1, 2, 2) == plain_root(LEAVES[4:6]) + plain_root(LEAVES[6:8])
    assert tree.nodes(7, 0, 0) == b""


@pytest.mark.parametrize(
    "ask",
    [
        lambda tree: tree.append(b"\x00" * 31),
        lambda tree: tree.append(b"\x00" * 33),
        lambda tree: tree.root(6),
        lambda tree: tree.root(-1),
        lambda tree: tree.inclusion_proof(5),
        lambda tree: tree.inclusion_proof(-1),
        lambda tree: tree.inclusion_proof(3, 3),
        lambda tree: tree.inclusion_proof(0, 6),
        lambda tree: tree.consistency_proof(-1),
        lambda tree: tree.consistency_proof(4, 3),
        lambda tree: tree.consistency_proof(1, 6),
        lambda tree: tree.truncate(6),
        lambda tree: tree.node(0, 5),
        lambda tree: tree.node(0, -1),
        lambda tree: tree.nodes(0, 4, 2),
        lambda tree: tree.nodes(1, -1, 1),
        lambda tree: tree.nodes(3, 0, 1),
    ],
)
def test_what_the_tree_does_not_have_is_refused(ask):
    tree = MerkleTree(LEAVES[:5])
    with pytest.raises(ValueError, match=r"leaf|leaves|nodes|subtree|proof"):
        ask(tree)
    assert tree.root() == plain_root(LEAVES[:5])


def test_large_tree_answers_fast_enough_to_count_hashes(monkeypatch):
    tree = MerkleTree(hashlib.sha256(str(n).encode()).digest() for n in range(5000))
    hashed = 0
    real = hashlib.sha256

    def counting(data: bytes = b""):
        nonlocal hashed
        hashed += 1
        return real(data)

    monkeypatch.setattr("keylessd.sandbox.tree.hashlib.sha256", counting)
    tree.root()
    tree.inclusion_proof(1234)
    tree.consistency_proof(777)
    assert 0 < hashed < 60

"""Merkle tree hashes and proofs of RFC 9162. Pure arithmetic; holds no tree, trusts no root."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from keylessd.errors import VerificationError

HASH_BYTES = 32


def leaf_hash(entry: bytes) -> bytes:
    """Return the 32-byte hash of a leaf (RFC 9162, 2.1.1).

    Args:
        entry: The leaf's content; for Rekor the decoded canonicalized body.
    """
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node over its two children's hashes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_inclusion_proof(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root hash that *path* commits the leaf to.

    RFC 9162, 2.1.3.2. The caller compares the result with a root it trusts; this function
    trusts nothing.

    Args:
        leaf: 32-byte leaf hash, from leaf_hash().
        index: Zero-based position of the leaf in this tree (not Rekor's global index).
        size: Number of leaves, at least 1.
        path: 32-byte sibling hashes, leaf level first; at most 63.

    Raises:
        VerificationError: ``check="inclusion-proof"`` if index is not below size, if path is
            longer or shorter than index and size require, or a hash does not have 32 bytes.
    """
    if not 0 <= index < size:
        raise VerificationError("inclusion-proof", f"leaf {index} of a tree of {size} leaves")
    if any(len(sibling) != HASH_BYTES for sibling in path):
        raise VerificationError("inclusion-proof", f"a hash does not have {HASH_BYTES} bytes")
    # Up to where the paths of this leaf and of the last one meet, siblings are on either side;
    # above that the leaf lies on the tree's right border and siblings are on the left only.
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    if len(path) != inner + border:
        raise VerificationError(
            "inclusion-proof",
            f"{len(path)} hashes for leaf {index} of {size}; {inner + border} are needed",
        )
    root = leaf
    for level, sibling in enumerate(path):
        if level < inner and not index >> level & 1:
            root = node_hash(root, sibling)
        else:
            root = node_hash(sibling, root)
    return root


def verify_consistency(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Verify that the new tree begins with all leaves of the old one (RFC 9162, 2.1.4.2).

    Args:
        old_size: Leaves of the old tree, at least 1.
        old_root: 32 bytes.
        new_size: Leaves of the new tree, at least old_size.
        new_root: 32 bytes.
        path: The proof's 32-byte hashes; empty if the sizes are equal.

    Raises:
        VerificationError: ``check="consistency-proof"``.
    """
    if not 1 <= old_size <= new_size:
        raise _inconsistent(f"a tree of {old_size} leaves cannot have grown to {new_size}")
    if old_size == new_size:
        if path or old_root != new_root:
            raise _inconsistent("two trees of one size differ")
        return
    if not path or any(len(item) != HASH_BYTES for item in path):
        raise _inconsistent("the proof is empty or has a hash of another length")
    # If the old tree is a whole subtree of the new one, the proof leaves its root out.
    hashes = [old_root, *path] if old_size.bit_count() == 1 else path
    if _roots_from_consistency_proof(old_size, new_size, hashes) != (old_root, new_root):
        raise _inconsistent("the proof leads to other roots")


def _roots_from_consistency_proof(
    old_size: int, new_size: int, hashes: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Return the roots of the two trees, steps 2 to 6 of the algorithm."""
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = hashes[0]
    for item in hashes[1:]:
        if last == 0:
            raise _inconsistent("the proof is too long")
        if node & 1 or node == last:
            old, new = node_hash(item, old), node_hash(item, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, item)
        node, last = node >> 1, last >> 1
    if last:
        raise _inconsistent("the proof is too short")
    return old, new


def _inconsistent(reason: str) -> VerificationError:
    return VerificationError("consistency-proof", reason)

"""A growing Merkle tree (RFC 6962) with all its complete nodes in memory, and its proofs.

It stores no entries and signs nothing. Appending costs one hash on average; a root or a proof
of the present or of any earlier size costs a number of hashes logarithmic in the size. Memory
is 64 bytes a leaf.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from keylessd.core.merkle import HASH_BYTES, node_hash

HASH_SIZE = HASH_BYTES
EMPTY_ROOT = hashlib.sha256(b"").digest()


class MerkleTree:
    """The tree over a sequence of leaf hashes.

    Level 0 holds the leaf hashes, level k the roots of the complete subtrees of 2**k leaves.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0]) // HASH_SIZE

    def append(self, leaf: bytes) -> int:
        """Append a 32-byte leaf hash and return its index.

        Raises:
            ValueError: It is not 32 bytes long.
        """
        if len(leaf) != HASH_SIZE:
            raise ValueError(f"a leaf hash of {len(leaf)} bytes; it must be {HASH_SIZE}")
        index = position = self.size
        node = leaf
        level = 0
        self._levels[0] += node
        while position & 1:  # the right child of a subtree that is complete now
            node = node_hash(self.node(level, position - 1), node)
            level, position = level + 1, position >> 1
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += node
        return index

    def truncate(self, size: int) -> None:
        """Drop all leaves from index *size* on, to undo appends that could not be stored.

        Raises:
            ValueError: The tree is smaller than that.
        """
        self._known(size)
        for level, nodes in enumerate(self._levels):
            del nodes[(size >> level) * HASH_SIZE :]
        while len(self._levels) > 1 and not self._levels[-1]:
            self._levels.pop()

    def node(self, level: int, position: int) -> bytes:
        """Return the hash of the complete subtree of 2**level leaves at *position* in its level."""
        start = position * HASH_SIZE
        node = bytes(self._levels[level][start : start + HASH_SIZE])
        if len(node) != HASH_SIZE or position < 0:
            raise ValueError(f"no complete subtree {position} at level {level}")
        return node

    def nodes(self, level: int, start: int, count: int) -> bytes:
        """Return *count* hashes of a level, 32 bytes each, from position *start* on.

        Raises:
            ValueError: The level has not that many.
        """
        held = self._levels[level] if 0 <= level < len(self._levels) else b""
        if start < 0 or count < 0 or (start + count) * HASH_SIZE > len(held):
            raise ValueError(f"level {level} has no nodes {start} to {start + count}")
        return bytes(held[start * HASH_SIZE : (start + count) * HASH_SIZE])

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first *size* leaves (all, if None). RFC 6962, 2.1.

        Raises:
            ValueError: The tree is smaller than that.
        """
        size = self._known(size)
        return EMPTY_ROOT if size == 0 else self._subroot(0, size)

    def inclusion_proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Return the path that proves leaf *index* in the tree of the first *size* leaves.

        RFC 6962, 2.1.1: sibling hashes, leaf level first.

        Raises:
            ValueError: The index is not below the size, or the tree is smaller than that.
        """
        size = self._known(size)
        if not 0 <= index < size:
            raise ValueError(f"no leaf {index} in a tree of {size}")
        path = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._subroot(middle, end))
                end = middle
            else:
                path.append(self._subroot(start, middle))
                start = middle
        return tuple(reversed(path))

    def consistency_proof(self, first: int, second: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that the tree of *first* leaves is a prefix of that of *second*.

        RFC 6962, 2.1.2. Empty if the sizes are equal or the first is 0.

        Raises:
            ValueError: ``0 <= first <= second <= size`` does not hold.
        """
        second = self._known(second)
        if not 0 <= first <= second:
            raise ValueError(f"no consistency proof from size {first} to {second}")
        if first in (0, second):
            return ()
        path = []
        start, end = 0, second
        while end > first:
            middle = start + _split(end - start)
            if first <= middle:
                path.append(self._subroot(middle, end))
                end = middle
            else:
                path.append(self._subroot(start, middle))
                start = middle
        if start > 0:  # the old tree's last subtree is not the old root itself
            path.append(self._subroot(start, end))
        return tuple(reversed(path))

    def _known(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise ValueError(f"the tree has {self.size} leaves, not {size}")
        return size

    def _subroot(self, start: int, end: int) -> bytes:
        """Root of leaves [start, end), where start is a multiple of the next power of two."""
        # The complete subtrees of the range, left to right, folded from the right.
        peaks = []
        while start < end:
            level = (end - start).bit_length() - 1
            peaks.append(self.node(level, start >> level))
            start += 1 << level
        root = peaks.pop()
        while peaks:
            root = node_hash(peaks.pop(), root)
        return root


def _split(count: int) -> int:
    """Largest power of two below *count*, which is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)

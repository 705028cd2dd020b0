"""Gives entries their places in a log, a batch at a time. It knows no entry format and no HTTP.

One batch costs one transaction and one signed checkpoint, whatever number of entries is in it.
There is no background task: whoever waits for a batch integrates it when its time has come, so
a log needs no nursery and works as well in a test's event loop as in a server's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from keylessd.sandbox.store import LogStore, NewRecord, StoreError
from keylessd.sandbox.tree import MerkleTree

INTERVAL_SECONDS = 0.05
# Entries. A log that signs a checkpoint per second signs none sooner because many wait.
BATCH_MAX = 1024
PENDING_MAX = 4096  # entries

SignCheckpoint = Callable[[int, bytes], str]


class PushbackError(Exception):
    """Too many entries wait for a checkpoint; the caller asks again later."""


class DuplicateError(Exception):
    """The log has that entry already, at ``index``."""

    def __init__(self, index: int) -> None:
        super().__init__(f"the entry exists at index {index}")
        self.index = index


@dataclass(frozen=True, slots=True)
class Published:
    """A state of the log that was signed.

    Attributes:
        size: Number of leaves.
        root: 32-byte root hash.
        checkpoint: The signed note over both.
    """

    size: int
    root: bytes
    checkpoint: str


class _Batch:
    """Entries that share a checkpoint, and those who wait for it."""

    __slots__ = ("deadline", "done", "outcome", "records")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.done = trio.Event()
        self.records: list[NewRecord] = []
        self.outcome: Published | StoreError = StoreError("the batch was not integrated")


class Sequencer:
    """One log: its storage, its tree, and the batch that waits."""

    def __init__(
        self,
        store: LogStore,
        sign_checkpoint: SignCheckpoint,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        batch_max: int = BATCH_MAX,
        pending_max: int = PENDING_MAX,
    ) -> None:
        """Load the tree of *store* and sign its present state.

        Args:
            store: The entries.
            sign_checkpoint: Returns the signed note for (size, root).
            interval_seconds: How long a batch waits for company.
            batch_max: Entries at which it waits no longer.
            pending_max: Entries at which further ones are refused.
        """
        self._store = store
        self._sign = sign_checkpoint
        self._interval_seconds = interval_seconds
        self._batch_max = batch_max
        self._pending_max = pending_max
        self._batch: _Batch | None = None
        self._pending: dict[bytes, int] = {}  # key -> index, of the batch that waits
        self.tree = MerkleTree(store.leaves())
        self._published = self._publish()

    @property
    def store(self) -> LogStore:
        """The storage, for reading."""
        return self._store

    def published(self) -> Published:
        """Return the newest signed state; a batch whose time has passed is integrated first."""
        batch = self._batch
        # Its waiters may all be gone: a caller that hung up does not take its entry back.
        if batch is not None and trio.current_time() >= batch.deadline:
            self.flush()
        return self._published

    async def add(
        self,
        leaf: bytes,
        body: bytes,
        *,
        key: bytes | None = None,
        extra: Callable[[int], bytes] | None = None,
        terms: tuple[str, ...] = (),
    ) -> tuple[int, Published]:
        """Append an entry, and wait until a checkpoint covers it.

        Cancellation gives up the waiting, not the entry.

        Args:
            leaf: 32-byte leaf hash.
            body: What the store keeps as the entry.
            key: What makes two entries the same one; the leaf hash if None.
            extra: Called with the entry's index, before it is integrated; returns what the
                store keeps beside the entry.
            terms: Search terms.

        Returns:
            The entry's index, and the first signed state that covers it.

        Raises:
            DuplicateError: The log has it. Not raised before a checkpoint covers that entry.
            PushbackError: Too many entries wait.
            StoreError: The entry could not be stored, nor could the rest of its batch.
        """
        key = leaf if key is None else key
        waiting = self._pending.get(key)
        stored = self._store.index_of(key) if waiting is None else None
        if stored is not None:
            raise DuplicateError(stored)
        if waiting is not None:
            await self._covered(self._current_batch())
            raise DuplicateError(waiting)
        if len(self._pending) >= self._pending_max:
            raise PushbackError(f"{len(self._pending)} entries wait for a checkpoint")
        batch = self._current_batch()
        index = self.tree.size + len(batch.records)
        record = NewRecord(leaf, key, body, b"" if extra is None else extra(index), terms)
        batch.records.append(record)
        self._pending[key] = index
        if len(batch.records) >= self._batch_max:
            self.flush()
        return index, await self._covered(batch)

    def flush(self) -> None:
        """Integrate the batch that waits, if there is one. Its waiters get what went wrong."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        self._pending.clear()
        size = self.tree.size
        try:
            for record in batch.records:
                self.tree.append(record.leaf)
            published = self._publish()
            # Nothing signed leaves this object before the entries are stored: if that fails,
            # their indexes are given again.
            self._store.append(batch.records)
        except StoreError as exc:
            self.tree.truncate(size)
            batch.outcome = exc
        else:
            batch.outcome = self._published = published
        finally:
            batch.done.set()

    def close(self) -> None:
        """Integrate what waits and close the storage."""
        self.flush()
        self._store.close()

    def _current_batch(self) -> _Batch:
        if self._batch is None:
            self._batch = _Batch(trio.current_time() + self._interval_seconds)
        return self._batch

    async def _covered(self, batch: _Batch) -> Published:
        with trio.move_on_at(batch.deadline):
            await batch.done.wait()
        # Whoever wakes first does the work for all. No await from here on: the batch cannot
        # change meanwhile.
        if not batch.done.is_set():
            self.flush()
        if isinstance(batch.outcome, StoreError):
            # One exception object cannot be raised in several tasks.
            raise StoreError(str(batch.outcome)) from batch.outcome
        return batch.outcome

    def _publish(self) -> Published:
        size, root = self.tree.size, self.tree.root()
        return Published(size, root, self._sign(size, root))

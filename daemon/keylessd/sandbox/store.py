"""Keeps a log's entries in SQLite, append only and crash safe. It hashes and signs nothing.

Durability: write-ahead log with ``synchronous=NORMAL``. A killed process loses nothing that was
committed. After a power cut the file is intact, but the last transactions may be gone; a commit
then costs no fsync, so that it does not stall the event loop. ``fsync=True`` buys the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# What sqlite3 gives: the schema below says which types are in it.
_Row = tuple[Any, ...]

# Rows read at a time while streaming; bounds the memory of a start with a large log.
_STREAM_ROWS = 4096
# SQLite's limit on values in one statement is 999 in old builds.
_QUERY_KEYS = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    position INTEGER PRIMARY KEY,
    leaf BLOB NOT NULL,
    key BLOB NOT NULL UNIQUE,
    body BLOB NOT NULL,
    extra BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS term (
    term TEXT NOT NULL,
    position INTEGER NOT NULL REFERENCES entry (position),
    PRIMARY KEY (term, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS entry_update BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'the log is append only'); END;
CREATE TRIGGER IF NOT EXISTS entry_delete BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'the log is append only'); END;
"""


class StoreError(Exception):
    """The storage cannot be used: locked by another process, full, damaged, or not a log."""


@dataclass(frozen=True, slots=True)
class NewRecord:
    """An entry to append.

    Attributes:
        leaf: 32-byte leaf hash.
        key: What makes two entries the same one; unique in the log. Usually the leaf hash.
        body: The bytes that were hashed into the leaf (for a CT log whatever it wants to keep).
        extra: The engine's own data, for example a signed entry timestamp. Not part of the leaf.
        terms: Search terms under which find() knows the entry.
    """

    leaf: bytes
    key: bytes
    body: bytes
    extra: bytes = b""
    terms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """An entry as stored; ``index`` is its zero-based position in the log."""

    index: int
    leaf: bytes
    key: bytes
    body: bytes
    extra: bytes


class LogStore:
    """One log in one SQLite file, or in memory. One process at a time; not thread safe."""

    def __init__(self, connection: sqlite3.Connection, size: int) -> None:
        self._connection = connection
        self._size = size

    @classmethod
    def open(cls, path: Path, *, fsync: bool = False) -> Self:
        """Open or create the log at *path*; the folder must exist.

        Args:
            path: The file. SQLite puts ``-wal`` beside it.
            fsync: Also survive a power cut without loss; each commit then waits for the disk.

        Raises:
            StoreError: Another process has it open, or it is not a log, or it has a gap.
        """
        return cls._open(str(path), synchronous="FULL" if fsync else "NORMAL")

    @classmethod
    def in_memory(cls) -> Self:
        """Return an empty log that lives as long as the object, for tests."""
        return cls._open(":memory:", synchronous="OFF")

    @classmethod
    def _open(cls, path: str, *, synchronous: str) -> Self:
        try:
            # No waiting for locks: the holder keeps them until it ends. Threads are the
            # caller's affair; the file is opened in one and may be used in another.
            connection = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as exc:
            raise StoreError(f"cannot open the log {path!r}: {exc}") from exc
        try:
            # Exclusive: a second process would keep a second tree over the same entries. It
            # comes first, since the mode is fixed by the first access in WAL mode.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.executescript("BEGIN IMMEDIATE;" + _SCHEMA + "COMMIT;")
            count, last = connection.execute("SELECT count(*), max(position) FROM entry").fetchone()
        except sqlite3.Error as exc:
            connection.close()
            raise StoreError(f"cannot use the log {path!r}: {exc}") from exc
        if count != (0 if last is None else last + 1):
            connection.close()
            raise StoreError(f"the log {path!r} has {count} entries, the last has index {last}")
        return cls(connection, count)

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._size

    def append(
        self, records: Sequence[NewRecord], *, state: Mapping[str, bytes] | None = None
    ) -> int:
        """Append *records* and set *state* in one transaction; all of it happens or none.

        Returns:
            The index of the first record.

        Raises:
            StoreError: Nothing was written; for example a key is there already.
        """
        first = self._size
        rows = [
            (first + offset, record.leaf, record.key, record.body, record.extra)
            for offset, record in enumerate(records)
        ]
        terms = {
            (term, first + offset) for offset, record in enumerate(records) for term in record.terms
        }
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", rows)
                connection.executemany("INSERT INTO term VALUES (?, ?)", sorted(terms))
                connection.executemany(
                    "INSERT OR REPLACE INTO state VALUES (?, ?)", list((state or {}).items())
                )
                connection.execute("COMMIT")
            except sqlite3.Error:
                # Some errors (a full disk) have ended the transaction already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as exc:
            raise StoreError(f"cannot append {len(records)} entries: {exc}") from exc
        self._size = first + len(records)
        return first

    def record(self, index: int) -> Record | None:
        """Return the entry at *index*, or None if the log has no such index."""
        if not 0 <= index < self._size:
            return None
        row = self._one("SELECT * FROM entry WHERE position = ?", index)
        return None if row is None else Record(*row)

    def records(self, start: int, end: int) -> list[Record]:
        """Return the entries from index *start* up to but without *end*, those that exist."""
        start, end = max(start, 0), min(end, self._size)
        if start >= end:
            return []
        query = "SELECT * FROM entry WHERE position >= ? AND position < ? ORDER BY position"
        return [Record(*row) for row in self._all(query, start, end)]

    def index_of(self, key: bytes) -> int | None:
        """Return the index of the entry with this key, or None."""
        row = self._one("SELECT position FROM entry WHERE key = ?", key)
        return None if row is None else int(row[0])

    def indexes_of(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Return the index of each of *keys* that the log has."""
        found: dict[bytes, int] = {}
        for start in range(0, len(keys), _QUERY_KEYS):
            part = keys[start : start + _QUERY_KEYS]
            marks = ",".join("?" * len(part))
            rows = self._all(f"SELECT key, position FROM entry WHERE key IN ({marks})", *part)  # noqa: S608  # question marks only
            found.update((bytes(key), int(position)) for key, position in rows)
        return found

    def find(self, term: str, *, limit: int = 1000) -> list[int]:
        """Return the indexes of the entries known under *term*, oldest first."""
        query = "SELECT position FROM term WHERE term = ? ORDER BY position LIMIT ?"
        return [int(row[0]) for row in self._all(query, term, limit)]

    def leaves(self) -> Iterator[bytes]:
        """Yield all leaf hashes in order, a part of the log at a time."""
        query = "SELECT leaf FROM entry WHERE position >= ? ORDER BY position LIMIT ?"
        position = 0
        while rows := self._all(query, position, _STREAM_ROWS):
            for (leaf,) in rows:
                yield leaf
            position += len(rows)

    def state(self, name: str) -> bytes | None:
        """Return the value last set under *name*, or None."""
        row = self._one("SELECT value FROM state WHERE name = ?", name)
        return None if row is None else bytes(row[0])

    def claim(self, name: str, value: bytes) -> bytes:
        """Return what is stored under *name*; store *value* first if nothing is.

        For facts that a log never changes, such as its origin and its tree id.
        """
        found = self.state(name)
        if found is None:
            self.append((), state={name: value})
            return value
        return found

    def close(self) -> None:
        """Close the file. A store that was not closed is recovered when it is opened again."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _one(self, query: str, *values: object) -> _Row | None:
        rows = self._all(query, *values)
        return rows[0] if rows else None

    def _all(self, query: str, *values: object) -> list[_Row]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as exc:
            raise StoreError(f"cannot read the log: {exc}") from exc

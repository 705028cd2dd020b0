"""The sandbox's log storage: order, atomicity, recovery and refusals."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from keylessd.sandbox.store import LogStore, NewRecord, Record, StoreError


def new(n: int, *, terms: tuple[str, ...] = ()) -> NewRecord:
    return NewRecord(
        leaf=bytes([n]) * 32, key=bytes([n]) * 4, body=b"body%d" % n, extra=b"x%d" % n, terms=terms
    )


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    opened = LogStore.in_memory() if request.param == "memory" else LogStore.open(tmp_path / "log")
    with opened:
        yield opened


def test_append_and_read(store):
    assert store.append([new(0), new(1)]) == 0
    assert store.append([new(2)]) == 2
    assert store.size == 3
    assert store.record(1) == Record(1, b"\x01" * 32, b"\x01" * 4, b"body1", b"x1")
    assert [r.index for r in store.records(1, 9)] == [1, 2]
    assert store.records(2, 2) == []
    assert [r.index for r in store.records(-5, 1)] == [0]
    assert list(store.leaves()) == [bytes([n]) * 32 for n in range(3)]


def test_absent_is_none(store):
    store.append([new(0)])
    assert store.record(1) is None
    assert store.record(-1) is None
    assert store.record(2**70) is None
    assert store.index_of(b"no") is None
    assert store.state("no") is None
    assert store.find("no") == []


def test_keys(store):
    store.append([new(n) for n in range(250)])
    store.append([NewRecord(leaf=b"l" * 32, key=b"k%d" % n, body=b"") for n in range(600)])
    assert store.index_of(b"\x07" * 4) == 7
    asked = [b"k%d" % n for n in range(700)]
    found = store.indexes_of(asked)
    assert found == {b"k%d" % n: 250 + n for n in range(600)}


def test_terms(store):
    store.append([new(0, terms=("a", "b")), new(1, terms=("b", "b"))])
    assert store.find("a") == [0]
    assert store.find("b") == [0, 1]
    assert store.find("b", limit=1) == [0]


def test_duplicate_key_writes_nothing(store):
    store.append([new(0)])
    with pytest.raises(StoreError):
        store.append([new(1, terms=("t",)), new(0)], state={"s": b"1"})
    assert store.size == 1
    assert store.record(1) is None
    assert store.find("t") == []
    assert store.state("s") is None
    assert store.append([new(1)]) == 1


def test_state(store):
    store.append([], state={"a": b"1"})
    store.append([new(0)], state={"a": b"2"})
    assert store.state("a") == b"2"


def test_claim_keeps_the_first(store):
    assert store.claim("origin", b"one") == b"one"
    assert store.claim("origin", b"two") == b"one"


def test_reopened_file_has_everything(tmp_path):
    with LogStore.open(tmp_path / "log") as store:
        store.append([new(n, terms=("t",)) for n in range(5)], state={"s": b"v"})
    with LogStore.open(tmp_path / "log", fsync=True) as store:
        assert store.size == 5
        assert store.find("t") == [0, 1, 2, 3, 4]
        assert store.state("s") == b"v"
        assert store.append([new(5)]) == 5


def test_entries_cannot_be_changed_or_deleted(tmp_path):
    with LogStore.open(tmp_path / "log") as store:
        store.append([new(0)])
    connection = sqlite3.connect(tmp_path / "log")
    try:
        for statement in ("DELETE FROM entry", "UPDATE entry SET body = x'00'"):
            with pytest.raises(sqlite3.IntegrityError, match="append only"):
                connection.execute(statement)
    finally:
        connection.close()


def test_second_opener_is_refused(tmp_path):
    with LogStore.open(tmp_path / "log") as store:
        store.append([new(0)])
        with pytest.raises(StoreError, match="locked"):
            LogStore.open(tmp_path / "log")
    LogStore.open(tmp_path / "log").close()


def test_log_with_a_gap_is_refused(tmp_path):
    with LogStore.open(tmp_path / "log") as store:
        store.append([new(0), new(1)])
    connection = sqlite3.connect(tmp_path / "log")
    connection.execute("DROP TRIGGER entry_delete")
    connection.execute("DELETE FROM entry WHERE position = 0")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="1 entries"):
        LogStore.open(tmp_path / "log")


@pytest.mark.parametrize("content", [b"not a database at all" * 100])
def test_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(StoreError):
        LogStore.open(tmp_path / "log")


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(StoreError):
        LogStore.open(tmp_path / "no" / "log")


def test_closed_store_raises_its_own_error(tmp_path):
    store = LogStore.open(tmp_path / "log")
    store.close()
    with pytest.raises(StoreError):
        store.append([new(0)])
    with pytest.raises(StoreError):
        store.find("x")


KILLED = """
import os, signal, sys
from pathlib import Path
from keylessd.sandbox.store import LogStore, NewRecord
store = LogStore.open(Path(sys.argv[1]))
for n in range(50):
    store.append([NewRecord(leaf=bytes([n]) * 32, key=bytes([n, i]), body=b"") for i in range(3)])
store._connection.execute("BEGIN")
store._connection.execute("INSERT INTO entry VALUES (150, x'00', x'00', x'00', x'00')")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.system
def test_killed_process_loses_no_commit_and_leaves_no_half(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "log")],
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -signal.SIGKILL
    with LogStore.open(tmp_path / "log") as store:
        assert store.size == 150
        assert len(list(store.leaves())) == 150

"""The ledger keeps every record, chains them, stays bounded, and fails closed."""

from __future__ import annotations

import errno
import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from keylessd.flow.threads import Threads, run_inline
from keylessd.ops.ledger import READ_LIMIT, Ledger, LedgerError, first_break, text


class Clock:
    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC)


def opened(path: Path, **options) -> Ledger:
    ledger = Ledger(path / "state" / "ledger.jsonl", Clock(), session="s", **options)
    ledger.open()
    return ledger


def records(ledger: Ledger, limit: int = READ_LIMIT):
    return [json.loads(line) for line in ledger.read(limit)]


def test_attempt_and_outcome(tmp_path):
    ledger = opened(tmp_path)
    name = ledger.attempt({"op": "sign"})
    ledger.outcome(name, {"result": "ok"})
    first, second = records(ledger)
    assert (first["event"], first["seq"], first["op"]) == ("attempt", 1, "sign")
    assert (second["event"], second["seq"], second["result"]) == ("outcome", 2, "ok")
    assert first["id"] == second["id"]
    assert first["time"] == "2026-03-01T00:00:00+00:00"


def test_files_are_private(tmp_path):
    ledger = opened(tmp_path)
    ledger.attempt({})
    folder = tmp_path / "state"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "ledger.jsonl").stat().st_mode) == 0o600


def test_records_are_chained_also_over_a_restart(tmp_path):
    for _ in range(3):
        ledger = opened(tmp_path)
        for _ in range(3):
            ledger.attempt({})
        ledger.close()
    lines = opened(tmp_path).read(100)
    assert len(lines) == 9
    assert first_break(lines) is None
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 10))


def test_records_are_ascii_whatever_is_in_them(tmp_path):
    ledger = opened(tmp_path)
    hostile = "\x1b]0;x\x07 \u202e \x9b31m \ud800 \U0001f511\n"
    ledger.attempt({"name": hostile})
    [line] = ledger.read(1)
    assert line.isascii()
    assert line.decode().isprintable()
    assert json.loads(line)["name"] == hostile


def test_the_longest_texts_fit_into_a_record(tmp_path):
    ledger = opened(tmp_path)
    ledger.attempt({f"field{number}": text("\U0001f511" * 300) for number in range(9)})
    assert len(ledger.read(1)) == 1


@pytest.mark.parametrize("spoiled", range(4))
def test_a_changed_record_breaks_the_chain(tmp_path, spoiled):
    ledger = opened(tmp_path)
    for number in range(5):
        ledger.attempt({"n": number})
    lines = list(ledger.read(100))
    lines[spoiled] = lines[spoiled].replace(b'"n":', b'"m":')
    assert first_break(lines) == spoiled + 1


def test_a_missing_record_breaks_the_chain(tmp_path):
    ledger = opened(tmp_path)
    for _ in range(5):
        ledger.attempt({})
    lines = ledger.read(100)
    assert first_break([*lines[:2], *lines[3:]]) == 2


def test_a_torn_record_stays_as_evidence(tmp_path):
    ledger = opened(tmp_path)
    ledger.attempt({"n": 1})
    ledger.attempt({"n": 2})
    ledger.close()
    path = tmp_path / "state" / "ledger.jsonl"
    os.truncate(path, path.stat().st_size - 20)
    torn = path.read_bytes().split(b"\n")[-1]

    ledger = opened(tmp_path)
    ledger.attempt({"n": 3})
    lines = ledger.read(100)
    assert lines[1] == torn
    assert (json.loads(lines[2])["n"], json.loads(lines[2])["seq"]) == (3, 3)
    assert first_break(lines) == 1
    assert first_break(lines[1:]) is None


def test_size_is_bounded_and_the_chain_goes_on_from_file_to_file(tmp_path):
    ledger = opened(tmp_path, file_bytes=2000, files_kept=3)
    for number in range(100):
        ledger.attempt({"n": number})
    files = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert files == ["ledger.jsonl", "ledger.jsonl.1", "ledger.jsonl.2"]
    assert all(path.stat().st_size <= 2000 for path in (tmp_path / "state").iterdir())
    lines = ledger.read(100)
    assert first_break(lines) is None
    assert json.loads(lines[-1])["n"] == 99
    assert 15 < len(lines) < 100


def test_a_crash_between_two_files_keeps_the_chain(tmp_path):
    ledger = opened(tmp_path)
    ledger.attempt({})
    ledger.close()
    path = tmp_path / "state" / "ledger.jsonl"
    path.rename(path.with_name("ledger.jsonl.1"))
    ledger = opened(tmp_path)
    ledger.attempt({})
    assert first_break(ledger.read(10)) is None
    assert [record["seq"] for record in records(ledger)] == [1, 2]


@pytest.mark.parametrize("limit", [-1, 0, 1, 2, 50, 10**9])
def test_reading_is_bounded(tmp_path, limit):
    ledger = opened(tmp_path)
    for number in range(10):
        ledger.attempt({"n": number, "long": "x" * 3000})
    expected = list(range(10))[-limit:] if limit > 0 else []
    assert [record["n"] for record in records(ledger, limit)] == expected


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_no_record_no_signature(tmp_path, monkeypatch):
    ledger = opened(tmp_path)
    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(LedgerError):
        ledger.attempt({})
    assert ledger.failures == 1


def test_open_failure_signs_on_and_counts(tmp_path, monkeypatch):
    ledger = opened(tmp_path, on_failure="open")
    monkeypatch.setattr(os, "write", full_disk)
    name = ledger.attempt({})
    ledger.outcome(name, {})
    assert ledger.failures == 2


def test_an_outcome_that_cannot_be_written_hides_no_signature(tmp_path, monkeypatch):
    ledger = opened(tmp_path)
    name = ledger.attempt({})
    monkeypatch.setattr(os, "write", full_disk)
    ledger.outcome(name, {})
    assert ledger.failures == 1


def test_half_a_record_is_taken_back(tmp_path, monkeypatch):
    ledger = opened(tmp_path)
    ledger.attempt({"n": 1})
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    with pytest.raises(LedgerError):
        ledger.attempt({"n": 2})
    monkeypatch.undo()
    ledger.attempt({"n": 3})
    assert [record["n"] for record in records(ledger)] == [1, 3]
    assert first_break(ledger.read(10)) is None


def test_full_disk_moves_no_file_however_often_it_is_tried(tmp_path, monkeypatch):
    ledger = opened(tmp_path, file_bytes=300, files_kept=3)
    for number in range(6):
        ledger.attempt({"n": number, "long": "x" * 100})
    before = {path.name: path.read_bytes() for path in sorted(tmp_path.rglob("ledger*"))}
    assert len(before) == 3
    real = os.open

    def no_new_file(path, flags, *mode):
        if flags & os.O_CREAT and not Path(path).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", no_new_file)
    for _ in range(5):
        with pytest.raises(LedgerError, match="No space left"):
            ledger.attempt({"n": "none", "long": "x" * 200})
    assert {path.name: path.read_bytes() for path in sorted(tmp_path.rglob("ledger*"))} == before
    monkeypatch.undo()
    ledger.attempt({"n": 6, "long": "x" * 200})
    assert first_break(ledger.read(10)) is None


def test_a_ledger_that_cannot_be_opened(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ledger.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError):
        opened(tmp_path)


def test_a_closed_ledger_takes_nothing(tmp_path):
    ledger = opened(tmp_path)
    ledger.close()
    with pytest.raises(LedgerError):
        ledger.attempt({})


def test_hostile_text_stays_in_its_record(tmp_path):
    ledger = opened(tmp_path)
    hostile = '\n{"event":"outcome"}\u2028\x00' + "\U0001f600" * 1000
    for _ in range(3):
        ledger.attempt({str(n): text(hostile) for n in range(8)})
    assert len(ledger.read(10)) == 3
    assert len(records(ledger)[0]["0"]) <= 256


async def test_many_records_are_one_flush(autojump_clock, tmp_path):
    ledger = opened(tmp_path)
    flushed = []

    async def counting(fn, *args, limiter=None, abandon_on_cancel=False):
        flushed.append(fn)
        return await run_inline(fn, *args)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ledger.run, Threads(counting))
        for _ in range(100):
            ledger.attempt({})
        await trio.sleep(5)
        assert flushed == [os.fsync]
        ledger.attempt({})
        await trio.sleep(5)
        assert flushed == [os.fsync] * 2
        nursery.cancel_scope.cancel()
    ledger.close()

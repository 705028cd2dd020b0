"""The daemon's own record of what it signed: JSON lines, chained by hash, bounded.

For each signature an ``attempt`` is written before any service is asked, and an ``outcome``
after. So a crash in between leaves evidence, and what a log holds under our identity can be
told from what somebody else signed. No key, token or artifact is in it. Lines are ASCII: foreign
text in them drives no terminal.

A line is handed to the kernel before the request goes on, and to the disk within a second, by
one flush for all lines since. A crash of the daemon loses nothing but the record that it was
writing: of an attempt that was not begun then, or an outcome. A crash of the machine may lose the
last second. See decisions/0010-ledger.md.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import trio

from keylessd.errors import DaemonError
from keylessd.log import EventLog
from keylessd.services.urls import printable

if TYPE_CHECKING:
    from pathlib import Path

    from keylessd.clock import Clock
    from keylessd.flow.threads import Threads

Value = str | int | bool | None | list["Value"] | dict[str, "Value"]

VERSION = 1
FILE_BYTES = 16 << 20  # a file of about 13,000 signatures; then the next one is begun
FILES_KEPT = 8
LINE_BYTES = 32768  # no record is longer, and most are under 1,000
USUAL_LINE_BYTES = 1024
TEXT_CHARACTERS = 256  # of one text from outside
READ_LIMIT = 1000  # records
TORN_LINES = 16  # looked at for the last whole record
FLUSH_SECONDS = 1.0
NO_HASH = "0" * 64  # of the line before the first

_encode = json.JSONEncoder(separators=(",", ":")).encode
_log = EventLog(__name__)


class LedgerError(DaemonError):
    """The ledger cannot be written, so nothing is signed; or it cannot be read."""

    code = "ledger_unavailable"
    retryable = True
    default_hint: ClassVar[str | None] = (
        "free space on the disk that holds the daemon's state directory"
    )


class Ledger:
    """Appends records to one file and keeps the last few files.

    Used by one task at a time; a record is one synchronous write.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        session: str,
        on_failure: Literal["closed", "open"] = "closed",
        file_bytes: int = FILE_BYTES,
        files_kept: int = FILES_KEPT,
    ) -> None:
        """Store the parts; open() comes next.

        Args:
            path: The current file; older ones have ``.1``, ``.2`` ... after its name. The
                caller sees to it that nobody else writes it.
            clock: Dates the records.
            session: Begins the ids of this run's records; random, so that no two runs share them.
            on_failure: ``"open"``: sign on when no record can be written, and say so in the log.
            file_bytes: Size at which the next file is begun.
            files_kept: How many files there are at most.
        """
        self._path = path
        self._shown = f"the ledger {printable(str(path))}"
        self._clock = clock
        self._session = session
        self.on_failure = on_failure
        self._file_bytes = file_bytes
        self._files_kept = files_kept
        self._fd = -1
        self._size = 0
        self._count = 0
        self._sequence = 0
        self._previous = NO_HASH
        self._dirty = trio.Event()
        self.failures = 0

    def open(self) -> None:
        """Open the file, and go on where its last line ends.

        Raises:
            LedgerError: it cannot be opened.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = _open(self._path)
            self._size = os.fstat(self._fd).st_size
            last = _last_lines(self._path) or _last_lines(self._older(1))
            if self._size and not _ends_complete(self._path):
                # A crash or a SIGKILL cut the last record. It stays, as the evidence it is.
                self._size += os.write(self._fd, b"\n")
        except OSError as exc:
            self.close()
            raise LedgerError(f"{self._shown} cannot be opened: {exc.strerror}") from exc
        if last:
            self._previous = hashlib.sha256(last[-1]).hexdigest()
            self._sequence = _sequence_of(last)

    def close(self) -> None:
        """Flush and close the file."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                os.fsync(fd)
            except OSError as exc:
                _log.error("ledger.flush", exc=exc)
            os.close(fd)

    def attempt(self, facts: Mapping[str, Value]) -> str:
        """Record that a signature is about to be made; return the id of the attempt.

        Raises:
            LedgerError: the record cannot be written, and the ledger fails closed.
        """
        self._count += 1
        attempt_id = f"{self._session}-{self._count}"
        try:
            self._write("attempt", attempt_id, facts)
        except (OSError, ValueError) as exc:
            self.failures += 1
            _log.error("ledger.attempt", exc=exc)
            if self.on_failure == "closed":
                reason = getattr(exc, "strerror", None) or str(exc)
                raise LedgerError(f"{self._shown} cannot be written: {reason}") from exc
        return attempt_id

    def outcome(self, attempt_id: str, facts: Mapping[str, Value]) -> None:
        """Record how an attempt ended.

        A failure to write is logged only: the signature exists, and hiding it helps nobody.
        """
        try:
            self._write("outcome", attempt_id, facts)
        except (OSError, ValueError) as exc:
            self.failures += 1
            _log.error("ledger.outcome", exc=exc, attempt=attempt_id)

    def read(self, limit: int) -> tuple[bytes, ...]:
        """Return the last records, oldest first, each one line of JSON without its end.

        Args:
            limit: How many at most; more than READ_LIMIT are not given.

        Raises:
            LedgerError: a file cannot be read.
        """
        limit = max(0, min(limit, READ_LIMIT))
        lines: list[bytes] = []
        try:
            for number in range(self._files_kept):
                path = self._path if number == 0 else self._older(number)
                if len(lines) >= limit or not path.exists():
                    break
                lines = _tail(path, limit - len(lines)) + lines
        except OSError as exc:
            raise LedgerError(f"{self._shown} cannot be read: {exc.strerror}") from exc
        return tuple(lines)

    async def run(self, threads: Threads) -> None:
        """Bring new records to the disk, for ever, once per FLUSH_SECONDS at most."""
        while True:
            await self._dirty.wait()
            await trio.sleep(FLUSH_SECONDS)
            self._dirty = trio.Event()
            if self._fd < 0:
                continue
            fd = os.dup(self._fd)  # the file may be changed for the next one meanwhile
            try:
                await threads.run("disk", os.fsync, fd)
            except OSError as exc:
                self.failures += 1
                _log.error("ledger.flush", exc=exc)
            finally:
                os.close(fd)

    def _write(self, event: str, attempt_id: str, facts: Mapping[str, Value]) -> None:
        if self._fd < 0:
            raise OSError(0, "the ledger is not open")
        record = {
            "v": VERSION,
            "seq": self._sequence + 1,
            "time": self._clock.now().isoformat(),
            "event": event,
            "id": attempt_id,
            **facts,
            "prev": self._previous,
        }
        line = _encode(record).encode("ascii")
        if len(line) >= LINE_BYTES:
            raise ValueError(f"a record of {len(line)} bytes; the limit is {LINE_BYTES}")
        if self._size and self._size + len(line) >= self._file_bytes:
            self._rotate()
        written = os.write(self._fd, line + b"\n")
        if written != len(line) + 1:
            # The disk is full. Half a record would be taken for a crash.
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, "no space left on the device")
        self._size += written
        self._sequence += 1
        self._previous = hashlib.sha256(line).hexdigest()
        self._dirty.set()

    def _rotate(self) -> None:
        os.fsync(self._fd)
        # First of all: where this fails, no file has moved, however often it is tried.
        new = self._path.with_name(f"{self._path.name}.new")
        fd = _open(new)
        for number in range(self._files_kept - 1, 0, -1):
            younger = self._path if number == 1 else self._older(number - 1)
            if younger.exists():
                younger.replace(self._older(number))
        new.replace(self._path)
        os.close(self._fd)
        self._fd, self._size = fd, 0

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def text(value: str) -> str:
    """Return text from outside as a record may hold it: cut to TEXT_CHARACTERS."""
    return value if len(value) <= TEXT_CHARACTERS else value[: TEXT_CHARACTERS - 3] + "..."


def first_break(lines: Iterable[bytes]) -> int | None:
    """Return the position of the first line that does not follow the one before it, or None.

    A record torn by a crash or a SIGKILL follows nothing; the one after it follows it.

    Args:
        lines: Consecutive lines, oldest first. The first of them is taken as it is.
    """
    previous: str | None = None
    for position, line in enumerate(lines):
        if previous is not None and _member(line, "prev") != previous:
            return position
        previous = hashlib.sha256(line).hexdigest()
    return None


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


def _tail(path: Path, limit: int) -> list[bytes]:
    """Return the last *limit* lines, at least 1, reading as little as possible."""
    block = limit * USUAL_LINE_BYTES
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        while True:
            start = max(0, size - block)
            file.seek(start)
            lines = file.read().split(b"\n")
            whole = [line for line in (lines[1:] if start else lines) if line]
            if len(whole) >= limit or start == 0:
                return whole[-limit:]
            block *= 4


def _last_lines(path: Path) -> list[bytes]:
    return _tail(path, TORN_LINES) if path.exists() else []


def _ends_complete(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _sequence_of(lines: list[bytes]) -> int:
    """Return the number of the last of some lines, of which the last ones may be torn."""
    for after, line in enumerate(reversed(lines)):
        value = _member(line, "seq")
        if isinstance(value, int):
            return value + after
    return len(lines)


def _member(line: bytes, name: str) -> object:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value.get(name) if isinstance(value, dict) else None

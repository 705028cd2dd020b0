"""Makes our own listening socket, or describes an inherited one, and accepts from either.

A socket of ours is born with mode 0600 in a directory of mode 0700, beside a lock file that
lives as long as the daemon. The lock decides who serves; what a killed daemon left behind is
removed only by the holder of the lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

from keylessd.log import EventLog

# Connections that wait to be accepted. Whoever finds it full waits in connect(), one place per
# thread, while a flood fills it: with 512 a healthy client took ten times as long as without a
# flood, with 64 twice. Clients that cannot wait there must try again (EAGAIN).
BACKLOG: Final = 64
ACCEPT_BATCH: Final = 8  # accepted before other tasks get their turn
# Served ones of a batch: each starts a task, which costs a hundred times a refusal.
ADMIT_BATCH: Final = 2
EXHAUSTED_PAUSE: Final = 0.05  # seconds until the next try when descriptors ran out

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
# The client was gone again before we took it, or a signal came: nothing to worry about.
_PASSING: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EINTR, errno.EPERM})
_MAX_LOCK_TEXT: Final = 64  # bytes

_log = EventLog(__name__)


class ListenError(Exception):
    """The socket cannot be made; the message says what to do."""


class SocketInUseError(ListenError):
    """Another daemon serves this path.

    Attributes:
        holder: Its process id, or None if it did not say.
    """

    def __init__(self, path: Path, holder: int | None) -> None:
        who = "another process" if holder is None else f"another keylessd, process {holder},"
        super().__init__(f"{who} serves {path} already")
        self.holder = holder


@dataclass(frozen=True, slots=True)
class Listening:
    """One listening socket.

    Attributes:
        name: ``sign`` or ``admin``.
        path: Where clients find it, for people; empty for one that has no path.
        connect_to: Address by which this process itself can reach it, of any path's length.
        listener: The socket, not blocking.
        born: Device and inode of its node, if we made it.
    """

    name: str
    path: str
    connect_to: str
    listener: socket.socket
    born: tuple[int, int] | None = None


class OwnSocket:
    """A socket we made, with its lock; both go when it is closed.

    Args:
        path: Where to make it. The directory is made if only its last part is missing.
        claim: Called under the lock and before the socket is there: whatever else the daemon
            needs, so that nobody connects to one that then cannot start.

    Raises:
        SocketInUseError: another daemon holds the lock, or answers at the path.
        ListenError: directory or path is not as it must be.
    """

    def __init__(self, path: Path, *, claim: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self._directory = _open_directory(path.parent)
        self._lock: int | None = None
        self._born: tuple[int, int] | None = None
        self._listener: socket.socket | None = None
        try:
            self._lock = _take_lock(self._directory, path)
            claim()
            _remove_stale(self._directory, path)
            self._listener = self._bind()
        except BaseException:
            self.close()
            raise

    @property
    def listening(self) -> Listening:
        """What to accept from."""
        assert self._listener is not None  # noqa: S101  # until close()
        return Listening(
            name="sign",
            path=str(self.path),
            connect_to=_address(self._directory, self.path.name),
            listener=self._listener,
            born=self._born,
        )

    def close(self) -> None:
        """Remove the socket if it still is ours, then let the lock go. Can be called again."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._born is not None:
            with suppress(OSError):
                found = os.stat(self.path.name, dir_fd=self._directory, follow_symlinks=False)
                if (found.st_dev, found.st_ino) == self._born:
                    os.unlink(self.path.name, dir_fd=self._directory)
            self._born = None
        # The lock file itself stays: to remove it would let two daemons lock two files.
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def _bind(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Before bind(): the node is born with this mode, whatever the umask. Afterwards it
            # would change the socket's own inode and not the node.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(_address(self._directory, self.path.name))
            born = os.stat(self.path.name, dir_fd=self._directory, follow_symlinks=False)
            self._born = (born.st_dev, born.st_ino)
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except OSError as exc:
            listener.close()
            reason = exc.strerror or str(exc)
            if not os.path.exists(_address(self._directory, "")):
                reason = "/proc is needed to make it, and is not mounted"
            raise ListenError(f"{self.path}: {reason}") from exc
        return listener


def describe_inherited(name: str, listener: socket.socket) -> Listening:
    """Describe a socket that the service manager made; it is never unlinked here."""
    address = listener.getsockname()
    path = address if isinstance(address, str) else ""
    return Listening(name=name, path=path, connect_to=path, listener=listener)


def _address(directory: int, name: str) -> str:
    """Name an entry of an open directory: safe from a swapped path, and never too long."""
    return f"/proc/self/fd/{directory}/{name}"


def _open_directory(path: Path) -> int:
    """Open the socket's directory, and refuse one that others could have a hand in."""
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ListenError(f"the directory {path.parent} does not exist") from None
    except OSError as exc:
        raise ListenError(f"the socket's directory {path}: {exc.strerror}") from exc
    found = os.fstat(directory)
    problem = None
    if found.st_uid != os.geteuid():
        problem = f"belongs to uid {found.st_uid}, not to uid {os.geteuid()}"
    elif stat.S_IMODE(found.st_mode) & 0o077:
        problem = f"is open to others (mode {stat.S_IMODE(found.st_mode):04o}); chmod it to 700"
    if problem is not None:
        os.close(directory)
        raise ListenError(f"the socket's directory {path} {problem}")
    return directory


def _take_lock(directory: int, path: Path) -> int:
    name = f"{path.name}.lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        lock = os.open(name, flags, 0o600, dir_fd=directory)
    except OSError as exc:
        raise ListenError(f"the lock {path}.lock: {exc.strerror}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(lock)
        os.close(lock)
        raise SocketInUseError(path, holder) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _holder(lock: int) -> int | None:
    text = os.pread(lock, _MAX_LOCK_TEXT, 0).strip()
    return int(text) if text.isdigit() else None


def _remove_stale(directory: int, path: Path) -> None:
    """Remove the socket of a daemon that was killed; the caller holds the lock."""
    try:
        found = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise ListenError(f"{path} exists and is no socket of ours; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(_address(directory, path.name))
        except ConnectionRefusedError:
            os.unlink(path.name, dir_fd=directory)
        except OSError:  # a full backlog, for one: somebody listens
            raise SocketInUseError(path, None) from None
        else:
            # Somebody serves it without our lock: a socket unit, or a foreign program.
            raise SocketInUseError(path, None)


# --- accepting -------------------------------------------------------------------------------


class Accepting(Protocol):
    """The one method of a socket that the loop uses."""

    def accept(self) -> tuple[socket.socket, object]:
        """Return the next connection, or raise BlockingIOError."""
        ...


async def accept_forever(
    listener: Accepting,
    admit: Callable[[socket.socket], bool],
    *,
    wait_readable: Callable[[], Awaitable[None]],
    exhausted: Callable[[], None],
) -> None:
    """Accept until cancelled; survives every error that passes.

    Connections are taken in batches without a task each, so that a flood of refused ones
    drains in microseconds apiece and an honest client in the queue behind it soon has its turn.

    Args:
        listener: Where from; not blocking.
        admit: Takes the connection, closing it if it is refused; returns whether it is served.
        wait_readable: Returns when there may be a connection.
        exhausted: Called when the process or the system has run out of descriptors or memory.
    """
    failing = False
    while True:
        await wait_readable()
        served = 0
        for _ in range(ACCEPT_BATCH):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno in _PASSING:
                    continue
                if exc.errno not in _EXHAUSTED:
                    raise
                if not failing:
                    _log.warning("accept.exhausted", errno=errno.errorcode[exc.errno or 0])
                failing = True
                exhausted()
                await trio.sleep(EXHAUSTED_PAUSE)
                break
            failing = False
            served += admit(connection)
            if served >= ADMIT_BATCH:
                break
        await trio.lowlevel.checkpoint()

"""Asks the kernel who is at the other end of a socket. Decides nothing; reads no byte of theirs.

``credentials()`` is one system call and comes first, so that a refused connection costs no more.
``describe()`` adds what needs files of /proc, and proves that those files speak of the same
process: a PID may be used again, a pidfd is not.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

# linux/socket.h; Python 3.11 has no names for these.
SO_PEERGROUPS: Final = 59
SO_PEERPIDFD: Final = 77  # Linux 6.5

_UCRED: Final = struct.Struct("=iII")  # pid, uid, gid of unix(7)
_GID: Final = struct.Struct("=I")
_MAX_GROUPS: Final = 1024
_START_TIME_FIELD: Final = 22 - 3  # of /proc/PID/stat, counted after the command's ")"
_MAX_STAT: Final = 4096  # bytes
_WHOLE_MAP: Final = ["0", "0", "4294967295"]  # of the first user namespace: nobody is unknown


class Credentials(NamedTuple):
    """uid, gid and pid at the moment of connect(2), in our namespaces.

    pid is 0 for a process of a foreign PID namespace. A socket that was passed on or inherited
    still shows who connected.
    """

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What the kernel says about a peer beyond its credentials.

    Attributes:
        credentials: The peer's uid, gid and pid.
        groups: Supplementary groups.
        started: Start time in clock ticks after boot, or None if it could not be pinned to
            the same process; with the pid it names the process for good.
        alive: Whether the process still ran after its facts were read; None if unknown.
    """

    credentials: Credentials
    groups: tuple[int, ...]
    started: int | None
    alive: bool | None


def credentials(peer: socket.socket) -> Credentials:
    """Return who connected.

    Raises:
        OSError: the socket has no peer.
    """
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return Credentials(pid=pid, uid=uid, gid=gid)


def describe(peer: socket.socket, who: Credentials, *, proc: Path = Path("/proc")) -> PeerFacts:
    """Gather the facts about the process *who*; whatever cannot be known is None or empty."""
    groups = _groups(peer)
    pidfd = _pidfd(peer)
    if pidfd is None:
        # No handle on the process: the start time alone proves nothing, so it is not claimed.
        return PeerFacts(credentials=who, groups=groups, started=None, alive=None)
    try:
        started = _start_time(proc, who.pid) if who.pid > 0 else None
        # Asked after reading: if it is alive now, /proc/PID was this process all along.
        alive = _alive(pidfd)
    finally:
        os.close(pidfd)
    return PeerFacts(
        credentials=who, groups=groups, started=started if alive else None, alive=alive
    )


def is_nobody(uid: int, *, proc: Path = Path("/proc")) -> bool:
    """Return whether *uid* is the one that stands for every user unknown in our namespace.

    A daemon that runs under that uid in a user namespace could not tell its own user from others.
    """
    try:
        overflow = int((proc / "sys/kernel/overflowuid").read_text())
        mapped = (proc / "self/uid_map").read_text().split()
    except (OSError, ValueError):
        return False
    return uid == overflow and mapped != _WHOLE_MAP


def _alive(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def _groups(peer: socket.socket) -> tuple[int, ...]:
    try:
        raw = peer.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _MAX_GROUPS)
    except OSError:  # more groups than fit, or an old kernel
        return ()
    return tuple(gid for (gid,) in _GID.iter_unpack(raw[: len(raw) // 4 * 4]))


def _pidfd(peer: socket.socket) -> int | None:
    """Return a descriptor for the peer process, or None; the caller closes it."""
    with suppress(OSError):
        raw = peer.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, struct.calcsize("=i"))
        fd: int = struct.unpack("=i", raw)[0]
        with suppress(OSError):
            os.set_inheritable(fd, False)
        return fd
    return None


def _start_time(proc: Path, pid: int) -> int | None:
    try:
        # Not through a file object, which costs more than the kernel's work.
        fd = os.open(f"{proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = os.read(fd, _MAX_STAT)
        finally:
            os.close(fd)
        # The command stands in parentheses and may hold spaces and parentheses itself.
        return int(stat[stat.rindex(b")") + 2 :].split()[_START_TIME_FIELD])
    except (OSError, ValueError, IndexError):
        return None

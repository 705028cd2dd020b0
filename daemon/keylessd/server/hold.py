"""Holds the state directory for one daemon at a time, and notices that our socket is gone.

Both are about daemons that outlive their socket: at a logout the runtime directory is removed,
the next login starts another daemon, and two must never write one ledger.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from keylessd.log import EventLog

if TYPE_CHECKING:
    from keylessd.server.listen import Listening

LOCK: Final = "keylessd.lock"  # in the state directory
LOOK_SECONDS: Final = 2.0  # between two looks for our socket
# How long the predecessor is waited for: until it has noticed, and has answered what it runs.
PATIENCE_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.05
_MAX_LOCK_TEXT: Final = 64  # bytes

_log = EventLog(__name__)


class StateHeldError(Exception):
    """Another daemon keeps its ledger in the state directory."""

    def __init__(self, directory: Path, holder: int | None) -> None:
        who = "another process" if holder is None else f"another keylessd, process {holder},"
        super().__init__(f"{who} uses the state directory {directory}; give this one another")


def hold_state(
    directory: Path,
    *,
    patience: float = PATIENCE_SECONDS,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Take the lock in the state directory; it is held until the descriptor is closed.

    Args:
        directory: Is there, and belongs to us.
        patience: Seconds to wait for another daemon that is about to end.
        now: Seconds that never go back.
        sleep: Waits so many seconds.

    Returns:
        The lock's descriptor. It ends with the process, however that ends.

    Raises:
        StateHeldError: another daemon has it and keeps it.
        OSError: the lock file cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(directory / LOCK, flags, 0o600)
    deadline = now() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if now() >= deadline:
                text = os.pread(lock, _MAX_LOCK_TEXT, 0).strip()
                os.close(lock)
                holder = int(text) if text.isdigit() else None
                raise StateHeldError(directory, holder) from None
            sleep(POLL_SECONDS)
        else:
            break
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


async def wait_until_gone(listening: Listening) -> None:
    """Return when a socket of ours is no longer at its path: no client will ever come again.

    Never returns for an inherited one: the service manager knows what becomes of it.
    """
    if listening.born is None:
        await trio.sleep_forever()
    while True:
        await trio.sleep(LOOK_SECONDS)
        try:
            found = os.lstat(listening.path)
        except FileNotFoundError:
            break
        except OSError as exc:
            # An automounter, a network file system: gone for good is something else.
            _log.debug("socket.unseen", problem=exc.strerror or "")
            continue
        if (found.st_dev, found.st_ino) != listening.born:
            break
    _log.warning("socket.gone", path=listening.path)

"""What the system shows of the daemon, to root and to a plain user.

The daemon is not dumpable: its files in /proc belong to root, and a plain user who runs the tests
may look into them as little as any other program of that user may (proc(5)).
"""

from __future__ import annotations

from pathlib import Path


def shown_of(pid: int) -> dict[str, bytes]:
    """Return by path what the tests can read of a process: its command line, its environment.

    What cannot be read is left out only if it is kept from everybody but root.

    Raises:
        PermissionError: something that is not root's cannot be read.
    """
    found = {}
    for path in (Path(f"/proc/{pid}/environ"), Path(f"/proc/{pid}/cmdline")):
        try:
            found[str(path)] = path.read_bytes()
        except PermissionError:
            if path.stat().st_uid != 0:
                raise
    assert found
    return found


def descriptors(pid: int) -> int | None:
    """Return how many descriptors a process has open, or None if only root may know."""
    folder = Path(f"/proc/{pid}/fd")
    try:
        return len(list(folder.iterdir()))
    except PermissionError:
        if folder.stat().st_uid != 0:
            raise
        return None

"""What a process settles at its start: no core dumps, no ptrace, descriptor limits, its name."""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress
from typing import Final

PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
PR_SET_NAME: Final = 15
NAME: Final = b"keylessd"  # the kernel keeps 15 bytes
M_MMAP_THRESHOLD: Final = -3  # malloc.h of glibc
M_ARENA_MAX: Final = -8
LARGE_BUFFER: Final = 256 << 10  # bytes
ARENAS: Final = 2  # one for the event loop, one for all worker threads
WANTED_DESCRIPTORS: Final = 8192
# Of these: standard streams, trio, upstream connections, the trust cache, a margin.
RESERVED_DESCRIPTORS: Final = 256
# With fewer the daemon cannot load its libraries and serve one connection.
LEAST_DESCRIPTORS: Final = 64


class TooFewDescriptorsError(Exception):
    """The daemon may open fewer files than it needs."""


def protect_memory() -> None:
    """Keep the process's memory from core files and from other processes of the same user.

    Raises:
        OSError: the kernel refuses, which it never does on Linux.
    """
    with suppress(OSError, ValueError):
        # A service manager that forbids the call has set the limit itself.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def name_process() -> None:
    """Let `ps`, `pgrep` and `pkill` know the process by its own name, not the interpreter's.

    To be called by the main thread, whose name is that of the process.
    """
    ctypes.CDLL(None).prctl(PR_SET_NAME, NAME, 0, 0, 0)


def return_freed_memory() -> None:
    """Give large buffers back to the system when they are freed.

    glibc otherwise learns from the first large buffer to keep the next ones, and the daemon
    would stay as large as its largest moment.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have no such fault
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_BUFFER)
        mallopt(M_ARENA_MAX, ARENAS)


def raise_descriptor_limit() -> int:
    """Use as many descriptors as we may; return how many connections they are enough for.

    A connection takes two for the moment in which its peer is identified.

    Raises:
        TooFewDescriptorsError: they are not enough for the daemon itself.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = WANTED_DESCRIPTORS if hard == unlimited else min(WANTED_DESCRIPTORS, hard)
    if soft != unlimited and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft != unlimited and soft < LEAST_DESCRIPTORS:
        raise TooFewDescriptorsError(
            f"it may open {soft} files only, and {LEAST_DESCRIPTORS} are the least (ulimit -n)"
        )
    if soft == unlimited:
        return WANTED_DESCRIPTORS
    return max(1, min(soft // 2, soft - RESERVED_DESCRIPTORS))

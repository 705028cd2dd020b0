"""Runs a CI system's own command for a token: bounded in time and output, nothing left behind.

Not `subprocess`: importing that takes longer than all else that a client does, and it reads
without a bound.
"""

import os
import select
import signal
import time

from keyless.errors import KeylessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SECONDS = 30.0  # the command asks a server of its own
MAX_OUTPUT = 65_536  # bytes
MAX_COMPLAINT = 4096  # bytes of its error output that are looked at
SHOWN = 300  # characters of it that are shown
READ_SIZE = 65_536
MAX_PIECES = 64  # reads from one pipe after the end; a pipe holds 64 KiB, or 1 MiB if it was asked


def run(
    argv: "list[str]",
    environ: "Mapping[str, str]",
    *,
    seconds: float = SECONDS,
    clock: "Callable[[], float]" = time.monotonic,
) -> str:
    """Return what a program prints.

    Args:
        argv: Path of the program, and its arguments. No secret: every user can read them.
        environ: Its environment.
        seconds: How long it may take.
        clock: Seconds that never go back.

    Raises:
        KeylessError: ``identity_unavailable``: it cannot be run, fails, takes too long or prints
            too much. What it printed on its error output is shown, without what looks like a
            token.
    """
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    try:
        pid = os.posix_spawn(
            argv[0],
            argv,
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, out_write, 1),
                (os.POSIX_SPAWN_DUP2, err_write, 2),
            ],
            # A group of its own, so that what it starts ends with it.
            setpgroup=0,
        )
    except OSError as exc:
        os.close(out_read)
        os.close(err_read)
        raise _failed(argv, f"cannot be run: {exc.strerror}") from exc
    finally:
        os.close(out_write)
        os.close(err_write)
    watch = os.pidfd_open(pid)
    printed: _Printed | None = None
    try:
        printed = _read(watch, out_read, err_read, clock() + seconds, clock)
    finally:
        status = _end(pid)
        for descriptor in (watch, out_read, err_read):
            os.close(descriptor)
    if printed is None:
        raise _failed(argv, f"did not end within {seconds:g} seconds", retryable=True)
    if len(printed.out) > MAX_OUTPUT:
        raise _failed(argv, f"printed more than {MAX_OUTPUT} bytes")
    if status != 0:
        complaint = _shown(printed.err)
        raise _failed(
            argv, f"failed with status {status}" + (f": {complaint}" if complaint else "")
        )
    return printed.out.decode("utf-8", "replace")


class _Printed:
    """What came so far; a byte more of each than is of use, at the most."""

    __slots__ = ("err", "out")

    def __init__(self) -> None:
        self.out = b""
        self.err = b""


def _end(pid: int) -> int:
    """Kill a process with all of its group, and return its status."""
    # Before it is waited for: until then nobody else can have the number of its group.
    try:
        os.killpg(pid, signal.SIGKILL)
    except PermissionError:
        # What is left of it has changed its user; what we can end has ended.
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _read(
    watch: int, out: int, err: int, deadline: float, clock: "Callable[[], float]"
) -> "_Printed | None":
    """Return what a process prints until it ends, or too much; None if it takes too long.

    The end of the process counts and not that of its output: something that it left behind may
    hold the pipes open for ever.
    """
    printed = _Printed()
    poll = select.poll()
    for descriptor in (watch, out, err):
        poll.register(descriptor, select.POLLIN)
    while len(printed.out) <= MAX_OUTPUT:
        left = deadline - clock()
        if left <= 0:
            return None
        ready = [descriptor for descriptor, _ in poll.poll(left * 1000)]
        if watch in ready:
            # What it wrote is in the pipes by now; what others still write is of no use.
            for pipe in (out, err):
                os.set_blocking(pipe, False)
                for _ in range(MAX_PIECES):
                    if not _take(pipe, printed, is_out=pipe == out):
                        break
            return printed
        for pipe in ready:
            if not _take(pipe, printed, is_out=pipe == out):
                poll.unregister(pipe)
    return printed


def _take(pipe: int, printed: _Printed, *, is_out: bool) -> bool:
    """Take some of what is in the pipe; return whether more may be."""
    try:
        data = os.read(pipe, READ_SIZE)
    except BlockingIOError:
        return False
    if is_out:
        printed.out = (printed.out + data)[: MAX_OUTPUT + 1]
    else:
        # Also beyond what is looked at: a pipe that is full would stop the command.
        printed.err = (printed.err + data)[: MAX_COMPLAINT + 1]
    return bool(data)


def _shown(raw: bytes) -> str:
    text = raw[:MAX_COMPLAINT].decode("utf-8", "replace")
    words = ["(token)" if "eyJ" in word else word for word in text.split()]
    line = "".join(c if c.isprintable() else "?" for c in " ".join(words))
    return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."


def _failed(argv: "list[str]", problem: str, *, retryable: bool = False) -> KeylessError:
    return KeylessError(
        "identity_unavailable",
        f"{argv[0]}, which was asked for an identity token, {problem}",
        retryable=retryable,
        hint="--identity-source none does without it",
    )

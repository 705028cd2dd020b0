"""Starts a daemon for the user when none listens: once, however many clients want it at a time.

Only loaded when a connection failed, so the heavy imports are no matter here.
"""

import fcntl
import os
import subprocess
import sys
import time

from keyless._address import state_directory
from keyless.errors import DaemonUnreachableError
from keyless.wire import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from keyless._connect import Socket

# How long the daemon may take until it listens. It needs under a second; a machine that starts
# fifty clients at once needs more.
START_SECONDS = 30.0

POLL_SECONDS = 0.02

# The daemon's log is begun anew at a start when it is larger than this.
MAX_LOG = 4 << 20  # bytes

# What the daemon printed that is shown when it does not come up.
SHOWN_LOG = 2000  # bytes

# Variables the daemon is given. A list of what is kept and not of what is dropped: the
# environment of a build job is full of tokens, and the daemon outlives the job.
KEPT = {
    "DBUS_SESSION_BUS_ADDRESS", "GOOGLE_SERVICE_ACCOUNT_NAME", "HOME", "LANG",
    "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SPIFFE_ENDPOINT_SOCKET", "SSL_CERT_DIR",
    "SSL_CERT_FILE", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
}  # fmt: skip
KEPT_PREFIXES = ("KEYLESS_", "LC_", "PYTHON", "XDG_")
SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")


def start(
    path: str,
    environ: "Mapping[str, str]",
    *,
    connect: "Callable[[str], Socket]",
    notice: "Callable[[str], None] | None" = None,
    command: "Sequence[str]" = (),
    clock: "Callable[[], float]" = time.monotonic,
    sleep: "Callable[[float], None]" = time.sleep,
) -> "Socket":
    """Start a daemon that listens at *path*, or wait for one that another client is starting.

    Args:
        path: The socket's path.
        environ: The environment; the daemon gets clean_environment() of it.
        connect: Connects, or raises DaemonUnreachableError.
        notice: Told in one sentence that a daemon is started.
        command: What to start; by default ``keylessd`` of this interpreter.
        clock: Seconds that never go back.
        sleep: Waits so many seconds.

    Returns:
        A connection to the daemon.

    Raises:
        DaemonUnreachableError: it did not come up; the message says what it printed.
    """
    path = os.path.abspath(path)  # pathlib is for the daemon
    _make_directory(os.path.dirname(path))
    log = _log_path(path, environ)
    deadline = clock() + START_SECONDS
    starter: _Starter | None = None
    lock = -1
    try:
        lock = _open_lock(path)
        while True:
            # Asked before connecting: one that ends since another took its place is no failure.
            is_over = clock() >= deadline or (starter is not None and starter.has_ended())
            try:
                return connect(path)
            except DaemonUnreachableError:
                if is_over:
                    printed = starter.printed() if starter is not None else ""
                    raise _failed(path, log, printed) from None
            if starter is None and _try_lock(lock):
                # Whoever held the lock before us may have succeeded meanwhile.
                try:
                    return connect(path)
                except DaemonUnreachableError:
                    pass
                if notice is not None:
                    notice(f"no daemon listens; starting one (log: {log})")
                wanted = list(command) or [sys.executable, "-P", "-m", "keylessd"]
                starter = _Starter([*wanted, "--socket", path], clean_environment(environ), log)
            sleep(POLL_SECONDS)
    except BrokenPipeError:
        raise  # whoever reads our notices has gone
    except OSError as error:
        # The lock, the log or the process: a full disk, a file in the way.
        raise _impossible(path, error) from error
    finally:
        if lock >= 0:
            os.close(lock)


class _Starter:
    """A daemon that was started: whether it ended, and what it printed."""

    def __init__(self, command: "list[str]", environ: "dict[str, str]", log: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        output = os.open(log, flags, 0o600)
        try:
            if os.fstat(output).st_size > MAX_LOG:
                os.ftruncate(output, 0)
            self._log = log
            self._offset = os.fstat(output).st_size
            # -P keeps the working directory, which is anybody's, out of the import path; "/"
            # as the working directory keeps no file system busy.
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=environ,
                start_new_session=True,
            )
        finally:
            os.close(output)

    def has_ended(self) -> bool:
        """Whether it is gone; a daemon that came up is left alone for good."""
        return self._process.poll() is not None

    def printed(self) -> str:
        """Return the end of what it printed since it was started, fit to be shown."""
        try:
            with open(self._log, "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(self._offset, file.tell() - SHOWN_LOG))
                lines = file.read(SHOWN_LOG).decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""  # it was taken away
        return " | ".join(printable(line) for line in lines[-5:])

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and process.poll() is None:
            # It is meant to outlive us: tell Popen that there is nothing to be waited for.
            process.returncode = 0


def clean_environment(environ: "Mapping[str, str]") -> "dict[str, str]":
    """Return the variables a daemon is given: where things are, and nothing secret."""
    return {
        name: value
        for name, value in environ.items()
        if (name in KEPT or name.startswith(KEPT_PREFIXES))
        and not any(word in name.upper() for word in SECRET_WORDS)
    }


def _make_directory(directory: str) -> None:
    """Make the socket's directory, 0700; refuse one that somebody else could put a socket in."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = os.stat(directory)
    except OSError as error:
        raise DaemonUnreachableError(
            "daemon_unreachable",
            f"no daemon listens, and none can be started in {directory!r}: {error.strerror}",
            hint="set KEYLESS_SOCKET to the socket of a running daemon",
        ) from error
    problem = None
    if found.st_uid != os.geteuid():
        problem = f"belongs to uid {found.st_uid}"
    elif found.st_mode & 0o077:  # as the daemon has it
        problem = f"is open to others (mode {found.st_mode & 0o7777:04o})"
    if problem is not None:
        raise DaemonUnreachableError(
            "daemon_unreachable",
            f"no daemon listens, and {directory!r} {problem}: none is started there",
            hint="set KEYLESS_SOCKET to a path in a directory of your own, with mode 700",
        )


def _log_path(path: str, environ: "Mapping[str, str]") -> str:
    """Return where the daemon's log goes: in the state directory, else beside the socket.

    Without a place for its state the daemon does not start, and what it says is to be seen.
    """
    try:
        directory = state_directory(environ)
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except (OSError, DaemonUnreachableError):
        return f"{path}.log"
    return f"{directory}/keylessd.log"


def _open_lock(path: str) -> int:
    # Not the daemon's own lock, which it holds as long as it lives.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(f"{path}.start", flags, 0o600)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _impossible(path: str, error: OSError) -> DaemonUnreachableError:
    named = f"{error.filename!r}: " if error.filename is not None else ""
    return DaemonUnreachableError(
        "daemon_unreachable",
        f"no daemon listens on {path!r}, and none can be started: {named}{error.strerror}",
        hint=f"`keylessd --socket {path}` starts one by hand",
    )


def _failed(path: str, log: str, printed: str) -> DaemonUnreachableError:
    said = f": {printed}" if printed else ""
    return DaemonUnreachableError(
        "daemon_unreachable",
        f"no daemon listens on {path!r}, and the one that was started did not come up{said}",
        retryable=not printed,
        hint=f"its log is {log}; `keylessd --socket {path}` starts one by hand",
    )

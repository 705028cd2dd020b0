"""Opens the connection to the daemon, and checks who is at the other end before a word is said.

Works on `_socket`, the C module beneath `socket`: importing `socket` costs 7 ms (it brings in
selectors, enum and a hundred constants as enumerations), as much as a bare interpreter, and
what is used here is in both.
"""

import _socket
import errno
import os
import sys
import time

from keyless._address import SYSTEM_SOCKET, socket_path
from keyless.errors import DaemonUnreachableError, KeylessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    Socket = socket.socket  # the part of it that _socket.socket has too

# Bytes in the path of a socket's address, less the closing zero.
MAX_PATH = 107

# How long a full backlog is waited for. A daemon that accepts nothing for so long is stuck.
CONNECT_SECONDS = 5.0

# How long the daemon may read nothing of what is sent to it.
DEAF_SECONDS = 150

_ROOT = 0

# Nobody listens there now.
_NOBODY = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR)


def find_path(environ: "Mapping[str, str]") -> str:
    """Return the path of the daemon's socket on this machine.

    Raises:
        DaemonUnreachableError: the environment names no place at all.
    """
    return socket_path(environ, os.geteuid(), _exists_safely)


def _exists_safely(path: str) -> bool:
    try:
        return os.stat(path).st_uid in (_ROOT, os.geteuid())
    except OSError:
        return False


def connect(path: str) -> "Socket":
    """Return a connection to the daemon listening at *path*.

    Raises:
        DaemonUnreachableError: nobody listens, or somebody who is neither root nor the user.
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
    try:
        _connect(connection, path, time.monotonic() + CONNECT_SECONDS)
        _check_daemon(connection, path)
    except OSError as error:
        connection.close()
        raise _unreachable(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection  # type: ignore[return-value]  # see Socket


def _connect(connection: "_socket.socket", path: str, deadline: float) -> None:
    _set_timeout(connection, _socket.SO_SNDTIMEO, CONNECT_SECONDS)
    directory = -1
    address = path
    try:
        if len(os.fsencode(path)) > MAX_PATH:
            head, tail = os.path.split(path)  # pathlib is too heavy here
            directory = os.open(head or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            address = f"/proc/self/fd/{directory}/{tail}"
            if len(os.fsencode(address)) > MAX_PATH:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        while True:
            try:
                connection.connect(address)
            except BlockingIOError:
                # The backlog is full, and stayed so for the time that the kernel waits.
                if time.monotonic() >= deadline:
                    raise
            else:
                break
    finally:
        if directory >= 0:
            os.close(directory)


def be_patient(connection: "Socket", seconds: float) -> None:
    """Let receive() wait for so long from now on; at first it waits for ever."""
    _set_timeout(connection, _socket.SO_RCVTIMEO, seconds)


def _set_timeout(connection: "_socket.socket | Socket", option: int, seconds: float) -> None:
    # struct timeval, two C longs. The kernel keeps the time, so a wait needs no poll.
    whole = int(seconds)
    size = 8 if sys.maxsize > 1 << 32 else 4
    parts = (whole, int((seconds - whole) * 1e6))
    packed = b"".join(part.to_bytes(size, sys.byteorder) for part in parts)
    connection.setsockopt(_socket.SOL_SOCKET, option, packed)


def _check_daemon(connection: "_socket.socket", path: str) -> None:
    """Refuse a stranger: it would be told an identity token.

    Under socket activation the kernel names whoever called listen(), which is systemd as root or
    as the user.
    """
    # struct ucred: pid, uid, gid, four bytes each.
    peer = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    uid = int.from_bytes(peer[4:8], sys.byteorder)
    if uid not in (_ROOT, os.geteuid()):
        raise DaemonUnreachableError(
            "daemon_unreachable",
            f"the socket {path!r} belongs to uid {uid}, neither to you nor to root",
            hint="set KEYLESS_SOCKET to the socket of your own daemon",
        )


def _unreachable(path: str, error: OSError) -> DaemonUnreachableError:
    return DaemonUnreachableError(
        "daemon_unreachable",
        f"no daemon listens on {path!r}: {error.strerror or 'no answer'}",
        retryable=error.errno in (*_NOBODY, errno.EAGAIN),
        hint="start one with `keylessd`, or set KEYLESS_SOCKET to the socket of a running one",
        details={"errno": error.errno or 0},
    )


def open_daemon(
    path: "str | None",
    environ: "Mapping[str, str]",
    *,
    autostart: "bool | None" = None,
    notice: "Callable[[str], None] | None" = None,
) -> "Socket":
    """Return a connection to the daemon, starting one if none listens and that is allowed.

    Args:
        path: The socket, or None for the place that the environment names.
        environ: The environment; ``KEYLESS_AUTOSTART=0`` forbids starting.
        autostart: True or False goes before the environment.
        notice: Told, in one sentence, that a daemon is being started.

    Raises:
        DaemonUnreachableError: nobody listens, and none was or could be started.
    """
    path = find_path(environ) if path is None else path
    if autostart is None:
        autostart = environ.get("KEYLESS_AUTOSTART", "1") not in ("0", "no", "false")
    try:
        return connect(path)
    except DaemonUnreachableError as error:
        # The system's daemon is the administrator's to start.
        if not autostart or error.details.get("errno") not in _NOBODY or path == SYSTEM_SOCKET:
            raise
    from keyless._autostart import start  # noqa: PLC0415  # the exception, not the rule

    return start(path, environ, connect=connect, notice=notice)


def transmit(connection: "Socket", data: bytes) -> "list[bytes]":
    """Send all of *data*; return what the daemon said meanwhile, in case both would wait.

    Raises:
        OSError: the daemon has gone, or reads nothing.
    """
    heard: list[bytes] = []
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[connection.send(rest, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            heard += _wait(connection)
    return heard


def _wait(connection: "Socket") -> "list[bytes]":
    """Wait until the daemon reads on; take what it says, so that it is not waiting for us."""
    import select  # noqa: PLC0415  # only large attachments come here

    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLOUT)
    events = poll.poll(DEAF_SECONDS * 1000)
    if not events:
        raise TimeoutError(errno.ETIMEDOUT, "the daemon does not read")
    if not events[0][1] & (select.POLLIN | select.POLLHUP | select.POLLERR):
        return []
    heard = connection.recv(READ_SIZE)
    if not heard:
        raise ConnectionResetError(errno.ECONNRESET, "the daemon has gone")
    return [heard]


READ_SIZE = 64 * 1024


def receive(
    connection: "Socket", *, wait: bool = True, patience: "float | None" = None
) -> "bytes | None":
    """Return the next bytes of the daemon; ``b""`` at its end or if it broke off.

    Args:
        connection: From connect().
        wait: Whether to wait for them, else None if there are none.
        patience: What be_patient() was told, for the error.

    Raises:
        KeylessError: ``daemon_failed`` when it is silent for longer than it may be.
    """
    try:
        return connection.recv(READ_SIZE, 0 if wait else _socket.MSG_DONTWAIT)
    except BlockingIOError:
        if not wait:
            return None
        raise KeylessError(
            "daemon_failed",
            f"the daemon has said nothing for {patience} seconds",
            retryable=True,
        ) from None
    except ConnectionError:
        return b""

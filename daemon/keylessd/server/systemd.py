"""The parts of systemd we speak: notify, watchdog, inherited sockets. No library, no D-Bus."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

LISTEN_FDS_START: Final = 3  # sd_listen_fds(3)
MAX_LISTEN_FDS: Final = 16  # more is a mistake in a unit, not a wish

_VARIABLES: Final = (
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)


class InheritedSocketError(Exception):
    """What was passed at start is not a listening AF_UNIX stream socket, or not countable."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """One socket that the service manager created and keeps: never unlinked by us."""

    name: str  # FileDescriptorName= of the socket unit, or "unknown"
    listener: socket.socket


class Notifier:
    """Sends sd_notify(3) messages; does nothing where nobody asked for them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._socket: socket.socket | None = None
        if address := environ.get("NOTIFY_SOCKET"):
            if address.startswith("@"):  # the abstract namespace
                address = "\0" + address[1:]
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                self._socket.connect(address)
            except OSError:
                # A stale variable of an outer service must not keep us from starting.
                self._socket.close()
                self._socket = None

    def send(self, **fields: str) -> None:
        """Send for example READY="1", STATUS="listening"; a failure is not worth dying for."""
        if self._socket is not None:
            text = "\n".join(
                f"{key}={value.replace(chr(10), ' ')}" for key, value in fields.items()
            )
            with suppress(OSError):
                self._socket.send(text.encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def watchdog_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    """Return the watchdog's timeout in seconds, or None if none applies to process *pid*."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    value = environ.get("WATCHDOG_USEC", "")
    if not (value.isascii() and value.isdigit()):
        return None
    return int(value) / 1e6 or None


async def feed_watchdog(
    notifier: Notifier, timeout_seconds: float, check: Callable[[], Awaitable[bool]]
) -> None:
    """Ping as long as *check* proves progress; runs until cancelled.

    The check is made twice per timeout and has a quarter of it to answer. One that fails or
    hangs sends nothing, and the service manager restarts us when two in a row are missing.
    """
    while True:
        healthy = False
        with trio.move_on_after(timeout_seconds / 4):
            healthy = await check()
        if healthy:
            notifier.send(WATCHDOG="1")
        await trio.sleep(timeout_seconds / 2 if healthy else timeout_seconds / 8)


def inherited_sockets(environ: Mapping[str, str], pid: int) -> list[Inherited]:
    """Adopt the sockets that were passed to process *pid* at start.

    Raises:
        InheritedSocketError: one of them is not a listening AF_UNIX stream socket.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return []
    declared = environ.get("LISTEN_FDS", "0")
    if not (declared.isascii() and declared.isdigit()) or int(declared) > MAX_LISTEN_FDS:
        raise InheritedSocketError(f"LISTEN_FDS is {declared!r}")
    count = int(declared)
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    adopted: list[Inherited] = []
    for index, fd in enumerate(range(LISTEN_FDS_START, LISTEN_FDS_START + count)):
        name = names[index] if index < len(names) and names[index] else "unknown"
        adopted.append(Inherited(name=name, listener=_adopt(fd)))
    return adopted


def forget_variables(environ: MutableMapping[str, str]) -> None:
    """Remove what the service manager said to us, so that no child takes it for itself."""
    for name in _VARIABLES:
        environ.pop(name, None)


def _adopt(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)  # they arrive inheritable
        listener = socket.socket(fileno=fd)
    except OSError as exc:
        raise InheritedSocketError(f"descriptor {fd}: {exc.strerror}") from exc
    kind = (listener.family, listener.type)
    if kind != (socket.AF_UNIX, socket.SOCK_STREAM) or not listener.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        listener.detach()  # it is not ours to close
        raise InheritedSocketError(f"descriptor {fd} is not a listening AF_UNIX stream socket")
    address = listener.getsockname()
    if not isinstance(address, str) or not address:
        # In the abstract namespace nothing says who may connect, and names can be taken by anybody.
        listener.detach()
        raise InheritedSocketError(f"descriptor {fd} has no path in the file system")
    listener.setblocking(False)
    return listener

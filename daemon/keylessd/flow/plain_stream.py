"""A connected socket as a trio stream that does no more than it must.

trio's own stream tries to read before it waits, and gives up its turn after each write. Both are
wasted on who writes one message and then waits for the answer to it: nothing is there yet, and the
wait gives up the turn anyway. A signature does that three times over.
"""

from __future__ import annotations

import operator
import socket
from typing import Final

import trio

READ_SIZE: Final = 65536  # bytes, where the caller names no number


class PlainStream(trio.abc.Stream):
    """Bytes over one socket. All of trio's rules for streams hold; send_now() is besides them."""

    __slots__ = ("_is_sending", "_socket")

    def __init__(self, connected: socket.socket) -> None:
        """Take over a connected stream socket."""
        connected.setblocking(False)
        self._socket = connected
        self._is_sending = False

    @classmethod
    def of(cls, stream: trio.SocketStream) -> PlainStream:
        """Take over the socket of a stream that trio has opened."""
        return cls(socket.socket(fileno=stream.socket.detach()))

    @property
    def socket(self) -> socket.socket:
        """The socket, to be looked at."""
        return self._socket

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Hand over as much of *data* as the system takes without waiting; return how much.

        No checkpoint: for who waits for something else right afterwards.

        Raises:
            trio.BusyResourceError: send_all() is under way.
            trio.BrokenResourceError: the other end has gone.
            trio.ClosedResourceError: close() was called.
        """
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        return self._send(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data*; see trio.abc.SendStream."""
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        self._is_sending = True
        try:
            await trio.lowlevel.checkpoint()
            with memoryview(data) as view:
                sent = self._send(view)
                while sent < len(view):
                    await trio.lowlevel.wait_writable(self._socket)
                    with view[sent:] as rest:
                        sent += self._send(rest)
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room; see trio.abc.SendStream."""
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        self._check_open()
        self._is_sending = True
        try:
            await trio.lowlevel.wait_writable(self._socket)
        finally:
            self._is_sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next bytes, ``b""`` at the end; see trio.abc.ReceiveStream."""
        if max_bytes is None:
            max_bytes = READ_SIZE
        elif operator.index(max_bytes) < 1:
            raise ValueError(f"{max_bytes} bytes are none")
        self._check_open()
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                continue
            except OSError as exc:
                raise self._gone(exc) from exc

    def close(self) -> None:
        """Close at once; who waits gets trio.ClosedResourceError."""
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def aclose(self) -> None:
        """Close; see trio.abc.AsyncResource."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        self._check_open()
        try:
            return self._socket.send(data) if data else 0
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise self._gone(exc) from exc

    def _check_open(self) -> None:
        if self._socket.fileno() == -1:
            raise trio.ClosedResourceError("the socket was closed")

    def _gone(self, exc: OSError) -> trio.BrokenResourceError:
        return trio.BrokenResourceError(f"the socket is broken: {exc.strerror}")

"""The loopback listener on which a browser brings the answer (RFC 8252, 7.3).

One for each login, on a port that the kernel picks, for as long as the login lasts. Requests are
bounded in size, time and number; each has a task of its own, so none waits for another; and none
of them can end the wait but the one that holds this login's state.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import h11
import trio

from keylessd.errors import IdentityError
from keylessd.identity.login import page
from keylessd.identity.login.answer import Asked, Code, Refusal, Stray, read_answer
from keylessd.log import EventLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keylessd.identity.login.page import Page

MAX_HEAD = 32 << 10  # bytes of one request; codes have a few hundred
READ_SIZE = 8 << 10
REQUEST_SECONDS = 10.0  # from accept to a complete request
SEND_SECONDS = 5.0
ANSWER_SECONDS = 60.0  # until the browser that brought the code is told how it ended
# Codes the issuer does not know: the state may have been read off a browser's command line.
MAX_WRONG = 32
MAX_CONNECTIONS = 64  # at once; the oldest goes first, so that slow ones keep nobody out
BACKLOG = 128
PORT_TRIES = 20

# Returns the page for whoever brought an answer, and whether that ends the wait.
Settle = Callable[[Code | Refusal], Awaitable[tuple["Page", bool]]]

_log = EventLog(__name__)


def open_loopback() -> tuple[int, list[socket.socket]]:
    """Listen on a free port of 127.0.0.1, and on the same of ::1 where that exists.

    Both, since ``localhost`` may mean either, and somebody else could have the other. No option
    lets anybody share the port.

    Raises:
        IdentityError: ``login_failed``: no port can be had.
    """
    for _ in range(PORT_TRIES):
        sockets = [_bound(socket.AF_INET, "127.0.0.1", 0)]
        port = int(sockets[0].getsockname()[1])
        try:
            sockets.append(_bound(socket.AF_INET6, "::1", port))
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                sockets[0].close()
                continue
            # This machine has no IPv6.
        return port, sockets
    raise IdentityError(
        "login_failed",
        "no port of this machine is free for the browser's answer",
        hint="run `keyless login --device`",
    )


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class Listener:
    """Answers browsers until one brings this login's answer.

    Args:
        asked: What that must fit.
        settle: Called with an answer, one at a time, until it says that this was the last.
    """

    def __init__(self, asked: Asked, settle: Settle) -> None:
        self._asked = asked
        self._settle = settle
        self._turn = trio.Lock()
        self._pages: dict[Code | Refusal, Page] = {}
        self._is_over = False
        self._told = trio.Event()
        self._open: dict[trio.CancelScope, None] = {}

    async def run(self, listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]) -> None:
        """Serve until the answer has come and the browser that brought it has its page."""
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(self._accept, listener, nursery)
            await self._told.wait()
            nursery.cancel_scope.cancel()

    async def _accept(
        self, listener: trio.abc.Listener[trio.abc.Stream], nursery: trio.Nursery
    ) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as exc:
                # Out of descriptors, most likely: those that are open will go.
                _log.warning("login.accept_failed", problem=exc.strerror or "")
                await trio.sleep(0.1)
                continue
            nursery.start_soon(self.serve, stream)
            await trio.lowlevel.checkpoint()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer one connection, whatever it sends. Raises nothing but Cancelled."""
        with trio.CancelScope() as scope:
            while len(self._open) >= MAX_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                oldest.cancel()
            self._open[scope] = None
            try:
                await self._serve(stream, scope)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                pass
            finally:
                self._open.pop(scope, None)
                await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        request: h11.Request | None = None
        try:
            with trio.move_on_after(REQUEST_SECONDS):
                request = await _read_request(http, stream)
        except h11.RemoteProtocolError:
            await _send(http, stream, page.refused(400, "the request cannot be read"))
            return
        if request is None:
            return
        found = read_answer(
            request.method.decode("ascii", "replace"),
            request.target.decode("ascii", "replace"),
            [
                (n.decode("ascii", "replace"), v.decode("ascii", "replace"))
                for n, v in request.headers
            ],
            self._asked,
        )
        if isinstance(found, Stray):
            _log.info("login.stray_request", status=found.status, reason=found.reason)
            await _send(http, stream, page.refused(found.status, found.reason))
            return
        del self._open[scope]  # nobody pushes this one out any more
        await self._answered(http, stream, found)

    async def _answered(
        self, http: h11.Connection, stream: trio.abc.Stream, found: Code | Refusal
    ) -> None:
        with trio.move_on_after(ANSWER_SECONDS):
            async with self._turn:
                # A browser may ask twice for the same; anything else is too late.
                answer = self._pages.get(found)
                if answer is None and self._is_over:
                    answer = page.refused(400, "the sign-in has its answer already")
                if answer is None:
                    answer, is_last = await self._settle(found)
                    self._pages[found] = answer
                    self._is_over = is_last or len(self._pages) >= MAX_WRONG
                is_over = self._is_over
            try:
                await _send(http, stream, answer)
            finally:
                if is_over:
                    self._told.set()


async def _read_request(http: h11.Connection, stream: trio.abc.Stream) -> h11.Request | None:
    """Return the head of a request, or None if the client went away."""
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        data = await stream.receive_some(READ_SIZE)
        http.receive_data(bytes(data))


async def _send(http: h11.Connection, stream: trio.abc.Stream, answer: Page) -> None:
    body = answer.text.encode()
    headers = [
        *page.HEADERS.items(),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    with trio.move_on_after(SEND_SECONDS):
        try:
            data = http.send(h11.Response(status_code=answer.status, headers=headers, reason=b""))
            data += http.send(h11.Data(data=body))
            http.send(h11.EndOfMessage())
        except h11.LocalProtocolError:
            return
        await stream.send_all(data)
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()

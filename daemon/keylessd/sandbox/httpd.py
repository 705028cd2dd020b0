"""A small HTTP/1.1 server for ASGI applications on loopback. No TLS, no HTTP/2, no websockets.

A sandbox shares its processor with what is tried against it, so a request must cost little: one
task serves a connection, the application runs in it, and an answer leaves in one write. The
protocol itself is h11's.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import h11
import trio

from keylessd.sandbox.inprocess import ABORT

if TYPE_CHECKING:
    from starlette.types import ASGIApp

READ_SIZE = 1 << 16  # bytes
HEAD_MAX = 1 << 16  # bytes
# Of a body that the application does not want.
SKIP_MAX = 16 << 20  # bytes
ERROR_BODY = b"internal server error\n"

_logger = logging.getLogger(__name__)


class Connection:
    """One client, until either side ends it."""

    def __init__(self, stream: trio.abc.Stream, app: ASGIApp) -> None:
        self._stream = stream
        self._app = app
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
        self._method = b""
        self._head: h11.Response | None = None
        self.idle_scope: trio.CancelScope | None = None
        self._gone = False
        self.ending = False

    def end(self) -> None:
        """Close after the request that is being answered, at once if there is none."""
        self.ending = True
        if self.idle_scope is not None:
            self.idle_scope.cancel()

    async def serve(self) -> None:
        """Answer requests until either side closes."""
        try:
            while not self.ending:
                request = None
                with trio.CancelScope() as self.idle_scope:
                    request = await self._next_event()
                self.idle_scope = None
                if not isinstance(request, h11.Request):
                    return
                await self._answer(request)
                if self._gone or self._http.our_state is not h11.DONE:
                    return
                await self._skip_body()
                if self._http.their_state is not h11.DONE:
                    return
                self._http.start_next_cycle()
        except (h11.ProtocolError, trio.BrokenResourceError):
            return
        finally:
            with trio.CancelScope(shield=True):
                await self._stream.aclose()

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(bytes(await self._stream.receive_some(READ_SIZE)))
        return event

    async def _answer(self, request: h11.Request) -> None:
        path, _, query = request.target.partition(b"?")
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": None,
            "server": None,
            "extensions": {ABORT: {}},
        }
        self._head = None
        self._method = request.method
        try:
            await self._app(scope, self._receive, self._send)
        except h11.ProtocolError:
            raise
        except Exception:
            if self._gone:
                # What an application makes of that is its affair.
                return
            _logger.exception("the application failed at %s", scope["path"])
            if self._http.our_state is h11.SEND_RESPONSE and self._head is None:
                head = {"type": "http.response.start", "status": 500}
                await self._send(
                    {**head, "headers": [(b"content-length", b"%d" % len(ERROR_BODY))]}
                )
                await self._send({"type": "http.response.body", "body": ERROR_BODY})
        # An application may end in the middle of its answer, or without one. Then the
        # connection is closed, which is all that a client can be told.

    async def _skip_body(self) -> None:
        """Read what the application left, so that the client reads the answer and no reset."""
        skipped = 0
        while self._http.their_state is h11.SEND_BODY and skipped < SKIP_MAX:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                skipped += len(event.data)

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._http.their_state is not h11.SEND_BODY:
            await self._wait_for_end()
            return {"type": "http.disconnect"}
        body = b""
        try:
            event = await self._next_event()
            while isinstance(event, h11.Data):
                # All that has arrived goes in one message, the end of the body with it.
                body += bytes(event.data)
                event = self._http.next_event()
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            # It hung up, or does not keep to the protocol.
            self._gone = True
            return {"type": "http.disconnect"}
        more = not isinstance(event, h11.EndOfMessage)
        return {"type": "http.request", "body": body, "more_body": more}

    async def _wait_for_end(self) -> None:
        """Return when the client hangs up, or sends more than we keep for later."""
        while len(self._http.trailing_data[0]) < READ_SIZE:
            try:
                received = await self._stream.receive_some(READ_SIZE)
            except trio.BrokenResourceError:
                received = b""
            if not received:
                self._gone = True
                return
            self._http.receive_data(bytes(received))

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            # It leaves together with the first part of the body.
            self._head = h11.Response(
                status_code=message["status"], headers=list(message.get("headers", ()))
            )
            return
        parts: list[h11.Event] = []
        if self._http.our_state is h11.SEND_RESPONSE:
            if self._head is None:
                raise RuntimeError("a body without a head")
            parts.append(self._head)
        body = message.get("body", b"")
        if body and self._method != b"HEAD":
            parts.append(h11.Data(data=body))
        if not message.get("more_body", False):
            parts.append(h11.EndOfMessage())
        if self._gone:
            # ASGI: what is sent to nobody is dropped.
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._write(*parts)
        except trio.BrokenResourceError:
            self._gone = True

    async def _write(self, *events: h11.Event) -> None:
        await self._stream.send_all(b"".join(self._http.send(event) or b"" for event in events))


async def serve(
    apps: Mapping[str, ASGIApp],
    sockets: Mapping[str, socket.socket],
    *,
    stop: trio.Event,
    grace_seconds: float,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve each application at its socket until *stop*; then give requests *grace_seconds*.

    The sockets must listen already; they are closed in the end.
    """
    connections: set[Connection] = set()

    async def handle(app: ASGIApp, stream: trio.abc.Stream) -> None:
        connection = Connection(stream, app)
        connections.add(connection)
        try:
            await connection.serve()
        finally:
            connections.discard(connection)

    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as accepting:
            for service, opened in sockets.items():
                opened.setblocking(False)  # the standard library's signature
                listener = trio.SocketListener(trio.socket.from_stdlib_socket(opened))
                accepting.start_soon(
                    partial(
                        trio.serve_listeners,
                        partial(handle, apps[service]),
                        [listener],
                        handler_nursery=handlers,
                    )
                )
            task_status.started()
            await stop.wait()
            # A listener closes its socket when it is cancelled.
            accepting.cancel_scope.cancel()
        for connection in list(connections):
            connection.end()
        handlers.cancel_scope.deadline = trio.current_time() + grace_seconds

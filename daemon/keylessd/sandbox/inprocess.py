"""Carries httpx requests to ASGI applications in the same process and event loop. No sockets.

Unlike httpx's own transport it knows several hosts, bounds what it holds of an endless body,
and tells the client of an application that ended without a complete answer what a broken
connection would tell it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import httpx
import trio

from keylessd.sandbox.faults import ABORT

if TYPE_CHECKING:
    from starlette.types import ASGIApp

BODY_MAX = 8 << 20  # bytes held of one answer


class InProcessTransport(httpx.AsyncBaseTransport):
    """A transport for ``httpx.AsyncClient`` over a table of applications.

    An answer is complete, or broken, before the client sees its first byte.
    """

    def __init__(self, apps: Mapping[str, ASGIApp], *, body_max: int = BODY_MAX) -> None:
        """Serve *apps*.

        Args:
            apps: By origin, for example ``"https://rekor.example"``; the port only if it is
                not the scheme's own. The mapping may be changed later.
            body_max: Bytes after which an answer counts as endless: the client gets so many,
                and a connection error if it reads on.
        """
        self._apps = apps
        self._body_max = body_max

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Run the application for *request*.

        Raises:
            httpx.ConnectError: No application has that origin.
            httpx.RemoteProtocolError: The application ended without an answer.
        """
        url = request.url
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        app = self._apps.get(origin)
        if app is None:
            raise httpx.ConnectError(f"nothing listens at {origin}", request=request)
        exchange = _Exchange(await request.aread(), self._body_max)
        with exchange.scope:
            await app(_scope_of(request), exchange.receive, exchange.send)
        if exchange.status is None:
            message = "server disconnected without sending a response"
            raise httpx.RemoteProtocolError(message, request=request)
        return httpx.Response(
            exchange.status,
            headers=exchange.headers,
            stream=_Answer(exchange.parts, complete=exchange.complete),
            request=request,
        )


class _Exchange:
    """One request and its answer, as the application sees them."""

    def __init__(self, body: bytes, body_max: int) -> None:
        self._body: bytes | None = body
        self._left = body_max
        self.scope = trio.CancelScope()
        self.status: int | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.complete = False

    async def receive(self) -> MutableMapping[str, Any]:
        await trio.lowlevel.checkpoint()
        if self._body is None:
            # The client waits for the answer; it hangs up by cancelling.
            await trio.sleep_forever()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            part = bytes(message.get("body", b""))
            self.parts.append(part[: self._left])
            self._left -= len(part)
            self.complete = self._left >= 0 and not message.get("more_body", False)
            if self._left < 0:
                self.scope.cancel()
                await trio.lowlevel.checkpoint()


class _Answer(httpx.AsyncByteStream):
    """The body, and a connection error after it if it is not complete."""

    def __init__(self, parts: list[bytes], *, complete: bool) -> None:
        self._parts = parts
        self._complete = complete

    def __aiter__(self) -> AsyncIterator[bytes]:
        # Not a generator: nobody is obliged to close an iterator that was not exhausted.
        return _Parts(self._parts, complete=self._complete)


class _Parts:
    def __init__(self, parts: list[bytes], *, complete: bool) -> None:
        self._parts = iter(parts)
        self._complete = complete

    def __aiter__(self) -> _Parts:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        for part in self._parts:
            return part
        if self._complete:
            raise StopAsyncIteration
        raise httpx.RemoteProtocolError(
            "peer closed connection without sending complete message body"
        )


def _scope_of(request: httpx.Request) -> MutableMapping[str, Any]:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.split(b"?")[0],
        "query_string": url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": (url.host, url.port),
        "extensions": {ABORT: {}},
        "state": {},
    }

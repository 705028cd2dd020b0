"""An httpx transport that calls ASGI applications in process, by the URL's host and port.

Unlike httpx's own it lets an application break off its answer, or go on for ever: then the
client sees what it would see at a socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import trio

if TYPE_CHECKING:
    from starlette.types import ASGIApp

# The ASGI extension by which applications learn that they may return without an answer.
ABORT = "keyless.abort"
# An answer is collected before the client sees it. One that goes on longer is cut here.
BODY_MAX = 16 << 20  # bytes


class _Body(httpx.AsyncByteStream):
    """An answer's body, whose end may be missing."""

    def __init__(self, content: bytes, *, complete: bool) -> None:
        self._content = content
        self._complete = complete

    def __aiter__(self) -> AsyncIterator[bytes]:
        # Not a generator: a client that reads no further does not close it.
        return _Parts(self._content, complete=self._complete)


class _Parts:
    """Reads a body once."""

    def __init__(self, content: bytes, *, complete: bool) -> None:
        self._content = content
        self._complete = complete

    def __aiter__(self) -> _Parts:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        content, self._content = self._content, b""
        if content:
            return content
        if self._complete:
            raise StopAsyncIteration
        raise httpx.RemoteProtocolError("the server broke off in the middle of its answer")


class _Exchange:
    """One request and its answer, as an application sees them."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._answered = trio.Event()
        self.scope = trio.CancelScope()
        self.status: int | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.content = bytearray()
        self.complete = False

    async def receive(self) -> MutableMapping[str, Any]:
        await trio.lowlevel.checkpoint()
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._answered.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self.content += message.get("body", b"")
            if not message.get("more_body", False):
                self.complete = True
                self._answered.set()
            elif len(self.content) > BODY_MAX:
                self.scope.cancel()

    def response(self, request: httpx.Request) -> httpx.Response:
        if self.status is None:
            raise httpx.RemoteProtocolError("the server sent no answer", request=request)
        body = b"" if request.method == "HEAD" else bytes(self.content)
        stream = _Body(body, complete=self.complete)
        return httpx.Response(self.status, headers=self.headers, stream=stream)


class InProcessTransport(httpx.AsyncBaseTransport):
    """Passes requests to *apps* by *urls*; both map a service's name, and may change meanwhile."""

    def __init__(self, apps: Mapping[str, ASGIApp], urls: Mapping[str, str]) -> None:
        self._apps = apps
        self._urls = urls

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer *request*.

        Raises:
            httpx.ConnectError: No application has that host and port.
            httpx.RemoteProtocolError: The application ended without an answer.
        """
        app = self._app(request.url)
        if app is None:
            await trio.lowlevel.checkpoint()
            raise httpx.ConnectError(f"nobody listens at {request.url.host}", request=request)
        exchange = _Exchange(await request.aread())
        url = request.url
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "server": (url.host, url.port or 80),
            "client": ("127.0.0.1", 1),
            "extensions": {ABORT: {}},
        }
        with exchange.scope:
            await app(scope, exchange.receive, exchange.send)
        return exchange.response(request)

    def _app(self, url: httpx.URL) -> ASGIApp | None:
        for service, base in self._urls.items():
            parts = urlsplit(base)
            if (url.host, url.port) == (parts.hostname, parts.port):
                return self._apps[service]
        return None

"""HTTP/1.1 connections kept open per server: the transport under ``services.http``.

httpx's own pool looks at every connection for each request it takes and returns; with 256 in
flight that is most of the cost of a request. Here taking and returning are constant work: a
stack of idle connections per server. Only what the daemon needs: no proxies, no HTTP/2, no
redirects, the body of a request in memory.
"""

from __future__ import annotations

import os
import select
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType

import h11
import httpx
import trio

from keylessd.flow.plain_stream import PlainStream
from keylessd.services.exchange import Answer, Asked, read_answer
from keylessd.services.urls import is_link_local, origin_of

READ_SIZE = 65536  # bytes
# Bytes that an empty socket takes at once, whatever the server does; a deadline for that is not
# worth its price. The caller's own holds all the same.
SMALL_WRITE = 8192

# Extension of a request whose host may be a link-local address.
ON_LINK = "keyless.on_link"

Origin = tuple[str, str, int]  # scheme, host, port


class PooledTransport(httpx.AsyncBaseTransport):
    """Carries requests of an ``httpx.AsyncClient`` running under trio."""

    def __init__(
        self,
        *,
        ssl_context: Callable[[], ssl.SSLContext],
        max_connections: int,
        keepalive_seconds: float,
        refuses: Callable[[str], bool] = is_link_local,
    ) -> None:
        """Store the limits; nothing is connected.

        Args:
            ssl_context: Makes what verifies the servers, when first needed: reading the
                system's store takes some 40 ms and 2 MB.
            max_connections: Most connections in use at once; as many again may be idle.
            keepalive_seconds: An idle connection older than this is not used again.
            refuses: Tells by its address whether a server is sent nothing unless that is meant.
                Names are looked up here, so it is asked here.
        """
        self._make_ssl_context = ssl_context
        self._refuses = refuses
        self._ssl_context: ssl.SSLContext | None = None
        self._max_connections = max_connections
        self._keepalive_seconds = keepalive_seconds
        self._slots = trio.Semaphore(max_connections)
        self._idle: dict[Origin, deque[_Connection]] = {}
        self._idle_count = 0

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the idle connections; those in use close when their request ends."""
        for stack in self._idle.values():
            for connection in stack:
                connection.close()
        self._idle.clear()
        self._idle_count = 0
        self._keepalive_seconds = -1.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request* and return the answer with its body still to be read.

        Raises:
            httpx.TransportError: The usual kinds of it.
        """
        limits: dict[str, float | None] = request.extensions.get("timeout", {})
        body = await request.aread()
        await self._take_slot(limits.get("pool"))
        connection: _Connection | None = None
        try:
            origin = origin_of(request.url)
            connection = self._take(origin) or await self._connect(
                origin, limits, on_link=ON_LINK in request.extensions
            )
            head = await connection.exchange(request, body, limits)
        except BaseException:
            if connection is not None:
                connection.close()
            self._slots.release()
            raise
        return httpx.Response(
            head.status_code,
            headers=list(head.headers),
            stream=_Body(self, connection, limits.get("read")),
            extensions={"http_version": b"HTTP/" + head.http_version},
            request=request,
        )

    async def ask(
        self,
        origin: Origin,
        asked: Asked,
        *,
        max_body: int,
        limits: Mapping[str, float | None],
        on_link: bool = False,
    ) -> Answer:
        """Send a request and return its whole answer, without httpx's objects in between.

        Args:
            origin: Where to.
            asked: The request.
            max_body: Most bytes of the answer's body.
            limits: Seconds for ``pool``, ``connect``, ``write`` and ``read``, none if absent.
            on_link: Whether the server may have a link-local address.

        Raises:
            httpx.TransportError: The usual kinds of it.
            UnwantedBodyError: The answer's body is too long, or encoded.
        """
        data = asked.encode()
        await self._take_slot(limits.get("pool"))
        connection: _Connection | None = None
        try:
            connection = self._take(origin) or await self._connect(origin, limits, on_link=on_link)
            await connection.send(data, limits.get("write"))
            seconds = limits.get("read")
            answer = await read_answer(
                asked, lambda: connection.receive(seconds), max_body=max_body
            )
        except BaseException:
            if connection is not None:
                connection.close()
            self._slots.release()
            raise
        self._give_back(connection, is_usable=answer.may_go_on)
        return answer

    async def _take_slot(self, seconds: float | None) -> None:
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            with _timeouts(seconds, httpx.PoolTimeout):
                await self._slots.acquire()

    def _take(self, origin: Origin) -> _Connection | None:
        """Return the idle connection used last that is still good, or None."""
        stack = self._idle.get(origin)
        oldest = trio.current_time() - self._keepalive_seconds
        while stack:
            connection = stack.pop()
            self._idle_count -= 1
            if connection.idle_since >= oldest and not connection.has_hung_up():
                return connection
            connection.close()
        return None

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection whose answer was read to the end, or close it."""
        self._give_back(connection, is_usable=connection.start_next_cycle())

    def _give_back(self, connection: _Connection, *, is_usable: bool) -> None:
        self._slots.release()
        now = trio.current_time()
        stack = self._idle.setdefault(connection.origin, deque())
        while stack and stack[0].idle_since < now - self._keepalive_seconds:
            stack.popleft().close()
            self._idle_count -= 1
        is_full = self._idle_count >= self._max_connections or self._keepalive_seconds < 0
        if is_full or not is_usable:
            connection.close()
            return
        connection.idle_since = now
        stack.append(connection)
        self._idle_count += 1

    def drop(self) -> None:
        """Take note that a connection was closed before its answer ended."""
        self._slots.release()

    async def _connect(
        self, origin: Origin, limits: Mapping[str, float | None], *, on_link: bool
    ) -> _Connection:
        scheme, host, port = origin
        with _timeouts(limits.get("connect"), httpx.ConnectTimeout):
            try:
                opened = await trio.open_tcp_stream(host, port)
            except OSError as exc:
                raise httpx.ConnectError(_reason(exc)) from exc
            except UnicodeError as exc:
                raise httpx.ConnectError("no host can have this name") from exc
            plain = PlainStream.of(opened)
            try:
                address = plain.socket.getpeername()[0]
            except OSError as exc:
                # Reset since, while it stood in the queue of a server that ended.
                plain.close()
                raise httpx.ConnectError("the server closed the connection at once") from exc
            if not on_link and self._refuses(address):
                plain.close()
                raise httpx.ConnectError(f"the name leads to {address}, where no service is")
            if scheme != "https":
                return _Connection(origin, plain, plain)
            if self._ssl_context is None:
                self._ssl_context = self._make_ssl_context()
            tls = trio.SSLStream(
                plain, self._ssl_context, server_hostname=host, https_compatible=True
            )
            try:
                await tls.do_handshake()
            except (trio.BrokenResourceError, ssl.SSLError, OSError) as exc:
                plain.close()
                raise httpx.ConnectError(_reason(exc.__cause__ or exc)) from exc
            except BaseException:
                plain.close()
                raise
            return _Connection(origin, plain, tls)


class _Connection:
    """One connection and the state of its current request."""

    __slots__ = ("_h11", "_plain", "_stream", "idle_since", "origin")

    def __init__(
        self, origin: Origin, plain: PlainStream, stream: trio.SSLStream[PlainStream] | PlainStream
    ) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._plain = plain
        self._stream = stream
        self._h11 = h11.Connection(h11.CLIENT)

    async def exchange(
        self, request: httpx.Request, body: bytes, limits: dict[str, float | None]
    ) -> h11.Response:
        """Send the whole request and return the head of the answer."""
        try:
            data = self._h11.send(
                h11.Request(
                    method=request.method, target=request.url.raw_path, headers=request.headers.raw
                )
            )
            if body:
                data = (data or b"") + (self._h11.send(h11.Data(data=body)) or b"")
            data = (data or b"") + (self._h11.send(h11.EndOfMessage()) or b"")
        except h11.LocalProtocolError as exc:
            raise httpx.LocalProtocolError(str(exc), request=request) from exc
        await self.send(data, limits.get("write"))
        while True:
            event = await self.next_event(limits.get("read"))
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise httpx.RemoteProtocolError("the server closed without an answer")

    async def next_event(self, read_seconds: float | None) -> object:
        """Return the next h11 event, reading as long as it takes."""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as exc:
                raise httpx.RemoteProtocolError(str(exc)) from exc
            if event is not h11.NEED_DATA:
                return event
            data = await self.receive(read_seconds)
            if not data and self._h11.their_state is h11.SEND_RESPONSE:
                raise httpx.RemoteProtocolError("the server closed without an answer")
            self._h11.receive_data(data)

    async def send(self, data: bytes, seconds: float | None) -> None:
        """Write *data*, within a deadline."""
        # A server may refuse a long body and close: its answer is still to be read.
        with suppress(trio.BrokenResourceError):
            if self._stream is self._plain and len(data) <= SMALL_WRITE:
                await trio.lowlevel.checkpoint_if_cancelled()
                data = data[self._plain.send_now(data) :]
                if not data:
                    return
            if len(data) <= SMALL_WRITE:
                seconds = None
            with _timeouts(seconds, httpx.WriteTimeout):
                await self._stream.send_all(data)

    async def receive(self, seconds: float | None) -> bytes:
        """Return the next bytes; ``b""`` once the server has closed."""
        if seconds is None:
            return await self._receive()
        with _timeouts(seconds, httpx.ReadTimeout):
            return await self._receive()

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_SIZE))
        except (trio.BrokenResourceError, OSError) as exc:
            raise httpx.ReadError(_reason(exc.__cause__ or exc)) from exc

    def start_next_cycle(self) -> bool:
        """Get ready for another request; False if this connection takes none."""
        try:
            self._h11.start_next_cycle()
        except h11.ProtocolError:
            return False
        # Bytes after the answer belong to nothing that was asked.
        return not self._h11.trailing_data[0]

    def has_hung_up(self) -> bool:
        """Return whether the server closed, or sent what nobody asked for, while idle."""
        poll = select.poll()
        poll.register(self._plain.socket, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close at once, without TLS's farewell: the answer was complete or is not wanted."""
        self._plain.close()


class _Body(httpx.AsyncByteStream):
    """The body of an answer; gives its connection back at the end, or closes it."""

    def __init__(
        self, pool: PooledTransport, connection: _Connection, read_seconds: float | None
    ) -> None:
        self._pool = pool
        self._connection: _Connection | None = connection
        self._read_seconds = read_seconds

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        connection = self._connection
        if connection is None:
            raise StopAsyncIteration
        event = await connection.next_event(self._read_seconds)
        if isinstance(event, h11.Data):
            return bytes(event.data)
        # The end of the answer: no other kind of event can come here.
        self._connection = None
        self._pool.give_back(connection)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the connection if the answer was not read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._pool.drop()


@contextmanager
def _timeouts(seconds: float | None, error: type[httpx.TimeoutException]) -> Iterator[None]:
    if seconds is None:
        yield
        return
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise error(f"no progress for {seconds:g} seconds")


def _reason(exc: BaseException) -> str:
    """Return the system's words; trio wraps one error, or one per address."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    cause = exc.__cause__
    if isinstance(exc, OSError) and exc.strerror is None and cause is not None:
        return _reason(cause)
    if isinstance(exc, OSError) and exc.strerror:
        if exc.errno is not None and exc.errno > 0 and not isinstance(exc, ssl.SSLError):
            # Not its own text, in which trio writes the address as Python does.
            return os.strerror(exc.errno)
        return exc.strerror
    return str(exc) or type(exc).__name__

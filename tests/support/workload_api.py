"""A SPIFFE agent's Workload API as a test wants it: HTTP/2 over a Unix socket, byte for byte."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import trio

from keylessd.core.workload_api import JwtSvid, frame


@dataclass
class Answer:
    """What the agent answers to one request.

    Attributes:
        headers: Besides ``:status``.
        body: Pieces of it, each a DATA frame.
        trailers: Sent after the body, or None for none.
        cut: How it ends: ``""`` properly, ``"silent"`` never, ``"reset"`` by a reset of the
            stream, ``"close"`` by the end of the connection, ``"garbage"`` by bytes that are not
            HTTP/2, before anything else.
    """

    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/grpc"})
    body: Sequence[bytes] = ()
    trailers: Mapping[str, str] | None = None
    status: str = "200"
    cut: str = ""


def refusal(status: int | str, message: str = "") -> Answer:
    """Return an error as gRPC servers send it: trailers only."""
    headers = {"content-type": "application/grpc", "grpc-status": str(status)}
    return Answer(headers={**headers, "grpc-message": message} if message else headers)


class Agent:
    """Answers every request with *answer*, until its nursery ends.

    Attributes:
        answer: What it is, or what makes it.
        requests: What was asked: headers and body.
    """

    def __init__(self, path: Path, answer: Answer | Callable[[], Answer]) -> None:
        self.path = path
        self.answer = answer
        self.requests: list[tuple[dict[str, str], bytes]] = []

    def start(self, nursery: trio.Nursery) -> None:
        """Listen."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(16)
        listening = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        nursery.start_soon(trio.serve_listeners, self._serve, [listening])

    async def _serve(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                await self._talk(stream)

    async def _talk(self, stream: trio.SocketStream) -> None:
        answer = self.answer if isinstance(self.answer, Answer) else self.answer()
        if answer.cut == "garbage":
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        await stream.send_all(connection.data_to_send())
        headers: dict[str, str] = {}
        body = b""
        while data := await stream.receive_some():
            for event in connection.receive_data(bytes(data)):
                if isinstance(event, h2.events.RequestReceived):
                    headers = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    self.requests.append((headers, body))
                    if not await self._reply(stream, connection, event.stream_id, answer):
                        return
            await stream.send_all(connection.data_to_send())

    async def _reply(
        self,
        stream: trio.SocketStream,
        connection: h2.connection.H2Connection,
        number: int,
        answer: Answer,
    ) -> bool:
        if answer.cut == "silent":
            await trio.sleep_forever()
        head = [(":status", answer.status), *answer.headers.items()]
        ends = not answer.body and answer.trailers is None and not answer.cut
        connection.send_headers(number, head, end_stream=ends)
        for piece in answer.body:
            # A client that has read enough resets the stream.
            with suppress(h2.exceptions.ProtocolError):
                connection.send_data(number, piece)
                await stream.send_all(connection.data_to_send())
        if answer.cut == "reset":
            connection.reset_stream(number)
        elif answer.trailers is not None:
            connection.send_headers(number, list(answer.trailers.items()), end_stream=True)
        elif not ends and not answer.cut:
            connection.end_stream(number)
        await stream.send_all(connection.data_to_send())
        return answer.cut != "close"


def _field(number: int, value: bytes) -> bytes:
    length = len(value)
    size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return bytes([number << 3 | 2]) + size + value


def message(*svids: JwtSvid) -> bytes:
    """Return the framed answer that holds *svids*."""
    return frame(
        b"".join(
            _field(1, b"".join(_field(n, text.encode()) for n, text in enumerate(parts, 1) if text))
            for parts in ((one.spiffe_id, one.token, one.hint) for one in svids)
        )
    )

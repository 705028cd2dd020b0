"""A SPIFFE agent's Workload API as a test wants it: HTTP/2 over a Unix socket, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import trio


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
        requests: What was asked: headers and body.
    """

    def __init__(self, path: Path, answer: Answer) -> None:
        self.path = path
        self.answer = answer
        self.requests: list[tuple[dict[str, str], bytes]] = []

    async def start(self, nursery: trio.Nursery) -> None:
        """Listen."""
        listener = trio.socket.socket(trio.socket.AF_UNIX)
        await listener.bind(str(self.path))
        listener.listen(16)
        listening = trio.SocketListener(listener)
        nursery.start_soon(trio.serve_listeners, self._serve, [listening])

    async def _serve(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                await self._talk(stream)

    async def _talk(self, stream: trio.SocketStream) -> None:
        if self.answer.cut == "garbage":
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
                    if not await self._reply(stream, connection, event.stream_id):
                        return
            await stream.send_all(connection.data_to_send())

    async def _reply(
        self, stream: trio.SocketStream, connection: h2.connection.H2Connection, number: int
    ) -> bool:
        answer = self.answer
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

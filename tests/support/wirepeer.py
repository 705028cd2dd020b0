"""A client for tests of the server: speaks the protocol over any trio stream, well or badly."""

from __future__ import annotations

import trio

from keyless.wire import (
    CLIENT,
    NEED_DATA,
    Connection,
    ConnectionClosed,
    Failure,
    Hello,
    Reply,
    Request,
)

# The least that is a reply to `status`.
STATUS = {
    "version": "1",
    "pid": 1,
    "started": 1,
    "uptime_seconds": 1,
    "socket": "/s",
    "requests": {},
    "connections": 1,
    "default_instance": "public",
    "reuse": "window",
    "instances": [],
    "slots": [],
}


class WirePeer:
    """Sends messages and collects what comes back."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.wire = Connection(CLIENT)
        self._next_id = 0

    async def hello(self) -> object:
        await self.stream.send_all(self.wire.send(Hello(agent="test")))
        return await self.receive()

    async def send(
        self,
        op: str = "status",
        body: dict[str, object] | None = None,
        attachments: dict[str, bytes] | None = None,
    ) -> int:
        self._next_id += 1
        request = Request(self._next_id, op, body or {}, attachments or {})
        await self.stream.send_all(self.wire.send(request))
        return self._next_id

    async def receive(self) -> object:
        while (event := self.wire.next_event()) is NEED_DATA:
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                data = b""
            self.wire.receive_data(data)
        return event

    async def ask(self, *args: object, **kwargs: object) -> Reply | Failure | ConnectionClosed:
        """Send one request and return its answer, passing over events."""
        number = await self.send(*args, **kwargs)
        while True:
            message = await self.receive()
            if isinstance(message, Reply | Failure) and message.id == number:
                return message
            if isinstance(message, ConnectionClosed):
                return message

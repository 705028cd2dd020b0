"""Two ends of the protocol with a fake link between them, and the codecs to run them on."""

from __future__ import annotations

import importlib.util
from types import ModuleType, SimpleNamespace

import msgpack.fallback

from keyless.wire import CLIENT, NEED_DATA, SERVER, Connection, Hello, Welcome, _codec, _msgpack


def _on_fallback() -> ModuleType:
    """Return `_msgpack` once more, on msgpack's pure-Python implementation."""
    spec = importlib.util.spec_from_file_location("_msgpack_on_fallback", _msgpack.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.msgpack = SimpleNamespace(
        unpackb=msgpack.fallback.unpackb,
        Packer=msgpack.fallback.Packer,
    )
    return module


CODECS = {"own": _codec, "msgpack-c": _msgpack, "msgpack-python": _on_fallback()}


def events_of(connection: Connection) -> list[object]:
    """Return all messages that are there now."""
    events = []
    while (event := connection.next_event()) is not NEED_DATA:
        events.append(event)
        if type(event).__name__ == "ConnectionClosed":
            break
    return events


def feed(connection: Connection, data: bytes, *, step: int | None = None) -> list[object]:
    """Give *data* to one end in pieces of *step* bytes; return the messages it makes of them."""
    events = []
    step = step or max(1, len(data))
    for at in range(0, len(data), step):
        connection.receive_data(data[at : at + step])
        events += events_of(connection)
    return events


class ConnectionPair:
    """A client and a server; what one sends the other has received when send() returns."""

    def __init__(
        self, *, codec: ModuleType | None = None, step: int | None = None, **server
    ) -> None:
        self.client = Connection(CLIENT, codec=codec)
        self.server = Connection(SERVER, codec=codec, **server)
        self.step = step

    def greet(self) -> ConnectionPair:
        self.from_client(Hello(agent="test"))
        self.from_server(Welcome(agent="test", limits=self.server.limits))
        return self

    def from_client(self, *messages) -> list[object]:
        return feed(self.server, b"".join(map(self.client.send, messages)), step=self.step)

    def from_server(self, *messages) -> list[object]:
        return feed(self.client, b"".join(map(self.server.send, messages)), step=self.step)

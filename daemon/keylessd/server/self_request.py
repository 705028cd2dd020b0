"""Proves that the daemon answers: one ``status`` request to itself, over its own socket.

What a client meets is tried as a whole: the path, the accept loop, admission, the protocol,
dispatch. A daemon whose socket was removed, or whose loop stands still, fails it.
"""

from __future__ import annotations

import trio

from keyless.wire import (
    CLIENT,
    NEED_DATA,
    Connection,
    ConnectionClosed,
    Failure,
    Hello,
    RemoteProtocolError,
    Reply,
    Request,
)
from keylessd.log import EventLog

READ_SIZE = 64 << 10  # bytes

_log = EventLog(__name__)


async def answers_itself(address: str) -> bool:
    """Return whether ``status`` gets an answer at *address*; the caller sets the deadline.

    An answer of "busy" counts: it takes the same way, and the loop is alive.
    """
    try:
        async with await trio.open_unix_socket(address) as stream:
            return await _ask(stream)
    except (OSError, trio.BrokenResourceError, RemoteProtocolError) as exc:
        _log.warning("watchdog.failed", problem=str(exc))
        return False


async def _ask(stream: trio.abc.Stream) -> bool:
    wire = Connection(CLIENT)
    hello = wire.send(Hello(agent="keylessd self-request"))
    await stream.send_all(hello + wire.send(Request(1, "status", {})))
    while True:
        event = wire.next_event()
        if event is NEED_DATA:
            wire.receive_data(await stream.receive_some(READ_SIZE))
        elif isinstance(event, Reply):
            return True
        elif isinstance(event, Failure):
            return event.error.code == "busy"
        elif isinstance(event, ConnectionClosed):
            return False

"""The socket protocol without the socket: bytes to messages and back, for both ends.

Nothing here does I/O. clientlib/doc/protocol.md is the text; this is one reading of it.
"""

from keyless.wire._connection import (
    NEED_DATA,
    Connection,
    LocalProtocolError,
    NeedData,
    RemoteProtocolError,
)
from keyless.wire._messages import (
    CLIENT,
    SERVER,
    BadRequest,
    Cancel,
    ConnectionClosed,
    Event,
    Failure,
    Hello,
    Reply,
    Request,
    Welcome,
    WireError,
)
from keyless.wire._schema import DIGEST_BYTES, OPERATIONS, WHERE_FILES, printable

__all__ = [
    "CLIENT",
    "DIGEST_BYTES",
    "NEED_DATA",
    "OPERATIONS",
    "SERVER",
    "WHERE_FILES",
    "BadRequest",
    "Cancel",
    "Connection",
    "ConnectionClosed",
    "Event",
    "Failure",
    "Hello",
    "LocalProtocolError",
    "NeedData",
    "RemoteProtocolError",
    "Reply",
    "Request",
    "Welcome",
    "WireError",
    "printable",
]

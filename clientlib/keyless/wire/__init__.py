"""The socket protocol without the socket: bytes to messages and back, for both ends.

Nothing here does I/O. clientlib/doc/protocol.md is the text; this is one reading of it.
"""

from keyless.wire._connection import Connection, quick_codec
from keyless.wire._limits import MAX_NAME
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
from keyless.wire._operations import OPERATIONS, WHERE_FILES
from keyless.wire._schema import DIGEST_BYTES, is_clean, printable
from keyless.wire._state import NEED_DATA, LocalProtocolError, NeedData, RemoteProtocolError

__all__ = [
    "CLIENT",
    "DIGEST_BYTES",
    "MAX_NAME",
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
    "is_clean",
    "printable",
    "quick_codec",
]

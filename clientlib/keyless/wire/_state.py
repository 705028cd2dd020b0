"""Who may say what, and when, as one table; and what the protocol raises. No bytes, no I/O.

The table does not know which end we are: a Connection asks it for its own words and the peer's.
"""

from keyless.wire._messages import CLIENT, SERVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    import enum
    from typing import Final

    class NeedData(enum.Enum):
        """The type of NEED_DATA, an enumeration so that type checkers narrow on ``is``."""

        NEED_DATA = "NEED_DATA"

    NEED_DATA: Final = NeedData.NEED_DATA

else:

    class NeedData:
        """The type of NEED_DATA: next_event() has nothing until more bytes are received."""

        __slots__ = ()

        def __repr__(self) -> str:
            return "NEED_DATA"

    NEED_DATA = NeedData()


class LocalProtocolError(Exception):
    """Our own side asked for something the protocol does not allow. Nothing was sent."""


class RemoteProtocolError(Exception):
    """The peer broke the protocol; the connection is unusable.

    Attributes:
        code: Stable code for the error frame that tells the peer why, before closing:
            ``bad_frame``, ``too_large``, ``unsupported_version`` or ``busy``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


# All transitions are here: (who speaks, its state) -> what it may say -> its next state.
# "error" answers one request, "goodbye" is the error frame that ends the connection. The end of
# the stream closes whatever the state.
START, OPEN, CLOSED = "start", "open", "closed"
LEGAL = {
    (CLIENT, START): {"hello": OPEN},
    (CLIENT, OPEN): {"request": OPEN, "cancel": OPEN},
    (CLIENT, CLOSED): {},
    (SERVER, START): {"welcome": OPEN, "goodbye": CLOSED},
    (SERVER, OPEN): {"reply": OPEN, "error": OPEN, "event": OPEN, "goodbye": CLOSED},
    (SERVER, CLOSED): {},
}
# What only makes sense once the other end has opened the conversation.
AFTER_PEER_OPENED = {"welcome"}
# What is about a request that is still unanswered.
ABOUT_A_REQUEST = {"reply", "error", "event", "cancel"}

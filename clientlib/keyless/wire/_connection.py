"""One end of one connection: bytes to messages and back, and which message is legal when.

Sans-I/O: it opens no socket, reads no clock, starts nothing. The caller moves the bytes:

    connection.receive_data(data)            # b"" when the peer has closed
    while (event := connection.next_event()) is not NEED_DATA: ...
    socket.sendall(connection.send(message))

Both ends use this one class. What each may say, and when, is the table LEGAL; it does not know
which end we are.
"""

from keyless.wire import _codec
from keyless.wire._framing import FrameBuffer, FrameTooLongError, frame
from keyless.wire._heads import (
    Head,
    MessageError,
    failure_problem,
    read_failure,
    read_head,
    read_hello,
    read_welcome,
    to_head,
)
from keyless.wire._limits import (
    MAX_ATTACHMENT_BYTES,
    MAX_ATTACHMENTS,
    MAX_HEAD,
    MAX_ID,
    MAX_IN_FLIGHT,
    MAX_OPEN_BYTES,
    PIPELINE_BEFORE_WELCOME,
)
from keyless.wire._messages import (
    CLIENT,
    SERVER,
    BadRequest,
    Cancel,
    ConnectionClosed,
    Event,
    Failure,
    Reply,
    Request,
    WireError,
)
from keyless.wire._operations import OPERATIONS, reply_problem, request_problem
from keyless.wire._schema import ANY_EVENT, EVENTS, printable, problem
from keyless.wire._state import (
    ABOUT_A_REQUEST,
    AFTER_PEER_OPENED,
    CLOSED,
    LEGAL,
    NEED_DATA,
    OPEN,
    START,
    LocalProtocolError,
    RemoteProtocolError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from keyless.wire._messages import Received, Sent, Welcome
    from keyless.wire._state import NeedData

    class Codec(Protocol):
        """The two functions a codec module has; both raise CodecError only."""

        def pack(self, value: object) -> bytes: ...
        def unpack(self, data: bytes) -> object: ...


class Connection:
    """The protocol state of one end.

    Args:
        role: CLIENT or SERVER.
        max_in_flight: Server: how many requests may wait for their answer at once; a further
            one comes out as BadRequest with code ``busy``.
        codec: The msgpack implementation; by default the one that suits the role.
    """

    __slots__ = (
        "_attachments",
        "_buffer",
        "_codec",
        "_eof",
        "_failed",
        "_head",
        "_held",
        "_max_in_flight",
        "_open",
        "_refusal",
        "_states",
        "peer",
        "role",
        "welcome",
    )

    def __init__(
        self, role: str, *, max_in_flight: int = MAX_IN_FLIGHT, codec: "Codec | None" = None
    ) -> None:
        if codec is None:
            codec = _codec if role == CLIENT else quick_codec()
        self.role = role
        self.peer = SERVER if role == CLIENT else CLIENT
        self.welcome: Welcome | None = None
        self._codec = codec
        self._max_in_flight = max_in_flight
        self._states = {CLIENT: START, SERVER: START}
        self._buffer = FrameBuffer()
        self._eof = False
        self._failed: tuple[str, str] | None = None
        # A frame whose head was read and whose attachments are still coming, or None; those
        # that are complete; and the refusal if they are thrown away.
        self._head: Head | None = None
        self._attachments: dict[str, bytes] = {}
        self._refusal: WireError | None = None
        # Unanswered requests: id -> operation ("" for a refused one); id -> attachment bytes.
        self._open: dict[int, str] = {}
        self._held: dict[int, int] = {}

    # --- what the caller may ask --------------------------------------------------------------

    @property
    def limits(self) -> "dict[str, int]":
        """The limits of this end, for its ``welcome``."""
        return {
            "head": MAX_HEAD,
            "attachments": MAX_ATTACHMENT_BYTES,
            "attachment_count": MAX_ATTACHMENTS,
            "in_flight": self._max_in_flight,
            "open_bytes": MAX_OPEN_BYTES,
        }

    @property
    def in_flight(self) -> "tuple[int, ...]":
        """Ids of the requests that wait for their answer, oldest first."""
        return tuple(self._open)

    @property
    def room(self) -> int:
        """How many requests a client may send now without being refused as ``busy``."""
        limit = PIPELINE_BEFORE_WELCOME
        if self.welcome is not None:
            limit = self.welcome.limits.get("in_flight", limit)
        return max(0, limit - len(self._open))

    @property
    def open_bytes_room(self) -> int:
        """How many bytes of attachments the next request of a client may carry now."""
        limits = self.welcome.limits if self.welcome is not None else {}
        held = limits.get("open_bytes", MAX_OPEN_BYTES) - sum(self._held.values())
        return max(0, min(held, limits.get("attachments", MAX_ATTACHMENT_BYTES)))

    @property
    def partial(self) -> bool:
        """Whether a message of the peer has begun to arrive and is not complete.

        True only after next_event() has answered NEED_DATA; a server bounds how long it lasts.
        """
        return self._head is not None or self._buffer.skipping or len(self._buffer) > 0

    @property
    def buffered(self) -> int:
        """How many bytes of messages that are not complete are held now."""
        return len(self._buffer) + sum(map(len, self._attachments.values()))

    # --- receiving ----------------------------------------------------------------------------

    def receive_data(self, data: "bytes | bytearray | memoryview") -> None:
        """Take bytes as they came from the peer; ``b""`` says that it has closed.

        Never raises for what the bytes are; next_event() does.
        """
        if not data:
            self._eof = True
        elif self._failed is None and self._states[self.peer] != CLOSED:
            self._buffer.feed(data)

    def next_event(self) -> "Received | NeedData":
        """Return the next message of the peer, NEED_DATA, or ConnectionClosed (again and again).

        Raises:
            RemoteProtocolError: the peer broke the protocol, now or before. A server tells it
                why (``Failure(None, ...)`` with the error's code) and closes. If this method
                raises anything else, that is a bug.
        """
        if self._failed is not None:
            raise RemoteProtocolError(*self._failed)
        try:
            return self._next_event()
        except MessageError as error:
            self._failed = (error.code, str(error))
        except FrameTooLongError as error:
            self._failed = ("too_large", str(error))
        except _codec.CodecError as error:
            self._failed = ("bad_frame", f"the head is not as it must be: {error}")
        # Raised here so that nothing of the payload hangs on it as a context.
        self._forget_frame()
        raise RemoteProtocolError(*self._failed)

    def _next_event(self) -> "Received | NeedData":
        while True:
            if self._states[self.peer] == CLOSED:
                return ConnectionClosed()
            if self._head is None:
                raw = self._buffer.next_head()
                if raw is None:
                    return self._starved()
                self._begin(read_head(self._codec.unpack(raw)))
            message = self._finish()
            if message is None:
                return self._starved()
            if not (isinstance(message, Cancel) and message.id not in self._open):
                return message
            # The answer and the cancel crossed on the way: nothing is left to be cancelled.

    def _starved(self) -> "Received | NeedData":
        if not self._eof:
            return NEED_DATA
        clean = not self.partial
        self._states[self.peer] = CLOSED
        self._forget_frame()
        return ConnectionClosed(clean)

    def _forget_frame(self) -> None:
        self._buffer = FrameBuffer()
        self._head = None
        self._attachments = {}

    def _begin(self, head: Head) -> None:
        """Admit a frame by its head, before its attachments are there."""
        kind = head.kind
        if kind == "error" and head.fields.get("id") is None:
            kind = "goodbye"
        state = LEGAL[self.peer, self._states[self.peer]].get(kind)
        if state is None or (kind in AFTER_PEER_OPENED and self._states[self.role] != OPEN):
            raise MessageError("bad_frame", f"{kind} is not expected here")
        if kind in ABOUT_A_REQUEST and kind != "cancel" and head.fields["id"] not in self._open:
            raise MessageError("bad_frame", f"{kind} for a request that does not wait for it")
        if kind == "request":
            self._refusal = self._admit(head)
            if self._refusal is not None:
                self._buffer.skip(sum(head.attachments.values()))
        elif kind == "reply":
            found = reply_problem(
                self._open[head.fields["id"]], head.fields["body"], head.attachments
            )
            if found:
                raise MessageError("bad_frame", f"a reply is not as it must be: {found}")
        self._states[self.peer] = state
        self._head = head

    def _admit(self, head: Head) -> "WireError | None":
        """Enter a request among the unanswered; return why it is refused, or None."""
        number, op = head.fields["id"], head.fields["op"]
        if number in self._open:
            raise MessageError("bad_frame", "the id of a request is in use")
        if len(self._open) >= 2 * self._max_in_flight:
            # It does not wait for answers, not even for those that say so.
            raise MessageError("busy", "too many unanswered requests")
        size = sum(head.attachments.values())
        refusal = None
        if op not in OPERATIONS:
            refusal = WireError("unknown_operation", "this daemon does not know the operation")
        elif found := request_problem(op, head.fields["body"], head.attachments):
            refusal = WireError("bad_request", found)
        elif len(self._open) >= self._max_in_flight:
            refusal = WireError("busy", "too many unanswered requests", retryable=True)
        elif size + sum(self._held.values()) > MAX_OPEN_BYTES:
            refusal = WireError("busy", "too many bytes in unanswered requests", retryable=True)
        self._open[number] = op if refusal is None else ""
        self._held[number] = size if refusal is None else 0
        return refusal

    def _finish(self) -> "Received | None":
        """Return the message of the head in hand, or None while attachments are missing."""
        head = self._head
        assert head is not None  # noqa: S101  # by the only caller
        if self._buffer.skipping:
            return None
        if self._refusal is None:
            for name, length in head.attachments.items():
                if name in self._attachments:
                    continue
                data = self._buffer.take(length)
                if data is None:
                    return None
                self._attachments[name] = data
        attachments, self._attachments = self._attachments, {}
        refusal, self._refusal = self._refusal, None
        self._head = None
        return self._message(head, attachments, refusal)

    def _message(
        self, head: Head, attachments: "dict[str, bytes]", refusal: "WireError | None"
    ) -> "Received":
        fields, kind = head.fields, head.kind
        message: Received
        if kind == "request" and refusal is not None:
            message = BadRequest(fields["id"], printable(fields["op"], 64), refusal)
        elif kind == "request":
            message = Request(fields["id"], fields["op"], fields["body"], attachments)
        elif kind == "reply":
            message = Reply(fields["id"], fields["body"], attachments)
        elif kind == "error":
            message = read_failure(fields)
        elif kind == "event":
            message = Event(fields["id"], fields["name"], fields["body"])
        elif kind == "cancel":
            message = Cancel(fields["id"])
        elif kind == "welcome":
            message = self.welcome = read_welcome(fields)
        else:
            message = read_hello(fields)
        if isinstance(message, (Reply, Failure)) and message.id is not None:
            self._answered(message.id)
        return message

    def _answered(self, number: int) -> None:
        del self._open[number]
        self._held.pop(number, None)

    # --- sending ------------------------------------------------------------------------------

    def send(self, message: "Sent") -> bytes:
        """Return the bytes that say *message*, and count it as said.

        Raises:
            LocalProtocolError: it may not be said now, or has not the form it must have.
        """
        kind = message.kind
        state = LEGAL[self.role, self._states[self.role]].get(kind)
        if state is None or (kind in AFTER_PEER_OPENED and self._states[self.peer] != OPEN):
            raise LocalProtocolError(f"{kind} may not be sent now")
        found = self._unsendable(message)
        if found:
            raise LocalProtocolError(f"{kind} cannot be sent: {found}")
        attachments = message.attachments if isinstance(message, (Request, Reply)) else {}
        try:
            data = frame(self._codec.pack(to_head(message)), list(attachments.values()))
        except (_codec.CodecError, FrameTooLongError) as error:
            raise LocalProtocolError(f"{kind} cannot be sent: {error}") from error
        self._states[self.role] = state
        if isinstance(message, Request):
            self._open[message.id] = message.op
            self._held[message.id] = sum(map(len, attachments.values()))
        elif isinstance(message, (Reply, Failure)) and message.id is not None:
            self._answered(message.id)
        return data

    def _unsendable(self, message: "Sent") -> "str | None":
        if message.kind in ABOUT_A_REQUEST and getattr(message, "id", None) not in self._open:
            return "no such request waits for it"
        found = None
        if isinstance(message, Request):
            found = self._request_unsendable(message)
        elif isinstance(message, Reply):
            found = self._reply_unsendable(message)
        elif isinstance(message, Failure):
            found = failure_problem(message)
        elif isinstance(message, Event):
            found = problem(EVENTS.get(message.name, ANY_EVENT), message.body, "body")
        return found

    def _reply_unsendable(self, reply: Reply) -> "str | None":
        op = self._open[reply.id]
        if op not in OPERATIONS:
            return "the request was refused"
        sizes = {name: len(data) for name, data in reply.attachments.items()}
        return _too_much(sizes) or reply_problem(op, reply.body, sizes)

    def _request_unsendable(self, request: Request) -> "str | None":
        if found := problem(("int", 1, MAX_ID), request.id, "id"):
            return found
        if request.id in self._open:
            return "its id is in use"
        if request.op not in OPERATIONS:
            return "there is no such operation"
        sizes = {name: len(data) for name, data in request.attachments.items()}
        return _too_much(sizes) or request_problem(request.op, request.body, sizes)


def _too_much(sizes: "dict[str, int]") -> "str | None":
    if sum(sizes.values()) > MAX_ATTACHMENT_BYTES:
        return f"more than {MAX_ATTACHMENT_BYTES} bytes of attachments"
    return None


def quick_codec() -> "Codec":
    """Return the codec for whoever reads many heads."""
    # Here and not above: a short-lived client must not pay 4 ms for it.
    from keyless.wire import _msgpack  # noqa: PLC0415

    return _msgpack

"""The messages of the protocol as values, and how each stands in a head. No bytes, no state."""

from keyless.wire._limits import (
    MAX_AGENT,
    MAX_ATTACHMENT_BYTES,
    MAX_ATTACHMENTS,
    MAX_DETAILS,
    MAX_ID,
    MAX_INT,
    MAX_MESSAGE,
    MAX_NAME,
    MIN_INT,
    PROTOCOL_VERSION,
)
from keyless.wire._schema import is_clean, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from keyless.wire._schema import Body

CLIENT = "client"
SERVER = "server"


class MessageError(ValueError):
    """A head that is no message, with the stable code for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Value:
    """Equality and repr over the slots; what a peer wrote at length is shown by size only."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]  # they hold maps

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_brief(getattr(self, name))}" for name in self.__slots__)
        return f"{type(self).__name__}({shown})"


def _brief(value: object) -> str:
    """Show numbers and short names; of bytes and maps only sizes, since they may be secret."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_brief(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return repr(value)


class WireError(_Value):
    """What an error frame says. The constructor makes any text fit to be sent and shown.

    Attributes:
        code: One of ``keyless.errors.CODES``; a newer daemon may know more.
        message: One sentence for people.
        retryable: Whether the same request may succeed later unchanged.
        retry_after_ms: How long to wait before that, in milliseconds, or None.
        hint: What to do next, or None.
        details: Facts by name, str or int.
    """

    __slots__ = ("code", "details", "hint", "message", "retry_after_ms", "retryable")

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after_ms: "int | None" = None,
        hint: "str | None" = None,
        details: "dict[str, str | int] | None" = None,
    ) -> None:
        self.code = code
        self.message = printable(message, MAX_MESSAGE) or code
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        self.hint = printable(hint, MAX_MESSAGE) if hint else None
        self.details: dict[str, str | int] = {}
        for name, fact in list((details or {}).items())[:MAX_DETAILS]:
            key = printable(name, MAX_NAME)
            self.details[key] = printable(fact, MAX_MESSAGE) if isinstance(fact, str) else fact


class Hello(_Value):
    """Client, once, first: the versions it speaks and what it is."""

    __slots__ = ("agent", "versions")
    kind = "hello"

    def __init__(self, versions: "tuple[int, ...]" = (PROTOCOL_VERSION,), agent: str = "") -> None:
        self.versions = versions
        self.agent = printable(agent, MAX_AGENT)


class Welcome(_Value):
    """Daemon, once, first: the version in force, what it is, and its limits by name."""

    __slots__ = ("agent", "limits", "version")
    kind = "welcome"

    def __init__(
        self,
        version: int = PROTOCOL_VERSION,
        agent: str = "",
        limits: "dict[str, int] | None" = None,
    ) -> None:
        self.version = version
        self.agent = printable(agent, MAX_AGENT)
        self.limits = limits if limits is not None else {}


class Request(_Value):
    """Client: do *op*. Body and attachments have the shape of OPERATIONS[op]."""

    __slots__ = ("attachments", "body", "id", "op")
    kind = "request"

    def __init__(
        self, id: int, op: str, body: "Body", attachments: "dict[str, bytes] | None" = None
    ) -> None:
        self.id = id
        self.op = op
        self.body = body
        self.attachments = attachments if attachments is not None else {}


class Reply(_Value):
    """Daemon: the request succeeded; nothing more follows for this id."""

    __slots__ = ("attachments", "body", "id")
    kind = "reply"

    def __init__(
        self, id: int, body: "Body", attachments: "dict[str, bytes] | None" = None
    ) -> None:
        self.id = id
        self.body = body
        self.attachments = attachments if attachments is not None else {}


class Failure(_Value):
    """Daemon: the request failed; or, with id None, the connection ends for this reason."""

    __slots__ = ("error", "id")

    def __init__(self, id: "int | None", error: WireError) -> None:
        self.id = id
        self.error = error

    @property
    def kind(self) -> str:
        """``"error"`` for one request, ``"goodbye"`` for the whole connection."""
        return "error" if self.id is not None else "goodbye"


class Event(_Value):
    """Daemon: something happened on the way to the reply. Names a client knows not are ignored."""

    __slots__ = ("body", "id", "name")
    kind = "event"

    def __init__(self, id: int, name: str, body: "Body") -> None:
        self.id = id
        self.name = name
        self.body = body


class Cancel(_Value):
    """Client: stop this request. Its answer (a ``cancelled`` error or a reply) still comes."""

    __slots__ = ("id",)
    kind = "cancel"

    def __init__(self, id: int) -> None:
        self.id = id


class BadRequest(_Value):
    """Never on the wire: a well-framed request that is refused. Answer ``Failure(id, error)``.

    Its attachments were not kept. ``error.code`` is ``bad_request``, ``unknown_operation`` or
    ``busy``; ``op`` is the operation asked for, fit to be logged.
    """

    __slots__ = ("error", "id", "op")
    kind = "request"

    def __init__(self, id: int, op: str, error: WireError) -> None:
        self.id = id
        self.op = op
        self.error = error


class ConnectionClosed(_Value):
    """The peer has gone: nothing follows. ``clean`` is False if it left amid a frame."""

    __slots__ = ("clean",)
    kind = "closed"

    def __init__(self, clean: bool = True) -> None:
        self.clean = clean


# --- heads -----------------------------------------------------------------------------------


def to_head(message: "Any") -> "dict[str, object]":
    """Return the head of a message that may stand on the wire."""
    if isinstance(message, Hello):
        return {"t": "hello", "v": list(message.versions), "agent": message.agent}
    if isinstance(message, Welcome):
        return {
            "t": "welcome",
            "v": message.version,
            "agent": message.agent,
            "limits": message.limits,
        }
    if isinstance(message, Failure):
        return _error_head(message)
    head: dict[str, object] = {"t": message.kind, "id": message.id}
    if isinstance(message, Request):
        head["op"] = message.op
    elif isinstance(message, Event):
        head["name"] = message.name
    if not isinstance(message, Cancel):
        head["body"] = message.body
    if isinstance(message, Request | Reply) and message.attachments:
        head["att"] = [[name, len(data)] for name, data in message.attachments.items()]
    return head


def _error_head(failure: Failure) -> "dict[str, object]":
    error = failure.error
    told: dict[str, object] = {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
    }
    if error.retry_after_ms is not None:
        told["retry_after_ms"] = error.retry_after_ms
    if error.hint is not None:
        told["hint"] = error.hint
    if error.details:
        told["details"] = error.details
    head: dict[str, object] = {"t": "error", "error": told}
    if failure.id is not None:
        head["id"] = failure.id
    return head


class Head:
    """A decoded head whose envelope is in order: its type, fields, and announced attachments."""

    __slots__ = ("attachments", "fields", "kind")

    def __init__(self, kind: str, fields: "Body", attachments: "dict[str, int]") -> None:
        self.kind = kind
        self.fields = fields
        self.attachments = attachments


# Fields of each type besides "t": those it must have, those it may have, and whether others are
# passed over. Only the two that open the conversation are open, so that a later version can
# still be talked out of a misunderstanding.
_FIELDS = {
    "hello": (("v", "agent"), (), True),
    "welcome": (("v", "agent", "limits"), (), True),
    "request": (("id", "op", "body"), ("att",), False),
    "reply": (("id", "body"), ("att",), False),
    "error": (("error",), ("id",), False),
    "event": (("id", "name", "body"), (), False),
    "cancel": (("id",), (), False),
}


def read_head(value: object) -> Head:
    """Check the envelope of a decoded head; what its body holds is checked later.

    Raises:
        MessageError: ``bad_frame`` if it is no head; ``too_large`` if it announces more
            attachments, or more bytes of them, than a frame may have.
    """
    if type(value) is not dict:
        raise MessageError("bad_frame", "a head is not a map")
    kind = value.pop("t", None)
    if type(kind) is not str or kind not in _FIELDS:
        raise MessageError("bad_frame", "a head has no type that is known")
    must, may, is_open = _FIELDS[kind]
    for name in must:
        if name not in value:
            raise MessageError("bad_frame", f"{kind} without {name}")
    if not is_open and any(name not in must and name not in may for name in value):
        raise MessageError("bad_frame", f"{kind} has a field that is not known here")
    for name, wanted in _TYPES.items():
        if name in value and type(value[name]) is not wanted and name in must:
            raise MessageError("bad_frame", f"{kind}.{name} has not the right type")
    _check_id(kind, value)
    return Head(kind, value, _announced(value.pop("att", [])))


_TYPES = {"op": str, "name": str, "agent": str, "body": dict, "error": dict, "limits": dict}


def _check_id(kind: str, fields: "Body") -> None:
    if "id" not in fields or (kind == "error" and fields["id"] is None):
        return
    if type(fields["id"]) is not int or not 1 <= fields["id"] <= MAX_ID:
        raise MessageError("bad_frame", f"{kind}.id is not an integer from 1 to {MAX_ID}")


def _announced(pairs: object) -> "dict[str, int]":
    if type(pairs) is not list:
        raise MessageError("bad_frame", "att is not an array")
    if len(pairs) > MAX_ATTACHMENTS:
        raise MessageError("too_large", f"more than {MAX_ATTACHMENTS} attachments")
    announced: dict[str, int] = {}
    for pair in pairs:
        if type(pair) is not list or len(pair) != 2:
            raise MessageError("bad_frame", "an attachment is not a pair")
        name, length = pair
        if type(name) is not str or not name or len(name) > MAX_NAME or name in announced:
            raise MessageError("bad_frame", "an attachment's name is empty, long or there twice")
        if type(length) is not int or length < 0:
            raise MessageError("bad_frame", "an attachment's length is not a natural number")
        announced[name] = length
    if sum(announced.values()) > MAX_ATTACHMENT_BYTES:
        raise MessageError("too_large", f"more than {MAX_ATTACHMENT_BYTES} bytes of attachments")
    return announced


def read_hello(fields: "Body") -> Hello:
    """Return the hello of a checked head.

    Raises:
        MessageError: ``bad_frame``.
    """
    versions = fields["v"]
    if type(versions) is not list or not versions or any(type(v) is not int for v in versions):
        raise MessageError("bad_frame", "hello.v is not an array of integers")
    return Hello(tuple(versions), fields["agent"])


def read_welcome(fields: "Body") -> Welcome:
    """Return the welcome of a checked head.

    Raises:
        MessageError: ``bad_frame``, or ``unsupported_version``.
    """
    if fields["v"] != PROTOCOL_VERSION or type(fields["v"]) is not int:
        raise MessageError("unsupported_version", "the daemon chose a version nobody offered")
    limits = fields["limits"]
    if any(type(value) is not int or value < 0 for value in limits.values()):
        raise MessageError("bad_frame", "a limit is not a natural number")
    return Welcome(fields["v"], fields["agent"], limits)


def read_failure(fields: "Body") -> Failure:
    """Return the failure of a checked head.

    Raises:
        MessageError: ``bad_frame``.
    """
    told = fields["error"]
    for name, wanted, needed in _ERROR_FIELDS:
        if name not in told and not needed:
            continue
        if type(told.get(name)) is not wanted:
            raise MessageError("bad_frame", f"error.{name} is missing or has not the right type")
    if not told["code"] or len(told["code"]) > MAX_NAME or not is_clean(told["code"]):
        raise MessageError("bad_frame", "error.code is not a name")
    if told.get("retry_after_ms", 0) < 0:
        raise MessageError("bad_frame", "error.retry_after_ms is negative")
    if any(
        type(fact) is not str and type(fact) is not int for fact in told.get("details", {}).values()
    ):
        raise MessageError("bad_frame", "a detail of an error is no string or integer")
    return Failure(
        fields.get("id"),
        WireError(
            told["code"],
            told["message"],
            retryable=told["retryable"],
            retry_after_ms=told.get("retry_after_ms"),
            hint=told.get("hint"),
            details=told.get("details"),
        ),
    )


_ERROR_FIELDS = (
    ("code", str, True),
    ("message", str, True),
    ("retryable", bool, True),
    ("retry_after_ms", int, False),
    ("hint", str, False),
    ("details", dict, False),
)


def failure_problem(failure: Failure) -> "str | None":
    """Return why this failure cannot be sent, or None. Its texts are clean by construction."""
    error = failure.error
    if not isinstance(error.code, str) or not error.code or not is_clean(error.code):
        return "the code is not a name"
    after = error.retry_after_ms
    if after is not None and (not isinstance(after, int) or not 0 <= after <= MAX_INT):
        return "retry_after_ms is not a natural number"
    for fact in error.details.values():
        if not isinstance(fact, str) and not (
            isinstance(fact, int) and not isinstance(fact, bool) and MIN_INT <= fact <= MAX_INT
        ):
            return "a detail is no string or integer"
    return None

"""How a message stands in a head, and what makes a head a message. No bytes, no state."""

from keyless.wire._limits import (
    MAX_ATTACHMENT_BYTES,
    MAX_ATTACHMENTS,
    MAX_ID,
    MAX_NAME,
    PROTOCOL_VERSION,
)
from keyless.wire._messages import (
    Cancel,
    Event,
    Failure,
    Hello,
    Reply,
    Request,
    Welcome,
    WireError,
)
from keyless.wire._schema import ERROR, problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyless.wire._messages import Sent
    from keyless.wire._schema import Body


class MessageError(ValueError):
    """A head that is no message, with the stable code for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def to_head(message: "Sent") -> "dict[str, object]":
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
    if isinstance(message, (Request, Reply)) and message.attachments:
        head["att"] = [[name, len(data)] for name, data in message.attachments.items()]
    return head


def _error_head(failure: Failure) -> "dict[str, object]":
    head: dict[str, object] = {"t": "error", "error": _told(failure.error)}
    if failure.id is not None:
        head["id"] = failure.id
    return head


def _told(error: WireError) -> "dict[str, object]":
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
    if error.report:
        told["report"] = error.report
    return told


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
_FIELDS: "dict[str, tuple[tuple[str, ...], tuple[str, ...], bool]]" = {
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
    if not is_open and not set(value) <= {*must, *may}:
        raise MessageError("bad_frame", f"{kind} has a field that is not known here")
    for name, wanted in _TYPES.items():
        if name in must and not isinstance(value[name], wanted):
            raise MessageError("bad_frame", f"{kind}.{name} has not the right type")
    _check_id(kind, value)
    return Head(kind, value, _announced(value.pop("att", [])) if "att" in may else {})


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
        if type(pair) is not list or len(pair) != len(("name", "length")):
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
        MessageError: ``bad_frame``, or ``unsupported_version``.
    """
    versions = fields["v"]
    if type(versions) is not list or not versions or any(type(v) is not int for v in versions):
        raise MessageError("bad_frame", "hello.v is not an array of integers")
    if PROTOCOL_VERSION not in versions:
        raise MessageError("unsupported_version", f"only version {PROTOCOL_VERSION} is spoken")
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
    found = problem(ERROR, told, "error")
    if found:
        raise MessageError("bad_frame", found)
    return Failure(
        fields.get("id"),
        WireError(
            told["code"],
            told["message"],
            retryable=told["retryable"],
            retry_after_ms=told.get("retry_after_ms"),
            hint=told.get("hint"),
            details=told.get("details"),
            report=told.get("report"),
        ),
    )


def failure_problem(failure: Failure) -> "str | None":
    """Return why this failure cannot be sent, or None. Its texts are clean by construction."""
    return problem(ERROR, _told(failure.error), "error")

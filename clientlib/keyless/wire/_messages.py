"""The messages of the protocol as values. No bytes, no state."""

from keyless.wire._limits import MAX_AGENT, MAX_DETAILS, MAX_MESSAGE, MAX_NAME, PROTOCOL_VERSION
from keyless.wire._schema import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from keyless.wire._schema import Body

    Sent: TypeAlias = "Hello | Welcome | Request | Reply | Failure | Event | Cancel"
    Received: TypeAlias = "Sent | BadRequest | ConnectionClosed"

CLIENT = "client"
SERVER = "server"


class _Value:
    """Equality and repr over the slots; what a peer wrote at length is shown by size only."""

    __slots__: "tuple[str, ...]" = ()

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
        report: Steps of a verification that passed before: ``{"step", "facts"}`` each.
    """

    __slots__ = ("code", "details", "hint", "message", "report", "retry_after_ms", "retryable")

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after_ms: "int | None" = None,
        hint: "str | None" = None,
        details: "dict[str, str | int] | None" = None,
        report: "list[dict[str, Any]] | None" = None,
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
        self.report: list[dict[str, Any]] = [
            {
                "step": printable(step["step"], MAX_NAME),
                "facts": [printable(fact, MAX_MESSAGE) for fact in step["facts"]],
            }
            for step in report or ()
        ]


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
        self, number: int, op: str, body: "Body", attachments: "dict[str, bytes] | None" = None
    ) -> None:
        self.id = number
        self.op = op
        self.body = body
        self.attachments = attachments if attachments is not None else {}


class Reply(_Value):
    """Daemon: the request succeeded; nothing more follows for this id."""

    __slots__ = ("attachments", "body", "id")
    kind = "reply"

    def __init__(
        self, number: int, body: "Body", attachments: "dict[str, bytes] | None" = None
    ) -> None:
        self.id = number
        self.body = body
        self.attachments = attachments if attachments is not None else {}


class Failure(_Value):
    """Daemon: the request failed; or, with id None, the connection ends for this reason."""

    __slots__ = ("error", "id")

    def __init__(self, number: "int | None", error: WireError) -> None:
        self.id = number
        self.error = error

    @property
    def kind(self) -> str:
        """``"error"`` for one request, ``"goodbye"`` for the whole connection."""
        return "error" if self.id is not None else "goodbye"


class Event(_Value):
    """Daemon: something happened on the way to the reply. Names a client knows not are ignored."""

    __slots__ = ("body", "id", "name")
    kind = "event"

    def __init__(self, number: int, name: str, body: "Body") -> None:
        self.id = number
        self.name = name
        self.body = body


class Cancel(_Value):
    """Client: stop this request. Its answer (a ``cancelled`` error or a reply) still comes."""

    __slots__ = ("id",)
    kind = "cancel"

    def __init__(self, number: int) -> None:
        self.id = number


class BadRequest(_Value):
    """Never on the wire: a well-framed request that is refused. Answer ``Failure(id, error)``.

    Its attachments were not kept. ``error.code`` is ``bad_request``, ``unknown_operation`` or
    ``busy``; ``op`` is the operation asked for, fit to be logged.
    """

    __slots__ = ("error", "id", "op")
    kind = "request"

    def __init__(self, number: int, op: str, error: WireError) -> None:
        self.id = number
        self.op = op
        self.error = error


class ConnectionClosed(_Value):
    """The peer has gone: nothing follows. ``clean`` is False if it left amid a frame."""

    __slots__ = ("clean",)
    kind = "closed"

    def __init__(self, clean: bool = True) -> None:
        self.clean = clean

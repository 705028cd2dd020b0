"""The client's side of one connection: calls in, bytes out, bytes in, finished calls out.

Sans-I/O: which request waits, in what window, what is sent again and what an error becomes. The
blocking client and the trio client both move its bytes.
"""

from keyless._version import __version__
from keyless.errors import KeylessError, VerificationError
from keyless.wire import (
    CLIENT,
    NEED_DATA,
    Cancel,
    Connection,
    ConnectionClosed,
    Event,
    Failure,
    Hello,
    LocalProtocolError,
    RemoteProtocolError,
    Reply,
    Request,
    Welcome,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyless._calls import Call
    from keyless.wire import WireError
    from keyless.wire._connection import Codec

# Requests in flight from one client, even where the daemon allows more: enough that no log waits
# for us, little enough that other clients of the daemon get their turn.
WINDOW = 32

# What a daemon gives itself for a request and for a login, if it does not say, in seconds.
REQUEST_SECONDS = 120
LOGIN_SECONDS = 300
# How much longer it is waited for.
MARGIN_SECONDS = 30
MAX_PATIENCE = 86_400


class Exchange:
    """Calls that share one connection.

    Args:
        agent: What the client calls itself in ``hello``.
        window: How many requests may be unanswered at once; the daemon's limit goes before.
        codec: Reads and writes heads; the one that needs no import if None.
    """

    __slots__ = (
        "_connection",
        "_finished",
        "_flying",
        "_logs_in",
        "_next",
        "_outbox",
        "_waiting",
        "_window",
        "broken",
        "unheard",
    )

    def __init__(
        self,
        agent: str = f"keyless/{__version__} (python)",
        *,
        window: int = WINDOW,
        codec: "Codec | None" = None,
    ) -> None:
        self._connection = Connection(CLIENT, codec=codec)
        self._outbox = [self._connection.send(Hello(agent=agent))]
        self._waiting: list[Call] = []
        # None stands for a call that was given up and whose answer is still to come.
        self._flying: dict[int, Call | None] = {}
        self._finished: list[Call] = []
        self._next = 1
        self._window = window
        self._logs_in = False
        self.broken: KeylessError | None = None
        # Whether it ended before the daemon's first word: then nothing was begun.
        self.unheard = False

    @property
    def daemon(self) -> "Welcome | None":
        """What the daemon said of itself, once it has."""
        return self._connection.welcome

    @property
    def patience(self) -> float:
        """How long the daemon may be silent, in seconds: a little more than it gives itself."""
        limits = self.daemon.limits if self.daemon is not None else {}
        seconds = limits.get("request_seconds", REQUEST_SECONDS)
        if self._logs_in:
            seconds = max(seconds, limits.get("login_seconds", LOGIN_SECONDS))
        return min(seconds + MARGIN_SECONDS, MAX_PATIENCE)

    @property
    def has_served(self) -> bool:
        """Whether any request was sent."""
        return self._next > 1

    @property
    def unfinished(self) -> int:
        """How many calls have not ended."""
        return len(self._waiting) + len(self._flying)

    @property
    def may_send(self) -> bool:
        """Whether outgoing() may have something."""
        return bool(self._waiting or self._outbox)

    @property
    def is_full(self) -> bool:
        """Whether a further call would only wait here."""
        return self.unfinished >= self._window

    def submit(self, call: "Call") -> None:
        """Take a call; its bytes come out of outgoing() when its turn has come.

        Raises:
            KeylessError: the connection is broken already.
        """
        if self.broken is not None:
            raise self.broken
        self._logs_in = self._logs_in or call.op == "login"
        self._waiting.append(call)

    def outgoing(self) -> bytes:
        """Return what is to be sent now, perhaps nothing; counts as sent."""
        while self._waiting and len(self._flying) < self._window:
            call = self._waiting[0]
            size = sum(map(len, call.attachments.values()))
            if not self._connection.room:
                break
            if self._flying and size > self._connection.open_bytes_room:
                break
            self._waiting.pop(0)
            self._send(call)
        data, self._outbox = b"".join(self._outbox), []
        return data

    def _send(self, call: "Call") -> None:
        number, self._next = self._next, self._next + 1
        try:
            data = self._connection.send(Request(number, call.op, call.body, call.attachments))
        except LocalProtocolError as error:
            code = "too_large" if "bytes of attachments" in str(error) else "bad_request"
            self._end(call, KeylessError(code, str(error)))
            return
        self._flying[number] = call
        self._outbox.append(data)

    def receive(self, data: bytes) -> None:
        """Take what the daemon sent (``b""`` at its end). Events are told on the way."""
        self._connection.receive_data(data)
        try:
            while not isinstance(event := self._connection.next_event(), ConnectionClosed):
                if event is NEED_DATA:
                    return
                if isinstance(event, Failure) and event.id is None:
                    self.end_all(_error(event.error))
                    return
                self._take(event)
        except RemoteProtocolError as error:
            why = f"the daemon broke the protocol: {error.message}"
            self.end_all(KeylessError("daemon_failed", why))
        else:
            self.unheard = self.daemon is None
            self.end_all(_ended_early())

    def finished(self) -> "list[Call]":
        """Return the calls that have ended since it was asked last.

        A call that asks for a digest (``needs``) is among them.
        """
        finished, self._finished = self._finished, []
        return finished

    def _take(self, event: object) -> None:
        if isinstance(event, Event):
            call = self._flying[event.id]
            if call is not None and call.on_event is not None:
                facts = dict(event.body)
                step = facts.pop("step", "") if event.name == "progress" else event.name
                call.on_event(step, facts)
        elif isinstance(event, Reply):
            call = self._flying.pop(event.id)
            if call is not None:
                call.value = call.read(event)
                self._end(call, None)
        elif isinstance(event, Failure) and event.id is not None:
            call = self._flying.pop(event.id)
            if call is not None:
                self._failed(call, event.error)

    def _failed(self, call: "Call", error: "WireError") -> None:
        if error.code == "unknown_file" and call.files.keys() - call.attachments.keys():
            # The daemon has forgotten, or never knew: this time with all of them.
            call.attachments = {**call.attachments, **call.files}
            self._waiting.insert(0, call)
            return
        wanted, given = error.details.get("alg"), call.body.get("digests")
        if error.code == "need_digest" and isinstance(wanted, str) and given is not None:
            call.needs = wanted if wanted not in given else None
        self._end(call, _error(error))

    def _end(self, call: "Call", error: "KeylessError | None") -> None:
        call.error = error
        call.done = True
        self._finished.append(call)

    def cancel(self, call: "Call") -> None:
        """Give up a call: ask the daemon to stop, and pass over whatever it still says of it."""
        if call in self._waiting:
            self._waiting.remove(call)
        for number, flying in self._flying.items():
            if flying is call and self.broken is None:
                self._flying[number] = None
                self._outbox.append(self._connection.send(Cancel(number)))

    def end_all(self, error: KeylessError) -> None:
        """End every call with *error*: the connection is of no use any more."""
        self.broken = error
        calls = [*self._flying.values(), *self._waiting]
        self._flying, self._waiting = {}, []
        for call in calls:
            if call is not None:
                self._end(call, error)


def _ended_early() -> KeylessError:
    return KeylessError(
        "daemon_failed",
        "the daemon closed the connection before it answered",
        retryable=True,
        hint="run the command again; the daemon's log tells what happened",
    )


def _error(error: "WireError") -> KeylessError:
    """Return the exception that stands for an error frame."""
    kind = VerificationError if error.code == "verification_failed" else KeylessError
    return kind(
        error.code,
        error.message,
        retryable=error.retryable,
        retry_after_ms=error.retry_after_ms,
        hint=error.hint,
        details=error.details,
        report=error.report,
    )

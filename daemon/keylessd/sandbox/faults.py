"""Makes a service fail on demand, and remembers what it was asked. It changes no service.

For tests in process (the controller's methods) and, if asked for, over HTTP (``/_faults``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import trio

from keylessd.sandbox.inprocess import ABORT

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from keylessd.clock import Clock

REQUESTS_MAX = 10_000  # remembered; the count goes on


@dataclass(frozen=True, slots=True)
class Status:
    """The service is not asked; this answer is given instead.

    Attributes:
        status: HTTP status.
        body: The body.
        media_type: Its Content-Type.
        retry_after: Value of the Retry-After header, or None for no such header.
    """

    status: int = 503
    body: bytes = b'{"code":14,"message":"fault injected"}'
    media_type: str = "application/json"
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Delay:
    """The service is asked after this time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """The request is processed; the connection breaks after so many bytes of the answer's body."""

    after_bytes: int = 10


@dataclass(frozen=True, slots=True)
class LostReply:
    """The request is processed; the connection breaks and the client learns nothing.

    Where the server cannot break a connection before the headers they do get through, and the
    body does not.
    """


@dataclass(frozen=True, slots=True)
class LateReply:
    """The request is processed at once, and answered after this time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Garbage:
    """The request is processed and answered with the right headers and this body."""

    body: bytes = b"\x00\xff<html>{garbage"


@dataclass(frozen=True, slots=True)
class Endless:
    """The service is not asked; a 200 answer comes whose body does not end."""

    media_type: str = "application/json"
    chunk: bytes = b" " * (64 << 10)


Fault = Status | Delay | Cut | LostReply | LateReply | Garbage | Endless


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request that arrived, whatever became of it."""

    method: str
    path: str
    query: str


@dataclass(slots=True)
class Rule:
    """Which requests get a fault, and how many more.

    Attributes:
        fault: What they get.
        left: How many more, or None for all until cleared.
        path: Prefix that the path must have.
        method: What the method must be, or "" for any.
    """

    fault: Fault
    left: int | None = None
    path: str = ""
    method: str = ""


class SkewedClock:
    """A clock that is wrong by ``offset``; for the engine of a service."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.offset = timedelta()

    def now(self) -> datetime:
        """Return the wrong time, aware, in UTC."""
        return self._clock.now() + self.offset

    def boottime(self) -> float:
        """Return the seconds that have passed; those are right."""
        return self._clock.boottime()


class FaultController:
    """The faults of one service, and what it was asked.

    Attributes:
        rules: Those in force, oldest first; the first that matches a request is applied.
        requests: The newest requests, oldest first.
        total: How many there were in all.
        clock: The service's clock, if it can be set wrong.
    """

    def __init__(self, clock: SkewedClock | None = None) -> None:
        self.rules: list[Rule] = []
        self.requests: deque[SeenRequest] = deque(maxlen=REQUESTS_MAX)
        self.total = 0
        self.clock = clock

    def fail_next(self, count: int, fault: Fault, *, path: str = "", method: str = "") -> None:
        """Apply *fault* to the next *count* requests, after older rules are used up."""
        if count < 1:
            raise ValueError(f"{count} requests cannot fail")
        self.rules.append(Rule(fault, count, path, method))

    def fail(self, fault: Fault, *, path: str = "", method: str = "") -> None:
        """Apply *fault* to all requests, after older rules are used up, until clear()."""
        self.rules.append(Rule(fault, None, path, method))

    def skew(self, offset: timedelta) -> None:
        """Set the service's clock wrong by *offset*.

        Raises:
            ValueError: The service has no clock to set.
        """
        if self.clock is None:
            raise ValueError("this service has no clock")
        self.clock.offset = offset

    def clear(self) -> None:
        """End all faults and set the clock right; the record of requests stays."""
        self.rules.clear()
        if self.clock is not None:
            self.clock.offset = timedelta()

    def forget_requests(self) -> None:
        """Begin the record of requests anew."""
        self.requests.clear()
        self.total = 0

    def seen(self, path: str = "", method: str = "") -> int:
        """Return how many of the remembered requests have that path prefix and method."""
        return sum(
            request.path.startswith(path) and method in {"", request.method}
            for request in self.requests
        )

    def take(self, request: SeenRequest) -> Fault | None:
        """Record *request* and return the fault it gets; uses up one application of it."""
        self.requests.append(request)
        self.total += 1
        for rule in self.rules:
            if request.path.startswith(rule.path) and rule.method in {"", request.method}:
                if rule.left is not None:
                    rule.left -= 1
                    if rule.left == 0:
                        self.rules.remove(rule)
                return rule.fault
        return None


class Faults:
    """ASGI middleware that applies a controller's faults to an application."""

    def __init__(self, app: ASGIApp, controller: FaultController) -> None:
        self._app = app
        self._controller = controller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event; only HTTP requests can fail."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        fault = self._controller.take(SeenRequest(scope["method"], scope["path"], query))
        match fault:
            case Status():
                await _drain(receive)
                await _answer(fault, send)
            case Endless():
                await _drain(receive)
                await _run_on(fault, receive, send)
            case Cut() | LostReply() | Garbage():
                answer = _Answer()
                await self._app(scope, receive, answer.take)
                await _spoil(fault, answer, scope, send)
            case LateReply():
                answer = _Answer()
                await self._app(scope, receive, answer.take)
                await trio.sleep(fault.seconds)
                if answer.start is not None:
                    await send(answer.start)
                    await send({"type": "http.response.body", "body": answer.body})
            case _:
                if isinstance(fault, Delay):
                    await trio.sleep(fault.seconds)
                await self._app(scope, receive, send)


class _Answer:
    """Collects an application's whole answer instead of sending it."""

    def __init__(self) -> None:
        self.start: MutableMapping[str, Any] | None = None
        self.body = b""

    async def take(self, message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self.start = message
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


async def _drain(receive: Receive) -> None:
    """Read the request: a client that still writes when it is answered may see a reset."""
    while (await receive()).get("more_body", False):
        pass


async def _answer(fault: Status, send: Send) -> None:
    headers = [
        (b"content-type", fault.media_type.encode()),
        (b"content-length", b"%d" % len(fault.body)),
    ]
    if fault.retry_after is not None:
        headers.append((b"retry-after", fault.retry_after.encode()))
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": fault.body})


async def _run_on(fault: Endless, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", fault.media_type.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def watch(scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, nursery.cancel_scope)
        while True:
            await send({"type": "http.response.body", "body": fault.chunk, "more_body": True})
            # Servers drop what they are sent after the client has gone, without waiting.
            await trio.lowlevel.checkpoint()


async def _spoil(
    fault: Cut | LostReply | Garbage, answer: _Answer, scope: Scope, send: Send
) -> None:
    if answer.start is None:
        return
    headers = [
        (name, value)
        for name, value in answer.start.get("headers", ())
        if name.lower() != b"content-length"
    ]
    if isinstance(fault, Garbage):
        headers.append((b"content-length", b"%d" % len(fault.body)))
        await send({**answer.start, "headers": headers})
        await send({"type": "http.response.body", "body": fault.body})
        return
    if isinstance(fault, LostReply):
        if ABORT in (scope.get("extensions") or {}):
            return
        kept = b""
    else:
        kept = answer.body[: fault.after_bytes]
    # More is announced than comes, and the application ends: the server breaks the connection.
    length = max(len(answer.body), len(kept) + 1)
    headers.append((b"content-length", b"%d" % length))
    await send({**answer.start, "headers": headers})
    await send({"type": "http.response.body", "body": kept, "more_body": True})

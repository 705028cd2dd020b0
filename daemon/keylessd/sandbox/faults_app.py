"""The HTTP control of injected faults, ``/_faults``. Mounted only where it was asked for."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from keylessd.core.strict_json import JsonObject, JsonValue, StrictJsonError, loads
from keylessd.sandbox.bodies import BodyTooLargeError, read_body
from keylessd.sandbox.faults import (
    Cut,
    Delay,
    Endless,
    Fault,
    FaultController,
    Faults,
    Garbage,
    LateReply,
    LostReply,
    Rule,
    Status,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/_faults"
_BODY_MAX = 1 << 20  # bytes
_SHOWN = 100  # requests

_KINDS: dict[str, type[Fault]] = {
    "status": Status,
    "delay": Delay,
    "cut": Cut,
    "lost_reply": LostReply,
    "late_reply": LateReply,
    "garbage": Garbage,
    "endless": Endless,
}
# Members of a fault, with the type they have in JSON; bodies are text there.
_MEMBERS: dict[str, type] = {
    "status": int,
    "seconds": float,
    "after_bytes": int,
    "body": str,
    "media_type": str,
    "retry_after": str,
}
_STATUSES = range(200, 600)
_HEADERS = frozenset({"media_type", "retry_after"})
_RULE = frozenset({"fault", "times", "path", "method"})


class InvalidFaultError(ValueError):
    """The description of a fault cannot be understood."""


class ControlledFaults:
    """ASGI middleware: faults, and the endpoint that sets them.

    ``GET /_faults`` shows rules and requests; ``POST`` adds ``{"fault": KIND, "times"?: N,
    "path"?: PREFIX, "method"?: M, ...members of the fault}`` or sets ``{"skew_seconds": S}``;
    ``DELETE`` clears all. Requests to it are neither failed nor recorded.
    """

    def __init__(self, app: ASGIApp, controller: FaultController) -> None:
        self._controller = controller
        self._faults = Faults(app, controller)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == "http" and scope["path"] == PATH:
            reply = await self._control(Request(scope, receive))
            await reply(scope, receive, send)
        else:
            await self._faults(scope, receive, send)

    async def _control(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse(_state(self._controller))
        if request.method == "DELETE":
            self._controller.clear()
            self._controller.forget_requests()
            return JSONResponse(_state(self._controller))
        if request.method != "POST":
            return JSONResponse({"message": "GET, POST or DELETE"}, 405)
        try:
            value = loads(await read_body(request, _BODY_MAX), max_bytes=_BODY_MAX, max_depth=4)
            _apply(self._controller, value)
        except (InvalidFaultError, StrictJsonError, BodyTooLargeError) as exc:
            return JSONResponse({"message": str(exc)}, 400)
        return JSONResponse(_state(self._controller), 201)


def parse_rule(value: JsonValue) -> Rule:
    """Return the rule that a JSON object describes.

    Raises:
        InvalidFaultError: It describes none.
    """
    if not isinstance(value, dict):
        raise InvalidFaultError("not an object")
    name = value.get("fault")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise InvalidFaultError(f"no fault {name!r}; there are {', '.join(_KINDS)}")
    times = value.get("times")
    if times is not None and (type(times) is not int or times < 1):
        raise InvalidFaultError(f"times is {times!r}; it is a number from 1, or absent")
    path, method = value.get("path", ""), value.get("method", "")
    if not isinstance(path, str) or not isinstance(method, str):
        raise InvalidFaultError("path and method are strings")
    members: dict[str, Any] = {
        name: _member(name, member) for name, member in value.items() if name not in _RULE
    }
    try:
        fault = kind(**members)
    except TypeError as exc:
        raise InvalidFaultError(f"the members do not fit the fault {name!r}: {exc}") from exc
    return Rule(fault, times, path, method.upper())


def _member(name: str, value: JsonValue) -> Any:  # noqa: ANN401  # its type is in _MEMBERS
    kind = _MEMBERS.get(name)
    if kind is None:
        raise InvalidFaultError(f"unknown member {name!r}")
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise InvalidFaultError(f"{name} is {value!r}")
    if isinstance(value, int | float) and value < 0:
        raise InvalidFaultError(f"{name} is {value!r}")
    if name == "status" and value not in _STATUSES:
        raise InvalidFaultError(f"status is {value!r}")
    if (
        name in _HEADERS
        and isinstance(value, str)
        and not (value.isascii() and value.isprintable())
    ):
        raise InvalidFaultError(f"{name} is {value!r}")
    return value.encode() if name == "body" and isinstance(value, str) else value


def _apply(controller: FaultController, value: JsonValue) -> None:
    if not isinstance(value, dict) or set(value) != {"skew_seconds"}:
        controller.rules.append(parse_rule(value))
        return
    seconds = value["skew_seconds"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidFaultError(f"skew_seconds is {seconds!r}")
    try:
        controller.skew(timedelta(seconds=seconds))
    except (ValueError, OverflowError) as exc:
        raise InvalidFaultError(str(exc)) from exc


def _state(controller: FaultController) -> JsonObject:
    names = {kind: name for name, kind in _KINDS.items()}
    newest = list(controller.requests)[-_SHOWN:]
    return {
        "rules": [
            {
                "fault": names[type(rule.fault)],
                "times": rule.left,
                "path": rule.path,
                "method": rule.method,
            }
            for rule in controller.rules
        ],
        "requests": controller.total,
        "newest": [asdict(request) for request in newest],
        "skew_seconds": (
            0 if controller.clock is None else int(controller.clock.offset.total_seconds())
        ),
    }

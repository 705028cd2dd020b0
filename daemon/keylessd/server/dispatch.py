"""From a request to its answer: policy, the handler of its operation, errors as codes, counts.

The one place where an unexpected exception of a request is caught. It is logged with the
request's id and answered with code ``internal``; nothing of its text leaves the daemon.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio

from keyless.wire import Failure, Reply, Request, WireError
from keylessd.core.verify import MissingDigestError
from keylessd.errors import DaemonError, NotAllowedError, VerificationError
from keylessd.log import EventLog
from keylessd.policy.access import decide
from keylessd.server.bodies import report_body

if TYPE_CHECKING:
    from keylessd.policy.peers import Peer
    from keylessd.server.session import Progress

# Asked every second by whoever watches; not worth a line each.
QUIET: Final = frozenset({"status", "whoami", "trust_status"})

# Answers that ask for more and are neither done nor failed: a file known by its hash only, a digest
# of another algorithm.
ASKING: Final = frozenset({"unknown_file", "need_digest"})

_log = EventLog(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a handler sees it: checked by the protocol, allowed by the policy."""

    peer: Peer
    op: str
    body: Mapping[str, Any]
    attachments: Mapping[str, bytes]
    progress: Progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """Body and attachments of a reply."""

    body: Mapping[str, object] = field(default_factory=dict)
    attachments: Mapping[str, bytes] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Outcome]]


@dataclass(slots=True)
class Count:
    """How requests of one operation ended."""

    ok: int = 0
    failed: int = 0


class Dispatcher:
    """Answers requests by a table of handlers.

    Args:
        handlers: One per operation.
        own_uid: The uid whose daemon this is.
    """

    def __init__(self, handlers: Mapping[str, Handler], *, own_uid: int) -> None:
        self._handlers = handlers
        self._own_uid = own_uid
        self.counts: dict[str, Count] = {op: Count() for op in handlers}

    async def answer(self, peer: Peer, request: Request, progress: Progress) -> Reply | Failure:
        """Return the reply or the failure for *request*; only Cancelled leaves."""
        began = trio.current_time()
        handler = self._handlers.get(request.op)
        if handler is None:
            error = WireError("unknown_operation", "this daemon does not know the operation")
            return Failure(request.id, error)
        answer: Reply | Failure
        try:
            self._check_allowed(peer, request.op)
            call = Call(peer, request.op, request.body, request.attachments, progress)
            outcome = await handler(call)
            answer = Reply(request.id, dict(outcome.body), dict(outcome.attachments))
        except Exception as exc:  # noqa: BLE001  # the boundary: nothing may pass
            answer = Failure(request.id, wire_error(exc))
        self._record(peer, request.op, answer, trio.current_time() - began)
        return answer

    def _check_allowed(self, peer: Peer, op: str) -> None:
        decision = decide(peer, op, own_uid=self._own_uid)
        if not decision.allowed:
            raise NotAllowedError(decision.reason)

    def _record(self, peer: Peer, op: str, answer: Reply | Failure, seconds: float) -> None:
        count = self.counts[op]
        took = round(seconds * 1000)
        if isinstance(answer, Reply):
            count.ok += 1
            say = _log.debug if op in QUIET else _log.info
            say("request.done", pid=peer.pid, ms=took)
            return
        error = answer.error
        if error.code in ASKING:
            # Not the end of it: the client sends what is missing and asks again.
            _log.debug("request.asked_back", pid=peer.pid, code=error.code)
            return
        count.failed += 1
        check = error.details.get("check")
        _log.info(
            "request.failed",
            pid=peer.pid,
            ms=took,
            code=error.code,
            problem=error.message,
            **({} if check is None else {"check": check}),
        )


def wire_error(exc: BaseException) -> WireError:
    """Return what the client is told about *exc*; logs it if it was not to be expected.

    A group (an operation ran parts of itself side by side) speaks through its first expected
    error, unless a fault is among them.
    """
    if isinstance(exc, BaseExceptionGroup):
        leaves = list(_leaves(exc))
        unexpected = [leaf for leaf in leaves if not isinstance(leaf, DaemonError)]
        return wire_error(unexpected[0] if unexpected else leaves[0])
    if not isinstance(exc, DaemonError):
        _log.error("request.fault", exc=exc)
        return WireError(
            "internal", "a fault in the daemon; its log says more", hint="please report it"
        )
    after = exc.retry_after_seconds
    details = dict(exc.details)
    if isinstance(exc, MissingDigestError):
        # The client hashes the file once more and asks again.
        details["alg"] = exc.algorithm.value
    report = None
    if isinstance(exc, VerificationError):
        if exc.step is not None:
            details["step"] = exc.step
        report = report_body(exc.passed)
    return WireError(
        exc.code,
        exc.message,
        retryable=exc.retryable,
        retry_after_ms=None if after is None else max(0, math.ceil(after * 1000)),
        hint=exc.hint,
        details=details,
        report=report,
    )


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for exc in group.exceptions:
        leaves += _leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc]
    return leaves

"""One connection: reads requests, runs each in a task of its own, writes answers as they come.

Knows the protocol's messages and nothing of what the operations do; ``answer`` is passed in.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from keyless.wire import (
    NEED_DATA,
    SERVER,
    BadRequest,
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
    WireError,
)
from keylessd.flow.plain_stream import PlainStream
from keylessd.log import EventLog, bind
from keylessd.server.outbox import Outbox
from keylessd.server.turns import Turns

if TYPE_CHECKING:
    from keylessd.server.limits import ByteBudget, Holder
    from keylessd.settings import Timeouts

# Bytes read at once. All of them are decoded in one step, so hostile heads must be few; in the
# middle of a frame more is better, since attachments are only copied.
READ_SIZE: Final = 8 << 10
READ_MORE: Final = 64 << 10
SMALL_READ: Final = 256  # bytes; a client that has more to say sends more at once
SMALL_READS: Final = 4  # of one frame, taken as they come
FIRST_GATHER: Final = 0.005  # seconds
LONGEST_GATHER: Final = 0.5  # seconds
# Progress is a courtesy: events are dropped while this many frames wait for a slow reader.
MAX_WAITING_FRAMES: Final = 256
# A login waits for a person; its events tell the client what to show, so it always gets them.
LOGIN_EVENTS: Final = frozenset({"open_url", "device_code", "enter_code"})

Progress = Callable[[str, Mapping[str, str | int]], None]
# Bytes of answers a client may leave unread, beyond what the kernel takes, before no more of its
# requests are read. As many as a full window of bundles; whoever reads never comes near it.
MAX_UNREAD: Final = 512 << 10

Answer = Callable[[Request, Progress], Awaitable[Reply | Failure]]

_log = EventLog(__name__)
_numbers = itertools.count(1)


@dataclass(slots=True, eq=False)
class _Running:
    """A request that waits for its answer."""

    scope: trio.CancelScope
    size: int  # bytes of its attachments
    cancelled: bool = field(default=False)  # by the client's word, not by a deadline


class Session:
    """Serves one client until it hangs up, breaks the protocol, is idle, or we drain.

    The end of the client's stream means that it has gone: what it had in flight is cancelled,
    and an operation that is past its point of no return finishes behind a shield of its own.

    Args:
        stream: The connection; closed by run().
        answer: Does the work. Must not raise Exception; Cancelled passes through it.
        timeouts: How long to wait for what.
        agent: Name and version of the daemon for ``welcome``.
        holder: Whom the buffered bytes are charged to.
        budget: Where they are charged.
        max_in_flight: Requests that may wait for their answer at once.
        turns: Shared by the connections of one process.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        answer: Answer,
        *,
        timeouts: Timeouts,
        agent: str,
        holder: Holder,
        budget: ByteBudget,
        max_in_flight: int,
        turns: Turns | None = None,
    ) -> None:
        self._stream = stream
        self._answer = answer
        self._timeouts = timeouts
        self._agent = agent
        self._holder = holder
        self._budget = budget
        self._wire = Connection(SERVER, max_in_flight=max_in_flight)
        self._running: dict[int, _Running] = {}
        self._running_bytes = 0  # of their attachments
        self._reading = trio.CancelScope()
        send_now = stream.send_now if isinstance(stream, PlainStream) else None
        self._outbox = Outbox(stream, seconds=timeouts.write, send_now=send_now)
        self._charged = 0
        self._goodbye: WireError | None = None
        self._greeted = False
        self._flush_soon = False
        self._small_reads = 0
        self._last_read = 0
        self._frame_began: float | None = None
        self._idle_since = trio.current_time()
        self._turns = turns or Turns()
        self.violated = False  # whether the client broke the protocol
        self.useful = False  # whether it made a request

    @property
    def idle_since(self) -> float | None:
        """Since when (trio's clock) there has been nothing to do; None while there is."""
        return None if self._running else self._idle_since

    def evict(self) -> None:
        """Close soon, since somebody else needs the place; only sensible while idle."""
        self._end(WireError("busy", "the connection was idle and others waited", retryable=True))

    def drain(self) -> None:
        """Read no more; close when what runs has been answered."""
        self._end(WireError("shutting_down", "the daemon is stopping", retryable=True))

    def cut(self) -> None:
        """Close at once, whatever runs."""
        self._end(WireError("shutting_down", "the daemon is stopping", retryable=True))
        for running in self._running.values():
            running.scope.cancel()
        self._outbox.cut()

    async def run(self) -> None:
        """Serve until the end. Raises nothing but Cancelled."""
        try:
            async with trio.open_nursery() as requests:
                with self._reading:
                    await self._read(requests)
                # Not reading any more; the nursery waits for what still runs.
            if self._goodbye is None:
                self._goodbye = self._overdue()
            await self._say_goodbye()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            _log.debug("connection.broken")
        except* trio.TooSlowError:
            _log.info("connection.stalled", seconds=self._timeouts.write)
        finally:
            self._budget.change(self._holder, before=self._charged, after=0)
            if isinstance(self._stream, PlainStream):
                self._stream.close()
            else:
                await trio.aclose_forcefully(self._stream)

    # --- reading ------------------------------------------------------------------------------

    async def _read(self, requests: trio.Nursery) -> None:
        """Read until the client has gone or broken the protocol."""
        while True:
            try:
                message = self._wire.next_event()
            except RemoteProtocolError as exc:
                _log.info("connection.violated", code=exc.code, problem=exc.message)
                self.violated = True
                self._goodbye = WireError(exc.code, exc.message)
                requests.cancel_scope.cancel()
                return
            if message is NEED_DATA:
                if not await self._receive():
                    requests.cancel_scope.cancel()
                    return
                continue
            self._frame_began = None
            self._small_reads = 0
            # It came in time. How long it waits for its turn is nothing the client can help.
            self._allow(float("inf"))
            if isinstance(message, ConnectionClosed):
                self._goodbye = None
                if self._running:
                    _log.info("client.gone", in_flight=len(self._running))
                    requests.cancel_scope.cancel()
                return
            await self._outbox.room(MAX_UNREAD)
            await self._turns.wait()
            try:
                self._take(message, requests)
            finally:
                await self._turns.end()
            if self._flush_soon:
                self._flush_soon = False
                await self._flush()

    async def _receive(self) -> bool:
        """Take the next bytes, within the deadline of what they belong to; False if too many."""
        partial = self._wire.partial
        self._frame_began = self._began() if partial else None
        self._set_deadline()
        if partial and self._last_read < SMALL_READ:
            # Nobody who wants an answer sends a frame in crumbs. Let them gather: each read
            # costs the same, whether it brings one byte or all.
            self._small_reads += 1
            if self._small_reads > SMALL_READS:
                growth = 2 ** (self._small_reads - SMALL_READS)
                await trio.sleep(min(LONGEST_GATHER, FIRST_GATHER * growth))
        data = await self._stream.receive_some(READ_MORE if partial else READ_SIZE)
        self._last_read = len(data)
        self._wire.receive_data(data)
        if self._charge():
            return True
        self._goodbye = WireError("busy", "too many bytes wait to be read", retryable=True)
        return False

    def _take(self, message: object, requests: trio.Nursery) -> None:
        if isinstance(message, Request):
            size = sum(map(len, message.attachments.values()))
            deadline = trio.current_time() + self._timeouts.of(message.op)
            running = _Running(trio.CancelScope(deadline=deadline), size)
            self._running[message.id] = running
            self._running_bytes += size
            self.useful = True
            requests.start_soon(self._serve, message, running, requests)
        elif isinstance(message, BadRequest):
            _log.info("request.refused", op=message.op, code=message.error.code)
            self._put(Failure(message.id, message.error))
            # Written by the reader, outside its turn: who floods waits for its own answers.
            self._flush_soon = True
        elif isinstance(message, Cancel):
            if (named := self._running.get(message.id)) is not None:
                named.cancelled = True
                named.scope.cancel()
        elif isinstance(message, Hello):
            self._greeted = True
            self._idle_since = trio.current_time()
            limits = {**self._wire.limits, **self._timeouts.told()}
            self._put(Welcome(agent=self._agent, limits=limits))
            self._flush_soon = True

    def _began(self) -> float:
        return trio.current_time() if self._frame_began is None else self._frame_began

    def _charge(self) -> bool:
        """Account for what is held now; False if that is too much."""
        return self._hold(self._held)

    @property
    def _held(self) -> int:
        """Bytes of this connection: unread frames, running requests, answers nobody took yet."""
        return self._wire.buffered + self._running_bytes + self._outbox.unsent

    def _hold(self, size: int) -> bool:
        if not self._budget.change(self._holder, before=self._charged, after=size):
            return False
        self._charged = size
        return True

    # --- deadlines ----------------------------------------------------------------------------

    def _set_deadline(self) -> None:
        """Bound the wait for the next bytes by what is waited for."""
        if not self._greeted:
            self._allow(self._idle_since + self._timeouts.hello)
        elif self._frame_began is not None:
            self._allow(self._frame_began + self._timeouts.frame)
        elif self._running:
            self._allow(float("inf"))
        else:
            self._allow(self._idle_since + self._timeouts.idle)

    def _allow(self, until: float) -> None:
        if self._reading.deadline != until:
            self._reading.deadline = until

    def _overdue(self) -> WireError | None:
        """Say which deadline has ended the reading, if one has."""
        if not self._reading.cancelled_caught:
            return None
        if not self._greeted:
            self.violated = True
            return WireError("deadline_exceeded", "no hello came in time")
        if self._frame_began is not None:
            self.violated = True
            return WireError("deadline_exceeded", "a frame was not complete in time")
        return WireError("deadline_exceeded", "the connection was idle", retryable=True)

    def _end(self, why: WireError) -> None:
        if self._goodbye is None:
            self._goodbye = why
        self._reading.cancel()

    # --- answering ----------------------------------------------------------------------------

    async def _serve(self, request: Request, running: _Running, nursery: trio.Nursery) -> None:
        """Run one request and send its answer, whichever way it ends."""
        message: Reply | Failure | None = None
        with bind(request=next(_numbers), op=request.op):
            try:
                with running.scope:
                    message = await self._answer(
                        request, self._progress_of(request, running, nursery)
                    )
                if message is None:
                    message = Failure(request.id, _ended_early(running))
                self._put(message)
            finally:
                self._forget(request.id)
            await self._flush()

    def _forget(self, number: int) -> None:
        self._running_bytes -= self._running.pop(number).size
        if not self._running:
            self._idle_since = trio.current_time()
        self._charge()
        self._set_deadline()

    def _progress_of(self, request: Request, running: _Running, nursery: trio.Nursery) -> Progress:
        """Return what tells the client of the steps of one request, as they happen."""
        wanted = request.body.get("progress") is True

        def progress(step: str, facts: Mapping[str, str | int]) -> None:
            # By identity: work that outlives its request must not speak for another of its id.
            is_open = self._running.get(request.id) is running
            is_needed = step in LOGIN_EVENTS
            if not (wanted or is_needed) or not is_open:
                return
            if self._outbox.waiting >= MAX_WAITING_FRAMES:
                return
            if is_needed:
                self._put(Event(request.id, step, dict(facts)))
            else:
                self._put(Event(request.id, "progress", {**facts, "step": step}))
            if not self._outbox.is_flushing:
                nursery.start_soon(self._flush)

        return progress

    def _put(self, message: Welcome | Reply | Failure | Event) -> None:
        """Queue one message, in order; a fault of ours becomes an answer, not a hang-up."""
        if isinstance(message, Reply):
            size = sum(map(len, message.attachments.values()))
            if not self._hold(self._held + size):
                # A client that asks for much and reads nothing; memory is everybody's.
                message = Failure(message.id, _UNREAD)
        try:
            self._outbox.put(self._wire.send(message))
        except LocalProtocolError as exc:
            _log.error("answer.unsendable", kind=message.kind, exc=exc)
            if isinstance(message, Reply | Failure) and message.id is not None:
                self._outbox.put(self._wire.send(Failure(message.id, _UNSENDABLE)))

    async def _flush(self) -> None:
        """Write what is queued, and give back its bytes."""
        await self._outbox.flush()
        self._charge()

    async def _say_goodbye(self) -> None:
        """Tell the client why, if there is a reason and it may still be listening."""
        if self._goodbye is None:
            return
        self._put(Failure(None, self._goodbye))
        await self._flush()


_UNSENDABLE: Final = WireError("internal", "the daemon made an answer it cannot send")
_UNREAD: Final = WireError("busy", "too many answers wait to be read", retryable=True)


def _ended_early(running: _Running) -> WireError:
    if running.cancelled:
        return WireError("cancelled", "the request was cancelled")
    return WireError(
        "deadline_exceeded", "the request took longer than the daemon allows", retryable=True
    )

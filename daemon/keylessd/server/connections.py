"""All connections: who is let in, how long each lives, and how they end together."""

from __future__ import annotations

import itertools
import select
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import trio

from keyless.wire import SERVER, Connection, Failure, Reply, Request, WireError
from keylessd.flow.plain_stream import PlainStream
from keylessd.log import EventLog, bind
from keylessd.policy.peers import Peer
from keylessd.server.limits import Admission, ByteBudget, Holder, Penalties
from keylessd.server.listen import Listening, accept_forever
from keylessd.server.peer import Credentials, credentials, describe
from keylessd.server.session import Progress, Session
from keylessd.server.turns import Turns

if TYPE_CHECKING:
    from keylessd.settings import Settings

# One line per refused connection would let a flood fill the disk: one per this many seconds.
REFUSAL_LOG_SECONDS: Final = 5.0
# A connection that ends without a request before this is counted as a violation.
BRIEF_SECONDS: Final = 1.0

PeerAnswer = Callable[[Peer, Request, Progress], Awaitable[Reply | Failure]]

_log = EventLog(__name__)
_numbers = itertools.count(1)


def _farewell(code: str, message: str, *, retryable: bool) -> bytes:
    """Return the whole reply to a connection that is refused; made once, sent often."""
    return Connection(SERVER).send(Failure(None, WireError(code, message, retryable=retryable)))


_NOT_ALLOWED: Final = _farewell("not_allowed", "this daemon serves another user", retryable=False)
_BUSY: Final = _farewell("busy", "too many connections; try again soon", retryable=True)
_BARRED: Final = _farewell(
    "busy", "this process broke the protocol too often; try again later", retryable=True
)


class Connections:
    """Admits connections and serves each in a task, until told to stop.

    Args:
        answer: Does the work of a request.
        settings: Limits and timeouts; replaced by apply().
        own_uid: The uid the daemon runs as.
        agent: Name and version for ``welcome``.
        describe_peer: Turns a connection into what the policy judges; the kernel's word.
    """

    def __init__(
        self,
        answer: PeerAnswer,
        *,
        settings: Settings,
        own_uid: int,
        agent: str,
        peer_credentials: Callable[[socket.socket], Credentials] = credentials,
    ) -> None:
        self._answer = answer
        self._settings = settings
        self._own_uid = own_uid
        self._agent = agent
        self._credentials = peer_credentials
        self._admission = Admission(settings.limits)
        self._budget = ByteBudget(settings.limits.buffer_mib)
        self._penalties = Penalties()
        # Each lives as long as a connection of its process.
        self._turns: WeakValueDictionary[Holder, Turns] = WeakValueDictionary()
        self._sessions: set[Session] = set()
        self._nursery: trio.Nursery | None = None
        self._refused = 0
        self._refusal_logged = float("-inf")
        self.ended = trio.Event()

    @property
    def count(self) -> int:
        """Connections that are served now."""
        return self._admission.total

    def apply(self, settings: Settings) -> None:
        """Put other limits and timeouts in force for what comes; what is there stays."""
        self._settings = settings
        self._admission.limits = settings.limits
        self._budget.resize(settings.limits.buffer_mib)

    async def run(
        self,
        listening: Sequence[Listening],
        stop: trio.Event,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until *stop* is set and what runs has been answered; then set ``ended``."""
        async with trio.open_nursery() as connections:
            self._nursery = connections
            async with trio.open_nursery() as accepting:
                for one in listening:
                    accepting.start_soon(self._accept, one.listener)
                task_status.started()
                await stop.wait()
                accepting.cancel_scope.cancel()  # 1. no new connections
            for session in tuple(self._sessions):
                session.drain()  # 2. no new requests
            # 3. What runs is answered; who waits for us calls cut() when the grace is over.
        self._nursery = None
        self.ended.set()

    def cut(self) -> None:
        """End everything that may be ended; what is past its point of no return finishes."""
        for session in tuple(self._sessions):
            session.cut()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        async def wait_readable() -> None:
            await trio.lowlevel.wait_readable(listener)

        await accept_forever(
            listener, self.admit, wait_readable=wait_readable, exhausted=self._make_room
        )

    # --- admission ----------------------------------------------------------------------------

    def admit(self, connection: socket.socket) -> bool:
        """Take or refuse a new connection before a byte of it is read."""
        try:
            who = self._credentials(connection)
        except OSError:
            connection.close()
            return False
        holder = Holder(who.uid, who.pid)
        if _has_left(connection):
            # One that only connects and leaves must not cost a task each time.
            connection.close()
            self._penalties.add(holder, trio.current_time())
            return False
        refusal = self._refusal(holder)
        if refusal is not None:
            return self._refuse(connection, who, *refusal)
        assert self._nursery is not None  # noqa: S101  # nobody accepts without run()
        slot = self._admission.enter(holder)
        self._nursery.start_soon(self._serve, connection, who, holder, slot)
        return True

    def _refusal(self, holder: Holder) -> tuple[bytes, str] | None:
        """Return what to say to one that is refused, and the reason for the log."""
        if holder.uid != self._own_uid:
            return _NOT_ALLOWED, "other-uid"
        if self._penalties.barred(holder, trio.current_time()):
            return _BARRED, "violations"
        limit = self._admission.refusal(holder)
        if limit is None:
            return None
        # Whoever is told to go takes a moment to; the newcomer need not wait for that, nor fail.
        if limit != "process" and self._admission.make_room(holder):
            return None
        return _BUSY, limit

    def _refuse(
        self, connection: socket.socket, who: Credentials, farewell: bytes, reason: str
    ) -> bool:
        with suppress(OSError):
            # Into an empty socket buffer: it fits, or the client has gone.
            connection.send(farewell, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        connection.close()
        self._refused += 1
        now = trio.current_time()
        if now - self._refusal_logged >= REFUSAL_LOG_SECONDS:
            _log.warning(
                "peer.refused", uid=who.uid, pid=who.pid, reason=reason, times=self._refused
            )
            self._refusal_logged = now
            self._refused = 0
        return False

    def _make_room(self) -> None:
        """Out of descriptors: whoever holds most and does nothing goes."""
        self._admission.make_room(Holder(self._own_uid, -1))

    # --- serving ------------------------------------------------------------------------------

    async def _serve(
        self, connection: socket.socket, who: Credentials, holder: Holder, slot: int
    ) -> None:
        """Serve one connection; a fault in it ends it and nothing else."""
        session: Session | None = None
        began = trio.current_time()
        with bind(connection=slot):
            try:
                peer = _peer(connection, who)
                stream = PlainStream(connection)

                async def answer(request: Request, progress: Progress) -> Reply | Failure:
                    return await self._answer(peer, request, progress)

                session = Session(
                    stream,
                    answer,
                    timeouts=self._settings.timeouts,
                    agent=self._agent,
                    holder=holder,
                    budget=self._budget,
                    max_in_flight=self._settings.limits.requests_per_connection,
                    turns=self._turns.setdefault(holder, Turns()),
                )
                self._sessions.add(session)
                self._admission.attach(slot, holder, session)
                _log.debug("connection.opened", pid=who.pid)
                await session.run()
            except* Exception as group:  # noqa: BLE001  # one connection must not end the rest
                _log.error("connection.fault", exc=group)
            finally:
                connection.close()
                self._admission.leave(slot, holder)
                if session is not None:
                    self._sessions.discard(session)
                    if session.violated or (not session.useful and _was_brief(began)):
                        self._penalties.add(holder, trio.current_time())


def _was_brief(began: float) -> bool:
    """Whether a connection was no client's that kept it for later, but one of a flood."""
    return trio.current_time() - began < BRIEF_SECONDS


def _has_left(connection: socket.socket) -> bool:
    """Return whether the other end is closed already, whatever it said before.

    Nobody is there to read an answer. One that has only finished sending still is.
    """
    poll = select.poll()
    poll.register(connection, 0)  # what is always told: hung up, or an error
    return bool(poll.poll(0))


def _peer(connection: socket.socket, who: Credentials) -> Peer:
    facts = describe(connection, who)
    return Peer(
        uid=who.uid,
        gid=who.gid,
        pid=who.pid or None,
        groups=facts.groups,
        started=facts.started,
        connection=next(_numbers),
    )

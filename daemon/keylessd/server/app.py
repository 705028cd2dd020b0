"""The nursery tree: what starts when, what stops when, and who may outlive whom.

trio.run(app.run)
  the house (HTTP client, trust, keys, operations)    opened first, closed last
    nursery: background         refresh loops, watchdog, signals
      nursery: connections      one task per client
        nursery: accepting      cancelled first
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import trio

from keylessd import log
from keylessd.errors import DaemonError, InvalidInputError
from keylessd.locations import NoLocationError
from keylessd.log import EventLog
from keylessd.server.connections import Connections
from keylessd.server.dispatch import Count, Dispatcher, Handler
from keylessd.server.hold import wait_until_gone
from keylessd.server.self_request import answers_itself
from keylessd.server.signals import Reactions, obey
from keylessd.server.systemd import Notifier, feed_watchdog
from keylessd.settings import Settings, restart_needed

if TYPE_CHECKING:
    from keylessd.server.listen import Listening

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

_log = EventLog(__name__)


class Rooms(Protocol):
    """What the server needs of the rest of the daemon."""

    def handlers(self, daemon: Daemon) -> Mapping[str, Handler]:
        """Return the handlers of all operations but none that the daemon itself has."""
        ...

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Do what goes on in the background; runs until cancelled."""
        ...

    def apply(self, settings: Settings) -> None:
        """Put other settings in force."""
        ...

    async def settle(self) -> None:
        """Finish what is under way without a request and would be lost otherwise."""
        ...

    def cut(self) -> int:
        """Cancel also what shields itself; return how many that were."""
        ...

    def drop_keys(self) -> int:
        """Forget all signing keys; return how many there were."""
        ...


# Opens the rooms; what outlives a request in there lives in a nursery of its own.
OpenRooms = Callable[[Settings], AbstractAsyncContextManager[Rooms]]


@dataclass(frozen=True, slots=True)
class Start:
    """What is decided before the event loop runs.

    Attributes:
        settings: In force at first.
        load_settings: Reads them again, for a reload.
        listening: Sockets to serve.
        open_rooms: Opens the rest of the daemon.
        notifier: Tells the service manager.
        watchdog_seconds: Its patience, or None.
        on_ready: Called once, when requests are answered.
        agent: Name and version.
        version: Version alone.
    """

    settings: Settings
    load_settings: Callable[[], Settings]
    listening: tuple[Listening, ...]
    open_rooms: OpenRooms
    notifier: Notifier
    watchdog_seconds: float | None
    on_ready: Callable[[], None]
    agent: str
    version: str


class Daemon:
    """The running daemon as operations see it: its facts, and the way to reload it."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._rooms: Rooms | None = None
        self._connections: Connections | None = None
        self._dispatcher: Dispatcher | None = None
        self._stop = trio.Event()
        self._settling = trio.CancelScope()
        self._began = trio.current_time()
        self._reloading = trio.Lock()
        self.settings = start.settings
        self.version = start.version
        self.pid = os.getpid()
        self.started = int(time.time())  # shown only; nothing is decided by it

    @property
    def uptime_seconds(self) -> int:
        """Whole seconds since the start."""
        return int(trio.current_time() - self._began)

    @property
    def socket(self) -> str:
        """Path of the first socket."""
        return self._start.listening[0].path if self._start.listening else ""

    @property
    def connections(self) -> int:
        """Connections that are served now."""
        return self._connections.count if self._connections is not None else 0

    @property
    def counts(self) -> Mapping[str, Count]:
        """How requests ended so far, by operation."""
        return self._dispatcher.counts if self._dispatcher is not None else {}

    async def run(self) -> None:
        """Start, serve until told to stop, drain, and stop."""
        start = self._start
        async with (
            start.open_rooms(self.settings) as rooms,
            trio.open_nursery() as background,
        ):
            self._rooms = rooms
            own_uid = os.geteuid()
            self._dispatcher = Dispatcher(rooms.handlers(self), own_uid=own_uid)
            self._connections = Connections(
                self._dispatcher.answer,
                settings=self.settings,
                own_uid=own_uid,
                agent=start.agent,
            )
            await background.start(self._watch_signals)
            await background.start(rooms.run)
            async with trio.open_nursery() as serving:
                await serving.start(self._connections.run, start.listening, self._stop)
                self._ready()
                _log.info("daemon.ready", pid=self.pid, socket=self.socket, version=self.version)
                if start.watchdog_seconds is not None:
                    background.start_soon(
                        feed_watchdog, start.notifier, start.watchdog_seconds, self._check
                    )
                for one in start.listening:
                    background.start_soon(self._watch_socket, one)
                start.on_ready()
                await self._stop.wait()
                with trio.move_on_after(self.settings.timeouts.drain) as patience:
                    await self._connections.ended.wait()
                    with self._settling:
                        await rooms.settle()
                if patience.cancelled_caught:
                    self.cut()
            # After the last reply.
            background.cancel_scope.cancel()
        _log.info("daemon.stopped", uptime=self.uptime_seconds)

    async def reload(self) -> None:
        """Read the settings again and put them in force, all or none.

        Raises:
            InvalidInputError: they, or a file they name, cannot be used; those in force stay.
        """
        async with self._reloading:
            microseconds = str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
            self._start.notifier.send(RELOADING="1", MONOTONIC_USEC=microseconds)
            try:
                before, settings = self.settings, self._load()
                # Whatever can fail comes first; then no step waits, so nobody sees a mixture.
                if self._rooms is not None:
                    self._rooms.apply(settings)
                self.settings = settings
                log.configure(settings.log_level)
                if self._connections is not None:
                    self._connections.apply(settings)
                _log.info("settings.reloaded")
                if waiting := restart_needed(before, settings):
                    _log.warning("settings.need_restart", keys=waiting)
            finally:
                self._ready()

    def _load(self) -> Settings:
        try:
            return self._start.load_settings()
        except NoLocationError as exc:
            raise InvalidInputError(str(exc)) from exc

    def _ready(self) -> None:
        where = ", ".join(one.path for one in self._start.listening)
        self._start.notifier.send(READY="1", STATUS=f"serving {where}", MAINPID=str(self.pid))

    async def _check(self) -> bool:
        """Whether a client would be answered now; while draining that is not asked."""
        if self._stop.is_set() or not self._start.listening:
            return True
        return await answers_itself(self._start.listening[0].connect_to)

    async def _watch_socket(self, listening: Listening) -> None:
        await wait_until_gone(listening)
        self.drain()

    # --- signals ------------------------------------------------------------------------------

    async def _watch_signals(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        reactions = Reactions(
            drain=self.drain, cut=self.cut, reload=self._reload_quietly, drop_keys=self._drop_keys
        )
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            task_status.started()
            await obey(signals, reactions)

    def drain(self) -> None:
        """Stop gracefully: answer what runs, take nothing new."""
        self._start.notifier.send(STOPPING="1", STATUS="draining")
        _log.info("daemon.draining", connections=self.connections)
        self._stop.set()

    def cut(self) -> None:
        """Stop now."""
        _log.warning("daemon.cut", connections=self.connections)
        self._stop.set()
        self._settling.cancel()
        if self._rooms is not None:
            self._rooms.cut()
        if self._connections is not None:
            self._connections.cut()

    async def _reload_quietly(self) -> None:
        try:
            await self.reload()
        except DaemonError as exc:
            _log.error("settings.refused", problem=exc.message)

    def _drop_keys(self) -> None:
        dropped = self._rooms.drop_keys() if self._rooms is not None else 0
        _log.info("keys.dropped", count=dropped)


async def run(start: Start) -> None:
    """Run the daemon until it has stopped.

    An unexpected exception in a background task ends it; the service manager starts another.
    """
    await Daemon(start).run()

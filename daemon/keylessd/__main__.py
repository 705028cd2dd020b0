"""The command ``keylessd``: arguments, environment, exit statuses. The daemon itself is ``server``.

Exit statuses:
    0  stopped as it was told
    1  a fault; the log says more
    2  the command line cannot be understood
    3  a package is missing
    4  the settings cannot be used
    5  another daemon serves the socket already
    6  the socket, a directory or the ledger cannot be made
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyless._version import __version__
from keylessd import log
from keylessd.locations import Locations, NoLocationError
from keylessd.settings import LOG_LEVELS, Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from keylessd.server.listen import Listening
    from keylessd.server.systemd import Inherited

STOPPED: Final = 0
FAULT: Final = 1
MISSING: Final = 3
BAD_SETTINGS: Final = 4
IN_USE: Final = 5
NO_PLACE: Final = 6

AGENT: Final = f"keylessd/{__version__}"
# Import names of what the extra [daemon] installs.
_PACKAGES: Final = frozenset(
    {"trio", "httpx", "httpcore", "h2", "h11", "cryptography", "tuf", "securesystemslib", "jwt"}
    | {"re2", "msgpack"}
)

_log = log.EventLog(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until it stops; return its exit status."""
    arguments = _parser().parse_args(argv)
    ready = _Readiness(arguments.ready_fd)
    try:
        return _run(arguments, ready)
    except ModuleNotFoundError as exc:
        package = (exc.name or "").split(".")[0]
        if package not in _PACKAGES:
            raise
        ready.failed(f"{package} is missing; install with: pip install 'keyless[daemon]'")
        return MISSING
    except SettingsError as exc:
        ready.failed(exc.message)
        return BAD_SETTINGS
    except NoLocationError as exc:
        ready.failed(str(exc))
        return NO_PLACE
    except _StartError as exc:
        ready.failed(str(exc))
        return exc.status
    finally:
        ready.close()


class _StartError(Exception):
    """The daemon cannot start, for a reason that is not a fault of it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Readiness:
    """Tells whoever started us, over a descriptor it passed, when requests are answered.

    One line: ``READY PID SOCKET`` or ``FAILED MESSAGE``; then the descriptor is closed. One
    that closes without a line means that the daemon died.
    """

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self.was_ready = False

    def ready(self, socket: str) -> None:
        self.was_ready = True
        self._say(f"READY {os.getpid()} {socket}")

    def failed(self, problem: str) -> None:
        """Say so here too, where a person or the journal reads it."""
        print(f"keylessd: {problem}", file=sys.stderr)  # noqa: T201  # the log may not exist yet
        self._say(f"FAILED {problem}")

    def close(self) -> None:
        if self._fd is not None:
            with suppress(OSError):  # it was never open: a wrong number on the command line
                os.close(self._fd)
            self._fd = None

    def _say(self, line: str) -> None:
        if self._fd is not None:
            with suppress(OSError):  # nobody waits any more
                os.write(self._fd, line.replace("\n", " ").encode("utf-8", "replace") + b"\n")
            self.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keylessd",
        description="Signs and verifies for short-lived processes: an ssh-agent for Sigstore.",
        epilog="Exit statuses: 0 stopped as told, 1 a fault, 2 usage, 3 a package is missing, "
        "4 settings, 5 another daemon serves the socket, 6 the socket, a directory or the ledger "
        "cannot be made.",
    )
    parser.add_argument("--config", type=Path, metavar="F", help="read settings from this file")
    parser.add_argument("--socket", type=Path, metavar="PATH", help="listen here")
    parser.add_argument("--system", action="store_true", help="serve a machine, not one user")
    parser.add_argument("--cache-dir", type=Path, metavar="D", help="for what can be fetched again")
    parser.add_argument("--state-dir", type=Path, metavar="D", help="for what must be kept")
    parser.add_argument("--sandbox-dir", type=Path, metavar="D", help="of the local Sigstore")
    parser.add_argument("--log-level", choices=LOG_LEVELS, help="over that of the settings")
    parser.add_argument(
        "--ready-fd", type=int, metavar="N", help="write a line to this descriptor when ready"
    )
    parser.add_argument("--version", action="version", version=f"keylessd {__version__}")
    return parser


def _run(arguments: argparse.Namespace, ready: _Readiness) -> int:
    # Here and not above, so that a missing package can be told in a sentence.
    from keylessd.server import heap  # noqa: PLC0415

    heap.postpone_collection()
    import trio  # noqa: PLC0415

    from keylessd.server import app, rooms, systemd  # noqa: PLC0415
    from keylessd.server.harden import (  # noqa: PLC0415
        TooFewDescriptorsError,
        name_process,
        protect_memory,
        raise_descriptor_limit,
        return_freed_memory,
    )
    from keylessd.server.peer import is_nobody  # noqa: PLC0415

    if is_nobody(os.geteuid()):
        problem = (
            "this uid stands for every user that is unknown in this user namespace; map another"
        )
        raise _StartError(NO_PLACE, problem)
    name_process()
    protect_memory()
    return_freed_memory()
    # The event loop waits this long at most for a worker thread that computes.
    sys.setswitchinterval(0.0005)
    os.umask(0o077)
    try:
        connections = raise_descriptor_limit()
    except TooFewDescriptorsError as exc:
        raise _StartError(FAULT, str(exc)) from exc
    load = _loader(arguments, connections)
    settings = load()
    log.configure(settings.log_level)
    _make_private(settings.cache_dir)
    _make_private(settings.state_dir)
    environ = os.environ
    notifier = systemd.Notifier(environ)
    patience = systemd.watchdog_seconds(environ, os.getpid())
    with ExitStack() as stack:
        stack.callback(notifier.close)
        try:
            inherited = systemd.inherited_sockets(environ, os.getpid())
        except systemd.InheritedSocketError as exc:
            raise _StartError(NO_PLACE, str(exc)) from exc
        systemd.forget_variables(environ)
        kept = {name: environ[name] for name in rooms.VARIABLES if name in environ}
        listening = _listening(settings, inherited, stack)

        def on_ready() -> None:
            ready.ready(listening[0].path)
            heap.keep_what_is_loaded()

        start = app.Start(
            settings=settings,
            load_settings=load,
            listening=listening,
            open_rooms=partial(rooms.open_rooms, environ=kept),
            notifier=notifier,
            watchdog_seconds=patience,
            on_ready=on_ready,
            agent=AGENT,
            version=__version__,
        )
        status = STOPPED
        try:
            trio.run(app.run, start)
        except* Exception as group:  # noqa: BLE001  # told once, at the top
            status = _failure(group, ready)
    return status


def _failure(group: BaseExceptionGroup[Exception], ready: _Readiness) -> int:
    """Tell why the event loop ended; return the exit status."""
    from keylessd.errors import DaemonError  # noqa: PLC0415
    from keylessd.ops.ledger import LedgerError  # noqa: PLC0415

    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, DaemonError) and not ready.was_ready:
        ready.failed(first.message)
        # Not a fault: a directory that cannot be written, or a file that the settings name.
        return NO_PLACE if isinstance(first, LedgerError) else BAD_SETTINGS
    _log.error("daemon.fault", exc=group)
    ready.failed("a fault; the log says more")
    return FAULT


def _loader(arguments: argparse.Namespace, descriptors: int) -> Callable[[], Settings]:
    """Return what reads the settings, now and at every reload: file, then the command line."""
    where = Locations(os.environ.copy(), system=arguments.system, uid=os.geteuid())

    def load() -> Settings:
        path = arguments.config
        if path is None:
            # A file that is there and cannot be read is an error, and not passed over.
            path = next((config for config in where.configs() if os.path.lexists(config)), None)
        settings = load_settings(path)
        if arguments.system and settings.persist != "memory":
            problem = "a system daemon keeps no sessions; only memory is possible"
            raise SettingsError(str(path), None, "persist", problem)
        sandbox_dir = arguments.sandbox_dir or settings.sandbox_dir or where.sandbox()
        settings = replace(
            settings,
            socket=(arguments.socket or settings.socket or where.socket()).absolute(),
            cache_dir=(arguments.cache_dir or settings.cache_dir or where.cache()).absolute(),
            state_dir=(arguments.state_dir or settings.state_dir or where.state()).absolute(),
            sandbox_dir=sandbox_dir.absolute(),
        )
        limits = settings.limits
        if limits.connections > descriptors:
            limits = replace(limits, connections=descriptors)
        level = arguments.log_level or settings.log_level
        return replace(settings, limits=limits, log_level=level, system=arguments.system)

    return load


def _make_private(directory: Path | None) -> None:
    """Make a directory of ours with what is missing above it, all for us alone."""
    assert directory is not None  # noqa: S101  # the loader filled it in
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as exc:
        raise _StartError(NO_PLACE, f"the directory {directory}: {exc.strerror}") from exc
    # Whoever can write there can put another ledger, or an older trust root, in the place of ours.
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"the directory {directory} is not ours alone to write to; chmod it to 700"
        raise _StartError(NO_PLACE, problem)


def _listening(
    settings: Settings, inherited: Sequence[Inherited], stack: ExitStack
) -> tuple[Listening, ...]:
    """Take the inherited sockets, or make our own, and the state directory.

    *stack* puts away what we made, the state directory first: whoever finds the socket's place
    free finds that free too.
    """
    from keylessd.server.listen import (  # noqa: PLC0415
        ListenError,
        OwnSocket,
        SocketInUseError,
        describe_inherited,
    )

    with ExitStack() as held:
        claim = partial(_hold, settings.state_dir, held)
        if inherited:
            claim()
            listening = tuple(describe_inherited(one.name, one.listener) for one in inherited)
        else:
            assert settings.socket is not None  # noqa: S101  # the loader filled it in
            try:
                own = stack.enter_context(closing(OwnSocket(settings.socket, claim=claim)))
            except SocketInUseError as exc:
                raise _StartError(IN_USE, str(exc)) from exc
            except ListenError as exc:
                raise _StartError(NO_PLACE, str(exc)) from exc
            listening = (own.listening,)
        stack.push(held.pop_all())
    return listening


def _hold(directory: Path | None, stack: ExitStack) -> None:
    """Keep other daemons out of the state directory: a ledger has one writer."""
    from keylessd.server.hold import StateHeldError, hold_state  # noqa: PLC0415

    assert directory is not None  # noqa: S101  # the loader filled it in
    try:
        stack.callback(os.close, hold_state(directory))
    except StateHeldError as exc:
        raise _StartError(IN_USE, str(exc)) from exc
    except OSError as exc:
        raise _StartError(NO_PLACE, f"the directory {directory}: {exc.strerror}") from exc


if __name__ == "__main__":
    sys.exit(main())

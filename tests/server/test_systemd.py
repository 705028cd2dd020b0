"""Notify, watchdog and inherited sockets, without a service manager."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest
import trio

from keylessd.server.systemd import (
    InheritedSocketError,
    Notifier,
    feed_watchdog,
    forget_variables,
    inherited_sockets,
    watchdog_seconds,
)


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def test_messages_arrive_one_field_a_line(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.send(READY="1", STATUS="serving\nMAINPID=1")

    assert manager.recv(1000) == b"READY=1\nSTATUS=serving MAINPID=1"
    notifier.close()


def test_abstract_notify_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0keyless-test-{os.getpid()}")
        notifier = Notifier({"NOTIFY_SOCKET": f"@keyless-test-{os.getpid()}"})
        notifier.send(READY="1")

        assert sock.recv(100) == b"READY=1"
        notifier.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_nobody_to_notify_is_no_error(environ: dict[str, str]) -> None:
    Notifier(environ).send(READY="1")


def test_a_manager_that_does_not_read_does_not_block(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    for _ in range(5000):
        notifier.send(STATUS="x" * 100)
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_seconds(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environ, 7) == seconds


class RecordingNotifier(Notifier):
    def __init__(self) -> None:
        super().__init__({})
        self.pings: list[float] = []

    def send(self, **fields: str) -> None:
        self.pings.append(trio.current_time())


async def test_watchdog_pings_twice_per_timeout(autojump_clock: object) -> None:
    notifier = RecordingNotifier()

    async def check() -> bool:
        return True

    with trio.move_on_after(31):
        await feed_watchdog(notifier, 10, check)

    assert notifier.pings == [0, 5, 10, 15, 20, 25, 30]


async def test_watchdog_is_silent_while_the_check_fails(autojump_clock: object) -> None:
    notifier = RecordingNotifier()

    async def check() -> bool:
        return not 4 < trio.current_time() < 12

    with trio.move_on_after(16):
        await feed_watchdog(notifier, 10, check)

    assert all(not 4 < ping < 12 for ping in notifier.pings)
    assert any(ping >= 12 for ping in notifier.pings)


async def test_watchdog_is_silent_while_the_check_hangs(autojump_clock: object) -> None:
    notifier = RecordingNotifier()
    with trio.move_on_after(100):
        await feed_watchdog(notifier, 10, trio.sleep_forever)

    assert notifier.pings == []


# --- inherited sockets: the descriptors start at 3, so these run in a child ---------------------


def _in_child(prepare: object, environ: dict[str, str]) -> str:
    """Run inherited_sockets() in a forked child whose descriptor 3 is made by *prepare*."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            made = prepare()  # type: ignore[operator]
            number = made.fileno()
            if write == 3:
                write = os.dup(write)
            os.dup2(number, 3)
            os.set_inheritable(3, True)
            try:
                found = inherited_sockets({"LISTEN_PID": str(os.getpid()), **environ}, os.getpid())
                text = ",".join(f"{one.name}:{os.get_inheritable(3)}" for one in found)
            except InheritedSocketError as exc:
                text = f"error: {exc}"
            os.write(write, text.encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read().decode()


def _listening() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(Path(tempfile.mkdtemp(), "s")))
    sock.listen()
    return sock


def _abstract() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("")  # the kernel chooses a name
    sock.listen()
    return sock


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "sign"}, "sign:False"),
        ({"LISTEN_FDS": "1"}, "unknown:False"),
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": ""}, "unknown:False"),
        ({"LISTEN_FDS": "0"}, ""),
        ({}, ""),
        ({"LISTEN_FDS": "-1"}, "error: LISTEN_FDS is '-1'"),
        ({"LISTEN_FDS": "99999999"}, "error: LISTEN_FDS is '99999999'"),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, ""),
    ],
)
def test_inherited_sockets(environ: dict[str, str], names: str) -> None:
    assert _in_child(_listening, environ) == names


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: Path("/dev/null").open(),  # noqa: SIM115  # a child closes it by ending
        lambda: socket.socket(socket.AF_UNIX),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        lambda: socket.create_server(("127.0.0.1", 0)),
        _abstract,
    ],
    ids=["file", "not listening", "datagram", "tcp", "abstract"],
)
def test_what_is_no_listening_unix_socket_is_refused(make: object) -> None:
    assert _in_child(make, {"LISTEN_FDS": "1"}).startswith("error: descriptor 3")


def test_variables_are_forgotten() -> None:
    environ = {"LISTEN_FDS": "1", "NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "HOME": "/h"}
    forget_variables(environ)

    assert environ == {"HOME": "/h"}

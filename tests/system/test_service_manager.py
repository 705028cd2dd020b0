"""What systemd asks of the daemon: activation, readiness, watchdog; and the units themselves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyless.wire import CLIENT, Connection, Hello, Request

pytestmark = pytest.mark.system

UNITS = Path(__file__).parents[2] / "systemd"
SERVICES = ["keylessd.service", "keylessd-system.service"]
SOCKETS = ["keylessd.socket", "keylessd-system.socket", "keylessd-system-admin.socket"]
PATIENCE = 20.0

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
needs_activate = pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None,
    reason="systemd-socket-activate is not installed",
)


class Manager:
    """The notify socket of a service manager."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(PATIENCE)
        self.heard: list[dict[str, str]] = []

    def wait_for(self, field: str) -> dict[str, str]:
        """Return the first message from now on that has *field*."""
        while True:
            text = self.socket.recv(4096).decode()
            message = dict(line.split("=", 1) for line in text.splitlines())
            self.heard.append(message)
            if field in message:
                return message

    def hears(self, field: str) -> bool:
        """Return whether such a message comes before the socket's timeout."""
        try:
            self.wait_for(field)
        except TimeoutError:
            return False
        return True


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    manager = Manager(tmp_path)
    yield manager
    manager.socket.close()


def test_notifies_ready_reloading_and_stopping(manager: Manager, daemons) -> None:
    daemon = daemons(environ={"NOTIFY_SOCKET": str(manager.path)})
    ready = manager.wait_for("READY")
    daemon.signal(signal.SIGHUP)
    reloading = manager.wait_for("RELOADING")
    again = manager.wait_for("READY")
    daemon.signal(signal.SIGTERM)
    stopping = manager.wait_for("STOPPING")

    assert ready["STATUS"] == f"serving {daemon.path}"
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert 0 < int(reloading["MONOTONIC_USEC"]) <= now
    assert again["READY"] == "1"
    assert stopping["STOPPING"] == "1"
    assert daemon.wait() == 0


def test_watchdog_is_fed_through_the_socket(manager: Manager, daemons) -> None:
    daemon = daemons(environ={"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "1000000"})
    manager.wait_for("WATCHDOG")
    served = daemon.ask().body["requests"]["status"]["ok"]
    # Without its socket no client reaches it: the pings end.
    daemon.path.unlink()
    daemon.wait_for_event("watchdog.failed")
    manager.socket.settimeout(2)
    late = 0
    while manager.hears("WATCHDOG"):
        late += 1
        assert late < 4

    assert served >= 1


def test_a_stopped_process_is_silent(manager: Manager, daemons) -> None:
    daemon = daemons(environ={"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "500000"})
    manager.wait_for("WATCHDOG")
    daemon.signal(signal.SIGSTOP)
    manager.socket.settimeout(1.5)
    while manager.hears("WATCHDOG"):
        pass  # what was sent before it stopped
    stopped = not manager.hears("WATCHDOG")
    daemon.signal(signal.SIGCONT)
    manager.socket.settimeout(PATIENCE)

    assert stopped
    assert manager.wait_for("WATCHDOG")


def connected(path: Path) -> socket.socket:
    """Connect as soon as somebody listens: the path is there a moment before."""
    deadline = time.monotonic() + PATIENCE
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return client


@needs_activate
def test_socket_activation(manager: Manager, tmp_path: Path) -> None:
    (tmp_path / "trusted_root.json").write_text("{}")
    (tmp_path / "config.toml").write_text(
        'default_instance="here"\n[instance.here]\ntrusted_root="trusted_root.json"\n'
    )
    path = tmp_path / "activated.sock"
    process = subprocess.Popen(
        [
            "systemd-socket-activate",
            f"--listen={path}",
            "--fdname=sign",
            f"--setenv=NOTIFY_SOCKET={manager.path}",
            sys.executable,
            "-m",
            "keylessd",
            f"--config={tmp_path}/config.toml",
            f"--cache-dir={tmp_path}/cache",
            f"--state-dir={tmp_path}/state",
            f"--socket={tmp_path}/run/unused.sock",
        ],
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    try:
        with connected(path) as client:
            wire = Connection(CLIENT)
            client.sendall(wire.send(Hello()) + wire.send(Request(1, "status", {})))
            heard = b""
            while b"uptime_seconds" not in heard:
                data = client.recv(65536)
                assert data, heard
                heard += data
        assert manager.wait_for("READY")["STATUS"] == f"serving {path}"
        assert not (tmp_path / "run").exists()
    finally:
        process.terminate()
        _, stderr = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0, stderr
    assert path.exists()  # it belongs to the service manager


# --- the units -------------------------------------------------------------------------------


def analyze(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "SYSTEMD_UNIT_PATH": f"{UNITS}:",
            "XDG_RUNTIME_DIR": str(directory),
            "LC_ALL": "C.UTF-8",
        },
    )


@needs_analyze
@pytest.mark.parametrize("unit", [*SERVICES, *SOCKETS])
def test_verify_prints_nothing(unit: str, tmp_path: Path) -> None:
    if not Path("/usr/bin/python3").exists():
        pytest.skip("the units name /usr/bin/python3, which is not here")
    user = () if "system" in unit else ("--user",)
    done = analyze(*user, "verify", "--man=no", str(UNITS / unit), directory=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_analyze
@pytest.mark.parametrize(
    ("unit", "user", "most"),
    [("keylessd-system.service", (), 1.4), ("keylessd.service", ("--user",), 2.2)],
)
def test_exposure(unit: str, user: tuple[str, ...], most: float, tmp_path: Path) -> None:
    done = analyze(*user, "security", "--offline=yes", str(UNITS / unit), directory=tmp_path)
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)

    assert found is not None, done.stderr
    assert float(found[1]) <= most


@pytest.mark.parametrize("unit", SERVICES)
def test_stop_timeout_is_longer_than_the_drain(unit: str) -> None:
    from keylessd.settings import Timeouts

    found = re.search(r"^TimeoutStopSec=(\d+)s$", (UNITS / unit).read_text(), re.MULTILINE)

    assert found is not None
    assert int(found[1]) >= Timeouts().drain + 10


@pytest.mark.parametrize("unit", SERVICES)
def test_units_give_up_on_what_a_restart_would_not_change(unit: str) -> None:
    from keylessd import __main__ as command

    statuses = {command.MISSING, command.BAD_SETTINGS, 2}
    found = re.search(r"^RestartPreventExitStatus=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)

    assert found is not None
    assert set(map(int, found[1].split())) == statuses

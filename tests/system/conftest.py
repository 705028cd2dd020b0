"""The real daemon as a process, with everything it writes below one directory."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyless.wire import (
    CLIENT,
    NEED_DATA,
    Connection,
    ConnectionClosed,
    Failure,
    Hello,
    Reply,
    Request,
)

# A trusted root nobody can fetch anything with: the daemon under test never meets the network.
CONFIG = """
default_instance = "here"
[instance.here]
trusted_root = "trusted_root.json"
"""
PATIENCE = 20.0  # seconds until a test that waits for a process gives up


class Ask:
    """A blocking client on a plain socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self.wire = Connection(CLIENT)
        self.socket.sendall(self.wire.send(Hello(agent="test")))

    def request(self, op: str = "status", number: int = 1) -> object:
        self.socket.sendall(self.wire.send(Request(number, op, {})))
        while True:
            event = self.wire.next_event()
            if event is NEED_DATA:
                self.wire.receive_data(self.socket.recv(65536))
            elif isinstance(event, Reply | Failure | ConnectionClosed):
                return event

    def close(self) -> None:
        self.socket.close()


class DaemonProcess:
    """A running keylessd."""

    def __init__(
        self,
        directory: Path,
        *extra: str,
        environ: dict[str, str] | None = None,
        shell: str = "",
    ) -> None:
        self.directory = directory
        self.path = directory / "run" / "sign.sock"
        (directory / "trusted_root.json").write_text("{}")
        config = directory / "config.toml"
        if not config.exists():
            config.write_text(CONFIG)
        self.began = time.monotonic()
        read, write = os.pipe()
        self.log_file = (directory / "log").open("ab+")
        self.process = subprocess.Popen(
            [
                *("sh", "-c", f'{shell}\nexec "$@"', "sh"),
                *command(directory),
                "--socket",
                str(self.path),
                "--ready-fd",
                str(write),
                *extra,
            ],
            env={"PATH": os.environ["PATH"], "HOME": str(directory), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log_file,
            pass_fds=[write],
        )
        os.close(write)
        self._ready = read

    def ready(self) -> str:
        """Wait for the line that says how the start went; empty if the process died."""
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._ready], [], [], PATIENCE)[0]:
                raise TimeoutError(self.log_text())
            data = os.read(self._ready, 1000)
            if not data:
                break
            line += data
        self.ready_seconds = time.monotonic() - self.began
        return line.decode().strip()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def log_text(self) -> str:
        return (self.directory / "log").read_text()

    def events(self) -> list[dict[str, object]]:
        lines = self.log_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for_event(self, name: str, count: int = 1) -> dict[str, object]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = [event for event in self.events() if event["event"] == name]
            if len(found) >= count:
                return found[-1]
            select.select([], [], [], 0.02)
        raise TimeoutError(f"no {name} in {self.log_text()}")

    def ask(self, op: str = "status") -> object:
        client = Ask(self.path)
        try:
            return client.request(op)
        finally:
            client.close()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ready)
        self.log_file.close()


def command(directory: Path) -> list[str]:
    """Return the command line without a socket."""
    return [
        sys.executable,
        "-m",
        "keylessd",
        "--config",
        str(directory / "config.toml"),
        "--cache-dir",
        str(directory / "cache"),
        "--state-dir",
        str(directory / "state"),
    ]


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[type[DaemonProcess]]:
    """Start daemons that are gone when the test is over."""
    started: list[DaemonProcess] = []

    def start(*extra: str, **kwargs: object) -> DaemonProcess:
        daemon = DaemonProcess(tmp_path, *extra, **kwargs)  # type: ignore[arg-type]
        started.append(daemon)
        return daemon

    yield start  # type: ignore[misc]
    for daemon in started:
        daemon.end()


@pytest.fixture
def daemon(daemons: object) -> DaemonProcess:
    """One daemon that is ready."""
    started: DaemonProcess = daemons()  # type: ignore[operator]
    assert started.ready().startswith("READY ")
    return started


TERM, HUP, USR1, KILL = signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGKILL

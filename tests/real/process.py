"""Programs in the background: start, wait until they answer, halt, stop. Knows no Sigstore."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

PATIENCE = 60.0  # seconds until something that should have started has failed to
LOOK = 0.05  # seconds between two looks


class NotStartedError(Exception):
    """A program ended, or does not answer; the message has the end of its log."""


class Program:
    """One program that can be started, and started again, with the same command line.

    Args:
        name: For messages.
        command: The command line.
        log: File that takes its output; it is appended to.
        ready: Says whether it answers already; must not raise.
        environ: Its whole environment.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], bool],
        environ: Mapping[str, str],
    ) -> None:
        self.name = name
        self.command = [str(word) for word in command]
        self.log = log
        self._ready = ready
        self._environ = dict(environ)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process, while it lives."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> None:
        """Start it; wait_until_ready() follows, so that several can start side by side."""
        assert self.pid is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C is for us; we end the programs in our own order.
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Wait until it answers.

        Raises:
            NotStartedError: It ended, or nothing was heard of it.
        """
        end = time.monotonic() + PATIENCE
        while not self._ready():
            if self.pid is None or time.monotonic() > end:
                state = "does not answer" if self.pid else "ended"
                tail = self.log.read_text(errors="replace")[-1500:]
                raise NotStartedError(f"{self.name} {state}: {' '.join(self.command)}\n{tail}")
            time.sleep(LOOK)

    def halt(self) -> None:
        """Let it hang: connections are still accepted by the kernel, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End halt()."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; it is gone when this returns."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def end_in_order_when_told() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that what it started ends as well."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def free_ports(count: int) -> list[int]:
    """Return loopback ports that are free now; the kernel does not give them out again soon."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def is_free(port: int) -> bool:
    """Say whether nobody listens at a port, at any address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def answers(url: str, status: int = 200) -> Callable[[], bool]:
    """Return a check whether GET *url* gives *status*."""

    def check() -> bool:
        try:
            return httpx.get(url, timeout=5, trust_env=False).status_code == status
        except httpx.HTTPError:
            return False

    return check


def accepts(port: int) -> Callable[[], bool]:
    """Return a check whether somebody listens at a loopback port."""

    def check() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    return check


def accepts_unix(path: Path) -> Callable[[], bool]:
    """Return a check whether somebody listens at a Unix socket."""

    def check() -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(path))
            return True
        return False

    return check


def plain_environ(home: Path) -> dict[str, str]:
    """Return an environment without any of the settings of the person who runs the tests."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}

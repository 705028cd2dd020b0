"""A sandbox and a daemon as processes of their own, for as long as a benchmark runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

PROFILED = Path(__file__).parent / "profiled.py"
PATIENCE = 30.0  # seconds for a process to end
IDENTITY = "you@sandbox.test"


@dataclass(slots=True)
class House:
    """Where everything is.

    Attributes:
        directory: Holds all of it; gone at the end.
        token: An identity token that the sandbox's CA accepts.
        sandbox_pid: The sandbox's process.
    """

    directory: Path
    token: str = ""
    sandbox_pid: int = 0
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        """Where the daemon listens."""
        return self.directory / "sign.sock"

    @property
    def sandbox(self) -> Path:
        """The sandbox's directory."""
        return self.directory / "sandbox"

    @property
    def environ(self) -> dict[str, str]:
        """The environment of every process: nothing of ours but where programs and modules are."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(self.directory),
            "KEYLESS_AUTOSTART": "0",
            "KEYLESS_SOCKET": str(self.socket),
            "KEYLESS_INSTANCE": "sandbox",
        }

    def urls(self) -> dict[str, str]:
        """Return the sandbox's URLs by name."""
        return dict(json.loads((self.sandbox / "instance.json").read_bytes()))

    def start_sandbox(self, *options: str) -> None:
        """Serve a sandbox, and get a token of it."""
        command = [sys.executable, "-m", "keylessd.sandbox", "--dir", str(self.sandbox)]
        process, line = self._start([*command, "up", *options], "sandbox.log")
        if line != b"ready\n":
            raise RuntimeError((self.directory / "sandbox.log").read_text())
        self.sandbox_pid = process.pid
        told = subprocess.run(
            [*command, "token", "--lifetime", "86400"],
            env=self.environ,
            capture_output=True,
            check=True,
        )
        self.token = told.stdout.decode().strip()

    def start_daemon(self, *, profiled: Path | None = None) -> tuple[int, float]:
        """Start a daemon; return its process and how many seconds it took until READY.

        Args:
            profiled: Where it says in the end what it was busy with.
        """
        began = time.perf_counter()
        process, line = self._start(self._daemon(profiled), "daemon.log")
        took = time.perf_counter() - began
        if not line.startswith(b"READY "):
            raise RuntimeError((self.directory / "daemon.log").read_text())
        return process.pid, took

    def begin_daemon(self) -> int:
        """Begin to start a daemon, and do not wait for it; return its process."""
        process, pipe = self._spawn(self._daemon(None), "daemon.log")
        pipe.close()
        return process.pid

    def kill(self, pid: int) -> None:
        """End a process that was started here by SIGKILL."""
        for process in self._processes:
            if process.pid == pid:
                process.kill()
                process.wait(PATIENCE)

    def stop(self, pid: int) -> None:
        """End a process that was started here."""
        for process in self._processes:
            if process.pid == pid:
                process.terminate()
                process.wait(PATIENCE)

    def close(self) -> None:
        """End everything that was started here."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _settings(self) -> Path:
        path = self.directory / "config.toml"
        if not path.exists():
            path.write_text('default_instance = "sandbox"\n')
        return path

    def _daemon(self, profiled: Path | None) -> list[str]:
        command = [sys.executable, "-m", "keylessd"]
        if profiled is not None:
            command = [sys.executable, str(PROFILED), str(profiled)]
        command += ["--socket", str(self.socket), "--config", str(self._settings())]
        command += ["--sandbox-dir", str(self.sandbox)]
        command += ["--cache-dir", str(self.directory / "cache")]
        command += ["--state-dir", str(self.directory / "state")]
        return command

    def _start(self, command: Sequence[str], log: str) -> tuple[subprocess.Popen[bytes], bytes]:
        """Start a process that writes one line when it is up; return both."""
        process, pipe = self._spawn(command, log)
        with pipe:
            return process, pipe.readline()

    def _spawn(
        self, command: Sequence[str], log: str
    ) -> tuple[subprocess.Popen[bytes], BufferedReader]:
        """Start a process; return it, and the pipe that it writes its line to."""
        readable, writable = os.pipe()
        with (self.directory / log).open("ab") as errors:
            process = subprocess.Popen(
                [*command, "--ready-fd", str(writable)],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=[writable],
            )
        os.close(writable)
        self._processes.append(process)
        return process, os.fdopen(readable, "rb")


@contextmanager
def house() -> Iterator[House]:
    """Make an empty one; what is started in it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="keyless-bench-") as directory:
        made = House(Path(directory))
        try:
            yield made
        finally:
            made.close()

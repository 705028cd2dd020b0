"""A cold client process against a bare interpreter, the daemon's own time taken out.

The replies are those of a real daemon, recorded once and then given at once by a thread that
does nothing else. The client is what a user has: the script of a wheel in an environment of its
own. The bare interpreter is the same one.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from house import IDENTITY, House, house
from measuring import Spent, in_turns, run
from tables import Goal, Table, finish, options

CHECKOUT = Path(__file__).parents[2]
BARE = "python3 -I -S -c pass"
GOALS = {"--version": 2.0, "status": 2.0, "sign": 2.5, "verify": 2.5}
# Programs that do the same job, if they are there: how long they take to say their version.
OTHERS = {"cosign": ["version"], "gitsign": ["--version"], "sigstore": ["--version"]}
READ_SIZE = 65_536
SECONDS = 10.0  # longest wait at a socket


class Recorder:
    """Passes one connection through to the daemon and keeps what both sides said."""

    def __init__(self, path: Path, daemon: Path) -> None:
        self.asked = self.told = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._daemon = daemon
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        self._thread.join(SECONDS)
        self._listener.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        daemon = socket.socket(socket.AF_UNIX)
        daemon.connect(str(self._daemon))
        with client, daemon:
            upward = threading.Thread(target=self._upward, args=(client, daemon), daemon=True)
            upward.start()
            while data := daemon.recv(READ_SIZE):
                self.told += data
                client.sendall(data)
            upward.join(SECONDS)

    def _upward(self, client: socket.socket, daemon: socket.socket) -> None:
        while data := client.recv(READ_SIZE):
            self.asked += data
            daemon.sendall(data)
        daemon.shutdown(socket.SHUT_WR)


class Answerer:
    """Gives one recorded reply to every connection, as soon as it was asked."""

    def __init__(self, path: Path, *, asked: int, told: bytes) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._asked = asked
        self._told = told
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            client.settimeout(SECONDS)
            with client:
                left = self._asked
                while left > 0 and (data := client.recv(READ_SIZE)):
                    left -= len(data)
                client.sendall(self._told)
                client.recv(READ_SIZE)  # until it hangs up, as the daemon would


def install(directory: Path) -> Path:
    """Install this checkout into an environment of its own; return the command."""
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    pip = [str(directory / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, str(CHECKOUT)], check=True)
    return directory / "bin" / "keyless"


def commands(script: Path, standing: House) -> dict[str, list[str]]:
    """Return the command lines by operation, all in the directory of the house."""
    (standing.directory / "artifact").write_bytes(b"an artifact\n" * 1000)
    verifying = ["--certificate-identity", IDENTITY]
    verifying += ["--certificate-oidc-issuer", standing.urls()["oidc_issuer"]]
    words = {
        "--version": ["--version"],
        "status": ["status"],
        "sign": ["sign", "artifact"],
        "verify": ["verify", *verifying, "artifact"],
    }
    return {name: [str(script), *line] for name, line in words.items()}


def canned(lines: Mapping[str, list[str]], standing: House) -> dict[str, dict[str, str]]:
    """Ask the daemon once for everything; return the environments in which that is repeated."""
    environs = {}
    for name, line in lines.items():
        environ = {**standing.environ, "SIGSTORE_ID_TOKEN": standing.token}
        if name != "--version":
            recording, replaying = (standing.directory / f"{name}.{end}" for end in ("rec", "rep"))
            recorder = Recorder(recording, standing.socket)
            run(line, {**environ, "KEYLESS_SOCKET": str(recording)}, directory=standing.directory)
            recorder.finish()
            Answerer(replaying, asked=len(recorder.asked), told=recorder.told)
            environ["KEYLESS_SOCKET"] = str(replaying)
        environs[name] = environ
    return environs


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = options(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=60, help="measurements of each (%(default)s)")
    parser.add_argument("--script", type=Path, help="an installed `keyless` to measure")
    arguments = parser.parse_args()
    with house() as standing:
        standing.start_sandbox()
        standing.start_daemon()
        script = arguments.script or install(standing.directory / "venv")
        lines = commands(script.absolute(), standing)
        environs = canned(lines, standing)
        cpu: dict[str, list[float]] = {}

        def case(name: str, line: list[str], environ: Mapping[str, str]) -> Callable[[], float]:
            return partial(_measured, cpu.setdefault(name, []), line, environ, standing.directory)

        # The first line of the script names its interpreter.
        python = script.read_text().split("\n", 1)[0].removeprefix("#!")
        cases = {BARE: case(BARE, [python, "-I", "-S", "-c", "pass"], standing.environ)}
        for name, line in lines.items():
            cases[name] = case(name, line, environs[name])
        for name, words in OTHERS.items():
            if (found := shutil.which(name)) is not None:
                cases[name] = case(name, [found, *words], standing.environ)
        samples = in_turns(cases, rounds=arguments.rounds)
    table = Table(
        f"client: start to end of one process, as a multiple of `{BARE}`",
        ("min", "median", "processor"),
        [f"{arguments.rounds} rounds in turns; replies recorded from a daemon on a sandbox"],
    )
    bare = samples[BARE]
    for name, found in samples.items():
        least, median = found.least / bare.least, found.median / bare.median
        processor = min(cpu[name]) / min(cpu[BARE])
        goal = Goal(GOALS[name]) if name in GOALS else None
        label = f"keyless {name}" if name in lines else " ".join([name, *OTHERS.get(name, [])])
        table.add(label, (least, median, processor), goal=goal)
    return finish(table, check=arguments.check)


def _measured(
    cpu: list[float], line: list[str], environ: Mapping[str, str], directory: Path
) -> float:
    spent: Spent = run(line, environ, directory=directory)
    cpu.append(spent.cpu)
    return spent.wall


if __name__ == "__main__":
    sys.exit(main())

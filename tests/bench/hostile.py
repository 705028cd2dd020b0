"""What a healthy client has to wait beside a hostile one, as a multiple of what it waits alone.

The hostile clients are those of the tests; a process that only spins, and asks the daemon nothing,
is there to compare with: it takes a core too.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "support"))

from house import House, house
from measuring import percentile, run
from tables import Goal, Table, finish, options

import hostile_client

CLIENT = Path(__file__).parents[2] / "clientlib" / "bin" / "keyless"
ATTACKER = Path(hostile_client.__file__)
SPINNING = "a process that spins"
SPIN = [sys.executable, "-c", "while True: pass"]
COMMANDS = {"status": ["status"], "sign": ["sign", "--quiet", "artifact"]}
SETTLE = 1.0  # seconds until an attack is in full swing
GOAL = Goal(2.0)

Times = dict[str, list[float]]


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = options(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=40, help="of each command (%(default)s)")
    arguments = parser.parse_args()
    with house() as standing:
        standing.start_sandbox()
        standing.start_daemon()
        (standing.directory / "artifact").write_bytes(b"an artifact\n")
        environ = {**standing.environ, "SIGSTORE_ID_TOKEN": standing.token}
        timed(standing, environ, 2)
        alone: Times = {name: [] for name in COMMANDS}
        beside: dict[str, Times] = {}
        for name, command in attacks(standing).items():
            # Before each, so that whatever else the machine does falls on both.
            for one, times in timed(standing, environ, max(1, arguments.rounds // 4)).items():
                alone[one] += times
            with running(command, standing):
                beside[name] = timed(standing, environ, arguments.rounds)
    table = Table(
        "hostile: wall time of one healthy process beside each hostile client, against alone",
        ("median", "p90"),
        [f"{arguments.rounds} rounds"],
    )
    for name, times in beside.items():
        goal = None if name == SPINNING else GOAL
        for one, found in times.items():
            ratios = [percentile(found, p) / percentile(alone[one], p) for p in (50, 90)]
            table.add(f"{one}, beside {name}", ratios, goal=goal)
    return finish(table, check=arguments.check)


def attacks(standing: House) -> Mapping[str, Sequence[str]]:
    """Return the command lines by name."""
    lines = {
        name: [sys.executable, str(ATTACKER), name, str(standing.socket)]
        for name in hostile_client.ATTACKS
    }
    return {SPINNING: SPIN, **lines}


def timed(standing: House, environ: Mapping[str, str], rounds: int) -> Times:
    """Return the seconds that each command took, each time."""
    times: Times = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, words in COMMANDS.items():
            command = [sys.executable, str(CLIENT), *words]
            times[name].append(run(command, environ, directory=standing.directory).wall)
    return times


@contextmanager
def running(command: Sequence[str], standing: House) -> Iterator[None]:
    """Keep a process running for as long as the block."""
    process = subprocess.Popen(command, env=standing.environ, stdout=subprocess.DEVNULL)
    try:
        time.sleep(SETTLE)
        yield
        if process.poll() is not None:
            raise RuntimeError(f"{command[-2]} ended by itself")
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())

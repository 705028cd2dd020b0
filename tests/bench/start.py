"""Start of the daemon with a warm cache, and its memory: idle, used, and per connection.

The cache is that of a TUF instance: a daemon before has fetched the sandbox's trust root.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from functools import partial
from pathlib import Path

import trio
from house import House, house
from measuring import in_turns, resident_mib, run
from tables import Goal, Table, finish, options

from keyless.trio_client import open_client
from keyless.values import Digest
from keyless.wire import CLIENT, NEED_DATA, Connection, Hello

# What the daemon cannot do without, and what that costs by itself.
LIBRARIES = "import trio, httpx, h11, cryptography.x509, tuf.ngclient, msgpack, re2"
CONNECTIONS = 256
SETTLE = 0.5  # seconds until a daemon that was just started is idle
START = Goal(0.8, unit=" s")
IDLE = Goal(70.0, unit=" MB")
MEGA = (1 << 20) / 1e6  # megabytes in a mebibyte


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = options(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=10, help="starts (%(default)s)")
    arguments = parser.parse_args()
    table = Table(
        "start: the daemon with a warm cache, from its start to READY, against its libraries alone",
        ("min/libraries", "median/libraries", "min s"),
        [f"{arguments.rounds} rounds in turns"],
    )
    with house() as standing:
        standing.start_sandbox()
        python = [sys.executable, "-c"]
        warm(standing)
        idle: list[float] = []
        samples = in_turns(
            {
                "bare": lambda: run([*python, "pass"], standing.environ, directory=Path("/")).wall,
                "libraries": lambda: (
                    run([*python, LIBRARIES], standing.environ, directory=Path("/")).wall
                ),
                "daemon": partial(one_start, standing, idle),
            },
            rounds=arguments.rounds,
            warm_up=1,
        )
        libraries = samples["libraries"]
        for name, label in (
            ("bare", "python3 -c pass"),
            ("libraries", "import of the libraries"),
            ("daemon", "keylessd to READY"),
        ):
            found = samples[name]
            least, median = found.least / libraries.least, found.median / libraries.median
            goal = START if name == "daemon" else None
            table.add(label, (least, median, found.least), goal=goal, judged=2)
        grown = growth(standing)
    memory = Table(
        "memory: resident, against an interpreter with the libraries alone",
        ("ratio", "MB"),
        [],
    )
    alone = libraries_mib() * MEGA
    memory.add("interpreter with the libraries", (1.0, alone))
    memory.add("keylessd idle", (max(idle) * MEGA / alone, max(idle) * MEGA), goal=IDLE, judged=1)
    for label, mib in grown.items():
        memory.add(label, (mib * MEGA / alone, mib * MEGA))
    status = finish(table, check=arguments.check)
    print()
    return finish(memory, check=arguments.check) or status


def warm(standing: House) -> None:
    """Let a daemon fetch the trust root once."""
    daemon, _ = standing.start_daemon()
    trio.run(_use, standing, 1)
    standing.stop(daemon)


def one_start(standing: House, idle: list[float]) -> float:
    """Start a daemon and stop it; return the seconds to READY, and note what it holds idle."""
    daemon, seconds = standing.start_daemon()
    time.sleep(SETTLE)
    idle.append(resident_mib(daemon))
    standing.stop(daemon)
    return seconds


def growth(standing: House) -> dict[str, float]:
    """Return what a daemon holds as it is used, in MiB, by what it was used for."""
    daemon, _ = standing.start_daemon()
    trio.run(_use, standing, 200)
    used = resident_mib(daemon)
    connections = [greeted(standing.socket) for _ in range(CONNECTIONS)]
    time.sleep(SETTLE)
    each = (resident_mib(daemon) - used) / CONNECTIONS
    for connection in connections:
        connection.close()
    standing.stop(daemon)
    return {
        "keylessd after 200 signatures": used,
        f"one idle connection (of {CONNECTIONS})": each,
    }


def greeted(path: Path) -> socket.socket:
    """Return a connection that has been welcomed and does nothing."""
    wire = Connection(CLIENT)
    opened = socket.socket(socket.AF_UNIX)
    opened.connect(str(path))
    opened.sendall(wire.send(Hello(agent="bench")))
    while wire.next_event() is NEED_DATA:
        wire.receive_data(opened.recv(4096))
    return opened


def libraries_mib() -> float:
    """Return what an interpreter holds that has loaded the libraries."""
    program = f"{LIBRARIES}; import sys; print(end='x', flush=True); sys.stdin.read()"
    readable, writable = os.pipe()
    asleep, awake = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", program],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, asleep, 0),
            (os.POSIX_SPAWN_DUP2, writable, 1),
            (os.POSIX_SPAWN_CLOSE, awake),
        ],
    )
    os.read(readable, 1)
    found = resident_mib(pid)
    os.close(awake)
    os.waitpid(pid, 0)
    for fd in (readable, writable, asleep):
        os.close(fd)
    return found


async def _use(standing: House, signatures: int) -> None:
    socket_path = str(standing.socket)
    async with open_client(socket_path=socket_path, autostart=False) as client:
        for _ in range(signatures):
            digest = Digest("sha256", os.urandom(32))
            await client.sign(digest, identity_token=standing.token)


if __name__ == "__main__":
    sys.exit(main())

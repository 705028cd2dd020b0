"""Start of the daemon after SIGKILL at random moments: while it signs, and while it starts.

What a killed daemon leaves is a socket, a lock, a ledger with a torn record, and a cache; the
next one has to be ready as soon as any other.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import threading
import time

import trio
from house import House, house
from tables import Goal, Table, finish, options

from keyless.errors import KeylessError
from keyless.trio_client import open_client
from keyless.values import Digest

CLIENTS = 16  # that sign when the daemon is killed
LONGEST = 0.5  # seconds from READY to the kill
OF_A_START = 1.2  # the kill of a starting daemon comes within so much of a usual start
READY = Goal(1.0, unit=" s")


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = options(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=50, help="kills (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (%(default)s)")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    after: dict[str, list[float]] = {"signed": [], "started": []}
    with house() as standing:
        standing.start_sandbox("--checkpoint-interval-ms", "20")
        daemon, _ = standing.start_daemon()
        usual = [unhurt(standing, daemon) for _ in range(3)]
        daemon, _ = standing.start_daemon()
        for number in range(arguments.rounds):
            if number % 2 == 0:
                kill_while_it_signs(standing, daemon, rng.uniform(0.0, LONGEST))
                what = "signed"
            else:
                standing.kill(daemon)
                starting = standing.begin_daemon()
                time.sleep(rng.uniform(0.0, OF_A_START * min(usual)))
                standing.kill(starting)
                what = "started"
            daemon, took = standing.start_daemon()
            after[what].append(took)
    table = Table(
        "restart: the daemon from its start to READY after SIGKILL, against a start after SIGTERM",
        ("max/least", "median/least", "max s"),
        [f"{arguments.rounds} kills, half of them with {CLIENTS} clients that sign"],
    )
    for what, found in after.items():
        least = min(usual)
        row = (max(found) / least, statistics.median(found) / least, max(found))
        table.add(f"killed while it {what}", row, goal=READY, judged=2)
    return finish(table, check=arguments.check)


def unhurt(standing: House, before: int) -> float:
    """Stop a daemon that is there as it should be; return the seconds to READY of the next."""
    standing.stop(before)
    daemon, took = standing.start_daemon()
    standing.stop(daemon)
    return took


def kill_while_it_signs(standing: House, daemon: int, seconds: float) -> None:
    """Let clients sign, and kill the daemon in the middle of it."""
    signing = threading.Thread(target=trio.run, args=(sign_until_it_breaks, standing))
    signing.start()
    time.sleep(seconds)
    standing.kill(daemon)
    signing.join()


async def sign_until_it_breaks(standing: House) -> None:
    """Sign with all clients at once, until each of them has lost the daemon."""

    async def one() -> None:
        try:
            async with open_client(socket_path=str(standing.socket), autostart=False) as client:
                while True:
                    digest = Digest("sha256", os.urandom(32))
                    await client.sign(digest, identity_token=standing.token)
        except* KeylessError:
            pass  # what was to be expected

    async with trio.open_nursery() as clients:
        for _ in range(CLIENTS):
            clients.start_soon(one)


if __name__ == "__main__":
    sys.exit(main())

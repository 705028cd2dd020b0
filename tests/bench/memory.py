"""The daemon's memory over very many requests: status, verifications and signatures, mixed.

The slope is that of a line through what was resident in the later part of the run, times its
length: what the daemon would have gained in it if noise is left out.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from contextlib import AsyncExitStack

import trio
from house import IDENTITY, House, house
from measuring import resident_mib
from tables import Goal, Table, finish, options

from keyless.trio_client import TrioClient, open_client
from keyless.values import AcceptedSigner, Digest

CLIENTS = 16
# Of 20 requests; a build verifies more than it signs, and who watches asks for the status.
STATUS, VERIFY, SIGN = 10, 8, 2
SAMPLES = 200  # of the resident memory, over the whole run
WARM_UP = 0.4  # of the run: caches and the first file of the ledger fill up
SLOPE = Goal(1.0, unit=" MiB")


async def drive(standing: House, daemon: int, requests: int) -> list[float]:
    """Make *requests* requests; return what was resident, SAMPLES times over the run."""
    accepted = (AcceptedSigner(identity=IDENTITY, issuer=standing.urls()["oidc_issuer"]),)
    kinds = ["status"] * STATUS + ["verify"] * VERIFY + ["sign"] * SIGN
    done = 0
    found: list[float] = []

    async def one(client: TrioClient, first: int) -> None:
        nonlocal done
        digest = Digest("sha256", os.urandom(32))
        bundle = (await client.sign(digest, identity_token=standing.token)).bundle
        turn = first
        while done < requests:
            done += 1
            turn += 1
            if done % max(1, requests // SAMPLES) == 0:
                found.append(resident_mib(daemon))
            match kinds[turn * 7 % len(kinds)]:  # 7 and 20 have no common factor: all in turn
                case "status":
                    await client.status()
                case "verify":
                    await client.verify(digest, bundle, accepted=accepted)
                case _:
                    digest = Digest("sha256", os.urandom(32))
                    bundle = (await client.sign(digest, identity_token=standing.token)).bundle

    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                open_client(socket_path=str(standing.socket), autostart=False)
            )
            for _ in range(CLIENTS)
        ]
        async with trio.open_nursery() as nursery:
            for number, client in enumerate(clients):
                nursery.start_soon(one, client, number)
    return found


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = options(__doc__ or "")
    parser.add_argument("--requests", type=int, default=100_000, help="(%(default)s)")
    arguments = parser.parse_args()
    with house() as standing:
        standing.start_sandbox("--checkpoint-interval-ms", "20")
        daemon, _ = standing.start_daemon()
        idle = resident_mib(daemon)
        began = time.perf_counter()
        found = trio.run(drive, standing, daemon, arguments.requests)
        took = time.perf_counter() - began
    later = found[int(len(found) * WARM_UP) :]
    line = statistics.linear_regression(range(len(later)), later)
    table = Table(
        f"memory: resident memory of the daemon over {arguments.requests} requests",
        ("by idle", "MiB"),
        [
            f"{CLIENTS} clients, {took:.0f} s",
            f"of {STATUS + VERIFY + SIGN} requests {STATUS} status, {VERIFY} verify, {SIGN} sign",
        ],
    )
    table.add("idle", (1.0, idle))
    table.add("at the end of the warm-up", (later[0] / idle, later[0]))
    table.add("most", (max(found) / idle, max(found)))
    table.add("at the end", (later[-1] / idle, later[-1]))
    gained = line.slope * len(later)
    table.add("slope after the warm-up", (gained / idle, gained), goal=SLOPE, judged=1)
    return finish(table, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())

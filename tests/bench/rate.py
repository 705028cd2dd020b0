"""Signatures per second against what the sandbox itself can write, at 1 to 256 clients.

Raw is what a signature needs upstream, one entry of the log and one timestamp side by side, sent
by as many bare HTTP connections to the same sandbox in the same run, in turns.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio
from house import House, house
from load import Requests, Round, daemon_clients, raw_clients, together
from measuring import cpu_seconds, percentile
from tables import Goal, Table, finish, options

from keyless.trio_client import open_client
from keyless.values import Digest

LEVELS = (1, 16, 64, 256)
BATCH = 256  # artifacts
RATE = Goal(0.8, at_least=True)
SPREAD = Goal(2.0)
FEW, MANY = 16, 256  # clients whose slowest signatures are compared


@dataclass(slots=True)
class Level:
    """What was found with one number of clients."""

    raw: list[Round] = field(default_factory=list)
    signed: list[Round] = field(default_factory=list)
    sandbox_cpu: float = 0.0  # seconds for all raw writes
    daemon_cpu: float = 0.0  # seconds for all signatures

    @property
    def ratio(self) -> float:
        """The best round of each: another process can only take away."""
        return max(one.rate for one in self.signed) / max(one.rate for one in self.raw)

    @property
    def work(self) -> float:
        """Processor time of the daemon per signature against the sandbox's per raw write."""
        signed = sum(len(one.seconds) for one in self.signed)
        raw = sum(len(one.seconds) for one in self.raw)
        return (self.daemon_cpu / signed) / (self.sandbox_cpu / raw)

    @property
    def slowest(self) -> float:
        """The 99th percentile, in seconds, of the better round."""
        return min(percentile(one.seconds, 99) for one in self.signed)


async def measure(
    standing: House, daemon: int, *, levels: Sequence[int], rounds: int, seconds: float
) -> dict[str, Level]:
    """Return what was found, by number of clients and for batches."""
    requests = await Requests.open(standing.urls(), standing.token)
    found: dict[str, Level] = {}
    for count in levels:
        level = found[str(count)] = Level()
        async with (
            raw_clients(requests, count) as raw,
            daemon_clients(str(standing.socket), standing.token, count) as signing,
        ):
            # As many per client as take about the wanted time, found out on the way.
            each = max(1, round(seconds * (await together(signing, each=1)).rate / count))
            requests.prepare(count)
            await together(raw, each=1)
            for _ in range(rounds):
                requests.prepare(count * each)
                used = cpu_seconds(standing.sandbox_pid)
                level.raw.append(await together(raw, each=each))
                level.sandbox_cpu += cpu_seconds(standing.sandbox_pid) - used
                used = cpu_seconds(daemon)
                level.signed.append(await together(signing, each=each))
                level.daemon_cpu += cpu_seconds(daemon) - used
    if levels == LEVELS:
        found["batch"] = await _batches(standing, daemon, requests, rounds=rounds, seconds=seconds)
    return found


async def _batches(
    standing: House, daemon: int, requests: Requests, *, rounds: int, seconds: float
) -> Level:
    """Sign BATCH artifacts at once, against one raw write."""
    level = Level()
    socket = str(standing.socket)
    async with (
        raw_clients(requests, 1) as raw,
        open_client(socket_path=socket, autostart=False) as client,
    ):

        async def once() -> None:
            subjects = [(f"file{n}", Digest("sha256", os.urandom(32))) for n in range(BATCH)]
            await client.sign_batch(subjects, identity_token=standing.token)

        each = max(1, round(seconds * (await together([once], each=1)).rate))
        for _ in range(rounds):
            requests.prepare(each)
            used = cpu_seconds(standing.sandbox_pid)
            level.raw.append(await together(raw, each=each))
            level.sandbox_cpu += cpu_seconds(standing.sandbox_pid) - used
            used = cpu_seconds(daemon)
            level.signed.append(await together([once], each=each))
            level.daemon_cpu += cpu_seconds(daemon) - used
    return level


def regime(table: Table, name: str, interval_ms: int, asked: Namespace, *, goals: bool) -> None:
    """Measure with one checkpoint interval and add the rows."""
    with house() as standing:
        standing.start_sandbox("--rekor", asked.rekor, "--checkpoint-interval-ms", str(interval_ms))
        daemon, _ = standing.start_daemon(profiled=asked.profiled)
        sizes = {"rounds": asked.rounds, "seconds": asked.seconds}
        found = trio.run(partial(measure, standing, daemon, levels=asked.clients, **sizes))
    few = found[str(FEW)].slowest if str(FEW) in found else None
    for key, level in found.items():
        label = f"{name}: {key} clients" if key != "batch" else f"{name}: batches of {BATCH}"
        spread = level.slowest / few if few is not None and key != "batch" else None
        rate = max(one.rate for one in level.signed)
        values = (level.ratio, spread, level.work, rate)
        table.add(label, values, goal=RATE if goals else None)
        if key == str(MANY) and goals:
            table.add(f"{name}: p99 of {MANY} by {FEW}", values, goal=SPREAD, judged=1)


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = options(__doc__ or "")
    parser.add_argument("--rekor", choices=("v1", "v2"), default="v2", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round (%(default)s)")
    parser.add_argument("--interval-ms", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--saturated-ms", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--only", choices=("paced", "saturated"))
    parser.add_argument("--clients", type=int, nargs="+", default=LEVELS, help="no batches then")
    parser.add_argument("--profiled", type=Path, help="write where the daemon's time went")
    arguments = parser.parse_args()
    table = Table(
        f"rate: signatures per second on a sandbox with Rekor {arguments.rekor}, against its raw"
        " write rate",
        ("rate/raw", f"p99/p99 of {FEW}", "processor/raw", "per second"),
        [
            f"{arguments.rounds} rounds in turns, best of each; all processes share the cores",
            f"paced: a checkpoint every {arguments.interval_ms} ms",
            f"saturated: a checkpoint every {arguments.saturated_ms} ms",
        ],
    )
    if arguments.only != "saturated":
        regime(table, "paced", arguments.interval_ms, arguments, goals=True)
    if arguments.only != "paced":
        regime(table, "saturated", arguments.saturated_ms, arguments, goals=False)
    return finish(table, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())

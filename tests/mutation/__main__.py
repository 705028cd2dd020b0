"""Runs the tests of verification against its mutants: ``python -m tests.mutation``.

Prints who survived; exit status 1 if anyone did.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import sys
import time

from tests.mutation.campaign import run
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import modules, mutants_of
from tests.mutation.running import Outcome
from tests.mutation.table import write


def main() -> int:
    """Run, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--module", action="append", help="only this one (repeatable)")
    parser.add_argument("--only", default="", help="only mutants whose name has this in it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--sample", type=int, help="so many, chosen by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="the table, if none is alive")
    parser.add_argument("--list", action="store_true", help="print their names and end")
    parser.add_argument("--verbose", action="store_true", help="say who killed each")
    arguments = parser.parse_args()
    chosen = [
        mutant
        for module in arguments.module or modules()
        for mutant in mutants_of(module)
        if arguments.only in mutant.name and mutant.name not in EQUIVALENT
    ]
    if arguments.sample is not None:
        chosen = random.Random(arguments.seed).sample(chosen, min(arguments.sample, len(chosen)))
    if arguments.list:
        print("\n".join(mutant.name for mutant in chosen))
        return 0
    began = time.monotonic()
    outcomes, broken = run(chosen, jobs=arguments.jobs, alive=_tell)
    for name in broken:
        print(f"broken: {name}")
    for outcome in outcomes:
        if outcome.killer is None:
            print(
                f"ALIVE ({outcome.tests} tests, line {outcome.mutant.line}) {outcome.mutant.name}"
            )
        elif arguments.verbose:
            print(f"killed by {outcome.killer}: {outcome.mutant.name}")
    alive = sum(outcome.killer is None for outcome in outcomes)
    kinds = collections.Counter(outcome.mutant.kind for outcome in outcomes)
    print(f"{len(outcomes)} mutants {dict(kinds)}, {alive} alive, {time.monotonic() - began:.0f} s")
    if alive or broken:
        return 1
    if arguments.write:
        write([mutant for module in modules() for mutant in mutants_of(module)])
    return 0


def _tell(outcome: Outcome) -> None:
    mutant = outcome.mutant
    print(f"ALIVE ({outcome.tests} tests, line {mutant.line}) {mutant.name}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

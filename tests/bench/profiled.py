"""Runs keylessd under cProfile and, at its end, says where its time went. For people only.

    python tests/bench/rate.py --only saturated --profiled where.txt

starts the daemon through this. The product knows nothing of it. Verification is done on the event
loop, where the profiler sees it; so the shares are right and the rate is not.
"""

from __future__ import annotations

import cProfile
import io
import pstats
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

SHOWN = 70  # functions


def main() -> int:
    """Run the daemon with the arguments after the first, which names the file to write."""
    from keylessd.__main__ import main as run
    from keylessd.flow.threads import Threads, run_inline

    in_threads = Threads.run

    async def inline(
        self: Threads, kind: str, fn: Callable[..., object], *args: object, **how: bool
    ) -> object:
        run_here = run_inline if kind == "verify" else partial(in_threads, self, kind)
        return await run_here(fn, *args, **how)

    path = Path(sys.argv[1])
    sys.argv = ["keylessd", *sys.argv[2:]]
    Threads.run = inline  # type: ignore[method-assign,assignment]
    # Its own processor time: on a busy machine any other clock tells of others.
    profile = cProfile.Profile(time.thread_time)
    try:
        return profile.runcall(run)
    finally:
        report = io.StringIO()
        found = pstats.Stats(profile, stream=report)
        found.sort_stats("tottime").print_stats(SHOWN)
        found.sort_stats("cumtime").print_stats(SHOWN * 3)
        path.write_text(report.getvalue())


if __name__ == "__main__":
    sys.exit(main())

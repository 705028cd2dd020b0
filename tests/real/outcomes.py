"""What a failed `keyless` command said, and what was counted in the logs meanwhile."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.real.stack import Stack

LOGS = ("rekor1", "rekor2-a", "rekor2-b")
# A log publishes a checkpoint every second; what is not in the next one is not there.
CHECKPOINT_SECONDS = 1.4
PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of a command that was asked for JSON."""

    status: int
    code: str
    message: str
    hint: str


def failure_of(done: subprocess.CompletedProcess[str]) -> Failure:
    """Return what went wrong; fails the test if nothing did."""
    assert done.returncode != 0, f"it succeeded: {done.stdout}"
    found = json.loads(done.stdout.splitlines()[0])
    assert found["ok"] is False
    error = found["error"]
    return Failure(done.returncode, error["code"], error["message"], error.get("hint") or "")


@dataclass
class Counted:
    """How many records were added while one looked.

    Attributes:
        certificates: In the CT log.
        entries: Log -> entries.
    """

    certificates: int = 0
    entries: dict[str, int] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and self.entries == {**dict.fromkeys(LOGS, 0), **other}

    __hash__ = None  # type: ignore[assignment]


@contextmanager
def counted(stack: Stack) -> Iterator[Counted]:
    """Yield a count that is filled in when the block ends; equals a dict of the entries."""
    found = Counted()
    certificates, entries = _settled(stack)
    yield found
    later_certificates, later = _settled(stack)
    found.certificates = later_certificates - certificates
    found.entries = {name: later[name] - entries[name] for name in LOGS}


def _settled(stack: Stack) -> tuple[int, dict[str, int]]:
    """Return the sizes of the logs once they do not grow any more."""
    end = time.monotonic() + PATIENCE
    last = None
    while True:
        now = stack.certificates(), {name: stack.entries(name) for name in LOGS}
        if now == last:
            return now
        assert time.monotonic() < end, "the logs grow on and on"
        last = now
        time.sleep(CHECKPOINT_SECONDS)

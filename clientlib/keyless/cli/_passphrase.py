"""Reads what must not be seen: from a terminal without echo, else a line of standard input."""

import sys

from keyless.cli._cores import leave_no_core
from keyless.errors import KeylessError

MAX_LINE = 16_384  # characters


def read_secret(prompt: str, *, what: str) -> str:
    """Return one line without its end.

    Args:
        prompt: Shown on a terminal, on standard error.
        what: What it is, for errors.

    Raises:
        KeylessError: ``usage``: there is none, it cannot be read, or it is too long.
    """
    leave_no_core()
    try:
        if sys.stdin.isatty():
            import getpass

            line = getpass.getpass(prompt, sys.stderr)
        else:
            line = sys.stdin.readline(MAX_LINE + 1)
    except OSError as exc:
        reason = exc.strerror or "unreadable"
        raise KeylessError("usage", f"{what} cannot be read: {reason}") from exc
    line = line.rstrip("\r\n")
    if not line:
        raise KeylessError("usage", f"{what} is empty")
    if len(line) > MAX_LINE:
        raise KeylessError("usage", f"{what} is too long")
    return line

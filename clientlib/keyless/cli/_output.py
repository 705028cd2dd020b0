"""What the command prints and how it ends: escaped text, JSON lines, exit codes, progress.

Results go to standard output, everything else to standard error, so that a script can read the
one while a person watches the other.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from keyless.errors import KeylessError

# Exit codes, stable, documented in the README and the man page.
OK = 0
FAILED = 1  # a verification said no
USAGE = 2  # the command line or an input cannot be used
NO_DAEMON = 3  # no daemon listens, or it broke off
NO_IDENTITY = 4  # nobody is logged in, or the token cannot be used
TRY_LATER = 5  # a service or the daemon cannot now; the same command may work later
FILE_ERROR = 6  # a file could not be read or written
REFUSED = 7  # a service or the daemon's policy refused for good
INTERNAL = 70  # a fault of our own
INTERRUPTED = 130  # Ctrl-C

_EXIT = {
    "verification_failed": FAILED,
    "usage": USAGE,
    "invalid_input": USAGE,
    "unknown_instance": USAGE,
    "bad_request": USAGE,
    "unknown_operation": USAGE,
    "too_large": USAGE,
    "need_digest": USAGE,
    "idempotency_conflict": USAGE,
    "daemon_unreachable": NO_DAEMON,
    "daemon_failed": NO_DAEMON,
    "unsupported_version": NO_DAEMON,
    "bad_frame": NO_DAEMON,
    "login_required": NO_IDENTITY,
    "token_malformed": NO_IDENTITY,
    "token_expired": NO_IDENTITY,
    "token_audience": NO_IDENTITY,
    "token_unverified_email": NO_IDENTITY,
    "token_rejected": NO_IDENTITY,
    "login_failed": NO_IDENTITY,
    "login_denied": NO_IDENTITY,
    "locked": NO_IDENTITY,
    "file_error": FILE_ERROR,
    "internal": INTERNAL,
    "cancelled": INTERRUPTED,
}

# What is wrong with the daemon or the instance is wrong for every file; saying it once is enough.
WRONG_FOR_ALL = (
    "unknown_instance",
    "trust_invalid",
    "trust_expired",
    "trust_unavailable",
    "not_allowed",
    "daemon_unreachable",
)


def exit_code(error: "KeylessError") -> int:
    """Return the exit code that stands for *error*."""
    code = _EXIT.get(error.code)
    if code is not None:
        return code
    if error.retryable:
        return TRY_LATER
    return NO_IDENTITY if error.code == "identity_unavailable" else REFUSED


def shown(text: str) -> str:
    """Return *text* with every character that could move a terminal's cursor escaped.

    Covers C0, DEL, C1, line and paragraph separators, bidirectional controls and lone
    surrogates: names of files and identities come from outside.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def out(line: str) -> None:
    """Print one line of results."""
    sys.stdout.write(line + "\n")


def err(line: str) -> None:
    """Print one line for people; where that is not possible, what else is done goes on."""
    try:
        sys.stderr.write(line + "\n")
    except BrokenPipeError:
        raise  # whoever reads has gone; main() knows it
    except OSError:
        pass


def json_line(value: "dict[str, Any]") -> None:
    """Print one JSON object as one line of results."""
    out(_json_text(value))


def _json_text(value: "Any") -> str:  # noqa: ANN401  # whatever JSON has
    """Return *value* as json.dumps has it, ASCII only, without what importing `json` costs.

    That brings in `re` and `enum`, as much as all of a `keyless sign`; the part of it written in
    C is a module of its own.
    """
    if isinstance(value, str):
        try:
            from _json import encode_basestring_ascii as quoted
        except ImportError:  # an interpreter without the C part
            from json.encoder import encode_basestring_ascii as quoted
        return quoted(value)
    if isinstance(value, dict):
        members = [f"{_json_text(str(name))}: {_json_text(item)}" for name, item in value.items()]
        return "{" + ", ".join(members) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join([_json_text(item) for item in value]) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value)
    import json  # a number of the ledger that is no integer

    return json.dumps(value)


def error_value(error: "KeylessError") -> "dict[str, object]":
    """Return *error* as the JSON object that ``--json`` prints."""
    value: dict[str, object] = {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
    }
    if error.retry_after_ms is not None:
        value["retry_after_ms"] = error.retry_after_ms
    if error.hint is not None:
        value["hint"] = error.hint
    if error.details:
        value["details"] = error.details
    if error.report:
        value["report"] = error.report
    return value


def fail(error: "KeylessError", *, as_json: bool) -> int:
    """Report what ended a command, for a person and, *as_json*, for a program too.

    Returns:
        The exit code.
    """
    if as_json:
        json_line({"ok": False, "error": error_value(error)})
    complain(error)
    return exit_code(error)


def complain(error: "KeylessError", *, about: str = "") -> None:
    """Print *error* for a person: what happened, and what to do next."""
    subject = f"{shown(about)}: " if about else ""
    err(f"keyless: {subject}{shown(error.message)}")
    check = error.details.get("check")
    if check is not None:
        err(f"  check: {shown(str(check))}")
    for name in ("wanted", "found"):
        fact = error.details.get(name)
        if fact is not None:
            err(f"  {name + ':':8}{shown(str(fact))}")
    signer = error.details.get("identity")
    if signer is not None:
        issuer = error.details.get("issuer", "")
        err(f"  signed by: {shown(str(signer))} ({shown(str(issuer))})")
    if error.hint is not None:
        err(f"  {shown(error.hint)}")
    elif error.retry_after_ms is not None:
        err(f"  try again in {max(1, round(error.retry_after_ms / 1000))} s")


class Progress:
    """A line that is rewritten on a terminal while many files are worked on; else silent."""

    __slots__ = ("_done", "_live", "_total", "_what")

    def __init__(self, what: str, total: int, *, quiet: bool) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._live = total > 1 and not quiet and sys.stderr.isatty()
        self._draw()

    def step(self) -> None:
        """Count one more as done."""
        self._done += 1
        self._draw()

    def note(self, text: str) -> None:
        """Show *text* beside the count until the next step."""
        self._draw(f": {shown(text)}")

    def close(self) -> None:
        """Remove the line."""
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _draw(self, beside: str = "") -> None:
        if self._live:
            sys.stderr.write(f"\r\x1b[K{self._what} {self._done}/{self._total}{beside}")
            sys.stderr.flush()

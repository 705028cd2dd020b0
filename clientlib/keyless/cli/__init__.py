"""The command `keyless`: finds the sub-command, runs it, turns its end into an exit code.

Each sub-command is a module of its own, imported when it is called for and not before.
"""

import os
import sys

from keyless._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# Whoever read our output has gone: what a shell reports of a process that SIGPIPE ended.
GONE = 141

# Name -> module, one line for the overview.
_COMMANDS = {
    "sign": ("_sign", "sign files or digests"),
    "attest": ("_attest", "sign an in-toto statement about files"),
    "verify": ("_verify", "verify files or digests against their bundles"),
    "inspect": ("_inspect", "show what is in a bundle, without verifying it"),
    "login": ("_login", "log in, once for everything that follows"),
    "logout": ("_login", "end a session"),
    "lock": ("_lock", "let the daemon sign nothing until it is unlocked"),
    "unlock": ("_lock", "let the daemon sign again"),
    "status": ("_status", "show the daemon: identities, keys, trust, load"),
    "whoami": ("_status", "show who a signature would be made as"),
    "ledger": ("_ledger", "show what this daemon signed"),
    "trust": ("_trust", "show or refresh the trust roots in force"),
    "instance": ("_trust", "list the Sigstore instances the daemon knows"),
    "sandbox": ("_sandbox", "run a whole local Sigstore for trials and tests"),
    "demo": ("_demo", "see it all work on this machine, without an account"),
}


def program() -> "NoReturn":
    """Run the command line of this process, and end the process.

    The end is os._exit: by then the output is written and the connection closed, and taking an
    interpreter apart module by module costs 2 ms, as much as everything a command does.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if stream is None:
            _fill_standard_streams()
            break
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows ASCII only is shown \xfc rather than a traceback.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = main()
    except Exception:  # noqa: BLE001  # 1 would mean that a verification said no
        from keyless.cli._output import INTERNAL

        sys.excepthook(*sys.exc_info())
        code = INTERNAL
    os._exit(_flushed(code))


def main(argv: "list[str] | None" = None) -> int:
    """Run one command line and return its exit code (0 to 255).

    Args:
        argv: The words after the program's name; those of the process if None.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        return _answer(words)
    except BrokenPipeError:
        return GONE
    except OSError as exc:
        # Standard output, as a rule: what else is read or written says so in its own words.
        from keyless.cli._output import FILE_ERROR, err, shown

        reason = exc.strerror or type(exc).__name__
        err(f"keyless: {reason}" + (f": {shown(str(exc.filename))}" if exc.filename else ""))
        return FILE_ERROR
    except KeyboardInterrupt:
        from keyless.cli._output import INTERRUPTED

        sys.stderr.write("\nkeyless: interrupted\n")
        return INTERRUPTED


def _answer(words: "list[str]") -> int:
    """Answer what needs no module of a command; run the command otherwise."""
    if words[:1] in (["--version"], ["-V"], ["version"]):
        sys.stdout.write(f"keyless {__version__}\n")
        return 0
    if words[:1] in (["--help"], ["-h"], ["help"]):
        if len(words) == 1:
            sys.stdout.write(_overview())
            return 0
        words = [words[1], "--help"]
    if not words:
        sys.stderr.write(_overview())
        return 2
    return _run(words)


def _run(words: "list[str]") -> int:
    from keyless.cli._options import UsageError
    from keyless.cli._output import USAGE, fail, shown
    from keyless.errors import KeylessError

    command = words[0]
    if command not in _COMMANDS:
        import difflib

        near = difflib.get_close_matches(command, _COMMANDS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        sys.stderr.write(f"keyless: there is no command {shown(command)}{hint}\n")
        sys.stderr.write("  `keyless --help` lists them\n")
        return USAGE
    name = f"keyless.cli.{_COMMANDS[command][0]}"
    # Not importlib: it brings in `warnings`, half a millisecond.
    module = __import__(name, fromlist=("run",))
    try:
        code: int = module.run(command, words[1:])
    except UsageError as exc:
        hint = f"`keyless {command} --help` shows what it takes"
        error = KeylessError("usage", str(exc), hint=hint)
        return fail(error, as_json=_wants_json(words))
    except KeylessError as exc:
        return fail(exc, as_json=_wants_json(words))
    return code


def _wants_json(words: "list[str]") -> bool:
    # Of a line that perhaps could not be parsed, so by its words; after "--" come files.
    end = words.index("--") if "--" in words else len(words)
    return "--json" in words[:end]


def _flushed(code: int) -> int:
    """Write what is still buffered; return the exit code, which is another if that fails."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return GONE
    except OSError as exc:
        from keyless.cli._output import FILE_ERROR, err

        err(f"keyless: cannot write the results: {exc.strerror or 'not writable'}")
        code = code or FILE_ERROR
    try:
        sys.stderr.flush()
    except BrokenPipeError:
        return GONE
    except OSError:
        pass  # what cannot be told changes nothing of what was done
    return code


def _fill_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed, lest a socket or a file take its number.

    From a closed input nothing can be read all the same: what is not there is not empty.
    """
    flags = os.O_RDWR if sys.stdin else os.O_WRONLY  # the lowest number that is free comes first
    while (fd := os.open(os.devnull, flags)) <= 2:  # noqa: PLR2004  # standard error
        os.set_inheritable(fd, True)
        flags = os.O_RDWR
    os.close(fd)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _overview() -> str:
    lines = ["usage: keyless COMMAND [options]", "", "An ssh-agent for Sigstore.", "", "commands:"]
    lines += [f"  {name:10}{summary}" for name, (_, summary) in _COMMANDS.items()]
    lines += ["", "`keyless COMMAND --help` shows what a command takes.", ""]
    return "\n".join(lines)

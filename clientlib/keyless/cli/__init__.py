"""The command `keyless`: finds the sub-command, runs it, turns its end into an exit code.

Each sub-command is a module of its own, imported when it is called for and not before.
"""

import sys

from keyless._version import __version__

# Name -> module, one line for the overview.
_COMMANDS = {
    "sign": ("_sign", "sign files or digests"),
    "attest": ("_attest", "sign an in-toto statement about files"),
    "verify": ("_verify", "verify files or digests against their bundles"),
    "status": ("_status", "show the daemon: identities, keys, trust, load"),
    "whoami": ("_status", "show who a signature would be made as"),
    "ledger": ("_status", "show what this daemon signed"),
    "trust": ("_trust", "show or refresh the trust roots in force"),
    "instance": ("_trust", "list the Sigstore instances the daemon knows"),
    "sandbox": ("_sandbox", "run a whole local Sigstore for trials and tests"),
    "demo": ("_demo", "see it all work on this machine, without an account"),
}


def main(argv: "list[str] | None" = None) -> int:
    """Run one command line and return its exit code (0 to 255).

    Args:
        argv: The words after the program's name; those of the process if None.
    """
    words = sys.argv[1:] if argv is None else argv
    if words[:1] in (["--version"], ["-V"], ["version"]):
        sys.stdout.write(f"keyless {__version__}\n")
        return 0
    if words[:1] in (["--help"], ["-h"], ["help"]):
        if len(words) == 1 or words[1] not in _COMMANDS:
            sys.stdout.write(_overview())
            return 0
        words = [words[1], "--help"]
    if not words:
        sys.stderr.write(_overview())
        return 2
    try:
        return _run(words)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        sys.stderr.close()
        return 141
    except KeyboardInterrupt:
        sys.stderr.write("\nkeyless: interrupted\n")
        return 130


def _run(words: "list[str]") -> int:
    from importlib import import_module

    from keyless.cli._options import UsageError
    from keyless.cli._output import USAGE, complain, error_value, exit_code, json_line, shown
    from keyless.errors import KeylessError

    command = words[0]
    if command not in _COMMANDS:
        import difflib

        near = difflib.get_close_matches(command, _COMMANDS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        sys.stderr.write(f"keyless: there is no command {shown(command)}{hint}\n")
        sys.stderr.write("  `keyless --help` lists them\n")
        return USAGE
    module = import_module(f"keyless.cli.{_COMMANDS[command][0]}")
    try:
        code: int = module.run(command, words[1:])
    except UsageError as exc:
        sys.stderr.write(f"keyless {command}: {shown(str(exc))}\n")
        sys.stderr.write(f"  `keyless {command} --help` shows what it takes\n")
        return USAGE
    except KeylessError as exc:
        if "--json" in words:
            json_line({"ok": False, "error": error_value(exc)})
        complain(exc)
        return exit_code(exc)
    return code


def _overview() -> str:
    lines = ["usage: keyless COMMAND [options]", "", "An ssh-agent for Sigstore.", "", "commands:"]
    lines += [f"  {name:10}{summary}" for name, (_, summary) in _COMMANDS.items()]
    lines += ["", "`keyless COMMAND --help` shows what a command takes.", ""]
    return "\n".join(lines)

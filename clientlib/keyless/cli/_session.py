"""What every command that talks to the daemon does first: options, help text, a client."""

import os
import sys

from keyless._client import Client
from keyless.cli._options import Option, Options, parse, usage_text
from keyless.cli._output import err, shown

COMMON = (
    Option("--json", "", "print one JSON object per result"),
    Option("--quiet -q", "", "print nothing but errors"),
    Option("--socket", "PATH", "the daemon's socket"),
    Option("--help -h", "", "show this text"),
)


def read_options(
    command: str,
    argv: "list[str]",
    arguments: str,
    about: str,
    groups: "tuple[tuple[str, tuple[Option, ...]], ...]",
) -> "Options | None":
    """Return the options, or None after printing the help text that was asked for.

    Raises:
        UsageError: see keyless.cli._options.parse.
    """
    groups = (*groups, ("common", COMMON))
    options = parse(argv, tuple(option for _, group in groups for option in group))
    if options.flag("help"):
        sys.stdout.write(usage_text(f"keyless {command}", arguments, about, groups))
        return None
    return options


def client_of(options: Options) -> Client:
    """Return the client that the options and the environment ask for; it connects when used."""
    quiet = options.flag("quiet")
    return Client(
        socket_path=options.text("socket"),
        environ=os.environ,
        notice=None if quiet else _say,
    )


def _say(text: str) -> None:
    err(f"keyless: {shown(text)}")

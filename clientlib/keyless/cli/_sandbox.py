"""`keyless sandbox`: hands over to the local Sigstore, which is the daemon's package."""

import os
import sys

from keyless.cli._options import Option, UsageError, usage_text

ABOUT = """
Run a whole local Sigstore on this machine: issuer, certificate authority, transparency logs,
timestamp authority and TUF repository, on loopback ports. It needs no account and no internet.
Its signatures prove nothing to anybody else.

  up      start it and keep it running until Ctrl-C
  env     print the shell lines that make this shell use it: eval "$(keyless sandbox env)"
  token   print an identity token of its issuer
  status  say whether it runs, where, and what it issued so far
  down    stop it

Each takes --help of its own.
"""

VERBS = ("up", "env", "token", "status", "down")


def run(_command: str, argv: "list[str]") -> int:
    """Replace this process by the sandbox's own command."""
    if not argv or argv[0] in ("--help", "-h"):
        options = (("options", (Option("--help -h", "", "show this text"),)),)
        text = usage_text("keyless sandbox", "|".join(VERBS), ABOUT, options)
        (sys.stdout if argv else sys.stderr).write(text)
        return 0 if argv else 2
    if argv[0] not in VERBS:
        raise UsageError(f"there is no `sandbox {argv[0]}`; there is {', '.join(VERBS)}")
    # -P keeps the working directory, which is anybody's, out of the import path.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "keylessd.sandbox", *argv])  # noqa: S606
    return 0

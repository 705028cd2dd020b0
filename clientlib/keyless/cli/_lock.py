"""`keyless lock` and `keyless unlock`: refuse to sign for a while."""

import sys

from keyless.cli._options import UsageError
from keyless.cli._output import OK, out
from keyless.cli._passphrase import read_secret
from keyless.cli._session import client_of, read_options
from keyless.errors import KeylessError

_ABOUT = {
    "lock": """
Let the daemon sign nothing until `keyless unlock` brings the same passphrase. It is read from the
terminal, or from a line of standard input.
""",
    "unlock": """
Let the daemon sign again. The passphrase is the one that locked it.
""",
}


def run(command: str, argv: "list[str]") -> int:
    """Lock or unlock; return the exit code."""
    options = read_options(command, argv, "", _ABOUT[command], ())
    if options is None:
        return OK
    if options.words:
        raise UsageError(f"unexpected argument {options.words[0]}; the passphrase is asked for")
    passphrase = read_secret("Passphrase: ", what="the passphrase")
    is_typed = command == "lock" and sys.stdin.isatty()
    if is_typed and read_secret("Once more: ", what="the passphrase") != passphrase:
        raise KeylessError("usage", "the two passphrases differ")
    with client_of(options) as client:
        if command == "lock":
            client.lock(passphrase)
        else:
            client.unlock(passphrase)
    if not options.flag("quiet") and not options.flag("json"):
        out("locked" if command == "lock" else "unlocked")
    return OK

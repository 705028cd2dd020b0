"""`keyless trust` and `keyless instance`: the Sigstore instances and their trust roots."""

import time

from keyless.cli._options import UsageError
from keyless.cli._output import OK, TRY_LATER, json_line, out, shown
from keyless.cli._session import client_of, read_options
from keyless.cli._status import instance_line
from keyless.cli._text import moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyless.states import InstanceState

_USAGE = {
    "trust": (
        "status|refresh [INSTANCE]",
        """Show the trust roots in force, or refresh one from its TUF repository now: that of
INSTANCE, else of KEYLESS_INSTANCE, else of the daemon's default.""",
    ),
    "instance": (
        "list | show NAME",
        """List the Sigstore instances the daemon knows: public, staging, sandbox, and those of its
configuration file.""",
    ),
}
_VERBS = {"trust": ("status", "refresh"), "instance": ("list", "show")}


def run(command: str, argv: "list[str]") -> int:
    """Ask the daemon and print its answer; return the exit code."""
    arguments, about = _USAGE[command]
    options = read_options(command, argv, arguments, about, ())
    if options is None:
        return OK
    verb, name = _words(command, options.words)
    with client_of(options) as client:
        refresh = verb == "refresh"
        states = client.trust_refresh(name) if refresh else client.trust_status(name)
    now = int(time.time())
    for state in states:
        if options.flag("json"):
            json_line(state.as_dict())
        elif verb == "show":
            for line in _details(state):
                out(shown(line))
        elif not options.flag("quiet"):
            out(shown(instance_line(state, now)))
    return TRY_LATER if refresh and any(state.error is not None for state in states) else OK


def _words(command: str, words: "list[str]") -> "tuple[str, str | None]":
    verbs = _VERBS[command]
    if not words:
        words = [verbs[0]]
    if words[0] not in verbs:
        raise UsageError(f"there is no `{command} {words[0]}`; there is {' and '.join(verbs)}")
    if words[0] == "show" and len(words) == 1:
        raise UsageError("name the instance to show")
    if len(words) > (1 if words[0] == "list" else 2):
        raise UsageError(f"unexpected argument {words[-1]}")
    return words[0], words[1] if len(words) > 1 else None


def _details(state: "InstanceState") -> "list[str]":
    facts = state.as_dict()
    for name in ("fetched", "expires"):
        if name in facts:
            facts[name] = moment(facts[name])
    return [f"{name + ':':10}{value}" for name, value in facts.items()]

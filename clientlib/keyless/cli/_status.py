"""`keyless status` and `keyless whoami`: what the daemon is, and as whom it would sign."""

import os
import time

from keyless.cli._options import Option, Options, UsageError
from keyless.cli._output import NO_IDENTITY, OK, err, json_line, out, shown
from keyless.cli._session import client_of, read_options
from keyless.cli._text import moment, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyless.states import Identity, InstanceState, Status

_ABOUT = {
    "status": "Show the daemon: its instances, the keys it holds, what it was asked for.",
    "whoami": "Show as whom a signature would be made now, and by which identity provider.",
}


def run(command: str, argv: "list[str]") -> int:
    """Ask the daemon and print its answer; return the exit code."""
    groups: tuple[tuple[str, tuple[Option, ...]], ...] = ()
    if command == "whoami":
        from keyless.cli._inputs import IDENTITY, WHERE

        groups = (("identity", IDENTITY), ("where", WHERE))
    options = read_options(command, argv, "", _ABOUT[command], groups)
    if options is None:
        return OK
    if options.words:
        raise UsageError(f"unexpected argument {options.words[0]}")
    return _whoami(options) if command == "whoami" else _status(options)


def _status(options: Options) -> int:
    with client_of(options) as client:
        status = client.status()
    if options.flag("json"):
        json_line(status.as_dict())
        return OK
    for line in _status_lines(status, int(time.time())):
        out(shown(line))
    return OK


def _status_lines(status: "Status", now: int) -> "list[str]":
    lines = [
        f"keylessd {status.version}, process {status.pid}, up {span(status.uptime_seconds)}",
        f"  socket       {status.socket}",
        f"  instance     {status.default_instance} (default); certificates: {status.reuse}",
    ]
    if status.locked:
        lines.append("  LOCKED       nothing is signed until `keyless unlock`")
    lines += [f"  identity     {identity_line(one, now)}" for one in status.sessions or ()]
    if status.sessions == []:
        lines.append("  identity     nobody is logged in; `keyless login` does it")
    lines += [f"  trust        {instance_line(state, now)}" for state in status.instances]
    for slot in status.slots:
        left = span(max(0, slot.not_after - now))
        signatures = "1 signature" if slot.signatures == 1 else f"{slot.signatures} signatures"
        lines.append(
            f"  key          {slot.identity} ({slot.issuer}) at {slot.instance}:"
            f" {signatures}, {left} left"
        )
    if not status.slots:
        lines.append("  key          none held")
    if status.ledger_failures:
        lines.append(f"  LEDGER       records that could not be written: {status.ledger_failures}")
    asked = [
        f"{op} {counts.get('ok', 0)} ok, {counts.get('failed', 0)} failed"
        for op, counts in sorted(status.requests.items())
    ]
    lines.append(f"  requests     {'; '.join(asked) or 'none yet'}")
    return lines


def identity_line(one: "Identity", now: int) -> str:
    """Return one line about an identity and what becomes of it."""
    # Whom a held identity names is known from its first token on.
    who = f"{one.identity} ({one.issuer})" if one.identity else "nobody known yet"
    line = f"{who}, from {one.source}" + (f" {one.name}" if one.name else "")
    if one.instance:
        line += f" for {one.instance}"
    parts = [line]
    if one.default:
        parts.append("the default")
    if one.state is not None:
        parts.append(one.state.replace("_", " "))
    if one.reason is not None:
        parts.append(one.reason)
    elif one.state is not None and one.renewable is False and one.prompt_due is not None:
        parts.append(f"a login is due {_due(one.prompt_due, now)}: the issuer lets nobody renew it")
    elif one.renewable and one.ends is not None:
        parts.append(f"renewed by itself; a login is due {_due(one.ends, now)}")
    elif one.expires is not None:
        parts.append(f"until {moment(one.expires)}")
    if one.last_used is not None:
        parts.append(f"last used {span(max(0, now - one.last_used))} ago")
    return ", ".join(parts)


def _due(when: int, now: int) -> str:
    return f"at {moment(when)}, in {span(when - now)}" if when > now else "now"


def instance_line(state: "InstanceState", now: int) -> str:
    """Return one line about an instance and its trust root."""
    parts = [f"{state.name}: {state.state}"]
    if state.version is not None:
        parts.append(f"version {state.version[:24]}")
    if state.fetched is not None:
        parts.append(f"fetched {span(max(0, now - state.fetched))} ago")
    if state.expires is not None:
        parts.append(f"good until {moment(state.expires)}")
    if state.error is not None:
        parts.append(f"last error: {state.error}")
    return ", ".join(parts)


def _whoami(options: Options) -> int:
    from keyless.cli._inputs import where_of, whose_of

    whose = whose_of(options, os.environ)
    with client_of(options) as client:
        found = client.whoami(where=where_of(options, os.environ), **whose.arguments())
    now = int(time.time())
    for identity in found:
        if identity.source == "request" and whose.source is not None:
            identity.source = whose.source  # what the daemon cannot know
        if options.flag("json"):
            json_line(identity.as_dict())
        else:
            out(shown(identity_line(identity, now)))
    if not any(identity.state != "login_required" for identity in found):
        err("keyless: nobody: run `keyless login`, or give a token with --identity-token")
        return NO_IDENTITY
    return OK

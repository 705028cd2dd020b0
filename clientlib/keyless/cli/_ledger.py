"""`keyless ledger`: what this daemon signed, one line for each attempt and what became of it."""

from keyless.cli._options import Option, UsageError
from keyless.cli._output import OK, json_line, out, shown
from keyless.cli._session import client_of, read_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Record = dict[str, Any]

ABOUT = """
Show the newest signatures that this daemon made or attempted. With --json every record is shown
as it stands in the ledger: one of the attempt and one of its outcome.
"""

OPTIONS = (Option("--limit -n", "N", "how many records, two for each signature (40)"),)

_MAX_RECORDS = 1000
_RECORDS = 40
_SHOWN_DIGEST = 16  # characters, enough to find an artifact by


def run(command: str, argv: "list[str]") -> int:
    """Ask the daemon and print its records; return the exit code."""
    options = read_options(command, argv, "", ABOUT, (("ledger", OPTIONS),))
    if options is None:
        return OK
    if options.words:
        raise UsageError(f"unexpected argument {options.words[0]}")
    limit = _limit(options.text("limit"))
    with client_of(options) as client:
        records = client.ledger(limit)
    if options.flag("json"):
        for record in records:
            json_line(record)
    else:
        for attempt, outcome in _pairs(records):
            out(shown(_line(attempt, outcome)))
    return OK


def _limit(text: "str | None") -> int:
    if text is None:
        return _RECORDS
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= _MAX_RECORDS:
        raise UsageError(f"--limit takes a number from 1 to {_MAX_RECORDS}, not {text}")
    return int(text)


def _pairs(records: "list[Record]") -> "list[tuple[Record | None, Record | None]]":
    """Return attempts with their outcomes, in the order they began.

    The outcome is missing of one that still runs or whose daemon died; the attempt is missing
    where only so many records were asked for.
    """
    pairs: dict[object, list[Record | None]] = {}
    for record in records:
        # One that is torn has no id, and is nobody's pair.
        pair = pairs.setdefault(record.get("id", id(record)), [None, None])
        pair[record.get("event") == "outcome"] = record
    return [(attempt, outcome) for attempt, outcome in pairs.values()]


def _line(attempt: "Record | None", outcome: "Record | None") -> str:
    known = attempt or outcome or {}
    if known.get("event") == "torn":
        return f"a record that a crash has torn: {known.get('text')}"
    when = str(known.get("time", ""))[:19].replace("T", " ")
    words = [f"{when}Z"]
    if attempt is not None:
        artifact = attempt.get("artifact", {})
        words.append(str(attempt.get("op")))
        if "digest" in artifact:
            words.append(f"{artifact.get('alg')}:{artifact['digest'][:_SHOWN_DIGEST]}")
        if "name" in artifact:
            words.append(f"({artifact['name']})")
        words.append(f"at {attempt.get('instance')}")
    else:
        words.append(f"attempt {known.get('id')}")
    return " ".join(words) + ": " + _end(outcome, known.get("source"))


def _end(outcome: "Record | None", source: object) -> str:
    if outcome is None:
        return "no outcome yet"
    result = str(outcome.get("result"))
    if "code" in outcome:
        result += f" ({outcome['code']})"
    identity = outcome.get("certificate", {}).get("identity")
    if identity is not None:
        result += f" as {identity}"
        # Older records do not say whose it was.
        result += "" if source is None else f" ({source})"
    logged = [f"#{entry.get('log_index')}" for entry in outcome.get("entries", [])]
    return ", ".join([result, *logged])

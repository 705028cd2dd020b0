"""Questions about the daemon itself, and what their replies become. Pure; see `_calls`."""

from keyless._calls import Call
from keyless.states import Identity, InstanceState, Slot, Status
from keyless.wire import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from keyless.wire import Reply


def status() -> Call:
    """Ask how the daemon is. The value is a Status."""
    return Call("status", {}, read=_read_status)


def trust(op: str, instance: "str | None") -> Call:
    """``trust_status`` or ``trust_refresh``. The value is a list of InstanceState."""
    return Call(
        op,
        {"instance": instance} if instance is not None else {},
        read=lambda reply: [InstanceState(**row) for row in reply.body["instances"]],
    )


def ledger(limit: "int | None") -> Call:
    """Ask for the newest records of the ledger. The value is a list of objects."""
    return Call(
        "ledger",
        {"limit": limit} if limit is not None else {},
        read=lambda reply: [_record(line) for line in reply.attachments["records"].splitlines()],
    )


def _record(line: bytes) -> "dict[str, Any]":
    """Read one record; one that a crash of the machine has torn is evidence all the same."""
    import json  # noqa: PLC0415  # the one operation that needs it

    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if isinstance(record, dict):
        return record
    return {"event": "torn", "text": printable(line.decode("utf-8", "replace"))}


def reload() -> Call:
    """Make the daemon read its settings again. The value is None."""
    return Call("reload", {}, read=lambda _: None)


def _read_status(reply: "Reply") -> Status:
    facts = dict(reply.body)
    facts["instances"] = [InstanceState(**row) for row in reply.body["instances"]]
    facts["slots"] = [Slot(**row) for row in reply.body["slots"]]
    if "sessions" in reply.body:
        facts["sessions"] = [Identity(**row) for row in reply.body["sessions"]]
    return Status(**facts)

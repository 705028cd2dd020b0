"""A fuzz target: whatever the bytes, next_event() raises RemoteProtocolError and nothing else.

`one_input(data)` takes any bytes; the test suite drives it with Hypothesis. By hand:

    python tests/wire/fuzz_target.py FILE...     replays inputs
    python tests/wire/fuzz_target.py             fuzzes with atheris, where that is installed
"""

from __future__ import annotations

import sys
from pathlib import Path

from keyless.wire import (
    CLIENT,
    NEED_DATA,
    SERVER,
    BadRequest,
    Cancel,
    Connection,
    ConnectionClosed,
    Event,
    Failure,
    Hello,
    RemoteProtocolError,
    Reply,
    Request,
    Welcome,
    WireError,
    _codec,
    _msgpack,
)
from keyless.wire._limits import MAX_ATTACHMENT_BYTES, MAX_HEAD

Outcome = list[str]


def run(role: str, codec: object, data: bytes, *, step: int) -> Outcome:
    """Return what one end makes of *data*, in pieces of *step* bytes, and then the end."""
    connection = Connection(role, codec=codec)
    if role == CLIENT:
        for message in (Hello(), Request(1, "reload", {}), Request(2, "ledger", {})):
            connection.send(message)
    outcome: Outcome = []
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    for piece in [*pieces, b""]:
        connection.receive_data(piece)
        try:
            while (event := connection.next_event()) is not NEED_DATA:
                outcome.append(repr(event))
                if isinstance(event, ConnectionClosed):
                    return outcome
                _react(connection, event)
        except RemoteProtocolError as error:
            outcome.append(f"{error.code}")
            if role == SERVER:
                connection.send(Failure(None, WireError(error.code, error.message)))
            return outcome
        assert connection.buffered <= MAX_ATTACHMENT_BYTES + MAX_HEAD + len(piece) + 4
    raise AssertionError("the end of the stream was not reported")


def _react(connection: Connection, event: object) -> None:
    """Answer as a server would, so that later states are reached."""
    if isinstance(event, Hello):
        connection.send(Welcome(limits=connection.limits))
    elif isinstance(event, BadRequest):
        connection.send(Failure(event.id, event.error))
    elif isinstance(event, Cancel):
        connection.send(Failure(event.id, WireError("cancelled", "cancelled")))
    elif isinstance(event, Request) and event.op == "reload":
        connection.send(Event(event.id, "progress", {"step": "x"}))
        connection.send(Reply(event.id, {}))


def one_input(data: bytes) -> None:
    """Run *data* through both roles, both codecs and two splits; all must agree."""
    for role in (SERVER, CLIENT):
        outcomes = [
            run(role, codec, data, step=step)
            for codec in (_codec, _msgpack)
            for step in (max(1, len(data)), 3)
        ]
        assert all(outcome == outcomes[0] for outcome in outcomes)


def main() -> None:
    """Replay the named files, or fuzz."""
    if names := [name for name in sys.argv[1:] if not name.startswith("-")]:
        for name in names:
            one_input(Path(name).read_bytes())
        return
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Log lines: form, escaping, redaction, context."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from keylessd import log
from keylessd.log import EventLog, bind, configure, redact

JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in log._QUIET}
    stream = io.StringIO()
    configure("info", stream=stream, human=False)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object(stream: io.StringIO) -> None:
    EventLog("part").info("sign.done", uid=7, reused=True, name="a b", digest=b"\x01\xff")
    (line,) = lines(stream)

    assert line.pop("ts").endswith("+00:00")  # type: ignore[union-attr]
    assert line == {
        "level": "info",
        "logger": "part",
        "event": "sign.done",
        "uid": 7,
        "reused": True,
        "name": "a b",
        "digest": "01ff",
    }


def test_levels(stream: io.StringIO) -> None:
    events = EventLog("part")
    events.debug("a.b")
    events.warning("c.d")
    configure("error", stream=stream, human=False)
    events.warning("e.f")

    assert [line["event"] for line in lines(stream)] == ["c.d"]


HOSTILE = 'x\n{"event":"sign.done"}\r\x1b[2J\u202e\u2028\x00"'


@pytest.mark.parametrize("human", [False, True])
def test_hostile_text_stays_within_its_line(stream: io.StringIO, human: bool) -> None:
    configure("info", stream=stream, human=human)
    EventLog("part").info("file.seen", name=HOSTILE)
    text = stream.getvalue()

    assert text.count("\n") == 1
    assert text.isascii()
    assert text.rstrip("\n").isprintable()


def test_fields_cannot_replace_the_event(stream: io.StringIO) -> None:
    EventLog("part").info("a.b", level="error", ts="never")  # type: ignore[arg-type]
    (line,) = lines(stream)

    assert line["level"] == "info"
    assert line["ts"] != "never"


def test_human_form(stream: io.StringIO) -> None:
    configure("info", stream=stream, human=True)
    EventLog("part").info("sign.done", uid=7, path="/a/b", name="a b")

    assert stream.getvalue().endswith(' info sign.done uid=7 path=/a/b name="a b"\n')


@pytest.mark.parametrize(
    "text",
    [
        JWT,
        f"token {JWT} here",
        JWT[:30],
        f"refresh_token={'r' * 20}&x=1",
        '{"refresh_token": "rrrrrrrrrr"}',
        "id_token=rrrrrrrrrr",
        "client_secret: rrrrrrrrrr",
        "code_verifier=rrrrrrrrrr",
        "Authorization: Bearer rrrrrrrrrr",
        "-----BEGIN EC PRIVATE KEY-----\nrrrrrrrrrr\n-----END EC PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nrrrrrrrrrr",
    ],
)
def test_secrets_are_removed(stream: io.StringIO, text: str) -> None:
    EventLog("part").info("a.b", text=text, listed=[text])
    EventLog("part").error("c.d", exc=ValueError(text))
    logging.getLogger("library").error("oh %s", text)
    written = stream.getvalue()

    assert "eyJ" not in written
    assert "rrrrrrrr" not in written
    assert len(lines(stream)) == 3


def test_a_secret_that_the_length_limit_cuts_is_removed() -> None:
    for padding in range(log.MAX_TEXT - 5, 2 * log.MAX_TEXT + 5):
        assert "eyJh" not in str(log.printable(" " * padding + JWT))


def test_ordinary_text_is_left_alone() -> None:
    for text in ("a token was refused", "digest sha256:00ff", "the token_audience is x"):
        assert redact(text) == text


@given(st.text())
def test_redaction_never_fails(text: str) -> None:
    assert JWT not in redact(text + JWT)


def test_an_exception_shows_where_and_not_what(stream: io.StringIO) -> None:
    secret_local = "hidden"  # noqa: F841  # what a traceback with locals would show
    try:
        b"\xff secret bytes".decode()
    except UnicodeDecodeError as exc:
        EventLog("part").error("a.b", exc=exc)
    (line,) = lines(stream)

    assert line["error"] == "UnicodeDecodeError"
    assert line["at"]
    assert "hidden" not in stream.getvalue()
    assert "secret bytes" not in stream.getvalue()


def test_a_group_is_described_by_its_first_error(stream: io.StringIO) -> None:
    group = ExceptionGroup("g", [ExceptionGroup("h", [KeyError("k")]), ValueError("v")])
    EventLog("part").error("a.b", exc=group)
    (line,) = lines(stream)

    assert (line["error"], line["group"]) == ("KeyError", 2)


async def test_bound_fields_follow_the_task(stream: io.StringIO, autojump_clock: object) -> None:
    events = EventLog("part")

    async def one(number: int) -> None:
        with bind(request=number):
            await trio.sleep(number)
            events.info("a.b")

    with bind(connection=9):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, 1)
            nursery.start_soon(one, 2)
    events.info("c.d")

    got = [(line.get("connection"), line.get("request")) for line in lines(stream)]
    assert got == [(9, 1), (9, 2), (None, None)]


def test_libraries_that_print_urls_are_quiet(stream: io.StringIO) -> None:
    for name in ("httpx", "httpcore.connection", "tuf.ngclient"):
        logging.getLogger(name).info("GET https://x/?refresh_token=abc")

    assert stream.getvalue() == ""


def test_a_closed_stream_is_no_error(stream: io.StringIO, capsys: object) -> None:
    closed = io.StringIO()
    configure("info", stream=closed, human=False)
    closed.close()
    EventLog("part").info("a.b")

    assert sys.exc_info() == (None, None, None)


def test_an_odd_field_is_no_error(stream: io.StringIO) -> None:
    EventLog("part").info("a.b", what=object())  # type: ignore[arg-type]

    assert lines(stream)[0]["what"] == "<object>"

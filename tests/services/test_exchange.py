"""One exchange: what is sent, and that the quick reading and h11's never differ."""

from __future__ import annotations

import re

import h11
import httpx
import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from keylessd.services import exchange
from keylessd.services.exchange import Answer, Asked, UnwantedBodyError, read_answer

HOST = (b"Host", b"log.example")
GET = Asked(b"GET", b"/x", [HOST], b"")
POST = Asked(b"POST", b"/x", [HOST], b"body")
HEAD = Asked(b"HEAD", b"/x", [HOST], b"")
USUAL = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"


async def read(*pieces, asked=POST, max_body=1000):
    left = list(pieces)

    async def receive():
        await trio.lowlevel.checkpoint()
        return left.pop(0) if left else b""

    return await read_answer(asked, receive, max_body=max_body)


def outcome(*pieces, **kwargs):
    """Return the answer, or the kind of error."""
    try:
        return trio.run(lambda: read(*pieces, **kwargs))
    except (httpx.RemoteProtocolError, UnwantedBodyError) as exc:
        return type(exc), getattr(exc, "encoding", None)


# --- sent ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (GET, b"GET /x HTTP/1.1\r\nHost: log.example\r\n\r\n"),
        (POST, b"POST /x HTTP/1.1\r\nHost: log.example\r\nContent-Length: 4\r\n\r\nbody"),
        (
            Asked(b"POST", b"/x", [HOST], b""),
            b"POST /x HTTP/1.1\r\nHost: log.example\r\nContent-Length: 0\r\n\r\n",
        ),
    ],
    ids=["get", "post", "post of nothing"],
)
def test_request_is_what_h11_would_send(asked, wanted):
    connection = h11.Connection(h11.CLIENT)
    head = connection.send(
        h11.Request(method=asked.method, target=asked.target, headers=asked.framed())
    )
    body = connection.send(h11.Data(data=asked.body)) if asked.body else b""
    assert asked.encode() == wanted == head + body + connection.send(h11.EndOfMessage())


@pytest.mark.parametrize(
    "asked",
    [
        Asked(b"GET", b"/x HTTP/1.1\r\nEvil: 1", [HOST], b""),
        Asked(b"GET", b"/a b", [HOST], b""),
        Asked(b"GET", b"", [HOST], b""),
        Asked(b"GE T", b"/", [HOST], b""),
        Asked(b"GET", b"/", [(b"Host", b"a\r\nEvil: 1")], b""),
        Asked(b"GET", b"/", [HOST, (b"X\r\nEvil", b"1")], b""),
        Asked(b"GET", b"/", [HOST, (b"X", b"a\x00")], b""),
    ],
    ids=["target", "blank", "no target", "method", "value", "name", "control character"],
)
def test_request_that_would_be_another_is_not_sent(asked):
    with pytest.raises(httpx.LocalProtocolError):
        asked.encode()


def test_no_header_that_may_hold_a_secret_is_kept():
    secrets = [(b"Authorization", b"Bearer hunter2"), (b"X-Token", b"hunter3"), (b"host", b"a")]
    exchange._usual_line.cache_clear()
    for _ in range(2):
        Asked(b"GET", b"/", [HOST, *secrets], b"").encode()

    assert exchange._usual_line.cache_info().currsize == 1
    assert exchange._usual_line.cache_info().hits == 1


# --- read ------------------------------------------------------------------------------------


def test_usual_answer_needs_no_h11(monkeypatch):
    monkeypatch.setattr(exchange, "h11", None)
    wanted = Answer(200, {"content-type": "text/plain", "content-length": "5"}, b"hello", True)
    for size in range(USUAL.index(b"\r\n\r\n") + 4, len(USUAL) + 1):
        assert outcome(USUAL[:size], USUAL[size:]) == wanted


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + USUAL,
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: \xe4\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=[
        "chunked",
        "continue",
        "1.0",
        "to the end",
        "latin",
        "bare newlines",
        "length twice",
        "close",
        "folded",
    ],
)
def test_unusual_answers_are_read_all_the_same(raw):
    for pieces in ([raw], [raw[n : n + 1] for n in range(len(raw))]):
        answer = outcome(*pieces)
        assert (answer.status, answer.body) == (200, b"hello")


def test_answers_without_a_body():
    assert outcome(b"HTTP/1.1 204 No Content\r\n\r\n").body == b""
    assert outcome(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n").body == b""
    head = outcome(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", asked=HEAD)
    assert (head.body, head.may_go_on) == (b"", True)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200",
        USUAL[:-1],
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000,
    ],
    ids=[
        "nothing",
        "half a head",
        "half a body",
        "garbage",
        "two lengths",
        "negative length",
        "unknown transfer",
        "blank in a name",
        "control character",
        "switch",
        "endless head",
    ],
)
def test_broken_answers_are_refused(raw):
    assert outcome(raw)[0] is httpx.RemoteProtocolError
    assert outcome(*(raw[n : n + 1] for n in range(min(len(raw), 17_000))))[0] is (
        httpx.RemoteProtocolError
    )


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001, None),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n", "gzip"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n", "br"),
    ],
    ids=["said too long", "too long", "encoded", "encoded to the end"],
)
def test_body_nobody_wants_is_not_read(raw, encoding):
    assert outcome(raw) == (UnwantedBodyError, encoding)


def test_bytes_after_the_answer_end_the_connection():
    assert not outcome(USUAL + b"HTTP/1.1 200 OK\r\n").may_go_on
    assert outcome(USUAL + b"HTTP/1.1 200 OK\r\n").body == b"hello"


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            ["Content-Length", "content-length", "X", "Connection", "Transfer-Encoding", "Trailer"]
        ),
        st.sampled_from(
            [
                "0",
                "5",
                "05",
                " 5 ",
                "+5",
                "5, 5",
                "close",
                "keep-alive",
                "Keep-Alive",
                "chunked",
                "",
            ]
        ),
    ),
    max_size=4,
)


@given(
    status=st.sampled_from([b"200", b"201", b"204", b"304", b"409", b"999", b"99", b"0200"]),
    reason=st.sampled_from([b" OK", b"", b" ", b" a\x7f", b" \xff"]),
    headers=HEADERS,
    body=st.sampled_from([b"", b"hello", b"hello!", b"5\r\nhello\r\n0\r\n\r\n"]),
    asked=st.sampled_from([GET, POST, HEAD]),
)
@example(b"200", b" OK", [("Content-Length", "5")], b"hello", GET)
def test_both_readings_agree(status, reason, headers, body, asked):
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
    raw = b"HTTP/1.1 " + status + reason + b"\r\n" + lines + b"\r\n" + body
    # Byte by byte, the head never comes at once, so h11 reads it.
    slow = outcome(*(raw[n : n + 1] for n in range(len(raw))), asked=asked)
    quick = outcome(raw, asked=asked)
    if isinstance(quick, Answer) and isinstance(slow, Answer):
        assert (quick.status, quick.body) == (slow.status, slow.body)
        assert _plain(quick) == _plain(slow)
        # Read in one go, what follows the answer is seen; byte by byte it has not come yet.
        assert not quick.may_go_on or slow.may_go_on
    else:
        assert quick == slow


def _plain(answer):
    # Of a length that stands there twice h11 keeps one.
    return {name: re.sub(r"^5, 5$", "5", value) for name, value in answer.headers.items()}


@given(st.binary(max_size=200), st.booleans())
def test_only_declared_errors_escape(data, is_headed):
    raw = (b"HTTP/1.1 200 OK\r\nContent-Length: " if is_headed else b"HTTP/1.1 ") + data
    outcome(raw)

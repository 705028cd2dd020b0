"""The sandbox's HTTP server, byte by byte where that matters."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from keylessd.sandbox import httpd
from keylessd.sandbox.inprocess import ABORT


async def echo(scope, receive, send) -> None:
    """Answer with the method, the target and the body."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    content = f"{scope['method']} {scope['path']}?{scope['query_string'].decode()} ".encode() + body
    headers = [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class Client:
    def __init__(self, stream) -> None:
        self.stream = stream
        self.received = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def until(self, end: bytes) -> bytes:
        """Return what comes, up to and with *end*."""
        while end not in self.received:
            more = await self.stream.receive_some(9999)
            assert more, f"closed after {self.received!r}"
            self.received += more
        found, _, self.received = self.received.partition(end)
        return found + end

    async def rest(self) -> bytes:
        """Return all that comes until the server closes."""
        while more := await self.stream.receive_some(9999):
            self.received += more
        return self.received


@asynccontextmanager
async def connected(app=echo) -> AsyncIterator[Client]:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(httpd.Connection(theirs, app).serve)
        yield Client(ours)
        await ours.aclose()


async def test_requests_share_a_connection(autojump_clock):
    async with connected() as client:
        for number in range(3):
            await client.send(b"GET /%d?a=b HTTP/1.1\r\nhost: x\r\n\r\n" % number)
            assert (await client.until(b"a=b ")).endswith(b"GET /%d?a=b " % number)


async def test_pipelined_requests_are_answered_in_order(autojump_clock):
    async with connected() as client:
        await client.send(
            b"POST /1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab"
            b"POST /2 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\ncd"
        )
        await client.until(b"POST /1? ab")
        await client.until(b"POST /2? cd")


async def test_request_may_come_byte_by_byte(autojump_clock):
    async with connected() as client:
        for byte in b"POST /x%20y HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc":
            await client.send(bytes([byte]))
        await client.until(b"POST /x y? abc")


async def test_chunked_request(autojump_clock):
    async with connected() as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        await client.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        await client.until(b"abcde")


async def test_client_that_waits_for_100_continue(autojump_clock):
    async with connected() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n"
        )
        assert b"100" in await client.until(b"\r\n\r\n")
        await client.send(b"z")
        await client.until(b"/? z")


async def test_connection_close_is_honoured(autojump_clock):
    async with connected() as client:
        await client.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"connection: close" in (await client.rest()).lower()


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"a" * 100_000]
)
async def test_garbage_closes_the_connection(autojump_clock, garbage):
    async with connected() as client:
        await client.send(garbage + b"\r\n\r\n")
        assert await client.rest() == b""


async def test_body_that_nobody_reads_is_skipped(autojump_clock):
    async def deaf(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async with connected(deaf) as client:
        request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000
        for _ in range(2):
            await client.send(request)
            assert b" 413 " in await client.until(b"no")


async def test_head_has_no_body(autojump_clock):
    async def app(scope, receive, send) -> None:
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"body"})

    async with connected(app) as client:
        await client.send(b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await client.rest()).endswith(b"\r\n\r\n")


async def test_failing_application_is_a_500(autojump_clock, caplog):
    async def app(scope, receive, send) -> None:
        raise ValueError("bug")

    async with connected(app) as client:
        with caplog.at_level(logging.ERROR):
            await client.send(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b" 500 " in await client.until(httpd.ERROR_BODY)
    assert "failed at /x" in caplog.text


async def test_application_may_break_the_connection(autojump_clock):
    seen = []

    async def app(scope, receive, send) -> None:
        seen.append(ABORT in scope["extensions"])

    async with connected(app) as client:
        # It does not even wait for the body.
        await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n")
        assert await client.rest() == b""
    assert seen == [True]


async def test_answer_that_breaks_off_closes_the_connection(autojump_clock):
    async def app(scope, receive, send) -> None:
        headers = [(b"content-length", b"9")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with connected(app) as client:
        await client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.rest()).endswith(b"half")


async def test_application_learns_that_the_client_is_gone(autojump_clock):
    gone = trio.Event()

    async def app(scope, receive, send) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        gone.set()

    async with connected(app) as client:
        await client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await client.stream.aclose()
        await gone.wait()


async def test_client_that_hangs_up_in_its_body_is_a_disconnect(autojump_clock, caplog):
    seen = []

    async def app(scope, receive, send) -> None:
        while (message := await receive())["type"] == "http.request":
            seen.append(message["body"])
        seen.append(message["type"])
        raise ValueError("nobody reads this")

    async with connected(app) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")
        await trio.testing.wait_all_tasks_blocked()
        await client.stream.send_eof()
        assert await client.rest() == b""
    assert seen == [b"abc", "http.disconnect"]
    assert caplog.text == ""


async def test_answer_to_nobody_is_dropped(autojump_clock, caplog):
    sent = trio.Event()

    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(9):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        sent.set()

    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await ours.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        ours.receive_stream.close()
        nursery.start_soon(httpd.Connection(theirs, app).serve)
        await sent.wait()
    assert caplog.text == ""


# --- many -------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(app) -> AsyncIterator[tuple[int, trio.Event, trio.Event]]:
    """Serve *app*; give the port, the event that stops the server, and that it has ended."""
    opened = socket.create_server(("127.0.0.1", 0))
    stop, ended = trio.Event(), trio.Event()

    async def run(task_status) -> None:
        await httpd.serve(
            {"x": app}, {"x": opened}, stop=stop, grace_seconds=5, task_status=task_status
        )
        ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield opened.getsockname()[1], stop, ended
        stop.set()


async def test_stop_closes_idle_connections_and_lets_requests_end(autojump_clock):
    started, release = trio.Event(), trio.Event()

    async def slow(scope, receive, send) -> None:
        started.set()
        await release.wait()
        await echo(scope, receive, send)

    # The idle one is accepted first: the server takes them in their order.
    async with (
        serving(slow) as (port, stop, ended),
        await trio.open_tcp_stream("127.0.0.1", port) as idle,
        await trio.open_tcp_stream("127.0.0.1", port) as busy,
    ):
        await busy.send_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        await started.wait()
        stop.set()
        assert await Client(idle).rest() == b""
        release.set()
        assert b"GET /slow" in await Client(busy).rest()
        await ended.wait()


async def test_request_that_does_not_end_is_given_up(autojump_clock):
    started = trio.Event()

    async def stuck(scope, receive, send) -> None:
        started.set()
        await trio.sleep_forever()

    async with (
        serving(stuck) as (port, stop, ended),
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await started.wait()
        began = trio.current_time()
        stop.set()
        await ended.wait()
        assert trio.current_time() - began == pytest.approx(5)

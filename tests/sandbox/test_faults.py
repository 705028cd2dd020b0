"""Injected faults, as an httpx client sees them in process and over a real connection."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from keylessd.sandbox.faults import (
    Cut,
    Delay,
    Endless,
    FaultController,
    Faults,
    Garbage,
    LateReply,
    LostReply,
    SeenRequest,
    SkewedClock,
    Status,
)
from keylessd.sandbox.faults_app import ControlledFaults, InvalidFaultError, parse_rule
from keylessd.sandbox.inprocess import InProcessTransport
from sandbox_requests import NOW, SteppedClock, client_of

ANSWER = {"counted": "a body of more than ten bytes"}


class Counted:
    """A service that counts what it does."""

    def __init__(self) -> None:
        self.done = 0
        self.controller = FaultController(SkewedClock(SteppedClock()))
        self.plain = Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])
        self.app = Faults(self.plain, self.controller)

    async def answer(self, request: Request) -> JSONResponse:
        await request.body()
        self.done += 1
        return JSONResponse(ANSWER, 201)


@pytest.fixture
def service() -> Counted:
    return Counted()


async def test_without_faults_nothing_changes(autojump_clock, service):
    async with client_of(service.app) as client:
        reply = await client.post("/a", content=b"x", params={"q": "1"})
    assert (reply.status_code, reply.json()) == (201, ANSWER)
    assert list(service.controller.requests) == [SeenRequest("POST", "/a", "q=1")]


async def test_status(autojump_clock, service):
    service.controller.fail_next(2, Status(429, b"slow down", "text/plain", retry_after="7"))
    async with client_of(service.app) as client:
        for _ in range(2):
            reply = await client.post("/a", content=b"x")
            assert (reply.status_code, reply.content) == (429, b"slow down")
            assert reply.headers["retry-after"] == "7"
            assert reply.headers["content-type"] == "text/plain"
        assert service.done == 0
        assert (await client.post("/a")).status_code == 201
    assert service.controller.total == 3


async def test_no_retry_after_unless_said(autojump_clock, service):
    service.controller.fail(Status())
    async with client_of(service.app) as client:
        assert "retry-after" not in (await client.get("/a")).headers


async def test_fail_lasts_until_cleared(autojump_clock, service):
    service.controller.fail(Status(500))
    async with client_of(service.app) as client:
        for _ in range(5):
            assert (await client.get("/a")).status_code == 500
        service.controller.clear()
        assert (await client.get("/a")).status_code == 201


async def test_rules_follow_one_another(autojump_clock, service):
    service.controller.fail_next(1, Status(500))
    service.controller.fail_next(1, Status(503))
    async with client_of(service.app) as client:
        statuses = [(await client.get("/a")).status_code for _ in range(3)]
    assert statuses == [500, 503, 201]


async def test_rule_for_a_path_and_method(autojump_clock, service):
    service.controller.fail_next(1, Status(500), path="/b", method="POST")
    async with client_of(service.app) as client:
        assert (await client.post("/a")).status_code == 201
        assert (await client.get("/b")).status_code == 201
        assert (await client.post("/b/c")).status_code == 500
        assert (await client.post("/b/c")).status_code == 201


async def test_delay(autojump_clock, service):
    service.controller.fail_next(1, Delay(30))
    async with client_of(service.app) as client:
        before = trio.current_time()
        assert (await client.get("/a")).status_code == 201
        assert trio.current_time() - before == pytest.approx(30)


async def test_delayed_request_of_a_client_that_left_is_not_processed(autojump_clock, service):
    service.controller.fail_next(1, Delay(30))
    async with client_of(service.app) as client:
        with trio.move_on_after(10):
            await client.get("/a")
    assert service.done == 0


async def test_a_late_reply_is_of_what_was_done_at_once(autojump_clock, service):
    service.controller.fail_next(2, LateReply(30))
    async with client_of(service.app) as client:
        before = trio.current_time()
        with trio.move_on_after(10):
            await client.get("/a")
        assert service.done == 1
        assert (await client.get("/a")).status_code == 201
        assert trio.current_time() - before == pytest.approx(40)
        assert service.done == 2


async def read(service: Counted, *, until: int) -> tuple[httpx.Response, bytes, bool]:
    """Answer, body and whether it broke; no more of the body than *until* bytes and a part."""
    # Below httpx's client, whose iterators want to be read to the end.
    transport = InProcessTransport({"it": service.app}, {"it": "http://service.test"})
    reply = await transport.handle_async_request(httpx.Request("GET", "http://service.test/a"))
    got = b""
    try:
        async for part in reply.stream:
            got += part
            if len(got) > until:
                break
    except httpx.RemoteProtocolError:
        return reply, got, True
    return reply, got, False


async def test_cut(autojump_clock, service):
    service.controller.fail_next(1, Cut(after_bytes=5))
    reply, got, broke = await read(service, until=100)
    assert (reply.status_code, broke) == (201, True)
    assert int(reply.headers["content-length"]) > 5
    assert got == json.dumps(ANSWER, separators=(",", ":")).encode()[:5]
    assert service.done == 1


async def test_cut_beyond_the_end_still_breaks(autojump_clock, service):
    service.controller.fail_next(1, Cut(after_bytes=1000))
    async with client_of(service.app) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/a")


async def test_lost_reply(autojump_clock, service):
    service.controller.fail_next(1, LostReply())
    async with client_of(service.app) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/a", content=b"x")
        assert service.done == 1
        assert (await client.post("/a")).status_code == 201


async def test_garbage(autojump_clock, service):
    service.controller.fail_next(1, Garbage(b"\xff\x00"))
    async with client_of(service.app) as client:
        reply = await client.get("/a")
    assert (reply.status_code, reply.content) == (201, b"\xff\x00")
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["content-length"] == "2"
    assert service.done == 1


async def test_endless(autojump_clock, service):
    service.controller.fail_next(1, Endless())
    reply, got, broke = await read(service, until=1 << 20)
    assert (reply.status_code, broke) == (200, False)
    assert len(got) > 1 << 20
    assert "content-length" not in reply.headers
    assert service.done == 0


async def test_endless_body_that_is_read_to_the_end_breaks(autojump_clock, service):
    service.controller.fail_next(1, Endless())
    async with client_of(service.app) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/a")


def test_skew():
    clock = SkewedClock(SteppedClock())
    controller = FaultController(clock)
    controller.skew(timedelta(minutes=-5))
    assert clock.now() == NOW - timedelta(minutes=5)
    controller.clear()
    assert clock.now() == NOW


def test_service_without_clock_cannot_be_skewed():
    with pytest.raises(ValueError, match="clock"):
        FaultController().skew(timedelta(1))


@pytest.mark.parametrize("count", [0, -1])
def test_a_number_of_requests_is_from_one(count):
    with pytest.raises(ValueError, match="cannot fail"):
        FaultController().fail_next(count, Status())


async def test_record_of_requests(autojump_clock, service):
    async with client_of(service.app) as client:
        await client.get("/a/1")
        await client.post("/a/2")
        await client.post("/b")
    assert service.controller.seen() == 3
    assert service.controller.seen("/a") == 2
    assert service.controller.seen("/a", "POST") == 1
    service.controller.forget_requests()
    assert (service.controller.seen(), service.controller.total) == (0, 0)


# --- over HTTP --------------------------------------------------------------------------------


@pytest.fixture
def controlled(service) -> ControlledFaults:
    return ControlledFaults(service.plain, service.controller)


async def test_control_is_there_only_if_asked_for(autojump_clock, service, controlled):
    async with client_of(service.app) as client:
        assert (await client.get("/_faults")).json() == ANSWER
    async with client_of(controlled) as client:
        assert (await client.get("/_faults")).json()["rules"] == []


async def test_control(autojump_clock, service, controlled):
    async with client_of(controlled) as client:
        rule = {"fault": "status", "status": 502, "body": "no", "retry_after": "3", "times": 2}
        made = await client.post("/_faults", json={**rule, "path": "/a", "method": "post"})
        assert made.status_code == 201
        assert (await client.post("/b")).status_code == 201
        failed = await client.post("/a")
        assert (failed.status_code, failed.text, failed.headers["retry-after"]) == (502, "no", "3")
        state = (await client.get("/_faults")).json()
        assert state["rules"] == [{"fault": "status", "times": 1, "path": "/a", "method": "POST"}]
        assert state["requests"] == 2
        assert state["newest"] == [
            {"method": "POST", "path": "/b", "query": ""},
            {"method": "POST", "path": "/a", "query": ""},
        ]
        skewed = (await client.post("/_faults", json={"skew_seconds": -60})).json()
        assert skewed["skew_seconds"] == -60
        assert service.controller.clock.now() == NOW - timedelta(minutes=1)
        cleared = (await client.delete("/_faults")).json()
        assert cleared == {"rules": [], "requests": 0, "newest": [], "skew_seconds": 0}
        assert (await client.put("/_faults")).status_code == 405
        assert (await client.post("/a")).status_code == 201


GOOD = {
    "status": ({"fault": "status"}, Status()),
    "delay": ({"fault": "delay", "seconds": 2}, Delay(2.0)),
    "cut": ({"fault": "cut", "after_bytes": 3}, Cut(3)),
    "lost": ({"fault": "lost_reply"}, LostReply()),
    "late": ({"fault": "late_reply", "seconds": 2}, LateReply(2.0)),
    "garbage": ({"fault": "garbage", "body": "é"}, Garbage("é".encode())),
    "endless": ({"fault": "endless", "media_type": "text/html"}, Endless("text/html")),
}


@pytest.mark.parametrize(("value", "fault"), GOOD.values(), ids=GOOD.keys())
def test_rules_in_json(value, fault):
    rule = parse_rule(value)
    assert (rule.fault, rule.left, rule.path, rule.method) == (fault, None, "", "")


BAD = [
    None, [], {}, {"fault": "other"}, {"fault": 1}, {"fault": "delay"}, {"fault": "cut", "x": 1},
    {"fault": "late_reply"},
    {"fault": "delay", "seconds": "1"}, {"fault": "delay", "seconds": -1},
    {"fault": "delay", "seconds": True}, {"fault": "status", "times": 0},
    {"fault": "status", "times": True}, {"fault": "status", "times": 1.5},
    {"fault": "status", "path": 1}, {"fault": "status", "method": None},
    {"fault": "status", "status": "500"}, {"fault": "status", "status": None},
    {"fault": "lost_reply", "body": "x"}, {"skew_seconds": "x"}, {"skew_seconds": True},
    {"skew_seconds": 1e300}, {"skew_seconds": 1, "fault": "status"},
    {"fault": "status", "status": 99}, {"fault": "status", "retry_after": "1\r\nx: y"},
]  # fmt: skip


@pytest.mark.parametrize("value", BAD, ids=json.dumps)
async def test_bad_rule(autojump_clock, service, controlled, value):
    async with client_of(controlled) as client:
        assert (await client.post("/_faults", json=value)).status_code == 400
        assert (await client.get("/_faults")).json()["rules"] == []
        assert (await client.post("/_faults", content=b"{")).status_code == 400


@given(
    st.dictionaries(
        st.sampled_from(["fault", "status", "seconds", "body", "times", "path", "after_bytes"]),
        st.sampled_from(["status", "delay", "cut"]) | st.none() | st.integers() | st.text(),
    )
)  # fmt: skip
def test_only_the_declared_error_escapes(value):
    try:
        rule = parse_rule(value)
    except InvalidFaultError:
        return
    assert rule.left is None or rule.left > 0


# --- over a real connection -------------------------------------------------------------------


async def served(app, use) -> None:
    """Run *use* with a client of *app* behind a real server on loopback."""
    hypercorn = pytest.importorskip("hypercorn.trio")
    from hypercorn.config import Config

    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.graceful_timeout = 0
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        serve = partial(hypercorn.serve, app, config, shutdown_trigger=stop.wait)
        (url,) = await nursery.start(serve)
        with trio.fail_after(30):
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                await use(client)
        stop.set()


@pytest.mark.system
@pytest.mark.parametrize("fault", [LostReply(), Cut()], ids=["lost", "cut"])
async def test_served_broken_answers(service, fault):
    async def use(client: httpx.AsyncClient) -> None:
        service.controller.fail_next(1, fault)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/a", content=b"x")
        assert service.done == 1
        assert (await client.post("/a")).json() == ANSWER

    await served(service.app, use)


@pytest.mark.system
async def test_served_endless_body_ends_with_the_client(service):
    under_way, ended = trio.Event(), trio.Event()

    async def watched(scope, receive, send) -> None:
        await service.app(scope, receive, send)
        if scope["type"] == "http" and under_way.is_set():
            ended.set()

    async def use(client: httpx.AsyncClient) -> None:
        service.controller.fail_next(1, Endless())
        # Not httpx, whose iterators want to be read to the end.
        url = client.base_url
        got = 0
        async with await trio.open_tcp_stream(url.host, url.port) as stream:
            await stream.send_all(b"GET /a HTTP/1.1\r\nhost: it\r\n\r\n")
            while got < 1 << 20:
                got += len(await stream.receive_some())
            under_way.set()
        await ended.wait()
        assert (await client.get("/a")).json() == ANSWER

    await served(watched, use)


@pytest.mark.system
async def test_served_status_and_garbage(service):
    async def use(client: httpx.AsyncClient) -> None:
        service.controller.fail_next(1, Status(503, b"{}", retry_after="2"))
        service.controller.fail_next(1, Garbage())
        reply = await client.post("/a", content=b"x" * 100_000)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
        assert (await client.get("/a")).content == Garbage().body

    await served(service.app, use)

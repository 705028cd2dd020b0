"""One connection on memory streams and virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from keyless.wire import (
    CLIENT,
    Cancel,
    Connection,
    ConnectionClosed,
    Event,
    Failure,
    Hello,
    Reply,
    Request,
    Welcome,
    WireError,
)
from keylessd.server.limits import MIB, ByteBudget, Holder
from keylessd.server.session import MAX_UNREAD, Progress, Session
from keylessd.server.turns import Turns
from keylessd.settings import Timeouts
from wirepeer import STATUS, WirePeer

HOLDER = Holder(uid=1000, pid=7)
SIGN = {"digest": {"alg": "sha256", "value": bytes(32)}}


class Work:
    """Answers that wait until they are let go, and a record of how each ended."""

    def __init__(self) -> None:
        self.go: dict[int, trio.Event] = {}
        self.started: list[int] = []
        self.ended: dict[int, str] = {}
        self.waits = False
        self.shield_seconds = 0.0
        self.events: list[tuple[str, Mapping[str, str | int]]] = []
        self.padding = 0

    async def __call__(self, request: Request, progress: Progress) -> Reply | Failure:
        self.started.append(request.id)
        for step, facts in self.events:
            progress(step, facts)
        try:
            if self.waits:
                await self.go.setdefault(request.id, trio.Event()).wait()
        except trio.Cancelled:
            self.ended[request.id] = "cancelled"
            if self.shield_seconds:
                with trio.CancelScope(shield=True):
                    await trio.sleep(self.shield_seconds)
                self.ended[request.id] = "finished behind the shield"
            raise
        self.ended[request.id] = "answered"
        return Reply(request.id, {**STATUS, "padding": "x" * self.padding})

    def let(self, number: int) -> None:
        self.go.setdefault(number, trio.Event()).set()


class Lab:
    """A session under test with the client end of its stream."""

    def __init__(self, session: Session, client: trio.abc.Stream, done: trio.Event) -> None:
        self.session = session
        self.client = client
        self.peer = WirePeer(client)
        self.done = done


@asynccontextmanager
async def lab(
    work: Work,
    *,
    timeouts: Timeouts | None = None,
    lockstep: bool = False,
    budget: ByteBudget | None = None,
    max_in_flight: int = 8,
    turns: Turns | None = None,
) -> AsyncIterator[Lab]:
    ours, theirs = lockstep_stream_pair() if lockstep else memory_stream_pair()
    session = Session(
        ours,
        work,
        timeouts=timeouts or Timeouts(),
        agent="keylessd/test",
        holder=HOLDER,
        budget=budget or ByteBudget(64),
        max_in_flight=max_in_flight,
        turns=turns,
    )
    done = trio.Event()

    async def run() -> None:
        await session.run()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield Lab(session, theirs, done)
        nursery.cancel_scope.cancel()


async def test_hello_is_answered_with_limits(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        welcome = await it.peer.hello()

        assert isinstance(welcome, Welcome)
        assert welcome.limits["in_flight"] == 8
        assert welcome.agent == "keylessd/test"


async def test_hello_is_answered_with_the_patience_of_the_settings(autojump_clock: object) -> None:
    async with lab(Work(), timeouts=Timeouts(request=0.5)) as it:
        welcome = await it.peer.hello()

        assert isinstance(welcome, Welcome)
        assert welcome.limits["request_seconds"] == 1
        assert welcome.limits["login_seconds"] == 300


async def test_requests_pipelined_with_hello_are_answered(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        wire = it.peer.wire
        data = wire.send(Hello()) + wire.send(Request(1, "status", {}))
        await it.client.send_all(data + wire.send(Request(2, "status", {})))

        messages = [await it.peer.receive() for _ in range(3)]

        assert isinstance(messages[0], Welcome)
        assert {message.id for message in messages[1:]} == {1, 2}


async def test_answers_come_in_the_order_they_are_ready(autojump_clock: object) -> None:
    work = Work()
    work.waits = True
    async with lab(work) as it:
        await it.peer.hello()
        first, second = await it.peer.send(), await it.peer.send()
        work.let(second)
        early = await it.peer.receive()
        work.let(first)
        late = await it.peer.receive()

        assert (early.id, late.id) == (second, first)


async def test_bytes_one_at_a_time(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        wire = it.peer.wire
        for byte in wire.send(Hello()) + wire.send(Request(1, "status", {})):
            await it.client.send_all(bytes([byte]))
            await wait_all_tasks_blocked()

        assert isinstance(await it.peer.receive(), Welcome)
        assert isinstance(await it.peer.receive(), Reply)


async def test_crumbs_are_gathered(autojump_clock: object) -> None:
    """A frame byte by byte costs reads by the clock, not by the byte."""
    async with lab(Work()) as it:
        reads = 0
        receive_some = it.session._stream.receive_some

        async def count_reads(size: int) -> bytes:
            nonlocal reads
            data = await receive_some(size)
            reads += 1
            return data

        it.session._stream.receive_some = count_reads
        data = Connection(CLIENT).send(Hello(agent="x" * 100))
        for byte in data:
            await it.client.send_all(bytes([byte]))
            await trio.sleep(0.01)
        it.peer.wire.send(Hello())

        assert isinstance(await it.peer.receive(), Welcome)
        assert reads < 16


async def test_hang_up_cancels_what_runs(autojump_clock: object) -> None:
    work = Work()
    work.waits = True
    async with lab(work) as it:
        await it.peer.hello()
        number = await it.peer.send()
        await wait_all_tasks_blocked()
        await it.client.aclose()
        await it.done.wait()

        assert work.ended == {number: "cancelled"}
        assert trio.current_time() == 0


async def test_hang_up_lets_a_shielded_end_be_reached(autojump_clock: object) -> None:
    work = Work()
    work.waits = True
    work.shield_seconds = 20
    async with lab(work) as it:
        await it.peer.hello()
        number = await it.peer.send()
        await wait_all_tasks_blocked()
        await it.client.aclose()
        await it.done.wait()

        assert work.ended == {number: "finished behind the shield"}
        assert trio.current_time() == 20


async def test_cancel_ends_one_request_and_says_so(autojump_clock: object) -> None:
    work = Work()
    work.waits = True
    async with lab(work) as it:
        await it.peer.hello()
        first, second = await it.peer.send(), await it.peer.send()
        await wait_all_tasks_blocked()
        await it.client.send_all(it.peer.wire.send(Cancel(first)))
        failure = await it.peer.receive()
        work.let(second)
        reply = await it.peer.receive()

        assert isinstance(failure, Failure)
        assert (failure.id, failure.error.code) == (first, "cancelled")
        assert reply.id == second


async def test_request_deadline_is_told(autojump_clock: object) -> None:
    work = Work()
    work.waits = True
    async with lab(work) as it:
        await it.peer.hello()
        await it.peer.send()
        failure = await it.peer.receive()

        assert failure.error.code == "deadline_exceeded"
        assert failure.error.retryable
        assert trio.current_time() == Timeouts().request


async def test_no_hello_ends_the_connection(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        farewell = await it.peer.receive()
        await it.done.wait()

        assert farewell.error.code == "deadline_exceeded"
        assert trio.current_time() == Timeouts().hello
        assert it.session.violated


async def test_a_hello_that_came_in_time_may_wait_for_its_turn(autojump_clock: object) -> None:
    turns = Turns()
    await turns.wait()  # another connection of the process
    async with lab(Work(), turns=turns) as it:
        await it.client.send_all(it.peer.wire.send(Hello()))
        await trio.sleep(2 * Timeouts().hello)
        await turns.end()

        assert isinstance(await it.peer.receive(), Welcome)
        # And has all the time of an idle connection from now on.
        await trio.sleep(Timeouts().idle - 1)
        await it.peer.ask()


async def test_a_request_that_came_in_time_may_wait_for_its_turn(autojump_clock: object) -> None:
    turns = Turns()
    async with lab(Work(), turns=turns) as it:
        await it.peer.hello()
        await trio.sleep(Timeouts().idle - 1)
        await turns.wait()
        await it.client.send_all(it.peer.wire.send(Request(1, "status", {})))
        await trio.sleep(2 * Timeouts().idle)
        await turns.end()

        assert isinstance(await it.peer.receive(), Reply)


async def test_a_hello_in_small_pieces_has_no_more_time(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        data = Connection(CLIENT).send(Hello(agent="x" * 100))
        with trio.move_on_after(100):
            for byte in data:
                try:
                    await it.client.send_all(bytes([byte]))
                except trio.BrokenResourceError:
                    break
                await trio.sleep(1)
        await it.done.wait()

        assert it.session.violated
        assert trio.current_time() <= Timeouts().hello + 1


async def test_a_frame_must_be_complete_in_time(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        await it.peer.hello()
        await it.client.send_all(b"\x00\x00")
        farewell = await it.peer.receive()

        assert farewell.id is None
        assert farewell.error.code == "deadline_exceeded"
        assert trio.current_time() == Timeouts().frame
        assert it.session.violated


async def test_more_bytes_do_not_extend_a_frames_time(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        await it.peer.hello()
        body = {"digests": {"sha256": bytes(32)}, "accepted": [{"identity": "a", "issuer": "b"}]}
        request = Request(1, "verify", body, {"bundle": bytes(1 << 20)})
        data = it.peer.wire.send(request)
        for start in range(0, len(data), 1000):
            if it.done.is_set():
                break
            try:
                await it.client.send_all(data[start : start + 1000])
            except trio.BrokenResourceError:
                break
            await trio.sleep(0.5)
        await it.done.wait()

        assert trio.current_time() <= Timeouts().frame + 1


async def test_a_frames_time_also_runs_while_a_request_does(autojump_clock: object) -> None:
    work = Work()
    work.waits = True
    async with lab(work) as it:
        await it.peer.hello()
        number = await it.peer.send()
        await it.client.send_all(b"\x00")
        work_over = trio.current_time() + Timeouts().frame
        await trio.sleep(Timeouts().frame + 0.5)
        work.let(number)
        reply = await it.peer.receive()
        farewell = await it.peer.receive()

        assert isinstance(reply, Reply)
        assert farewell.error.code == "deadline_exceeded"
        assert trio.current_time() == work_over + 0.5


async def test_idle_connection_is_closed_and_told(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        await it.peer.hello()
        await trio.sleep(30)
        await it.peer.ask()
        farewell = await it.peer.receive()

        assert farewell.id is None
        assert farewell.error.retryable
        assert trio.current_time() == 30 + Timeouts().idle
        assert not it.session.violated


async def test_a_running_request_keeps_the_connection(autojump_clock: object) -> None:
    work = Work()
    work.waits = True
    async with lab(work) as it:
        await it.peer.hello()
        number = await it.peer.send()
        await trio.sleep(Timeouts().idle + 40)
        work.let(number)

        assert isinstance(await it.peer.receive(), Reply)
        assert it.session.idle_since == trio.current_time()


async def test_garbage_ends_the_connection_with_a_reason(autojump_clock: object) -> None:
    work = Work()
    work.waits = True
    async with lab(work) as it:
        await it.peer.hello()
        number = await it.peer.send()
        await wait_all_tasks_blocked()
        await it.client.send_all(b"GET / HTTP/1.1\r\n\r\n")
        farewell = await it.peer.receive()
        end = await it.peer.receive()

        assert farewell.id is None
        assert farewell.error.code == "too_large"  # "GET " is a length of 1.2 GB
        assert isinstance(end, ConnectionClosed)
        assert work.ended == {number: "cancelled"}
        assert it.session.violated


async def test_bad_request_is_answered_and_the_connection_lives(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        await it.peer.hello()
        raw = Connection(CLIENT)
        raw.send(Hello())
        data = raw.send(Request(1, "status", {}))
        await it.client.send_all(data.replace(b"status", b"statux"))
        it.peer.wire._open[1] = "status"
        failure = await it.peer.receive()
        it.peer._next_id = 1

        assert failure.error.code == "unknown_operation"
        assert isinstance(await it.peer.ask(), Reply)


async def test_over_the_limit_is_busy_and_cancel_still_works(autojump_clock: object) -> None:
    work = Work()
    work.waits = True
    async with lab(work) as it:
        await it.peer.hello()
        numbers = [await it.peer.send() for _ in range(9)]
        refused = await it.peer.receive()
        await it.client.send_all(it.peer.wire.send(Cancel(numbers[0])))
        cancelled = await it.peer.receive()

        assert (refused.id, refused.error.code) == (numbers[8], "busy")
        assert refused.error.retryable
        assert (cancelled.id, cancelled.error.code) == (numbers[0], "cancelled")
        assert len(work.started) == 8


async def test_client_that_never_reads_is_dropped(autojump_clock: object) -> None:
    async with lab(Work(), lockstep=True) as it:
        wire = it.peer.wire
        await it.client.send_all(wire.send(Hello()))
        await it.done.wait()

        assert trio.current_time() == Timeouts().write


async def test_client_that_stops_reading_does_not_hold_its_requests(
    autojump_clock: object,
) -> None:
    work = Work()
    async with lab(work, lockstep=True) as it:
        await it.peer.hello()
        await it.peer.send()
        await it.done.wait()

        assert work.ended == {1: "answered"}
        assert trio.current_time() == Timeouts().write


async def records_of_60_kb(request: Request, progress: Progress) -> Reply | Failure:
    await trio.lowlevel.checkpoint()
    return Reply(request.id, {"records": 1}, {"records": bytes(60_000)})


async def test_client_that_leaves_its_answers_is_not_read_from(autojump_clock: object) -> None:
    started: list[int] = []

    async def records(request: Request, progress: Progress) -> Reply | Failure:
        started.append(request.id)
        return await records_of_60_kb(request, progress)

    async with lab(records) as it:  # type: ignore[arg-type]
        await it.peer.hello()
        send_all, is_read = it.session._stream.send_all, trio.Event()

        async def send_when_read(data: bytes) -> None:
            await is_read.wait()
            await send_all(data)

        it.session._stream.send_all = send_when_read
        for number in range(1, 101):
            await it.client.send_all(it.peer.wire.send(Request(number, "ledger", {})))
            await wait_all_tasks_blocked()
        assert len(started) == MAX_UNREAD // 60_000 + 1

        is_read.set()
        replies = [await it.peer.receive() for _ in range(100)]
        assert {reply.id for reply in replies if isinstance(reply, Reply)} == set(range(1, 101))
        assert trio.current_time() == 0


async def test_client_that_leaves_its_answers_for_long_is_dropped(autojump_clock: object) -> None:
    async with lab(records_of_60_kb) as it:  # type: ignore[arg-type]
        await it.peer.hello()

        async def never(data: bytes) -> None:
            await trio.sleep_forever()

        it.session._stream.send_all = never
        for number in range(1, 101):
            await it.client.send_all(it.peer.wire.send(Request(number, "ledger", {})))
        await it.done.wait()
        assert trio.current_time() == Timeouts().write


async def test_events_come_before_the_reply_and_in_order(autojump_clock: object) -> None:
    work = Work()
    work.events = [("certificate", {"instance": "public"}), ("log", {"url": "u", "attempt": 1})]
    async with lab(work) as it:
        await it.peer.hello()
        number = await it.peer.send("sign", {**SIGN, "progress": True})
        messages = [await it.peer.receive() for _ in range(2)]

        assert [message.body["step"] for message in messages] == ["certificate", "log"]
        assert all(isinstance(message, Event) and message.id == number for message in messages)


async def test_events_are_sent_only_if_wanted(autojump_clock: object) -> None:
    work = Work()
    work.events = [("certificate", {})]
    async with lab(work) as it:
        await it.peer.hello()
        await it.peer.send("status")

        assert isinstance(await it.peer.receive(), Reply)


async def test_what_a_login_must_show_is_always_told(autojump_clock: object) -> None:
    work = Work()
    device = {"user_code": "X", "verification_uri": "https://i", "expires_in": 5}
    work.events = [
        ("certificate", {}),
        ("open_url", {"url": "https://i"}),
        ("device_code", device),
        ("enter_code", {"url": "https://i", "login": "l"}),
        ("open_url", {"url": "a\nb"}),  # unfit to be sent, and no end of the conversation
    ]
    async with lab(work) as it:
        await it.peer.hello()
        number = await it.peer.send("reload")
        messages = [await it.peer.receive() for _ in range(4)]

        assert messages[:3] == [
            Event(number, "open_url", {"url": "https://i"}),
            Event(number, "device_code", device),
            Event(number, "enter_code", {"url": "https://i", "login": "l"}),
        ]
        assert isinstance(messages[3], Reply)


@pytest.mark.parametrize(("op", "seconds"), [("reload", 120), ("login", 300)])
async def test_a_login_has_the_time_that_a_person_needs(
    autojump_clock: object, op: str, seconds: float
) -> None:
    work = Work()
    work.waits = True
    async with lab(work) as it:
        await it.peer.hello()
        before = trio.current_time()
        answer = await it.peer.ask(op)

        assert answer.error.code == "deadline_exceeded"
        assert trio.current_time() - before == pytest.approx(seconds, abs=1)


async def test_events_are_told_while_the_work_goes_on(autojump_clock: object) -> None:
    work = Work()
    work.waits = True
    work.events = [("certificate", {}), ("log", {})]
    async with lab(work) as it:
        await it.peer.hello()
        await it.peer.send("sign", {**SIGN, "progress": True})

        with trio.fail_after(1):
            steps = [(await it.peer.receive()).body["step"] for _ in range(2)]
        assert steps == ["certificate", "log"]
        assert work.ended == {}


async def test_work_that_outlives_its_request_does_not_speak_for_the_next_of_its_id(
    autojump_clock: object,
) -> None:
    told: list[Progress] = []

    async def keep(request: Request, progress: Progress) -> Reply | Failure:
        told.append(progress)
        await trio.sleep(5)
        return Failure(request.id, WireError("internal", "done"))

    async with lab(keep) as it:  # type: ignore[arg-type]
        await it.peer.hello()
        await it.client.send_all(it.peer.wire.send(Request(1, "sign", {**SIGN, "progress": True})))
        await wait_all_tasks_blocked()
        await it.client.send_all(it.peer.wire.send(Cancel(1)))
        assert (await it.peer.receive()).error.code == "cancelled"
        await it.client.send_all(it.peer.wire.send(Request(1, "sign", {**SIGN, "progress": True})))
        await wait_all_tasks_blocked()
        told[0]("late", {})
        told[1]("own", {})

        assert (await it.peer.receive()).body["step"] == "own"


async def test_answers_that_nobody_reads_are_bounded(autojump_clock: object) -> None:
    budget = ByteBudget(8)
    large = bytes(MIB)
    all_are_there = trio.Event()

    async def records(request: Request, progress: Progress) -> Reply | Failure:
        await all_are_there.wait()
        return Reply(request.id, {"records": 1}, {"records": large})

    async with lab(records, budget=budget, lockstep=True, max_in_flight=64) as it:  # type: ignore[arg-type]
        await it.peer.hello()
        wire = it.peer.wire
        await it.client.send_all(
            b"".join(wire.send(Request(n, "ledger", {})) for n in range(1, 41))
        )
        await wait_all_tasks_blocked()
        all_are_there.set()
        await wait_all_tasks_blocked()
        # Half of the budget is the most that one process gets.
        assert budget.held <= 4 * MIB
        answers = [await it.peer.receive() for _ in range(40)]
        refused = [answer for answer in answers if isinstance(answer, Failure)]

        assert 1 <= sum(isinstance(answer, Reply) for answer in answers) <= 5
        assert {(answer.error.code, answer.error.retryable) for answer in refused} == {
            ("busy", True)
        }
        await wait_all_tasks_blocked()
        assert budget.held == 0
        assert isinstance(await it.peer.ask("ledger"), Reply)


async def test_a_failure_that_cannot_be_sent_is_answered_all_the_same(
    autojump_clock: object,
) -> None:
    details: dict[str, str | int] = {f"fact{number}": "\U0001f511" * 2048 for number in range(16)}

    async def fail(request: Request, progress: Progress) -> Reply | Failure:
        await trio.lowlevel.checkpoint()
        return Failure(request.id, WireError("invalid_input", "no", details=details))

    async with lab(fail) as it:  # type: ignore[arg-type]
        await it.peer.hello()
        failure = await it.peer.ask("status")

        assert failure.error.code == "internal"


async def test_reply_that_cannot_be_sent_becomes_internal(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        await it.peer.hello()
        # The answer has the shape of a status, which is no answer to this.
        failure = await it.peer.ask("sign", SIGN)

        assert failure.error.code == "internal"
        assert isinstance(await it.peer.ask("status"), Reply)


async def test_drain_closes_an_idle_client_at_once(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        await it.peer.hello()
        it.session.drain()
        farewell = await it.peer.receive()
        await it.done.wait()

        assert farewell.error.code == "shutting_down"
        assert farewell.error.retryable
        assert trio.current_time() == 0


async def test_drain_answers_what_runs_first(autojump_clock: object) -> None:
    work = Work()
    work.waits = True
    async with lab(work) as it:
        await it.peer.hello()
        number = await it.peer.send()
        await wait_all_tasks_blocked()
        it.session.drain()
        await trio.sleep(5)
        work.let(number)
        reply, farewell = await it.peer.receive(), await it.peer.receive()

        assert isinstance(reply, Reply)
        assert farewell.error.code == "shutting_down"


async def test_cut_ends_requests_and_blocked_writes(autojump_clock: object) -> None:
    work = Work()
    async with lab(work, lockstep=True) as it:
        await it.peer.hello()
        await it.peer.send()  # its answer is never read
        await wait_all_tasks_blocked()
        it.session.cut()
        await it.done.wait()

        assert trio.current_time() == 0


async def test_evicted_client_is_told_to_come_back(autojump_clock: object) -> None:
    async with lab(Work()) as it:
        await it.peer.hello()
        it.session.evict()
        farewell = await it.peer.receive()

        assert (farewell.error.code, farewell.error.retryable) == ("busy", True)


async def _send_in_pieces(stream: trio.abc.Stream, data: bytes) -> int:
    """Send as much as is taken; return how many bytes that were."""
    for start in range(0, len(data), 1 << 16):
        try:
            await stream.send_all(data[start : start + (1 << 16)])
        except trio.BrokenResourceError:
            return start
        await wait_all_tasks_blocked()
    return len(data)


async def test_too_many_buffered_bytes_end_the_connection(autojump_clock: object) -> None:
    budget = ByteBudget(1)
    async with lab(Work(), budget=budget) as it:
        await it.peer.hello()
        body = {"digests": {"sha256": bytes(32)}, "accepted": [{"identity": "a", "issuer": "b"}]}
        data = it.peer.wire.send(Request(1, "verify", body, {"bundle": bytes(2 * MIB)}))
        sent = await _send_in_pieces(it.client, data)
        await it.done.wait()

        assert sent < len(data)
        assert budget.held == 0


async def test_bytes_are_given_back_when_the_request_is_done(autojump_clock: object) -> None:
    budget = ByteBudget(64)
    work = Work()
    work.waits = True
    async with lab(work, budget=budget) as it:
        await it.peer.hello()
        body = {"digests": {"sha256": bytes(32)}, "accepted": [{"identity": "a", "issuer": "b"}]}
        await it.peer.send("verify", body, {"bundle": bytes(2 * MIB)})
        await wait_all_tasks_blocked()
        held = budget.held
        work.let(1)
        await it.peer.receive()

        assert held > MIB
        assert budget.held == 0


@pytest.mark.parametrize("length", [0, 3, 4, 20])
async def test_any_cut_in_the_stream_ends_quietly(autojump_clock: object, length: int) -> None:
    async with lab(Work()) as it:
        data = Connection(CLIENT).send(Hello())
        await it.client.send_all(data[:length]) if length else None
        await it.client.aclose()
        await it.done.wait()

        assert trio.current_time() == 0

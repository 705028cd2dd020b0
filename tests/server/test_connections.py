"""Who is let in, with real sockets; and how all connections end together."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from keyless.wire import ConnectionClosed, Hello, Reply, Request, Welcome
from keylessd.server.connections import Connections
from keylessd.server.listen import Listening
from keylessd.server.peer import Credentials
from keylessd.settings import Limits, Settings, Timeouts
from wirepeer import STATUS, WirePeer

pytestmark = pytest.mark.system


class Lab:
    def __init__(self, path: Path, connections: Connections, stop: trio.Event) -> None:
        self.path = path
        self.connections = connections
        self.stop = stop
        self.who = Credentials(pid=os.getpid(), uid=1000, gid=1000)
        self.hold = trio.Event()
        self.running = 0
        self.clients: list[WirePeer] = []

    async def connect(self) -> WirePeer:
        client = WirePeer(await trio.open_unix_socket(str(self.path)))
        self.clients.append(client)
        return client


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen(200)
        sock.setblocking(False)
        yield sock


@asynccontextmanager
async def lab(listener: socket.socket, settings: Settings) -> AsyncIterator[Lab]:
    async def answer(peer: object, request: Request, progress: object) -> Reply:
        it.running += 1
        if request.op == "whoami":
            await it.hold.wait()
            return Reply(request.id, {"identities": []})
        return Reply(request.id, STATUS)

    connections = Connections(
        answer,
        settings=settings,
        own_uid=1000,
        agent="test",
        peer_credentials=lambda _: it.who,
    )
    it = Lab(Path(listener.getsockname()), connections, trio.Event())
    listening = Listening("sign", str(it.path), str(it.path), listener)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(connections.run, [listening], it.stop)
            yield it
            nursery.cancel_scope.cancel()
    for client in it.clients:
        await trio.aclose_forcefully(client.stream)


async def test_a_client_is_served(listener: socket.socket) -> None:
    async with lab(listener, Settings()) as it:
        client = await it.connect()
        await client.hello()

        assert isinstance(await client.ask(), Reply)
        assert it.connections.count == 1


@pytest.mark.parametrize("uid", [0, 1001])
async def test_another_user_is_told_and_closed(listener: socket.socket, uid: int) -> None:
    async with lab(listener, Settings()) as it:
        it.who = Credentials(pid=1, uid=uid, gid=0)
        client = await it.connect()
        farewell, end = await client.receive(), await client.receive()

        assert (farewell.error.code, farewell.error.retryable) == ("not_allowed", False)
        assert isinstance(end, ConnectionClosed)
        assert it.connections.count == 0
        assert it.running == 0


async def test_over_the_limit_of_a_process_others_are_served(listener: socket.socket) -> None:
    async with lab(listener, Settings(limits=Limits(connections_per_process=2))) as it:
        clients = [await it.connect() for _ in range(2)]
        for client in clients:
            assert isinstance(await client.hello(), Welcome)
        refused = await (await it.connect()).receive()
        it.who = Credentials(pid=2, uid=1000, gid=1000)
        other = await it.connect()

        assert (refused.error.code, refused.error.retryable) == ("busy", True)
        assert isinstance(await other.hello(), Welcome)


async def test_a_full_house_makes_room_by_its_idle_guests(listener: socket.socket) -> None:
    limits = Limits(connections=4, connections_per_process=4)
    async with lab(listener, Settings(limits=limits)) as it:
        clients = [await it.connect() for _ in range(4)]
        for client in clients:
            await client.hello()
            await client.ask()
        it.who = Credentials(pid=2, uid=1000, gid=1000)
        other = await it.connect()
        welcome = await other.hello()
        evicted = await clients[0].receive()
        while it.connections.count > 4:
            await trio.lowlevel.checkpoint()

        assert isinstance(welcome, Welcome)
        assert evicted.error.code == "busy"
        assert isinstance(await other.ask(), Reply)
        assert isinstance(await clients[3].ask(), Reply)


async def test_a_full_house_of_busy_guests_refuses(listener: socket.socket) -> None:
    limits = Limits(connections=2, connections_per_process=2)
    async with lab(listener, Settings(limits=limits)) as it:
        for client in [await it.connect() for _ in range(2)]:
            await client.hello()
            await client.send("whoami")
        while it.running < 2:
            await trio.lowlevel.checkpoint()
        it.who = Credentials(pid=2, uid=1000, gid=1000)
        refused = await (await it.connect()).receive()

        assert refused.error.code == "busy"


async def test_a_place_is_free_again_after_any_end(listener: socket.socket) -> None:
    async with lab(listener, Settings(limits=Limits(connections_per_process=1))) as it:
        for number in range(6):
            client = await it.connect()
            assert isinstance(await client.hello(), Welcome)
            await client.ask()
            if number % 2:
                await client.stream.send_all(b"\xff" * 8)
                await client.receive()
            await client.stream.aclose()
            while it.connections.count:
                await trio.lowlevel.checkpoint()


async def test_a_process_that_only_sends_garbage_is_barred(listener: socket.socket) -> None:
    async with lab(listener, Settings()) as it:
        codes = []
        for _ in range(60):
            client = await it.connect()
            try:
                await client.stream.send_all(b"\xff" * 8)
                farewell = await client.receive()
            except trio.BrokenResourceError:
                farewell = await client.receive()
            codes.append(farewell.error.code)
            await client.stream.aclose()
        it.who = Credentials(pid=2, uid=1000, gid=1000)
        other = await it.connect()

        assert codes[0] == "too_large"
        assert codes[-1] == "busy"
        assert isinstance(await other.hello(), Welcome)


async def test_who_connects_and_leaves_is_barred_too(listener: socket.socket) -> None:
    async with lab(listener, Settings()) as it:
        for _ in range(60):
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                client.connect(str(it.path))
        last = await it.connect()

        assert (await last.receive()).error.code == "busy"
        assert it.connections.count == 0


async def test_drain_refuses_new_ones_and_answers_what_runs(listener: socket.socket) -> None:
    async with lab(listener, Settings()) as it:
        client, idle = await it.connect(), await it.connect()
        await client.hello()
        await idle.hello()
        number = await client.send("whoami")
        while not it.running:
            await trio.lowlevel.checkpoint()
        it.stop.set()
        farewell = await idle.receive()
        ended_early = it.connections.ended.is_set()
        it.hold.set()
        reply = await client.receive()
        goodbye = await client.receive()
        await it.connections.ended.wait()

        assert farewell.error.code == goodbye.error.code == "shutting_down"
        assert not ended_early
        assert isinstance(reply, Reply)
        assert reply.id == number


async def test_cut_ends_what_runs(listener: socket.socket) -> None:
    async with lab(listener, Settings()) as it:
        client = await it.connect()
        await client.hello()
        await client.send("whoami")
        while not it.running:
            await trio.lowlevel.checkpoint()
        it.stop.set()
        await trio.lowlevel.checkpoint()
        it.connections.cut()
        await it.connections.ended.wait()

        assert it.connections.count == 0


async def test_a_fault_in_one_connection_ends_only_that(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab(listener, Settings()) as it:
        healthy = await it.connect()
        await healthy.hello()
        monkeypatch.setattr(
            "keylessd.server.connections.describe", lambda *_: (_ for _ in ()).throw(KeyError)
        )
        broken = await it.connect()
        end = await broken.receive()

        assert isinstance(end, ConnectionClosed)
        assert isinstance(await healthy.ask(), Reply)


async def test_new_limits_hold_for_new_connections(listener: socket.socket) -> None:
    async with lab(listener, Settings()) as it:
        first = await it.connect()
        await first.hello()
        it.connections.apply(
            Settings(limits=Limits(connections_per_process=1), timeouts=Timeouts(hello=0.01))
        )
        refused = await (await it.connect()).receive()

        assert refused.error.code == "busy"
        assert isinstance(await first.ask(), Reply)


async def test_two_processes_get_the_same_share(listener: socket.socket) -> None:
    """One connection of a quiet process is answered while thirty of a loud one wait in line."""
    async with lab(listener, Settings()) as it:
        loud = []
        for _ in range(30):
            client = await it.connect()
            await client.hello()
            loud.append(client)
        it.who = Credentials(pid=2, uid=1000, gid=1000)
        quiet = await it.connect()
        await quiet.hello()
        for client in loud:
            wire = client.wire
            await client.stream.send_all(
                b"".join(wire.send(Request(number, "status", {})) for number in range(1, 31))
            )
        before = it.running
        await quiet.ask()
        served_before_quiet = it.running - before

        assert served_before_quiet < 100


@pytest.mark.parametrize("said", [b"", b"abc"], ids=["nothing", "something"])
async def test_who_has_left_is_not_served(autojump_clock: object, said: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(said)
    theirs.close()
    connections = Connections(
        answer=None,  # type: ignore[arg-type]  # nobody is served
        settings=Settings(),
        own_uid=1000,
        agent="test",
        peer_credentials=lambda _: Credentials(pid=7, uid=1000, gid=1000),
    )
    assert not connections.admit(ours)
    assert ours.fileno() == -1
    assert connections.count == 0


async def test_who_has_only_finished_sending_is_served(listener: socket.socket) -> None:
    async with lab(listener, Settings()) as it:
        client = await it.connect()
        data = client.wire.send(Hello()) + client.wire.send(Request(1, "whoami", {}))
        await client.stream.send_all(data)
        await client.stream.send_eof()
        assert isinstance(await client.receive(), Welcome)

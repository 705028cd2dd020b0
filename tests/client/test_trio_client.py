"""The client for trio programs, over memory streams; the daemon is a task."""

import os

import pytest
import trio
import trio.testing

from fakedaemon import answer, fake_daemon, unless_known, with_events
from keyless import Digest, KeylessError, Where
from keyless.trio_client import client_on, open_client
from keyless.wire import (
    NEED_DATA,
    SERVER,
    Cancel,
    Connection,
    ConnectionClosed,
    Failure,
    Hello,
    Request,
    Welcome,
    WireError,
)

DIGEST = Digest("sha256", bytes(32))


async def inline(function, *args):
    return function(*args)


class Daemon:
    """Serves one stream; `answers` as for fakedaemon."""

    def __init__(self, answers=answer, **wire):
        self.answers = answers
        self.wire = Connection(SERVER, **wire)
        self.requests = []
        self.cancelled = []
        self.client_stream, self.stream = trio.testing.memory_stream_pair()

    async def run(self):
        while True:
            event = self.wire.next_event()
            if event is NEED_DATA:
                self.wire.receive_data(await self.stream.receive_some(65_536))
            elif isinstance(event, ConnectionClosed):
                return
            elif isinstance(event, Hello):
                await self.stream.send_all(self.wire.send(Welcome(limits=self.wire.limits)))
            elif isinstance(event, Cancel):
                self.cancelled.append(event.id)
                await self.stream.send_all(
                    self.wire.send(Failure(event.id, WireError("cancelled", "cancelled")))
                )
            elif isinstance(event, Request):
                self.requests.append(event)
                given = self.answers(event)
                if given == "drop":
                    await self.stream.aclose()
                    return
                for message in given if isinstance(given, list) else [given] if given else []:
                    await self.stream.send_all(self.wire.send(message))


async def with_daemon(daemon, use, **options):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.run)
        options.setdefault("run_sync", inline)
        async with client_on(daemon.client_stream, **options) as client:
            await use(client)


async def test_many_tasks_share_one_connection(autojump_clock):
    daemon, found = Daemon(max_in_flight=3), {}

    async def use(client):
        async def one(number):
            digest = Digest("sha256", bytes([number]) * 32)
            found[number] = (await client.sign(digest)).bundle

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(one, number)

    await with_daemon(daemon, use, window=8)
    assert {n: bundle[7:9] for n, bundle in found.items()} == {n: b"%02x" % n for n in range(30)}


async def test_events_files_and_digests(autojump_clock, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    told = []

    async def use(client):
        await client.sign(tmp_path / "f", on_event=lambda *event: told.append(event))
        daemon.answers = unless_known(set())
        await client.sign(DIGEST, where=Where(trust_config=b"{}"))
        daemon.answers = lambda r: (
            answer(r)
            if "sha384" in r.body["digests"]
            else Failure(r.id, WireError("need_digest", "x", details={"alg": "sha384"}))
        )
        assert (await client.verify(tmp_path / "f", b"{}", key=b"PEM")).steps
        with pytest.raises(KeylessError) as caught:
            await client.verify(DIGEST, b"{}", key=b"PEM")
        assert caught.value.code == "need_digest"
        readable, writable = os.pipe()
        os.write(writable, b"x")
        os.close(writable)
        await client.verify(f"/dev/fd/{readable}", b"{}", key=b"PEM")
        os.close(readable)

    daemon = Daemon(with_events)
    await with_daemon(daemon, use)
    assert len(daemon.requests[-1].body["digests"]) == 3
    assert told == [("certificate", {"reused": 1}), ("log", {"log": "rekor"})]
    assert [sorted(r.attachments) for r in daemon.requests[1:3]] == [[], ["trust_config"]]


async def test_no_thread_where_no_file_is_read(autojump_clock):
    async def no_thread(function, *args):
        pytest.fail(f"{function.__name__} in a thread")

    async def use(client):
        where = Where(trusted_root=b"{}")
        await client.sign(DIGEST, where=where)
        await client.verify(DIGEST, b"bundle", key=b"key", where=where)

    await with_daemon(Daemon(), use, run_sync=no_thread, environ={})


async def test_other_operations(autojump_clock):
    async def use(client):
        assert (await client.sign_batch([("a", DIGEST)])).subjects == 1
        assert (await client.attest(statement=b"{}")).bundle == b"{}"
        assert await client.reload() is None
        for ask in (
            client.status,
            client.whoami,
            client.trust_status,
            client.trust_refresh,
            client.ledger,
        ):
            with pytest.raises(KeylessError, match="no answer"):
                await ask()
        with pytest.raises(KeylessError) as caught:
            await client.attest(predicate=b"")
        assert caught.value.code == "bad_request"

    await with_daemon(Daemon(), use)


async def test_a_cancelled_task_cancels_its_request(autojump_clock):
    daemon = Daemon(lambda r: None if r.id == 1 else answer(r))

    async def use(client):
        with trio.move_on_after(5) as scope:
            await client.sign(DIGEST)
        assert scope.cancelled_caught
        assert (await client.sign(DIGEST)).identity  # the connection is as good as before

    await with_daemon(daemon, use)
    assert daemon.cancelled == [1]


async def test_a_lost_connection_fails_everybody(autojump_clock):
    async def use(client):
        failed = []

        async def one():
            with pytest.raises(KeylessError) as caught:
                await client.sign(DIGEST)
            failed.append(caught.value.code)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one)
        await one()
        assert failed == ["daemon_failed"] * 4

    await with_daemon(Daemon(lambda r: "drop" if r.id == 3 else None), use)


async def test_bytes_one_at_a_time(autojump_clock):
    daemon = Daemon()

    async def trickle():
        while trio.testing.memory_stream_pump(
            daemon.stream.send_stream, daemon.client_stream.receive_stream, max_bytes=1
        ):
            await trio.lowlevel.checkpoint()

    daemon.stream.send_stream.send_all_hook = trickle

    async def use(client):
        assert (await client.sign(DIGEST)).identity

    await with_daemon(daemon, use)


async def test_over_a_real_socket(tmp_path):
    path = str(tmp_path / "sign.sock")
    with fake_daemon(path):
        async with open_client(socket_path=path, environ={}, autostart=False) as client:
            (tmp_path / "f").write_bytes(b"x")
            assert (await client.sign(tmp_path / "f")).identity


async def test_nobody_listens(tmp_path):
    with pytest.raises(KeylessError) as caught:
        async with open_client(socket_path=str(tmp_path / "s"), environ={}, autostart=False):
            pass
    assert caught.value.code == "daemon_unreachable"

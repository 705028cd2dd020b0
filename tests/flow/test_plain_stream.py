"""A stream over one socket: trio's own rules for streams, and what it adds to them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import check_two_way_stream, wait_all_tasks_blocked

from keylessd.flow.plain_stream import PlainStream


@asynccontextmanager
async def opened(
    make: Callable[[], Awaitable[tuple[PlainStream, PlainStream]]],
) -> AsyncIterator[tuple[PlainStream, PlainStream]]:
    left, right = await make()
    async with left, right:
        yield left, right


async def pair() -> tuple[PlainStream, PlainStream]:
    left, right = socket.socketpair()
    return PlainStream(left), PlainStream(right)


async def clogged() -> tuple[PlainStream, PlainStream]:
    left, right = await pair()
    for one in (left, right):
        while one.send_now(bytes(65536)):
            pass
    return left, right


async def test_every_rule_of_a_stream_holds() -> None:
    await check_two_way_stream(pair, clogged)


async def test_what_is_sent_now_is_there_without_a_checkpoint() -> None:
    async with opened(pair) as (left, right):
        assert left.send_now(b"hello") == 5
        assert await right.receive_some() == b"hello"


async def test_only_what_the_system_takes_is_sent_now() -> None:
    async with opened(pair) as (left, right):
        data = bytes(1 << 22)
        sent = left.send_now(data)

        assert 0 < sent < len(data)
        assert left.send_now(data) == 0
        received = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.send_all, data[sent:])
            while received < len(data):
                received += len(await right.receive_some())


async def test_nothing_is_sent_now_into_the_middle_of_something_else() -> None:
    async with opened(clogged) as (left, _right), trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, b"x")
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            left.send_now(b"y")
        nursery.cancel_scope.cancel()


async def test_sending_now_to_who_has_gone_or_after_the_end() -> None:
    async with opened(pair) as (left, right):
        right.close()
        with pytest.raises(trio.BrokenResourceError):
            left.send_now(b"x")
        left.close()
        left.close()
        with pytest.raises(trio.ClosedResourceError):
            left.send_now(b"x")


async def test_a_wait_ends_when_the_stream_is_closed() -> None:
    async with opened(pair) as (left, _right):

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await left.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            left.close()


async def test_the_socket_of_another_stream_is_taken_over() -> None:
    left, right = socket.socketpair()
    theirs = trio.SocketStream(trio.socket.from_stdlib_socket(left))
    ours = PlainStream.of(theirs)
    right.sendall(b"hello")

    assert await ours.receive_some(3) == b"hel"
    assert theirs.socket.fileno() == -1
    ours.close()
    right.close()


async def test_a_reset_is_told_as_a_broken_stream() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    ours = PlainStream(socket.create_connection(listener.getsockname()))
    theirs, _ = listener.accept()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    with pytest.raises(trio.BrokenResourceError, match="reset"):
        await ours.receive_some()
    ours.close()
    listener.close()

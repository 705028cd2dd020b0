"""Frames on their way to a client, over a socket that takes as much as it likes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from keylessd.flow.plain_stream import PlainStream
from keylessd.server.outbox import Outbox

SECONDS = 30.0
HUGE = 1 << 22  # bytes; no socket takes them at once


@asynccontextmanager
async def outbox_and_client() -> AsyncIterator[tuple[Outbox, PlainStream]]:
    ours, theirs = socket.socketpair()
    async with PlainStream(ours) as stream, PlainStream(theirs) as client:
        yield Outbox(stream, seconds=SECONDS, send_now=stream.send_now), client


async def read(client: PlainStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await client.receive_some()
    return data


async def test_what_fits_goes_at_once() -> None:
    async with outbox_and_client() as (outbox, client):
        outbox.put(b"one")
        outbox.put(b"two")
        with assert_no_checkpoints():
            await outbox.flush()

        assert outbox.unsent == outbox.waiting == 0
        assert not outbox.is_flushing
        assert await read(client, 6) == b"onetwo"


async def test_the_rest_follows_and_then_what_was_put_meanwhile() -> None:
    async with outbox_and_client() as (outbox, client), trio.open_nursery() as nursery:
        outbox.put(b"a" * HUGE)
        nursery.start_soon(outbox.flush)
        await wait_all_tasks_blocked()
        assert outbox.is_flushing
        assert 0 < outbox.unsent < HUGE

        outbox.put(b"b")
        nursery.start_soon(outbox.flush)
        await wait_all_tasks_blocked()
        outbox.put(b"c")
        assert await read(client, HUGE + 2) == b"a" * HUGE + b"bc"
    assert outbox.unsent == 0


async def test_a_client_that_does_not_read_has_its_time(autojump_clock: object) -> None:
    async with outbox_and_client() as (outbox, _client):
        outbox.put(bytes(HUGE))
        began = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await outbox.flush()

        assert trio.current_time() - began == pytest.approx(SECONDS)


async def test_a_client_that_has_gone_is_told_of() -> None:
    async with outbox_and_client() as (outbox, client):
        client.close()
        outbox.put(b"one")
        with pytest.raises(trio.BrokenResourceError):
            await outbox.flush()


async def test_room_is_made_by_what_goes_at_once() -> None:
    async with outbox_and_client() as (outbox, _client), trio.open_nursery() as nursery:
        outbox.put(bytes(2000))
        nursery.start_soon(outbox.room, 1000)
        await wait_all_tasks_blocked()
        await outbox.flush()

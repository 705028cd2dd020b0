"""A stamp is taken only if it is granted, ours, and fresh."""

from __future__ import annotations

import random

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylessd.clock import SystemClock
from keylessd.core.timestamp_token import Token
from keylessd.errors import ServiceRefusedError, ServiceReplyError
from keylessd.sandbox.tsa import TimestampAuthority
from keylessd.sandbox.tsa_app import make_app
from keylessd.sandbox.vault import MemoryVault
from keylessd.services import tsa
from keylessd.services.http import HttpClient, HttpReply, new_client

URL = "https://tsa.example/api/v1/timestamp"
AUTHORITY = make_app(TimestampAuthority.open(MemoryVault(), clock=SystemClock()))


async def stamped(request: httpx.Request) -> httpx.Response:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(AUTHORITY), base_url="http://tsa"
    ) as client:
        return await client.post(
            "/api/v1/timestamp", content=request.content, headers=dict(request.headers)
        )


async def ask(answer, *, nonce: int = 5, signature: bytes = b"signature", **more: bool) -> bytes:
    async with new_client(transport=httpx.MockTransport(answer)) as client:
        http = HttpClient(client, rng=random.Random(0), user_agent="test/1")
        return await tsa.stamp(http, URL, signature, nonce=nonce, **more)


async def replay(nonce: int = 5, signature: bytes = b"signature") -> bytes:
    return await ask(stamped, nonce=nonce, signature=signature)


def answering(status: int, body: bytes, kind: str = "application/timestamp-reply"):
    return lambda _: httpx.Response(status, content=body, headers={"content-type": kind})


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    "kind", ["application/timestamp-reply", "Application/Timestamp-Reply; charset=x"]
)
async def test_a_stamp_is_taken(autojump_clock, status, kind):
    body = await replay()
    assert await ask(answering(status, body, kind)) == body


@pytest.mark.parametrize("wanted", [True, False])
async def test_certificates_are_in_it_if_they_are_wanted(autojump_clock, wanted):
    token = Token.parse(await ask(stamped, certificates=wanted))
    assert bool(token.data.certificates) is wanted


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"", "application/timestamp-reply"),
        (200, b"\x30\x03\x02\x01\x00", "text/html"),
        (200, b"\x30\x05\x30\x03\x02\x01\x00", "application/timestamp-reply"),  # granted, empty
        (200, b"\x30\x05\x30\x03\x02\x01\x02", "application/timestamp-reply"),  # rejected
        (302, b"", "application/timestamp-reply"),
    ],
    ids=["empty", "content type", "granted without a stamp", "rejected", "redirect"],
)
async def test_what_is_no_stamp(autojump_clock, status, body, kind):
    with pytest.raises(ServiceReplyError):
        await ask(answering(status, body, kind))


async def test_an_error_that_looks_like_a_stamp(autojump_clock):
    with pytest.raises(ServiceRefusedError):
        await ask(answering(400, b'{"code":400,"message":"no"}'))


async def test_a_stamp_with_another_nonce(autojump_clock):
    with pytest.raises(ServiceReplyError, match="nonce"):
        await ask(answering(200, await replay(nonce=6)))


async def test_a_stamp_of_something_else(autojump_clock):
    with pytest.raises(ServiceReplyError, match="something else"):
        await ask(answering(200, await replay(signature=b"other")))


async def test_a_stamp_cut_short(autojump_clock):
    whole = await replay()
    for length in range(0, len(whole), 7):
        with pytest.raises(ServiceReplyError):
            tsa.check_stamp(
                HttpReply(200, httpx.Headers(), whole[:length], URL), b"signature", nonce=5
            )


@given(st.binary(max_size=80))
def test_only_the_declared_error_escapes(body):
    with pytest.raises(ServiceReplyError):
        tsa.check_stamp(HttpReply(200, httpx.Headers(), body, URL), b"signature", nonce=5)

"""What goes through a proxy, and what must not: real sockets on this machine."""

from __future__ import annotations

import random
from functools import partial

import pytest
import trio

from keylessd.errors import InvalidInputError
from keylessd.services.http import HttpClient, new_client

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"


class Server:
    """Answers every request with a word, and keeps the first line of each."""

    def __init__(self, word: bytes) -> None:
        self.word = word
        self.asked: list[bytes] = []
        self.port = 0

    async def run(self, *, task_status) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        await trio.serve_listeners(self._answer, [listener], task_status=task_status)

    async def _answer(self, stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        self.asked.append(head.split(b"\r\n")[0])
        await stream.send_all(ANSWER + self.word)
        await stream.aclose()


async def test_what_is_asked_of_this_machine_never_goes_through_the_proxy():
    proxy, local = Server(b"px"), Server(b"me")
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        await nursery.start(local.run)
        async with new_client(proxy=f"http://127.0.0.1:{proxy.port}") as client:
            http = HttpClient(
                client,
                rng=random.Random(1),
                user_agent="test",
                cleartext_hosts=frozenset({"far.example"}),
            )
            get = partial(http.send, "GET", service="s", deadline_seconds=10)
            assert (await get(f"http://127.0.0.1:{local.port}/token")).body == b"me"
            assert (await get(f"http://localhost:{local.port}/token")).body == b"me"
            assert proxy.asked == []
            assert (await get("http://far.example/x")).body == b"px"
        assert proxy.asked == [b"GET http://far.example/x HTTP/1.1"]
        assert len(local.asked) == 2
        nursery.cancel_scope.cancel()


async def test_what_answers_this_machine_alone_is_asked_directly():
    proxy, near = Server(b"px"), Server(b"me")
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        await nursery.start(near.run)

        class Named(trio.abc.HostnameResolver):
            async def getaddrinfo(self, *_where, **_how):
                return [(2, 1, 6, "", ("127.0.0.1", near.port))]

            async def getnameinfo(self, *_where):
                raise NotImplementedError

        trio.socket.set_custom_hostname_resolver(Named())
        async with new_client(proxy=f"http://127.0.0.1:{proxy.port}") as client:
            http = HttpClient(client, rng=random.Random(1), user_agent="test")
            reaching = http.reaching(frozenset({"metadata.example"}))
            get = partial(reaching.send, "GET", service="s", deadline_seconds=10)
            assert (await get("http://metadata.example/token")).body == b"me"
            # The other client does not go there, and this one goes to nobody else.
            for one, host in ((http, "metadata.example"), (reaching, "far.example")):
                with pytest.raises(InvalidInputError, match="clear text"):
                    await one.send("GET", f"http://{host}/x", service="s", deadline_seconds=10)
        assert proxy.asked == []
        nursery.cancel_scope.cancel()

"""The loopback listener on real sockets, and the page it ends on."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from contextlib import suppress
from html.parser import HTMLParser

import pytest
import trio
from trio.testing import memory_stream_pair

from keylessd.errors import IdentityError
from keylessd.identity.login import listener as module
from keylessd.identity.login import page
from keylessd.identity.login.answer import Asked, Code, Refusal
from keylessd.identity.login.browser import loopback
from keylessd.identity.login.listener import Listener, open_loopback
from keylessd.secret import Secret
from login_rig import Response, exchange

STATE = "s" * 32


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_only_this_machine_is_listened_to_and_the_port_is_ours_alone():
    port, sockets = open_loopback()
    try:
        hosts = {one.getsockname()[0] for one in sockets}
        assert hosts == ({"127.0.0.1", "::1"} if has_ipv6() else {"127.0.0.1"})
        assert {one.getsockname()[1] for one in sockets} == {port}
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="in use"):
                thief.bind(("127.0.0.1", port))
    finally:
        for one in sockets:
            one.close()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_port_that_somebody_has_on_the_other_address_is_not_taken(monkeypatch):
    real, tries = module._bound, []

    def bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
        if family == socket.AF_INET6:
            tries.append(port)
            if len(tries) < 3:
                raise OSError(98, "in use")
        return real(family, host, port)

    monkeypatch.setattr(module, "_bound", bound)
    port, sockets = open_loopback()
    for one in sockets:
        one.close()
    assert len(tries) == 3
    assert tries[-1] == port

    def taken(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(98, "in use")
        return real(family, host, port)

    monkeypatch.setattr(module, "_bound", taken)
    with pytest.raises(IdentityError, match="no port"):
        open_loopback()


async def test_a_browser_over_a_real_socket():
    port, listeners = loopback()
    asked = Asked(port, Secret(STATE), "https://i", names_itself=False)
    settled = []

    async def settle(answer: Code | Refusal):
        settled.append(answer)
        return page.signed_in("ada@example.org", "https://i"), True

    async def ask(target: str) -> Response:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        raw = f"GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
        found = await exchange(stream, raw)
        assert found is not None
        return found

    pages = []

    async def person() -> None:
        slow = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(70)]
        for stream in slow:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(b"GET ")
        pages.append(await ask("/auth/callback?code=c&state=wrong"))
        pages.append(await ask(f"/auth/callback?code=c&state={STATE}"))
        for stream in slow:
            await stream.aclose()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(person)
            await Listener(asked, settle).run(listeners)
            for one in listeners:
                await one.aclose()
    assert settled == [Code(Secret("c"))]
    assert [one.status for one in pages] == [400, 200]
    assert "ada@example.org" in pages[1].body
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_the_oldest_connections_go_when_there_are_many(autojump_clock):
    asked = Asked(4711, Secret(STATE), "https://i", names_itself=False)

    async def settle(answer: Code | Refusal):
        raise AssertionError("nobody answered")

    one, streams = Listener(asked, settle), []
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            ours, theirs = memory_stream_pair()
            streams.append(ours)
            nursery.start_soon(one.serve, theirs)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 64
        began = trio.current_time()
        for stream in streams:
            with suppress(trio.BrokenResourceError):
                assert await stream.receive_some(1) == b""
    assert trio.current_time() - began == pytest.approx(10)  # the rest has its time, and no more


# --- the page ------------------------------------------------------------------------------


class Parsed(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</p><style>*{}</style>",
    "{style}{body}",
    "&lt;b&gt;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_gets_into_the_page(text):
    pages = [page.signed_in(text, text), page.failed(text), page.refused(400, text)]
    plain = [page.signed_in("x", "x"), page.failed("x"), page.refused(400, "x")]
    for found, harmless in zip(pages, plain, strict=True):
        assert [tag for tag, _ in Parsed(found.text).tags] == [
            tag for tag, _ in Parsed(harmless.text).tags
        ]
        assert text in "".join(Parsed(found.text).texts)


def test_the_policy_allows_the_style_and_nothing_else():
    text = page.signed_in("ada@example.org", "https://i").text
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = page.HEADERS["Content-Security-Policy"]
    assert f"style-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    found = Parsed(text)
    assert not {"script", "link", "img", "iframe", "a", "form"} & {tag for tag, _ in found.tags}
    names = {name for _, attributes in found.tags for name in attributes}
    assert names <= {"lang", "charset", "name", "content", "class", "aria-hidden"}
    assert "url(" not in style[1]
    assert "@import" not in style[1]

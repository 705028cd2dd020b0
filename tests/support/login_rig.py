"""Logs in at an issuer in process, as a person with a browser would."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio
from trio.testing import memory_stream_pair

from keylessd.identity.session_facts import SessionStatus
from keylessd.ops.login import LoginOrder
from keylessd.ops.owner import Owner
from keylessd.services.http import new_client
from keylessd.trust.where import Where
from ops_rig import ME, Rig, TrioClock, open_rig

PORT = 4711
ADA = "ada@example.org"


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts connections that connect() makes."""

    def __init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[trio.abc.Stream](1000)
        self.is_open = True

    def connect(self) -> trio.abc.Stream:
        if not self.is_open:
            raise OSError("nobody listens")
        ours, theirs = memory_stream_pair()
        self._sender.send_nowait(theirs)
        return ours

    async def accept(self) -> trio.abc.Stream:
        return await self._receiver.receive()

    async def aclose(self) -> None:
        self.is_open = False
        await trio.lowlevel.checkpoint()


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: str


async def exchange(stream: trio.abc.Stream, raw: bytes) -> Response | None:
    """Send *raw* and return the whole answer, or None if there was none."""
    data = bytearray()
    async with stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(raw)
            while chunk := await stream.receive_some(65536):
                data += chunk
    if not data:
        return None
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return Response(int(lines[0].split()[1]), headers, body.decode())


def get(target: str, host: str = f"localhost:{PORT}", *more: str) -> bytes:
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass
class LoginRig:
    rig: Rig
    web: httpx.AsyncClient
    clock: TrioClock
    listeners: list[MemoryListener] = field(default_factory=list)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    pages: list[Response] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)

    def listen(self) -> tuple[int, list[trio.abc.Listener[trio.abc.Stream]]]:
        self.listeners.append(MemoryListener())
        return PORT, [self.listeners[-1]]

    def tell(self, name: str, facts: Mapping[str, str | int]) -> None:
        self.told.append((name, dict(facts)))
        self.news.set()

    async def heard(self) -> dict[str, Any]:
        """Return the facts of the next event."""
        await self.news.wait()
        self.news = trio.Event()
        return self.told[-1][1]

    async def _ask(self, method: str, url: str, **form: Any) -> httpx.Response:
        response = await self.web.send(httpx.Request(method, url, **form))
        await response.aread()
        return response

    async def consent(self, url: str, identity: str | None) -> str:
        """Let a person answer the issuer's page; return where the browser is sent."""
        found = await self._ask("GET", url)
        if found.status_code == 200:
            handle = re.search(r'name="request" value="([^"]+)"', found.text)
            assert handle is not None, found.text
            form = {"request": html.unescape(handle[1])}
            form |= {"answer": "no"} if identity is None else {"identity": identity}
            parts = urlsplit(url)
            found = await self._ask(
                "POST", f"{parts.scheme}://{parts.netloc}/auth/answer", data=form
            )
        return found.headers.get("location", found.text)

    async def callback(self, location: str) -> Response:
        """Bring the browser back to the listener."""
        parts = urlsplit(location)
        assert (parts.scheme, parts.netloc) == ("http", f"localhost:{PORT}")
        stream = self.listeners[-1].connect()
        page = await exchange(stream, get(f"{parts.path}?{parts.query}"))
        assert page is not None
        self.pages.append(page)
        return page

    async def browse(self, identity: str | None = ADA) -> None:
        facts = await self.heard()
        await self.callback(await self.consent(facts["url"], identity))

    async def login(
        self, who: str | None = ADA, *, owner: Owner = ME, **order: Any
    ) -> SessionStatus:
        """Log in by a browser; return the session."""
        order.setdefault("where", Where())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.browse, who)
            return await self.rig.house.login.login(LoginOrder(owner=owner, **order), self.tell)

    def status(self, owner: Owner = ME) -> list[SessionStatus]:
        return self.rig.house.sessions.status(owner.uid)

    @property
    def token_requests(self) -> int:
        faults = self.rig.faults["oidc"]
        return sum(1 for request in faults.requests if request.path == "/token")


@asynccontextmanager
async def open_login(tmp_path: Path, **options: Any) -> AsyncIterator[LoginRig]:
    clock = TrioClock()
    house_options = options.pop("house_options", {})
    made: list[LoginRig] = []

    def listen() -> tuple[int, list[trio.abc.Listener[trio.abc.Stream]]]:
        return made[0].listen()

    async with open_rig(
        tmp_path,
        clock=clock,
        house_options={"listen": listen, **house_options},
        **options,
    ) as rig:
        # It writes no log, as no browser writes into ours.
        web = new_client(transport=rig.sigstore.transport())
        async with web:
            made.append(LoginRig(rig, web, clock))
            yield made[0]

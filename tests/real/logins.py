"""The daemon's own login flows and sessions in this process, in front of real issuers."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import trio

from keylessd.clock import SystemClock
from keylessd.identity.keep import Keep, MemoryKeep, SessionKey
from keylessd.identity.login.browser import BrowserLogin
from keylessd.identity.login.device import DeviceLogin
from keylessd.identity.login.flows import Desk, LoginRequest, Tell
from keylessd.identity.login.pasted import PastedLogin
from keylessd.identity.provider import Providers
from keylessd.identity.renewal import Renewer
from keylessd.identity.session_facts import Login, SessionStatus
from keylessd.identity.sessions import Sessions
from keylessd.services.http import HttpClient, new_client

UID = 1000
INSTANCE = "real"
CLIENT = "sigstore"


class SleepyClock:
    """The machine's clocks, of which the one that counts suspend can be put forward.

    As after a sleep through which somebody held the wall clock: what is held is over, and what
    issuers give out is as fresh as ever.
    """

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._slept = 0.0

    def now(self) -> datetime:
        return self._clock.now()

    def boottime(self) -> float:
        return self._clock.boottime() + self._slept

    def suspend(self, seconds: float) -> None:
        """Sleep."""
        self._slept += seconds


@dataclass
class Rooms:
    """What the daemon has for people who log in."""

    nursery: trio.Nursery
    clock: SleepyClock
    sessions: Sessions
    browser: BrowserLogin
    device: DeviceLogin
    pasted: PastedLogin

    async def log_in(
        self,
        issuer: str,
        person: Callable[[Mapping[str, str | int]], object],
        *,
        flow: str = "browser",
        connector: str | None = None,
        identity: str | None = None,
    ) -> SessionStatus:
        """Begin a session: *person* gets what the client would be told, in a thread."""
        request = LoginRequest(UID, issuer, CLIENT, connector, identity)

        def tell(name: str, facts: Mapping[str, str | int]) -> None:
            del name
            self.nursery.start_soon(trio.to_thread.run_sync, person, facts)

        login = await self._flow(flow)(request, tell)
        who = login.held.token.identity_hint
        key = SessionKey(UID, INSTANCE, issuer, CLIENT, who)
        return await self.sessions.begin(key, login, as_default=True)

    def _flow(self, name: str) -> Callable[[LoginRequest, Tell], Awaitable[Login]]:
        rooms = {"browser": self.browser, "device": self.device, "oob": self.pasted}
        return rooms[name].login


@asynccontextmanager
async def open_rooms(keep: Keep | None = None) -> AsyncIterator[Rooms]:
    """Open everything; nobody is logged in."""
    clock, rng = SleepyClock(), random.Random(0)
    async with new_client() as transport, trio.open_nursery() as nursery:
        http = HttpClient(transport, rng=rng, user_agent="keylessd/tests")
        providers = Providers(http, clock=clock, nursery=nursery)
        desk = Desk(http, providers, clock, rng, secrets.token_bytes)
        renewer = Renewer(
            http, providers=providers, clock=clock, rng=rng, keep=keep or MemoryKeep()
        )
        sessions = Sessions(renewer, nursery=nursery)
        yield Rooms(
            nursery, clock, sessions, BrowserLogin(desk), DeviceLogin(desk), PastedLogin(desk)
        )
        nursery.cancel_scope.cancel()

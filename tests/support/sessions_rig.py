"""Sessions over an issuer and a store that do what a test wants."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import trio

from issuer_rig import EMAIL, ISSUER, IssuerRig, open_issuer
from keylessd.identity.keep import KeepError, KeptSession, SessionKey
from keylessd.identity.moment import Moment
from keylessd.identity.renewal import Renewer
from keylessd.identity.session import Session, hold
from keylessd.identity.session_facts import Caps, Login
from keylessd.identity.sessions import Sessions
from keylessd.identity.token import parse_token
from keylessd.secret import Secret

KEY = SessionKey(1000, "public", ISSUER, "sigstore", EMAIL)


class Keeper:
    """A store that does what a test wants, and remembers the order of things."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.outlives = True
        self.kept: dict[SessionKey, KeptSession] = {}
        self.broken = False
        self.slow = 0.0

    async def load(self, owner_uid: int) -> list[KeptSession]:
        await trio.sleep(self.slow)
        if self.broken:
            raise KeepError("the keyring is locked")
        return [one for one in self.kept.values() if one.key.owner_uid == owner_uid]

    async def save(self, session: KeptSession) -> None:
        await trio.sleep(self.slow)
        if self.broken:
            raise KeepError("the keyring is locked")
        self.log.append(f"save {session.refresh_token.reveal()}")
        self.kept[session.key] = session

    async def forget(self, key: SessionKey) -> None:
        await trio.sleep(self.slow)
        if self.broken:
            raise KeepError("the keyring is locked")
        self.log.append("forget")
        self.kept.pop(key, None)


@dataclass
class Rig:
    it: IssuerRig
    sessions: Sessions
    keeper: Keeper
    log: list[str]
    number: int = 0
    certified: set[bytes] = field(default_factory=set)

    def answer(self, *, rotate: bool = True, delay: float = 0.0, **claims: Any) -> Any:
        async def answered(form: dict[str, str]) -> httpx.Response:
            self.log.append(f"use {form['refresh_token']}")
            await trio.sleep(delay)
            self.number += 1
            body = {"id_token": self.it.issuer.token(jti=str(self.number), **claims)}
            if rotate:
                body["refresh_token"] = f"r-{self.number}"
            return httpx.Response(200, json=body)

        return answered

    def refuse(self, status: int, error: str, description: str = "", **headers: str) -> Any:
        body = {"error": error, "error_description": description}
        return httpx.Response(status, json=body, headers=headers)

    async def begin(
        self, *, lifetime: int = 3600, refresh: str | None = "r-0", **changes: Any
    ) -> Session:
        issuer = self.it.issuer
        issuer.lifetime = lifetime
        token = parse_token(Secret(issuer.token(jti="0")))
        sent = Moment.now(self.it.clock)
        held = hold(token, sent=sent, expires_in=None, rng=self.sessions._renewer.rng)
        secret = None if refresh is None else Secret(refresh)
        key = SessionKey(**{**{n: getattr(KEY, n) for n in KEY.__slots__}, **changes})
        await self.sessions.begin(key, Login(held, secret, None), as_default=False)
        return self.sessions._sessions[key]

    async def token(self, session: Session, *, must_live: bool = True) -> str:
        token = await self.sessions.token(session, must_live=must_live)
        return token.claims["jti"]

    @property
    def asked(self) -> int:
        return len(self.it.issuer.forms)


@asynccontextmanager
async def open_sessions(caps: Caps | None = None) -> AsyncIterator[Rig]:
    async with open_issuer() as it:
        log: list[str] = []
        keeper = Keeper(log)
        renewer = Renewer(
            it.http, providers=it.providers, clock=it.clock, rng=random.Random(1), keep=keeper
        )
        certified: set[bytes] = set()
        sessions = Sessions(
            renewer,
            nursery=it.nursery,
            caps=caps,
            certified=lambda uid, sha256, to_its_end: sha256 in certified,
        )
        rig = Rig(it, sessions, keeper, log, certified=certified)
        it.issuer.answers = Answers(rig)  # type: ignore[assignment]
        yield rig


class Answers(list):  # type: ignore[type-arg]
    """The answers still to come; with none left, one that renews."""

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        self.rig = rig

    def pop(self, index: Any = 0) -> Any:
        return super().pop(index) if self else self.rig.answer()

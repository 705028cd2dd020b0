"""Whose token it is: the order of the sources, and that none takes the place of one that failed."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest

from issuer_rig import EMAIL, ISSUER
from keylessd.errors import (
    IdentityError,
    InvalidInputError,
    LoginRequiredError,
    NotAllowedError,
    TokenError,
)
from keylessd.flow.threads import Threads, run_inline
from keylessd.identity.lock import Locks
from keylessd.identity.select import NoHeldIdentities, Selection
from keylessd.identity.source import AmbientGrant, IdentityRequest
from keylessd.identity.token import IdentityToken, parse_token
from keylessd.secret import Secret
from sessions_rig import open_sessions

GRANT = AmbientGrant("github", Secret("s"), url="https://x")


class Source:
    name = "farm"

    def __init__(self, token: str, error: Exception | None = None) -> None:
        self.token_text = token
        self.error = error
        self.asked: list[IdentityRequest] = []

    async def token(self, request: IdentityRequest) -> IdentityToken:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return parse_token(Secret(self.token_text))


class Held:
    def __init__(self, named: Source | Exception | None, granted: Source | None) -> None:
        self._named = named
        self._granted = granted

    def named(self, request: IdentityRequest) -> Source | None:
        if isinstance(self._named, Exception):
            raise self._named
        return self._named

    def granted(self, request: IdentityRequest) -> Source | None:
        return self._granted


def select(rig: Any, **parts: Any) -> Selection:
    locks = Locks(Threads(run_inline), os.urandom)
    return Selection(locks=locks, sessions=rig.sessions, **parts)


def asking(**changes: Any) -> IdentityRequest:
    return IdentityRequest(**{"owner_uid": 1000, "instance": "public", "supplied": None, **changes})


ORDER = ("supplied", "ambient", "named", "session", "granted")


@pytest.mark.parametrize(
    "there", [c for n in range(1, 6) for c in itertools.combinations(ORDER, n)]
)
async def test_the_first_that_applies_is_the_one(autojump_clock, there):
    async with open_sessions() as rig:
        token = rig.it.issuer.token
        texts = {name: token(jti=name) for name in ORDER}
        held = Held(
            Source(texts["named"]) if "named" in there else None,
            Source(texts["granted"]) if "granted" in there else None,
        )
        if "session" in there:
            await rig.begin()
        selection = select(rig, ambient=Source(texts["ambient"]), held=held)
        request = asking(
            supplied=Secret(texts["supplied"]) if "supplied" in there else None,
            ambient=GRANT if "ambient" in there else None,
            identity=EMAIL if "named" in there else None,
        )
        chosen = await selection.choose(request)
        assert chosen.token.claims["jti"] == {"session": "0"}.get(there[0], there[0])
        names = {"ambient": "ambient:github", "named": "held:farm", "granted": "held:farm"}
        assert chosen.source == names.get(there[0], there[0])


@pytest.mark.parametrize("place", ["supplied", "ambient", "named", "session"])
async def test_one_that_fails_is_final(autojump_clock, place):
    async with open_sessions() as rig:
        good = Source(rig.it.issuer.token())
        broken = Source("", IdentityError("identity_unavailable", "it is broken"))
        session = await rig.begin()
        if place == "session":
            session.end("it was ended")
        selection = select(
            rig,
            ambient=broken if place == "ambient" else good,
            held=Held(broken if place == "named" else good, good),
        )
        request = asking(
            supplied=Secret("junk") if place == "supplied" else None,
            ambient=GRANT if place in ("ambient", "supplied") else None,
            identity="x" if place == "named" else None,
        )
        with pytest.raises((IdentityError, TokenError, LoginRequiredError)):
            await selection.token(request)
        assert good.asked == []


async def test_a_token_of_somebody_else_than_named(autojump_clock):
    async with open_sessions() as rig:
        token = Secret(rig.it.issuer.token())
        selection = select(rig, ambient=Source(token.reveal()))
        for more in ({"supplied": token}, {"ambient": GRANT}):
            with pytest.raises(IdentityError, match="was asked for"):
                await selection.token(asking(identity="eve@example.org", **more))
            for name in (EMAIL, "subject-1"):
                assert (await selection.token(asking(identity=name, **more))).email == EMAIL


async def test_what_may_not_be_used_by_name(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        held = Held(NotAllowedError("not you"), None)
        with pytest.raises(NotAllowedError):
            await select(rig, held=held).token(asking(identity="farm"))


async def test_a_name_that_fits_several(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        other = "https://other.example"
        await rig.begin(issuer=other)
        selection = select(rig, held=NoHeldIdentities())
        with pytest.raises(InvalidInputError, match="more than once") as caught:
            await selection.token(asking(identity=EMAIL))
        assert ISSUER in caught.value.message
        assert (await selection.token(asking(identity=EMAIL, issuer=other))).email == EMAIL
        with pytest.raises(LoginRequiredError):
            await selection.token(asking(identity=EMAIL, issuer="https://third.example"))
        rig.sessions.find(1000, issuer=other)[0].end("it was ended")
        chosen = await selection.choose(asking(identity=EMAIL))
        assert (chosen.token.email, chosen.source) == (EMAIL, "session")


async def test_what_a_login_is_told_to_be(autojump_clock):
    async with open_sessions() as rig:
        selection = select(rig)
        for changes, words in (
            ({}, "keyless login --instance public"),
            ({"instance": "files:0123456789ab"}, "`keyless login`, with the same files"),
            ({"instance": "public+0123456789ab"}, "`keyless login`, with the same files"),
            ({"identity": "a@b"}, "--identity a@b"),
            ({"instance": None}, "`keyless login`"),
        ):
            with pytest.raises(LoginRequiredError) as caught:
                await selection.token(asking(**changes))
            assert words in (caught.value.hint or "")
            assert "--device" in (caught.value.hint or "")

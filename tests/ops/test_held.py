"""Signing as what the daemon holds or an environment grants, through the whole house."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from keylessd.errors import IdentityError, LoginRequiredError
from keylessd.identity.held.identities import HeldState
from keylessd.identity.source import AmbientGrant, IdentityRequest
from keylessd.identity.token import IdentityToken, parse_token
from keylessd.ops.owner import Owner
from keylessd.secret import Secret
from keylessd.trust.where import Urls, Where
from ops_rig import EMAIL, EPOCH, ME, Rig, open_rig

JOB = "job@example.org"


class Held:
    """One identity, for one user, that can fail."""

    name = "machine"

    def __init__(self) -> None:
        self.rig: Rig | None = None
        self.asked: list[IdentityRequest] = []
        self.looked = 0
        self.error: IdentityError | None = None

    def granted(self, request: IdentityRequest) -> Held | None:
        self.asked.append(request)
        return self if request.owner_uid == ME.uid else None

    def named(self, request: IdentityRequest) -> Held | None:
        return self.granted(request) if request.identity == "machine" else None

    async def token(self, request: IdentityRequest) -> IdentityToken:
        assert self.rig is not None
        if self.error is not None:
            raise self.error
        return parse_token(self.rig.token())

    async def look(self, request: IdentityRequest) -> None:
        self.looked += 1

    def describe(self, request: IdentityRequest, *, anywhere: bool = False) -> list[HeldState]:
        if request.owner_uid != ME.uid or (request.instance is None and not anywhere):
            return []
        problem = None if self.error is None else self.error.message
        until = EPOCH + timedelta(hours=1)
        return [HeldState("machine", "file", EMAIL, "https://i", None, until, EPOCH, problem)]


class Ambient:
    """Gives a token of a job, or fails."""

    def __init__(self) -> None:
        self.rig: Rig | None = None
        self.error: IdentityError | None = None

    async def token(self, request: IdentityRequest) -> IdentityToken:
        assert self.rig is not None
        assert request.ambient is not None
        if self.error is not None:
            raise self.error
        return parse_token(self.rig.token(email=JOB))


GRANT = AmbientGrant("github", Secret("s"), url="https://x")


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def ambient() -> Ambient:
    return Ambient()


def opened(tmp_path: Path, held: Held, ambient: Ambient):
    return open_rig(tmp_path, house_options={"held": held, "ambient": ambient})


async def test_who_brings_nothing_signs_as_what_the_daemon_holds(
    autojump_clock, tmp_path, held, ambient
) -> None:
    async with opened(tmp_path, held, ambient) as rig:
        held.rig = rig
        result = await rig.house.sign.sign(rig.request(), rig.progress)
        assert result.identity == EMAIL
        assert (held.asked[-1].instance, held.asked[-1].names_services) == ("sandbox", False)
        result = await rig.house.sign.sign(rig.request(identity="machine"), rig.progress)
        assert result.identity == EMAIL


async def test_the_ledger_says_where_each_identity_came_from(
    autojump_clock, tmp_path, held, ambient
) -> None:
    async with opened(tmp_path, held, ambient) as rig:
        held.rig = ambient.rig = rig
        token = rig.token()
        for more in ({}, {"identity": "machine"}, {"ambient": GRANT}, {"token": token}):
            await rig.house.sign.sign(rig.request(**more), rig.progress)
        told = [one["source"] for one in rig.ledger() if one["event"] == "attempt"]
        assert told == ["held:machine", "held:machine", "ambient:github", "supplied"]


async def test_whom_it_is_not_given_to_is_nobody(autojump_clock, tmp_path, held, ambient) -> None:
    async with opened(tmp_path, held, ambient) as rig:
        held.rig = rig
        for identity in (None, "machine"):
            request = rig.request(owner=Owner(1001), identity=identity)
            with pytest.raises(LoginRequiredError):
                await rig.house.sign.sign(request, rig.progress)
            assert await rig.house.status.whoami(request) == []
        assert rig.house.status.held(Owner(1001)) == []


async def test_an_environment_goes_first_and_its_failure_is_final(
    autojump_clock, tmp_path, held, ambient
) -> None:
    async with opened(tmp_path, held, ambient) as rig:
        held.rig = ambient.rig = rig
        result = await rig.house.sign.sign(rig.request(ambient=GRANT), rig.progress)
        assert result.identity == JOB
        assert held.asked == []
        ambient.error = IdentityError("identity_unavailable", "no permission")
        with pytest.raises(IdentityError, match="no permission"):
            await rig.house.sign.sign(rig.request(ambient=GRANT), rig.progress)
        assert held.asked == []


async def test_what_is_held_fails_and_nobody_else_signs(
    autojump_clock, tmp_path, held, ambient
) -> None:
    async with opened(tmp_path, held, ambient) as rig:
        held.rig = rig
        held.error = IdentityError("identity_unavailable", "the server is down", retryable=True)
        with pytest.raises(IdentityError, match="the server is down"):
            await rig.house.sign.sign(rig.request(), rig.progress)
        assert rig.certificates == 0


async def test_whoami_and_status_tell_of_it(autojump_clock, tmp_path, held, ambient) -> None:
    async with opened(tmp_path, held, ambient) as rig:
        held.rig = rig
        (me,) = await rig.house.status.whoami(rig.request())
        assert (me.identity, me.source, me.name, me.state) == (EMAIL, "file", "machine", "active")
        assert (me.instance, me.reason, held.looked) == ("sandbox", None, 1)
        assert await rig.house.status.whoami(rig.request(identity="eve")) == []
        assert len(await rig.house.status.whoami(rig.request(identity="machine"))) == 1
        held.looked = 0
        held.error = IdentityError("identity_unavailable", "down")
        (state,) = rig.house.status.held(ME)
        assert (state.state, state.reason, held.looked) == ("degraded", "down", 0)


@pytest.mark.parametrize(
    ("where", "named"),
    [
        (Where(), False),
        (Where(instance="sandbox"), False),
        (Where(urls=Urls(rekor="https://r", oidc_issuer="https://i", tsa="https://t")), False),
        (Where(urls=Urls(fulcio="https://f")), True),
        (Where(trusted_root=b"{}", signing_config=b"{}"), True),
        (Where(trust_config=b"{}"), True),
        (Where(instance="sandbox", signing_config=b"{}"), True),
    ],
)
async def test_policy_is_told_where_the_token_would_go(
    autojump_clock, tmp_path, held, ambient, where, named
) -> None:
    async with opened(tmp_path, held, ambient) as rig:
        held.error = IdentityError("identity_unavailable", "enough")
        held.rig = rig
        with pytest.raises(IdentityError, match="enough"):
            await rig.house.sign.sign(rig.request(where=where), rig.progress)
        assert held.asked[-1].names_services is named

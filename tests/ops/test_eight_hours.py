"""A working day in virtual time: a login lives through all that happens to machines and issuers."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import timedelta

import pytest
import trio

from keylessd.errors import DaemonError, LoginRequiredError
from keylessd.identity.session import State
from keylessd.ops.owner import Owner
from keylessd.sandbox.faults import LostReply, Status
from login_rig import ADA, LoginRig, open_login
from ops_rig import ME

EVE = "eve@example.org"
BOB = "bob@example.org"
OTHER = Owner(1001)
WHO = ((ME, None, ADA), (ME, EVE, EVE), (OTHER, None, BOB))
STEP = 240.0  # seconds between two signatures of everybody
HOURS = 8


class Day:
    """Signs as everybody and counts how it ends; a wrong identity ends the test."""

    def __init__(self, it: LoginRig) -> None:
        self.it = it
        self.outcomes: list[tuple[float, str, str]] = []
        self._number = 0

    async def sign_all(self) -> None:
        for owner, identity, wanted in WHO:
            self._number += 1
            try:
                result = await self.it.rig.sign(
                    str(self._number).encode(), token=None, owner=owner, identity=identity
                )
            except DaemonError as exc:
                outcome = exc.code
            else:
                assert result.identity == wanted
                outcome = "signed"
            self.outcomes.append((trio.current_time(), wanted, outcome))

    async def go_on(self, seconds: float) -> None:
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            await self.sign_all()
            await trio.sleep(STEP)

    def since(self, moment: float) -> Counter[str]:
        return Counter(outcome for when, _, outcome in self.outcomes if when >= moment)


@pytest.mark.slow
@pytest.mark.parametrize("lifetime", [60, 600, 3600])
async def test_a_day(autojump_clock, tmp_path, lifetime):
    async with open_login(tmp_path, token_lifetime=timedelta(seconds=lifetime)) as it:
        it.rig.sigstore.flows.grants._reuse_interval = timedelta(seconds=3)
        oidc = it.rig.faults["oidc"]
        day, start = Day(it), trio.current_time()
        for owner, _, wanted in WHO:
            await it.login(wanted, owner=owner)

        await day.go_on(3600)  # an hour like any other
        assert set(day.since(start)) == {"signed"}

        mark = trio.current_time()
        for _ in range(12):  # an hour of a shaky network: answers to renewals are lost
            oidc.fail_next(1, LostReply(), path="/token")
            await day.go_on(300)
            oidc.clear()
        assert day.since(mark)["signed"] > 30
        assert all(one.state is not State.LOGIN_REQUIRED for one in it.status())

        mark = trio.current_time()
        oidc.fail(Status(503))  # an hour without the issuer
        await day.go_on(3600)
        oidc.clear()
        assert set(day.since(mark)) <= {"signed", "identity_unavailable"}
        await trio.sleep(61)

        mark = trio.current_time()
        await day.go_on(600)
        assert set(day.since(mark)) == {"signed"}

        for nap in (30.0, 900.0, 5000.0):  # the lid is closed
            it.clock.suspend(nap)
            mark = trio.current_time()
            await day.go_on(900)
            assert set(day.since(mark)) == {"signed"}, nap

        for jump in (-7200.0, 7200.0, -90.0, 90.0, 5400.0, -5400.0):  # the clock is set
            mark = trio.current_time()
            it.clock.jump(jump)
            await day.go_on(720)
            assert "login_required" not in day.since(mark)
        assert it.clock.offset == timedelta(0)
        await trio.sleep(61)

        rng = random.Random(7)
        while trio.current_time() + it.clock.slept - start < HOURS * 3600:  # all of it together
            match rng.randrange(5):
                case 0:
                    it.clock.suspend(rng.uniform(1, 900))
                case 1:
                    oidc.fail_next(1, LostReply(), path="/token")
                case 2:
                    oidc.fail_next(2, Status(500, b'{"error":"invalid_request"}'), path="/token")
                case 3:
                    it.clock.jump(rng.uniform(-20, 20))
                case _:
                    pass
            await day.go_on(STEP)
        oidc.clear()
        it.clock.offset = timedelta(0)
        await trio.sleep(61)

        mark = trio.current_time()
        await day.go_on(STEP)
        assert set(day.since(mark)) == {"signed"}
        # And nobody was asked a second time.
        assert len(it.told) == len(WHO)

        # At the end of the working day it is over, whatever the issuer allows.
        it.clock.suspend(5 * 3600)
        mark = trio.current_time()
        await day.sign_all()
        assert set(day.since(mark)) == {"login_required"}


@pytest.mark.parametrize("impostor", [EVE, "ada@example.com"])
async def test_an_issuer_that_renews_as_somebody_else(autojump_clock, tmp_path, impostor):
    async with open_login(tmp_path) as it:
        day = Day(it)
        for owner, _, wanted in WHO:
            await it.login(wanted, owner=owner)
        await day.sign_all()
        it.clock.suspend(3600)
        token = it.rig.sigstore.token(email=impostor)
        body = json.dumps({"id_token": token, "refresh_token": "stolen"}).encode()
        it.rig.faults["oidc"].fail_next(1, Status(200, body), path="/token")
        with pytest.raises(LoginRequiredError, match="somebody else"):
            await it.rig.sign(token=None)
        for _ in range(3):
            await day.sign_all()
            it.clock.suspend(600)
        ended = [wanted for _, wanted, outcome in day.outcomes if outcome == "login_required"]
        assert ended == [ADA] * 3
        await it.login(ADA)
        assert (await it.rig.sign(token=None)).identity == ADA


async def test_an_issuer_that_loses_the_login_with_its_answer(autojump_clock, tmp_path):
    async with open_login(tmp_path) as it:
        await it.login()
        assert (await it.rig.sign(token=None)).identity == ADA
        it.clock.suspend(3700)
        it.rig.faults["oidc"].fail_next(1, LostReply(), path="/token")
        with pytest.raises(LoginRequiredError, match="was lost"):
            await it.rig.sign(token=None)
        [status] = it.status()
        assert status.state is State.LOGIN_REQUIRED
        await it.login()
        assert (await it.rig.sign(token=None)).identity == ADA


@pytest.mark.slow
async def test_a_thousand_signatures_across_a_tokens_end(autojump_clock, tmp_path):
    async with open_login(tmp_path, reuse="window") as it:
        await it.login()
        before = it.token_requests
        it.clock.suspend(3595)
        identities: Counter[str] = Counter()

        async def sign(number: int) -> None:
            result = await it.rig.sign(str(number % 50).encode(), token=None)
            identities[result.identity] += 1

        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(sign, number)
        assert identities == {ADA: 1000}
        assert it.token_requests - before == 1

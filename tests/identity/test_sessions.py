"""Sessions: one renewal at a time; no answer of an issuer loses one, no clock revives one."""

from __future__ import annotations

import httpx
import pytest
import trio

from issuer_rig import EMAIL, ISSUER
from keylessd.errors import IdentityError, LoginRequiredError
from keylessd.identity.keep import KeptSession, SessionKey
from keylessd.identity.moment import Moment
from keylessd.identity.select import Selection
from keylessd.identity.session import MIN_REMAINING, State
from keylessd.identity.session_facts import Caps
from keylessd.identity.source import IdentityRequest
from keylessd.secret import Secret
from sessions_rig import KEY, open_sessions

# --- one renewal ---------------------------------------------------------------------------


async def test_a_thousand_at_once_across_the_end_of_a_token(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3595)  # less is left than a token needs
        rig.it.issuer.answers.append(rig.answer(delay=2))
        found: list[str] = []

        async def ask() -> None:
            found.append(await rig.token(session))

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(ask)
        assert found == ["1"] * 1000
        assert rig.asked == 1


async def test_who_stops_waiting_stops_nothing(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers.append(rig.answer(delay=5))
        with trio.move_on_after(1) as scope:
            await rig.token(session)
        assert scope.cancelled_caught
        await trio.sleep(10)
        assert rig.asked == 1
        assert await rig.token(session) == "1"
        assert rig.asked == 1
        assert session.refresh_token == Secret("r-1")


async def test_what_is_kept_comes_before_what_is_used(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        for _ in range(3):
            rig.it.clock.advance(3600)
            await rig.token(session)
        assert rig.log == [
            "save r-0",
            "use r-0",
            "save r-1",
            "use r-1",
            "save r-2",
            "use r-2",
            "save r-3",
        ]


async def test_an_issuer_that_does_not_rotate(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        for number in (1, 2):
            rig.it.clock.advance(3600)
            rig.it.issuer.answers.append(rig.answer(rotate=False))
            assert await rig.token(session) == str(number)
        assert rig.log == ["save r-0", "use r-0", "use r-0"]


async def test_a_lost_answer_is_asked_for_once_more_with_the_same_token(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers.append(httpx.ReadError("gone"))
        assert await rig.token(session) == "1"
        assert [form["refresh_token"] for form in rig.it.issuer.forms] == ["r-0", "r-0"]


async def test_a_lost_answer_of_an_issuer_without_a_second_chance(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers += [
            httpx.ReadError("gone"),
            rig.refuse(
                400,
                "invalid_request",
                "Refresh token is invalid or has already been claimed by another client.",
            ),
        ]
        with pytest.raises(LoginRequiredError, match="was lost") as caught:
            await rig.token(session)
        assert "keyless login" in (caught.value.hint or "")
        assert session.refresh_token is None
        assert rig.keeper.kept == {}
        rig.it.clock.advance(600)
        with pytest.raises(LoginRequiredError):
            await rig.token(session)
        assert rig.asked == 2


DEAD = {
    "RFC 6749": (400, "invalid_grant", ""),
    "Dex": (400, "invalid_request", "Refresh token expired."),
}


@pytest.mark.parametrize("name", DEAD)
async def test_a_session_that_its_issuer_has_ended(autojump_clock, name):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers.append(rig.refuse(*DEAD[name]))
        with pytest.raises(LoginRequiredError, match="issuer has ended it"):
            await rig.token(session)
        assert rig.log[-1] == "forget"
        [status] = rig.sessions.status(1000)
        assert status.state is State.LOGIN_REQUIRED
        assert "logs in elsewhere" in (status.reason or "")


@pytest.mark.parametrize(
    "answer", [(401, "invalid_client"), (400, "invalid_scope"), (400, "unsupported_grant_type")]
)
async def test_an_issuer_that_takes_no_such_request(autojump_clock, answer):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers.append(rig.refuse(*answer))
        with pytest.raises(LoginRequiredError, match="refuses to renew"):
            await rig.token(session)


async def test_dex_and_its_500_is_no_end(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers.append(rig.refuse(500, "invalid_request", "Refresh token ..."))
        with pytest.raises(IdentityError) as caught:
            await rig.token(session)
        assert (caught.value.code, caught.value.retryable) == ("identity_unavailable", True)
        assert session.refresh_token == Secret("r-0")
        rig.it.clock.advance(5)
        assert await rig.token(session) == "1"


async def test_failures_are_shared_and_come_ever_more_rarely(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers += [rig.refuse(503, "")] * 100
        for _ in range(600):  # ten minutes of requests, one each second
            with pytest.raises(IdentityError) as caught:
                await rig.token(session)
            assert (caught.value.retry_after_seconds or 0) <= 60
            rig.it.clock.advance(1)
        assert 12 <= rig.asked <= 24
        [status] = rig.sessions.status(1000)
        assert status.state is State.DEGRADED
        assert "503" in (status.reason or "")


@pytest.mark.parametrize(("asked", "waited"), [("45", 45), ("200", 200), ("9999", 300)])
async def test_an_issuer_may_ask_for_patience(autojump_clock, asked, waited):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers.append(rig.refuse(429, "", **{"retry-after": asked}))
        with pytest.raises(IdentityError) as caught:
            await rig.token(session)
        assert caught.value.retry_after_seconds == waited
        rig.it.clock.advance(waited - 5)
        with pytest.raises(IdentityError):
            await rig.token(session)
        assert rig.asked == 1
        rig.it.clock.advance(6)
        assert await rig.token(session) == "1"


async def test_an_answer_without_a_token(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        body = {"access_token": "a", "refresh_token": "r-9"}
        rig.it.issuer.answers += [httpx.Response(200, json=body), httpx.Response(200)]
        with pytest.raises(LoginRequiredError, match="no ID token"):
            await rig.token(session)


async def test_a_token_that_cannot_be_believed_costs_no_login(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers.append(rig.answer(aud="somebody-else"))
        with pytest.raises(IdentityError, match="cannot be believed"):
            await rig.token(session)
        assert session.refresh_token == Secret("r-1")  # that one is not lost
        rig.it.clock.advance(5)
        assert await rig.token(session) == "2"


OTHERS = {
    "another subject": {"sub": "subject-2"},
    "another address": {"email": "eve@example.org"},
    "no address": {"email": None},
}


@pytest.mark.parametrize("name", OTHERS)
async def test_nobody_else_is_let_in(autojump_clock, name):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers += [rig.answer(**OTHERS[name]), httpx.Response(200)]
        with pytest.raises(LoginRequiredError, match="somebody else"):
            await rig.token(session)
        assert session.refresh_token is None
        assert rig.keeper.kept == {}
        await trio.sleep(1)
        assert rig.it.issuer.forms[-1]["token"] == "r-1"  # given back
        assert rig.it.issuer.paths[-1] == "/revoke"
        with pytest.raises(LoginRequiredError):
            await rig.token(session)


async def test_logging_out_during_a_renewal(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers += [rig.answer(delay=5), httpx.Response(200), httpx.Response(200)]

        async def use() -> None:
            with pytest.raises(LoginRequiredError, match="logged out"):
                await rig.token(session)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            await trio.sleep(1)
            await rig.sessions.end(session)
        await trio.sleep(1)
        assert rig.keeper.kept == {}
        revoked = [form["token"] for form in rig.it.issuer.forms if "token" in form]
        assert revoked == ["r-0", "r-1"]


async def test_a_new_login_during_a_renewal_of_the_old(autojump_clock):
    async with open_sessions() as rig:
        old = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers += [rig.answer(delay=5), httpx.Response(200)]

        async def use() -> None:
            with pytest.raises(LoginRequiredError, match="another login"):
                await rig.token(old)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            await trio.sleep(1)
            new = await rig.begin(refresh="n-0")
            assert await rig.token(new) == "0"
        await trio.sleep(1)
        assert rig.keeper.kept[KEY].refresh_token == Secret("n-0")
        assert new.refresh_token == Secret("n-0")


# --- when ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lifetime", "low", "high"),
    [(60, None, None), (119, None, None), (120, 54, 60), (300, 135, 150), (301, 216, 241),
     (3600, 2592, 2880)],
)  # fmt: skip
async def test_when_a_token_is_renewed_before_its_end(autojump_clock, lifetime, low, high):
    async with open_sessions() as rig:
        session = await rig.begin(lifetime=lifetime)
        renewed = None
        for second in range(lifetime):
            rig.it.clock.advance(1)
            if second < lifetime - MIN_REMAINING - 1:
                await rig.token(session)
            rig.sessions.tick()
            await trio.sleep(0.01)
            if rig.asked and renewed is None:
                renewed = second + 1
                break
        if low is None:
            assert renewed is None
            assert await rig.token(session) == "1"
        else:
            assert low <= renewed <= high


async def test_what_nobody_uses_is_left_alone(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin(lifetime=600)
        await rig.token(session)
        for _ in range(360):
            rig.it.clock.advance(10)
            rig.sessions.tick()
            await trio.sleep(0.01)
        assert rig.asked == 1  # once more after the last use, then never
        assert await rig.token(session) == "2"


async def test_a_token_is_dead_at_the_earlier_of_two_clocks(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.jump(3600 - 5)  # by the wall clock it has ended
        assert await rig.token(session) == "1"
        rig.it.clock.jump(-7200)  # that brings nothing back
        rig.it.clock.boot += 3600 - 5
        assert await rig.token(session) == "2"


async def test_a_wall_clock_that_jumps_forth_and_back_revives_nothing(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin(refresh=None)
        rig.it.clock.jump(4000)
        with pytest.raises(LoginRequiredError, match="no leave to renew"):
            await rig.token(session)
        rig.it.clock.jump(-4000)
        with pytest.raises(LoginRequiredError):
            await rig.token(session)
        [status] = rig.sessions.status(1000)
        assert status.state is State.LOGIN_REQUIRED


async def test_a_machine_that_slept_through_the_end(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.suspend(7200)
        assert await rig.token(session) == "1"


async def test_caps(autojump_clock):
    async with open_sessions(Caps(lifetime=7200, idle=3000)) as rig:
        session = await rig.begin(lifetime=1000)
        for _ in range(7):
            rig.it.clock.advance(1000)
            await rig.token(session)
        rig.it.issuer.answers.append(httpx.Response(200))
        rig.it.clock.advance(200)
        with pytest.raises(LoginRequiredError, match="2 hours"):
            await rig.token(session)
        await trio.sleep(1)
        assert rig.keeper.kept == {}
        assert rig.it.issuer.paths[-1] == "/revoke"
        idle = await rig.begin(lifetime=1000)
        rig.it.issuer.answers.append(httpx.Response(200))
        rig.it.clock.suspend(3000)
        rig.sessions.tick()
        with pytest.raises(LoginRequiredError, match="nobody used it"):
            await rig.token(idle)


async def test_the_caps_count_by_both_clocks(autojump_clock):
    async with open_sessions(Caps(lifetime=7200, idle=100_000)) as rig:
        session = await rig.begin()
        rig.it.issuer.answers.append(httpx.Response(200))
        rig.it.clock.jump(7300)
        with pytest.raises(LoginRequiredError, match="2 hours"):
            await rig.token(session)
        rig.it.clock.jump(-7300)
        with pytest.raises(LoginRequiredError):
            await rig.token(session)


async def test_a_token_never_outlives_its_session(autojump_clock):
    async with open_sessions(Caps(lifetime=100, idle=1000)) as rig:
        session = await rig.begin(refresh=None)
        assert session.token_left(Moment.now(rig.it.clock)) == pytest.approx(90)


async def test_an_issuer_whose_tokens_end_at_once(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.issuer.lifetime = 5
        rig.it.clock.advance(3600)
        with pytest.raises(IdentityError, match="end before they can be used"):
            await rig.token(session)


# --- without leave to renew ------------------------------------------------------------------


async def test_a_token_that_has_ended_serves_while_its_certificate_does(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin(refresh=None, lifetime=60)
        assert session.held is not None
        rig.certified.add(session.held.token.sha256)
        rig.it.clock.advance(100)
        assert await rig.token(session, must_live=False) == "0"
        with pytest.raises(LoginRequiredError):
            await rig.token(session, must_live=True)
        rig.certified.clear()
        with pytest.raises(LoginRequiredError, match="no leave"):
            await rig.token(session, must_live=False)


async def test_bursts_with_short_tokens_use_the_certificate(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin(lifetime=60)
        assert session.held is not None
        rig.certified.add(session.held.token.sha256)
        for _ in range(300):
            rig.it.clock.advance(1)
            await rig.token(session, must_live=False)
        assert rig.asked == 0
        rig.certified.clear()
        assert await rig.token(session, must_live=False) == "1"


# --- what is kept ---------------------------------------------------------------------------


async def test_a_store_that_fails_costs_no_login(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.keeper.broken = True
        rig.it.clock.advance(3600)
        assert await rig.token(session) == "1"
        [status] = rig.sessions.status(1000)
        assert status.state is State.DEGRADED
        assert "will not outlive the daemon" in (status.reason or "")
        rig.keeper.broken = False
        rig.it.clock.advance(3600)
        assert await rig.token(session) == "2"
        assert rig.sessions.status(1000)[0].state is State.ACTIVE


async def test_a_store_that_hangs_costs_no_login(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.keeper.slow = 1000
        rig.it.clock.advance(3600)
        assert await rig.token(session) == "1"
        assert "did not answer" in (rig.sessions.status(1000)[0].reason or "")


async def test_a_store_that_cannot_forget_is_named(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.keeper.broken = True
        rig.it.issuer.answers.append(httpx.Response(200))
        ended = await rig.sessions.end(session)
        assert ended.revoked
        assert "may still be in the store" in (ended.reason or "")


async def test_a_daemon_that_starts_again(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        rig.sessions._sessions.clear()
        rig.sessions._defaults.clear()
        rig.it.clock.suspend(1800)

        async def load() -> None:
            await rig.sessions.load(1000)
            found = rig.sessions.default(1000, "public")
            assert found is not None
            assert await rig.token(found) == "1"

        rig.keeper.slow = 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load)
            nursery.start_soon(load)
        await rig.sessions.load(1001)
        assert rig.sessions.find(1001) == []
        assert rig.asked == 1
        found = rig.sessions.default(1000, "public")
        assert found is not None
        assert found.ends.left(Moment.now(rig.it.clock)) == pytest.approx(12 * 3600 - 1800)
        assert rig.sessions.status(1000)[0].is_default


async def test_the_choice_of_a_default_is_kept(autojump_clock):
    async with open_sessions() as rig:
        ada, eve = await rig.begin(), await rig.begin(identity="eve@example.org", refresh="e-0")
        assert rig.sessions.default(1000, "public") is ada
        rig.it.clock.advance(3600)
        rig.it.issuer.answers.append(rig.answer(delay=5))

        async def use() -> None:
            await rig.token(ada)

        rig.keeper.slow = 1
        async with trio.open_nursery() as nursery:  # while the old default is being renewed
            nursery.start_soon(use)
            await trio.sleep(5.5)
            await rig.sessions.make_default(eve.key)
        assert rig.keeper.kept[ada.key].refresh_token == ada.refresh_token == Secret("r-1")
        kept = {one.key.identity: one.is_default for one in rig.keeper.kept.values()}
        assert kept == {EMAIL: False, "eve@example.org": True}
        rig.sessions._sessions.clear()
        rig.sessions._defaults.clear()
        await rig.sessions.load(1000)
        found = rig.sessions.default(1000, "public")
        assert found is not None
        assert found.key == eve.key


async def test_what_was_kept_may_be_over_and_another_users_is_not_taken(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        kept = rig.keeper.kept[KEY]
        foreign = SessionKey(0, "public", ISSUER, "sigstore", EMAIL)
        rig.sessions._sessions.clear()

        async def load(owner_uid: int) -> list[KeptSession]:
            from dataclasses import replace

            return [kept, replace(kept, key=foreign)]

        rig.keeper.load = load  # type: ignore[method-assign]
        rig.it.clock.suspend(13 * 3600)
        await rig.sessions.load(1000)
        rig.it.issuer.answers.append(httpx.Response(200))
        found = rig.sessions.find(1000)
        assert len(found) == 1
        assert rig.sessions.find(0) == []
        with pytest.raises(LoginRequiredError, match="12 hours"):
            await rig.token(found[0])


async def test_a_store_that_is_locked_at_first(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        rig.sessions._sessions.clear()
        rig.keeper.broken = True
        selection = Selection(locks=_NoLocks(), sessions=rig.sessions)
        with pytest.raises(LoginRequiredError, match="the keyring is locked") as found:
            await selection.token(IdentityRequest(1000, "other", None))
        assert found.value.hint is not None
        assert "keyless login" in found.value.hint
        assert rig.sessions.find(1000) == []
        assert rig.sessions.unread(1001) is None
        rig.keeper.broken = False
        await rig.sessions.load(1000)
        assert len(rig.sessions.find(1000)) == 1
        assert rig.sessions.unread(1000) is None


class _NoLocks:
    def check(self, owner_uid: int) -> None:
        """Nobody is locked."""


# --- many -----------------------------------------------------------------------------------


async def test_too_many_sessions(autojump_clock):
    async with open_sessions() as rig:
        rig.it.issuer.answers = [httpx.Response(200)] * 6
        for number in range(70):
            await rig.begin(identity=f"user{number}@example.org", refresh=f"r-{number}")
            rig.it.clock.advance(1)
        await trio.testing.wait_all_tasks_blocked()
        # Those that went are not kept either, and are given back.
        assert len(rig.keeper.kept) == 64
        given_back = {form["token"] for form in rig.it.issuer.forms}
        assert given_back == {f"r-{number}" for number in range(6)}
        found = {session.key.identity for session in rig.sessions.find(1000)}
        assert len(found) == 64
        assert "user69@example.org" in found
        assert "user0@example.org" not in found
        await rig.begin(owner_uid=1001)
        assert len(rig.sessions.find(1001)) == 1


async def test_the_nursery_has_ended(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        rig.it.clock.advance(3600)
        rig.it.issuer.answers.append(rig.answer(delay=100))
        failed = []

        async def use() -> None:
            with trio.CancelScope(shield=True):
                try:
                    await rig.token(session)
                except IdentityError as exc:
                    failed.append(exc.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            await trio.sleep(1)
            rig.it.nursery.cancel_scope.cancel()
        assert "stopping" in failed[0]


# --- the end of the daemon -----------------------------------------------------------------


async def test_a_renewal_under_way_is_kept_before_the_daemon_ends(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        rig.it.clock.advance(3000)  # due, and long before its end
        rig.it.issuer.answers.append(rig.answer(delay=12.0))
        rig.keeper.slow = 2.0
        rig.sessions.tick()
        before = trio.current_time()
        await rig.sessions.settle()
        assert trio.current_time() - before == pytest.approx(14.0)
        assert rig.keeper.kept[KEY].refresh_token.reveal() == "r-1"


async def test_nothing_is_begun_that_would_have_to_be_waited_for(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        await rig.sessions.settle()
        rig.it.clock.advance(3000)
        rig.sessions.tick()
        await trio.testing.wait_all_tasks_blocked()
        assert rig.asked == 0


async def test_a_session_that_ends_is_forgotten_before_the_daemon_ends(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        rig.keeper.slow = 2.0
        rig.it.issuer.answers.append(httpx.Response(200))  # to its revocation
        rig.it.clock.advance(5 * 3600)  # nobody used it
        rig.sessions.tick()
        await rig.sessions.settle()
        assert rig.keeper.kept == {}


async def test_what_ends_with_the_daemon_is_not_waited_for(autojump_clock):
    async with open_sessions() as rig:
        rig.keeper.outlives = False
        await rig.begin()
        rig.it.clock.advance(3000)
        rig.it.issuer.answers.append(rig.answer(delay=12.0))
        rig.sessions.tick()
        before = trio.current_time()
        await rig.sessions.settle()
        assert trio.current_time() == before


async def test_a_settling_that_is_given_up_leaves_nothing_behind(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        rig.it.clock.advance(3000)
        rig.it.issuer.answers.append(rig.answer(delay=12.0))
        rig.sessions.tick()
        with trio.move_on_after(5) as patience:
            await rig.sessions.settle()
        assert patience.cancelled_caught
        await rig.sessions.settle()
        assert rig.keeper.kept[KEY].refresh_token.reveal() == "r-1"


# --- a lock ----------------------------------------------------------------------------------


async def test_nothing_is_kept_while_a_user_is_locked(autojump_clock):
    async with open_sessions() as rig:
        session = await rig.begin()
        other = await rig.begin(owner_uid=1001, refresh="o-0")
        await rig.sessions.withhold(1000)
        assert list(rig.keeper.kept) == [other.key]
        rig.it.clock.advance(3600)
        assert await rig.token(session) == "1"  # rotates
        await rig.begin(identity="eve@example.org", refresh="e-0")
        await rig.sessions.make_default(KEY)
        assert list(rig.keeper.kept) == [other.key]
        await rig.sessions.restore(1000)
        assert rig.keeper.kept[KEY].refresh_token.reveal() == "r-1"
        assert {one.identity for one in rig.keeper.kept if one.owner_uid == 1000} == {
            KEY.identity,
            "eve@example.org",
        }
        assert [one.is_default for one in rig.keeper.kept.values() if one.key == KEY] == [True]


async def test_what_was_kept_before_is_taken_out_by_a_lock(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        rig.sessions._sessions.clear()  # another daemon, that nobody has asked yet
        await rig.sessions.withhold(1000)
        assert rig.keeper.kept == {}
        assert len(rig.sessions.find(1000)) == 1


async def test_a_store_that_opens_while_a_user_is_locked(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        rig.sessions._sessions.clear()
        rig.keeper.broken = True
        await rig.sessions.withhold(1000)
        rig.keeper.broken = False
        assert len(rig.keeper.kept) == 1
        await rig.sessions.load(1000)
        assert rig.keeper.kept == {}
        assert len(rig.sessions.find(1000)) == 1


async def test_who_unlocks_while_the_store_is_slow_has_all_kept(autojump_clock):
    async with open_sessions() as rig:
        await rig.begin()
        await rig.begin(identity="eve@example.org", refresh="e-0")
        rig.keeper.slow = 5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.sessions.withhold, 1000)
            await trio.sleep(2)
            nursery.start_soon(rig.sessions.restore, 1000)
        assert len(rig.keeper.kept) == 2


async def test_a_lock_asks_no_store_that_keeps_nothing(autojump_clock):
    async with open_sessions() as rig:
        rig.keeper.outlives = False
        await rig.begin()
        rig.log.clear()
        await rig.sessions.withhold(1000)
        await rig.sessions.restore(1000)
        assert rig.log == []

"""Locks: what they refuse, and what guessing costs whom."""

from __future__ import annotations

import os

import pytest
import trio

from keylessd.errors import IdentityError, InvalidInputError, NotAllowedError
from keylessd.flow.threads import Threads, run_inline
from keylessd.identity.lock import Locks

ME, OTHER = 1000, 1001


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> Locks:
    monkeypatch.setattr("keylessd.identity.lock.SCRYPT_N", 2)  # what it costs is not the matter
    return Locks(Threads(run_inline), os.urandom)


async def guess(locks: Locks, word: bytes, connection: int = 1) -> float:
    before = trio.current_time()
    with pytest.raises(NotAllowedError):
        await locks.unlock(ME, word, connection=connection)
    return trio.current_time() - before


async def test_locked_until_the_same_passphrase_comes(autojump_clock, locks):
    await locks.lock(ME, b"one")
    with pytest.raises(IdentityError) as caught:
        locks.check(ME)
    assert caught.value.code == "locked"
    locks.check(OTHER)
    await locks.unlock(OTHER, b"one", connection=9)
    for word in (b"two", b"one ", b"ONE", b"on", b"one\x00"):
        await guess(locks, word)
    assert locks.is_locked(ME)
    await locks.unlock(ME, b"one", connection=1)
    locks.check(ME)
    await locks.unlock(ME, b"anything", connection=1)  # not locked: nothing to do


async def test_nobody_changes_the_passphrase_of_a_lock(autojump_clock, locks):
    await locks.lock(ME, b"one")
    with pytest.raises(IdentityError):
        await locks.lock(ME, b"two")
    await guess(locks, b"two")


@pytest.mark.parametrize("word", [b"", b"x" * 1025])
async def test_a_passphrase_that_is_none(autojump_clock, locks, word):
    with pytest.raises(InvalidInputError):
        await locks.lock(ME, word)
    await locks.lock(ME, b"x")
    with pytest.raises(InvalidInputError):
        await locks.unlock(ME, word, connection=1)


async def test_guesses_are_slowed_down_for_who_guesses_and_nobody_else(autojump_clock, locks):
    await locks.lock(ME, b"one")
    spent = [await guess(locks, b"no") for _ in range(120)]
    assert spent[:3] == [pytest.approx(0), pytest.approx(0.1), pytest.approx(0.2)]
    assert max(spent) == pytest.approx(10)

    async def right() -> None:
        before = trio.current_time()
        await locks.unlock(ME, b"one", connection=2)
        assert trio.current_time() - before < 0.1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(guess, locks, b"no")
        await trio.sleep(0.5)
        nursery.start_soon(right)
        await trio.sleep(0.5)
        assert not locks.is_locked(ME)
        nursery.cancel_scope.cancel()


async def test_guesses_side_by_side_are_slowed_down_too(autojump_clock, locks):
    await locks.lock(ME, b"one")
    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(guess, locks, b"no")
        await trio.sleep(3.05)
        assert len(nursery.child_tasks) == 33
        nursery.cancel_scope.cancel()


async def test_a_right_guess_is_forgiven_and_many_connections_are_forgotten(autojump_clock, locks):
    await locks.lock(ME, b"one")
    await guess(locks, b"no")
    await locks.unlock(ME, b"one", connection=1)
    await locks.lock(ME, b"one")
    assert await guess(locks, b"no") == pytest.approx(0)
    for connection in range(2000):
        await guess(locks, b"no", connection)
    assert len(locks._wrong) <= 1024


async def test_scrypt_is_the_real_one(monkeypatch):
    from keylessd.identity import lock

    assert lock.SCRYPT_N >= 1 << 15
    assert lock._hash(b"s" * 16, b"p") != lock._hash(b"t" * 16, b"p")
    locks = Locks(Threads(), lambda size: b"s" * size)
    await locks.lock(ME, b"one")
    await guess(locks, b"two")
    await locks.unlock(ME, b"one", connection=1)

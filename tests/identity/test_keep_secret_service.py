"""Sessions in a keyring: what is written is read, what is damaged is left out, errors degrade."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from keylessd.flow.threads import Threads, run_inline
from keylessd.identity.keep import KeepError, KeptSession, SessionKey
from keylessd.identity.keep_secret_service import (
    DEADLINE_SECONDS,
    MAX_FIELD,
    MAX_SESSIONS,
    THREADS,
    SecretServiceKeep,
    format_kept,
    open_keep,
    parse_kept,
    session_bus,
)
from keylessd.secret import Secret

UID = 1000
KEY = SessionKey(UID, "public", "https://issuer.example", "sigstore", "a@example.org")
SESSION = KeptSession(
    key=KEY,
    subject="subject-a",
    refresh_token=Secret("refresh-of-a"),
    logged_in=datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC),
    ends=datetime(2026, 5, 2, 0, 30, tzinfo=UTC),
    is_default=True,
)
OTHER = replace(SESSION, key=replace(KEY, identity="b@example.org"), is_default=False)
FOREIGN = replace(SESSION, key=replace(KEY, owner_uid=1001))


class FakeStore:
    """A store that fails when it is told to."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self.failure: Exception | None = None
        self.writes = 0

    def read(self) -> str | None:
        if self.failure is not None:
            raise self.failure
        return self.text

    def write(self, text: str) -> None:
        self.writes += 1
        self.text = text

    def delete(self) -> None:
        self.text = None


class KeyringLocked(Exception):  # noqa: N818  # as the library calls it
    pass


def keep(store: FakeStore) -> SecretServiceKeep:
    return SecretServiceKeep(store, Threads(run_inline))


async def test_nothing_is_kept_at_first() -> None:
    assert await keep(FakeStore()).load(UID) == []


async def test_another_daemon_finds_what_was_saved() -> None:
    store = FakeStore()
    await keep(store).save(SESSION)
    await keep(store).save(OTHER)

    assert await keep(store).load(UID) == [SESSION, OTHER]


async def test_a_session_replaces_the_one_with_its_key() -> None:
    store = FakeStore()
    newer = replace(SESSION, refresh_token=Secret("rotated"))
    await keep(store).save(SESSION)
    await keep(store).save(newer)

    assert await keep(store).load(UID) == [newer]


async def test_only_the_owners_sessions_are_returned() -> None:
    store = FakeStore()
    await keep(store).save(SESSION)
    await keep(store).save(FOREIGN)

    assert await keep(store).load(UID) == [SESSION]
    assert await keep(store).load(1001) == [FOREIGN]


async def test_forgotten_sessions_are_gone() -> None:
    store = FakeStore()
    await keep(store).save(SESSION)
    await keep(store).save(OTHER)

    await keep(store).forget(KEY)
    assert await keep(store).load(UID) == [OTHER]
    assert "refresh-of-a" in (store.text or "")

    await keep(store).forget(OTHER.key)
    assert store.text is None


async def test_forgetting_what_is_not_kept() -> None:
    store = FakeStore()
    await keep(store).forget(KEY)
    await keep(store).save(OTHER)
    writes = store.writes
    await keep(store).forget(KEY)

    assert store.writes == writes


async def test_only_so_many_sessions_and_the_newest_of_them() -> None:
    store = FakeStore()
    for number in range(MAX_SESSIONS):
        later = SESSION.logged_in + timedelta(seconds=number)
        key = replace(KEY, identity=f"{number}@x")
        await keep(store).save(replace(SESSION, key=key, logged_in=later))
    # Whenever it began: it is what was asked for.
    await keep(store).save(replace(SESSION, logged_in=SESSION.logged_in - timedelta(days=1)))
    found = {session.key.identity for session in await keep(store).load(UID)}

    assert len(found) == MAX_SESSIONS
    assert KEY.identity in found
    assert "0@x" not in found
    assert "1@x" in found


async def test_only_so_much_text() -> None:
    store = FakeStore()
    await keep(store).save(SESSION)
    long = "x" * MAX_FIELD
    huge = replace(SESSION, subject=long, refresh_token=Secret(long))
    for number in range(6):
        await keep(store).save(replace(huge, key=SessionKey(UID, long, long, long, f"{number}")))
    with pytest.raises(KeepError, match="the limit is"):
        await keep(store).save(replace(huge, key=SessionKey(UID, long, long, long, "last")))

    assert SESSION in await keep(store).load(UID)


# --- what can go wrong ---------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["load", "save", "forget"])
async def test_failure_of_the_store(operation: str) -> None:
    store = FakeStore()
    store.failure = KeyringLocked("locked \x1b[2J")
    one = keep(store)
    calls = {
        "load": lambda: one.load(UID),
        "save": lambda: one.save(SESSION),
        "forget": lambda: one.forget(KEY),
    }
    with pytest.raises(KeepError) as found:
        await calls[operation]()

    assert found.value.retryable
    assert found.value.hint is not None
    assert "unlock" in found.value.hint
    assert "KeyringLocked: locked" in found.value.message
    assert "\x1b" not in found.value.message
    assert "refresh-of-a" not in found.value.message
    assert found.value.__cause__ is None


async def test_a_keyring_that_hangs(autojump_clock: object) -> None:
    async def hang(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    one = SecretServiceKeep(FakeStore(), Threads(hang))  # type: ignore[arg-type]
    before = trio.current_time()
    with pytest.raises(KeepError, match="did not answer within"):
        await one.save(SESSION)

    assert trio.current_time() - before == pytest.approx(DEADLINE_SECONDS)


async def test_what_was_given_up_is_not_overtaken() -> None:
    # The first write hangs and its caller leaves; the second has to come after it all the same.
    store = FakeStore()
    go_on, begun = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()
    write = store.write

    def slow(text: str) -> None:
        token.run_sync_soon(begun.set)
        go_on.wait(30)
        write(text)

    store.write = slow  # type: ignore[method-assign]
    one = SecretServiceKeep(store, Threads(limiters={THREADS: 1}))
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as first:
            nursery.start_soon(_cancel_when, begun, first)
            await one.save(SESSION)
        assert first.cancelled_caught
        store.write = write  # type: ignore[method-assign]
        nursery.start_soon(one.save, replace(SESSION, refresh_token=Secret("rotated")))
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()

    assert [s.refresh_token for s in await one.load(UID)] == [Secret("rotated")]


async def test_nobody_waits_twice_for_a_keyring_that_hangs(monkeypatch) -> None:
    monkeypatch.setattr("keylessd.identity.keep_secret_service.DEADLINE_SECONDS", 0.01)
    store, go_on = FakeStore(), threading.Event()
    read = store.read
    store.read = lambda: go_on.wait(30) and read()  # type: ignore[method-assign]
    one = SecretServiceKeep(store, Threads(limiters={THREADS: 1}))
    with pytest.raises(KeepError, match="did not answer within"):
        await one.load(UID)
    with pytest.raises(KeepError, match="does not answer"):
        await one.save(SESSION)
    go_on.set()
    monkeypatch.undo()
    with trio.fail_after(30):
        while True:
            try:
                await one.save(SESSION)
                break
            except KeepError:
                await trio.lowlevel.checkpoint()

    assert await one.load(UID) == [SESSION]


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


# --- the text --------------------------------------------------------------------------------


def damaged(**changes: object) -> str:
    document = json.loads(format_kept({KEY: SESSION, OTHER.key: OTHER}))
    document["sessions"][0].update(changes)
    for name in [name for name, value in changes.items() if value is ...]:
        del document["sessions"][0][name]
    return json.dumps(document)


@pytest.mark.parametrize(
    "changes",
    [
        {"owner_uid": "1000"},
        {"owner_uid": True},
        {"instance": ""},
        {"issuer": 7},
        {"client_id": None},
        {"identity": "x" * (MAX_FIELD + 1)},
        {"subject": []},
        {"refresh_token": ""},
        {"logged_in": "yesterday"},
        {"logged_in": "2026-05-01T12:00:00"},
        {"ends": 5},
        {"is_default": 1},
    ],
    ids=str,
)
def test_a_damaged_session_is_left_out(changes: dict[str, object]) -> None:
    assert list(parse_kept(damaged(**changes)).values()) == [OTHER]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"sessions":{}}', '{"version":1}'])
def test_a_text_that_is_none_of_ours(text: str) -> None:
    assert parse_kept(text) == {}


async def test_a_damaged_text_is_replaced() -> None:
    store = FakeStore("{")
    await keep(store).save(SESSION)

    assert await keep(store).load(UID) == [SESSION]


async def test_a_later_versions_text_is_left_alone() -> None:
    store = FakeStore('{"version": 2, "sessions": "elsewhere"}')
    with pytest.raises(KeepError, match="version 2"):
        await keep(store).save(SESSION)

    assert store.writes == 0


# Printable ones, without blanks.
texts = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@given(
    st.lists(
        st.builds(
            KeptSession,
            key=st.builds(SessionKey, st.integers(0, 2**32 - 2), texts, texts, texts, texts),
            subject=texts,
            refresh_token=st.builds(Secret, texts),
            logged_in=st.datetimes(timezones=st.just(UTC)),
            ends=st.datetimes(timezones=st.just(UTC)),
            is_default=st.booleans(),
        ),
        max_size=5,
    )
)
def test_what_is_written_is_read(sessions: list[KeptSession]) -> None:
    kept = {session.key: session for session in sessions}
    assert parse_kept(format_kept(kept)) == kept


@given(st.text(max_size=100))
def test_any_text_is_read_without_a_fault(text: str) -> None:
    parse_kept(text)


# --- where it is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x", "XDG_RUNTIME_DIR": "/r"}, "unix:path=/x"),
        ({"XDG_RUNTIME_DIR": "/run/user/1000"}, "unix:path=/run/user/1000/bus"),
        ({}, ""),
    ],
)
def test_session_bus(environ: dict[str, str], address: str) -> None:
    assert session_bus(environ) == address


@pytest.mark.parametrize("name", ["keyring.backends.SecretService", "secretstorage", "jeepney"])
def test_a_missing_package_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for loaded in [one for one in sys.modules if one.partition(".")[0] == name.partition(".")[0]]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [Missing(name), *sys.meta_path])
    with pytest.raises(KeepError, match=r"keyless\[keyring\]") as found:
        open_keep({}, Path("/state"), Threads(run_inline))

    assert name.partition(".")[0] in found.value.message


class Missing:
    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *_: object) -> None:
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

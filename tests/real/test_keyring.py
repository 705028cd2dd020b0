"""Sessions in a real GNOME keyring, on a D-Bus of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from keylessd.flow.threads import Threads
from keylessd.identity.keep import KeepError, KeptSession, SessionKey
from keylessd.identity.keep_secret_service import SecretServiceKeep, SecretServiceStore
from keylessd.secret import Secret
from signing_in import log_in
from standing import LOOK, Standing, standing

SESSION = KeptSession(
    key=SessionKey(1000, "public", "https://issuer.example", "sigstore", "a@example.org"),
    subject="subject-a",
    refresh_token=Secret("refresh-token-to-be-kept"),
    logged_in=datetime(2026, 5, 1, 12, 30, tzinfo=UTC),
    ends=datetime(2026, 5, 2, 0, 30, tzinfo=UTC),
)


def keep(desktop, state: str = "/home/a/.local/state/keyless") -> SecretServiceKeep:
    return SecretServiceKeep(SecretServiceStore(desktop.bus, Path(state)), Threads())


async def test_another_daemon_finds_the_session(desktop) -> None:
    desktop.log_in()
    await keep(desktop).save(SESSION)

    assert await keep(desktop).load(1000) == [SESSION]
    assert await keep(desktop).load(1001) == []
    assert await keep(desktop, "/elsewhere").load(1000) == []


async def test_the_session_survives_the_desktop(desktop) -> None:
    desktop.log_in()
    await keep(desktop).save(SESSION)
    desktop.log_out()
    desktop.log_in()

    assert await keep(desktop).load(1000) == [SESSION]


async def test_rotation_replaces_what_is_kept(desktop) -> None:
    desktop.log_in()
    rotated = replace(SESSION, refresh_token=Secret("rotated"))
    await keep(desktop).save(SESSION)
    await keep(desktop).save(rotated)

    assert await keep(desktop).load(1000) == [rotated]


async def test_a_forgotten_session_leaves_nothing(desktop) -> None:
    desktop.log_in()
    await keep(desktop).save(SESSION)
    await keep(desktop).forget(SESSION.key)
    await keep(desktop).forget(SESSION.key)

    store = SecretServiceStore(desktop.bus, Path("/home/a/.local/state/keyless"))
    assert await trio.to_thread.run_sync(store.read) is None


async def test_nothing_readable_is_on_the_disk(desktop) -> None:
    desktop.log_in()
    await keep(desktop).save(SESSION)
    desktop.log_out()

    files = [path for path in desktop.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".keyring" for path in files)
    for path in files:
        assert b"refresh-token-to-be-kept" not in path.read_bytes()


# --- what can go wrong -------------------------------------------------------------------------


async def test_locked_keyring(desktop) -> None:
    desktop.log_in()
    await keep(desktop).save(SESSION)
    desktop.start_locked()
    with pytest.raises(KeepError, match="is locked") as found:
        await keep(desktop).load(1000)

    assert found.value.hint is not None
    assert "unlock" in found.value.hint
    with pytest.raises(KeepError):
        await keep(desktop).save(SESSION)


async def test_no_keyring_on_the_bus(desktop) -> None:
    with pytest.raises(KeepError, match="no Secret Service") as found:
        await keep(desktop).load(1000)

    assert found.value.hint is not None


async def test_no_bus(tmp_path: Path) -> None:
    for bus in ("", f"unix:path={tmp_path}/absent", "tcp:host=localhost,port=1", "nonsense"):
        one = SecretServiceKeep(SecretServiceStore(bus, tmp_path), Threads())
        with pytest.raises(KeepError, match="cannot be read"):
            await one.load(1000)


async def test_keyring_that_hangs(desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    desktop.log_in()
    patient = keep(desktop)
    await patient.save(SESSION)
    monkeypatch.setattr("keylessd.identity.keep_secret_service.DEADLINE_SECONDS", 0.3)
    desktop.halt()
    rotated = replace(SESSION, refresh_token=Secret("rotated"))
    with pytest.raises(KeepError, match="did not answer"):
        await patient.save(rotated)
    # The next one does not wait as long again.
    with pytest.raises(KeepError, match="does not answer"):
        await patient.load(1000)
    desktop.go_on()
    monkeypatch.undo()
    # It was given up and not undone. Another daemon finds it as soon as it is there.
    with trio.fail_after(30):
        while await keep(desktop).load(1000) != [rotated]:  # noqa: ASYNC110
            await trio.sleep(0.05)


# --- a daemon that ends while it renews --------------------------------------------------------


@pytest.fixture
def house(desktop, tmp_path: Path) -> Iterator[Standing]:
    """A daemon that keeps logins, and an issuer whose tokens end soon."""
    config = tmp_path / "config" / "keyless"
    config.mkdir(parents=True)
    (config / "config.toml").write_text('persist = "secret-service"\n')
    for made in standing(tmp_path, "--token-lifetime", "13"):
        for name in ("SIGSTORE_ID_TOKEN", "CI"):
            made.environ.pop(name, None)
        made.environ["DBUS_SESSION_BUS_ADDRESS"] = desktop.bus
        yield made


def test_a_rotated_token_is_kept_before_the_daemon_ends(desktop, house: Standing) -> None:
    desktop.log_in()
    log_in(house)
    first, second, third = house.files(3, stem="rotated")
    # The issuer takes a refresh token once, and answers late.
    house.fault("oidc_issuer", fault="late_reply", seconds=3.0, path="/token")
    before = house.asked("oidc_issuer")
    while True:
        client = house.start("sign", "--reuse", "never", first)
        while client.poll() is None and house.asked("oidc_issuer") == before:
            time.sleep(LOOK)
        if client.poll() is None:
            break
        house.finish([client])
    # Nobody waits for the answer any more: it is the daemon's alone.
    client.kill()
    house.finish([client])
    house.kill_daemon(signal.SIGTERM)
    house.heal()

    done = house.keyless("sign", "--reuse", "never", second, third)
    assert done.returncode == 0, done.stderr

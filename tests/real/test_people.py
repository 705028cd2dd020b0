"""A person logs in at Dex with `keyless login`, and signs without a token from then on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from itertools import count

import pytest
from tests.real import dex
from tests.real.clients import Expected
from tests.real.people import PeoplesHouse, Terminal, log_in

from procfs import shown_of
from standing import bundle_of

NO_IDENTITY = 4  # exit status
_numbers = count()


@pytest.fixture
def home(stack) -> Iterator[PeoplesHouse]:
    house = PeoplesHouse(stack, f"people-{next(_numbers)}")
    yield house
    house.close()


def signed(house: PeoplesHouse, *words: str, stem: str = "by-login-"):
    """Sign a new file without a token; return it."""
    (path,) = house.files(1, stem=stem)
    done = house.keyless("sign", "--instance", "v1-tsa", *words, path)
    assert done.returncode == 0, done.stderr
    return path


def accepted(house, judge, path, who: Expected) -> None:
    assert house.verify_as(who, path).returncode == 0
    assert judge.refusal(bundle_of(path), path, who) is None
    wrong = Expected(who.identity + "x", who.issuer)
    assert judge.refusal(bundle_of(path), path, wrong) is not None


def identities(house: PeoplesHouse) -> list[dict[str, object]]:
    done = house.keyless("whoami", "--json", "--instance", "v1-tsa")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_login_and_then_no_token(stack, home, cosign) -> None:
    who = Expected(dex.EMAIL, stack.urls.dex)
    pages = []
    done = log_in(home, lambda url: pages.append(dex.sign_in(url)), "--instance", "v1-tsa")
    first, second = (signed(home) for _ in range(2))

    assert f"signed in as {dex.EMAIL}" in done.stdout
    assert "renewed by itself" in done.stdout
    assert "You are signed in" in pages[0].text
    assert dex.EMAIL in pages[0].text
    for path in (first, second):
        accepted(home, cosign, path, who)
    (found,) = identities(home)
    assert (found["identity"], found["issuer"]) == (who.identity, who.issuer)


def test_login_by_device(stack, home, cosign) -> None:
    terminal = Terminal(home, "--device", "--instance", "v1-tsa")
    page = terminal.told(r"or open (\S+)")
    code = terminal.told(r"enter the code +(\S+)")
    dex.sign_in(page)
    done = terminal.finish()
    path = signed(home)

    assert done.returncode == 0, done.stderr
    assert code in page
    # A log may have it, and then everybody could use it.
    assert code not in done.stdout
    accepted(home, cosign, path, Expected(dex.EMAIL, stack.urls.dex))


def test_login_by_a_pasted_code(stack, home, cosign) -> None:
    terminal = Terminal(home, "--oob", "--instance", "v1-tsa")
    code = dex.code_of(dex.sign_in(terminal.told(r"(http://\S+)")))
    done = terminal.finish(code)
    path = signed(home)

    assert done.returncode == 0, done.stderr
    assert code not in done.stdout + done.stderr
    accepted(home, cosign, path, Expected(dex.EMAIL, stack.urls.dex))


def test_two_identities_side_by_side(stack, home, cosign) -> None:
    log_in(home, dex.sign_in, "--instance", "v1-tsa")
    log_in(home, dex.follow, "--instance", "v1-tsa", "--connector", "mock")
    people = {email: Expected(email, stack.urls.dex) for email in (dex.EMAIL, dex.MOCK_EMAIL)}

    assert {found["identity"] for found in identities(home)} == set(people)
    for email, who in people.items():
        accepted(home, cosign, signed(home, "--identity", email), who)
    (path,) = home.files(1, stem="nobody-")
    done = home.keyless("sign", "--instance", "v1-tsa", "--identity", "x@keyless.test", path)
    assert done.returncode == NO_IDENTITY
    assert not bundle_of(path).exists()


def test_logout(home) -> None:
    log_in(home, dex.sign_in, "--instance", "v1-tsa")
    signed(home)
    done = home.keyless("logout", "--instance", "v1-tsa")
    (path,) = home.files(1, stem="after-logout-")
    refused = home.keyless("sign", "--instance", "v1-tsa", path)

    assert done.returncode == 0, done.stderr
    # Dex cannot take a refresh token back, and nobody says it had.
    assert "not revoked" in done.stdout
    assert refused.returncode == NO_IDENTITY
    assert "keyless login" in refused.stderr


def test_another_instance_has_another_session(home) -> None:
    log_in(home, dex.sign_in, "--instance", "v1-tsa")
    (path,) = home.files(1, stem="elsewhere-")
    done = home.keyless("sign", "--instance", "v2", path)

    assert done.returncode == NO_IDENTITY
    assert "keyless login --instance v2" in done.stderr


def test_nothing_is_opened_where_nobody_asked(home) -> None:
    (path,) = home.files(1, stem="unasked-")
    done = home.keyless("sign", path, environ={"BROWSER": "/bin/false"})

    assert done.returncode == NO_IDENTITY
    assert "keyless login" in done.stderr


# --- logins that outlive the daemon ------------------------------------------------------------


@pytest.fixture
def kept(stack, desktop) -> Iterator[PeoplesHouse]:
    house = PeoplesHouse(
        stack,
        f"kept-{next(_numbers)}",
        settings='persist = "secret-service"\nlog_level = "debug"',
        environ={"DBUS_SESSION_BUS_ADDRESS": desktop.bus},
    )
    yield house
    house.close()


def in_the_keyring(house: PeoplesHouse, desktop) -> str | None:
    from keylessd.identity.keep_secret_service import SecretServiceStore

    state = house.directory / "state" / "keyless"
    return SecretServiceStore(desktop.bus, state).read()


def test_another_daemon_goes_on_with_the_login(stack, kept, desktop, cosign) -> None:
    desktop.log_in()
    log_in(kept, dex.sign_in, "--instance", "v1-tsa")
    first = signed(kept)
    kept.kill_daemon()
    second = signed(kept)

    for path in (first, second):
        accepted(kept, cosign, path, Expected(dex.EMAIL, stack.urls.dex))


def test_logout_takes_it_out_of_the_keyring(kept, desktop) -> None:
    desktop.log_in()
    log_in(kept, dex.sign_in, "--instance", "v1-tsa")
    before = in_the_keyring(kept, desktop)
    assert kept.keyless("logout", "--instance", "v1-tsa").returncode == 0
    kept.kill_daemon()
    (path,) = kept.files(1, stem="after-logout-")

    assert before is not None
    assert dex.EMAIL in before
    assert in_the_keyring(kept, desktop) is None
    assert kept.keyless("sign", "--instance", "v1-tsa", path).returncode == NO_IDENTITY


def test_login_without_a_keyring_is_good_and_degraded(kept, desktop) -> None:
    log_in(kept, dex.sign_in, "--instance", "v1-tsa")
    signed(kept)
    (found,) = identities(kept)
    kept.kill_daemon()
    (path,) = kept.files(1, stem="forgotten-")

    assert found["state"] == "degraded"
    assert "Secret Service" in str(found["reason"])
    assert kept.keyless("sign", "--instance", "v1-tsa", path).returncode == NO_IDENTITY


def test_keyring_that_is_locked_after_the_start(kept, desktop) -> None:
    desktop.log_in()
    log_in(kept, dex.sign_in, "--instance", "v1-tsa")
    kept.kill_daemon()
    desktop.start_locked()
    (path,) = kept.files(1, stem="locked-")
    refused = kept.keyless("sign", "--instance", "v1-tsa", path)
    desktop.log_in()

    assert refused.returncode == NO_IDENTITY
    assert "the default keyring is locked" in refused.stderr
    assert "unlock the keyring" in refused.stderr
    # The same daemon looks again, now that it is open.
    signed(kept)


def test_the_refresh_token_is_in_the_keyring_alone(kept, desktop) -> None:
    desktop.log_in()
    log_in(kept, dex.sign_in, "--instance", "v1-tsa")
    signed(kept)
    text = in_the_keyring(kept, desktop)
    assert text is not None
    token = json.loads(text)["sessions"][0]["refresh_token"].encode()
    said = kept.keyless("status", "--json").stdout + kept.keyless("whoami", "--json").stdout
    pid = kept.daemon_pid()
    assert pid is not None
    processes = shown_of(pid)
    kept.kill_daemon()
    desktop.log_out()

    folders = (kept.directory, desktop.folder)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "keylessd.log" for path in files)
    assert any(path.suffix == ".keyring" for path in files)
    assert [path for path in files if token in path.read_bytes()] == []
    assert not any(token in text for text in (*processes.values(), said.encode()))


def test_a_lock_is_not_undone_by_another_daemon(kept, desktop) -> None:
    desktop.log_in()
    log_in(kept, dex.sign_in, "--instance", "v1-tsa")
    signed(kept)
    assert locking(kept, "lock") == 0
    held = in_the_keyring(kept, desktop)
    assert locking(kept, "unlock") == 0
    again = in_the_keyring(kept, desktop)
    assert locking(kept, "lock") == 0
    kept.kill_daemon()
    (path,) = kept.files(1, stem="unlocked-")

    assert held is None
    assert again is not None
    assert kept.keyless("sign", "--instance", "v1-tsa", path).returncode == NO_IDENTITY


def locking(house: PeoplesHouse, op: str) -> int:
    done = subprocess.run(
        house.command(op),
        env=house.environ,
        cwd=house.work,
        input="a passphrase\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode

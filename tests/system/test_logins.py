"""Logins of real processes: a daemon, a sandbox, the command, and a browser of a few lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from procfs import shown_of
from signing_in import ADA, log_in
from standing import CHECKOUT, PATHS, Standing, bundle_of, standing

pytestmark = pytest.mark.system

NOBODY = 65534
PASSPHRASE = "canary-passphrase-9f"


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Iterator[Standing]:
    directory = tmp_path_factory.mktemp("logins")
    config = directory / "config" / "keyless"
    config.mkdir(parents=True)
    (config / "config.toml").write_text('log_level = "debug"\n')
    for made in standing(directory):
        del made.environ["SIGSTORE_ID_TOKEN"]
        made.environ.pop("CI", None)
        yield made


def places(house: Standing) -> dict[str, bytes]:
    """Return everything a finder could read: files, and what the system shows of the daemon."""
    pid = house.daemon_pid()
    found = [path for path in house.directory.rglob("*") if path.is_file()]
    found = [path for path in found if house.sandbox_directory not in path.parents]
    assert pid is not None
    return shown_of(pid) | {str(path): path.read_bytes() for path in found}


def test_a_login_signs_and_leaves_no_trace(house: Standing) -> None:
    nobody = house.keyless("sign", *house.files(1, stem="before"))
    assert nobody.returncode == 4
    assert "keyless login" in nobody.stderr

    browser, page, said = log_in(house)
    assert ADA in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert f"signed in as {ADA}" in said

    files = house.files(2, stem="after")
    signed = house.keyless("sign", *files)
    assert signed.returncode == 0, signed.stderr
    assert all(bundle_of(path).exists() for path in files)
    status = house.keyless("status")
    assert f"identity     {ADA}" in status.stdout
    assert "the default, active, renewed by itself" in status.stdout
    assert house.keyless("whoami").stdout.startswith(ADA)

    told = (nobody, signed, status, house.keyless("ledger", "--json"))
    texts = {f"output {n}": (one.stdout + one.stderr).encode() for n, one in enumerate(told)}
    for place, content in {**places(house), **texts}.items():
        for secret in browser.seen:
            assert secret.encode() not in content, place


def test_a_lock_and_its_passphrase(house: Standing) -> None:
    def locking(op: str, word: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            house.command(op),
            env=house.environ,
            cwd=house.work,
            input=word + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    if ADA not in house.keyless("whoami").stdout:
        log_in(house)
    assert locking("lock", PASSPHRASE).returncode == 0
    refused = house.keyless("sign", *house.files(1, stem="locked"))
    assert (refused.returncode, "keyless unlock" in refused.stderr) == (4, True)
    assert "LOCKED" in house.keyless("status").stdout
    wrong = locking("unlock", "wrong")
    assert wrong.returncode == 7
    assert PASSPHRASE not in wrong.stdout + wrong.stderr
    for place, content in places(house).items():
        assert PASSPHRASE.encode() not in content, place
    assert locking("unlock", PASSPHRASE).returncode == 0
    assert house.keyless("sign", *house.files(1, stem="unlocked")).returncode == 0


ANOTHER = """
import os, sys
sys.path[:0] = sys.argv[2].split(":")
# Everything that is needed, while this user may still read it.
import _socket, keyless._autostart, keyless._client, keyless._connect, keyless._daemon_calls
import keyless._identities, keyless.wire._codec
from keyless import Client, Digest, KeylessError
os.setgroups([]); os.setgid(65534); os.setuid(65534)
calls = {
    "whoami": lambda client: client.whoami(),
    "status": lambda client: client.status(),
    "logout": lambda client: client.logout(everyone=True),
    "unlock": lambda client: client.unlock("x"),
    "sign": lambda client: client.sign(Digest("sha256", bytes(32))).identity,
}
for name, call in calls.items():
    try:
        with Client(socket_path=sys.argv[1], environ={}, autostart=False) as client:
            print(name, call(client))
    except KeylessError as exc:
        print(name, exc.code)
for place in ("environ", "mem", "maps"):
    try:
        print(place, open(f"/proc/{sys.argv[3]}/{place}", "rb").read(100))
    except OSError as exc:
        print(place, type(exc).__name__)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_neither_uses_nor_sees_it(house: Standing) -> None:
    if ADA not in house.keyless("whoami").stdout:
        log_in(house)
    socket = house.run / "keyless" / "sign.sock"
    command = [sys.executable, "-c", ANOTHER, str(socket), PATHS, str(house.daemon_pid())]

    def ask() -> dict[str, str]:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert ADA not in done.stdout + done.stderr
        return dict(line.split(" ", 1) for line in done.stdout.splitlines())

    hidden = dict.fromkeys(("environ", "mem", "maps"), "PermissionError")
    names = ("whoami", "status", "logout", "unlock", "sign")
    assert ask() == dict.fromkeys(names, "daemon_unreachable") | hidden
    # Also where the modes let it in: the kernel says who is there.
    opened = [socket, *(path for path in socket.parents if str(path).startswith("/tmp/"))]
    modes = {path: path.stat().st_mode & 0o7777 for path in opened}
    try:
        for path in opened:
            path.chmod(0o777)
        assert ask() == dict.fromkeys(names, "not_allowed") | hidden
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert house.keyless("sign", *house.files(1, stem="mine")).returncode == 0


def test_no_core_is_written(house: Standing) -> None:
    if ADA not in house.keyless("whoami").stdout:
        log_in(house)
    house.kill_daemon(signal.SIGABRT)
    assert not list(house.directory.rglob("core*"))
    assert not list(CHECKOUT.glob("core*"))
    # A session is memory: the next daemon knows nobody.
    assert house.keyless("sign", *house.files(1, stem="next")).returncode == 4

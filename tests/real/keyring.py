"""A Secret Service of our own: a D-Bus session and a GNOME keyring below one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import secretstorage
from jeepney.io.blocking import open_dbus_connection
from tests.real.process import (
    LOOK,
    PATIENCE,
    NotStartedError,
    Program,
    accepts_unix,
    plain_environ,
)
from tests.real.versions import system_program

PASSWORD = "login-password"
# No folders of services: nothing is started on the bus but by us.
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


class Desktop:
    """What a desktop session has, as far as secrets go.

    Attributes:
        bus: D-Bus address.
        environ: What tells programs of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "bus"
        self.bus = f"unix:path={path}"
        self.environ = {
            **plain_environ(folder),
            "DBUS_SESSION_BUS_ADDRESS": self.bus,
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
        }
        config = folder / "bus.conf"
        config.write_text(_BUS.format(path=path))
        self._bus = Program(
            "dbus-daemon",
            [_program("dbus-daemon"), "--nofork", f"--config-file={config}"],
            log=folder / "bus.log",
            ready=accepts_unix(path),
            environ=self.environ,
        )
        self._keyring: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the bus; no keyring is on it yet."""
        self._bus.start()
        self._bus.wait_until_ready()

    def log_in(self) -> None:
        """Start the keyring and unlock it, as the login to a desktop does."""
        self._start_keyring("--unlock", PASSWORD.encode())
        self._wait(locked=False)

    def start_locked(self) -> None:
        """Start the keyring and leave it locked."""
        self._start_keyring("--start", b"")
        self._wait(locked=True)

    def log_out(self) -> None:
        """End the keyring; what it holds stays on the disk, encrypted."""
        keyring, self._keyring = self._keyring, None
        if keyring is not None:
            keyring.terminate()
            keyring.wait(PATIENCE)

    def halt(self) -> None:
        """Let the keyring hang."""
        assert self._keyring is not None
        self._keyring.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End halt()."""
        assert self._keyring is not None
        self._keyring.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End everything."""
        if self._keyring is not None:
            self._keyring.kill()
            self._keyring.wait()
        self._bus.stop(signal.SIGKILL)

    def _start_keyring(self, word: str, password: bytes) -> None:
        self.log_out()
        log = (self.folder / "keyring.log").open("ab")
        with log:
            self._keyring = subprocess.Popen(
                [_program("gnome-keyring-daemon"), "--foreground", "--components=secrets", word],
                env=self.environ,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        assert self._keyring.stdin is not None
        self._keyring.stdin.write(password)
        self._keyring.stdin.close()

    def _wait(self, *, locked: bool) -> None:
        end = time.monotonic() + PATIENCE
        while not self._is_there(locked=locked):
            if time.monotonic() > end:
                raise NotStartedError((self.folder / "keyring.log").read_text()[-1500:])
            time.sleep(LOOK)

    def _is_there(self, *, locked: bool) -> bool:
        with closing(open_dbus_connection(self.bus)) as connection:
            if not secretstorage.check_service_availability(connection):
                return False
            try:
                return secretstorage.Collection(connection).is_locked() == locked
            except secretstorage.SecretStorageException:
                return False


def _program(name: str) -> str:
    found = system_program(name)
    assert found is not None, f"{name} is not installed"
    return os.fspath(found)

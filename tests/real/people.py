"""People at a terminal: they run `keyless login`, go where it sends them, and come back.

The browser that the command opens is a script that writes down the address; what is done there
is for the test.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.real.house import RealHouse
from tests.real.process import LOOK, PATIENCE
from tests.real.stack import Stack

from standing import Standing

# What a job or a terminal may have set and these people have not.
_UNSET = ("SIGSTORE_ID_TOKEN", "DISPLAY", "WAYLAND_DISPLAY", "CI")


class PeoplesHouse(RealHouse):
    """keyless in front of the real services, without any token but what a login brings.

    Args:
        stack: The services.
        name: Of its folder; another house is another user as far as sessions go.
        settings: Lines for the top of the settings.
        environ: Further variables of the command, and so of the daemon.
    """

    def __init__(
        self,
        stack: Stack,
        name: str,
        *,
        settings: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(stack, name)
        self.config.write_text(f"{settings}\n{self.config.read_text()}")
        self.environ.update(environ or {})

    def _token(self) -> dict[str, str]:
        return {}


class Terminal:
    """One `keyless login` that is under way.

    Args:
        house: Where it runs.
        words: Further words of the command line.
    """

    def __init__(self, house: Standing, *words: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="keyless-browser-")
        self._opened = Path(self._folder.name) / "opened"
        script = Path(self._folder.name) / "browser"
        # Renamed into its place: whoever looks sees all of it or nothing.
        script.write_text(
            f"#!/bin/sh\nprintf %s \"$1\" > '{self._opened}.new'\n"
            f"mv '{self._opened}.new' '{self._opened}'\n"
        )
        script.chmod(0o755)
        environ = {**house.environ, "BROWSER": str(script)}
        for name in _UNSET:
            environ.pop(name, None)
        self._house = house
        self.errors = ""
        self._process = subprocess.Popen(
            house.command("login", *words),
            env=environ,
            cwd=house.work,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def opened(self) -> str:
        """Return the address that the browser was started with, once it is."""
        end = time.monotonic() + PATIENCE
        while not self._opened.exists():
            if time.monotonic() > end or self._process.poll() not in (None, 0):
                raise AssertionError(f"no browser was opened: {self.finish().stderr}")
            time.sleep(LOOK)
        return self._opened.read_text()

    def told(self, pattern: str) -> str:
        """Return the first group of a pattern, once standard error has it."""
        assert self._process.stderr is not None
        while (found := re.search(pattern, self.errors)) is None:
            line = self._process.stderr.readline()
            assert line, f"{pattern!r} does not come: {self.errors}"
            self.errors += line
        return found[1]

    def finish(self, typed: str | None = None) -> subprocess.CompletedProcess[str]:
        """Wait for the end, after typing a line if there is one."""
        line = None if typed is None else f"{typed}\n"
        out, errors = self._process.communicate(line, timeout=3 * PATIENCE)
        self._house.note_daemon()
        self._folder.cleanup()
        status = self._process.returncode
        return subprocess.CompletedProcess(self._process.args, status, out, self.errors + errors)


def log_in(
    house: Standing, person: Callable[[str], object], *words: str
) -> subprocess.CompletedProcess[str]:
    """Log in by the browser; fails the test if that does not succeed.

    Args:
        house: Where.
        person: Goes to an address and does what is to be done there.
        words: Further words of the command line.
    """
    terminal = Terminal(house, *words)
    person(terminal.opened())
    done = terminal.finish()
    assert done.returncode == 0, done.stderr
    return done

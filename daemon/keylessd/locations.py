"""Where the daemon's files are, as a pure function of an environment mapping. Makes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

SYSTEM_CONFIG = Path("/etc/keyless/config.toml")
SYSTEM_SOCKET = Path("/run/keyless/sign.sock")
SYSTEM_CACHE = Path("/var/cache/keyless")
SYSTEM_STATE = Path("/var/lib/keyless")


class NoLocationError(Exception):
    """The environment does not say where something is to be; the message says what to give."""


@dataclass(frozen=True, slots=True)
class Locations:
    """The answers for one environment.

    Args:
        environ: The environment variables.
        system: Whether this is the daemon of a machine rather than of one user.
        uid: The uid the daemon runs as.
        exists: Whether a directory exists; the one question to the disk.
    """

    environ: Mapping[str, str]
    system: bool
    uid: int
    exists: Callable[[Path], bool] = Path.is_dir

    def configs(self) -> tuple[Path, ...]:
        """Return the settings files in order; the first that exists is the one that counts."""
        if self.system:
            return (SYSTEM_CONFIG,)
        own = self._base("XDG_CONFIG_HOME", ".config")
        return (SYSTEM_CONFIG,) if own is None else (own / "keyless/config.toml", SYSTEM_CONFIG)

    def socket(self) -> Path:
        """Return the path of the socket: where the client looks for it in this environment.

        Raises:
            NoLocationError: there is no directory for one.
        """
        if named := self.environ.get("KEYLESS_SOCKET"):
            return Path(named).absolute()
        runtime = _absolute(self.environ.get("XDG_RUNTIME_DIR"))
        if not self.system and runtime is not None:
            return runtime / "keyless/sign.sock"
        if self.system:
            return SYSTEM_SOCKET
        login = Path(f"/run/user/{self.uid}")
        if self.exists(login):
            return login / "keyless/sign.sock"
        return self.state() / "run/sign.sock"

    def cache(self) -> Path:
        """Return the directory for what can be fetched again.

        Raises:
            NoLocationError: there is no home.
        """
        return self._own("CACHE_DIRECTORY", SYSTEM_CACHE, "XDG_CACHE_HOME", ".cache", "--cache-dir")

    def state(self) -> Path:
        """Return the directory for what must be kept.

        Raises:
            NoLocationError: there is no home.
        """
        return self._own(
            "STATE_DIRECTORY", SYSTEM_STATE, "XDG_STATE_HOME", ".local/state", "--state-dir"
        )

    def sandbox(self) -> Path:
        """Return the directory in which the local Sigstore keeps its state.

        Raises:
            NoLocationError: there is no home.
        """
        base = self._base("XDG_STATE_HOME", ".local/state")
        return (self.state() if base is None else base / "keyless") / "sandbox"

    def _own(self, given: str, system: Path, xdg: str, below_home: str, option: str) -> Path:
        # Of the service manager; several are possible, the first one is ours.
        if (path := _absolute(self.environ.get(given, "").split(":")[0])) is not None:
            return path
        if self.system:
            return system
        base = self._base(xdg, below_home)
        if base is None:
            raise NoLocationError(f"neither {xdg} nor HOME is set; give {option} DIRECTORY")
        return base / "keyless"

    def _base(self, xdg: str, below_home: str) -> Path | None:
        # The XDG specification: a path that is not absolute counts as not set.
        if (path := _absolute(self.environ.get(xdg))) is not None:
            return path
        home = _absolute(self.environ.get("HOME"))
        return None if home is None else home / below_home


def _absolute(value: str | None) -> Path | None:
    return Path(value) if value and Path(value).is_absolute() else None

"""Settings: TOML text in, one frozen value out; an error names the key and its line.

Reads the one file it is told to and nothing else: no environment, no search path, no network.
Whether the files and addresses that it names exist is for those who use them.
"""

from __future__ import annotations

import math
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from keylessd.held_settings import HeldSettings, read_held
from keylessd.toml_lines import key_lines
from keylessd.toml_table import SettingsError, Table, suggestion

__all__ = [
    "AmbientSettings",
    "HeldSettings",
    "HttpSettings",
    "InstanceSettings",
    "Limits",
    "SessionSettings",
    "Settings",
    "SettingsError",
    "Timeouts",
    "load_settings",
    "parse_settings",
    "restart_needed",
]

Reuse = Literal["window", "never"]
LedgerFailure = Literal["closed", "open"]
Persist = Literal["memory", "secret-service"]

BUILTIN_INSTANCES: Final = ("public", "staging", "sandbox")
# The built-in instances that have a TUF repository, and so a choice of configurations in it.
BUILTIN_WITH_TARGETS: Final = ("public", "staging")
MAX_FILE: Final = 1 << 20  # bytes; a hand-written file is a thousandth of this

# A login waits for a person; the flows have a little less.
LOGIN_SECONDS: Final = 300.0
MAX_SESSION: Final = 30 * 24 * 3600.0  # seconds
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_INSTANCE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once. Every number is checked before the thing it bounds is allocated."""

    # One connection is two descriptors at most while it is accepted, one afterwards; a build
    # of 256 parallel clients fits four times.
    connections: int = 1024
    # Of one process. One hostile process cannot take all of them, one busy build tool fits.
    connections_per_process: int = 320
    # Of one uid; in user mode there is one uid, so the total is the bound that matters.
    connections_per_uid: int = 1024
    # A client that pipelines 200 files keeps the services busy with far fewer than these.
    requests_per_connection: int = 64
    # MiB that unread frames and the attachments of running requests may hold, all together.
    buffer_mib: int = 256
    # Trust roots and signing configurations that clients sent, kept by their hash.
    file_cache_mib: int = 32


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds."""

    hello: float = 5.0  # from accept to a complete hello; a local client needs a millisecond
    frame: float = 10.0  # from a frame's first byte to its last; 16 MiB locally takes 20 ms
    idle: float = 60.0  # without a request; a client that was closed connects again
    write: float = 5.0  # until the client has taken a reply
    # One request as a whole. The slowest log answers in 20 s, and one retry has to fit.
    request: float = 120.0
    # From SIGTERM until what still runs is cut: the slowest log, and a little. TimeoutStopSec of
    # the units is longer.
    drain: float = 30.0

    def of(self, op: str) -> float:
        """Return how long a request for *op* may take."""
        return LOGIN_SECONDS if op == "login" else self.request

    def told(self) -> dict[str, int]:
        """Return what clients are told, so that they wait as long."""
        return {
            "request_seconds": math.ceil(self.request),
            "login_seconds": math.ceil(LOGIN_SECONDS),
        }


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How services are reached; the daemon reads no proxy variables from its environment.

    Attributes:
        proxy: URL of the proxy for everything but this machine itself.
        cleartext_hosts: Host names that may be asked by plain http, besides this machine.
    """

    proxy: str | None = None
    cleartext_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AmbientSettings:
    """Where the daemon may fetch a token for a client that says where its CI system gives them.

    Attributes:
        github_hosts: Hosts, with all below them, that are a GitHub Enterprise Server's. Those of
            github.com are known.
        buildkite_hosts: The same for Buildkite, whose own are known.
    """

    github_hosts: frozenset[str] = frozenset()
    buildkite_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How long a login may last, in seconds, whatever its issuer allows."""

    lifetime: float = 12 * 3600.0  # from the login on: a working day
    idle: float = 4 * 3600.0  # without use


@dataclass(frozen=True, slots=True)
class InstanceSettings:
    """One ``[instance.NAME]`` table, in one of three shapes.

    Exactly one of these is given: ``tuf_url`` with ``tuf_root``; ``trusted_root`` with an
    optional ``signing_config``; the four URLs stand beside either of them and override the
    signing configuration. Of a built-in instance only ``signing_config_target`` can be given.
    """

    name: str
    tuf_url: str | None = None
    tuf_root: Path | None = None
    trusted_root: Path | None = None
    signing_config: Path | None = None
    fulcio_url: str | None = None
    rekor_url: str | None = None
    oidc_issuer: str | None = None
    timestamp_server_url: str | None = None
    signing_config_target: str | None = None  # name of the TUF target, if not the usual one


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured. Paths left out are None; ``__main__`` fills them in."""

    reuse: Reuse = "window"
    default_instance: str = "public"
    log_level: str = "info"
    # What happens when an attempt cannot be recorded: nothing is signed, or it is signed anyway.
    ledger_failure: LedgerFailure = "closed"
    # What outlives the daemon of a login: nothing, or the refresh token in the user's keyring.
    persist: Persist = "memory"
    # Whether verification goes on with an expired trust root that cannot be renewed.
    verify_with_expired_trust: bool = False
    socket: Path | None = None
    cache_dir: Path | None = None
    state_dir: Path | None = None
    sandbox_dir: Path | None = None
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    http: HttpSettings = field(default_factory=HttpSettings)
    ambient: AmbientSettings = field(default_factory=AmbientSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    instances: Mapping[str, InstanceSettings] = field(default_factory=lambda: MappingProxyType({}))
    # In the order of the text: of those a user may use, the first is taken if none is named.
    identities: Mapping[str, HeldSettings] = field(default_factory=lambda: MappingProxyType({}))
    # Whether a machine is served and not one user; the command line alone says so.
    system: bool = False


def load_settings(path: Path | None) -> Settings:
    """Read *path*, or return the defaults if it is None.

    Raises:
        SettingsError: the file cannot be read, or its text is not valid.
    """
    if path is None:
        return Settings()
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            raw = file.read(MAX_FILE + 1)
    except OSError as exc:
        raise SettingsError(str(path), None, None, exc.strerror or "cannot be read") from exc
    # Whoever can write it chooses which services get our tokens.
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if shared or found.st_uid not in {0, os.geteuid()}:
        problem = "others may write it; it must belong to you or to root, mode 644 or less"
        raise SettingsError(str(path), None, None, problem)
    if len(raw) > MAX_FILE:
        raise SettingsError(str(path), None, None, f"longer than {MAX_FILE} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        line = raw[: exc.start].count(b"\n") + 1
        raise SettingsError(str(path), line, None, "not UTF-8 text") from None
    return parse_settings(text, file=str(path))


def parse_settings(text: str, *, file: str = "settings") -> Settings:
    """Turn TOML *text* into settings; relative paths in it are relative to *file*'s directory.

    Raises:
        SettingsError: at the first key that is unknown, of the wrong type, or out of range.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise _syntax_error(file, text, str(exc)) from None
    except RecursionError:
        raise SettingsError(file, None, None, "nested too deeply") from None
    root = Table(document, (), file=file, lines=key_lines(text))
    settings = Settings(
        reuse="never"
        if root.choice("reuse", ("window", "never"), "window") == "never"
        else "window",
        default_instance=root.text("default_instance") or "public",
        log_level=root.choice("log_level", LOG_LEVELS, "info"),
        ledger_failure="open"
        if root.choice("ledger_failure", ("closed", "open"), "closed") == "open"
        else "closed",
        persist="secret-service"
        if root.choice("persist", ("memory", "secret-service"), "memory") == "secret-service"
        else "memory",
        verify_with_expired_trust=root.boolean("verify_with_expired_trust", default=False),
        socket=root.path("socket"),
        cache_dir=root.path("cache_dir"),
        state_dir=root.path("state_dir"),
        sandbox_dir=root.path("sandbox_dir"),
        limits=_limits(root.table("limits")),
        timeouts=_timeouts(root.table("timeouts")),
        http=_http(root.table("http")),
        ambient=_ambient(root.table("ambient")),
        sessions=_sessions(root.table("sessions")),
        instances=_instances(root.table("instance")),
        identities=read_held(identities := root.table("identity")),
    )
    root.finish()
    known = (*BUILTIN_INSTANCES, *settings.instances)
    if settings.default_instance not in known:
        problem = f"no instance is called {settings.default_instance!r}"
        raise root.error("default_instance", problem + suggestion(settings.default_instance, known))
    for held in settings.identities.values():
        for name in sorted((held.instances or frozenset()) - {*known}):
            problem = f"no instance is called {name!r}" + suggestion(name, known)
            raise identities.table(held.name).error("instance", problem)
    return settings


def _limits(table: Table) -> Limits:
    default = Limits()
    limits = Limits(
        connections=table.integer("connections", default.connections, 1, 65536),
        connections_per_process=table.integer(
            "connections_per_process", default.connections_per_process, 1, 65536
        ),
        connections_per_uid=table.integer(
            "connections_per_uid", default.connections_per_uid, 1, 65536
        ),
        # Clients may send eight before they have read our welcome.
        requests_per_connection=table.integer(
            "requests_per_connection", default.requests_per_connection, 8, 1024
        ),
        # Below 32 MiB two of the largest requests could block each other.
        buffer_mib=table.integer("buffer_mib", default.buffer_mib, 32, 1 << 16),
        file_cache_mib=table.integer("file_cache_mib", default.file_cache_mib, 1, 1 << 12),
    )
    table.finish()
    return limits


def _timeouts(table: Table) -> Timeouts:
    default = Timeouts()
    timeouts = Timeouts(
        hello=table.seconds("hello", default.hello),
        frame=table.seconds("frame", default.frame),
        idle=table.seconds("idle", default.idle),
        write=table.seconds("write", default.write),
        request=table.seconds("request", default.request),
        drain=table.seconds("drain", default.drain),
    )
    table.finish()
    return timeouts


def _http(table: Table) -> HttpSettings:
    http = HttpSettings(
        proxy=table.url("proxy", plain_http=True), cleartext_hosts=table.hosts("cleartext_hosts")
    )
    table.finish()
    return http


def _ambient(table: Table) -> AmbientSettings:
    ambient = AmbientSettings(
        github_hosts=table.hosts("github_hosts"), buildkite_hosts=table.hosts("buildkite_hosts")
    )
    table.finish()
    return ambient


def _sessions(table: Table) -> SessionSettings:
    default = SessionSettings()
    sessions = SessionSettings(
        lifetime=table.seconds("lifetime", default.lifetime, MAX_SESSION),
        idle=table.seconds("idle", default.idle, MAX_SESSION),
    )
    table.finish()
    return sessions


def _instances(tables: Table) -> Mapping[str, InstanceSettings]:
    instances: dict[str, InstanceSettings] = {}
    for name in tables.names():
        if _INSTANCE_NAME.fullmatch(name) is None:
            raise tables.error(name, "a name is made of a-z, 0-9, '.', '_' and '-'")
        if name in BUILTIN_INSTANCES:
            instances[name] = _builtin_instance(name, tables)
        else:
            instances[name] = _instance(name, tables.table(name))
    tables.finish()
    return MappingProxyType(instances)


def _builtin_instance(name: str, tables: Table) -> InstanceSettings:
    """Read the one thing that may be chosen of an instance whose trust root is built in."""
    table = tables.table(name)
    if name not in BUILTIN_WITH_TARGETS or table.names() != ["signing_config_target"]:
        allowed = "; only its signing_config_target can be set"
        problem = "this instance is built in" + (allowed if name in BUILTIN_WITH_TARGETS else "")
        raise tables.error(name, problem + "; choose another name")
    return InstanceSettings(name=name, signing_config_target=table.text("signing_config_target"))


def _instance(name: str, table: Table) -> InstanceSettings:
    instance = InstanceSettings(
        name=name,
        tuf_url=table.url("tuf_url"),
        tuf_root=table.path("tuf_root"),
        trusted_root=table.path("trusted_root"),
        signing_config=table.path("signing_config"),
        fulcio_url=table.url("fulcio_url"),
        rekor_url=table.url("rekor_url"),
        oidc_issuer=table.url("oidc_issuer"),
        timestamp_server_url=table.url("timestamp_server_url"),
        signing_config_target=table.text("signing_config_target"),
    )
    table.finish()
    if (instance.tuf_url is None) != (instance.tuf_root is None):
        given, missing = (
            ("tuf_url", "tuf_root") if instance.tuf_root is None else ("tuf_root", "tuf_url")
        )
        raise table.error(given, f"needs {missing} beside it")
    if (instance.tuf_url is None) == (instance.trusted_root is None):
        raise table.error(None, "needs either tuf_url with tuf_root, or trusted_root")
    if instance.signing_config is not None and instance.trusted_root is None:
        raise table.error("signing_config", "needs trusted_root beside it")
    if instance.signing_config_target is not None and instance.tuf_url is None:
        raise table.error("signing_config_target", "needs tuf_url beside it")
    return instance


def restart_needed(before: Settings, after: Settings) -> list[str]:
    """Return the keys whose change a reload cannot put in force."""
    changes = {
        "socket": before.socket != after.socket,
        "cache_dir": before.cache_dir != after.cache_dir,
        "state_dir": before.state_dir != after.state_dir,
        "persist": before.persist != after.persist,
        "http.proxy": before.http.proxy != after.http.proxy,
    }
    return [key for key, changed in changes.items() if changed]


_POSITION: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def _syntax_error(file: str, text: str, message: str) -> SettingsError:
    """Read the place out of the message, since it is nowhere else; move it to the front."""
    position = _POSITION.search(message)
    if position is None:
        return SettingsError(file, None, None, message)
    line = int(position[1]) if position[1] else text.count("\n") + 1
    return SettingsError(file, line, None, message[: position.start()].lower())

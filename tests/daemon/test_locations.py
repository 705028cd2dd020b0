"""Where the daemon's files are, by environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from keylessd.locations import Locations, NoLocationError


def at(environ: dict[str, str], *, system: bool = False, login: bool = False) -> Locations:
    return Locations(environ, system=system, uid=1000, exists=lambda _: login)


HOME = {"HOME": "/h"}


@pytest.mark.parametrize(
    ("where", "socket"),
    [
        (at({"KEYLESS_SOCKET": "/s", "XDG_RUNTIME_DIR": "/r"}), "/s"),
        (at({"XDG_RUNTIME_DIR": "/r", **HOME}), "/r/keyless/sign.sock"),
        (at({"XDG_RUNTIME_DIR": "r", **HOME}), "/h/.local/state/keyless/run/sign.sock"),
        (at(HOME, login=True), "/run/user/1000/keyless/sign.sock"),
        (at(HOME), "/h/.local/state/keyless/run/sign.sock"),
        (at({"XDG_STATE_HOME": "/st", **HOME}), "/st/keyless/run/sign.sock"),
        (at({"XDG_RUNTIME_DIR": "/r", **HOME}, system=True), "/run/keyless/sign.sock"),
    ],
)
def test_socket(where: Locations, socket: str) -> None:
    assert where.socket() == Path(socket)


@pytest.mark.parametrize(
    ("where", "cache", "state"),
    [
        (at(HOME), "/h/.cache/keyless", "/h/.local/state/keyless"),
        (at({"XDG_CACHE_HOME": "/c", "XDG_STATE_HOME": "/s"}), "/c/keyless", "/s/keyless"),
        (at({"XDG_CACHE_HOME": "c", **HOME}), "/h/.cache/keyless", "/h/.local/state/keyless"),
        (at({"CACHE_DIRECTORY": "/c:/d", "STATE_DIRECTORY": "/s", **HOME}), "/c", "/s"),
        (at({}, system=True), "/var/cache/keyless", "/var/lib/keyless"),
    ],
)
def test_cache_and_state(where: Locations, cache: str, state: str) -> None:
    assert (where.cache(), where.state()) == (Path(cache), Path(state))


@pytest.mark.parametrize(
    ("where", "configs"),
    [
        (at(HOME), ["/h/.config/keyless/config.toml", "/etc/keyless/config.toml"]),
        (
            at({"XDG_CONFIG_HOME": "/x"}),
            ["/x/keyless/config.toml", "/etc/keyless/config.toml"],
        ),
        (at({}), ["/etc/keyless/config.toml"]),
        (at(HOME, system=True), ["/etc/keyless/config.toml"]),
    ],
)
def test_configs(where: Locations, configs: list[str]) -> None:
    assert list(where.configs()) == [Path(config) for config in configs]


def test_no_home_says_what_to_give() -> None:
    with pytest.raises(NoLocationError, match="--cache-dir"):
        at({}).cache()
    with pytest.raises(NoLocationError, match="--state-dir"):
        at({}).socket()


def test_sandbox_is_where_the_sandbox_puts_itself() -> None:
    from keylessd.sandbox.instance import default_directory

    for environ in (HOME, {"XDG_STATE_HOME": "/s", **HOME}):
        assert at(environ).sandbox() == default_directory(environ)


def test_socket_is_where_the_client_looks() -> None:
    from keyless._address import socket_path

    for environ in (
        HOME,
        {"XDG_RUNTIME_DIR": "/r", **HOME},
        {"XDG_STATE_HOME": "/s", **HOME},
        {"KEYLESS_SOCKET": "/k"},
    ):
        assert str(at(environ).socket()) == socket_path(environ, 1000, lambda _: False)

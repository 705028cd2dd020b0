"""Which socket, as a table."""

import pytest

from keyless._address import SYSTEM_SOCKET, socket_path, state_directory
from keyless.errors import DaemonUnreachableError

HOME = {"HOME": "/home/u"}
CASES = {
    "named": ({"KEYLESS_SOCKET": "s", "XDG_RUNTIME_DIR": "/r"}, [SYSTEM_SOCKET], "s"),
    "named by nothing": (
        {"KEYLESS_SOCKET": "", "XDG_RUNTIME_DIR": "/r"},
        [],
        "/r/keyless/sign.sock",
    ),
    "runtime directory": ({"XDG_RUNTIME_DIR": "/r/"}, [SYSTEM_SOCKET], "/r/keyless/sign.sock"),
    "relative runtime directory": ({"XDG_RUNTIME_DIR": "r"}, [SYSTEM_SOCKET], SYSTEM_SOCKET),
    "system": (HOME, [SYSTEM_SOCKET, "/run/user/7"], SYSTEM_SOCKET),
    "login session": (HOME, ["/run/user/7"], "/run/user/7/keyless/sign.sock"),
    "state": ({**HOME, "XDG_STATE_HOME": "/st"}, [], "/st/keyless/run/sign.sock"),
    "relative state": (
        {**HOME, "XDG_STATE_HOME": "st"},
        [],
        "/home/u/.local/state/keyless/run/sign.sock",
    ),
    "home": (HOME, [], "/home/u/.local/state/keyless/run/sign.sock"),
}


@pytest.mark.parametrize("name", CASES)
def test_socket_path(name):
    environ, there, expected = CASES[name]
    assert socket_path(environ, 7, there.__contains__) == expected


def test_no_place_at_all_says_what_to_do():
    with pytest.raises(DaemonUnreachableError) as caught:
        socket_path({}, 7, lambda _: False)
    assert "KEYLESS_SOCKET" in caught.value.hint


def test_state_directory_needs_an_absolute_path():
    with pytest.raises(DaemonUnreachableError):
        state_directory({"HOME": "relative"})

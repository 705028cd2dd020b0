"""SPIFFE IDs and endpoints: what is one and what is not."""

from __future__ import annotations

import pytest

from keylessd.settings import SettingsError, parse_settings
from keylessd.spiffe_names import MAX_SOCKET_PATH, MAX_SPIFFE_ID, agent_socket, is_spiffe_id

ID = "spiffe://example.org/builder"


@pytest.mark.parametrize("text", [ID, "spiffe://example.org", "spiffe://a/b/c.d_e-F"])
def test_spiffe_id(text: str) -> None:
    assert is_spiffe_id(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "spiffe://", "spiffe:///x", "https://example.org/x", "spiffe://Example.org/x"),
        *("spiffe://example.org/", "spiffe://example.org//x", "spiffe://example.org/x/"),
        *("spiffe://example.org/.", "spiffe://example.org/../x", "spiffe://u@example.org/x"),
        *("spiffe://example.org:80/x", "spiffe://example.org/x?y", "spiffe://example.org/x#y"),
        *("spiffe://example.org/%41", "spiffe://example.org/x\n", "spiffe://example.org/é"),
        "spiffe://example.org/" + "x" * MAX_SPIFFE_ID,
    ],
)
def test_not_a_spiffe_id(text: str) -> None:
    assert not is_spiffe_id(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/run/spire/api.sock", "/run/spire/api.sock"),
        ("unix:///run/spire/api.sock", "/run/spire/api.sock"),
        ("unix:/run/spire/api.sock", "/run/spire/api.sock"),
        ("unix:///run/a%20b", "/run/a b"),
        ("/run/a%20b", "/run/a%20b"),
        ("/" + "x" * (MAX_SOCKET_PATH - 1), "/" + "x" * (MAX_SOCKET_PATH - 1)),
    ],
)
def test_endpoint(text: str, path: str) -> None:
    assert agent_socket(text) == path


@pytest.mark.parametrize(
    "text",
    [
        *("", "api.sock", "./api.sock", "tcp://127.0.0.1:8081", "http://x/y", "unix:api.sock"),
        *("unix://host/run/api.sock", "unix://", "unix:///", "/", "unix:///run/api.sock?x=y"),
        *("unix:///run/api.sock#x", "unix:///a%00b", "/a\0b", "/a\nb", "unix:///a%ff", "@abstract"),
        *("/" + "x" * MAX_SOCKET_PATH, "unix://[/x"),
    ],
)
def test_not_an_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as found:
        agent_socket(text)

    assert "\0" not in str(found.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('socket = "tcp://127.0.0.1:1"', "neither an absolute path"),
        ('socket = ""', "empty"),
        ("socket = 7", "a string"),
        ('spiffe_id = "builder"', "not a SPIFFE ID"),
        ('hint = ""', "empty"),
        ('soket = "/run/x"', "socket"),
    ],
)
def test_settings_that_are_wrong(line: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as found:
        parse_settings(f'[identity.builder]\nkind = "spiffe"\n{line}\n')

    assert "3" in str(found.value)

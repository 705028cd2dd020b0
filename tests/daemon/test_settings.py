"""Settings: defaults, values, and errors that name key and line."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylessd.settings import Limits, Settings, SettingsError, load_settings, parse_settings

FULL = """
reuse = "never"
default_instance = "corp"
log_level = "debug"
socket = "/run/x/sign.sock"
cache_dir = "~/cache"
state_dir = "state"
ledger_failure = "open"
persist = "secret-service"
verify_with_expired_trust = true

[limits]
connections = 10
requests_per_connection = 8

[timeouts]
idle = 5
hello = 0.5

[sessions]
lifetime = 3600
idle = 86400

[http]
proxy = "http://proxy.example:3128"
cleartext_hosts = ["sigstore.lab", "10.0.0.7", "fd00::7"]

[instance.public]
signing_config_target = "signing_config_rekor_v2.v0.2.json"

[instance.corp]
tuf_url = "https://tuf.corp.example/"
tuf_root = "corp.root.json"
signing_config_target = "other.json"

[instance."lab.1"]
trusted_root = "/etc/lab/trusted_root.json"
signing_config = "/etc/lab/signing_config.json"
fulcio_url = "http://localhost:5555"
"""


def test_no_file_means_the_defaults() -> None:
    assert load_settings(None) == parse_settings("") == Settings()


def test_every_value_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    file = tmp_path / "config.toml"
    file.write_text(FULL)
    settings = load_settings(file)

    assert (settings.reuse, settings.default_instance, settings.log_level) == (
        "never",
        "corp",
        "debug",
    )
    assert settings.socket == Path("/run/x/sign.sock")
    assert settings.cache_dir == Path("/home/somebody/cache")
    assert settings.state_dir == tmp_path / "state"
    assert settings.limits == Limits(connections=10, requests_per_connection=8)
    assert (settings.timeouts.idle, settings.timeouts.hello) == (5.0, 0.5)
    assert (settings.sessions.lifetime, settings.sessions.idle) == (3600.0, 86400.0)
    assert settings.http.proxy == "http://proxy.example:3128"
    assert settings.http.cleartext_hosts == {"sigstore.lab", "10.0.0.7", "fd00::7"}
    assert (settings.ledger_failure, settings.verify_with_expired_trust) == ("open", True)
    assert settings.persist == "secret-service"
    target = settings.instances["public"].signing_config_target
    assert target == "signing_config_rekor_v2.v0.2.json"
    corp, lab = settings.instances["corp"], settings.instances["lab.1"]
    assert corp.tuf_url == "https://tuf.corp.example"
    assert corp.tuf_root == tmp_path / "corp.root.json"
    assert corp.signing_config_target == "other.json"
    assert lab.fulcio_url == "http://localhost:5555"
    assert lab.trusted_root == Path("/etc/lab/trusted_root.json")


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(AttributeError):
        settings.reuse = "never"  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.instances["x"] = None  # type: ignore[index]


TUF = 'tuf_url = "https://t"\ntuf_root = "r"\n'


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        ("reuse = 1", 1, "reuse", "must be a string, not a whole number"),
        ('\nreuse = "x"', 2, "reuse", '\'x\' is not one of "window", "never"'),
        ('resue = "never"', 1, "resue", 'unknown key; did you mean "reuse"?'),
        ("zzz = 1", 1, "zzz", "unknown key"),
        ('default_instance = "pubic"', 1, "default_instance", 'did you mean "public"?'),
        ('log_level = "loud"', 1, "log_level", "'loud' is not one of"),
        ('socket = ""', 1, "socket", "empty"),
        ('socket = "a\\u0007b"', 1, "socket", "cannot be printed"),
        ("limits = 3", 1, "limits", "must be a table"),
        ("# x\n[limits]\nconnections = 0", 3, "limits.connections", "0 is not from 1"),
        ("[limits]\nconnections = true", 2, "limits.connections", "not true or false"),
        ("[limits]\nconnections = 1.5", 2, "limits.connections", "not a number"),
        ("[limits]\nrequests_per_connection = 7", 2, "limits.requests_per_connection", "7 is not"),
        ("limits.conections = 3", 1, "limits.conections", 'did you mean "connections"?'),
        ("limits = {bad = 1}", 1, "limits.bad", "unknown"),
        ("[timeouts]\nidle = 0", 2, "timeouts.idle", "0 is not from"),
        ("[timeouts]\nidle = nan", 2, "timeouts.idle", "nan is not from"),
        ("[timeouts]\nidle = inf", 2, "timeouts.idle", "inf is not from"),
        ('[timeouts]\nidle = "5"', 2, "timeouts.idle", "a number of seconds, not a string"),
        ("[timeouts]\nidle = 1979-05-27", 2, "timeouts.idle", "not a date"),
        ("[sessions]\nidle = 0", 2, "sessions.idle", "not from"),
        ("[sessions]\nlifetime = 9999999", 2, "sessions.lifetime", "2592000 seconds"),
        ("[sessions]\nlife = 1", 2, "sessions.life", "unknown"),
        ('[http]\nproxy = "ftp://x"', 2, "http.proxy", "not an http or https URL"),
        ("[instance]\npublic = {}", 2, "instance.public", "only its signing_config_target"),
        (
            '[instance.staging]\nsigning_config_target = "s"\nfulcio_url = "https://f"',
            1,
            "instance.staging",
            "only its signing_config_target",
        ),
        ('[instance.public]\ntuf_url = "https://t"', 1, "instance.public", "built in"),
        ('[instance.sandbox]\nsigning_config_target = "s"', 1, "instance.sandbox", "built in"),
        (
            "[instance.public]\nsigning_config_target = 1",
            2,
            "instance.public.signing_config_target",
            "a string",
        ),
        ('persist = "file"', 1, "persist", "'file' is not one of"),
        ('ledger_failure = "ajar"', 1, "ledger_failure", "'ajar' is not one of"),
        ("verify_with_expired_trust = 1", 1, "verify_with_expired_trust", "true or false"),
        ('[http]\ncleartext_hosts = "a"', 2, "http.cleartext_hosts", "a list of host names"),
        ('[http]\ncleartext_hosts = ["a:80"]', 2, "http.cleartext_hosts", "'a:80' is not"),
        ("[http]\ncleartext_hosts = [1]", 2, "http.cleartext_hosts", "1 is not a host name"),
        ('[http]\ncleartext_hosts = ["https://a"]', 2, "http.cleartext_hosts", "is not a host"),
        ("[instance.Corp]\nx = 1", 1, "instance.Corp", "a name is made of"),
        ("[instance.corp]", 1, "instance.corp", "needs either tuf_url with tuf_root"),
        (f'[instance.c]\n{TUF}trusted_root = "t"', 1, "instance.c", "needs either"),
        ('[instance.c]\ntuf_url = "https://t"', 2, "instance.c.tuf_url", "needs tuf_root"),
        ('[instance.c]\ntuf_root = "r"', 2, "instance.c.tuf_root", "needs tuf_url"),
        (
            f'[instance.c]\n{TUF}signing_config = "s"',
            4,
            "instance.c.signing_config",
            "needs trusted_root",
        ),
        (
            '[instance.c]\ntrusted_root = "t"\nsigning_config_target = "s"',
            3,
            "instance.c.signing_config_target",
            "needs tuf_url",
        ),
        (
            '[instance.c]\ntrusted_root = "t"\nfulcio_url = "http://fulcio.example"',
            3,
            "instance.c.fulcio_url",
            "must be https",
        ),
        (
            '[instance.c]\ntrusted_root = "t"\nfulcio_url = "https://u:p@fulcio.example"',
            3,
            "instance.c.fulcio_url",
            "must have no user name",
        ),
        (
            '[instance.c]\ntrusted_root = "t"\nfulcio_url = "https://fulcio.example:x"',
            3,
            "instance.c.fulcio_url",
            "is not a URL",
        ),
        ("a = \n", 1, None, "invalid value"),
        ("reuse = 'a'\nreuse = 'b'", 2, None, "cannot overwrite a value"),
        ('x = """\n\n', 3, None, ""),
    ],
)
def test_errors_name_key_and_line(text: str, line: int, key: str | None, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, file="/etc/k.toml")

    assert (caught.value.line, caught.value.key) == (line, key)
    assert problem in caught.value.message
    assert caught.value.message.startswith(f"/etc/k.toml:{line}: ")


def test_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings('[instance.c]\ntrusted_root="t"\nfulcio_url="https://u:hunter2@f"')

    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff", "not UTF-8"),
        (b"# " + b"x" * (1 << 20), "longer than"),
        (b"a=" + b"[" * 5000, "nested"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=problem):
        load_settings(file)


def test_missing_file_is_an_error_if_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(tmp_path / "none.toml")


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o602])
def test_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    file.chmod(mode)

    with pytest.raises(SettingsError, match="others may write"):
        load_settings(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_of_another_user_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    os.chown(file, 12345, 12345)

    with pytest.raises(SettingsError, match="must belong to you"):
        load_settings(file)


@given(st.text(max_size=60))
def test_only_the_declared_error_escapes(text: str) -> None:
    with contextlib.suppress(SettingsError):
        parse_settings(text)


@given(
    st.recursive(
        st.integers() | st.booleans() | st.floats() | st.just('"x"'),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
    st.sampled_from(["reuse", "socket", "limits", "limits.connections", "timeouts.idle", "http"]),
)
def test_any_value_in_any_place(value: object, key: str) -> None:
    text = f"{key} = {value}".replace("True", "true").replace("False", "false").replace("'", "")
    problem = None
    try:
        parse_settings(text)
    except SettingsError as exc:
        problem = exc

    assert problem is None or problem.line == 1

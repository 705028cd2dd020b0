"""What commands are given: which instance, which token, from where."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from fakedaemon import FakeDaemon
from keyless.cli._output import exit_code
from keyless.errors import KeylessError

Run = Callable[..., object]
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2ln-_A"
ARTIFACT = ["--bundle", "out", "sha256:" + "ab" * 32]


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    (folder / "root").write_bytes(b"a trusted root")
    (folder / "config").write_bytes(b"a signing config")
    (folder / "both").write_bytes(b"both of them")


def where(keyless: Run, daemon: FakeDaemon, *words: str) -> dict[str, object] | None:
    done = keyless("sign", *words, *ARTIFACT)
    assert (done.code, done.err) == (0, "")
    found: dict[str, object] | None = daemon.requests[-1].body.get("where")
    return found


def digest(text: bytes) -> bytes:
    return sha256(text).digest()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--instance", "sandbox"], {"instance": "sandbox"}),
        (["--staging"], {"instance": "staging"}),
        (["--staging", "--instance", "staging"], {"instance": "staging"}),
        (["--trusted-root", "root"], {"trusted_root": digest(b"a trusted root")}),
        (
            ["--trusted-root", "root", "--signing-config", "config"],
            {
                "trusted_root": digest(b"a trusted root"),
                "signing_config": digest(b"a signing config"),
            },
        ),
        (
            ["--instance", "sandbox", "--signing-config", "config"],
            {"instance": "sandbox", "signing_config": digest(b"a signing config")},
        ),
        (["--trust-config", "both"], {"trust_config": digest(b"both of them")}),
        (
            ["--fulcio-url", "f", "--rekor-url", "r", "--oidc-issuer", "o"],
            {"fulcio_url": "f", "rekor_url": "r", "oidc_issuer": "o"},
        ),
        (
            ["--instance", "a", "--timestamp-server-url", "t"],
            {"instance": "a", "timestamp_server_url": "t"},
        ),
    ],
)
def test_which_instance(
    keyless: Run, daemon: FakeDaemon, words: list[str], expected: dict[str, object] | None
) -> None:
    assert where(keyless, daemon, *words) == expected


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--staging", "--instance", "public"], "--staging and --instance public exclude"),
        (["--instance", "a", "--trusted-root", "root"], "--instance and a trust root file exclude"),
        (["--instance", "a", "--trust-config", "both"], "--instance and a trust root file exclude"),
        (["--trust-config", "both", "--trusted-root", "root"], "--trust-config holds both"),
        (["--trust-config", "both", "--signing-config", "config"], "--trust-config holds both"),
        (["--signing-config", "config"], "--signing-config needs --trusted-root or --instance"),
    ],
)
def test_what_excludes_each_other(
    keyless: Run, daemon: FakeDaemon, words: list[str], says: str
) -> None:
    done = keyless("sign", *words, *ARTIFACT)
    assert done.code == 2
    assert says in done.err
    assert daemon.requests == []


def test_the_environment_names_an_instance(
    keyless: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYLESS_INSTANCE", "sandbox")
    monkeypatch.setenv("KEYLESS_TRUST_CONFIG", "both")
    assert where(keyless, daemon) == {"instance": "sandbox"}
    assert where(keyless, daemon, "--signing-config", "config") == {
        "instance": "sandbox",
        "signing_config": digest(b"a signing config"),
    }
    assert where(keyless, daemon, "--instance", "own") == {"instance": "own"}
    root = {"trusted_root": digest(b"a trusted root")}
    assert where(keyless, daemon, "--trusted-root", "root") == root
    monkeypatch.setenv("KEYLESS_INSTANCE", "")
    assert where(keyless, daemon) == {"trust_config": digest(b"both of them")}


def test_a_trust_file_that_the_environment_names_and_that_is_missing(
    keyless: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYLESS_TRUST_CONFIG", "gone")
    done = keyless("sign", *ARTIFACT)
    assert done.code == 6
    assert "KEYLESS_TRUST_CONFIG: cannot read gone: No such file or directory" in done.err
    assert daemon.requests == []


@pytest.mark.parametrize("option", ["--trusted-root", "--trust-config"])
def test_a_trust_file_that_is_missing(keyless: Run, daemon: FakeDaemon, option: str) -> None:
    done = keyless("sign", option, "gone", *ARTIFACT)
    assert done.code == 6
    assert f"{option}: cannot read gone: No such file or directory" in done.err
    assert daemon.requests == []


def test_a_trust_file_that_is_too_large(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    with (folder / "huge").open("wb") as file:
        file.truncate((16 << 20) + 1)
    done = keyless("sign", "--trusted-root", "huge", *ARTIFACT)
    assert done.code == 2
    assert "huge is larger than 16777216 bytes" in done.err
    assert daemon.requests == []


# --- the identity token -------------------------------------------------------------------------


def token(keyless: Run, daemon: FakeDaemon, *words: str) -> bytes | None:
    done = keyless("sign", *words, *ARTIFACT)
    assert done.code == 0, done.err
    found: bytes | None = daemon.requests[-1].attachments.get("identity_token")
    return found


def test_the_token_itself(keyless: Run, daemon: FakeDaemon) -> None:
    assert token(keyless, daemon, "--identity-token", f" {TOKEN}\n") == TOKEN.encode()


@pytest.mark.parametrize(
    "spoiled",
    [
        TOKEN[:-3] + "!!!",
        TOKEN.replace(".", ""),
        TOKEN + ".more",
        f"Bearer {TOKEN}",
        TOKEN * 300,
        "ewog" * 100,  # of one whose header begins with a line end
    ],
)
def test_a_token_that_was_pasted_badly_is_not_repeated(
    keyless: Run, daemon: FakeDaemon, spoiled: str
) -> None:
    done = keyless("sign", "--json", "--identity-token", spoiled, *ARTIFACT)
    assert done.code == 4
    assert "neither a token nor the path of a file" in done.err
    assert spoiled[-8:] not in done.err + done.out
    assert daemon.requests == []


def test_the_token_in_a_file(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    (folder / "token.txt").write_text(f"{TOKEN}\n")
    assert token(keyless, daemon, "--identity-token", "token.txt") == TOKEN.encode()


def test_the_token_on_standard_input(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    (folder / "token.txt").write_text(f"{TOKEN}\n")
    saved = os.dup(0)
    source = os.open("token.txt", os.O_RDONLY)
    try:
        os.dup2(source, 0)
        assert token(keyless, daemon, "--identity-token", "-") == TOKEN.encode()
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(source)


def test_the_token_of_the_environment(
    keyless: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert token(keyless, daemon) is None
    first, second = "eyJ.e30.Zmlyc3Q", "eyJ.e30.c2Vjb25k"
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", second)
    assert token(keyless, daemon) == second.encode()
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", f"  {first}\n")
    assert token(keyless, daemon) == first.encode()
    assert token(keyless, daemon, "--identity-token", TOKEN) == TOKEN.encode()
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", "  ")
    assert token(keyless, daemon) == second.encode()


def test_a_token_of_the_environment_that_is_none(
    keyless: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", "\udcff")
    done = keyless("sign", *ARTIFACT)
    assert done.code == 4
    assert "SIGSTORE_ID_TOKEN holds something that is no identity token" in done.err
    assert daemon.requests == []


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", 4, "--identity-token is empty"),
        (b"  \n", 4, "--identity-token is empty"),
        (b"\xff\xfe", 4, "--identity-token holds no token"),
        (b"x" * 65_537, 2, "token.txt is larger than 65536 bytes"),
    ],
)
def test_a_file_that_holds_no_token(
    keyless: Run, daemon: FakeDaemon, folder: Path, content: bytes, code: int, says: str
) -> None:
    (folder / "token.txt").write_bytes(content)
    done = keyless("sign", "--identity-token", "token.txt", *ARTIFACT)
    assert done.code == code
    assert says in done.err
    assert daemon.requests == []


def test_a_token_is_never_shown_when_it_is_taken_for_a_path(
    keyless: Run, daemon: FakeDaemon
) -> None:
    """A token with a part missing is read as a path; that it is none must not print it."""
    broken = TOKEN.rpartition(".")[0]
    done = keyless("sign", "--identity-token", broken, *ARTIFACT, "--json")
    assert done.code == 4
    assert broken not in done.out + done.err
    assert daemon.requests == []


def test_a_missing_token_file_is_named(keyless: Run, daemon: FakeDaemon) -> None:
    done = keyless("sign", "--identity-token", "token.txt", *ARTIFACT)
    assert done.code == 6
    assert "--identity-token: cannot read token.txt: No such file" in done.err
    assert daemon.requests == []


def test_standard_input_is_signed_once_read(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    (folder / "data").write_bytes(b"data")
    saved = os.dup(0)
    source = os.open("data", os.O_RDONLY)
    try:
        os.dup2(source, 0)
        assert keyless("sign", "--bundle", "out", "-").code == 0
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(source)
    assert daemon.requests[0].body["digest"]["value"] == digest(b"data")


# --- what the environment has ------------------------------------------------------------------

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "ACTIONS_ID_TOKEN_REQUEST_URL": "https://run.actions.githubusercontent.com/x?api-version=2.0",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token",
}


@pytest.fixture
def in_github(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GITHUB.items():
        monkeypatch.setenv(name, value)


def sent(keyless: Run, daemon: FakeDaemon, *words: str) -> tuple[object, object, set[str]]:
    """Return the parts of a request that say whose identity is meant."""
    done = keyless("sign", *words, *ARTIFACT)
    assert (done.code, done.err) == (0, "")
    request = daemon.requests[-1]
    return request.body.get("ambient"), request.body.get("identity"), set(request.attachments)


AMBIENT = {"kind": "github", "url": GITHUB["ACTIONS_ID_TOKEN_REQUEST_URL"]}


@pytest.mark.usefixtures("in_github")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (AMBIENT, None, {"ambient_token"})),
        (["--identity-source", "github"], (AMBIENT, None, {"ambient_token"})),
        (["--oidc-provider", "github-actions"], (AMBIENT, None, {"ambient_token"})),
        (["--identity-token", TOKEN], (None, None, {"identity_token"})),
        (["--identity-source", "none"], (None, None, set())),
        (["--identity", "release"], (None, "release", set())),
        (
            ["--identity", "release", "--identity-source", "auto"],
            (AMBIENT, "release", {"ambient_token"}),
        ),
        (["--identity", "me", "--identity-token", TOKEN], (None, "me", {"identity_token"})),
    ],
)
def test_whose_identity_is_asked_for(
    keyless: Run, daemon: FakeDaemon, words: list[str], expected: object
) -> None:
    assert sent(keyless, daemon, *words) == expected


@pytest.mark.usefixtures("in_github")
def test_a_variable_can_say_where_to_look(
    keyless: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYLESS_IDENTITY_SOURCE", "none")
    assert sent(keyless, daemon) == (None, None, set())
    # The command line goes first.
    assert sent(keyless, daemon, "--identity-source", "auto")[0] == AMBIENT


def test_a_job_without_the_permission_is_told_so_and_nothing_is_asked(
    keyless: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    done = keyless("sign", "--json", *ARTIFACT)
    assert done.code == 4
    assert "permissions: id-token: write" in done.err
    assert done.object["error"]["code"] == "identity_unavailable"
    assert daemon.requests == []


@pytest.mark.parametrize(
    "words",
    [
        ["--identity-source", "gihub"],
        ["--identity-source", "spiffe"],
        ["--identity-source", "github", "--identity-token", TOKEN],
    ],
)
def test_sources_that_are_none(keyless: Run, daemon: FakeDaemon, words: list[str]) -> None:
    assert keyless("sign", *words, *ARTIFACT).code == 2
    assert daemon.requests == []


@pytest.mark.parametrize(("retryable", "code"), [(True, 5), (False, 4)])
def test_a_source_that_failed_for_now_is_worth_another_try(retryable: bool, code: int) -> None:
    error = KeylessError("identity_unavailable", "it failed", retryable=retryable)
    assert exit_code(error) == code

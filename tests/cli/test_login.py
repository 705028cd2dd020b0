"""`keyless login`, `logout`, `lock`, `unlock`, and whose identity the other commands ask for."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakedaemon import FakeDaemon, answer
from keyless.cli import _browser, _repository
from keyless.cli._login import CI_VARIABLES
from keyless.wire import Event, Failure, Reply, Request, WireError

IDENTITY = {
    "identity": "me\u202e@example.org",
    "issuer": "https://i",
    "source": "session",
    "instance": "public",
    "state": "active",
    "expires": 3600,
    "ends": 43200,
    "prompt_due": 43200,
    "last_used": 60,
    "renewable": True,
    "default": True,
}
URL = "https://i/auth?state=abc"
CODE = "BCDF-GHJK"


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """No display, no CI, no browser, no hook."""
    names = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME", "GIT_DIR")
    for name in (*names, *CI_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    return folder


def login_replies(number: int, flow: str) -> list[object]:
    told = [Event(number, "open_url", {"url": URL}), Event(number, "of_tomorrow", {"x": 1})]
    if flow == "device":
        facts = {"user_code": CODE, "verification_uri": "https://i/d", "expires_in": 300}
        facts["verification_uri_complete"] = "https://i/d?c=1"
        told = [Event(number, "device_code", facts)]
    elif flow == "oob":
        told = [Event(number, "enter_code", {"url": URL, "login": "L1"})]
    return [*told, Reply(number, IDENTITY)]


def replies(request: Request) -> object:
    number = request.id
    if request.attachments.get("passphrase") == b"wrong":
        return Failure(number, WireError("not_allowed", "that is not the passphrase"))
    if request.op == "login":
        return login_replies(number, request.body["flow"])
    over = {**IDENTITY, "state": "login_required", "reason": "it was ended", "default": False}
    row = {"identity": "me", "issuer": "https://i", "instance": "public", "revoked": False}
    bodies = {
        "logout": {"ended": [{**row, "reason": "no way to revoke it"}]},
        "whoami": {"identities": [IDENTITY, over]},
        **{op: {} for op in ("lock", "unlock", "login_code")},
    }
    return Reply(number, bodies[request.op]) if request.op in bodies else answer(request)


@pytest.fixture
def daemon(serve, plain) -> FakeDaemon:
    return serve(replies)


def test_without_a_display_it_says_what_to_run(keyless, daemon) -> None:
    done = keyless("login")
    assert (done.code, done.out) == (4, "")
    assert "keyless login --device" in done.err
    assert daemon.requests == []


@pytest.mark.parametrize("display", ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"])
def test_in_a_ci_job_no_browser_login_begins(keyless, daemon, monkeypatch, display) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv(display, "x")
    done = keyless("login")
    assert (done.code, done.out) == (4, "")
    assert "SIGSTORE_ID_TOKEN" in done.err
    assert daemon.requests == []


@pytest.mark.parametrize("name", ["TF_BUILD", "JENKINS_URL", "GITHUB_ACTIONS"])
def test_also_where_the_job_says_so_in_another_word(keyless, daemon, monkeypatch, name) -> None:
    monkeypatch.setenv(name, "True")
    monkeypatch.setenv("DISPLAY", ":0")
    assert "CI job" in keyless("login").err
    assert daemon.requests == []


@pytest.mark.parametrize("value", ["", "0", "false", "False", "no"])
def test_whoever_says_that_this_is_no_job_is_believed(
    keyless, daemon, plain, monkeypatch, value
) -> None:
    fake_browser(plain, monkeypatch)
    monkeypatch.setenv("CI", value)
    assert keyless("login").code == 0


def fake_browser(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> Path:
    seen = folder / "seen"
    script = folder / "browser"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {seen}\nenv >> {seen}\nexit {code}\n')
    script.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(script))
    return seen


def test_the_client_opens_the_browser(keyless, daemon, plain, monkeypatch) -> None:
    seen = fake_browser(plain, monkeypatch)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "canary")
    done = keyless("login", "--connector", "github", "--default", "--identity", "me")
    assert done.code == 0
    assert seen.read_text().splitlines()[0] == URL
    assert "canary" not in seen.read_text()
    assert URL in done.err
    assert URL not in done.out
    assert "signed in as me\\u202e@example.org" in done.out
    assert "renewed by itself until 1970-01-01 12:00:00Z" in done.out
    (request,) = daemon.requests
    assert request.body == {
        "flow": "browser",
        "connector": "https://github.com/login/oauth",
        "identity": "me",
        "default": True,
    }


def test_a_browser_that_does_not_start(keyless, daemon, plain, monkeypatch) -> None:
    monkeypatch.setattr(_browser, "OPENERS", ())
    monkeypatch.setattr(_browser, "BROWSERS", ())
    fake_browser(plain, monkeypatch, code=3)
    done = keyless("login")
    assert done.code == 0
    assert "open this page in a browser of this machine" in done.err
    monkeypatch.setenv("BROWSER", "/does/not/exist:'")
    done = keyless("login", "--quiet")
    assert URL in done.err
    assert done.out == ""


def test_a_browser_of_ones_own_and_what_is_no_address(plain, monkeypatch) -> None:
    seen = fake_browser(plain, monkeypatch)
    environ = {**os.environ, "BROWSER": f"false:{os.environ['BROWSER']} --url=%s --new"}
    assert _browser.open_browser(URL, environ)
    assert seen.read_text().splitlines()[:2] == [f"--url={URL}", "--new"]
    for url in ("file:///etc/passwd", "-flag", "javascript:alert(1)", ""):
        assert not _browser.open_browser(url, environ)


def test_without_a_browser_the_address_is_printed(keyless, daemon) -> None:
    done = keyless("login", "--no-browser", "--json")
    assert done.code == 0
    assert URL in done.err
    assert done.object == IDENTITY


def test_a_device_code_is_never_on_standard_output(keyless, daemon) -> None:
    for words in (("--json",), (), ("--quiet",)):
        done = keyless("login", "--device", *words)
        assert done.code == 0
        assert CODE in done.err
        assert "  https://i/d\n" in done.err
        assert "https://i/d?c=1" in done.err
        assert CODE not in done.out


def test_a_pasted_code_goes_to_the_daemon(keyless, daemon, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("the-code\n"))
    done = keyless("login", "--oob", "--oidc-client-id", "farm")
    assert done.code == 0
    login, code = daemon.requests
    assert (login.op, login.body) == ("login", {"flow": "oob", "client_id": "farm"})
    assert (code.op, code.body) == ("login_code", {"login": "L1"})
    assert code.attachments == {"code": b"the-code"}
    assert "the-code" not in done.out + done.err


def test_two_ways_at_once(keyless, daemon) -> None:
    assert keyless("login", "--device", "--oob").code == 2
    assert keyless("login", "extra").code == 2
    assert keyless("logout", "extra").code == 2
    assert daemon.requests == []


def test_logging_out_says_what_was_not_revoked(keyless, daemon) -> None:
    done = keyless("logout", "--identity", "me", "--instance", "public", "--all")
    assert done.code == 0
    assert "signed out me (https://i) at public" in done.out
    assert "not revoked: no way to revoke it" in done.out
    assert daemon.requests[0].body == {"identity": "me", "instance": "public", "all": True}
    assert keyless("logout", "--all", "--json").object["revoked"] is False


STATUS = {
    "version": "0.1.0", "pid": 1, "started": 1, "uptime_seconds": 1, "socket": "/s",
    "requests": {}, "connections": 1, "default_instance": "public", "reuse": "window",
    "instances": [], "slots": [],
}  # fmt: skip


def session(identity: str, instance: str, *, default: bool | None = True) -> dict[str, object]:
    """Return a session; without a word about being the default, one that is over."""
    state = "login_required" if default is None else "active"
    return {
        **IDENTITY, "identity": identity, "instance": instance, "state": state,
        "default": bool(default),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sessions", "environ", "wanted"),
    [
        ([("me", "corp", True), ("you", "public", True)], "corp", ("me", "corp")),
        ([("you", "corp", False), ("me", "corp", True)], "corp", ("me", "corp")),
        ([("me", "corp", True)], "", ("me", "corp")),  # there is no other
        ([("me", "corp", True)], "lab", ("me", "corp")),
        ([("me", "public", True), ("you", "corp", True)], "", ("me", "public")),
        ([("me", "corp", None), ("you", "lab", True)], "", ("you", "lab")),  # the other is over
        ([], "corp", None),
    ],
)
def test_logging_out_ends_the_session_that_would_sign(
    keyless, serve, plain, monkeypatch, sessions, environ, wanted
) -> None:
    def here(request: Request) -> object:
        if request.op == "whoami":
            return Reply(
                request.id, {"identities": [session(a, b, default=c) for a, b, c in sessions]}
            )
        return Reply(request.id, STATUS) if request.op == "status" else replies(request)

    daemon = serve(here)
    monkeypatch.setenv("KEYLESS_INSTANCE", environ)
    assert keyless("logout").code == 0
    (asked,) = [request.body for request in daemon.requests if request.op == "logout"]
    assert asked == (
        {} if wanted is None else dict(zip(("identity", "instance"), wanted, strict=True))
    )


def test_logging_out_guesses_nobody(keyless, serve, plain, monkeypatch) -> None:
    several = [session("me", "corp"), session("you", "lab")]

    def here(request: Request) -> object:
        if request.op == "whoami":
            return Reply(request.id, {"identities": several})
        return answer(request)

    daemon = serve(here)
    monkeypatch.setenv("KEYLESS_INSTANCE", "public")
    done = keyless("logout")
    assert done.code == 2
    assert "--identity" in done.err
    assert [request.op for request in daemon.requests] == ["whoami"]


def test_a_passphrase_is_read_and_never_an_argument(keyless, daemon, monkeypatch) -> None:
    for op in ("lock", "unlock"):
        monkeypatch.setattr(sys, "stdin", io.StringIO("open sesame\nmore"))
        done = keyless(op)
        assert (done.code, done.out, done.err) == (0, f"{op}ed\n", "")
        assert daemon.requests[-1].attachments == {"passphrase": b"open sesame"}
        assert keyless(op, "open sesame").code == 2
        # Bytes of a terminal that is not set to UTF-8.
        monkeypatch.setattr(sys, "stdin", io.StringIO("s\udcf6same"))
        assert keyless(op).code == 0
        assert daemon.requests.pop().attachments == {"passphrase": b"s\xf6same"}
        monkeypatch.setattr(sys, "stdin", io.StringIO("s\ud800same"))
        assert keyless(op).code == 2
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
        assert keyless(op).code == 2
    assert len(daemon.requests) == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("wrong"))
    done = keyless("unlock", "--json")
    assert done.code == 7
    assert "wrong" not in done.out + done.err


def test_a_terminal_is_asked_twice_and_without_echo(keyless, daemon, monkeypatch) -> None:
    import getpass

    typed = ["one", "two", "one", "one", "one"]
    asked = []

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def getpass_(prompt: str, stream: object) -> str:
        asked.append((prompt, stream is sys.stderr))
        return typed.pop(0)

    monkeypatch.setattr(getpass, "getpass", getpass_)
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert keyless("lock").code == 2
    assert daemon.requests == []
    assert keyless("lock").code == 0
    assert keyless("unlock").code == 0
    assert [prompt for prompt, _ in asked] == ["Passphrase: ", "Once more: "] * 2 + ["Passphrase: "]
    assert all(on_error for _, on_error in asked)


def test_whoami_lists_every_identity(keyless, daemon) -> None:
    done = keyless("whoami")
    assert done.code == 0
    first, second = done.out.splitlines()
    assert first.startswith(
        "me\\u202e@example.org (https://i), from session for public, the default"
    )
    assert "active, renewed by itself; a login is due now" in first
    assert "login required, it was ended" in second
    assert len(keyless("whoami", "--json").objects) == 2


# --- whose identity ------------------------------------------------------------------------


@pytest.fixture
def repository(plain: Path) -> Path:
    git = ("git", "-C", str(plain))
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "config", "keyless.identity", "repo@example.org"], check=True)
    subprocess.run([*git, "config", "keyless.instance", "corp"], check=True)
    (plain / "deep" / "er").mkdir(parents=True)
    (plain / "f").write_text("x")
    return plain


def asked(daemon: FakeDaemon) -> tuple[object, object]:
    body = daemon.requests[-1].body
    return body.get("identity"), body.get("where", {}).get("instance")


def test_whom_to_sign_as(keyless, daemon, repository, monkeypatch) -> None:
    assert keyless("sign", "f").code == 0
    assert asked(daemon) == ("repo@example.org", "corp")
    monkeypatch.chdir(repository / "deep" / "er")
    keyless("whoami")
    assert asked(daemon) == ("repo@example.org", "corp")
    monkeypatch.setenv("KEYLESS_IDENTITY", "env@example.org")
    monkeypatch.setenv("KEYLESS_INSTANCE", "env")
    keyless("sign", "../../f")
    assert asked(daemon) == ("env@example.org", "env")
    keyless("sign", "../../f", "--identity", "me@example.org", "--instance", "mine")
    assert asked(daemon) == ("me@example.org", "mine")
    (repository / "p").write_text("{}")
    options = ("--predicate", "../../p", "--type", "custom", "--identity", "a", "--bundle", "b")
    assert keyless("attest", *options, "../../f").code == 0
    assert asked(daemon) == ("a", "env")
    # What chooses among the daemon's identities says nothing about a token of one's own.
    keyless("sign", "../../f", "--identity-token", "eyJ.e30.x")
    assert asked(daemon) == (None, "env")
    keyless("sign", "../../f", "--identity-token", "eyJ.e30.x", "--identity", "me")
    assert asked(daemon) == ("me", "env")


def test_in_a_worktree_and_in_a_hook(keyless, daemon, repository, monkeypatch, tmp_path) -> None:
    git = ("git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    subprocess.run([*git, "worktree", "add", "-q", str(tmp_path / "tree")], check=True)
    monkeypatch.chdir(tmp_path / "tree")
    keyless("whoami")
    assert asked(daemon) == ("repo@example.org", "corp")
    monkeypatch.chdir(tmp_path)
    keyless("whoami")
    assert asked(daemon) == (None, None)
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    keyless("whoami")
    assert asked(daemon) == ("repo@example.org", "corp")


def test_no_repository_of_somebody_else_chooses(daemon, repository, monkeypatch) -> None:
    assert _repository.repository_choice("identity", os.environ) == "repo@example.org"
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert _repository.repository_choice("identity", os.environ) is None


def test_git_is_not_started_for_nothing(plain, monkeypatch) -> None:
    subprocess.run(["git", "-C", str(plain), "init", "-q"], check=True)
    monkeypatch.setattr(os, "posix_spawnp", pytest.fail)
    assert _repository.repository_choice("identity", os.environ) is None
    (plain / ".git" / "config").unlink()
    assert _repository.repository_choice("identity", os.environ) is None
    (plain / ".git" / "config").write_text("[keyless\nbroken")
    monkeypatch.undo()
    monkeypatch.chdir(plain)
    assert _repository.repository_choice("identity", os.environ) is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert _repository.repository_choice("identity", os.environ) is None
    (plain / ".git" / "config").unlink()
    (plain / ".git").rename(plain / "git")
    (plain / ".git").write_text("nonsense")
    assert _repository.repository_choice("identity", os.environ) is None


def test_a_directory_that_is_gone(plain, monkeypatch) -> None:
    (plain / "gone").mkdir()
    monkeypatch.chdir(plain / "gone")
    (plain / "gone").rmdir()
    assert _repository.repository_choice("identity", os.environ) is None

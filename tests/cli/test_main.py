"""The command as a whole: overview, help texts, words it does not know, and how errors end it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fakedaemon import DROP
from keyless._version import __version__
from keyless.cli import _COMMANDS
from keyless.wire import Failure, Request, WireError

Run = Callable[..., object]


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_command(keyless: Run, words: list[str]) -> None:
    done = keyless(*words)
    assert (done.code, done.err) == (0, "")
    for name in _COMMANDS:
        assert f"\n  {name} " in done.out


def test_no_command_is_a_mistake_that_shows_the_overview(keyless: Run) -> None:
    done = keyless()
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: keyless COMMAND")


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["version"]])
def test_the_version(keyless: Run, words: list[str]) -> None:
    assert keyless(*words).out == f"keyless {__version__}\n"


@pytest.mark.parametrize("name", _COMMANDS)
@pytest.mark.parametrize("form", [["NAME", "--help"], ["NAME", "-h"], ["help", "NAME"]])
def test_every_command_has_a_help_text(keyless: Run, name: str, form: list[str]) -> None:
    done = keyless(*[name if word == "NAME" else word for word in form])
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: keyless {name} ")
    assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["singn"], "there is no command singn; did you mean sign?"),
        (["xyzzy"], "there is no command xyzzy\n"),
        (["help", "verfy"], "did you mean verify?"),
        (["\x1b[2J"], "there is no command \\x1b[2J"),
        (["status", "--jsno"], "there is no option --jsno; did you mean --json?"),
        (["status", "more"], "unexpected argument more"),
        (["sign"], "name at least one file or digest to sign"),
        (["sign", "--bundle"], "--bundle needs a value: OUT"),
        (["sandbox", "left"], "there is no `sandbox left`; there is up, env"),
        (["demo", "a", "b"], "name one file, or none"),
        (["demo", "--rekor", "v3"], "--rekor takes v1, v2 or both, not v3"),
    ],
)
def test_mistakes_are_named(keyless: Run, words: list[str], says: str) -> None:
    done = keyless(*words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert "--help" in done.err
    assert "\x1b" not in done.err


def test_a_mistake_is_json_too(keyless: Run) -> None:
    done = keyless("status", "--json", "more")
    assert done.code == 2
    assert done.object == {
        "ok": False,
        "error": {
            "code": "usage",
            "message": "unexpected argument more",
            "retryable": False,
            "hint": "`keyless status --help` shows what it takes",
        },
    }


def test_a_file_named_like_the_option_is_no_wish_for_json(keyless: Run) -> None:
    assert keyless("status", "--", "--json").out == ""


@pytest.mark.parametrize(
    ("code", "retryable", "ends_with"),
    [
        ("verification_failed", False, 1),
        ("invalid_input", False, 2),
        ("unknown_instance", False, 2),
        ("unknown_operation", False, 2),
        ("idempotency_conflict", False, 2),
        ("unsupported_version", False, 3),
        ("login_required", False, 4),
        ("token_expired", False, 4),
        ("token_rejected", False, 4),
        ("busy", True, 5),
        ("rate_limited", True, 5),
        ("service_unavailable", True, 5),
        ("shutting_down", True, 5),
        ("trust_unavailable", True, 5),
        ("service_refused", False, 7),
        ("not_allowed", False, 7),
        ("trust_expired", False, 7),
        ("a_code_of_later", False, 7),
        ("a_code_of_later", True, 5),
        ("internal", False, 70),
    ],
)
def test_what_the_daemon_says_decides_the_exit_code(
    keyless: Run, serve: Run, code: str, retryable: bool, ends_with: int
) -> None:
    def refuse(request: Request) -> Failure:
        return Failure(request.id, WireError(code, "so it is", retryable=retryable))

    serve(refuse)
    done = keyless("status")
    assert (done.code, done.out) == (ends_with, "")
    assert done.err == "keyless: so it is\n"


def test_an_error_as_json_has_all_that_is_known(keyless: Run, serve: Run) -> None:
    error = WireError(
        "rate_limited",
        "too many",
        retryable=True,
        retry_after_ms=1500,
        hint="wait",
        details={"limit": 3},
    )
    serve(lambda request: Failure(request.id, error))
    done = keyless("status", "--json")
    assert done.code == 5
    assert done.object == {
        "ok": False,
        "error": {
            "code": "rate_limited",
            "message": "too many",
            "retryable": True,
            "retry_after_ms": 1500,
            "hint": "wait",
            "details": {"limit": 3},
        },
    }


def test_when_to_try_again_is_said(keyless: Run, serve: Run) -> None:
    error = WireError("rate_limited", "too many", retryable=True, retry_after_ms=2400)
    serve(lambda request: Failure(request.id, error))
    assert "  try again in 2 s\n" in keyless("status").err


def test_without_a_daemon(keyless: Run) -> None:
    done = keyless("status", "--json")
    assert done.code == 3
    assert done.object["error"]["code"] == "daemon_unreachable"
    assert "start one with `keylessd`" in done.err


def test_a_daemon_that_hangs_up(keyless: Run, serve: Run) -> None:
    serve(lambda _: DROP)
    done = keyless("status")
    assert done.code == 3
    assert "closed the connection before it answered" in done.err


def test_the_socket_of_the_command_line_goes_first(
    keyless: Run, daemon: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYLESS_SOCKET", "/nowhere/at/all")
    assert keyless("sign", "--socket", daemon.path, "--bundle", "-", "sha256:" + "0" * 64).code == 0


def test_every_module_that_is_named_exists() -> None:
    for module, _ in _COMMANDS.values():
        assert callable(__import__(f"keyless.cli.{module}", fromlist=("run",)).run)


def test_an_interrupt_ends_it(keyless: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("keyless.cli._status.run", interrupted)
    done = keyless("status")
    assert (done.code, done.err) == (130, "\nkeyless: interrupted\n")

"""The command in this process, in a folder of its own, against a daemon of canned answers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakedaemon import FakeDaemon, answer, fake_daemon
from keyless.cli import main

if TYPE_CHECKING:
    from keyless.wire import Request


# Variables that make the command look for an identity in its environment.
CI_SYSTEMS = ("GITHUB_", "ACTIONS_", "GITLAB_", "BUILDKITE", "CIRCLE")


class Done:
    """How a command ended and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def objects(self) -> list[dict[str, object]]:
        """The JSON objects on standard output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def object(self) -> dict[str, object]:
        """The one JSON object on standard output."""
        (one,) = self.objects
        return one


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment in which nothing of ours is set."""
    for name in list(os.environ):
        if name.startswith(("KEYLESS_", "SIGSTORE_", "XDG_", *CI_SYSTEMS)):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KEYLESS_AUTOSTART", "0")
    monkeypatch.setenv("KEYLESS_SOCKET", str(tmp_path / "s"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def keyless(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run one command line."""
    del folder

    def run(*words: str) -> Done:
        capfd.readouterr()
        code = main(list(words))
        out, err = capfd.readouterr()
        return Done(code, out, err)

    return run


Serve = Callable[..., FakeDaemon]


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Start the daemon of canned answers where the command looks for one."""
    with ExitStack() as stack:

        def start(answers: Callable[[Request], object] = answer) -> FakeDaemon:
            return stack.enter_context(fake_daemon(folder.parent / "s", answers))

        yield start


@pytest.fixture
def daemon(serve: Serve) -> FakeDaemon:
    """A daemon in good health."""
    return serve()

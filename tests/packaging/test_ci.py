"""`.ci/run`: what the README promises, the linters, the real services; it fails where one does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from installs import ROOT, clean_environment

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here"),
]

README = """
# A house

```sh
echo not this
```

<!-- the tests -->
```sh
{command}
```

```sh
echo nor this
```
"""
RECORD = '#!/bin/sh\necho "$(basename "$0") $* autostart=$KEYLESS_AUTOSTART" >> "{log}"\n{end}\n'


TOOLS = ("pip", "ruff", "mypy", "lint-imports", "python", "pytest")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A tree with the script, a README, and tools that only write down that they were called."""
    (tmp_path / ".ci").mkdir()
    shutil.copy2(ROOT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / "README.md").write_text(README.format(command="echo tests >> log"))
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for tool in TOOLS:
        put(tmp_path, tool)
    return tmp_path


def put(house: Path, tool: str, end: str = "") -> None:
    path = house / ".venv/bin" / tool
    path.write_text(RECORD.format(log=house / "log", end=end))
    path.chmod(0o755)


def run(house: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [house / ".ci/run"],
        cwd="/",
        env=clean_environment(house),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_script_can_be_read_and_run() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)


def test_tests_then_linters(house: Path) -> None:
    done = run(house)
    assert done.returncode == 0, done.stderr
    assert (house / "log").read_text().splitlines() == [
        "tests",
        "pip install -q .[lint] autostart=0",
        "ruff check . autostart=0",
        "ruff format --check . autostart=0",
        "mypy  autostart=0",
        "lint-imports  autostart=0",
        "python -m tests.real install autostart=0",
        "pytest -q -m real autostart=0",
    ]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_check_that_fails_fails_it(house: Path, tool: str) -> None:
    put(house, tool, "exit 1")
    assert run(house).returncode != 0


def test_failing_tests_fail_it_before_anything_else(house: Path) -> None:
    (house / "README.md").write_text(README.format(command="true && false && echo on >> log"))
    assert run(house).returncode != 0
    assert not (house / "log").exists()


def test_a_readme_without_the_command_fails_it(house: Path) -> None:
    (house / "README.md").write_text("# A house\n")
    done = run(house)
    assert done.returncode != 0
    assert "no test command" in done.stderr


def test_the_readme_has_the_command_and_needs_nothing_but_python() -> None:
    text = (ROOT / "README.md").read_text()
    _, _, after = text.partition("<!-- the tests -->\n```sh\n")
    command, _, _ = after.partition("\n```")
    steps = command.split(" && ")
    assert steps[0] == "python3 -m venv .venv"
    assert all(step.startswith(".venv/bin/") for step in steps[1:])
    assert steps[-1].startswith(".venv/bin/pytest")

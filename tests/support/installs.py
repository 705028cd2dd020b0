"""Bare copies of the checkout, and virtual environments with nothing of ours around them.

The environments are made by `python -m venv`, so the pip in them is the one this Python brings:
23.2 for a Python 3.11, which is the oldest that must do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What is in a checkout; the rest of the folder is somebody's environments, caches and builds.
TREE = [
    "daemon", "clientlib", "systemd", "tests", ".ci", "README.md", "LICENSE", "pyproject.toml",
    ".gitignore",
]  # fmt: skip


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment in which nothing of ours is set."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", **more}


class Venv:
    """A virtual environment, and what is run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(
            [sys.executable, "-m", "venv", str(folder)], check=True, env=packaging_environment()
        )

    def pip(self, *arguments: str | Path) -> str:
        """Run pip; fails with what it printed."""
        done = subprocess.run(
            [self.folder / "bin" / "pip", "--disable-pip-version-check", *arguments],
            capture_output=True,
            text=True,
            env=packaging_environment(),
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run its Python, with what is installed and nothing else to import from."""
        done = subprocess.run(
            [self.folder / "bin" / "python", "-P", *arguments],
            capture_output=True,
            text=True,
            env=packaging_environment(),
            cwd=cwd or self.folder,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def run(self, name: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run one of its commands as a user without any configuration would."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return subprocess.run(
            [self.folder / "bin" / name, *arguments],
            capture_output=True,
            text=True,
            env=clean_environment(home, **environ),
            cwd=home,
            timeout=60,
            check=False,
        )


def packaging_environment() -> dict[str, str]:
    """Keep what says where packages come from; drop what says which Python we are in."""
    dropped = ("PYTHON", "VIRTUAL_ENV", "UV_", "COVERAGE")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def copy_tree(folder: Path) -> Path:
    """Copy the checkout as `git clone` would make it, with what is not committed yet."""
    folder.mkdir()
    for name in _files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    return folder


def _files() -> list[str]:
    """Return the paths of the files that belong to the project."""
    if (ROOT / ".git").exists() and shutil.which("git") is not None:
        # "safe.directory": the checkout may be another user's, as in a container.
        git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"]
        listed = subprocess.run(
            [*git, "--cached", "--others", "--exclude-standard", "--", *TREE],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    found = [path for name in TREE for path in (ROOT / name, *(ROOT / name).rglob("*"))]
    return [
        str(path.relative_to(ROOT))
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    ]

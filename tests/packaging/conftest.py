"""Builds and installs once for all packaging tests, from a bare copy of the tree."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from installs import Venv, copy_tree


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """An environment with hatchling and uv; skips where no package index can be reached."""
    venv = Venv(tmp_path_factory.mktemp("builder") / "venv")
    try:
        venv.pip("install", "--quiet", "hatchling>=1.27", "uv")
    except AssertionError as exc:
        pytest.skip(f"no package index here: {str(exc).strip().splitlines()[-1]}")
    return venv


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare copy of the checkout; builds may write into it."""
    return copy_tree(tmp_path_factory.mktemp("checkout") / "keyless")


@pytest.fixture(scope="session")
def build(builder: Venv) -> Callable[[Path, str, Path], Path]:
    """Return what builds a wheel or an sdist of a folder into another."""

    def run(source: Path, kind: str, target: Path) -> Path:
        builder.python("-m", "hatchling", "build", "-t", kind, "-d", target, cwd=source)
        (built,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
        return built

    return run


@pytest.fixture(scope="session")
def wheel(
    checkout: Path, build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The wheel of the checkout."""
    return build(checkout, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(
    checkout: Path, build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The sdist of the checkout, with a user's leavings lying about in it."""
    littered = tmp_path_factory.mktemp("littered") / "keyless"
    shutil.copytree(checkout, littered)
    for leaving in ("env/lib/junk.py", ".venv/lib/junk.py", "dist/junk.whl", "notes.txt"):
        path = littered / leaving
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# not ours\n")
    return build(littered, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def thin(builder: Venv, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """An environment after `pip install .`, with the build isolation of a user's first try."""
    del builder  # it has found that there is a package index
    venv = Venv(tmp_path_factory.mktemp("thin") / "venv")
    venv.pip("install", "--quiet", checkout)
    return venv

"""What `python -m tests.real up` prints for each client works as it is printed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.real.recipes import RECIPES, Recipe, shown, variables

PATIENCE = 120.0


def _run(lines: list[str], stack, house, home: Path) -> subprocess.CompletedProcess[str]:
    """Run command lines in a shell that has the printed environment, and $FILE."""
    (path,) = house.files(1, stem=f"recipe-{home.name}-")
    # Where a person's own daemon would be, is this house's.
    own = {name: house.environ[name] for name in ("XDG_RUNTIME_DIR", "PYTHONPATH")}
    # sigstore-js takes the token of the environment in CI only.
    more = {"HOME": str(home), "FILE": str(path), "CI": "1"}
    return subprocess.run(
        ["bash", "-c", "\n".join(["set -euo pipefail", *lines])],
        env={**own, **stack.environment(), **more},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.client)
def test_recipe(stack, house, primed, tmp_path: Path, recipe: Recipe) -> None:
    done = _run([*recipe.lines], stack, house, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"# {recipe.client}:" in shown()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.client)
def test_recipe_refuses_another_signer(
    stack, house, primed, tmp_path: Path, recipe: Recipe
) -> None:
    # The last line is the one that verifies; it has to be able to say no.
    *makes, verifies = recipe.lines
    done = _run([*makes, 'SIGNER="x$SIGNER"', f"! {verifies}"], stack, house, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


def test_recipes_read_what_is_printed(stack) -> None:
    known = {*stack.environment(), "FILE"}

    assert {name for recipe in RECIPES for name in variables(recipe)} <= known

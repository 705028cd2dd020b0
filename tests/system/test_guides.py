"""What the README shows, done as it stands there, in a shell that has what the sandbox prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from standing import CHECKOUT, IDENTITY, PATIENCE, Standing, standing

pytestmark = pytest.mark.system


def block(heading: str, language: str) -> str:
    """Return the last block of code in this language below a heading of the README."""
    text = (CHECKOUT / "README.md").read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    *_, found = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    yield from standing(tmp_path_factory.mktemp("guides"))


def program(house: Standing, text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**house.environ, **environ},
        cwd=house.work,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    house.note_daemon()
    return done


def test_the_hook(house: Standing) -> None:
    (house.work / "artifact.bin").write_text("x")
    done = program(house, block("In a hook", "python"))
    assert done.stderr == ""
    assert done.stdout.startswith(f"{IDENTITY} {house.urls['oidc_issuer']} ")
    assert house.verify("artifact.bin").returncode == 0


def test_the_hook_where_nobody_is_logged_in(house: Standing) -> None:
    (house.work / "artifact.bin").write_text("x")
    done = program(house, block("In a hook", "python"), SIGSTORE_ID_TOKEN="")
    # What to do stands in the traceback as well.
    message, hint = done.stderr.splitlines()[-2:]
    assert message.endswith("no identity to sign as on instance 'sandbox': nobody is logged in")
    assert hint.startswith("run `keyless login")


def test_the_commands_of_a_build(house: Standing) -> None:
    dist = house.work / "dist"
    dist.mkdir()
    for name in ("app.tar.gz", "app.whl"):
        (dist / name).write_text(name)
    (house.work / "provenance.json").write_text("{}")
    commands = block("In a build", "sh").replace("9f86d0...", "9f86d081" * 8)
    script = f'keyless() {{ {sys.executable} {house.command()[1]} "$@"; }}\nset -e\n{commands}'
    done = subprocess.run(
        ["sh", "-c", script],
        env=house.environ,
        cwd=house.work,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
    )
    house.note_daemon()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["artifact"] == f"sha256:{'9f86d081' * 8}"
    bundles = {str(path.relative_to(house.work)) for path in house.work.rglob("*.sigstore.json")}
    assert bundles >= {
        "app.sigstore.json",
        "dist.sigstore.json",
        "dist/app.tar.gz.sigstore.json",
        "dist/app.whl.sigstore.json",
    }
    assert house.verify("--bundle", "dist.sigstore.json", Path("dist", "app.whl")).returncode == 0

"""Installs as users make them, and what the commands say where the heavy packages are missing."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from installs import Venv, copy_tree, packaging_environment
from keyless._version import __version__

pytestmark = [pytest.mark.system, pytest.mark.slow]

MISSING = 3


def distributions(venv: Venv) -> set[str]:
    listed = json.loads(venv.pip("list", "--format", "json"))
    return {row["name"] for row in listed} - {"pip", "setuptools", "wheel"}


def test_the_base_install_is_thin(thin: Venv) -> None:
    assert distributions(thin) == {"keyless", "msgpack"}


def test_what_is_installed_is_the_wheel(thin: Venv, wheel: Path) -> None:
    packages = Path(
        thin.python("-c", "import keyless, os; print(os.path.dirname(keyless.__path__[0]))")
    )
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(("keyless/", "keylessd/"))]
        for name in names:
            assert (packages / name).read_bytes() == archive.read(name)


def test_the_environment_is_whole(thin: Venv) -> None:
    thin.pip("check")


def test_the_command_can_be_run_by_everybody(thin: Venv) -> None:
    script = thin.folder / "bin" / "keyless"
    assert stat.S_IMODE(script.stat().st_mode) & 0o555 == 0o555
    first = script.read_text().splitlines()[0]
    assert first.startswith(f"#!{thin.folder}/bin/python")


def test_the_units_lie_where_the_readme_says(thin: Venv) -> None:
    units = {path.name for path in (thin.folder / "share/keyless/systemd").iterdir()}
    assert {"keylessd.service", "keylessd.socket"} <= units


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["version"]])
def test_the_version(thin: Venv, words: list[str]) -> None:
    done = thin.run("keyless", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"keyless {__version__}\n", "")


def test_the_overview(thin: Venv) -> None:
    done = thin.run("keyless", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: keyless COMMAND")


def test_the_module_is_the_command(thin: Venv) -> None:
    assert thin.python("-m", "keyless", "--version") == f"keyless {__version__}"


def test_the_library_imports(thin: Venv) -> None:
    assert thin.python("-c", "import keyless; print(keyless.Client.__name__)") == "Client"


def test_without_a_daemon_the_client_says_so(thin: Venv) -> None:
    done = thin.run("keyless", "status", KEYLESS_AUTOSTART="0")
    assert (done.returncode, done.stdout) == (MISSING, "")
    assert "no daemon listens on" in done.stderr
    assert "start one with `keylessd`" in done.stderr
    assert "Traceback" not in done.stderr


def test_where_none_can_be_started_the_client_says_what_to_install(thin: Venv) -> None:
    done = thin.run("keyless", "status")
    assert (done.returncode, done.stdout) == (MISSING, "")
    assert "no daemon listens; starting one" in done.stderr
    assert "pip install 'keyless[daemon]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_daemon_says_what_to_install(thin: Venv) -> None:
    done = thin.run("keylessd")
    assert done.returncode == MISSING
    assert done.stderr == (
        "keylessd: trio is missing; install with: pip install 'keyless[daemon]'\n"
    )
    assert done.stdout == ""


def test_the_daemon_has_a_version_and_a_help_text_all_the_same(thin: Venv) -> None:
    assert thin.run("keylessd", "--version").stdout == f"keylessd {__version__}\n"
    assert thin.run("keylessd", "--help").returncode == 0


@pytest.mark.parametrize("words", [["up"], ["up", "--background"], ["env"], ["token"], ["down"]])
def test_the_sandbox_says_what_to_install(thin: Venv, words: list[str]) -> None:
    done = thin.run("keyless", "sandbox", *words)
    assert (done.returncode, done.stdout) == (MISSING, "")
    assert "is missing; install with: pip install 'keyless[sandbox]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_says_what_to_install_and_leaves_nothing(thin: Venv, tmp_path: Path) -> None:
    done = thin.run("keyless", "demo", TMPDIR=str(tmp_path))
    assert done.returncode == MISSING
    assert "is missing; install with: pip install 'keyless[sandbox]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_editable_install_is_the_checkout(builder: Venv, tmp_path: Path) -> None:
    source = copy_tree(tmp_path / "keyless")
    builder.pip("install", "--quiet", "--editable", source)
    places = "import keyless, keylessd; print(keyless.__file__, keylessd.__file__)"
    assert builder.python("-c", places).split() == [
        str(source / "clientlib/keyless/__init__.py"),
        str(source / "daemon/keylessd/__init__.py"),
    ]
    (source / "clientlib/keyless/_version.py").write_text('"""."""\n\n__version__ = "9.9.9"\n')
    assert builder.run("keyless", "--version").stdout == "keyless 9.9.9\n"


def test_uv_syncs_the_folder(builder: Venv, tmp_path: Path) -> None:
    source = copy_tree(tmp_path / "keyless")
    environ = packaging_environment() | {"UV_CACHE_DIR": str(tmp_path / "cache")}
    if "PIP_CERT" in os.environ:
        environ["SSL_CERT_FILE"] = os.environ["PIP_CERT"]
    uv = [builder.folder / "bin" / "uv", "sync", "--quiet", "--no-python-downloads"]
    done = subprocess.run(
        [*uv, "--python", str(builder.folder / "bin" / "python")],
        cwd=source,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    script = source / ".venv/bin/keyless"
    said = subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
    assert said == f"keyless {__version__}\n"

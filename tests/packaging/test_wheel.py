"""What is in the wheel and in the sdist: all of ours, and nothing else."""

from __future__ import annotations

import email
import itertools
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from keyless._version import __version__

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
INFO = f"keyless-{__version__}.dist-info"
DATA = f"keyless-{__version__}.data"


def files_below(folder: Path) -> set[str]:
    """Return the paths of the files below a folder, relative to it."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix() for path in found if "__pycache__" not in path.parts
    }


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def metadata(wheel: Path) -> email.message.Message:
    return email.message_from_bytes(content(wheel)[f"{INFO}/METADATA"])


def test_the_wheel_holds_both_packages_and_nothing_else(wheel: Path, checkout: Path) -> None:
    packages = {f"keyless/{name}" for name in files_below(checkout / "clientlib/keyless")}
    packages |= {f"keylessd/{name}" for name in files_below(checkout / "daemon/keylessd")}
    units = {f"{DATA}/data/share/keyless/systemd/{n}" for n in files_below(checkout / "systemd")}
    pages = ("man1/keyless.1", "man5/keyless-config.5", "man8/keylessd.8")
    others = {
        *(f"{DATA}/data/share/man/{page}" for page in pages),
        f"{DATA}/scripts/keyless",
        f"{INFO}/METADATA",
        f"{INFO}/RECORD",
        f"{INFO}/WHEEL",
        f"{INFO}/entry_points.txt",
        f"{INFO}/licenses/LICENSE",
    }
    assert set(content(wheel)) == packages | units | others


@pytest.mark.parametrize(
    "name",
    [
        "keyless/py.typed",
        "keyless/cli/__init__.py",
        "keyless/wire/__init__.py",
        "keylessd/py.typed",
        "keylessd/__main__.py",
        "keylessd/sandbox/__main__.py",
        "keylessd/trust/roots/public.root.json",
        "keylessd/trust/roots/staging.root.json",
        f"{DATA}/data/share/keyless/systemd/keylessd.service",
        f"{DATA}/data/share/keyless/systemd/keylessd.socket",
    ],
)
def test_the_wheel_holds(wheel: Path, name: str) -> None:
    assert name in content(wheel)


def test_the_wheel_is_for_any_platform(wheel: Path) -> None:
    tags = email.message_from_bytes(content(wheel)[f"{INFO}/WHEEL"])
    assert tags["Root-Is-Purelib"] == "true"
    assert tags.get_all("Tag") == ["py3-none-any"]


def test_only_the_daemon_is_an_entry_point(wheel: Path) -> None:
    """The wrapper that pip writes for one would make the client load `re`."""
    text = content(wheel)[f"{INFO}/entry_points.txt"].decode()
    assert text.split() == ["[console_scripts]", "keylessd", "=", "keylessd.__main__:main"]
    script = content(wheel)[f"{DATA}/scripts/keyless"]
    assert script.startswith(b"#!python\n")
    assert b"import re" not in script


def test_the_metadata_says_what_people_read(wheel: Path) -> None:
    read = metadata(wheel)
    assert read["Name"] == "keyless"
    assert read["Version"] == __version__
    assert read["License-Expression"] == "Apache-2.0"
    assert read["Requires-Python"] == ">=3.11"
    assert read["Description-Content-Type"] == "text/markdown"
    assert read.get_payload() == (ROOT / "README.md").read_text()
    assert content(wheel)[f"{INFO}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert "Operating System :: POSIX :: Linux" in read.get_all("Classifier")


def test_the_base_install_needs_msgpack_alone(wheel: Path) -> None:
    needed = metadata(wheel).get_all("Requires-Dist")
    base = [requirement for requirement in needed if "extra ==" not in requirement]
    assert [requirement.split("<")[0].split(">")[0] for requirement in base] == ["msgpack"]


def requirements(wheel: Path, extra: str) -> set[str]:
    """Return what an extra brings; hatchling writes out the extras it is made of."""
    needed = metadata(wheel).get_all("Requires-Dist")
    return {text.split(";")[0] for text in needed if f"extra == '{extra}'" in text}


def test_the_extras_hold_one_another(wheel: Path) -> None:
    names = ("daemon", "sandbox", "test", "lint")
    assert set(metadata(wheel).get_all("Provides-Extra")) == {*names, "keyring"}
    each = [requirements(wheel, extra) for extra in names]
    for smaller, larger in itertools.pairwise(each):
        assert smaller < larger
    assert requirements(wheel, "keyring") < requirements(wheel, "test")


def test_the_sdist_holds_the_checkout_and_nothing_else(sdist: Path, checkout: Path) -> None:
    expected = {"PKG-INFO", ".gitignore", "README.md", "LICENSE", "pyproject.toml"}
    for folder in ("daemon", "clientlib", "systemd", "tests", ".ci"):
        expected |= {f"{folder}/{name}" for name in files_below(checkout / folder)}
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == expected


def test_scripts_of_the_sdist_can_be_run(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        modes = {member.name.partition("/")[2]: member.mode for member in archive}
    assert modes["clientlib/bin/keyless"] & 0o111
    assert modes[".ci/run"] & 0o111


def test_the_sdist_makes_the_same_wheel(
    sdist: Path, wheel: Path, build: Callable[..., Path], tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        # The first releases of Python 3.11 know none.
        if hasattr(tarfile, "data_filter"):
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    assert content(build(source, "wheel", tmp_path / "out")) == content(wheel)


@pytest.mark.parametrize("folder", ["daemon", "clientlib", "clientlib/bin", "systemd"])
def test_the_source_folders_are_no_packages(folder: str) -> None:
    """Else `import daemon` in a checkout would find ours, and tests code that is not installed."""
    assert not (ROOT / folder / "__init__.py").exists()

"""Builds and installs what the real tests need, with the ordinary clients of the registries.

Go programs go to the cache folder and are built once per version. MariaDB, the browser and the
keyring come from Debian, what runs under Node from npm. Nothing is downloaded in any other way.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.real import versions
from tests.real.versions import GoModule

# A program is a static binary where it can be, so that the cache folder works on its own.
BUILD_ENVIRONMENT = {
    "GOTOOLCHAIN": "local",
    "GOFLAGS": "-mod=readonly -buildvcs=false",
    "GOWORK": "off",
}


class InstallError(Exception):
    """Something cannot be installed; the message is for people and says what to do."""


def install(*, jobs: int | None = None) -> None:
    """Install whatever is missing; say on stderr what is done and how long it took.

    Args:
        jobs: Compilers at once, all cores if None.

    Raises:
        InstallError: Something could not be built, or needs somebody with more rights.
    """
    _install_debian()
    for module in versions.GO:
        _install_go(module, jobs)
    for folder, name in versions.NPM.items():
        _install_npm(folder, name)


def _install_go(module: GoModule, jobs: int | None) -> None:
    if module.place.is_dir():
        return
    _check_go()
    if module.cgo and shutil.which("gcc") is None:
        raise InstallError(f"{module.name} needs a C compiler; have root run: apt-get install gcc")
    module.place.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=module.place.parent, prefix=".building-") as temporary:
        target = Path(temporary) / module.name
        target.mkdir()
        for name, package in module.programs.items():
            limit = [] if jobs is None else ["-p", str(jobs)]
            flags = ["-trimpath", "-ldflags=-s -w", "-o", str(target / name)]
            _go(module, "build", *limit, *flags, module.module + package)
        for path in module.files:
            folder = json.loads(_go(module, "list", "-m", "-json", module.module))["Dir"]
            shutil.copyfile(Path(folder) / path, target / Path(path).name)
        target.rename(module.place)
    _say(f"{module.name} {module.version}: built in {time.monotonic() - began:.0f} s")


def _check_go() -> None:
    if shutil.which("go") is None:
        raise InstallError("there is no Go here; install Go 1.26 or newer and put it in PATH")
    text = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True).stdout
    found = re.match(r"go(\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < versions.GO_MINIMUM:
        raise InstallError(f"Go 1.26 or newer is needed; this is {text.strip() or 'unknown'}")


def _go(module: GoModule, *words: str) -> str:
    done = subprocess.run(
        ["go", *words],
        cwd=module.folder,
        env={**os.environ, **BUILD_ENVIRONMENT, "CGO_ENABLED": str(int(module.cgo))},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise InstallError(f"go {words[0]} of {module.name} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def _install_debian() -> None:
    packages = versions.missing_debian()
    if not packages:
        return
    names = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise InstallError(f"missing: {names}; have root run: apt-get install {names}")
    began = time.monotonic()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (
        ["update", "-qq"],
        ["install", "-qq", "-y", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(
            ["apt-get", *words], env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr
        )
        if done.returncode != 0:
            raise InstallError(f"apt-get {words[0]} failed")
    _say(f"{names}: installed in {time.monotonic() - began:.0f} s")


def _install_npm(source: str, name: str) -> None:
    target = versions.node_modules(source)
    if target.is_dir():
        return
    if shutil.which("npm") is None:
        raise InstallError("there is no npm here; install Node 20 or newer")
    began = time.monotonic()
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent.parent, prefix=".installing-") as temporary:
        folder = Path(temporary) / source
        folder.mkdir()
        for file in ("package.json", "package-lock.json"):
            shutil.copyfile(versions.HERE / source / file, folder / file)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise InstallError(f"npm ci failed:\n{done.stderr[-2000:]}")
        folder.rename(target.parent)
    _say(f"{name}: installed in {time.monotonic() - began:.0f} s")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()

"""Builds and installs what the real tests need, with the ordinary clients of the registries.

Go programs go to the cache folder and are built once per version. MariaDB comes from Debian, the
JavaScript judge from npm. Nothing is downloaded in any other way.
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

# Each program is a static binary, so that the cache folder works on its own.
BUILD_ENVIRONMENT = {
    "CGO_ENABLED": "0",
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
    _install_mariadb()
    for module in versions.GO:
        _install_go(module, jobs)
    _install_js()


def _install_go(module: GoModule, jobs: int | None) -> None:
    if module.place.is_dir():
        return
    _check_go()
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
        env={**os.environ, **BUILD_ENVIRONMENT},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise InstallError(f"go {words[0]} of {module.name} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def _install_mariadb() -> None:
    if all(map(versions.system_program, versions.MARIADB)):
        return
    packages = "mariadb-server"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise InstallError(f"MariaDB is missing; have root run: apt-get install {packages}")
    began = time.monotonic()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", packages]):
        done = subprocess.run(
            ["apt-get", *words], env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr
        )
        if done.returncode != 0:
            raise InstallError(f"apt-get {words[0]} failed")
    _say(f"{packages}: installed in {time.monotonic() - began:.0f} s")


def _install_js() -> None:
    target = versions.node_modules()
    if target.is_dir():
        return
    if shutil.which("npm") is None:
        raise InstallError("there is no npm here; install Node 20 or newer")
    began = time.monotonic()
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent.parent, prefix=".installing-") as temporary:
        folder = Path(temporary) / "js"
        folder.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(versions.HERE / "js" / name, folder / name)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise InstallError(f"npm ci failed:\n{done.stderr[-2000:]}")
        folder.rename(target.parent)
    _say(f"sigstore-js: installed in {time.monotonic() - began:.0f} s")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()

"""The programs the real tests start, each with its module and version. Builds and runs nothing.

The versions themselves stand in ``go/NAME/go.mod`` and ``NAME/package.json``; what is built from
them is kept under a name that is a hash of these files, so that a change of a version is a change
of the place.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
GO_MINIMUM = (1, 26)
# Not in modules or lock files: what Debian installs, by package, and where it puts it.
DEBIAN = {
    "mariadb-server": ("mariadbd", "mariadb-install-db"),
    "dbus": ("dbus-daemon",),
    "gnome-keyring": ("gnome-keyring-daemon",),
    "chromium": ("chromium",),
    "chromium-driver": ("chromedriver",),
}
# Folders with a package.json and its lock file -> what they install.
NPM = {"js": "sigstore-js", "js-oidc": "oidc-provider"}
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin")


@dataclass(frozen=True, slots=True)
class GoModule:
    """One folder below ``go/``: a module of ours that pins one published module.

    Attributes:
        name: The folder.
        module: The published module.
        programs: Binary -> package below the module, ``""`` for its root.
        files: Further files of the module that are needed at run time, by base name.
        cgo: Whether a part of it is C. It then needs a C compiler, and the C library to run.
    """

    name: str
    module: str
    programs: dict[str, str]
    files: tuple[str, ...] = ()
    cgo: bool = False

    @property
    def folder(self) -> Path:
        """Where our go.mod and go.sum lie."""
        return HERE / "go" / self.name

    @property
    def version(self) -> str:
        """The pinned version."""
        text = (self.folder / "go.mod").read_text()
        found = re.search(rf"^\s*(?:require )?{re.escape(self.module)} (v\S+)", text, re.MULTILINE)
        assert found is not None, f"{self.folder}/go.mod does not pin {self.module}"
        return found[1]

    @property
    def place(self) -> Path:
        """Where the built programs are kept."""
        key = hashlib.sha256()
        for name in ("go.mod", "go.sum"):
            key.update((self.folder / name).read_bytes())
        key.update(repr((sorted(self.programs.items()), self.files)).encode())
        return cache() / "go" / f"{self.name}-{self.version}-{key.hexdigest()[:12]}"


GO = (
    GoModule("fulcio", "github.com/sigstore/fulcio", {"fulcio": ""}),
    GoModule(
        "tesseract",
        "github.com/transparency-dev/tesseract",
        {"tesseract-posix": "/cmd/tesseract/posix"},
    ),
    GoModule(
        "rekor-tiles",
        "github.com/sigstore/rekor-tiles/v2",
        {"rekor-tiles": "/cmd/rekor-server/posix"},
    ),
    GoModule("rekor", "github.com/sigstore/rekor", {"rekor-server": "/cmd/rekor-server"}),
    GoModule(
        "trillian",
        "github.com/google/trillian",
        {
            "trillian_log_server": "/cmd/trillian_log_server",
            "trillian_log_signer": "/cmd/trillian_log_signer",
        },
        files=("storage/mysql/schema/storage.sql",),
    ),
    GoModule(
        "tsa",
        "github.com/sigstore/timestamp-authority/v2",
        {"timestamp-server": "/cmd/timestamp-server"},
    ),
    GoModule("dex", "github.com/dexidp/dex", {"dex": "/cmd/dex"}),
    GoModule(
        "spire",
        "github.com/spiffe/spire",
        {"spire-server": "/cmd/spire-server", "spire-agent": "/cmd/spire-agent"},
        cgo=True,
    ),
    GoModule("cosign", "github.com/sigstore/cosign/v3", {"cosign": "/cmd/cosign"}),
    GoModule("cosign2", "github.com/sigstore/cosign/v2", {"cosign2": "/cmd/cosign"}),
    GoModule(
        "gitsign",
        "github.com/sigstore/gitsign",
        {"gitsign": "", "gitsign-credential-cache": "/cmd/gitsign-credential-cache"},
    ),
)


def cache() -> Path:
    """Return the folder that holds whatever was built; it may be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("KEYLESS_TESTS_CACHE") or Path(base) / "keyless-tests")


def program(name: str) -> Path:
    """Return the path of a Go program, built or not."""
    for module in GO:
        if name in module.programs:
            return module.place / name
    raise KeyError(name)


def module_file(name: str) -> Path:
    """Return the path of a further file of a Go module."""
    for module in GO:
        for path in module.files:
            if Path(path).name == name:
                return module.place / name
    raise KeyError(name)


def system_program(name: str) -> str | None:
    """Return the path of a program that Debian installs, or None."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_PLACES))


def node_modules(folder: str = "js") -> Path:
    """Return the folder of the npm packages of one of NPM's folders, installed or not."""
    key = hashlib.sha256()
    for name in ("package.json", "package-lock.json"):
        key.update((HERE / folder / name).read_bytes())
    return cache() / f"{folder}-{key.hexdigest()[:12]}" / "node_modules"


def missing() -> list[str]:
    """Return the names of what any of these tests needs and is not there."""
    python = [] if importlib.util.find_spec("sigstore") else ["sigstore-python"]
    return [*missing_go(), *missing_debian(), *missing_npm(), *python]


def missing_go(*modules: str) -> list[str]:
    """Return the Go programs that are not built, of these folders or of all."""
    return [
        name
        for module in GO
        if not modules or module.name in modules
        for name in module.programs
        if not (module.place / name).is_file()
    ]


def missing_debian(*packages: str) -> list[str]:
    """Return the Debian packages of which a program is not there, of these or of all."""
    return [
        package for package in packages or DEBIAN if not all(map(system_program, DEBIAN[package]))
    ]


def missing_npm(*folders: str) -> list[str]:
    """Return what npm has not installed, of these folders or of all."""
    has_node = shutil.which("node") is not None
    return [
        NPM[folder] for folder in folders or NPM if not (has_node and node_modules(folder).is_dir())
    ]

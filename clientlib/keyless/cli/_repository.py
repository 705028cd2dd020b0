"""What the git repository of the working directory says about whom to sign as, and where.

``git config keyless.identity NAME`` and ``git config keyless.instance NAME`` in a repository hold
for whatever is signed inside it. Only that repository's own file counts, only if it is the
user's own, and git is only started if the file speaks of us at all: a few looks at the disk
otherwise.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CONFIG = 256 << 10  # bytes that are looked through
MAX_VALUE = 4096
MAX_UP = 64  # directories


def repository_choice(name: str, environ: "Mapping[str, str]") -> "str | None":
    """Return the value of ``keyless.NAME`` in the repository's own configuration, or None."""
    config = _config_file(environ)
    if config is None or not _speaks_of_us(config):
        return None
    return _ask_git(config, f"keyless.{name}", environ)


def _config_file(environ: "Mapping[str, str]") -> "str | None":
    """Return the configuration file of the repository around the working directory, or None."""
    found = environ.get("GIT_DIR")  # in a hook
    try:
        directory = os.getcwd()
    except OSError:
        return None
    for _ in range(MAX_UP):
        if found:
            break
        here = f"{directory}/.git"
        if os.path.exists(here):
            found = here
            break
        above = os.path.dirname(directory)
        if above == directory:
            return None
        directory = above
    return None if not found else _config_of(found)


def _config_of(git_dir: str) -> "str | None":
    if os.path.isfile(git_dir):  # a worktree or a submodule
        named = _line(git_dir)
        if not named.startswith("gitdir: "):
            return None
        git_dir = os.path.join(os.path.dirname(git_dir), named[8:])
    common = _line(f"{git_dir}/commondir")
    return os.path.join(git_dir, common, "config") if common else f"{git_dir}/config"


def _line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline(MAX_VALUE).rstrip("\n")
    except OSError:
        return ""


def _speaks_of_us(config: str) -> bool:
    try:
        with open(config, "rb") as file:
            # Somebody else's directory must not choose for whoever happens to be in it.
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return False
            return b"keyless" in file.read(MAX_CONFIG).lower()
    except OSError:
        return False


def _ask_git(config: str, key: str, environ: "Mapping[str, str]") -> "str | None":
    """Return what git reads there; its file format is git's business."""
    reader, writer = os.pipe()
    try:
        try:
            process = os.posix_spawnp(
                "git",
                ["git", "config", "--file", config, "--get", key],
                dict(environ),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, writer, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
            )
        except OSError:
            return None
        finally:
            os.close(writer)
        raw = b""
        while len(raw) < MAX_VALUE and (chunk := os.read(reader, MAX_VALUE)):
            raw += chunk
    finally:
        os.close(reader)
    _, status = os.waitpid(process, 0)
    value = raw.decode("utf-8", "replace").rstrip("\n")
    return value if status == 0 and value else None

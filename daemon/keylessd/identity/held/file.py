"""A token in a file that somebody else keeps fresh, for example a kubelet.

The file is opened by its path at every use and never watched: a kubelet does not write into the
file, it points the link ``..data`` at another directory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from keylessd.errors import IdentityError, TokenError
from keylessd.held_settings import TokenFile
from keylessd.identity.token import parse_token
from keylessd.secret import Secret

if TYPE_CHECKING:
    from keylessd.flow.threads import Threads
    from keylessd.held_settings import HeldSettings
    from keylessd.identity.held.source import Parts
    from keylessd.identity.token import IdentityToken

MAX_FILE = 64 << 10  # bytes; real tokens have 1 to 4 KiB


class FileSource:
    """Reads a token from a file, anew each time."""

    def __init__(self, name: str, path: Path, threads: Threads) -> None:
        self._name = name
        self._path = path
        self._threads = threads

    @property
    def keeps(self) -> bool:
        """Whoever writes the file knows when it is due."""
        return False

    async def fetch(self) -> IdentityToken:
        """Return the token that stands in the file now."""
        text = await self._threads.run("disk", read_token_file, self._name, self._path)
        try:
            return parse_token(text)
        except TokenError as exc:
            raise IdentityError(
                "identity_unavailable",
                f"identity {self._name!r}: what {str(self._path)!r} holds is no token:"
                f" {exc.message}",
                # A file that is being written has half of it; another look is worth it.
                retryable=True,
                hint="whoever writes the file has to replace it whole, by renaming",
            ) from None


def make(settings: HeldSettings, parts: Parts) -> FileSource:
    """Return the source of a ``kind = "file"``."""
    assert isinstance(settings.source, TokenFile)  # noqa: S101  # the registry pairs them
    return FileSource(settings.name, settings.source.path, parts.threads)


def read_token_file(name: str, path: Path) -> Secret:
    """Return the text of a file with a token, without the blanks around it.

    Blocks. A pipe, a device or a directory is refused before it is read.

    Raises:
        IdentityError: ``identity_unavailable``; it names the file and never quotes it.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe that nobody writes would never return.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise _unusable(name, path, "is not a regular file")
            with os.fdopen(handle, "rb", closefd=False) as file:
                raw = file.read(MAX_FILE + 1)
        finally:
            os.close(handle)
    except OSError as exc:
        raise _unusable(name, path, f"cannot be read: {exc.strerror}", retryable=True) from exc
    if len(raw) > MAX_FILE:
        raise _unusable(name, path, f"is larger than {MAX_FILE} bytes")
    text = raw.strip()
    if not text:
        raise _unusable(name, path, "is empty", retryable=True)
    if not text.isascii():
        raise _unusable(name, path, "holds something that is no token")
    return Secret(text.decode("ascii"))


def _unusable(name: str, path: Path, problem: str, *, retryable: bool = False) -> IdentityError:
    return IdentityError(
        "identity_unavailable",
        f"identity {name!r}: the file {str(path)!r} {problem}",
        retryable=retryable,
        hint="look at the file and at the table of this identity in the settings",
    )

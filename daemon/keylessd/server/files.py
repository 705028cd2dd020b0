"""Files that clients sent once and name by hash from then on. Keeps bytes; reads none of them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from keylessd.errors import InvalidInputError, UnknownFileError

MAX_FILES: Final = 256


class FileCache:
    """A least-recently-used cache of file contents by their SHA-256, bounded in bytes.

    Whoever can compute a file's hash learns at most whether the daemon has seen that file.

    Args:
        max_bytes: Bytes of content kept in all. A larger file serves its own request only.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._files: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes kept now."""
        return self._size

    def resize(self, max_bytes: int) -> None:
        """Set another bound, dropping what no longer fits."""
        self._max_bytes = max_bytes
        self._shrink()

    def content(self, name: str, sha256: bytes, attachments: Mapping[str, bytes]) -> bytes:
        """Return the bytes of the file that a request means.

        Args:
            name: Name of the file in the request, which is also its attachment's name.
            sha256: The hash the request states, 32 bytes.
            attachments: The request's attachments; the file may be among them.

        Raises:
            UnknownFileError: it is not, and no earlier request brought it.
            InvalidInputError: the attachment has another hash than the request states.
        """
        sent = attachments.get(name)
        if sent is None:
            known = self._files.get(sha256)
            if known is None:
                raise UnknownFileError(
                    f"the daemon does not know the file {name} of this hash",
                    hint="send its content with the request",
                    details={"name": name},
                )
            self._files.move_to_end(sha256)
            return known
        found = hashlib.sha256(sent).digest()
        if found != sha256:
            raise InvalidInputError(
                f"attachment {name} has SHA-256 {found.hex()}, the request says {sha256.hex()}"
            )
        self._keep(sha256, sent)
        return sent

    def _keep(self, sha256: bytes, content: bytes) -> None:
        if sha256 in self._files:
            self._files.move_to_end(sha256)
        elif len(content) <= self._max_bytes:
            self._files[sha256] = content
            self._size += len(content)
            self._shrink()

    def _shrink(self) -> None:
        while self._size > self._max_bytes or len(self._files) > MAX_FILES:
            _, dropped = self._files.popitem(last=False)
            self._size -= len(dropped)

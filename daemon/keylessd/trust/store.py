"""The cache directory of one TUF instance: permissions, lock, atomic publication.

Two things lie in it. ``work/`` is python-tuf's, which it updates step by step, so that a kill
may leave it between two versions. ``published.json`` is ours: one file that holds a complete,
verified set of metadata and targets, replaced by rename once all of it is there. An offline
start reads that file only.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trio

from keylessd.errors import TrustUnavailableError

FORMAT = 1
PRIVATE = 0o700
MAX_PUBLISHED = 16 << 20  # bytes; the public instance has 40 KiB
LOCK_POLL_SECONDS = 0.05


class CacheRefusedError(TrustUnavailableError):
    """The cache directory is not ours alone: whoever can write there could plant old metadata."""

    retryable = False


@dataclass(frozen=True, slots=True)
class Published:
    """A complete set, as it was verified at *fetched*.

    Attributes:
        roots: Root metadata after the trusted one the walk began at, oldest first.
        timestamp: Metadata, as served.
        snapshot: The same.
        targets: The same.
        files: Contents of the targets, by name.
        fetched: When the repository last confirmed this set (UTC).
    """

    roots: tuple[bytes, ...]
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    files: Mapping[str, bytes]
    fetched: datetime


class InstanceStore:
    """One instance's directory below the cache directory."""

    def __init__(self, cache_dir: Path, key: str) -> None:
        """Store the paths; nothing is created.

        Args:
            cache_dir: The daemon's cache directory, 0700 and its own.
            key: Name of the instance's directory.
        """
        self._above = (cache_dir, cache_dir / "tuf")
        self.directory = cache_dir / "tuf" / key
        self.metadata = self.directory / "work" / "metadata"
        self.targets = self.directory / "work" / "targets"
        self._published = self.directory / "published.json"

    def exists(self) -> bool:
        """Return whether anything was ever published here that we may look at."""
        # Not Path.exists(), which raises for a directory that we may not enter.
        return os.path.exists(self._published)

    def check(self) -> None:
        """Refuse directories that others own or may enter.

        Raises:
            CacheRefusedError: If one is not a directory, not ours, or not 0700.
        """
        for directory in (*self._above, self.directory):
            _check_private(directory)

    def prepare(self) -> None:
        """Create what is missing, 0700, and check all of it.

        Raises:
            CacheRefusedError: See check().
            TrustUnavailableError: If the directories cannot be created.
        """
        try:
            self._above[0].parent.mkdir(parents=True, exist_ok=True)
            for directory in (*self._above, self.directory, self.directory / "work"):
                with suppress(FileExistsError):
                    directory.mkdir(mode=PRIVATE)
                _check_private(directory)
            for directory in (self.metadata, self.targets):
                directory.mkdir(mode=PRIVATE, exist_ok=True)
        except OSError as exc:
            raise TrustUnavailableError(
                f"the cache {self.directory} cannot be created: {exc.strerror}"
            ) from exc

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold the directory's lock, against other processes and our own other tasks.

        It ends with the process, however that ends. Waiting for it is a matter of the caller's
        deadline.
        """
        fd = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await trio.sleep(LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(fd)

    def sweep(self) -> None:
        """Remove temporary files that a killed process left. Only under the lock."""
        for pattern in (self.metadata.glob("tmp*"), self.directory.glob(".publish-*")):
            for path in pattern:
                path.unlink(missing_ok=True)

    def publish(self, published: Published) -> None:
        """Replace what is published, atomically and durably. Only under the lock.

        Raises:
            OSError: If it cannot be written; what was published before is still there.
        """
        fd, name = tempfile.mkstemp(prefix=".publish-", dir=self.directory)  # 0600
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(_encode(published))
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._published)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def read(self) -> Published | None:
        """Return what is published, unverified, or None if that is nothing or not readable."""
        try:
            with self._published.open("rb") as file:
                raw = file.read(MAX_PUBLISHED + 1)
        except OSError:
            return None
        return _decode(raw) if len(raw) <= MAX_PUBLISHED else None


def _check_private(directory: Path) -> None:
    try:
        found = directory.lstat()
    except OSError as exc:
        raise CacheRefusedError(f"the cache {directory} is not there: {exc.strerror}") from exc
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        problem = "is not a directory"
    elif found.st_uid != os.geteuid():
        problem = f"belongs to uid {found.st_uid}, not to {os.geteuid()}"
    elif mode & 0o077:
        problem = f"has mode {mode:04o}; others may enter it"
    else:
        return
    raise CacheRefusedError(
        f"the cache {directory} {problem}", hint=f"chmod 700 {directory}, or remove it"
    )


def _encode(published: Published) -> bytes:
    # All of these are JSON texts, hence UTF-8, and come back byte for byte.
    return json.dumps(
        {
            "format": FORMAT,
            "fetched": published.fetched.isoformat(),
            "roots": [root.decode() for root in published.roots],
            "timestamp": published.timestamp.decode(),
            "snapshot": published.snapshot.decode(),
            "targets": published.targets.decode(),
            "files": {name: content.decode() for name, content in published.files.items()},
        }
    ).encode()


def _decode(raw: bytes) -> Published | None:
    try:
        value = json.loads(raw)
        if value["format"] != FORMAT:
            return None
        fetched = datetime.fromisoformat(value["fetched"])
        if fetched.utcoffset() is None:
            return None
        return Published(
            roots=tuple(root.encode() for root in value["roots"]),
            timestamp=value["timestamp"].encode(),
            snapshot=value["snapshot"].encode(),
            targets=value["targets"].encode(),
            files={name: content.encode() for name, content in value["files"].items()},
            fetched=fetched,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None

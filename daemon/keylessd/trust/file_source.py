"""One instance whose trust is two files: read when first needed, and again when they change."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from keylessd.errors import InvalidInputError, TrustInvalidError, TrustUnavailableError
from keylessd.trust.instances import read_capped
from keylessd.trust.material import TrustMaterial
from keylessd.trust.parsed import MAX_FILE, version_of
from keylessd.trust.stated_urls import with_stated_urls
from keylessd.trust.status import InstanceStatus, State

if TYPE_CHECKING:
    from keylessd.clock import Clock
    from keylessd.flow.threads import Threads
    from keylessd.trust.instances import FileInstance
    from keylessd.trust.parsed import Parsed

# What tells one content of a path from another: device, inode, size, time of change.
_Mark = tuple[int, int, int, int]


class FileSource:
    """Holds the material of one file instance.

    A file that has become unreadable or invalid, as a half-written one is for a moment, leaves
    the last good content in force; the status shows the error.
    """

    def __init__(
        self, instance: FileInstance, *, parsed: Parsed, clock: Clock, threads: Threads
    ) -> None:
        """Store the parts; nothing is read."""
        self.instance = instance
        self._parsed = parsed
        self._clock = clock
        self._threads = threads
        self._held: TrustMaterial | None = None
        self._marks: tuple[_Mark | None, ...] | None = None
        self._error: TrustInvalidError | TrustUnavailableError | None = None
        self._error_time: datetime | None = None

    async def get(self) -> TrustMaterial:
        """Return the files' content, read again if they have changed.

        Raises:
            TrustUnavailableError: If they cannot be read and were not before.
            TrustInvalidError: If they are not valid and were not before.
        """
        marks = tuple(_mark(path) for path in self._paths())
        if marks != self._marks:
            await self._reload(marks)
        if self._held is not None:
            return self._held
        raise self._error or TrustUnavailableError("the files of the instance are not read yet")

    async def refresh(self) -> TrustMaterial:
        """Read the files, changed or not.

        Raises:
            TrustUnavailableError: If they cannot be read.
            TrustInvalidError: If they are not valid.
        """
        await self._reload(tuple(_mark(path) for path in self._paths()))
        if self._error is not None or self._held is None:
            raise self._error or TrustUnavailableError("the files of the instance cannot be read")
        return self._held

    def status(self) -> InstanceStatus:
        """Return what there is to show."""
        held = self._held
        state: State
        if held is None:
            state = "unused" if self._error is None else "unavailable"
        else:
            state = "fresh" if self._error is None else "stale"
        return InstanceStatus(
            name=self.instance.name,
            source="files",
            url=str(self.instance.trusted_root),
            state=state,
            version=None if held is None else held.version,
            fetched=None if held is None else held.fetched,
            error=None if self._error is None else self._error.message,
            error_time=self._error_time,
        )

    def _paths(self) -> tuple[Path, ...]:
        config = self.instance.signing_config
        root = self.instance.trusted_root
        return (root,) if config is None else (root, config)

    async def _reload(self, marks: tuple[_Mark | None, ...]) -> None:
        try:
            contents = await self._threads.run("disk", _read_all, self._paths())
        except InvalidInputError as exc:
            self._fail(TrustUnavailableError(f"instance {self.instance.name!r}: {exc.message}"))
        else:
            try:
                self._held = await self._material(contents)
            except InvalidInputError as exc:
                self._fail(TrustInvalidError(f"instance {self.instance.name!r}: {exc.message}"))
            else:
                self._error = self._error_time = None
        # Taken before the reading: a change in between is seen the next time.
        self._marks = marks

    async def _material(self, contents: tuple[bytes, ...]) -> TrustMaterial:
        raw_config = contents[1] if len(contents) > 1 else None
        root = await self._parsed.trusted_root(contents[0])
        config = None if raw_config is None else await self._parsed.signing_config(raw_config)
        urls = self.instance.urls
        return TrustMaterial(
            instance=self.instance.name,
            trusted_root=root,
            signing_config=with_stated_urls(config, urls, root),
            version=version_of(contents[0], raw_config, urls),
            source="files",
            fetched=self._clock.now(),
            expires=None,
        )

    def _fail(self, error: TrustInvalidError | TrustUnavailableError) -> None:
        self._error, self._error_time = error, self._clock.now()


def _mark(path: Path) -> _Mark | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _read_all(paths: tuple[Path, ...]) -> tuple[bytes, ...]:
    return tuple(read_capped(path, MAX_FILE) for path in paths)

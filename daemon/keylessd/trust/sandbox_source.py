"""The local sandbox's trust: follows the directory in which a sandbox describes itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from keylessd.core.strict_json import StrictJsonError, loads
from keylessd.errors import InvalidInputError, TrustInvalidError, TrustUnavailableError
from keylessd.trust.file_source import FileSource
from keylessd.trust.instances import (
    MAX_ROOT,
    SIGNING_CONFIG_TARGET,
    FileInstance,
    TufInstance,
    read_capped,
)
from keylessd.trust.status import InstanceStatus

if TYPE_CHECKING:
    from pathlib import Path

    from keylessd.core.strict_json import JsonValue
    from keylessd.flow.singleflight import SingleFlight
    from keylessd.trust.instances import SandboxInstance
    from keylessd.trust.material import Purpose, TrustMaterial
    from keylessd.trust.tuf_source import TufSource

DESCRIPTION = "instance.json"
MAX_DESCRIPTION = 65536  # bytes
HINT = "start one with: keyless sandbox up"

_Mark = tuple[int, int, int]


class SandboxSource:
    """Reads ``instance.json`` and then is the TUF or file instance that it describes.

    ``{"tuf_url": URL, "tuf_root": FILE, "signing_config_target"?: NAME}`` or
    ``{"trusted_root": FILE, "signing_config"?: FILE}``; files are relative to the directory.
    The description is looked at for each request, so a sandbox may start, stop and start anew
    on other ports while the daemon runs.
    """

    def __init__(
        self,
        instance: SandboxInstance,
        *,
        tuf: Callable[[TufInstance], TufSource],
        files: Callable[[FileInstance], FileSource],
    ) -> None:
        """Store the parts; nothing is read.

        Args:
            instance: Which directory.
            tuf: Makes the source of a TUF instance.
            files: Makes the source of a file instance.
        """
        self.instance = instance
        self._path = instance.directory / DESCRIPTION
        self._make_tuf = tuf
        self._make_files = files
        self._inner: TufSource | FileSource | None = None
        self._mark: _Mark | None = None
        self._error: TrustInvalidError | TrustUnavailableError | None = None

    async def get(self, purpose: Purpose, flights: SingleFlight[TrustMaterial]) -> TrustMaterial:
        """Return the material of the sandbox that the directory describes.

        Raises:
            TrustUnavailableError: If there is none, or it does not answer.
            TrustInvalidError: If its description is not valid.
            TrustExpiredError: If it does not answer and what was known has expired.
        """
        inner = self._described()
        if isinstance(inner, FileSource):
            return await inner.get()
        return await inner.get(purpose, flights)

    async def refresh(self, flights: SingleFlight[TrustMaterial]) -> TrustMaterial:
        """Renew now. Errors as of get(), and RateLimitedError."""
        inner = self._described()
        if isinstance(inner, FileSource):
            return await inner.refresh()
        return await inner.refresh(flights)

    def status(self) -> InstanceStatus:
        """Return what there is to show."""
        try:
            inner = self._described()
        except (TrustInvalidError, TrustUnavailableError) as exc:
            return InstanceStatus(
                name=self.instance.name,
                source="files",
                url=str(self.instance.directory),
                state="unavailable" if isinstance(exc, TrustInvalidError) else "unused",
                error=exc.message,
            )
        return inner.status()

    def _described(self) -> TufSource | FileSource:
        path = self._path
        mark = _mark(path)
        if mark is None:
            self._inner = self._mark = None
            raise TrustUnavailableError(
                f"no sandbox is described in {self.instance.directory}", hint=HINT
            )
        if mark != self._mark or self._inner is None:
            self._inner = self._made_of(path)
            self._mark = mark
        return self._inner

    def _made_of(self, path: Path) -> TufSource | FileSource:
        try:
            value = loads(read_capped(path, MAX_DESCRIPTION), max_bytes=MAX_DESCRIPTION)
            fields = value if isinstance(value, dict) else {}
            tuf_url, trusted_root = _text(fields, "tuf_url"), _text(fields, "trusted_root")
            if tuf_url is not None:
                root = self.instance.directory / (_text(fields, "tuf_root") or "root.json")
                target = _text(fields, "signing_config_target") or SIGNING_CONFIG_TARGET
                return self._make_tuf(
                    TufInstance(self.instance.name, tuf_url, read_capped(root, MAX_ROOT), target)
                )
            if trusted_root is not None:
                config = _text(fields, "signing_config")
                return self._make_files(
                    FileInstance(
                        self.instance.name,
                        self.instance.directory / trusted_root,
                        None if config is None else self.instance.directory / config,
                    )
                )
        except (StrictJsonError, InvalidInputError) as exc:
            raise TrustInvalidError(f"the sandbox's {path} is not valid: {exc}", hint=HINT) from exc
        raise TrustInvalidError(f"the sandbox's {path} names no source of trust", hint=HINT)


def _text(fields: dict[str, JsonValue], name: str) -> str | None:
    value = fields.get(name)
    if value is None or (isinstance(value, str) and value and value.isprintable()):
        return value
    raise StrictJsonError(f"{name} is not a text that can be printed")


def _mark(path: Path) -> _Mark | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns

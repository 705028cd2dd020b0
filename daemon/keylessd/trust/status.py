"""What is shown of an instance's trust: state, age, last error. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

State = Literal["unused", "fresh", "stale", "expired", "unavailable"]


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """One instance at one moment.

    Attributes:
        name: Its name.
        source: ``tuf`` or ``files``.
        url: Where its trust comes from, fit to be shown: the repository, or a path.
        state: ``unused`` (nobody asked yet, nothing loaded), ``fresh``, ``stale`` (in force, but
            the last attempt to renew it failed, or it is older than it should be), ``expired``,
            ``unavailable`` (nothing is held).
        version: Of the material in force, or None.
        fetched: When that was confirmed (UTC), or None.
        expires: When it ends (UTC), or None if it does not or there is none.
        error: What the last attempt met, None if it succeeded.
        error_time: When that was (UTC).
        refreshing: Whether an attempt is running.
    """

    name: str
    source: Literal["tuf", "files"]
    url: str
    state: State
    version: str | None = None
    fetched: datetime | None = None
    expires: datetime | None = None
    error: str | None = None
    error_time: datetime | None = None
    refreshing: bool = False

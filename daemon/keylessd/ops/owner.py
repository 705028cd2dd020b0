"""On whose behalf an operation runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """The user of a request, as the kernel named the peer. Nothing is shared between owners.

    Attributes:
        uid: The user's number.
    """

    uid: int

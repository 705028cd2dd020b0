"""On whose behalf an operation runs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Owner:
    """The user of a request, as the kernel named the peer. Nothing is shared between owners.

    Attributes:
        uid: The user's number.
        groups: All groups of the user that are known; for policy, and no part of who it is.
    """

    uid: int
    groups: frozenset[int] = field(default=frozenset(), compare=False)

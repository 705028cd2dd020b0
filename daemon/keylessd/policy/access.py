"""Which peer may ask for what. Decides only; the server asks, refuses and records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keylessd.policy.peers import Peer


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer of the policy, with the reason that is shown and recorded.

    Attributes:
        allowed: Whether the operation may go on.
        reason: One clause, for people.
    """

    allowed: bool
    reason: str


def decide(peer: Peer, operation: str, *, own_uid: int) -> Decision:
    """Decide whether the peer may ask for an operation.

    The policy of a user's own daemon: its own user and nobody else. User id 0 is no exception,
    since a process in a container shows up as 0 without being the administrator.

    Args:
        peer: Who asks.
        operation: Name of the operation, for the reason.
        own_uid: The user id the daemon runs as.
    """
    if peer.uid == own_uid:
        return Decision(allowed=True, reason=f"uid {peer.uid} is the daemon's own")
    return Decision(
        allowed=False,
        reason=f"uid {peer.uid} may not ask for {operation!r}; this daemon serves uid {own_uid}",
    )

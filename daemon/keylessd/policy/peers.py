"""Who is at the other end of the socket, as a value. Asks the kernel nothing itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known about a connected process, from the kernel alone.

    A rule that needs a fact which is None does not match.

    Attributes:
        uid: Effective user id at the moment it connected, in our user namespace.
        gid: Effective group id then.
        pid: Process id, or None if it lives in a foreign PID namespace.
        groups: Supplementary groups; empty if they are not known.
        started: Clock ticks after boot at which that very process started, or None if the
            process could not be pinned down.
        connection: Number of the connection, unique in this daemon.
    """

    uid: int
    gid: int
    pid: int | None = None
    groups: tuple[int, ...] = ()
    started: int | None = None
    connection: int = 0

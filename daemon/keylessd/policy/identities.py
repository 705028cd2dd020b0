"""Who may sign as an identity that the daemon holds. Decides only; pure.

What the daemon holds was given to the daemon: a metadata server attests the machine it runs on
and never the client. So such an identity goes to nobody unless the settings say to whom, with one
exception: a user's own daemon serves the user it runs as.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keylessd.policy.access import Decision


@dataclass(frozen=True, slots=True)
class Grant:
    """To whom one identity is given.

    Attributes:
        name: Of the identity.
        instances: Names of the instances it is for; None: for all.
        users: Numbers of users who may use it; None if the settings do not say.
        groups: Numbers of groups whose members may.
    """

    name: str
    instances: frozenset[str] | None
    users: tuple[range, ...] | None
    groups: tuple[range, ...]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants to sign as it.

    Attributes:
        uid: User, as the kernel named the peer.
        groups: All groups of it that are known.
        instance: Name of the instance it is wanted for, or None.
        names_services: Whether the request itself says which services get the token.
    """

    uid: int
    groups: frozenset[int]
    instance: str | None
    names_services: bool = False


def decide_identity(grant: Grant, asker: Asker, *, own_uid: int, system: bool) -> Decision:
    """Decide whether *asker* may sign as the identity of *grant*.

    A token that goes where a request says is a token given away. The user that the daemon runs
    as could get one without it; to all others it is given only for services of the settings.

    Args:
        grant: To whom it is given.
        asker: Who asks.
        own_uid: The user the daemon runs as.
        system: Whether the daemon serves a machine and not one user.
    """
    if grant.instances is not None and asker.instance not in grant.instances:
        return Decision(
            allowed=False, reason=f"identity {grant.name!r} is not for instance {asker.instance!r}"
        )
    is_own = not system and asker.uid == own_uid
    if asker.names_services and not is_own:
        return Decision(
            allowed=False, reason=f"identity {grant.name!r} is for services of the settings alone"
        )
    if _holds(grant.users or (), asker.uid):
        return Decision(allowed=True, reason=f"allow_uids of {grant.name!r} has uid {asker.uid}")
    for group in sorted(asker.groups):
        if _holds(grant.groups, group):
            return Decision(allowed=True, reason=f"allow_gids of {grant.name!r} has gid {group}")
    is_unsaid = grant.users is None and not grant.groups
    if is_unsaid and is_own:
        return Decision(allowed=True, reason=f"uid {asker.uid} is the daemon's own")
    return Decision(
        allowed=False, reason=f"identity {grant.name!r} is not given to uid {asker.uid}"
    )


def _holds(ranges: Sequence[range], number: int) -> bool:
    return any(number in one for one in ranges)

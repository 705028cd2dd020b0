"""All identities the daemon holds: who may use which, and a token of one for a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from keylessd.errors import DaemonError, InvalidInputError
from keylessd.flow.singleflight import SingleFlight
from keylessd.identity.held.kept import KeptToken
from keylessd.identity.held.registry import make_source
from keylessd.policy.identities import Asker, Grant, decide_identity

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.held_settings import HeldSettings
    from keylessd.identity.held.source import Parts
    from keylessd.identity.source import IdentityRequest
    from keylessd.identity.token import IdentityToken

# Name of a user or group to its number; raises KeyError.
Resolve = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class HeldState:
    """What may be told of one held identity to somebody whom policy grants it.

    Attributes:
        name: Of its table.
        kind: Of its source.
        identity: Whom its last token named, or None before the first.
        issuer: By whom, or None.
        instances: For which it is; None: for all.
        expires: End of the token in hand, or None.
        last_used: When a token was last taken, or None.
        problem: Why none could be got, or None.
    """

    name: str
    kind: str
    identity: str | None
    issuer: str | None
    instances: frozenset[str] | None
    expires: datetime | None
    last_used: datetime | None
    problem: str | None


class HeldOne:
    """One held identity, as a source for a request that policy grants it."""

    def __init__(self, settings: HeldSettings, grant: Grant, kept: KeptToken) -> None:
        self.settings = settings
        self.grant = grant
        self.kept = kept

    @property
    def name(self) -> str:
        """What its table is called."""
        return self.settings.name

    async def token(self, request: IdentityRequest) -> IdentityToken:
        """Return a token of it; that *request* may have it was decided.

        Raises:
            IdentityError: ``identity_unavailable``: it cannot be had.
            TokenError: ``token_audience``, ``token_expired``.
        """
        del request
        return await self.kept.get()

    def is_called(self, name: str | None) -> bool:
        """Tell whether *name* is its table's, or whom its last token named."""
        seen = self.kept.last_seen
        return name == self.settings.name or (
            seen is not None and name is not None and name in {seen.email, seen.subject}
        )

    def state(self) -> HeldState:
        """Return what may be told of it."""
        token, seen = self.kept.alive, self.kept.last_seen
        return HeldState(
            name=self.settings.name,
            kind=self.settings.kind,
            identity=None if seen is None else seen.identity_hint,
            issuer=None if seen is None else seen.issuer,
            instances=self.settings.instances,
            expires=None if token is None else token.expires,
            last_used=self.kept.last_used,
            problem=self.kept.problem,
        )


class HeldIdentities:
    """The held identities of the settings in force."""

    def __init__(
        self,
        parts: Parts,
        *,
        own_uid: int,
        system: bool,
        find_user: Resolve,
        find_group: Resolve,
    ) -> None:
        """Hold nothing yet; apply() says what.

        Args:
            parts: What sources are made with.
            own_uid: The user the daemon runs as.
            system: Whether it serves a machine and not one user.
            find_user: Looks a user up.
            find_group: Looks a group up.
        """
        self._parts = parts
        self._own_uid = own_uid
        self._system = system
        self._find_user = find_user
        self._find_group = find_group
        self._flights: SingleFlight[IdentityToken] = SingleFlight(parts.nursery)
        self._held: dict[str, HeldOne] = {}
        self._generation = 0

    def apply(self, settings: Mapping[str, HeldSettings]) -> None:
        """Hold these from now on. The token of a table that did not change stays.

        Raises:
            InvalidInputError: a user or group that is named is not known; nothing changed.
        """
        self._generation += 1
        held: dict[str, HeldOne] = {}
        for name, one in settings.items():
            before = self._held.get(name)
            grant = self._grant(one)
            if before is not None and before.settings == one:
                held[name] = HeldOne(one, grant, before.kept)
                continue
            kept = KeptToken(
                make_source(one, self._parts),
                name=name,
                # A call of the former settings that is under way must not be joined.
                key=(name, self._generation),
                flights=self._flights,
                nursery=self._parts.nursery,
                clock=self._parts.clock,
                rng=self._parts.rng,
            )
            held[name] = HeldOne(one, grant, kept)
        self._held = held

    def granted(self, request: IdentityRequest) -> HeldOne | None:
        """Return the first in the settings' order that *request* may be signed as, or None."""
        return next(self._granted(request), None)

    def named(self, request: IdentityRequest) -> HeldOne | None:
        """Return the one that ``request.identity`` names, of those that are granted.

        By the name of its table, else by whom its last token named. One that is not granted is
        not told from one that does not exist.
        """
        granted = list(self._granted(request))
        by_name = [one for one in granted if one.settings.name == request.identity]
        return next((one for one in [*by_name, *granted] if one.is_called(request.identity)), None)

    async def look(self, request: IdentityRequest) -> None:
        """Find out whom those are that *request* may be signed as and nobody has been yet.

        What cannot be had is told by describe().
        """
        async with trio.open_nursery() as nursery:
            for one in self._granted(request):
                if one.kept.last_seen is None:
                    nursery.start_soon(_try, one, request)

    def describe(self, request: IdentityRequest, *, anywhere: bool = False) -> list[HeldState]:
        """Return the state of every identity that *request* may be signed as; asks nobody.

        Args:
            request: Who asks.
            anywhere: For whatever instance.
        """
        return [one.state() for one in self._granted(request, anywhere=anywhere)]

    def _granted(self, request: IdentityRequest, *, anywhere: bool = False) -> Iterator[HeldOne]:
        asker = Asker(request.owner_uid, request.groups, request.instance, request.names_services)
        for one in self._held.values():
            grant = replace(one.grant, instances=None) if anywhere else one.grant
            decision = decide_identity(grant, asker, own_uid=self._own_uid, system=self._system)
            if decision.allowed:
                yield one

    def _grant(self, settings: HeldSettings) -> Grant:
        users = settings.users
        return Grant(
            name=settings.name,
            instances=settings.instances,
            users=None
            if users is None
            else tuple(_numbers(settings, "allow_uids", users, self._find_user)),
            groups=tuple(_numbers(settings, "allow_gids", settings.groups or (), self._find_group)),
        )


async def _try(one: HeldOne, request: IdentityRequest) -> None:
    with suppress(DaemonError):
        await one.token(request)


def _numbers(
    settings: HeldSettings, key: str, entries: Iterable[range | str], find: Resolve
) -> Iterable[range]:
    # Once, when the settings are put in force: who a name is must not change under a policy.
    for entry in entries:
        if isinstance(entry, range):
            yield entry
            continue
        try:
            number = find(entry)
        except KeyError:
            raise InvalidInputError(
                f"identity.{settings.name}.{key}: {entry!r} is not known on this machine"
            ) from None
        yield range(number, number + 1)

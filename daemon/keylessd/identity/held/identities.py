"""All identities the daemon holds: who may use which, and a token of one for a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keylessd.errors import InvalidInputError, NotAllowedError
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


@dataclass(frozen=True, slots=True)
class _Held:
    settings: HeldSettings
    grant: Grant
    token: KeptToken


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
        self._held: dict[str, _Held] = {}
        self._generation = 0

    def apply(self, settings: Mapping[str, HeldSettings]) -> None:
        """Hold these from now on. The token of a table that did not change stays.

        Raises:
            InvalidInputError: a user or group that is named is not known; nothing changed.
        """
        self._generation += 1
        held: dict[str, _Held] = {}
        for name, one in settings.items():
            before = self._held.get(name)
            grant = self._grant(one)
            if before is not None and before.settings == one:
                held[name] = _Held(one, grant, before.token)
                continue
            token = KeptToken(
                make_source(one, self._parts),
                # A call of the former settings that is under way must not be joined.
                key=(name, self._generation),
                flights=self._flights,
                nursery=self._parts.nursery,
                clock=self._parts.clock,
                rng=self._parts.rng,
            )
            held[name] = _Held(one, grant, token)
        self._held = held

    def granted(self, request: IdentityRequest) -> list[str]:
        """Return the names of those that *request* may be signed as, in the settings' order."""
        return [name for name, held in self._held.items() if self._allows(held, request)]

    def find(self, request: IdentityRequest, wanted: str) -> str | None:
        """Return the name of the one that *wanted* names, of those that are granted.

        Args:
            request: Who asks, and for which instance.
            wanted: The name of a table, or the identity that a token of it had.
        """
        granted = self.granted(request)
        if wanted in granted:
            return wanted
        for name in granted:
            seen = self._held[name].token.last_seen
            if seen is not None and wanted in {seen.email, seen.subject}:
                return name
        return None

    async def token(self, request: IdentityRequest, name: str) -> IdentityToken:
        """Return a token of one held identity.

        Raises:
            NotAllowedError: there is none of that name, or it is not given to this user; the
                two are not told apart.
            IdentityError: ``identity_unavailable``: it is granted, and cannot be had.
            TokenError: ``token_audience``, ``token_expired``.
        """
        held = self._held.get(name)
        if held is None or not self._allows(held, request):
            raise NotAllowedError(
                f"no identity {name[:200]!r} is held for uid {request.owner_uid} here",
                hint="`keyless whoami` lists those that are",
            )
        return await held.token.get()

    def describe(self, request: IdentityRequest) -> list[HeldState]:
        """Return the state of every identity that *request* may be signed as."""
        return [self._state(self._held[name]) for name in self.granted(request)]

    def _allows(self, held: _Held, request: IdentityRequest) -> bool:
        asker = Asker(request.owner_uid, request.groups)
        decision = decide_identity(
            held.grant, asker, request.instance, own_uid=self._own_uid, system=self._system
        )
        return decision.allowed

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

    @staticmethod
    def _state(held: _Held) -> HeldState:
        token, seen = held.token.alive, held.token.last_seen
        return HeldState(
            name=held.settings.name,
            kind=held.settings.kind,
            identity=None if seen is None else seen.identity_hint,
            issuer=None if seen is None else seen.issuer,
            instances=held.settings.instances,
            expires=None if token is None else token.expires,
            last_used=held.token.last_used,
            problem=held.token.problem,
        )


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

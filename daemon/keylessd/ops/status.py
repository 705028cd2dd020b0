"""What the daemon tells about itself: slots, queue, ledger, and who a caller would sign as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keylessd.identity.source import IdentityRequest

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.identity.held.identities import HeldState
    from keylessd.identity.select import HeldIdentities
    from keylessd.identity.session_facts import SessionStatus
    from keylessd.identity.sessions import Sessions
    from keylessd.identity.source import IdentitySource
    from keylessd.keys.ring import KeyRing, SlotStatus
    from keylessd.ops.admission import Admission
    from keylessd.ops.identity import Asking, Instances
    from keylessd.ops.ledger import Ledger
    from keylessd.ops.owner import Owner


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """An identity a caller could sign as.

    Attributes:
        identity: Email address or subject. Of a request's token it is a claim that nobody has
            verified.
        issuer: The token's issuer.
        source: ``"request"``, ``"session"``, or the kind of a held identity.
        instance: Name of the instance it is for.
        expires: End of the token at hand, or None.
        state: How a session is, or None.
        reason: Why it is not active, or None.
        ends: When a session is over, whatever is renewed, or None.
        prompt_due: When a person must log in again to sign on, or None.
        last_used: When a token was last taken from it, or None.
        is_renewable: Whether another token can be had without asking anybody, or None.
        is_default: Whether it is the default of its instance.
        name: What a held identity is called in the settings, or None.
    """

    identity: str
    issuer: str
    source: str
    instance: str
    expires: datetime | None = None
    state: str | None = None
    reason: str | None = None
    ends: datetime | None = None
    prompt_due: datetime | None = None
    last_used: datetime | None = None
    is_renewable: bool | None = None
    is_default: bool = False
    name: str | None = None


class StatusOps:
    """Answers questions about the present; changes nothing."""

    def __init__(
        self,
        *,
        source: IdentitySource,
        sessions: Sessions,
        held: HeldIdentities,
        instances: Instances,
        ring: KeyRing,
        admission: Admission,
        ledger: Ledger,
    ) -> None:
        """Store the parts."""
        self._source = source
        self._sessions = sessions
        self._held = held
        self._instances = instances
        self._ring = ring
        self._admission = admission
        self._ledger = ledger

    def slots(self, owner: Owner) -> list[SlotStatus]:
        """Return the key slots of one user."""
        return [slot for slot in self._ring.slots() if slot.owner_uid == owner.uid]

    def queued(self) -> int:
        """Return how many signatures wait for a place."""
        return self._admission.queued()

    def ledger_failures(self) -> int:
        """Return how many records could not be written since the start."""
        return self._ledger.failures

    async def whoami(self, asking: Asking) -> list[WhoAmI]:
        """Return whom the caller could sign as, those of the instance it names first.

        With a token or what grants one, that one alone is told of; nobody, if there is nobody.

        Raises:
            TokenError: the token cannot be read.
            IdentityError: what the caller's environment grants cannot be had.
            DaemonError: there is no such instance.
        """
        if asking.token is None and asking.ambient is None:
            return [*await self._of_sessions(asking), *await self._of_held(asking)]
        request = await self._instances.identity_request(asking, must_live=True)
        found = await self._source.token(request)
        return [
            WhoAmI(
                identity=found.identity_hint,
                issuer=found.issuer,
                source="request" if asking.ambient is None else asking.ambient.kind,
                expires=found.expires,
                instance=request.instance or "",
            )
        ]

    async def sessions(self, owner: Owner) -> list[WhoAmI]:
        """Return all sessions of one user, those used last first."""
        await self._sessions.load(owner.uid)
        return [self.session(status) for status in self._sessions.status(owner.uid)]

    def held(self, owner: Owner) -> list[WhoAmI]:
        """Return what the daemon holds for one user, for whatever instance; asks nobody."""
        request = IdentityRequest(owner.uid, None, None, groups=owner.groups)
        return [_held(state, "") for state in self._held.describe(request, anywhere=True)]

    async def _of_held(self, asking: Asking) -> list[WhoAmI]:
        request = await self._instances.identity_request(asking, must_live=True)
        await self._held.look(request)
        return [
            one
            for one in (
                _held(state, request.instance or "") for state in self._held.describe(request)
            )
            if asking.identity in (None, one.identity, one.name)
        ]

    async def _of_sessions(self, asking: Asking) -> list[WhoAmI]:
        instance = await self._instances.name(asking.where)
        issuer = asking.where.urls.oidc_issuer
        found = await self.sessions(asking.owner)
        fitting = [
            one
            for one in found
            if asking.identity in (None, one.identity) and issuer in (None, one.issuer)
        ]
        return sorted(fitting, key=lambda one: (one.instance != instance, not one.is_default))

    def session(self, status: SessionStatus) -> WhoAmI:
        """Return a session as an identity to sign as."""
        return WhoAmI(
            identity=status.key.identity,
            issuer=status.key.issuer,
            source="session",
            instance=status.key.instance,
            expires=status.expires,
            state=status.state.value,
            reason=status.reason,
            ends=status.ends,
            prompt_due=self._prompt_due(status),
            last_used=status.last_used,
            is_renewable=status.is_renewable,
            is_default=status.is_default,
        )

    def _prompt_due(self, status: SessionStatus) -> datetime | None:
        """Return when a person must log in again.

        A session that cannot be renewed serves until its token and the certificates that the
        token has earned have ended.
        """
        if status.is_renewable:
            return status.ends
        ends = [] if status.expires is None else [status.expires]
        ends += [
            slot.not_after
            for slot in self._ring.slots()
            if slot.owner_uid == status.key.owner_uid and slot.token_sha256 == status.token_sha256
        ]
        return min(max(ends), status.ends) if ends else None


def _held(state: HeldState, instance: str) -> WhoAmI:
    """Return a held identity as one to sign as; whom it names is unknown until its first token."""
    return WhoAmI(
        identity=state.identity or "",
        issuer=state.issuer or "",
        source=state.kind,
        instance=instance,
        expires=state.expires,
        state="degraded" if state.problem is not None else "active",
        reason=state.problem,
        last_used=state.last_used,
        is_renewable=True,
        name=state.name,
    )

"""What the daemon tells about itself: slots, queue, ledger, and who a caller would sign as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keylessd.identity.source import IdentityRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from keylessd.identity.source import IdentitySource
    from keylessd.keys.ring import KeyRing, SlotStatus
    from keylessd.ops.admission import Admission
    from keylessd.ops.ledger import Ledger
    from keylessd.ops.owner import Owner
    from keylessd.secret import Secret
    from keylessd.trust.material import TrustMaterial
    from keylessd.trust.where import Where


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """An identity a caller could sign as.

    Attributes:
        identity: Email address or subject, as the token claims it; nobody has verified it.
        issuer: The token's issuer.
        source: Where the token comes from; ``"request"`` is the only source so far.
        expires: End of the token.
        instance: Name of the instance it was asked for.
    """

    identity: str
    issuer: str
    source: str
    expires: datetime
    instance: str


class StatusOps:
    """Answers questions about the present; changes nothing."""

    def __init__(
        self,
        *,
        material: Callable[[Where], Awaitable[TrustMaterial]],
        source: IdentitySource,
        ring: KeyRing,
        admission: Admission,
        ledger: Ledger,
    ) -> None:
        """Store the parts."""
        self._material = material
        self._source = source
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

    async def whoami(self, owner: Owner, where: Where, token: Secret | None) -> list[WhoAmI]:
        """Return whom the caller would sign as; nobody if it brought no token.

        Raises:
            TokenError: the token cannot be read.
            DaemonError: there is no such instance.
        """
        if token is None:
            return []
        material = await self._material(where)
        found = await self._source.token(IdentityRequest(owner.uid, material.instance, token))
        return [
            WhoAmI(
                identity=found.identity_hint,
                issuer=found.issuer,
                source="request",
                expires=found.expires,
                instance=material.instance,
            )
        ]

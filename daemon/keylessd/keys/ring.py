"""The key slots in memory: gives one out, makes and renews it in one flight, forgets it.

Who may use a slot that exists is decided by its key. Nobody here verifies a token's signature,
so claims prove nothing: a slot is found again only with the very bytes of the token that the CA
accepted for it (by their SHA-256), by the same user, under the same trust root and CA.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import trio

from keylessd.errors import DaemonError
from keylessd.flow.singleflight import CallAbandonedError, SingleFlight

if TYPE_CHECKING:
    from keylessd.clock import Clock
    from keylessd.keys.issue import CertificateIssuer, IssueRequest
    from keylessd.keys.slot import KeySlot

Reuse = Literal["window", "never"]

MAX_SLOTS = 256
# Share of a certificate's life after which the first who comes renews it; the others go on
# with the old one meanwhile.
RENEW_SHARE = 0.8
RENEW_PAUSE = timedelta(seconds=15)  # after a renewal that failed
MAX_SKEW = timedelta(seconds=60)
SWEEP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """Who wants a slot, and for what.

    Attributes:
        owner_uid: The user.
        instance: Name of the instance, for status only.
        trust_version: Version of the trust material; a new one means new slots.
        issue: How to get the certificate.
    """

    owner_uid: int
    instance: str
    trust_version: str
    issue: IssueRequest

    @property
    def key(self) -> Hashable:
        """What must be equal for two requests to share a slot."""
        token = self.issue.token
        return (
            self.owner_uid,
            self.trust_version,
            self.issue.ca_url,
            token.sha256,
            token.issuer,
            token.identity_hint,
            self.issue.algorithm,
        )


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """A slot as status shows it."""

    owner_uid: int
    identity: str
    issuer: str
    instance: str
    not_after: datetime
    signatures: int
    token_sha256: bytes = b""


@dataclass(slots=True)
class _Held:
    slot: KeySlot
    request_key: Hashable
    owner_uid: int
    instance: str
    token: tuple[str, str]  # issuer and identity, as it says
    token_sha256: bytes
    renew_after: datetime


class KeyRing:
    """All key slots of the daemon."""

    def __init__(
        self,
        issuer: CertificateIssuer,
        *,
        clock: Clock,
        nursery: trio.Nursery,
        capacity: int = MAX_SLOTS,
    ) -> None:
        """Store the parts.

        Args:
            issuer: Makes slots.
            clock: Wall clock; it rules the lives of certificates.
            nursery: Runs the shared issuing.
            capacity: Most slots kept; the one not used for longest goes first.
        """
        self._issuer = issuer
        self._clock = clock
        self._capacity = capacity
        self._issuing: SingleFlight[_Held] = SingleFlight(nursery)
        self._held: dict[Hashable, _Held] = {}
        self._leased: set[KeySlot] = set()  # also those that are given out no more
        self._generation = 0

    async def acquire(
        self, request: SlotRequest, *, reuse: Reuse, margin: timedelta
    ) -> tuple[KeySlot, bool]:
        """Return (slot, whether it was used before); the caller gives it back with release().

        Args:
            request: Who wants it.
            reuse: ``"never"``: a slot of its own, whose key is destroyed at release.
            margin: Life its certificate must have left to be used again.

        Raises:
            DaemonError: as CertificateIssuer.issue().
            CallAbandonedError: the daemon is stopping.
        """
        if reuse == "never":
            generation = self._generation
            slot = await self._issuer.issue(request.issue)
            self._lease(slot)
            slot.retire()
            if generation != self._generation:
                slot.destroy()
            return slot, False
        held = self._usable(request.key, margin)
        if held is None:
            held = await self._issue(request)
        elif self._clock.now() >= held.renew_after:
            held = await self._renew(request, held)
        return self._lease(held.slot)

    def holds(self, request: SlotRequest, *, margin: timedelta) -> bool:
        """Return whether acquire() would find a slot for *request* without a new certificate."""
        return self._usable(request.key, margin) is not None

    def release(self, slot: KeySlot) -> None:
        """Give a slot back."""
        slot.leases -= 1
        if slot.leases == 0:
            self._leased.discard(slot)
            if slot.is_retired:
                slot.destroy()

    def drop_all(self) -> int:
        """Destroy every key now, also those in use or on their way; return how many there were.

        A request that has not signed yet takes a new slot.
        """
        self._generation += 1  # what is being issued now is destroyed when it comes
        slots = {held.slot for held in self._held.values()} | self._leased
        # One that was dropped before may still be leased; it is not there any more.
        slots = {slot for slot in slots if not slot.is_destroyed}
        for slot in slots:
            slot.destroy()
        self._held.clear()
        return len(slots)

    def forget(self, owner_uid: int, *, issuer: str, identity: str) -> int:
        """Forget the keys that a user has by tokens of one identity; return how many there were.

        One that is in use ends with that.
        """
        found = [
            (key, held)
            for key, held in self._held.items()
            if (held.owner_uid, held.token) == (owner_uid, (issuer, identity))
        ]
        for key, held in found:
            self._forget(key, held)
        return len(found)

    def slots(self) -> list[SlotStatus]:
        """Return what is held, for status."""
        return [
            SlotStatus(
                owner_uid=held.owner_uid,
                identity=held.slot.signer.identity,
                issuer=held.slot.signer.issuer,
                instance=held.instance,
                not_after=held.slot.not_after,
                signatures=held.slot.signatures,
                token_sha256=held.token_sha256,
            )
            for held in self._held.values()
        ]

    def certifies(self, owner_uid: int, token_sha256: bytes, *, to_its_end: bool) -> bool:
        """Return whether a certificate that was issued for a token still serves a user.

        Args:
            owner_uid: The user.
            token_sha256: Names the token.
            to_its_end: Whether it counts although it is due to be renewed.
        """
        now = self._clock.now()
        return any(
            held.owner_uid == owner_uid
            and held.token_sha256 == token_sha256
            and not held.slot.is_destroyed
            and now < (held.slot.not_after if to_its_end else held.renew_after)
            for held in self._held.values()
        )

    def sweep(self) -> None:
        """Forget the slots whose certificate has ended."""
        now = self._clock.now()
        for key, held in list(self._held.items()):
            if held.slot.not_after <= now:
                self._forget(key, held)

    async def run(self) -> None:
        """Sweep for ever; without it an unused key would stay until the next request."""
        while True:
            await trio.sleep(SWEEP_SECONDS)
            self.sweep()

    def _lease(self, slot: KeySlot) -> tuple[KeySlot, bool]:
        was_used = slot.signatures > 0 or slot.leases > 0
        slot.leases += 1
        self._leased.add(slot)
        return slot, was_used

    def _usable(self, key: Hashable, margin: timedelta) -> _Held | None:
        held = self._held.get(key)
        if held is None:
            return None
        now = self._clock.now()
        slot = held.slot
        if slot.is_destroyed or now >= slot.not_after - margin or now < slot.not_before - MAX_SKEW:
            self._forget(key, held)
            return None
        # Last used goes last: eviction takes the first.
        del self._held[key]
        self._held[key] = held
        return held

    async def _renew(self, request: SlotRequest, held: _Held) -> _Held:
        # Whoever comes meanwhile goes on with the old certificate. The renewal uses the token
        # of the request that is here now: none is ever kept for it.
        held.renew_after = self._clock.now() + RENEW_PAUSE
        try:
            return await self._issue(request)
        except (DaemonError, CallAbandonedError):
            if held.slot.is_destroyed:
                raise
            return held

    async def _issue(self, request: SlotRequest) -> _Held:
        return await self._issuing.run(request.key, lambda: self._make(request))

    async def _make(self, request: SlotRequest) -> _Held:
        generation = self._generation
        slot = await self._issuer.issue(request.issue)
        held = _Held(
            slot=slot,
            request_key=request.key,
            owner_uid=request.owner_uid,
            instance=request.instance,
            token=(request.issue.token.issuer, request.issue.token.identity_hint),
            token_sha256=request.issue.token.sha256,
            renew_after=slot.not_before + RENEW_SHARE * (slot.not_after - slot.not_before),
        )
        if generation != self._generation:
            slot.destroy()  # those who wait for it find that, and ask again
            return held
        old = self._held.pop(request.key, None)
        if old is not None:
            old.slot.retire()
        while len(self._held) >= self._capacity:
            self._forget(*next(iter(self._held.items())))
        self._held[request.key] = held
        return held

    def _forget(self, key: Hashable, held: _Held) -> None:
        if self._held.get(key) is held:
            del self._held[key]
        held.slot.retire()

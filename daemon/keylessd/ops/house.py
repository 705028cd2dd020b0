"""Puts the operations together from the parts the server has. Opens nothing but the ledger."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from keylessd.identity.source import IdentitySource, SuppliedToken
from keylessd.keys.issue import CertificateIssuer
from keylessd.keys.ring import KeyRing
from keylessd.keys.rules import CaRules
from keylessd.ops.admission import Admission
from keylessd.ops.idempotency import Idempotency
from keylessd.ops.ledger import Ledger
from keylessd.ops.publish import Publisher
from keylessd.ops.request import SignResult
from keylessd.ops.sign import SignOps
from keylessd.ops.status import StatusOps
from keylessd.ops.verify import VerifyOps

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from keylessd.clock import Clock
    from keylessd.flow.threads import Threads
    from keylessd.keys.ring import Reuse
    from keylessd.services.http import HttpClient
    from keylessd.trust.material import Purpose, TrustMaterial
    from keylessd.trust.where import Where


class TrustSource(Protocol):
    """The part of ``trust.current.Trust`` that the operations use."""

    async def material(self, where: Where, purpose: Purpose = "sign") -> TrustMaterial:
        """Return trust root and services of a request's choice."""
        ...

    async def refresh(self, instance: str) -> TrustMaterial:
        """Ask for newer material of an instance now, and return what is then in force."""
        ...


@dataclass(frozen=True, slots=True)
class House:
    """The operations, and the parts the server speaks to directly.

    Attributes:
        sign: Signing.
        verify: Verifying.
        status: Status and whoami.
        ledger: The record; close() it last.
        ring: The key slots; drop_all() on demand.
        trust: Trust roots.
    """

    sign: SignOps
    verify: VerifyOps
    status: StatusOps
    ledger: Ledger
    ring: KeyRing
    trust: TrustSource


def build(
    *,
    http: HttpClient,
    trust: TrustSource,
    clock: Clock,
    rng: random.Random,
    threads: Threads,
    nursery: trio.Nursery,
    ledger_path: Path,
    reuse: Reuse = "window",
    ledger_failure: Literal["closed", "open"] = "closed",
    source: IdentitySource | None = None,
) -> House:
    """Open the ledger, start its and the ring's background tasks, and return the operations.

    Args:
        http: Sends requests to services.
        trust: Gives trust roots and signing configurations.
        clock: Wall clock.
        rng: Nonces and ids; ``random.SystemRandom`` outside of tests.
        threads: Worker threads.
        nursery: Outlives every connection; background tasks and shared calls run in it.
        ledger_path: The ledger's current file.
        reuse: What holds where a request does not say.
        ledger_failure: ``"open"``: sign on when the ledger cannot be written.
        source: Gives identities; the caller's own token alone if None.

    Raises:
        LedgerError: the ledger cannot be opened.
    """
    ledger = Ledger(
        ledger_path, clock, session=f"{rng.getrandbits(48):012x}", on_failure=ledger_failure
    )
    ledger.open()
    identities = source if source is not None else SuppliedToken()
    issuer = CertificateIssuer(http, CaRules(http, nursery), clock)
    ring = KeyRing(issuer, clock=clock, nursery=nursery)
    admission = Admission()

    async def refresh(where: Where, material: TrustMaterial) -> TrustMaterial:
        if material.source != "tuf":
            return material  # what a request or a file brought has nowhere to be asked for newer
        await trust.refresh(material.instance)
        return await trust.material(where)

    sign = SignOps(
        material=trust.material,
        source=identities,
        issuer=issuer,
        ring=ring,
        publisher=Publisher(http, clock=clock, threads=threads, rng=rng, refresh=refresh),
        admission=admission,
        ledger=ledger,
        idempotency=Idempotency[SignResult](nursery, size_of=_size_of),
        clock=clock,
        threads=threads,
        reuse=reuse,
    )
    status = StatusOps(
        material=trust.material,
        source=identities,
        ring=ring,
        admission=admission,
        ledger=ledger,
    )
    nursery.start_soon(ring.run)
    nursery.start_soon(ledger.run, threads)
    return House(
        sign=sign,
        verify=VerifyOps(material=lambda where: trust.material(where, "verify"), threads=threads),
        status=status,
        ledger=ledger,
        ring=ring,
        trust=trust,
    )


def _size_of(result: SignResult) -> int:
    return len(result.bundle) + len(result.statement or b"")

"""Puts the operations together from the parts the server has. Opens nothing but the ledger."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from keylessd.flow.together import Together
from keylessd.identity.keep import Keep, MemoryKeep
from keylessd.identity.lock import Locks
from keylessd.identity.login.browser import BrowserLogin, Listeners, loopback
from keylessd.identity.login.device import DeviceLogin
from keylessd.identity.login.flows import Desk
from keylessd.identity.login.pasted import PastedLogin
from keylessd.identity.provider import Providers
from keylessd.identity.renewal import Renewer
from keylessd.identity.select import HeldIdentities, NoHeldIdentities, Selection
from keylessd.identity.sessions import Sessions
from keylessd.keys.issue import CertificateIssuer
from keylessd.keys.ring import KeyRing
from keylessd.keys.rules import CaRules
from keylessd.ops.admission import Admission
from keylessd.ops.idempotency import Idempotency
from keylessd.ops.identity import Instances
from keylessd.ops.ledger import Ledger
from keylessd.ops.login import LoginOps, LoginRooms
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
    from keylessd.identity.login.proof import RandomBytes
    from keylessd.identity.session_facts import Caps
    from keylessd.identity.source import IdentitySource
    from keylessd.keys.ring import Reuse
    from keylessd.services.http import HttpClient
    from keylessd.trust.material import Purpose, TrustMaterial
    from keylessd.trust.where import Where


class TrustSource(Protocol):
    """The part of ``trust.current.Trust`` that the operations use."""

    @property
    def default(self) -> str:
        """Name of the instance that is meant where none is named."""
        ...

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
        login: Logging in and out, locking.
        sessions: The sessions.
        ledger: The record; close() it last.
        ring: The key slots; drop_all() on demand.
        trust: Trust roots.
    """

    sign: SignOps
    verify: VerifyOps
    status: StatusOps
    login: LoginOps
    sessions: Sessions
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
    caps: Caps | None = None,
    keep: Keep | None = None,
    held: HeldIdentities | None = None,
    ambient: IdentitySource | None = None,
    listen: Callable[[], Listeners] = loopback,
    random_bytes: RandomBytes = secrets.token_bytes,
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
        caps: How long logins last; the usual if None.
        keep: Keeps what of them may outlive the daemon; nothing if None.
        held: Identities that the settings name; none if None.
        ambient: Fetches what callers' environments grant; nothing if None.
        listen: Opens what a browser brings its answer to.
        random_bytes: Source of what must not be guessed.

    Raises:
        LedgerError: the ledger cannot be opened.
    """
    ledger = Ledger(
        ledger_path, clock, session=f"{rng.getrandbits(48):012x}", on_failure=ledger_failure
    )
    ledger.open()
    instances = Instances(trust.material, lambda: trust.default)
    providers = Providers(http, clock=clock, nursery=nursery)
    renewer = Renewer(
        http,
        providers=providers,
        clock=clock,
        rng=rng,
        keep=keep if keep is not None else MemoryKeep(),
    )
    sessions = Sessions(renewer, nursery=nursery, caps=caps)
    locks = Locks(threads, random_bytes)
    identities = Selection(locks=locks, sessions=sessions, ambient=ambient, held=held)
    issuer = CertificateIssuer(http, CaRules(http, nursery, clock), clock)
    ring = KeyRing(issuer, clock=clock, nursery=nursery)
    sessions.certified = lambda uid, sha256, to_its_end: ring.certifies(
        uid, sha256, to_its_end=to_its_end
    )
    admission = Admission()

    async def refresh(where: Where, material: TrustMaterial) -> TrustMaterial:
        if material.source != "tuf":
            return material  # what a request or a file brought has nowhere to be asked for newer
        await trust.refresh(material.instance)
        return await trust.material(where)

    sign = SignOps(
        material=trust.material,
        choose=identities.choose,
        instances=instances,
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
        source=identities,
        sessions=sessions,
        held=held if held is not None else NoHeldIdentities(),
        instances=instances,
        ring=ring,
        admission=admission,
        ledger=ledger,
    )
    desk = Desk(http, providers, clock, rng, random_bytes)
    login = LoginOps(
        material=trust.material,
        instances=instances,
        sessions=sessions,
        locks=locks,
        rooms=LoginRooms(BrowserLogin(desk, listen), DeviceLogin(desk), PastedLogin(desk)),
        clock=clock,
        ring=ring,
    )
    nursery.start_soon(ring.run)
    nursery.start_soon(sessions.run)
    nursery.start_soon(ledger.run, threads)
    return House(
        sign=sign,
        verify=VerifyOps(
            material=lambda where: trust.material(where, "verify"),
            threads=threads,
            together=Together(),
        ),
        status=status,
        login=login,
        sessions=sessions,
        ledger=ledger,
        ring=ring,
        trust=trust,
    )


def _size_of(result: SignResult) -> int:
    return len(result.bundle) + len(result.statement or b"")

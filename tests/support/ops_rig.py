"""A whole signing house over the in-process sandbox, on virtual time, with faults on demand."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trio

from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.signing_config import parse_signing_config
from keylessd.core.trusted_root import parse_trusted_root
from keylessd.core.verify import VerifyOptions
from keylessd.flow.threads import Threads, run_inline
from keylessd.ops.house import House, build
from keylessd.ops.owner import Owner
from keylessd.ops.sign import AttestRequest, SignRequest, SignResult
from keylessd.ops.verify import VerifyRequest
from keylessd.policy.expect import ExpectedSigner
from keylessd.sandbox.faults import FaultController, Faults
from keylessd.sandbox.local import LocalSigstore
from keylessd.secret import Secret
from keylessd.services.http import HttpClient, new_client
from keylessd.trust.material import TrustMaterial
from keylessd.trust.where import Where

EPOCH = datetime(2026, 3, 1, 12, tzinfo=UTC)
ME = Owner(1000)
EMAIL = "ada@example.org"
SERVICES = ("oidc", "fulcio", "rekor-v1", "rekor-v2", "tsa")


class TrioClock:
    """Time that moves with trio's: a wall clock that can jump, and a machine that can sleep."""

    def __init__(self) -> None:
        self.offset = timedelta()
        self.slept = 0.0

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=trio.current_time() + self.slept) + self.offset

    def boottime(self) -> float:
        return 1000.0 + trio.current_time() + self.slept

    def suspend(self, seconds: float) -> None:
        """Let time pass that trio's clock does not see."""
        self.slept += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back."""
        self.offset += timedelta(seconds=seconds)


class ServiceClock:
    """The services' time: it passes while our machine sleeps, and our jumps are not its own."""

    def __init__(self, ours: TrioClock) -> None:
        self._ours = ours

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=trio.current_time() + self._ours.slept)

    def boottime(self) -> float:
        return self._ours.boottime()


class FixedTrust:
    """Hands out one material; refresh() puts ``newer`` in its place."""

    default = "sandbox"

    def __init__(self, material: TrustMaterial) -> None:
        self.current = material
        self.newer: TrustMaterial | None = None
        self.refreshed = 0

    async def material(self, where: Where, purpose: str = "sign") -> TrustMaterial:
        await trio.lowlevel.checkpoint()
        return self.current

    async def refresh(self, instance: str) -> TrustMaterial:
        await trio.lowlevel.checkpoint()
        self.refreshed += 1
        if self.newer is not None:
            self.current = self.newer
        return self.current


def material_of(sigstore: LocalSigstore, config: bytes, version: str = "v") -> TrustMaterial:
    return TrustMaterial(
        instance="sandbox",
        trusted_root=parse_trusted_root(sigstore.trusted_root()),
        signing_config=parse_signing_config(config),
        version=version,
        source="tuf",
        fetched=EPOCH,
        expires=None,
    )


@dataclass
class Rig:
    """What a test has at hand."""

    sigstore: LocalSigstore
    house: House
    trust: FixedTrust
    clock: TrioClock
    faults: dict[str, FaultController]
    path: Path
    nursery: trio.Nursery
    http: HttpClient
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def progress(self, name: str, facts: Any) -> None:
        self.events.append((name, dict(facts)))

    def token(self, **claims: Any) -> Secret:
        return Secret(self.sigstore.token(**{"email": EMAIL, **claims}))

    def request(self, data: bytes = b"artifact", **changes: Any) -> SignRequest:
        fields: dict[str, Any] = {
            "owner": ME,
            "where": Where(),
            "token": None,
            "reuse": None,
            "idempotency_key": None,
            "digest": digest_of(HashAlgorithm.SHA256, data),
            "name": None,
            **changes,
        }
        return SignRequest(**fields)

    async def sign(self, data: bytes = b"artifact", **changes: Any) -> SignResult:
        changes.setdefault("token", self.token())
        return await self.house.sign.sign(self.request(data, **changes), self.progress)

    async def attest(self, statement: bytes, **changes: Any) -> SignResult:
        fields: dict[str, Any] = {
            "owner": ME,
            "where": Where(),
            "token": changes.pop("token", None) or self.token(),
            "reuse": None,
            "idempotency_key": None,
            "statement": statement,
            **changes,
        }
        return await self.house.sign.attest(AttestRequest(**fields), self.progress)

    async def verify(self, bundle: bytes, *digests: Digest, **changes: Any) -> Any:
        fields: dict[str, Any] = {
            "bundle": bundle,
            "digests": {digest.algorithm: digest for digest in digests},
            "where": Where(),
            "accepted": (ExpectedSigner(identity=EMAIL, issuer=self.sigstore.urls["oidc"]),),
            "key": None,
            "options": VerifyOptions(),
            "predicate_type": None,
            **changes,
        }
        return await self.house.verify.verify(VerifyRequest(**fields))

    def ledger(self) -> list[dict[str, Any]]:
        import json

        return [json.loads(line) for line in self.house.ledger.read(1000)]

    @property
    def certificates(self) -> int:
        return self.sigstore.counters()["certificates"]

    @property
    def entries(self) -> int:
        counters = self.sigstore.counters()
        return counters["rekor_v1_entries"] + counters["rekor_v2_entries"]


@asynccontextmanager
async def open_rig(
    tmp_path: Path,
    rekor: str = "v2",
    *,
    reuse: str = "window",
    clock: TrioClock | None = None,
    house_options: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Rig]:
    """Build everything; background tasks end with the block."""
    # The house's own; the services' is always right.
    clock = TrioClock() if clock is None else clock
    theirs = ServiceClock(clock)
    with LocalSigstore.create(clock=theirs, rekor=rekor, **options) as sigstore:
        faults = {name: FaultController() for name in SERVICES}
        for name, controller in faults.items():
            sigstore.apps[name] = Faults(sigstore.apps[name], controller)
        trust = FixedTrust(material_of(sigstore, sigstore.signing_config()))
        hosts = frozenset(url.removeprefix("http://") for url in sigstore.urls.values())
        async with new_client(transport=sigstore.transport()) as client:
            http = HttpClient(
                client, rng=random.Random(1), user_agent="test/1", cleartext_hosts=hosts
            )
            async with trio.open_nursery() as nursery:
                house = build(
                    http=http,
                    trust=trust,
                    clock=clock,
                    rng=random.Random(2),
                    threads=Threads(run_inline),
                    nursery=nursery,
                    ledger_path=tmp_path / "ledger.jsonl",
                    reuse=reuse,  # type: ignore[arg-type]
                    **(house_options or {}),
                )
                yield Rig(sigstore, house, trust, clock, faults, tmp_path, nursery, http)
                nursery.cancel_scope.cancel()
            house.ledger.close()

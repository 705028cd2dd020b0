"""Signing, from a request to a proven bundle. The order of the steps is decided here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import trio

from keylessd.core.statement import build_statement
from keylessd.errors import (
    BusyError,
    InvalidInputError,
    RateLimitedError,
    ShuttingDownError,
    TokenError,
)
from keylessd.flow.singleflight import CallAbandonedError
from keylessd.keys.issue import IssueRequest
from keylessd.keys.ring import SlotRequest
from keylessd.ops.content import LARGE_STATEMENT, Artifact, attestation_of
from keylessd.ops.ledger import text
from keylessd.ops.publish import Publication, not_in_time
from keylessd.ops.record import Report
from keylessd.ops.request import (
    AttestRequest,
    Progress,
    SignRequest,
    SignResult,
    fingerprint_of,
)
from keylessd.ops.upstream import Plans
from keylessd.services.urls import shown_url

if TYPE_CHECKING:
    from keylessd.clock import Clock
    from keylessd.core.statement import Subject
    from keylessd.flow.threads import Threads
    from keylessd.identity.source import Chosen, IdentityRequest
    from keylessd.identity.token import IdentityToken
    from keylessd.keys.issue import CertificateIssuer
    from keylessd.keys.ring import KeyRing, Reuse
    from keylessd.keys.slot import KeySlot
    from keylessd.ops.admission import Admission
    from keylessd.ops.content import Content
    from keylessd.ops.idempotency import Idempotency
    from keylessd.ops.identity import Instances
    from keylessd.ops.ledger import Ledger, Value
    from keylessd.ops.owner import Owner
    from keylessd.ops.publish import Published, Publisher
    from keylessd.ops.upstream import Plan
    from keylessd.trust.material import TrustMaterial
    from keylessd.trust.where import Where

__all__ = ["AttestRequest", "Progress", "SignOps", "SignRequest", "SignResult"]

# Life a certificate must have left to be used again, by version of the log: what the slowest
# answer seen takes (v1 30 s; v2 20 s, and once more for a second signature), and room for clocks
# that differ.
MARGINS = {1: timedelta(seconds=60), 2: timedelta(seconds=90)}
# Signatures that one log works on at once. A Rekor v1 log needs some 64 to write as fast as it can,
# and answers 500 at 256, since each takes a connection of its database (151 by default); some of
# those under way here are not with the log but before or after it. A v2 log answers all that wait
# for its next checkpoint together, so the more the better.
ACTIVE = {1: 96, 2: 256}
# From the signature on nothing is cancelled, but nothing takes longer than this: two rounds of
# a log's own deadline.
PUBLISH_SECONDS = 100.0
MAX_DROPPED = 3  # slots that were dropped before they could be used


class SignOps:
    """The signing operations."""

    def __init__(
        self,
        *,
        material: Callable[[Where], Awaitable[TrustMaterial]],
        choose: Callable[[IdentityRequest], Awaitable[Chosen]],
        instances: Instances,
        issuer: CertificateIssuer,
        ring: KeyRing,
        publisher: Publisher,
        admission: Admission,
        ledger: Ledger,
        idempotency: Idempotency[SignResult],
        clock: Clock,
        threads: Threads,
        reuse: Reuse,
    ) -> None:
        """Store the parts.

        Args:
            material: Returns trust root and services of a request's choice.
            choose: Gives identity tokens.
            instances: Knows what a request's choice is called.
            issuer: Checks tokens by the CA's rules.
            ring: Gives key slots.
            publisher: Carries a signature through.
            admission: Bounds what is under way.
            ledger: Records attempts and outcomes.
            idempotency: Remembers finished requests.
            clock: Wall clock.
            threads: Runs what takes long for a large statement.
            reuse: What holds where a request does not say.
        """
        self._threads = threads
        self._material = material
        self._choose = choose
        self._instances = instances
        self._issuer = issuer
        self._ring = ring
        self._publisher = publisher
        self._admission = admission
        self._ledger = ledger
        self._idempotency = idempotency
        self._clock = clock
        self._reuse: Reuse = reuse
        self._publishing: set[trio.CancelScope] = set()
        self._is_cut = False
        self._plans = Plans()

    async def sign(self, request: SignRequest, progress: Progress) -> SignResult:
        """Sign an artifact's digest.

        A cancelled caller stops it until it has signed; from then on it is finished, within
        PUBLISH_SECONDS, before the cancellation takes effect.

        Raises:
            DaemonError: ``login_required``, ``token_...``, trust, service and limit errors.
        """
        return await self._once(request, Artifact(request.digest, request.name), progress)

    async def attest(self, request: AttestRequest, progress: Progress) -> SignResult:
        """Sign an in-toto statement, byte for byte.

        Raises:
            DaemonError: as sign(), and ``invalid_input`` for what is no statement.
        """
        if len(request.statement) > LARGE_STATEMENT:
            content = await self._threads.run("verify", attestation_of, request.statement)
        else:
            content = attestation_of(request.statement)
        return await self._once(request, content, progress)

    async def statement(
        self, subjects: Sequence[Subject], predicate_type: str, predicate: bytes
    ) -> bytes:
        """Return the in-toto statement of subjects and a predicate, to be attested.

        Raises:
            InvalidInputError: the predicate is not a JSON object, or the whole is no statement.
        """
        if len(predicate) > LARGE_STATEMENT:
            # Pure computation, so a client that leaves need not wait for it.
            return await self._threads.run(
                "verify",
                build_statement,
                subjects,
                predicate_type,
                predicate,
                abandon_on_cancel=True,
            )
        return build_statement(subjects, predicate_type, predicate)

    def cut(self) -> int:
        """Cancel also what is past its point of no return; return how many. For a forced stop."""
        self._is_cut = True
        for scope in self._publishing:
            scope.cancel()
        return len(self._publishing)

    async def _once(
        self, request: SignRequest | AttestRequest, content: Content, progress: Progress
    ) -> SignResult:
        reuse = self._reuse_of(request.reuse)
        # First, since it needs nobody else: who has no identity is told so at once, also while
        # the trust root cannot be had.
        asked = await self._instances.identity_request(request, must_live=reuse == "never")
        chosen = await self._choose(asked)
        material = await self._material(request.where)

        async def work() -> SignResult:
            try:
                return await self._admitted(
                    _Job(
                        request.owner,
                        content,
                        request.where,
                        material,
                        asked,
                        chosen,
                        reuse,
                        progress,
                    )
                )
            except CallAbandonedError as exc:
                raise ShuttingDownError("the daemon is stopping") from exc

        if request.idempotency_key is None:
            return await work()
        # The issuer and the name, not the token: a retry may come with a fresh one.
        identity = (chosen.token.issuer, chosen.token.identity_hint)
        fingerprint = fingerprint_of(
            content.op, str(content.to_sign).encode(), request.where, reuse, *identity
        )
        key = (request.owner.uid, request.idempotency_key)
        return await self._idempotency.run(key, fingerprint, work)

    def _reuse_of(self, asked: str | None) -> Reuse:
        if asked is None:
            return self._reuse
        if asked == "window":
            return "window"
        if asked == "never":
            return "never"
        raise InvalidInputError(f"reuse is 'window' or 'never', not {asked[:40]!r}")

    async def _admitted(self, job: _Job) -> SignResult:
        plan = self._plans.at(job.material, self._clock.now())
        margin = MARGINS[plan.log_version]
        if job.reuse == "never" or not self._ring.holds(_slot_request(job, plan), margin=margin):
            # Only a certificate still to be issued asks what the token is worth now: a batch that
            # outlives its token goes on with the certificate that the token has earned.
            job = await self._with_live_token(job, plan)
        log_url = plan.logs.services[0].url
        async with self._admission.enter(log_url, active=ACTIVE[plan.log_version]):
            # A certificate is taken only now, so that it does not grow old in the queue.
            attempt = self._ledger.attempt(_attempt_facts(job, plan))
            report = Report()
            try:
                result = await self._signed(job, plan, report)
            except BaseException as exc:
                if isinstance(exc, RateLimitedError) and exc.details.get("service") == "rekor":
                    self._admission.hold(log_url, exc.retry_after_seconds or 0.0)
                self._ledger.outcome(attempt, report.failure(exc))
                raise
            self._ledger.outcome(attempt, report.success())
            return result

    async def _with_live_token(self, job: _Job, plan: Plan) -> _Job:
        """Return the job with a token that the CA will take, as far as that can be told."""
        try:
            await self._issuer.check_token(plan.ca.url, job.token)
        except TokenError as exc:
            if exc.code != "token_expired" or job.asked.must_live:
                raise
            # A session's token may have ended while its certificate served. The source knows
            # whether there can be another; what the request brought ends the same way again.
            asked = replace(job.asked, must_live=True)
            job = replace(job, asked=asked, chosen=await self._choose(asked))
            await self._issuer.check_token(plan.ca.url, job.token)
        return job

    async def _signed(self, job: _Job, plan: Plan, report: Report) -> SignResult:
        slot, reused = await self._slot(job, plan)
        report.slot, report.reused = slot, reused
        try:
            job.progress("certificate", {"serial": slot.serial, "reused": int(reused)})
            publication = Publication(
                content=job.content,
                slot=slot,
                where=job.where,
                material=job.material,
                plan=plan,
                progress=job.progress,
            )
            report.publication = publication
            with trio.CancelScope(
                shield=True, deadline=trio.current_time() + PUBLISH_SECONDS
            ) as scope:
                self._publishing.add(scope)
                try:
                    report.published = await self._publisher.publish(publication)
                finally:
                    self._publishing.discard(scope)
            if report.published is None:
                if self._is_cut:
                    raise ShuttingDownError("the daemon was stopped while it signed")
                raise not_in_time(PUBLISH_SECONDS)
        finally:
            self._ring.release(slot)
        return _result(job, slot, report.published, reused=reused)

    async def _slot(self, job: _Job, plan: Plan) -> tuple[KeySlot, bool]:
        request = _slot_request(job, plan)
        for _ in range(MAX_DROPPED):
            slot, reused = await self._ring.acquire(
                request, reuse=job.reuse, margin=MARGINS[plan.log_version]
            )
            if not slot.is_destroyed:
                return slot, reused
            self._ring.release(slot)  # all keys were dropped while it was issued
        raise BusyError("all keys were dropped while the request ran", retry_after_seconds=1.0)


@dataclass(frozen=True, slots=True)
class _Job:
    """A request with all that was found out before it waits for its place."""

    owner: Owner
    content: Content
    where: Where
    material: TrustMaterial
    asked: IdentityRequest
    chosen: Chosen
    reuse: Reuse
    progress: Progress

    @property
    def token(self) -> IdentityToken:
        """The token that was chosen."""
        return self.chosen.token


def _slot_request(job: _Job, plan: Plan) -> SlotRequest:
    return SlotRequest(
        owner_uid=job.owner.uid,
        instance=job.material.instance,
        trust_version=job.material.version,
        issue=IssueRequest(
            ca_url=plan.ca.url,
            trusted_root=job.material.trusted_root,
            token=job.token,
            algorithm=job.content.to_sign.algorithm,
        ),
    )


def _attempt_facts(job: _Job, plan: Plan) -> dict[str, Value]:
    return {
        "op": job.content.op,
        "uid": job.owner.uid,
        "instance": text(job.material.instance),
        "trust": job.material.version,
        "artifact": job.content.facts(),
        "source": text(job.chosen.source),
        # Claims of a token nobody here has verified; the outcome has what was certified.
        "token": {
            "sha256": job.token.sha256.hex()[:16],
            "issuer": text(job.token.issuer),
            "subject": text(job.token.identity_hint),
            "expires": job.token.expires.isoformat(),
        },
        "ca": text(shown_url(plan.ca.url)),
        "log": text(shown_url(plan.logs.services[0].url)),
        "reuse": job.reuse,
    }


def _result(job: _Job, slot: KeySlot, published: Published, *, reused: bool) -> SignResult:
    verified = published.verified
    return SignResult(
        bundle=published.bundle,
        identity=slot.signer.identity,
        identity_kind=slot.signer.kind,
        issuer=slot.signer.issuer,
        entries=verified.entries,
        times=verified.times,
        certificate_serial=slot.serial,
        not_before=slot.not_before,
        not_after=slot.not_after,
        certificate_reused=reused,
        statement=verified.statement,
        predicate_type=verified.predicate_type,
        instance=job.material.instance,
    )

"""From a slot to a proven bundle: signs, stamps, logs, verifies. Past here there is no return.

Once a request to a log is on its way a public entry may exist, whatever becomes of the client.
So all of this runs under the caller's shield, with a deadline.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from keylessd.core.bundle import Bundle, BundleVersion, TlogEntry, parse_bundle, serialize_bundle
from keylessd.core.timestamp_signer import wants_certificates
from keylessd.core.verify import Verified, verify_bundle
from keylessd.errors import (
    BusyError,
    DaemonError,
    ServiceReplyError,
    ServiceUnavailableError,
    VerificationError,
)
from keylessd.keys.slot import KeyDestroyedError
from keylessd.ops.upstream import REKOR_V2, Answers, Plan, ask, plan_services
from keylessd.services import rekor_v1, rekor_v2, rekor_v2_tiles, tsa
from keylessd.services.urls import shown_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from keylessd.clock import Clock
    from keylessd.core.certificate import Signer
    from keylessd.core.signing_config import Service
    from keylessd.core.trusted_root import TrustedRoot
    from keylessd.flow.threads import Threads
    from keylessd.keys.slot import KeySlot
    from keylessd.ops.content import Content
    from keylessd.ops.request import Progress
    from keylessd.services.http import HttpClient
    from keylessd.trust.material import TrustMaterial
    from keylessd.trust.where import Where

# What an authority has before the logs are asked: more than a refused connection takes, less than
# anybody notices.
HEAD_START_SECONDS = 0.01
MAX_SILENT = 256
# A log that has the entry already and cannot be read wants another signature; more than once is
# no coincidence.
MAX_SIGNATURES = 3
# Log entries and timestamps whose bundle is verified on the event loop, if its content is small.
FEW_PROOFS = 3


@dataclass(slots=True)
class Publication:
    """One signature on its way, and what is known of it so far, for the ledger.

    Attributes:
        content: What is signed.
        slot: What it is signed with.
        where: Which Sigstore the request chose.
        material: Trust root and services; replaced if a log turns out to be frozen.
        plan: The services selected.
        progress: Told of each step.
        logged: Entries that logs have given, also if the request fails after all.
    """

    content: Content
    slot: KeySlot
    where: Where
    material: TrustMaterial
    plan: Plan
    progress: Progress
    logged: list[TlogEntry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Published:
    """A bundle, and what its verification proved."""

    bundle: bytes
    verified: Verified


class Publisher:
    """Carries publications through."""

    def __init__(
        self,
        http: HttpClient,
        *,
        clock: Clock,
        threads: Threads,
        rng: random.Random,
        refresh: Callable[[Where, TrustMaterial], Awaitable[TrustMaterial]],
    ) -> None:
        """Store the parts.

        Args:
            http: Sends requests.
            clock: Selects services.
            threads: Runs the verification.
            rng: Draws nonces.
            refresh: Returns newer material for a request's choice, or the given one.
        """
        self._http = http
        self._clock = clock
        self._threads = threads
        self._rng = rng
        self._refresh = refresh
        # Authorities whose last answer was none.
        self._silent: set[str] = set()

    async def publish(self, job: Publication) -> Published:
        """Sign, stamp, log and verify.

        Raises:
            ServiceError, RateLimitedError, NoServiceError: a service failed.
            BusyError: the key was dropped before it signed.
        """
        was_replanned = False
        for _ in range(MAX_SIGNATURES):
            signature = _sign(job)
            stamps, entries = await self._stamp_and_log(job, signature)
            if stamps.complete and entries.complete:
                return await self._finish(job, signature, stamps.values, entries.values)
            if not stamps.complete:
                raise stamps.errors[0]
            if _any(entries, rekor_v2.LogFrozenError) and not was_replanned:
                was_replanned = True
                if not await self._replan(job):
                    raise entries.errors[0]
            elif not _any(entries, rekor_v2.EntryExistsError):
                raise entries.errors[0]
            # A fresh signature is another entry, and wants another stamp.
            job.progress("signing_again", {})
        raise ServiceReplyError(
            rekor_v2.SERVICE,
            f"the log says of {MAX_SIGNATURES} different signatures that it has them already",
            url=shown_url(job.plan.logs.services[0].url),
        )

    async def _stamp_and_log(
        self, job: Publication, signature: bytes
    ) -> tuple[Answers[bytes], Answers[TlogEntry]]:
        """Ask authorities and logs side by side: both attest the same signature.

        But no log is asked while an authority seems to be out of order: without its stamp an
        entry would be public for nothing. What is down says so within the head start, and what
        hangs was found out by the request before.
        """
        stamps: Answers[bytes] = Answers([], [], complete=True)
        if job.plan.tsas.required == 0:
            return stamps, await self._log(job, signature)
        stamped = trio.Event()
        trouble = _Trouble(any(one.url in self._silent for one in job.plan.tsas.services))

        async def stamp_all() -> None:
            nonlocal stamps
            stamps = await ask(
                job.plan.tsas, lambda service: self._stamp(job, service, signature, trouble)
            )
            stamped.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stamp_all)
            with trio.move_on_after(HEAD_START_SECONDS):
                await stamped.wait()
            if trouble.is_seen:
                await stamped.wait()
            if stamped.is_set() and not stamps.complete:
                return stamps, Answers([], [], complete=False)
            entries = await self._log(job, signature)
        return stamps, entries

    async def _stamp(
        self, job: Publication, service: Service, signature: bytes, trouble: _Trouble
    ) -> bytes:
        nonce = self._rng.getrandbits(tsa.NONCE_BITS) | 1  # never 0
        try:
            response = await tsa.stamp(
                self._http,
                service.url,
                signature,
                nonce=nonce,
                certificates=wants_certificates(job.material.trusted_root.timestamp_authorities),
                on_retry=trouble.see,
            )
        except DaemonError:
            trouble.see()
            if len(self._silent) < MAX_SILENT:
                self._silent.add(service.url)
            raise
        self._silent.discard(service.url)
        job.progress("timestamped", {"url": shown_url(service.url)})
        return response

    async def _log(self, job: Publication, signature: bytes) -> Answers[TlogEntry]:
        version = job.plan.log_version
        request = await self._log_request(job, version, signature)
        add = rekor_v2.add if version == REKOR_V2 else rekor_v1.add

        async def log(service: Service) -> TlogEntry:
            try:
                entry = await add(self._http, service.url, request)
            except rekor_v2.EntryExistsError as exc:
                entry = await self._found_again(job, service, request, exc)
            # At once: what becomes of the rest does not make the entry any less public.
            job.logged.append(entry)
            where = shown_url(service.url)
            job.progress("logged", {"url": where, "log_index": entry.log_index})
            return entry

        return await ask(job.plan.logs, log)

    async def _found_again(
        self, job: Publication, service: Service, request: bytes, exists: rekor_v2.EntryExistsError
    ) -> TlogEntry:
        """Return the entry of a lost answer, so that there need not be a second one.

        Raises:
            EntryExistsError: the log cannot be read; then only another signature helps.
        """
        if exists.index is None:
            raise exists
        log_ids = {log.name: log.log_id for log in job.material.trusted_root.tlogs}
        try:
            return await rekor_v2_tiles.find(
                self._http, service.url, index=exists.index, request=request, log_ids=log_ids
            )
        except DaemonError as exc:
            raise exists from exc

    async def _log_request(self, job: Publication, version: int, signature: bytes) -> bytes:
        build, verifier = job.content.log_request, job.slot.verifier
        if job.content.is_large:
            return await self._threads.run("verify", build, version, signature, verifier)
        return build(version, signature, verifier)

    async def _replan(self, job: Publication) -> bool:
        """Learn which log took a frozen one's place; return whether anything is new.

        Raises:
            NoServiceError: the newer configuration has nothing for us.
        """
        material = await self._refresh(job.where, job.material)
        plan = plan_services(material, self._clock.now())
        if plan.logs == job.plan.logs:
            return False
        job.material, job.plan = material, plan
        job.progress("log_changed", {"url": shown_url(plan.logs.services[0].url)})
        return True

    async def _finish(
        self, job: Publication, signature: bytes, stamps: list[bytes], entries: list[TlogEntry]
    ) -> Published:
        bundle = Bundle(
            version=BundleVersion.V03,
            certificates=(job.slot.verifier.der,),
            key_hint=None,
            entries=tuple(entries),
            timestamps=tuple(stamps),
            content=job.content.content(signature),
        )
        try:
            published = await self._proven(job, bundle)
        except VerificationError as exc:
            error = ServiceReplyError(
                "sigstore", f"the finished bundle does not verify: {exc.message} ({exc.check})"
            )
            error.details["check"] = exc.check
            raise error from exc
        job.progress("verified", {})
        return published

    async def _proven(self, job: Publication, bundle: Bundle) -> Published:
        what = bundle, job.content, job.material.trusted_root, job.slot.signer
        if job.content.is_large or len(bundle.entries) + len(bundle.timestamps) > FEW_PROOFS:
            return await self._threads.run("verify", _prove, *what)
        # Half a millisecond. In a thread, a whole signature took some 6 % more of the processor.
        return _prove(*what)


@dataclass(slots=True)
class _Trouble:
    """Whether an authority seems to be out of order."""

    is_seen: bool

    def see(self) -> None:
        """Note that one did not answer as it should."""
        self.is_seen = True


def _sign(job: Publication) -> bytes:
    try:
        signature = job.slot.sign_digest(job.content.to_sign)
    except KeyDestroyedError as exc:
        raise BusyError(
            "all keys were dropped while the request ran", retry_after_seconds=0.0
        ) from exc
    job.progress("signed", {})
    return signature


def _any(entries: Answers[TlogEntry], kind: type[DaemonError]) -> bool:
    return any(isinstance(exc, kind) for exc in entries.errors)


@dataclass(frozen=True, slots=True)
class _Exactly:
    """Accepts the signer of our own certificate and nobody else."""

    signer: Signer

    def check(self, signer: Signer) -> None:
        """Raise VerificationError if it is another."""
        if signer != self.signer:
            raise VerificationError(
                "identity",
                "the bundle is of another signer than our certificate",
                found=signer.identity,
                wanted=self.signer.identity,
            )


def _prove(bundle: Bundle, content: Content, root: TrustedRoot, signer: Signer) -> Published:
    """Serialise the bundle and verify the very bytes that will leave."""
    raw = serialize_bundle(bundle)
    verified = verify_bundle(
        parse_bundle(raw),
        content.digests(),
        root,
        expected=_Exactly(signer),
        options=content.verify_options(),
    )
    # The verifier passes over what it cannot judge; we put nothing into a bundle unjudged.
    stamped = sum(1 for time in verified.times if time.source == "tsa")
    if len(verified.entries) != len(bundle.entries) or stamped != len(bundle.timestamps):
        raise VerificationError(
            "unknown-service", "a log or a timestamp authority is not in the trust root"
        )
    return Published(raw, verified)


def not_in_time(seconds: float) -> DaemonError:
    """Return the error for a publication that did not end within its deadline."""
    return ServiceUnavailableError(
        "sigstore", f"logs and timestamp authorities did not answer within {seconds:g} seconds"
    )

"""Verifies a bundle: the ordered list of all checks. Needs no network, no clock and no files.

`KEYLESS_STEPS` and `MANAGED_KEY_STEPS` are the whole of it, in order; core.steps has the steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keylessd.core import explain, steps
from keylessd.core.artifact import MissingDigestError
from keylessd.core.case import Case
from keylessd.core.keys import spki
from keylessd.core.verified import (
    ManagedKey,
    SignerPolicy,
    Verified,
    VerifiedEntry,
    VerifiedTime,
    VerifyOptions,
)
from keylessd.errors import StepReport, VerificationError

if TYPE_CHECKING:
    from keylessd.core.bundle import Bundle
    from keylessd.core.digests import Digest, HashAlgorithm
    from keylessd.core.trusted_root import TrustedRoot

__all__ = [
    "FORM_STEP",
    "KEYLESS_STEPS",
    "MANAGED_KEY_STEPS",
    "ManagedKey",
    "MissingDigestError",
    "SignerPolicy",
    "Step",
    "StepReport",
    "Verified",
    "VerifiedEntry",
    "VerifiedTime",
    "VerifyOptions",
    "verify_bundle",
]

DEFAULT_OPTIONS = VerifyOptions()


def _always(case: Case) -> bool:
    del case
    return True


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a verification.

    Attributes:
        name: Stable.
        check: Raises VerificationError, or leaves its finding in the case.
        facts: What it found, in words, once it passed.
        applies: Whether there was something to check, by the options; else the step is not
            reported as made.
    """

    name: str
    check: Callable[[Case], None]
    facts: Callable[[Case], list[str]]
    applies: Callable[[Case], bool] = _always


FORM_STEP = "bundle"  # also the step that whoever reads the bundle fails in
_FORM = Step(FORM_STEP, steps.check_counts, explain.form)
_LOGGED = (
    Step(
        "log-entries",
        steps.check_log_entries,
        explain.log_entries,
        lambda case: bool(case.logged) or case.options.tlog_threshold > 0,
    ),
    Step("timestamps", steps.check_timestamps, explain.timestamps),
    Step("time", steps.check_time_threshold, explain.times),
    Step(
        "clock",
        steps.check_not_future,
        explain.clock,
        lambda case: case.options.now is not None,
    ),
)
_SIGNED = (
    # The signature comes before the entries' bodies: which hash a P-384 key signed with is known
    # from it alone, and the bodies name the hash.
    Step("signature", steps.check_signature, explain.signature),
    Step(
        "entry-bodies",
        steps.check_entry_bodies,
        explain.entry_bodies,
        lambda case: bool(case.logged),
    ),
    Step("statement", steps.check_statement, explain.statement),
)

KEYLESS_STEPS: tuple[Step, ...] = (
    _FORM,
    Step("certificate", steps.take_certificate, explain.certificate),
    *_LOGGED,
    Step("certificate-chain", steps.check_chain, explain.chain),
    Step("certificate-profile", steps.check_profile, explain.profile),
    Step(
        "certificate-transparency",
        steps.check_scts,
        explain.scts,
        lambda case: case.options.sct_threshold > 0,
    ),
    Step("signer", steps.take_signer, explain.signer),
    *_SIGNED,
    # The last one, so that whoever is refused is known to have signed.
    Step("identity", steps.check_identity, explain.identity),
)

MANAGED_KEY_STEPS: tuple[Step, ...] = (
    _FORM,
    Step("key", steps.take_managed_key, explain.key),
    *_LOGGED,
    Step(
        "key-validity",
        steps.check_key_validity,
        explain.key_validity,
        lambda case: case.managed is not None and case.managed.valid_for is not None,
    ),
    *_SIGNED,
)


def verify_bundle(
    bundle: Bundle,
    digests: Mapping[HashAlgorithm, Digest],
    root: TrustedRoot,
    *,
    expected: SignerPolicy | ManagedKey,
    options: VerifyOptions = DEFAULT_OPTIONS,
) -> Verified:
    """Verify a bundle against an artifact, a trust root and an expected signer.

    Safe to call from several threads at once.

    Args:
        bundle: From `keylessd.core.bundle.parse_bundle`.
        digests: The artifact's digests, each of the same artifact. SHA-256 mostly suffices;
            MissingDigestError says if another is needed.
        root: The trust root of the instance that the bundle is from.
        expected: Who must have signed: a policy for certificates, or a managed key.
        options: Thresholds and the like.

    Returns:
        The verified facts.

    Raises:
        MissingDigestError: The signer's key, or the statement, uses another hash.
        VerificationError: A check failed; ``check`` says which, ``step`` in which step. Nothing
            else is raised, whatever is in the bundle.
    """
    case = Case(bundle, digests, root, expected, options)
    listed = MANAGED_KEY_STEPS if isinstance(expected, ManagedKey) else KEYLESS_STEPS
    for number, step in enumerate(listed):
        try:
            step.check(case)
        except VerificationError as exc:
            exc.step = step.name
            exc.passed = _report(case, listed[:number])
            raise
    return _facts(case, tuple(step.name for step in listed if step.applies(case)), listed)


def _report(case: Case, passed: tuple[Step, ...]) -> tuple[StepReport, ...]:
    """Return what the steps that passed have found, if the caller wants to know."""
    if not case.options.explain:
        return ()
    return tuple(
        StepReport(step.name, tuple(step.facts(case))) for step in passed if step.applies(case)
    )


def _facts(case: Case, names: tuple[str, ...], listed: tuple[Step, ...]) -> Verified:
    logs = [(logged.log.base_url, logged.entry, logged.integrated_time) for logged in case.logged]
    entries = tuple(
        VerifiedEntry(url, entry.log_index, entry.kind, entry.version, time)
        for url, entry, time in logs
    )
    managed = case.managed
    key_sha256 = None if managed is None else hashlib.sha256(spki(managed.key)).hexdigest()
    statement = case.statement
    digest = case.signed if statement is None else statement.digest
    return Verified(
        signer=case.signer,
        key_sha256=key_sha256,
        times=tuple(case.times()),
        entries=entries,
        scts=case.scts,
        digest=digest,
        statement=None if statement is None else statement.payload,
        predicate_type=None if statement is None else statement.predicate_type,
        certificate=case.leaf,
        steps=names,
        form=case.bundle.version.value,
        omitted=_omitted(case),
        report=_report(case, listed),
    )


def _omitted(case: Case) -> tuple[str, ...]:
    """Return what a bundle is usually verified by and this one was not, as the caller allowed."""
    omitted = []
    proven = len(
        {
            logged.log.operator or logged.log.log_id
            for logged in case.logged
            if logged.checkpoint is not None
        }
    )
    if not case.logged:
        omitted.append("log-entries")
    elif proven < max(1, case.options.tlog_threshold):
        omitted.append("inclusion-proof")
    if case.managed is None and case.options.sct_threshold == 0:
        omitted.append("certificate-transparency")
    return tuple(omitted)

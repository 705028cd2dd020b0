"""The steps of a verification, one function each. Their order is core.verify's business.

A step takes the case, raises VerificationError or leaves in the case what it has proven; the later
steps use only that.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from keylessd.core.artifact import check_statement as check_signed_statement
from keylessd.core.artifact import verify_content
from keylessd.core.bundle import MAX_ENTRIES, MAX_TIMESTAMPS, BundleVersion
from keylessd.core.certificate import (
    check_leaf_profile,
    check_outline,
    parse_leaf,
    signer_of,
)
from keylessd.core.chain import verify_chain
from keylessd.core.entry import check_entry
from keylessd.core.inclusion import UnknownLogError, verify_logged
from keylessd.core.keys import spki
from keylessd.core.sct import verify_scts
from keylessd.core.timestamp import UNVERIFIABLE, verify_timestamp
from keylessd.core.verified import ManagedKey
from keylessd.errors import VerificationError

if TYPE_CHECKING:
    from keylessd.core.case import Case
    from keylessd.core.tlog_entry import TlogEntry

CLOCK_SKEW = timedelta(minutes=5)  # how far ahead of ours another clock may be

# The forms in which the log's promise may stand for the proof: those older than checkpoints.
_PROMISE_SUFFICES = frozenset({BundleVersion.V01, BundleVersion.COSIGN})


# --- the material --------------------------------------------------------------------------


def check_counts(case: Case) -> None:
    """Nothing is there so often that checking it would be an attack, and nothing twice."""
    entries, timestamps = case.bundle.entries, case.bundle.timestamps
    if len(entries) > MAX_ENTRIES or len(timestamps) > MAX_TIMESTAMPS:
        raise VerificationError(
            "bundle-limits",
            f"{len(entries)} log entries and {len(timestamps)} timestamps; the limits are "
            f"{MAX_ENTRIES} and {MAX_TIMESTAMPS}",
        )
    if len({(entry.log_id, entry.log_index) for entry in entries}) < len(entries):
        raise VerificationError("bundle-duplicate", "a log entry stands there twice")
    if len(set(timestamps)) < len(timestamps):
        raise VerificationError("bundle-duplicate", "a timestamp stands there twice")


def take_certificate(case: Case) -> None:
    """The bundle names its signer by a certificate that can be read."""
    if not case.bundle.certificates:
        raise VerificationError(
            "key-material",
            "the bundle was signed with a managed key, and none was given",
            hint="give the public key with --key",
        )
    case.leaf = parse_leaf(case.bundle.certificates[0])
    # Those above it come from the trust root. What the bundle has of them is not used, also not
    # the root, which signers of v0.1 wrote though they should not have.
    for der in case.bundle.certificates[1:]:
        check_outline(der)


def take_managed_key(case: Case) -> None:
    """The bundle was signed with a managed key, and the caller gave one."""
    if case.bundle.certificates:
        raise VerificationError(
            "key-material", "the bundle was signed with a certificate, not with a managed key"
        )
    assert isinstance(case.expected, ManagedKey)  # noqa: S101  # chosen by the list of steps
    case.managed = case.expected


# --- the log -------------------------------------------------------------------------------


def check_log_entries(case: Case) -> None:
    """Every entry of a known log is in it, and enough distinct logs have one."""
    unknown: UnknownLogError | None = None
    for entry in case.bundle.entries:
        try:
            promise_only = _may_be_promised(entry, case)
            logged = verify_logged(entry, case.root.tlogs, promise_only=promise_only)
        except UnknownLogError as exc:
            unknown = unknown or exc
        else:
            case.logged.append(logged)
    counted = len({logged.log.operator or logged.log.log_id for logged in case.logged})
    if counted >= case.options.tlog_threshold:
        return
    if not case.bundle.entries:
        raise _no_log_entry(case)
    if unknown is not None:
        raise unknown
    raise VerificationError(
        "log-threshold",
        f"{counted} distinct logs have the signature, {case.options.tlog_threshold} are required",
        found=str(counted),
        wanted=str(case.options.tlog_threshold),
    )


def _may_be_promised(entry: TlogEntry, case: Case) -> bool:
    """Return whether the log's promise may stand for a proof of inclusion."""
    version, wanted = case.bundle.version, case.options.promise_only
    if wanted is False or version not in _PROMISE_SUFFICES:
        return False
    # A v0.1 bundle was to hold a proof as well, though not the checkpoint that makes it authentic.
    # The form before it has no room for one.
    return wanted is True or version is BundleVersion.COSIGN or entry.proof is not None


def _no_log_entry(case: Case) -> VerificationError:
    """Return what is said of a signature that nothing shows to be in any log."""
    detached = case.bundle.version is BundleVersion.DETACHED
    without = "accept it without with --insecure-ignore-tlog"
    if case.managed is None:
        without += ", which needs a timestamp" + (" (--rfc3161-timestamp)" if detached else "")
    return VerificationError(
        "log-threshold",
        "a detached signature has no log entry beside it, and nothing shows that it was published"
        if detached
        else "the bundle has no log entry, and nothing shows that the signature was published",
        found="0",
        wanted=str(case.options.tlog_threshold),
        hint=f"verify its bundle instead (--bundle), or {without}" if detached else without,
    )


# --- the time ------------------------------------------------------------------------------


def check_timestamps(case: Case) -> None:
    """Timestamps of known authorities are good, and at least one is, if they can be judged."""
    unverifiable: VerificationError | None = None
    for response in case.bundle.timestamps:
        try:
            stamp = verify_timestamp(
                response, case.bundle.content.signature, case.root.timestamp_authorities
            )
        except VerificationError as exc:
            if exc.check not in UNVERIFIABLE:
                raise
            unverifiable = unverifiable or exc
        else:
            case.timestamps.append(stamp)
    if unverifiable is not None and not case.timestamps and case.root.timestamp_authorities:
        raise unverifiable


def check_time_threshold(case: Case) -> None:
    """Enough distinct sources vouch for a time."""
    options = case.options
    wanted = options.time_threshold
    if case.managed is not None:
        wanted = max(options.managed_time_threshold, int(case.managed.valid_for is not None))
    authorities = {stamp.counts_as for stamp in case.timestamps}
    logs = {
        logged.log.operator or logged.log.log_id
        for logged in case.logged
        if logged.integrated_time is not None
    }
    counted = len(authorities) + len(logs)
    if counted < wanted:
        raise VerificationError(
            "time-threshold",
            f"{counted} sources vouch for the time of the signature, {wanted} are required",
            found=str(counted),
            wanted=str(wanted),
            hint="a timestamp of the signature proves its time: --rfc3161-timestamp"
            if case.bundle.version is BundleVersion.DETACHED and not case.bundle.timestamps
            else None,
        )


def check_not_future(case: Case) -> None:
    """No verified time is ahead of our clock, if the caller gave one."""
    now = case.options.now
    if now is None:
        return
    for moment in case.times():
        if moment.time > now + CLOCK_SKEW:
            raise VerificationError(
                "time-future",
                f"{moment.authority!r} says {moment.time.isoformat()}, which is in the future",
                found=moment.time.isoformat(),
                wanted=now.isoformat(),
            )


def check_key_validity(case: Case) -> None:
    """Every verified time lies in the managed key's own validity."""
    period = case.managed.valid_for if case.managed is not None else None
    for moment in case.times():
        if period is not None and not period.contains(moment.time):
            raise VerificationError(
                "key-validity", f"the key was not valid at {moment.time.isoformat()}"
            )


# --- the certificate -----------------------------------------------------------------------


def check_chain(case: Case) -> None:
    """At every verified time the certificate and its path to the trust root were valid."""
    for moment in case.times():
        case.path = verify_chain(case.certificate, case.root.certificate_authorities, moment.time)


def check_profile(case: Case) -> None:
    """The certificate is for signing code, and not a CA's."""
    check_leaf_profile(case.certificate)


def check_scts(case: Case) -> None:
    """Enough certificate transparency logs promised to publish the certificate."""
    if case.options.sct_threshold:
        case.scts = verify_scts(case.path, case.root.ctlogs, threshold=case.options.sct_threshold)


def take_signer(case: Case) -> None:
    """The certificate names exactly one signer, and one issuer that vouches for it."""
    case.signer = signer_of(case.certificate)


def check_identity(case: Case) -> None:
    """The signer is one of those that are accepted."""
    signer = case.signer
    assert signer is not None  # noqa: S101  # an earlier step
    assert not isinstance(case.expected, ManagedKey)  # noqa: S101  # chosen by the list of steps
    try:
        case.expected.check(signer)
    except VerificationError as exc:
        # All else holds, so it is known who did sign.
        exc.details["identity"] = signer.identity
        exc.details["issuer"] = signer.issuer
        raise


# --- the signature -------------------------------------------------------------------------


def check_signature(case: Case) -> None:
    """The signature is the signer's, over the artifact's digest or the envelope's payload."""
    case.signed = verify_content(case.bundle.content, case.key, case.digests)


def check_entry_bodies(case: Case) -> None:
    """Every entry is about this signature, by this signer, over this content."""
    managed = case.managed
    verifier = case.bundle.certificates[0] if managed is None else spki(managed.key)
    for logged in case.logged:
        check_entry(
            logged.entry,
            content=case.bundle.content,
            verifier=verifier,
            is_certificate=managed is None,
            digest=case.signed,
        )


def check_statement(case: Case) -> None:
    """What an envelope holds is a statement about the artifact."""
    case.statement = check_signed_statement(
        case.bundle.content,
        case.digests,
        any_subject=case.options.any_subject,
        predicate_type=case.options.predicate_type,
    )

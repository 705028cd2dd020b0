"""Verifies a bundle: the ordered list of all checks. Needs no network, no clock and no files.

`KEYLESS_STEPS` and `MANAGED_KEY_STEPS` are the whole of it, in order. A step is a function that
takes the case, raises VerificationError or leaves in the case what it has proven; the later
steps use only that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from keylessd.core.artifact import (
    MissingDigestError,
    SignedStatement,
    check_statement,
    verify_content,
)
from keylessd.core.bundle import MAX_ENTRIES, MAX_TIMESTAMPS, Bundle
from keylessd.core.certificate import check_leaf_profile, key_of, parse_leaf, signer_of
from keylessd.core.chain import verify_chain
from keylessd.core.entry import check_entry
from keylessd.core.inclusion import LoggedEntry, UnknownLogError, verify_logged
from keylessd.core.keys import PublicKey, spki
from keylessd.core.sct import VerifiedSct, verify_scts
from keylessd.core.timestamp import UNVERIFIABLE, VerifiedTimestamp, verify_timestamp
from keylessd.core.verified import (
    ManagedKey,
    SignerPolicy,
    Verified,
    VerifiedEntry,
    VerifiedTime,
    VerifyOptions,
)
from keylessd.errors import VerificationError

if TYPE_CHECKING:
    from cryptography import x509

    from keylessd.core.certificate import Signer
    from keylessd.core.digests import Digest, HashAlgorithm
    from keylessd.core.trusted_root import TrustedRoot

__all__ = [
    "KEYLESS_STEPS",
    "MANAGED_KEY_STEPS",
    "ManagedKey",
    "MissingDigestError",
    "SignerPolicy",
    "Verified",
    "VerifiedEntry",
    "VerifiedTime",
    "VerifyOptions",
    "verify_bundle",
]

CLOCK_SKEW = timedelta(minutes=5)  # how far ahead of ours another clock may be
DEFAULT_OPTIONS = VerifyOptions()


@dataclass(slots=True)
class _Case:
    """The question, and what has been proven so far."""

    bundle: Bundle
    digests: Mapping[HashAlgorithm, Digest]
    root: TrustedRoot
    expected: SignerPolicy | ManagedKey
    options: VerifyOptions
    leaf: x509.Certificate | None = None
    managed: ManagedKey | None = None
    logged: list[LoggedEntry] = field(default_factory=list)
    timestamps: list[VerifiedTimestamp] = field(default_factory=list)
    path: tuple[x509.Certificate, ...] = ()
    scts: tuple[VerifiedSct, ...] = ()
    signer: Signer | None = None
    signed: Digest | None = None
    statement: SignedStatement | None = None

    @property
    def certificate(self) -> x509.Certificate:
        assert self.leaf is not None  # noqa: S101  # only keyless steps ask
        return self.leaf

    @property
    def key(self) -> PublicKey:
        return self.managed.key if self.managed is not None else key_of(self.certificate)

    def times(self) -> list[VerifiedTime]:
        stamped = [VerifiedTime(stamp.time, "tsa", stamp.authority) for stamp in self.timestamps]
        integrated = [
            VerifiedTime(logged.integrated_time, "rekor", logged.log.base_url)
            for logged in self.logged
            if logged.integrated_time is not None
        ]
        return stamped + integrated


# --- the material --------------------------------------------------------------------------


def _check_counts(case: _Case) -> None:
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


def _take_certificate(case: _Case) -> None:
    """The bundle names its signer by a certificate that can be read."""
    if not case.bundle.certificates:
        raise VerificationError(
            "key-material",
            "the bundle was signed with a managed key, and none was given",
            hint="give the public key with --key",
        )
    case.leaf = parse_leaf(case.bundle.certificates[0])
    for der in case.bundle.certificates[1:]:
        # Intermediates come from the trust root and these are not used; but a root in a bundle
        # is forbidden, since it can only mislead.
        extra = parse_leaf(der)
        if extra.subject == extra.issuer:
            raise VerificationError(
                "bundle-root-certificate", "the bundle holds a root certificate"
            )


def _take_managed_key(case: _Case) -> None:
    """The bundle was signed with a managed key, and the caller gave one."""
    if case.bundle.certificates:
        raise VerificationError(
            "key-material", "the bundle was signed with a certificate, not with a managed key"
        )
    assert isinstance(case.expected, ManagedKey)  # noqa: S101  # chosen by the list of steps
    case.managed = case.expected


# --- the log -------------------------------------------------------------------------------


def _check_log_entries(case: _Case) -> None:
    """Every entry of a known log is in it, and enough distinct logs have one."""
    unknown: UnknownLogError | None = None
    for entry in case.bundle.entries:
        try:
            logged = verify_logged(entry, case.root.tlogs, promise_only=case.options.promise_only)
        except UnknownLogError as exc:
            unknown = unknown or exc
        else:
            case.logged.append(logged)
    counted = len({logged.log.operator or logged.log.log_id for logged in case.logged})
    if counted < case.options.tlog_threshold:
        if unknown is not None:
            raise unknown
        raise VerificationError(
            "log-threshold",
            f"{counted} distinct logs have the signature, {case.options.tlog_threshold} are "
            "required",
            found=str(counted),
            wanted=str(case.options.tlog_threshold),
        )


# --- the time ------------------------------------------------------------------------------


def _check_timestamps(case: _Case) -> None:
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


def _check_time_threshold(case: _Case) -> None:
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
        )


def _check_not_future(case: _Case) -> None:
    """No verified time is ahead of our clock, if the caller gave one."""
    now = case.options.now
    for moment in case.times():
        if now is not None and moment.time > now + CLOCK_SKEW:
            raise VerificationError(
                "time-future",
                f"{moment.authority!r} says {moment.time.isoformat()}, which is in the future",
                found=moment.time.isoformat(),
                wanted=now.isoformat(),
            )


def _check_key_validity(case: _Case) -> None:
    """Every verified time lies in the managed key's own validity."""
    period = case.managed.valid_for if case.managed is not None else None
    for moment in case.times():
        if period is not None and not period.contains(moment.time):
            raise VerificationError(
                "key-validity", f"the key was not valid at {moment.time.isoformat()}"
            )


# --- the certificate -----------------------------------------------------------------------


def _check_chain(case: _Case) -> None:
    """At every verified time the certificate and its path to the trust root were valid."""
    for moment in case.times():
        case.path = verify_chain(case.certificate, case.root.certificate_authorities, moment.time)


def _check_profile(case: _Case) -> None:
    """The certificate is for signing code, and not a CA's."""
    check_leaf_profile(case.certificate)


def _check_scts(case: _Case) -> None:
    """Enough certificate transparency logs promised to publish the certificate."""
    if case.options.sct_threshold:
        case.scts = verify_scts(case.path, case.root.ctlogs, threshold=case.options.sct_threshold)


def _check_signer(case: _Case) -> None:
    """The certificate names an accepted signer."""
    assert not isinstance(case.expected, ManagedKey)  # noqa: S101  # chosen by the list of steps
    case.signer = signer_of(case.certificate)
    case.expected.check(case.signer)


# --- the signature -------------------------------------------------------------------------


def _check_signature(case: _Case) -> None:
    """The signature is the signer's, over the artifact's digest or the envelope's payload."""
    case.signed = verify_content(case.bundle.content, case.key, case.digests)


def _check_entry_bodies(case: _Case) -> None:
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


def _check_statement(case: _Case) -> None:
    """What an envelope holds is a statement about the artifact."""
    case.statement = check_statement(
        case.bundle.content,
        case.digests,
        any_subject=case.options.any_subject,
        predicate_type=case.options.predicate_type,
    )


# --- the lists -----------------------------------------------------------------------------

_Step = tuple[str, Callable[[_Case], None]]

KEYLESS_STEPS: tuple[_Step, ...] = (
    ("bundle", _check_counts),
    ("certificate", _take_certificate),
    ("log-entries", _check_log_entries),
    ("timestamps", _check_timestamps),
    ("time", _check_time_threshold),
    ("clock", _check_not_future),
    ("certificate-chain", _check_chain),
    ("certificate-profile", _check_profile),
    ("certificate-transparency", _check_scts),
    ("signer", _check_signer),
    # The signature comes before the entries' bodies: which hash a P-384 key signed with is known
    # from it alone, and the bodies name the hash.
    ("signature", _check_signature),
    ("entry-bodies", _check_entry_bodies),
    ("statement", _check_statement),
)

MANAGED_KEY_STEPS: tuple[_Step, ...] = (
    ("bundle", _check_counts),
    ("key", _take_managed_key),
    ("log-entries", _check_log_entries),
    ("timestamps", _check_timestamps),
    ("time", _check_time_threshold),
    ("clock", _check_not_future),
    ("key-validity", _check_key_validity),
    ("signature", _check_signature),
    ("entry-bodies", _check_entry_bodies),
    ("statement", _check_statement),
)

# Steps that had nothing to check, by the options. They are not reported as done.
_NOT_ASKED: Mapping[str, Callable[[_Case], bool]] = {
    "clock": lambda case: case.options.now is None,
    "certificate-transparency": lambda case: case.options.sct_threshold == 0,
    "key-validity": lambda case: case.managed is None or case.managed.valid_for is None,
}


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
        VerificationError: A step failed; ``check`` says which. Nothing else is raised, whatever
            is in the bundle.
    """
    case = _Case(bundle, digests, root, expected, options)
    steps = MANAGED_KEY_STEPS if isinstance(expected, ManagedKey) else KEYLESS_STEPS
    for _, check in steps:
        check(case)
    asked = [name for name, _ in steps if name not in _NOT_ASKED or not _NOT_ASKED[name](case)]
    return _facts(case, tuple(asked))


def _facts(case: _Case, steps: tuple[str, ...]) -> Verified:
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
        steps=steps,
    )

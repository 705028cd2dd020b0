"""What verification is told and what it returns, as values. Checks nothing but its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from keylessd.errors import InvalidInputError

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from keylessd.core.certificate import Signer
    from keylessd.core.digests import Digest
    from keylessd.core.keys import PublicKey
    from keylessd.core.sct import VerifiedSct
    from keylessd.core.trusted_root import TimeRange
    from keylessd.errors import StepReport


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """How much is demanded.

    Attributes:
        tlog_threshold: Distinct logs that must have the signature. 0 accepts a bundle without
            log entries; its time then comes from a timestamp authority.
        time_threshold: Distinct sources that must vouch for the time, for keyless bundles at
            least 1.
        managed_time_threshold: The same for managed keys, which need no time.
        sct_threshold: Distinct certificate transparency logs; 0 skips the check.
        promise_only: Whether, in the forms older than checkpoints (v0.1 and before), the log's
            promise may stand for a proof of inclusion that a checkpoint makes authentic. None:
            beside a proof without one, and in the form that has no room for a proof. True: also
            in v0.1 without any proof. False: never.
        any_subject: Accept a statement without comparing its subjects with an artifact, if no
            digest is given.
        predicate_type: What the statement's predicate must be, or None.
        now: If given, no verified time may be later than this and CLOCK_SKEW.
        explain: Report what each step found, in words.

    Raises:
        InvalidInputError: A threshold is negative, or too low.
    """

    tlog_threshold: int = 1
    time_threshold: int = 1
    sct_threshold: int = 1
    managed_time_threshold: int = 0
    promise_only: bool | None = None
    any_subject: bool = False
    predicate_type: str | None = None
    now: datetime | None = None
    explain: bool = False

    def __post_init__(self) -> None:
        least = min(self.tlog_threshold, self.sct_threshold, self.managed_time_threshold)
        if least < 0 or self.time_threshold < 1:
            raise InvalidInputError(
                f"a threshold of {min(least, self.time_threshold)} makes no sense",
                hint="a certificate cannot be judged without a time; time_threshold is at least 1",
            )


class SignerPolicy(Protocol):
    """Decides whether a verified signer is an accepted one."""

    def check(self, signer: Signer) -> None:
        """Return if it is, else raise VerificationError."""
        ...


@dataclass(frozen=True, slots=True)
class ManagedKey:
    """A key that the caller trusts, in place of a certificate.

    Attributes:
        key: The key.
        valid_for: When it was in use, or None. If given, a verified time is needed, and each
            must lie in it.
    """

    key: PublicKey
    valid_for: TimeRange | None = None


@dataclass(frozen=True, slots=True)
class VerifiedTime:
    """A time at which the signature existed, and who says so.

    Attributes:
        time: Aware, in UTC.
        source: ``"tsa"`` or ``"rekor"``.
        authority: URL of the authority or log, from the trust root.
    """

    time: datetime
    source: Literal["tsa", "rekor"]
    authority: str


@dataclass(frozen=True, slots=True)
class VerifiedEntry:
    """A place in a log where the signature is found.

    Attributes:
        log: The log's URL, from the trust root.
        log_index: Index in the whole log.
        kind: Kind of the entry.
        version: The kind's version.
        integrated_time: The log's time for it, if its promise vouches for that.
    """

    log: str
    log_index: int
    kind: str
    version: str
    integrated_time: datetime | None


@dataclass(frozen=True, slots=True)
class Verified:
    """What is known of a bundle after every step passed. It holds verified facts only.

    Attributes:
        signer: Who signed, or None if a managed key did.
        key_sha256: Hex digest of the managed key's SubjectPublicKeyInfo, or None.
        times: When; empty only for a managed key.
        entries: Where it is logged; entries of unknown logs are left out.
        scts: Who saw the certificate.
        digest: The artifact's that was signed, or that a subject of the statement has; None if
            no artifact was given.
        statement: The exact bytes of a signed in-toto statement, or None.
        predicate_type: The statement's.
        certificate: The signer's.
        steps: Names of the steps that were made, in order.
        form: The bundle's format: ``"0.1"`` to ``"0.3"``, ``"cosign"`` or ``"detached"``.
        omitted: What was left out as the options allowed: ``"log-entries"`` if no log has the
            signature, ``"inclusion-proof"`` if one only promised to take it,
            ``"certificate-transparency"``.
        trusted_root: Hex SHA-256 of the trust root's JSON, by which all this is so.
        report: What the steps found, if the options asked for it.
    """

    signer: Signer | None
    key_sha256: str | None
    times: tuple[VerifiedTime, ...]
    entries: tuple[VerifiedEntry, ...]
    scts: tuple[VerifiedSct, ...]
    digest: Digest | None
    statement: bytes | None
    predicate_type: str | None
    certificate: x509.Certificate | None
    steps: tuple[str, ...]
    form: str
    omitted: tuple[str, ...]
    trusted_root: str
    report: tuple[StepReport, ...]

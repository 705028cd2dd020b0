"""A verification under way: the question, and what has been proven so far. Checks nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keylessd.core.certificate import key_of
from keylessd.core.verified import ManagedKey, VerifiedTime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

    from keylessd.core.artifact import SignedStatement
    from keylessd.core.bundle import Bundle
    from keylessd.core.certificate import Signer
    from keylessd.core.digests import Digest, HashAlgorithm
    from keylessd.core.inclusion import LoggedEntry
    from keylessd.core.keys import PublicKey
    from keylessd.core.sct import VerifiedSct
    from keylessd.core.timestamp import VerifiedTimestamp
    from keylessd.core.trusted_root import TrustedRoot
    from keylessd.core.verified import SignerPolicy, VerifyOptions


@dataclass(slots=True)
class Case:
    """What the steps of core.verify hand on to each other.

    Attributes:
        bundle: What is to be proven.
        digests: The artifact's.
        root: What is trusted.
        expected: Who must have signed.
        options: How much is demanded.
        leaf: The signer's certificate, from its step on; so for all below.
        managed: The key in place of one.
        logged: Entries that their logs have.
        timestamps: Those that verified.
        path: From leaf to anchor.
        scts: Those that verified.
        signer: Whom the certificate names.
        signed: Digest that was signed.
        statement: What an envelope holds.
    """

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
        """The signer's certificate, which only the keyless steps ask for."""
        assert self.leaf is not None  # noqa: S101  # an earlier step took it
        return self.leaf

    @property
    def key(self) -> PublicKey:
        """The signer's key, the certificate's or the managed one."""
        return self.managed.key if self.managed is not None else key_of(self.certificate)

    def times(self) -> list[VerifiedTime]:
        """Return the verified times: timestamps first, then promises."""
        stamped = [VerifiedTime(stamp.time, "tsa", stamp.authority) for stamp in self.timestamps]
        integrated = [
            VerifiedTime(logged.integrated_time, "rekor", logged.log.base_url)
            for logged in self.logged
            if logged.integrated_time is not None
        ]
        return stamped + integrated

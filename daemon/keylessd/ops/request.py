"""What signing takes and gives, as values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.core.digests import Digest
    from keylessd.core.verify import VerifiedEntry, VerifiedTime
    from keylessd.identity.source import AmbientGrant
    from keylessd.ops.owner import Owner
    from keylessd.secret import Secret
    from keylessd.trust.where import Where

# Event name and facts; it must not block, and may be called after its client has left.
Progress = Callable[[str, Mapping[str, str | int]], None]


@dataclass(frozen=True, slots=True)
class SignRequest:
    """A signature over an artifact, of which only the digest is known here.

    Attributes:
        owner: On whose behalf.
        where: Which Sigstore.
        token: The caller's identity token, for this request only.
        reuse: ``"window"``, ``"never"``, or None for the daemon's setting.
        idempotency_key: Equal requests of one owner with equal keys get one bundle.
        digest: Of the artifact.
        name: What the caller calls it; for the ledger only.
        identity: Whom to sign as, or None for whoever comes first.
        ambient: What the caller's environment grants, for this request only.
    """

    owner: Owner
    where: Where
    token: Secret | None
    reuse: str | None
    idempotency_key: str | None
    digest: Digest
    name: str | None
    identity: str | None = None
    ambient: AmbientGrant | None = None


@dataclass(frozen=True, slots=True)
class AttestRequest:
    """A signature over an in-toto statement.

    Attributes:
        owner: On whose behalf.
        where: Which Sigstore.
        token: The caller's identity token, for this request only.
        reuse: ``"window"``, ``"never"``, or None for the daemon's setting.
        idempotency_key: Equal requests of one owner with equal keys get one bundle.
        statement: The exact payload to sign.
        identity: Whom to sign as, or None for whoever comes first.
        ambient: What the caller's environment grants, for this request only.
    """

    owner: Owner
    where: Where
    token: Secret | None
    reuse: str | None
    idempotency_key: str | None
    statement: bytes
    identity: str | None = None
    ambient: AmbientGrant | None = None


@dataclass(frozen=True, slots=True)
class SignResult:
    """A finished signature. Every fact in it was verified with the trust root.

    Attributes:
        bundle: Sigstore bundle v0.3, JSON.
        identity: Whom the certificate names.
        identity_kind: ``"email"``, ``"uri"`` or ``"othername"``.
        issuer: Who vouched for that.
        entries: Where it is logged.
        times: When it was signed, and who says so.
        certificate_serial: Lower-case hex.
        not_before: Start of the certificate's life.
        not_after: End of it.
        certificate_reused: Whether an earlier request had it issued.
        statement: The signed statement, or None.
        predicate_type: The statement's, or None.
        instance: Name of the instance.
    """

    bundle: bytes
    identity: str
    identity_kind: Literal["email", "uri", "othername"]
    issuer: str
    entries: tuple[VerifiedEntry, ...]
    times: tuple[VerifiedTime, ...]
    certificate_serial: str
    not_before: datetime
    not_after: datetime
    certificate_reused: bool
    statement: bytes | None
    predicate_type: str | None
    instance: str


def fingerprint_of(op: str, subject: bytes, where: Where, *more: str) -> bytes:
    """Return the hash of what makes two requests the same.

    Args:
        op: Name of the operation.
        subject: What is signed.
        where: Which Sigstore.
        *more: Everything else.
    """
    urls = where.urls
    files = (where.trusted_root, where.signing_config, where.trust_config)
    texts = (where.instance, urls.fulcio, urls.rekor, urls.oidc_issuer, urls.tsa, *more)
    parts = [
        op.encode(),
        subject,
        *(b"-" if file is None else hashlib.sha256(file).digest() for file in files),
        *(b"-" if text is None else b"+" + text.encode() for text in texts),
    ]
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big") + part)
    return hasher.digest()

"""Holds a bundle's signature against the artifact: by digest, or as subject of a statement.

Knows artifacts by their digests alone. Whose key it is, is settled before.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ed25519

from keylessd.core.bundle import DsseEnvelope, MessageSignature
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.dsse import pae
from keylessd.core.keys import (
    BadSignatureError,
    PublicKey,
    signing_hash,
    verify_digest,
    verify_message,
)
from keylessd.core.statement import PAYLOAD_TYPE, Statement, check_subject, parse_statement
from keylessd.errors import VerificationError


class MissingDigestError(VerificationError):
    """The artifact's digest in another algorithm is needed; with it the answer may be yes.

    Attributes:
        algorithm: Which one.
    """

    code = "need_digest"

    def __init__(self, check: str, algorithm: HashAlgorithm) -> None:
        super().__init__(
            check,
            f"the artifact's {algorithm.value} digest is needed to verify this bundle",
            hint="give the file itself in place of its digest",
        )
        self.algorithm = algorithm
        self.details["alg"] = algorithm.value


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A statement together with the exact bytes that were signed.

    Attributes:
        payload: The statement's bytes.
        predicate_type: URI of the predicate's type.
        digest: The artifact's digest that a subject has; None if no subject was compared.
    """

    payload: bytes
    predicate_type: str
    digest: Digest | None


_NOT_PURE = (
    "of Ed25519 keys, signatures over a digest are verified here (Ed25519ph), and over envelopes"
)

# --- the signature -------------------------------------------------------------------------


def verify_content(
    content: MessageSignature | DsseEnvelope,
    key: PublicKey,
    digests: Mapping[HashAlgorithm, Digest],
) -> Digest | None:
    """Verify the bundle's signature.

    Args:
        content: What the bundle says was signed.
        key: The signer's, settled already.
        digests: The artifact's.

    Returns:
        The digest that was signed: the artifact's, or that of an envelope's pre-authentication
        encoding; None if the key signed the encoding itself (Ed25519).

    Raises:
        MissingDigestError: The key signs with a hash that is not among the digests.
        VerificationError: ``signature``, ``message-digest`` if the bundle claims to be about
            another artifact, or ``key-kind`` if the key cannot sign a digest.
    """
    if isinstance(content, MessageSignature):
        return _verify_message_signature(content, key, digests)
    return _verify_envelope(content, key)


def _hashes_of(key: PublicKey) -> tuple[HashAlgorithm, ...]:
    """Return the hashes the key may have signed a digest by, the usual one first."""
    usual = signing_hash(key)
    if usual is None:
        return (HashAlgorithm.SHA512,)  # Ed25519ph
    # Signers of old used SHA-256 with every curve, and Rekor v1 still does for envelopes.
    return tuple(dict.fromkeys((usual, HashAlgorithm.SHA256)))


def _verify_message_signature(
    content: MessageSignature, key: PublicKey, digests: Mapping[HashAlgorithm, Digest]
) -> Digest:
    algorithms = _hashes_of(key)
    is_ed25519 = isinstance(key, ed25519.Ed25519PublicKey)
    if is_ed25519 and content.digest is not None and content.digest.algorithm not in algorithms:
        raise VerificationError(
            "key-kind",
            "an Ed25519 key signs the artifact itself, which its digest cannot stand for",
            hint=_NOT_PURE,
        )
    if content.digest is not None:
        _check_claimed_digest(content.digest, algorithms, digests)
    for algorithm in algorithms:
        digest = digests.get(algorithm)
        if digest is None:
            continue
        try:
            verify_digest(key, content.signature, digest)
        except BadSignatureError:
            continue
        return digest
    for algorithm in algorithms:
        if algorithm not in digests:
            raise MissingDigestError("signature", algorithm)
    raise VerificationError(
        "signature",
        "the signature is not the signer's over this artifact",
        hint=_NOT_PURE if is_ed25519 else None,
    )


def _check_claimed_digest(
    claimed: Digest,
    algorithms: tuple[HashAlgorithm, ...],
    digests: Mapping[HashAlgorithm, Digest],
) -> None:
    if claimed.algorithm not in algorithms:
        raise VerificationError(
            "message-digest",
            f"the bundle has a {claimed.algorithm.value} digest, which its key does not sign",
            found=claimed.algorithm.value,
            wanted=algorithms[0].value,
        )
    given = digests.get(claimed.algorithm)
    if given is None:
        raise MissingDigestError("message-digest", claimed.algorithm)
    if given != claimed:
        raise VerificationError(
            "message-digest",
            "the bundle is of another artifact",
            found=str(claimed),
            wanted=str(given),
        )


def _verify_envelope(content: DsseEnvelope, key: PublicKey) -> Digest | None:
    message = pae(content.payload_type, content.payload)
    if isinstance(key, ed25519.Ed25519PublicKey):
        with suppress(BadSignatureError):
            verify_message(key, content.signature, message)
            return None
    for algorithm in _hashes_of(key):
        digest = digest_of(algorithm, message)
        try:
            verify_digest(key, content.signature, digest)
        except BadSignatureError:
            continue
        return digest
    raise _bad_envelope()


def _bad_envelope() -> VerificationError:
    return VerificationError("signature", "the envelope's signature is not the signer's")


# --- the statement -------------------------------------------------------------------------


def check_statement(
    content: MessageSignature | DsseEnvelope,
    digests: Mapping[HashAlgorithm, Digest],
    *,
    any_subject: bool = False,
    predicate_type: str | None = None,
) -> SignedStatement | None:
    """Check that an envelope, whose signature was verified, is a statement about the artifact.

    Args:
        content: The bundle's content.
        digests: The artifact's; at least one, unless any_subject.
        any_subject: Compare no subject if there is no digest.
        predicate_type: What the predicate must be, or None.

    Returns:
        The statement, or None if an artifact was signed and none is expected.

    Raises:
        MissingDigestError: No subject matches, and one is named by other hashes only.
        VerificationError: ``payload-type``, ``statement``, ``subject`` or ``predicate-type``.
    """
    if isinstance(content, MessageSignature):
        if predicate_type is not None:
            raise VerificationError(
                "predicate-type", "the bundle signs an artifact and holds no statement"
            )
        return None
    if content.payload_type != PAYLOAD_TYPE:
        raise VerificationError(
            "payload-type",
            f"the envelope holds {content.payload_type[:200]!r}, not an in-toto statement",
            found=content.payload_type[:200],
            wanted=PAYLOAD_TYPE,
        )
    statement = parse_statement(content.payload)
    digest = None
    if digests or not any_subject:
        digest = _matched_digest(statement, digests)
    if predicate_type is not None and statement.predicate_type != predicate_type:
        raise VerificationError(
            "predicate-type",
            f"the statement's predicate is {statement.predicate_type[:200]!r}",
            found=statement.predicate_type[:200],
            wanted=predicate_type,
        )
    return SignedStatement(content.payload, statement.predicate_type, digest)


def _matched_digest(statement: Statement, digests: Mapping[HashAlgorithm, Digest]) -> Digest:
    """Return the artifact's digest that a subject has, or say which one is needed to tell."""
    try:
        subject = check_subject(statement, digests)
    except VerificationError:
        for algorithm in HashAlgorithm:
            if _could_match(statement, algorithm, digests):
                raise MissingDigestError("subject", algorithm) from None
        raise
    return next(digest for digest in digests.values() if digest.algorithm.value in subject.digests)


def _could_match(
    statement: Statement, algorithm: HashAlgorithm, digests: Mapping[HashAlgorithm, Digest]
) -> bool:
    """Return whether a subject, of which nothing is known yet, has a digest by that hash."""
    given = {name.value for name in digests}
    return any(
        algorithm.value in subject.digests and given.isdisjoint(subject.digests)
        for subject in statement.subjects
    )

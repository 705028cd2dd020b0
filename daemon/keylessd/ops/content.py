"""The two things that are signed, an artifact's digest and a statement: one form each for the rest.

Each knows the digest its signature is over, what stands in the bundle, and how each log wants
it. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keylessd.core.bundle import DsseEnvelope, MessageSignature
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.dsse import pae
from keylessd.core.statement import PAYLOAD_TYPE, Statement, parse_statement
from keylessd.core.verify import VerifyOptions
from keylessd.errors import InvalidInputError, VerificationError
from keylessd.ops.ledger import text
from keylessd.ops.upstream import REKOR_V2
from keylessd.services import rekor_v1, rekor_v2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keylessd.ops.ledger import Value
    from keylessd.services.verifier import Verifier


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, known by its digest.

    Attributes:
        to_sign: The digest; its algorithm decides the key's curve.
        name: What the caller calls it, or None.
    """

    to_sign: Digest
    name: str | None
    op = "sign"
    is_large = False

    def content(self, signature: bytes) -> MessageSignature:
        """Return the bundle's part for a signature."""
        return MessageSignature(signature, self.to_sign)

    def log_request(self, version: int, signature: bytes, verifier: Verifier) -> bytes:
        """Return the request to a log of that version."""
        if version == REKOR_V2:
            return rekor_v2.hashedrekord_request(self.to_sign, signature, verifier)
        return rekor_v1.hashedrekord_request(self.to_sign, signature, verifier)

    def digests(self) -> Mapping[HashAlgorithm, Digest]:
        """Return the artifact's digests for the verification."""
        return {self.to_sign.algorithm: self.to_sign}

    def verify_options(self) -> VerifyOptions:
        """Return what the verification is to demand."""
        return VerifyOptions()

    def facts(self) -> dict[str, Value]:
        """Return what the ledger keeps of it."""
        facts: dict[str, Value] = {"alg": self.to_sign.algorithm.value, "digest": self.to_sign.hex}
        if self.name is not None:
            facts["name"] = text(self.name)
        return facts


@dataclass(frozen=True, slots=True)
class Attestation:
    """An in-toto statement. Logs and TSAs see the signature over its PAE.

    Attributes:
        to_sign: SHA-256 of the PAE: the only hash with which Rekor v1 verifies envelopes.
        statement: The exact payload.
        parsed: What it says.
    """

    to_sign: Digest
    statement: bytes
    parsed: Statement
    op = "attest"

    @property
    def is_large(self) -> bool:
        """Whether encoding it takes so long that others would notice."""
        return len(self.statement) > LARGE_STATEMENT

    @property
    def predicate_type(self) -> str:
        """The statement's predicate type."""
        return self.parsed.predicate_type

    def content(self, signature: bytes) -> DsseEnvelope:
        """Return the bundle's part for a signature."""
        return DsseEnvelope(self.statement, PAYLOAD_TYPE, signature, "")

    def log_request(self, version: int, signature: bytes, verifier: Verifier) -> bytes:
        """Return the request to a log of that version; v2 knows no envelopes, only a digest."""
        if version == REKOR_V2:
            return rekor_v2.hashedrekord_request(self.to_sign, signature, verifier)
        return rekor_v1.dsse_request(self.content(signature), verifier)

    def digests(self) -> Mapping[HashAlgorithm, Digest]:
        """Return no digest: the statement's subjects are the caller's word, not ours."""
        return {}

    def verify_options(self) -> VerifyOptions:
        """Return what the verification is to demand."""
        return VerifyOptions(any_subject=True, predicate_type=self.predicate_type)

    def facts(self) -> dict[str, Value]:
        """Return what the ledger keeps of it: the digest of the payload, and its first subject."""
        first = self.parsed.subjects[0]
        return {
            "alg": "sha256",
            "digest": digest_of(HashAlgorithm.SHA256, self.statement).hex,
            "predicate_type": text(self.predicate_type),
            "subjects": len(self.parsed.subjects),
            "name": text(first.name),
        }


Content = Artifact | Attestation

# Bytes of a statement above which work on it is given to a thread: a megabyte takes about 20 ms
# to parse, and as long to encode for a log.
LARGE_STATEMENT = 64 << 10


def attestation_of(statement: bytes) -> Attestation:
    """Return the content for a statement.

    Raises:
        InvalidInputError: it is not an in-toto statement that could be verified again.
    """
    try:
        parsed = parse_statement(statement)
    except VerificationError as exc:
        raise InvalidInputError(f"the statement cannot be signed: {exc.message}") from exc
    to_sign = digest_of(HashAlgorithm.SHA256, pae(PAYLOAD_TYPE, statement))
    return Attestation(to_sign, statement, parsed)

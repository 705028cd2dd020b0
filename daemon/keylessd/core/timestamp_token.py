"""Decodes RFC 3161 responses into their parts. Verifies nothing; core.timestamp does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from keylessd.core import asn1
from keylessd.core.digests import HashAlgorithm
from keylessd.errors import VerificationError

T = TypeVar("T")

MAX_RESPONSE_BYTES = 1 << 20  # a response with its certificates has 1 to 6 KiB
STATUS_GRANTED = 0

HASH_OIDS = {
    HashAlgorithm.SHA256: asn1.OID_SHA256,
    HashAlgorithm.SHA384: asn1.OID_SHA384,
    HashAlgorithm.SHA512: asn1.OID_SHA512,
}
# Tag, length, and RFC 3161, 2.4.2: in UTC, with seconds, and no zero at the end of the fraction.
_GENERALIZED_TIME = re.compile(
    rb"\x18[\x0f-\x7f]([0-9]{4})" + rb"([0-9]{2})" * 5 + rb"(?:\.([0-9]*[1-9]))?Z"
)
_HASHES = {oid: algorithm for algorithm, oid in HASH_OIDS.items()}


@dataclass(frozen=True, slots=True)
class Token:
    """A granted response, decoded; nothing in it is verified.

    Attributes:
        data: The CMS structure.
        signer: Its only signer.
        content: The bytes that the signed digest is of.
        info: The same, decoded.
        time: When it says it was made, aware, in UTC.
    """

    data: asn1.SignedData
    signer: asn1.SignerInfo
    content: bytes
    info: asn1.TstInfo
    time: datetime

    @classmethod
    def parse(cls, response: bytes) -> Token:
        """Return the token in a TimeStampResp.

        Raises:
            VerificationError: ``timestamp-format`` or ``timestamp-status``.
        """
        if len(response) > MAX_RESPONSE_BYTES:
            raise malformed(f"{len(response)} bytes; the limit is {MAX_RESPONSE_BYTES}")
        decoded = decode_part(asn1.TimeStampResp, response)
        _check_status(decoded.status)
        if decoded.token is None:
            raise malformed("granted, but without a token")
        data = decoded.token.content
        if (
            decoded.token.content_type != asn1.OID_SIGNED_DATA
            or data.content.content_type != asn1.OID_TST_INFO
            or data.content.content is None
        ):
            raise malformed("the token does not hold a timestamp")
        signers = data.signer_infos.as_list()
        if len(signers) != 1:
            raise malformed(f"{len(signers)} signers; a timestamp has 1")
        # Unauthenticated, and RFC 5652, 5.1 leaves it to the reader; some readers refuse it.
        listed = {algorithm.algorithm for algorithm in data.digest_algorithms.as_list()}
        if signers[0].digest_algorithm.algorithm not in listed:
            raise malformed("the signer's digest algorithm is not among those listed")
        info = decode_part(asn1.TstInfo, data.content.content)
        if info.version != 1:
            raise malformed(f"version {info.version} of the timestamp")
        return cls(data, signers[0], data.content.content, info, _time_of(info))


def _time_of(info: asn1.TstInfo) -> datetime:
    """Return when the stamp was made. Digits beyond the microsecond are cut off."""
    match = _GENERALIZED_TIME.fullmatch(asn1.encode(info.gen_time))
    if match is None:
        raise malformed("its time is no GeneralizedTime in DER")
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    microsecond = int((match[7] or b"0")[:6].ljust(6, b"0"))
    try:
        return datetime(year, month, day, hour, minute, second, microsecond, UTC)
    except ValueError as exc:
        raise malformed(f"its time is none: {exc}") from exc


def _check_status(status: asn1.PkiStatusInfo) -> None:
    if status.status != STATUS_GRANTED:
        said = "; ".join(status.status_string or [])
        raise VerificationError(
            "timestamp-status",
            f"the timestamp authority answered status {status.status} and said {said[:200]!r}",
            found=str(status.status),
            wanted=str(STATUS_GRANTED),
        )


def hash_of(algorithm: asn1.AlgorithmIdentifier) -> HashAlgorithm | None:
    """Return the hash that is meant, None if it is not one of the SHA-2 family."""
    return _HASHES.get(algorithm.algorithm)


def decode_part(kind: type[T], raw: bytes) -> T:
    """Decode DER.

    Raises:
        VerificationError: ``timestamp-format``.
    """
    try:
        return asn1.decode(kind, raw)
    except ValueError as exc:
        raise malformed(str(exc)[:200]) from exc


def malformed(reason: str) -> VerificationError:
    """Return the error for a response that cannot be read."""
    return VerificationError("timestamp-format", f"the timestamp cannot be read: {reason}")

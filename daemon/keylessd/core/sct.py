"""Signed certificate timestamps (RFC 6962): their bytes, both ways, and their verification.

Decides nothing about the certificate itself: the path it gets was verified by the caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from keylessd.core import asn1
from keylessd.core.certificate import extension_of
from keylessd.core.keys import BadSignatureError
from keylessd.core.log_signature import verify_shared_signature
from keylessd.core.remembered import Remembered
from keylessd.errors import VerificationError

if TYPE_CHECKING:
    from keylessd.core.trusted_root import TransparencyLog

SCT_LIST_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
POISON_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.3")
PRECERTIFICATE_SIGNING_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.4")

# RFC 5246, 7.4.1.4.1, the only values that RFC 6962 (2.1.4) allows.
HASH_SHA256 = 4
SIGNATURE_RSA = 1
SIGNATURE_ECDSA = 3

MAX_SCTS = 32  # a certificate of ten minutes carries one or two; bounds hostile signature checks
_LOG_ID_SIZE = 32
_FIXED_SIZE = 1 + _LOG_ID_SIZE + 8  # version, log id and time of an SCT
_KEPT_ISSUERS = 64  # of which a trust root has a few
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SignedCertificateTimestamp:
    """One SCT, version 1.

    Attributes:
        log_id: SHA-256 of the log key's SubjectPublicKeyInfo, 32 bytes.
        timestamp_ms: Milliseconds since the epoch.
        extensions: Opaque and signed; static logs put the leaf index there.
        hash_algorithm: TLS number, 4 is SHA-256.
        signature_algorithm: TLS number, 1 is RSA, 3 is ECDSA.
        signature: DER for ECDSA, PKCS#1 v1.5 for RSA.
    """

    log_id: bytes
    timestamp_ms: int
    extensions: bytes
    hash_algorithm: int
    signature_algorithm: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class VerifiedSct:
    """A log's promise that verified.

    Attributes:
        log: The log's base URL, from the trust root.
        time: When the log promised to publish the certificate.
        operator: Who runs the log, or empty.
        log_id: The log's id, 32 bytes.
    """

    log: str
    time: datetime
    operator: str
    log_id: bytes


# --- bytes ---------------------------------------------------------------------------------


def sct_signed_data(
    timestamp_ms: int, *, issuer_key_hash: bytes, tbs_certificate: bytes, extensions: bytes = b""
) -> bytes:
    """Return the bytes an embedded SCT signs (RFC 6962, 3.2, precert_entry).

    Args:
        timestamp_ms: Milliseconds since the epoch.
        issuer_key_hash: SHA-256 of the issuing certificate's SubjectPublicKeyInfo, 32 bytes.
        tbs_certificate: DER of the TBSCertificate without SCT list and without poison.
        extensions: The SCT's own extensions.
    """
    return b"".join(
        (
            b"\x00\x00",  # version 1, certificate_timestamp
            timestamp_ms.to_bytes(8),
            b"\x00\x01",  # precert_entry
            issuer_key_hash,
            _vector(tbs_certificate, 3),
            _vector(extensions, 2),
        )
    )


def sct_signed_data_x509(
    timestamp_ms: int, *, certificate: bytes, extensions: bytes = b""
) -> bytes:
    """Return the bytes a detached SCT signs (RFC 6962, 3.2, x509_entry).

    Args:
        timestamp_ms: Milliseconds since the epoch.
        certificate: DER of the whole certificate.
        extensions: The SCT's own extensions.
    """
    return b"".join(
        (
            b"\x00\x00",
            timestamp_ms.to_bytes(8),
            b"\x00\x00",  # x509_entry
            _vector(certificate, 3),
            _vector(extensions, 2),
        )
    )


def encode_sct(sct: SignedCertificateTimestamp) -> bytes:
    """Return the TLS encoding of one SCT."""
    return b"".join(
        (
            b"\x00",
            sct.log_id,
            sct.timestamp_ms.to_bytes(8),
            _vector(sct.extensions, 2),
            bytes((sct.hash_algorithm, sct.signature_algorithm)),
            _vector(sct.signature, 2),
        )
    )


def encode_sct_list(scts: Sequence[SignedCertificateTimestamp]) -> bytes:
    """Return the TLS encoding of a list of SCTs, without the OCTET STRING around it."""
    return _vector(b"".join(_vector(encode_sct(sct), 2) for sct in scts), 2)


def sct_list_extension(scts: Sequence[SignedCertificateTimestamp]) -> x509.UnrecognizedExtension:
    """Return the certificate extension (not critical) that embeds the SCTs."""
    return x509.UnrecognizedExtension(SCT_LIST_OID, asn1.encode(encode_sct_list(scts)))


def parse_sct_list(raw: bytes) -> tuple[SignedCertificateTimestamp, ...]:
    """Return the version 1 SCTs of a TLS-encoded list; those of other versions are left out.

    Args:
        raw: As `encode_sct_list` makes it.

    Raises:
        ValueError: Lengths do not agree, or the list is empty or too long.
    """
    items = []
    at = _end_of_vector(raw, 0)
    if at != len(raw):
        raise _left_over(raw, at)
    at = 2
    while at < len(raw):
        end = _end_of_vector(raw, at)
        items.append(raw[at + 2 : end])
        at = end
    if not 1 <= len(items) <= MAX_SCTS:
        msg = f"a list of {len(items)} timestamps; 1 to {MAX_SCTS} are allowed"
        raise ValueError(msg)
    # RFC 6962, 3.3: whoever reads must skip versions it does not know.
    return tuple(_parse_sct(item) for item in items if item[:1] == b"\x00")


def _parse_sct(raw: bytes) -> SignedCertificateTimestamp:
    # Version, log id and time; vector of extensions; two algorithms; vector of the signature.
    extensions_end = _end_of_vector(raw, _FIXED_SIZE)
    signature_at = extensions_end + 2
    end = _end_of_vector(raw, signature_at)
    if end != len(raw):
        raise _left_over(raw, end)
    return SignedCertificateTimestamp(
        log_id=raw[1 : 1 + _LOG_ID_SIZE],
        timestamp_ms=int.from_bytes(raw[1 + _LOG_ID_SIZE : _FIXED_SIZE]),
        extensions=raw[_FIXED_SIZE + 2 : extensions_end],
        hash_algorithm=raw[extensions_end],
        signature_algorithm=raw[extensions_end + 1],
        signature=raw[signature_at + 2 : end],
    )


def _vector(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width) + data


def _end_of_vector(raw: bytes, at: int) -> int:
    """Return where the vector ends whose length stands in two bytes at an offset.

    Raises:
        ValueError: It ends behind the end of all.
    """
    start = at + 2
    end = start + int.from_bytes(raw[at:start])
    # Also where the length itself is not all there: it would end behind that.
    if max(start, end) > len(raw):
        msg = f"{max(start, end)} bytes wanted by a vector at offset {at}, of {len(raw)}"
        raise ValueError(msg)
    return end


def _left_over(raw: bytes, end: int) -> ValueError:
    return ValueError(f"{len(raw) - end} bytes follow the end")


# --- verification --------------------------------------------------------------------------


def verify_scts(
    path: Sequence[x509.Certificate], ctlogs: Sequence[TransparencyLog], *, threshold: int = 1
) -> tuple[VerifiedSct, ...]:
    """Verify the SCTs embedded in a certificate, and that enough distinct logs gave one.

    RFC 6962, 3.2. SCTs of logs that the trust root does not name say nothing and are skipped; one
    that fails does not count, and is the error if too few are left. Logs count once per operator,
    or by themselves if the trust root names none.

    Args:
        path: The verified path, leaf first, anchor last.
        ctlogs: The trust root's certificate transparency logs.
        threshold: How many distinct logs must have promised, at least 1.

    Returns:
        What verified, in the certificate's order.

    Raises:
        VerificationError: ``sct-missing``, ``sct-format``, or, when too few verified, the reason
            of the first that did not: ``sct-log``, ``sct-time``, ``sct-signature``; or
            ``sct-threshold``.
    """
    scts = embedded_scts(path[0])
    tbs = path[0].tbs_precertificate_bytes
    key_hash = _issuer_key_hash(path)
    verified: list[VerifiedSct] = []
    first_failure: VerificationError | None = None
    for sct in scts:
        data = sct_signed_data(
            sct.timestamp_ms,
            issuer_key_hash=key_hash,
            tbs_certificate=tbs,
            extensions=sct.extensions,
        )
        try:
            verified.append(verify_sct(sct, data, ctlogs))
        except VerificationError as failure:
            first_failure = first_failure or failure
    counted = len({found.operator or found.log_id for found in verified})
    if counted < threshold:
        if counted == 0 and first_failure is not None:
            raise first_failure
        raise VerificationError(
            "sct-threshold",
            f"{counted} distinct transparency logs saw the certificate, {threshold} are required",
            found=str(counted),
            wanted=str(threshold),
        )
    return tuple(verified)


def embedded_scts(leaf: x509.Certificate) -> tuple[SignedCertificateTimestamp, ...]:
    """Return the SCTs embedded in a certificate whose extensions are known to parse.

    Raises:
        VerificationError: ``sct-missing`` or ``sct-format``.
    """
    try:
        extension = extension_of(leaf, x509.PrecertificateSignedCertificateTimestamps)
        if extension is None:
            raise VerificationError(
                "sct-missing",
                "the certificate holds no signed certificate timestamp",
                hint="where a Sigstore has no certificate log, --insecure-ignore-sct does without",
            )
        return parse_sct_list(asn1.decode(bytes, extension.value.public_bytes()))
    except ValueError as exc:
        raise VerificationError(
            "sct-format", f"the certificate's timestamp list cannot be read: {exc}"
        ) from exc


def verify_sct(
    sct: SignedCertificateTimestamp, signed_data: bytes, ctlogs: Sequence[TransparencyLog]
) -> VerifiedSct:
    """Verify one SCT against the logs that have its id.

    Args:
        sct: The timestamp.
        signed_data: What it must sign, from `sct_signed_data` or `sct_signed_data_x509`.
        ctlogs: The trust root's certificate transparency logs.

    Raises:
        VerificationError: ``sct-log`` if no log has that id, ``sct-signature``, or ``sct-time`` if
            the log's key was not in use then.
    """
    failure: VerificationError | None = None
    for log in ctlogs:
        if log.log_id != sct.log_id:
            continue
        try:
            _check_signature(sct, signed_data, log)
            time = _check_time(sct, log)
        except VerificationError as exc:
            failure = exc
        else:
            return VerifiedSct(log.base_url, time, log.operator, log.log_id)
    if failure is not None:
        raise failure
    raise VerificationError(
        "sct-log", f"the trust root has no certificate transparency log {sct.log_id.hex()}"
    )


def _check_signature(
    sct: SignedCertificateTimestamp, signed_data: bytes, log: TransparencyLog
) -> None:
    # RFC 6962, 2.1.4 fixes SHA-256 for each kind of key, whatever the curve.
    kind = SIGNATURE_RSA if isinstance(log.key, rsa.RSAPublicKey) else SIGNATURE_ECDSA
    if (
        isinstance(log.key, ed25519.Ed25519PublicKey)
        or sct.signature_algorithm != kind
        or sct.hash_algorithm != HASH_SHA256
    ):
        raise VerificationError(
            "sct-signature",
            f"algorithms {sct.hash_algorithm}/{sct.signature_algorithm} of the certificate "
            f"timestamp do not fit the key of {log.base_url}",
        )
    try:
        verify_shared_signature(log.key, sct.signature, signed_data)
    except BadSignatureError as exc:
        raise VerificationError(
            "sct-signature",
            f"the certificate timestamp's signature does not verify with the key of {log.base_url}",
        ) from exc


def _check_time(sct: SignedCertificateTimestamp, log: TransparencyLog) -> datetime:
    try:
        # Integer arithmetic: a float would move the last millisecond of a range.
        time = _EPOCH + timedelta(milliseconds=sct.timestamp_ms)
    except OverflowError:
        time = datetime.max.replace(tzinfo=UTC)
    if not log.valid_for.contains(time):
        raise VerificationError(
            "sct-time", f"the key of {log.base_url} was not in use at {time.isoformat()}"
        )
    return time


def _issuer_key_hash(path: Sequence[x509.Certificate]) -> bytes:
    # RFC 6962, 3.2: a certificate that only signs precertificates is passed over.
    for issuer in path[1:]:
        if not _signs_precertificates_only(issuer):
            return _key_hash(issuer)
    raise VerificationError("certificate-chain", "the certificate's path names no issuer")


def _hash_key(issuer: x509.Certificate) -> bytes:
    encoded = issuer.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).digest()


_key_hash = Remembered(_hash_key, most=_KEPT_ISSUERS)


def _signs_precertificates_only(certificate: x509.Certificate) -> bool:
    usage = extension_of(certificate, x509.ExtendedKeyUsage)
    return usage is not None and PRECERTIFICATE_SIGNING_OID in usage.value

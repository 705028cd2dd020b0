"""RFC 3161 timestamps: the request, and the verification of the response. Asks no authority.

Who may be the signer, core.timestamp_signer finds; here it is judged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from keylessd.core import asn1
from keylessd.core.certificate import check_not_authority, extension_of
from keylessd.core.chain import verify_path
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.remembered import Remembered
from keylessd.core.timestamp_signer import Candidate, candidates
from keylessd.core.timestamp_token import HASH_OIDS, Token, hash_of, malformed
from keylessd.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from keylessd.core.trusted_root import Authority

T = TypeVar("T")

_ECDSA = {
    asn1.OID_ECDSA_SHA256: ec.ECDSA(hashes.SHA256()),
    asn1.OID_ECDSA_SHA384: ec.ECDSA(hashes.SHA384()),
    asn1.OID_ECDSA_SHA512: ec.ECDSA(hashes.SHA512()),
}
_RSA_HASHES = {
    asn1.OID_RSA_SHA256: HashAlgorithm.SHA256,
    asn1.OID_RSA_SHA384: HashAlgorithm.SHA384,
    asn1.OID_RSA_SHA512: HashAlgorithm.SHA512,
}

_BINDING = frozenset({asn1.OID_ATTR_SIGNING_CERTIFICATE, asn1.OID_ATTR_SIGNING_CERTIFICATE_V2})

_KEPT_AUTHORITIES = 64  # certificates of timestamp authorities, of which a trust root has a few

# A response that fails one of these says nothing about the bundle: it is of an authority that
# this trust root does not know, or in an encoding that is not read here.
UNVERIFIABLE = frozenset({"timestamp-format", "timestamp-authority"})


@dataclass(frozen=True, slots=True)
class VerifiedTimestamp:
    """A time that an authority of the trust root vouched for.

    Attributes:
        time: When the authority saw the signature, aware, in UTC.
        authority: The authority's URI, from the trust root.
        operator: Who runs it, or empty.
        serial: The timestamp's serial number at the authority.
        counts_as: Equal for timestamps that count once: the operator's name, else the
            authority's URI, which stays when its certificate is renewed, else the digest of
            that certificate.
    """

    time: datetime
    authority: str
    operator: str
    serial: int
    counts_as: str


def build_request(digest: Digest, *, nonce: int, certificates: bool) -> bytes:
    """Return a TimeStampReq (DER) for the digest of a signature.

    Args:
        digest: Of the raw signature bytes.
        nonce: Positive random number; the response must repeat it.
        certificates: Whether the response shall hold the authority's certificate.
    """
    return asn1.encode(
        asn1.TimeStampReq(
            version=1,
            message_imprint=asn1.MessageImprint(
                # RFC 5754, 2: SHA-2 identifiers have no parameters.
                hash_algorithm=asn1.AlgorithmIdentifier(
                    algorithm=HASH_OIDS[digest.algorithm], parameters=None
                ),
                hashed_message=digest.value,
            ),
            req_policy=None,
            nonce=nonce,
            cert_req=certificates,
            extensions=None,
        )
    )


def verify_timestamp(
    response: bytes, signature: bytes, authorities: Sequence[Authority], *, nonce: int | None = None
) -> VerifiedTimestamp:
    """Verify that an authority of the trust root saw a signature, and return when.

    RFC 3161, 2.4.2, and RFC 5652, 5. The authority's path is judged at the timestamp's own time.

    Args:
        response: TimeStampResp, DER.
        signature: The raw bytes that were stamped, of any length.
        authorities: The trust root's timestamp authorities.
        nonce: The nonce of our own request; None if it was not ours.

    Raises:
        VerificationError: ``timestamp-format``, ``timestamp-status``, ``timestamp-authority``,
            ``timestamp-imprint``, ``timestamp-nonce``, ``timestamp-attributes``,
            ``timestamp-certificate``, ``timestamp-signature``, ``timestamp-usage``,
            ``timestamp-validity`` or ``timestamp-chain``. Those in `UNVERIFIABLE` mean that it
            proves nothing either way.
    """
    token = Token.parse(response)
    found = candidates(token, authorities)
    _check_imprint(token.info, signature)
    _check_nonce(token.info, nonce)
    attributes = _check_attributes(token)
    for number, candidate in enumerate(found, start=1):
        try:
            _check_candidate(token, attributes, candidate)
        except VerificationError:
            if number == len(found):
                raise
        else:
            break
    authority = candidate.authority
    return VerifiedTimestamp(
        time=token.time,
        authority=authority.uri,
        operator=authority.operator,
        serial=token.info.serial_number,
        counts_as=authority.operator
        or authority.uri
        or authority.chain[0].fingerprint(hashes.SHA256()).hex(),
    )


# --- 1. what was stamped -------------------------------------------------------------------


def _check_imprint(info: asn1.TstInfo, signature: bytes) -> None:
    algorithm = hash_of(info.message_imprint.hash_algorithm)
    if algorithm is None:
        raise VerificationError(
            "timestamp-imprint",
            "the timestamp uses the unsupported hash "
            f"{info.message_imprint.hash_algorithm.algorithm.dotted_string}",
        )
    if info.message_imprint.hashed_message != digest_of(algorithm, signature).value:
        raise VerificationError("timestamp-imprint", "the timestamp is of another signature")


def _check_nonce(info: asn1.TstInfo, nonce: int | None) -> None:
    if nonce is not None and info.nonce != nonce:
        raise VerificationError("timestamp-nonce", "the timestamp answers another request")


# --- 2. the signature ----------------------------------------------------------------------


def _check_attributes(token: Token) -> dict[x509.ObjectIdentifier, asn1.Attribute]:
    """Return the signed attributes after comparing them with the content they stand for."""
    try:
        listed = asn1.parse_signed_attributes(token.signer.signed_attributes)
    except ValueError as exc:
        raise malformed(f"the signed attributes: {exc}") from exc
    attributes = {attribute.type: attribute for attribute in listed}
    if len(attributes) != len(listed):
        raise VerificationError("timestamp-attributes", "a signed attribute stands there twice")
    content_type = _single_value(attributes, asn1.OID_ATTR_CONTENT_TYPE, x509.ObjectIdentifier)
    if content_type != asn1.OID_TST_INFO:
        raise VerificationError("timestamp-attributes", "the signed content type is another")
    algorithm = hash_of(token.signer.digest_algorithm)
    if algorithm is None:
        raise VerificationError("timestamp-attributes", "the digest algorithm is unsupported")
    digest = _single_value(attributes, asn1.OID_ATTR_MESSAGE_DIGEST, bytes)
    if digest != digest_of(algorithm, token.content).value:
        raise VerificationError("timestamp-attributes", "the signed digest is of another content")
    return attributes


def _single_value(
    attributes: dict[x509.ObjectIdentifier, asn1.Attribute],
    oid: x509.ObjectIdentifier,
    kind: type[T],
) -> T:
    attribute = attributes.get(oid)
    values = attribute.values.as_list() if attribute is not None else []
    if len(values) != 1:
        raise VerificationError(
            "timestamp-attributes",
            f"{len(values)} values of the signed attribute {oid.dotted_string}; 1 is needed",
        )
    try:
        return asn1.decode_value(kind, values[0])
    except ValueError as exc:
        raise malformed(str(exc)[:200]) from exc


def _check_signature(token: Token, candidate: Candidate) -> None:
    key = _key_of(candidate.certificate)
    uri = candidate.authority.uri
    signed = asn1.signed_form(token.signer.signed_attributes)
    signature = token.signer.signature
    oid = token.signer.signature_algorithm.algorithm
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and oid in _ECDSA:
            key.verify(signature, signed, _ECDSA[oid])
            return
        if isinstance(key, rsa.RSAPublicKey) and (oid in _RSA_HASHES or oid == asn1.OID_RSA):
            # RFC 3370, 3.2: with the bare key identifier, the digest algorithm is the hash.
            algorithm = _RSA_HASHES.get(oid) or hash_of(token.signer.digest_algorithm)
            if algorithm is not None:
                key.verify(signature, signed, padding.PKCS1v15(), algorithm.hash())
                return
        if isinstance(key, ed25519.Ed25519PublicKey) and oid == asn1.OID_ED25519:
            key.verify(signature, signed)
            return
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as exc:
        raise VerificationError(
            "timestamp-signature",
            f"the timestamp's signature does not verify with the key of {uri!r}",
        ) from exc
    raise VerificationError(
        "timestamp-signature",
        f"the timestamp's signature algorithm {oid.dotted_string} does not fit the key of {uri!r}",
    )


def _public_key(certificate: x509.Certificate) -> object:
    return certificate.public_key()


_key_of = Remembered(_public_key, most=_KEPT_AUTHORITIES)


# --- 3. the signer -------------------------------------------------------------------------


def _check_candidate(
    token: Token,
    attributes: dict[x509.ObjectIdentifier, asn1.Attribute],
    candidate: Candidate,
) -> None:
    certificate = candidate.certificate
    _check_embedded(token, certificate)
    _check_signing_certificate(attributes, candidate)
    _check_signature(token, candidate)
    _usage_once(certificate)
    _check_in_use(candidate.authority, token.time)
    verify_path(
        certificate,
        candidate.issuers_at(token.time),
        token.time,
        usage=ExtendedKeyUsageOID.TIME_STAMPING,
        check="timestamp-chain",
    )


def _check_embedded(token: Token, certificate: x509.Certificate) -> None:
    embedded = token.data.certificates
    if embedded and certificate not in embedded:
        raise VerificationError(
            "timestamp-certificate",
            "the timestamp carries a certificate other than the authority's in the trust root",
        )


def _check_signing_certificate(
    attributes: dict[x509.ObjectIdentifier, asn1.Attribute], candidate: Candidate
) -> None:
    """Check the attribute that binds the certificate (RFC 3161, 2.4.2).

    Where the trust root lists the signer, its absence does no harm.
    """
    der = _der_of(candidate.certificate)
    matches = candidate.brought is None or not _BINDING.isdisjoint(attributes)
    if asn1.OID_ATTR_SIGNING_CERTIFICATE_V2 in attributes:
        second = _single_value(
            attributes, asn1.OID_ATTR_SIGNING_CERTIFICATE_V2, asn1.SigningCertificateV2
        )
        # RFC 5035, 3: the first one is the signer's.
        matches = bool(second.certs) and _is_digest_of(der, second.certs[0])
    if asn1.OID_ATTR_SIGNING_CERTIFICATE in attributes:
        first = _single_value(
            attributes, asn1.OID_ATTR_SIGNING_CERTIFICATE, asn1.SigningCertificate
        )
        # RFC 2634, 5.4 fixes SHA-1; the binding does not rest on it.
        digest = hashlib.sha1(der, usedforsecurity=False).digest()
        matches = matches and bool(first.certs) and first.certs[0].cert_hash == digest
    if not matches:
        raise VerificationError(
            "timestamp-certificate", "the timestamp was signed for another certificate"
        )


def _encode(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


_der_of = Remembered(_encode, most=_KEPT_AUTHORITIES)


def _is_digest_of(der: bytes, identifier: asn1.EssCertIdV2) -> bool:
    algorithm: HashAlgorithm | None = HashAlgorithm.SHA256
    if identifier.hash_algorithm is not None:
        algorithm = hash_of(identifier.hash_algorithm)
    return algorithm is not None and identifier.cert_hash == digest_of(algorithm, der).value


# --- 4. what the signer may do, and when ---------------------------------------------------


def _check_usage(certificate: x509.Certificate) -> None:
    """RFC 3161, 2.3: time stamping, critical, and nothing beside it; and not an authority.

    RFC 5280, 4.2.1.12: the key usage, if there is one, is consistent with that.
    """
    usage = extension_of(certificate, x509.ExtendedKeyUsage)
    if (
        usage is None
        or not usage.critical
        or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]
    ):
        raise VerificationError(
            "timestamp-usage",
            "the authority's certificate is not for time stamping alone, critically",
        )
    bits = extension_of(certificate, x509.KeyUsage)
    if bits is not None and not (bits.value.digital_signature or bits.value.content_commitment):
        raise VerificationError(
            "timestamp-usage", "the authority's certificate is not for signatures"
        )
    try:
        check_not_authority(certificate)
    except VerificationError as exc:
        raise VerificationError(
            "timestamp-usage", "the certificate that signed the timestamp is a CA's"
        ) from exc


# A certificate that failed is judged anew.
_usage_once = Remembered(_check_usage, most=_KEPT_AUTHORITIES)


def _check_in_use(authority: Authority, time: datetime) -> None:
    if not authority.valid_for.contains(time):
        raise VerificationError(
            "timestamp-validity",
            f"the authority {authority.uri!r} was not in use at {time.isoformat()}",
            found=time.isoformat(),
        )

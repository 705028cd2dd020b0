"""A timestamp authority (RFC 3161): its chain, and its answers to requests. No HTTP.

It stamps whatever digest it is sent, with the injected clock's time. It keeps no record.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keylessd.core import asn1 as types
from keylessd.core.digests import HashAlgorithm
from keylessd.sandbox.vault import SandboxError, ecdsa_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from keylessd.clock import Clock
    from keylessd.sandbox.vault import Vault

REQUEST_MAX = 64 << 10  # bytes
CHAIN_LIFETIME = timedelta(days=3650)
BACKDATING = timedelta(hours=1)  # so that a clock that is set back a little finds it valid
_VERSION = 1  # of requests and of TSTInfo
_SIGNED_DATA_VERSION = 3  # RFC 5652, 5.1: content that is not plain data
_NONCE_BITS = 512  # more serves nobody

_IMPRINTS = {
    types.OID_SHA256: HashAlgorithm.SHA256,
    types.OID_SHA384: HashAlgorithm.SHA384,
    types.OID_SHA512: HashAlgorithm.SHA512,
}

BAD_REQUEST = "Error generating timestamp response"
WEAK_HASH = "Weak hash algorithm in timestamp request"
BAD_LENGTH = "Message digest has incorrect length for specified algorithm"


class FailInfo(enum.IntEnum):
    """PKIFailureInfo (RFC 3161, 2.4.2): numbers of bits."""

    BAD_ALG = 0
    BAD_REQUEST = 2
    BAD_DATA_FORMAT = 5
    TIME_NOT_AVAILABLE = 14
    UNACCEPTED_POLICY = 15
    UNACCEPTED_EXTENSION = 16
    ADD_INFO_NOT_AVAILABLE = 17
    SYSTEM_FAILURE = 25


class InvalidRequestError(Exception):
    """The bytes are not a request this authority answers; it says so by HTTP, like the real one."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """What the authority answers instead of a timestamp, with HTTP status 200.

    Attributes:
        failure: The reason, for programs.
        text: The reason, for people.
        status: PKIStatus: 2 rejection, 3 waiting, 4 and 5 revocation.
    """

    failure: FailInfo = FailInfo.TIME_NOT_AVAILABLE
    text: str = "the time source is not available"
    status: int = 2

    def der(self) -> bytes:
        """Return the TimeStampResp."""
        bits = bytearray(self.failure // 8 + 1)
        bits[self.failure // 8] = 0x80 >> self.failure % 8
        # DER: a named bit list has no zero bits at its end.
        padding = 7 - self.failure % 8
        status = types.PkiStatusInfo(
            status=self.status,
            status_string=[self.text],
            fail_info=asn1.BitString(bytes(bits), padding),
        )
        return types.encode(types.TimeStampResp(status=status, token=None))


class TimestampAuthority:
    """One authority.

    Attributes:
        chain: Its certificates, leaf first, root last.
        rejecting: If set, what every request gets; may be changed at any time.
        issued: Number of timestamps granted by this object.
    """

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        chain: tuple[x509.Certificate, ...],
        *,
        clock: Clock,
        new_serial: Callable[[], int] = x509.random_serial_number,
    ) -> None:
        """Stamp with *key*.

        Args:
            key: The key of the chain's leaf.
            chain: Leaf first, root last.
            clock: The time that is stamped.
            new_serial: Returns a number that was not returned before.
        """
        self._key = key
        self._clock = clock
        self._new_serial = new_serial
        self._parts = _SignerParts.of(chain[0])
        self.chain = chain
        self.rejecting: Rejection | None = None
        self.issued = 0

    @classmethod
    def open(cls, vault: Vault, *, clock: Clock) -> Self:
        """Return the authority whose keys and chain *vault* has; they are made if it has none.

        Raises:
            SandboxError: The chain in the vault cannot be read.
        """
        key, root_key = ecdsa_key(vault, "tsa"), ecdsa_key(vault, "tsa-root")
        raw = vault.load("tsa-chain")
        if raw is None:
            raw = pem(new_chain(key.public_key(), root_key, clock=clock))
            vault.save("tsa-chain", raw)
        try:
            chain = tuple(x509.load_pem_x509_certificates(raw))
        except ValueError as exc:
            raise SandboxError(f"the timestamp authority's chain cannot be read: {exc}") from exc
        return cls(key, chain, clock=clock)

    def respond(self, request: bytes) -> bytes:
        """Return the TimeStampResp (DER) for a TimeStampReq (DER).

        Raises:
            InvalidRequestError: It is not one, or asks for what is not offered.
        """
        wanted = _parse_request(request)
        if self.rejecting is not None:
            return self.rejecting.der()
        info = types.TstInfo(
            version=_VERSION,
            policy=wanted.req_policy if wanted.req_policy is not None else types.OID_TSA_POLICY,
            message_imprint=wanted.message_imprint,
            serial_number=self._new_serial(),
            # Whole seconds, like the real one.
            gen_time=types.tlv_of(asn1.GeneralizedTime(self._clock.now().replace(microsecond=0))),
            accuracy=types.Accuracy(seconds=1, millis=None, micros=None),
            ordering=False,
            nonce=wanted.nonce,
            tsa=None,
            extensions=None,
        )
        certificates = [self.chain[0]] if wanted.cert_req else None
        token = self._token(types.encode(info), certificates)
        self.issued += 1
        granted = types.PkiStatusInfo(status=0, status_string=None, fail_info=None)
        return types.encode(types.TimeStampResp(status=granted, token=token))

    def _token(
        self, content: bytes, certificates: list[x509.Certificate] | None
    ) -> types.TimeStampToken:
        parts = self._parts
        digest = types.Attribute(
            type=types.OID_ATTR_MESSAGE_DIGEST,
            values=asn1.SetOf([types.tlv_of(hashlib.sha256(content).digest())]),
        )
        sent, signed = types.signed_attributes(
            sorted([parts.content_type, digest, parts.signing_certificate], key=types.encode)
        )
        signer = types.SignerInfo(
            version=1,
            sid=parts.sid,
            digest_algorithm=parts.digest_algorithm,
            signed_attributes=sent,
            signature_algorithm=parts.signature_algorithm,
            signature=self._key.sign(signed, ec.ECDSA(hashes.SHA256())),
            unsigned_attributes=None,
        )
        data = types.SignedData(
            version=_SIGNED_DATA_VERSION,
            digest_algorithms=asn1.SetOf([parts.digest_algorithm]),
            content=types.EncapsulatedContent(content_type=types.OID_TST_INFO, content=content),
            certificates=certificates,
            crls=None,
            signer_infos=asn1.SetOf([signer]),
        )
        return types.TimeStampToken(content_type=types.OID_SIGNED_DATA, content=data)


@dataclass(frozen=True, slots=True)
class _SignerParts:
    """What is the same in every token of a signer."""

    sid: types.IssuerAndSerial
    digest_algorithm: types.AlgorithmIdentifier
    signature_algorithm: types.AlgorithmIdentifier
    content_type: types.Attribute
    signing_certificate: types.Attribute

    @classmethod
    def of(cls, leaf: x509.Certificate) -> Self:
        der = leaf.public_bytes(serialization.Encoding.DER)
        # RFC 5035, 4: SHA-256 is the default and therefore left out.
        identified = types.SigningCertificateV2(
            certs=[
                types.EssCertIdV2(
                    hash_algorithm=None,
                    cert_hash=hashlib.sha256(der).digest(),
                    issuer_serial=None,
                )
            ],
            policies=None,
        )
        return cls(
            sid=types.IssuerAndSerial(
                issuer=asn1.decode_der(asn1.TLV, leaf.issuer.public_bytes()),
                serial_number=leaf.serial_number,
            ),
            digest_algorithm=_algorithm(types.OID_SHA256),
            signature_algorithm=_algorithm(types.OID_ECDSA_SHA256),
            content_type=types.Attribute(
                type=types.OID_ATTR_CONTENT_TYPE,
                values=asn1.SetOf([types.tlv_of(types.OID_TST_INFO)]),
            ),
            signing_certificate=types.Attribute(
                type=types.OID_ATTR_SIGNING_CERTIFICATE_V2,
                values=asn1.SetOf([types.tlv_of(identified)]),
            ),
        )


def _algorithm(oid: x509.ObjectIdentifier) -> types.AlgorithmIdentifier:
    return types.AlgorithmIdentifier(algorithm=oid, parameters=None)


def _parse_request(request: bytes) -> types.TimeStampReq:
    try:
        wanted = types.decode(types.TimeStampReq, request)
    except ValueError as exc:
        raise InvalidRequestError(BAD_REQUEST) from exc
    imprint = wanted.message_imprint
    algorithm = _IMPRINTS.get(imprint.hash_algorithm.algorithm)
    if algorithm is None:
        raise InvalidRequestError(WEAK_HASH)
    if len(imprint.hashed_message) != algorithm.size:
        raise InvalidRequestError(BAD_LENGTH)
    if wanted.version != _VERSION or wanted.extensions is not None:
        raise InvalidRequestError(BAD_REQUEST)
    if wanted.nonce is not None and wanted.nonce.bit_length() > _NONCE_BITS:
        raise InvalidRequestError(BAD_REQUEST)
    return wanted


# --- the chain -----------------------------------------------------------------------------


def new_chain(
    key: ec.EllipticCurvePublicKey, root_key: ec.EllipticCurvePrivateKey, *, clock: Clock
) -> tuple[x509.Certificate, ...]:
    """Return a leaf for *key* and the root that issues it."""
    start = clock.now().replace(microsecond=0) - BACKDATING
    root_name = _name("sandbox TSA root")
    root = (
        _certificate(root_name, root_name, root_key.public_key())
        .not_valid_before(start)
        .not_valid_after(start + CHAIN_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        _certificate(_name("sandbox TSA"), root_name, key)
        .not_valid_before(start)
        .not_valid_after(start + CHAIN_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        # RFC 3161, 2.3: critical, and nothing beside it.
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
            critical=False,
        )
        .sign(root_key, hashes.SHA256())
    )
    return leaf, root


def pem(chain: tuple[x509.Certificate, ...]) -> bytes:
    """Return the certificates in PEM, in their order."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "keyless sandbox"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )

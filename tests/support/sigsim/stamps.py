"""A timestamp authority that lies on request: builds RFC 3161 responses part by part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat import asn1 as codec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from keylessd.core import asn1
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.timestamp_token import HASH_OIDS
from keylessd.core.trusted_root import Authority, TimeRange
from sigsim.pki import (
    START,
    TIME_STAMPING,
    YEAR,
    Ca,
    PrivateKey,
    certificate_builder,
    der,
    ec_key,
    key_usage,
    mint_ca,
    signed,
)

SHA256 = asn1.AlgorithmIdentifier(algorithm=asn1.OID_SHA256, parameters=None)


@dataclass(frozen=True)
class Tsa:
    """A timestamp authority: leaf key and certificate, and those above it up to the anchor."""

    key: PrivateKey
    chain: tuple[x509.Certificate, ...]

    def trusted(
        self,
        valid_for: TimeRange | None = None,
        *,
        operator: str = "",
        uri: str = "",
        above: int = 0,
    ) -> Authority:
        """An entry of the trust root; *above* is how many of the chain it leaves out from below."""
        return Authority(
            uri=uri or "https://tsa.example/api/v1/timestamp",
            organization="",
            common_name="",
            chain=self.chain[above:],
            valid_for=valid_for or TimeRange(START - YEAR, None),
            operator=operator,
        )


def mint_tsa(
    *,
    parents: Sequence[Ca] | None = None,
    key: PrivateKey | None = None,
    usages: Sequence[x509.ObjectIdentifier] | None = (TIME_STAMPING,),
    critical: bool = True,
    is_ca: bool | None = None,
    key_usages: Sequence[str] | None = None,
    start: datetime = START - YEAR,
    end: datetime = START + YEAR,
) -> Tsa:
    """Make a timestamp authority; *parents* from issuer to anchor."""
    parents = parents or [mint_ca("tsa root")]
    key = key or ec_key()
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (
            x509.AuthorityKeyIdentifier.from_issuer_public_key(parents[0].key.public_key()),
            False,
        ),
    ]
    if usages is not None:
        extensions.append((x509.ExtendedKeyUsage(usages), critical))
    if is_ca is not None:
        extensions.append((x509.BasicConstraints(ca=is_ca, path_length=None), True))
    if key_usages is not None:
        extensions.append((key_usage(*key_usages), True))
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "tsa")])
    builder = certificate_builder(
        (name, parents[0].certificate.subject), key, start, end, extensions
    )
    certificate = signed(builder, parents[0].key)
    return Tsa(key, (certificate, *(parent.certificate for parent in parents)))


Edit = Callable[[list[asn1.Attribute]], list[asn1.Attribute]]


def stamp(
    tsa: Tsa,
    signature: bytes,
    *,
    at: datetime,
    algorithm: HashAlgorithm = HashAlgorithm.SHA256,
    nonce: int | None = None,
    embedded: Sequence[x509.Certificate] | None = None,
    signing_certificate: x509.Certificate | None = None,
    edit_attributes: Edit = lambda attributes: attributes,
    signer_key: PrivateKey | None = None,
    signer_name: x509.Certificate | None = None,
    by_key_identifier: bool = False,
    signers: int = 1,
    status: int = 0,
    version: int = 1,
    imprint_oid: x509.ObjectIdentifier | None = None,
    content_type: x509.ObjectIdentifier = asn1.OID_TST_INFO,
    serial: int = 7,
    listed: asn1.AlgorithmIdentifier = SHA256,
    hashed_by: asn1.AlgorithmIdentifier = SHA256,
    signed_by: x509.ObjectIdentifier | None = None,
    token_type: x509.ObjectIdentifier = asn1.OID_SIGNED_DATA,
    detached: bool = False,
    written: bytes | None = None,
) -> bytes:
    """Return a TimeStampResp; whatever is not given is right. *written* is the time's text."""
    imprint = asn1.MessageImprint(
        hash_algorithm=asn1.AlgorithmIdentifier(
            algorithm=imprint_oid or HASH_OIDS[algorithm], parameters=None
        ),
        hashed_message=digest_of(algorithm, signature).value,
    )
    content = asn1.encode(
        asn1.TstInfo(
            version=version,
            policy=asn1.OID_TSA_POLICY,
            message_imprint=imprint,
            serial_number=serial,
            gen_time=(
                asn1.tlv_of(codec.GeneralizedTime(at))
                if written is None
                else codec.decode_der(codec.TLV, bytes([0x18, len(written)]) + written)
            ),
            accuracy=None,
            ordering=False,
            nonce=nonce,
            tsa=None,
            extensions=None,
        )
    )
    bound = der(signing_certificate or tsa.chain[0])
    attributes = edit_attributes(
        [
            attribute(asn1.OID_ATTR_CONTENT_TYPE, asn1.OID_TST_INFO),
            attribute(asn1.OID_ATTR_MESSAGE_DIGEST, hashlib.sha256(content).digest()),
            attribute(
                asn1.OID_ATTR_SIGNING_CERTIFICATE_V2,
                asn1.SigningCertificateV2(
                    certs=[
                        asn1.EssCertIdV2(
                            hash_algorithm=None,
                            cert_hash=hashlib.sha256(bound).digest(),
                            issuer_serial=None,
                        )
                    ],
                    policies=None,
                ),
            ),
        ]
    )
    sent, signed = asn1.signed_attributes(attributes)
    oid, value = _sign(signer_key or tsa.key, signed)
    info = asn1.SignerInfo(
        version=1,
        sid=_name(signer_name or tsa.chain[0], by_key_identifier=by_key_identifier),
        digest_algorithm=hashed_by,
        signed_attributes=sent,
        signature_algorithm=asn1.AlgorithmIdentifier(algorithm=signed_by or oid, parameters=None),
        signature=value,
        unsigned_attributes=None,
    )
    data = asn1.SignedData(
        version=3,
        digest_algorithms=codec.SetOf([listed]),
        content=asn1.EncapsulatedContent(
            content_type=content_type, content=None if detached else content
        ),
        certificates=list(embedded) if embedded is not None else None,
        crls=None,
        signer_infos=codec.SetOf([info] * signers),
    )
    token = asn1.TimeStampToken(content_type=token_type, content=data)
    return asn1.encode(
        asn1.TimeStampResp(
            status=asn1.PkiStatusInfo(status=status, status_string=None, fail_info=None),
            token=token,
        )
    )


def rejection(*, status: int = 2) -> bytes:
    """Return the response of an authority that refuses, without a token."""
    said = asn1.PkiStatusInfo(status=status, status_string=["no"], fail_info=None)
    return asn1.encode(asn1.TimeStampResp(status=said, token=None))


def attribute(oid: x509.ObjectIdentifier, *values: object) -> asn1.Attribute:
    return asn1.Attribute(type=oid, values=codec.SetOf([asn1.tlv_of(value) for value in values]))


def _name(
    certificate: x509.Certificate, *, by_key_identifier: bool
) -> asn1.IssuerAndSerial | bytes:
    if by_key_identifier:
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return identifier.value.digest
    return asn1.IssuerAndSerial(
        issuer=codec.decode_der(codec.TLV, certificate.issuer.public_bytes()),
        serial_number=certificate.serial_number,
    )


def _sign(key: PrivateKey, signed: bytes) -> tuple[x509.ObjectIdentifier, bytes]:
    if isinstance(key, rsa.RSAPrivateKey):
        return asn1.OID_RSA, key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return asn1.OID_ECDSA_SHA256, key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return asn1.OID_ED25519, key.sign(signed)

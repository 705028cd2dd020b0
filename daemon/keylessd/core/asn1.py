"""ASN.1 types that x509 lacks: timestamps (RFC 3161), CMS SignedData (RFC 5652), UTF8String values.

Declarations and their strict DER codec only; nothing here verifies anything. Annotations are
evaluated when a class is declared, so this module does without postponed evaluation.
"""

from collections.abc import Callable
from typing import Annotated, TypeVar

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

T = TypeVar("T")

# --- object identifiers --------------------------------------------------------------------

OID_SHA256 = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
OID_SHA384 = ObjectIdentifier("2.16.840.1.101.3.4.2.2")
OID_SHA512 = ObjectIdentifier("2.16.840.1.101.3.4.2.3")
OID_EC_PUBLIC_KEY = ObjectIdentifier("1.2.840.10045.2.1")
OID_ECDSA_SHA256 = ObjectIdentifier("1.2.840.10045.4.3.2")
OID_ECDSA_SHA384 = ObjectIdentifier("1.2.840.10045.4.3.3")
OID_ECDSA_SHA512 = ObjectIdentifier("1.2.840.10045.4.3.4")
OID_RSA = ObjectIdentifier("1.2.840.113549.1.1.1")
OID_RSA_SHA256 = ObjectIdentifier("1.2.840.113549.1.1.11")
OID_RSA_SHA384 = ObjectIdentifier("1.2.840.113549.1.1.12")
OID_RSA_SHA512 = ObjectIdentifier("1.2.840.113549.1.1.13")
OID_ED25519 = ObjectIdentifier("1.3.101.112")

OID_SIGNED_DATA = ObjectIdentifier("1.2.840.113549.1.7.2")
OID_TST_INFO = ObjectIdentifier("1.2.840.113549.1.9.16.1.4")
OID_ATTR_CONTENT_TYPE = ObjectIdentifier("1.2.840.113549.1.9.3")
OID_ATTR_MESSAGE_DIGEST = ObjectIdentifier("1.2.840.113549.1.9.4")
OID_ATTR_SIGNING_TIME = ObjectIdentifier("1.2.840.113549.1.9.5")
OID_ATTR_SIGNING_CERTIFICATE = ObjectIdentifier("1.2.840.113549.1.9.16.2.12")
OID_ATTR_SIGNING_CERTIFICATE_V2 = ObjectIdentifier("1.2.840.113549.1.9.16.2.47")

OID_TSA_POLICY = ObjectIdentifier("1.3.6.1.4.1.57264.2")
OID_OTHER_NAME = ObjectIdentifier("1.3.6.1.4.1.57264.1.7")

# First byte of the signed attributes in the form that is signed (RFC 5652, 5.4).
TAG_SET = 0x31


# --- shared --------------------------------------------------------------------------------


@asn1.sequence
class RsaPssParameters:
    """RSASSA-PSS-params (RFC 4055), undecoded: known so that we can say it is unsupported."""

    hash_algorithm: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    mask_algorithm: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    salt_length: Annotated[list[asn1.TLV] | None, asn1.Implicit(2)]
    trailer: Annotated[list[asn1.TLV] | None, asn1.Implicit(3)]


@asn1.sequence
class AlgorithmIdentifier:
    """An algorithm and its parameters: absent, NULL, or those of RSASSA-PSS or a named curve."""

    algorithm: ObjectIdentifier
    parameters: asn1.Null | ObjectIdentifier | RsaPssParameters | None


@asn1.sequence
class MessageImprint:
    """What is stamped: a hash and its algorithm."""

    hash_algorithm: AlgorithmIdentifier
    hashed_message: bytes


@asn1.sequence
class SignedOutline:
    """RFC 5280, 4.1: what every certificate is at least, with what is signed undecoded."""

    signed: asn1.TLV
    algorithm: asn1.TLV
    signature: asn1.BitString


# --- RFC 3161 ------------------------------------------------------------------------------


@asn1.sequence
class TimeStampReq:
    """RFC 3161, 2.4.1."""

    version: int
    message_imprint: MessageImprint
    req_policy: ObjectIdentifier | None
    nonce: int | None
    cert_req: Annotated[bool, asn1.Default(value=False)]
    extensions: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]


@asn1.sequence
class PkiStatusInfo:
    """RFC 3161, 2.4.2. Status 0 is granted, 1 granted with modifications, 2 rejected."""

    status: int
    status_string: list[str] | None
    fail_info: asn1.BitString | None


@asn1.sequence
class Accuracy:
    """RFC 3161, 2.4.2. Seconds, milliseconds 1 to 999, microseconds 1 to 999."""

    seconds: int | None
    millis: Annotated[int | None, asn1.Implicit(0)]
    micros: Annotated[int | None, asn1.Implicit(1)]


@asn1.sequence
class TstInfo:
    """RFC 3161, 2.4.2. The signed content of a timestamp token."""

    version: int
    policy: ObjectIdentifier
    message_imprint: MessageImprint
    serial_number: int
    # A GeneralizedTime. The codec's own type refuses more digits than a microsecond has.
    gen_time: asn1.TLV
    accuracy: Accuracy | None
    ordering: Annotated[bool, asn1.Default(value=False)]
    nonce: int | None
    # [0] EXPLICIT GeneralName: a constructed [0] that holds one element.
    tsa: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    extensions: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


# --- RFC 5652 ------------------------------------------------------------------------------


@asn1.sequence
class Attribute:
    """One signed or unsigned attribute."""

    type: ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class IssuerAndSerial:
    """Names a certificate by its issuer's name (DER) and its serial number."""

    issuer: asn1.TLV
    serial_number: int


@asn1.sequence
class SignerInfo:
    """RFC 5652, 5.3, with the signed attributes kept as they were received."""

    version: int
    sid: IssuerAndSerial | Annotated[bytes, asn1.Implicit(0)]
    digest_algorithm: AlgorithmIdentifier
    signed_attributes: asn1.TLV
    signature_algorithm: AlgorithmIdentifier
    signature: bytes
    unsigned_attributes: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class EncapsulatedContent:
    """RFC 5652, 5.2. The signature's digest is over the content octets, without their header."""

    content_type: ObjectIdentifier
    content: Annotated[bytes | None, asn1.Explicit(0)]


@asn1.sequence
class SignedData:
    """RFC 5652, 5.1."""

    version: int
    digest_algorithms: asn1.SetOf[AlgorithmIdentifier]
    content: EncapsulatedContent
    # A SET OF, declared as a sequence: under an implicit tag both look alike, and authorities
    # in the wild send it unsorted, which a strict SET OF refuses.
    certificates: Annotated[list[x509.Certificate] | None, asn1.Implicit(0)]
    crls: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    signer_infos: asn1.SetOf[SignerInfo]


@asn1.sequence
class TimeStampToken:
    """ContentInfo (RFC 5652, 3) whose content is SignedData."""

    content_type: ObjectIdentifier
    content: Annotated[SignedData, asn1.Explicit(0)]


@asn1.sequence
class TimeStampResp:
    """RFC 3161, 2.4.2. The token is present exactly when the status is 0 or 1."""

    status: PkiStatusInfo
    token: TimeStampToken | None


# --- RFC 5035 ------------------------------------------------------------------------------


@asn1.sequence
class IssuerSerial:
    """RFC 5035, 5. GeneralNames of the issuer, and the serial number."""

    issuer: list[asn1.TLV]
    serial_number: int


@asn1.sequence
class EssCertId:
    """RFC 2634, 5.4. SHA-1 of the certificate."""

    cert_hash: bytes
    issuer_serial: IssuerSerial | None


@asn1.sequence
class EssCertIdV2:
    """RFC 5035, 4. The hash algorithm is SHA-256 when absent."""

    hash_algorithm: AlgorithmIdentifier | None
    cert_hash: bytes
    issuer_serial: IssuerSerial | None


@asn1.sequence
class SigningCertificate:
    """RFC 2634, 5.4."""

    certs: list[EssCertId]
    policies: list[asn1.TLV] | None


@asn1.sequence
class SigningCertificateV2:
    """RFC 5035, 3."""

    certs: list[EssCertIdV2]
    policies: list[asn1.TLV] | None


# --- codec ---------------------------------------------------------------------------------


def decode(kind: type[T], raw: bytes) -> T:
    """Decode strict DER as *kind*.

    Args:
        kind: A class of this module, or a type the codec knows (``str``, ``bytes``, ...).
        raw: The whole encoding; nothing may follow it.

    Raises:
        ValueError: The bytes are not strict DER of that type.
    """
    return _decoded(kind, asn1.decode_der, kind, raw)


def decode_value(kind: type[T], value: asn1.TLV) -> T:
    """Decode a field of any type as *kind*, like decode()."""
    return _decoded(kind, value.parse, kind)


def _decoded(kind: type[T], codec: Callable[..., T], *args: object) -> T:
    try:
        return codec(*args)
    except ValueError:
        raise
    except Exception as exc:  # the codec is native code; whatever it raises is bad input
        msg = f"cannot decode {kind.__name__}: {exc!r}"
        raise ValueError(msg) from exc


def encode(value: object) -> bytes:
    """Return the DER encoding of a value of one of this module's classes."""
    return asn1.encode_der(value)


def tlv_of(value: object) -> asn1.TLV:
    """Return *value* as a field of any type, for attribute values and signed attributes.

    Args:
        value: One of this module's classes, or an ObjectIdentifier, ``bytes`` and the like.
    """
    return asn1.decode_der(asn1.TLV, asn1.encode_der(value))


def signed_attributes(attributes: list[Attribute]) -> tuple[asn1.TLV, bytes]:
    """Return the attributes as a SignerInfo holds them, and the bytes that its signature covers.

    RFC 5652, 5.4: they are sent under the tag [0] and signed under the tag SET OF.
    """
    wrapped = asn1.encode_der(_SignedAttributes(attributes=asn1.SetOf(attributes)))
    sent = asn1.decode_der(_AnyInSequence, wrapped).value
    return sent, signed_form(sent)


def signed_form(received: asn1.TLV) -> bytes:
    """Return the bytes that the signature covers, from the attributes as they were received.

    The received bytes are kept but for their tag: a re-encoding could differ from what the
    signer saw.
    """
    return bytes([TAG_SET]) + asn1.encode_der(received)[1:]


def parse_signed_attributes(received: asn1.TLV) -> list[Attribute]:
    """Return the attributes, in the order received.

    Raises:
        ValueError: They are not under the tag [0], or are not a set of attributes in DER.
    """
    wrapped = asn1.encode_der(_AnyInSequence(value=received))
    return decode(_SignedAttributes, wrapped).attributes.as_list()


@asn1.sequence
class _AnyInSequence:
    value: asn1.TLV


@asn1.sequence
class _SignedAttributes:
    attributes: Annotated[asn1.SetOf[Attribute], asn1.Implicit(0)]

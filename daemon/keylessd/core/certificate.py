"""The signing certificate alone: its form, its profile, and whom it names. Trusts no issuer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from keylessd.core import asn1
from keylessd.core.keys import PublicKey, key_in
from keylessd.core.remembered import Remembered
from keylessd.errors import InvalidInputError, VerificationError

MAX_CERTIFICATE_BYTES = 64 << 10  # Fulcio's have 1 to 3 KiB
_PARSED_CERTIFICATES = 256  # kept parsed; each holds a few KiB

_ARC = "1.3.6.1.4.1.57264.1"
_OIDS = {
    # Raw UTF-8, without a DER header.
    "github_workflow_trigger": 2,
    "github_workflow_sha": 3,
    "github_workflow_name": 4,
    "github_workflow_repository": 5,
    "github_workflow_ref": 6,
    # DER UTF8String.
    "issuer": 8,
    "build_signer_uri": 9,
    "build_signer_digest": 10,
    "runner_environment": 11,
    "source_repository_uri": 12,
    "source_repository_digest": 13,
    "source_repository_ref": 14,
    "source_repository_identifier": 15,
    "source_repository_owner_uri": 16,
    "source_repository_owner_identifier": 17,
    "build_config_uri": 18,
    "build_config_digest": 19,
    "build_trigger": 20,
    "run_invocation_uri": 21,
    "source_repository_visibility": 22,
    "deployment_environment": 23,
    "token_subject": 24,
}
EXTENSIONS: Mapping[str, x509.ObjectIdentifier] = MappingProxyType(
    {name: x509.ObjectIdentifier(f"{_ARC}.{number}") for name, number in _OIDS.items()}
)
DEPRECATED_ISSUER_OID = x509.ObjectIdentifier(f"{_ARC}.1")
_NAMES = {oid: name for name, oid in EXTENSIONS.items()} | {DEPRECATED_ISSUER_OID: "issuer"}
_LAST_RAW = 6  # numbers up to this one hold raw UTF-8
_RAW_OIDS = frozenset(
    [DEPRECATED_ISSUER_OID, *(EXTENSIONS[name] for name, nr in _OIDS.items() if nr <= _LAST_RAW)]
)

IdentityKind = Literal["email", "uri", "othername"]
E = TypeVar("E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Signer:
    """Whom a certificate names. True only if the certificate was verified.

    Attributes:
        identity: The one subject alternative name, as text.
        kind: What it is: ``"email"``, ``"uri"`` or ``"othername"``.
        issuer: The OIDC issuer that vouched for it.
        extensions: Values by the names of `EXTENSIONS`; those the certificate has, no others.
    """

    identity: str
    kind: IdentityKind
    issuer: str
    extensions: Mapping[str, str]


@lru_cache(maxsize=_PARSED_CERTIFICATES)
def parse_leaf(der: bytes) -> x509.Certificate:
    """Return a signing certificate whose extensions and key are known to parse.

    Args:
        der: X.509 version 3, DER.

    Raises:
        VerificationError: ``certificate-format``, or ``certificate-key`` if its key is of a kind
            or size that is not supported.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise VerificationError(
            "certificate-format",
            f"certificate of {len(der)} bytes; the limit is {MAX_CERTIFICATE_BYTES}",
        )
    try:
        certificate = read_certificate(der)
    except ValueError as exc:
        raise VerificationError(
            "certificate-format", f"the certificate cannot be read: {str(exc)[:200]!r}"
        ) from exc
    if certificate.version is not x509.Version.v3 or len(certificate.extensions) == 0:
        raise VerificationError("certificate-format", "the certificate is not of X.509 version 3")
    key_of(certificate)
    return certificate


def check_outline(der: bytes) -> None:
    """Check that *der* has a certificate's form, whatever is in it: for one that is not used.

    Roots that stand in old bundles, though they should not, may be older than what is read here.

    Raises:
        VerificationError: ``certificate-format``.
    """
    try:
        asn1.decode(asn1.SignedOutline, der)
    except ValueError as exc:
        raise VerificationError(
            "certificate-format", "what stands beside the signer's certificate is none"
        ) from exc


@lru_cache(maxsize=_PARSED_CERTIFICATES)
def read_certificate(der: bytes) -> x509.Certificate:
    """Return the certificate that is the whole of *der*, all of which can be read but its key.

    Raises:
        ValueError: It is none, or its serial number is below 1 (RFC 5280, 4.1.2.2), whatever
            the interpreter does with the warning that the library has for that.
    """
    return _read(x509.load_der_x509_certificate, der)


def read_pem_certificate(pem: bytes) -> x509.Certificate:
    """Return the first certificate in *pem*, like `read_certificate`."""
    return _read(x509.load_pem_x509_certificate, pem)


def _read(load: Callable[[bytes], x509.Certificate], raw: bytes) -> x509.Certificate:
    try:
        certificate = load(raw)
        serial_number = certificate.serial_number
        # The parts that parse lazily, so that whoever asks for them later meets no error.
        _ = certificate.version, certificate.issuer, certificate.subject
        _ = validity_of(certificate), _extensions_of(certificate)
    except ValueError:
        raise
    except Exception as exc:  # whatever else the library raises or warns of, the bytes are bad
        raise ValueError(str(exc)) from exc
    if serial_number < 1:
        msg = "the certificate has no positive serial number"
        raise ValueError(msg)
    return certificate


def extension_of(certificate: x509.Certificate, kind: type[E]) -> x509.Extension[E] | None:
    """Return the certificate's extension of a kind, None if it has none.

    Args:
        certificate: One whose extensions are known to parse.
        kind: The extension's own class: what the library calls it, no class above that.
    """
    found: x509.Extension[E] | None = _extensions_of(certificate).get(kind)
    return found


def _by_kind(certificate: x509.Certificate) -> dict[type, x509.Extension[Any]]:
    # The library's own search asks an abstract class about each one, which is slow.
    found: dict[type, x509.Extension[Any]] = {}
    for extension in certificate.extensions:
        found.setdefault(type(extension.value), extension)
    return found


_extensions_of = Remembered(_by_kind, most=_PARSED_CERTIFICATES)


def _read_validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


# The first and the last second in which a certificate is valid, aware.
validity_of = Remembered(_read_validity, most=_PARSED_CERTIFICATES)


def key_of(certificate: x509.Certificate) -> PublicKey:
    """Return the certificate's public key.

    Raises:
        VerificationError: ``certificate-key``.
    """
    return _known_keys(certificate)


def _key_of(certificate: x509.Certificate) -> PublicKey:
    try:
        return key_in(certificate)
    except (InvalidInputError, ValueError, UnsupportedAlgorithm) as exc:
        raise VerificationError(
            "certificate-key", f"the certificate's key cannot be used: {str(exc)[:200]!r}"
        ) from exc


_known_keys = Remembered(_key_of, most=_PARSED_CERTIFICATES)


# --- profile -------------------------------------------------------------------------------


def check_leaf_profile(certificate: x509.Certificate) -> None:
    """Check that a certificate may sign artifacts, and is not an authority itself.

    Args:
        certificate: From `parse_leaf`.

    Raises:
        VerificationError: ``certificate-ca``, ``certificate-key-usage`` or
            ``certificate-extended-key-usage``.
    """
    check_not_authority(certificate)
    _check_digital_signature(certificate)
    _check_code_signing(certificate)


def check_not_authority(certificate: x509.Certificate) -> None:
    """Check that the basic constraints, if any, do not make the certificate an authority.

    Raises:
        VerificationError: ``certificate-ca``.
    """
    constraints = extension_of(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise VerificationError(
            "certificate-ca", "the signing certificate is a certificate authority's"
        )


def _check_digital_signature(certificate: x509.Certificate) -> None:
    usage = extension_of(certificate, x509.KeyUsage)
    if usage is None or not usage.value.digital_signature:
        raise VerificationError(
            "certificate-key-usage", "the certificate's key usage is not for digital signatures"
        )


def _check_code_signing(certificate: x509.Certificate) -> None:
    usages = extension_of(certificate, x509.ExtendedKeyUsage)
    if usages is None or ExtendedKeyUsageOID.CODE_SIGNING not in usages.value:
        raise VerificationError(
            "certificate-extended-key-usage",
            "the certificate's extended key usage is not for code signing",
        )


# --- identity ------------------------------------------------------------------------------


def signer_of(certificate: x509.Certificate) -> Signer:
    """Return whom the certificate names, all of it decoded.

    Args:
        certificate: From `parse_leaf`.

    Raises:
        VerificationError: ``certificate-san`` unless there is exactly one name of a known kind,
            ``certificate-extension`` if one of Fulcio's extensions is not text in its encoding,
            ``certificate-issuer`` if the issuer is missing, empty, or stated twice differently.
    """
    return _known_signers(certificate)


def _signer_of(certificate: x509.Certificate) -> Signer:
    identity, kind = _identity_of(certificate)
    values: dict[str, str] = {}
    for extension in certificate.extensions:
        name = _NAMES.get(extension.oid)
        if name is None or not isinstance(extension.value, x509.UnrecognizedExtension):
            continue
        text = _text_of(extension.oid, extension.value.value)
        if values.setdefault(name, text) != text:
            raise VerificationError(
                "certificate-issuer",
                f"the certificate names two issuers, {values[name][:500]!r} and {text[:500]!r}",
            )
    issuer = values.get("issuer", "")
    if not issuer:
        raise VerificationError("certificate-issuer", "the certificate names no OIDC issuer")
    return Signer(identity, kind, issuer, MappingProxyType(values))


_known_signers = Remembered(_signer_of, most=_PARSED_CERTIFICATES)


def _identity_of(certificate: x509.Certificate) -> tuple[str, IdentityKind]:
    extension = extension_of(certificate, x509.SubjectAlternativeName)
    names = [] if extension is None else list(extension.value)
    if len(names) != 1:
        raise VerificationError(
            "certificate-san",
            f"the certificate has {len(names)} subject alternative names; exactly 1 is allowed",
            found=str(len(names)),
            wanted="1",
        )
    name = names[0]
    kind: IdentityKind
    if isinstance(name, x509.RFC822Name):
        identity, kind = name.value, "email"
    elif isinstance(name, x509.UniformResourceIdentifier):
        identity, kind = name.value, "uri"
    elif isinstance(name, x509.OtherName) and name.type_id == asn1.OID_OTHER_NAME:
        identity, kind = _other_name(name.value), "othername"
    else:
        raise VerificationError(
            "certificate-san",
            f"a subject alternative name of the kind {type(name).__name__} names no signer",
        )
    if not identity:
        raise VerificationError("certificate-san", "the subject alternative name is empty")
    return identity, kind


def _other_name(value: bytes) -> str:
    try:
        return asn1.decode(str, value)
    except ValueError as exc:
        raise VerificationError(
            "certificate-san", "the subject alternative name is not a DER UTF8String"
        ) from exc


def _text_of(oid: x509.ObjectIdentifier, value: bytes) -> str:
    try:
        return value.decode() if oid in _RAW_OIDS else asn1.decode(str, value)
    except ValueError as exc:  # UnicodeDecodeError among them
        encoding = "UTF-8" if oid in _RAW_OIDS else "a DER UTF8String"
        raise VerificationError(
            "certificate-extension",
            f"the certificate's extension {oid.dotted_string} is not {encoding}",
        ) from exc

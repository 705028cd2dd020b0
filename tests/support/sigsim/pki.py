"""Mints certificates with any fault a test wants: authorities, signing leaves, CT promises."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keylessd.core import asn1
from keylessd.core.keys import key_details, spki
from keylessd.core.sct import (
    HASH_SHA256,
    SIGNATURE_ECDSA,
    SIGNATURE_RSA,
    SignedCertificateTimestamp,
    sct_list_extension,
    sct_signed_data,
)
from keylessd.core.trusted_root import Authority, TimeRange, TransparencyLog

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)  # when the leaves begin
LIFETIME = timedelta(minutes=10)
YEAR = timedelta(days=365)
ALWAYS = TimeRange(START - 10 * YEAR, None)
FULCIO = "1.3.6.1.4.1.57264.1"
CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING
TIME_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Extension = tuple[x509.ExtensionType, bool]


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def with_negative_serial(certificate: bytes) -> bytes:
    """Return the certificate (DER) with another serial number, which its signature does not fit."""
    # It is the first INTEGER after the version; its sign bit is set.
    start = certificate.index(bytes.fromhex("a003020102 02")) + 7
    return certificate[:start] + bytes([certificate[start] | 0x80]) + certificate[start + 1 :]


def key_usage(*granted: str) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: name in granted for name in names.split()})


@dataclass(frozen=True)
class Ca:
    """An authority: its certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey


def mint_ca(
    name: str,
    *,
    parent: Ca | None = None,
    key: PrivateKey | None = None,
    start: datetime = START - YEAR,
    end: datetime = START + YEAR,
    usages: Sequence[x509.ObjectIdentifier] | None = None,
    is_ca: bool = True,
    cert_sign: bool | None = True,
    path_length: int | None = None,
    critical: bool = True,
    issuer_key: x509.AuthorityKeyIdentifier | None = None,
    others: Sequence[Extension] = (),
) -> Ca:
    """Make an authority, self-signed or below *parent*; *cert_sign* None: without key usage."""
    key = key or ec_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = parent.key if parent else key
    extensions: list[Extension] = [
        (x509.BasicConstraints(ca=is_ca, path_length=path_length), critical),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]
    if cert_sign is not None:
        extensions.append((key_usage("key_cert_sign" if cert_sign else "digital_signature"), True))
    if issuer_key is not None:
        extensions.append((issuer_key, False))
    elif parent:
        extensions.append(_authority_key_identifier(parent))
    if usages is not None:
        extensions.append((x509.ExtendedKeyUsage(usages), False))
    extensions.extend(others)
    builder = certificate_builder(
        (subject, parent.certificate.subject if parent else subject), key, start, end, extensions
    )
    return Ca(signed(builder, signer), key)


# --- leaves --------------------------------------------------------------------------------


@dataclass(frozen=True)
class CtLog:
    """A certificate transparency log's key."""

    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    base_url: str = "https://ct.example"
    operator: str = ""

    def trusted(self, valid_for: TimeRange = ALWAYS) -> TransparencyLog:
        public = self.key.public_key()
        return TransparencyLog(
            base_url=self.base_url,
            name=self.base_url.removeprefix("https://"),
            key=public,
            key_details=key_details(public),
            valid_for=valid_for,
            log_id=hashlib.sha256(spki(public)).digest(),
            checkpoint_key_id=None,
            operator=self.operator,
        )

    def promise(
        self, tbs: bytes, issuer: x509.Certificate, *, at: datetime, extensions: bytes = b""
    ) -> SignedCertificateTimestamp:
        issuer_key = issuer.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        timestamp_ms = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        data = sct_signed_data(
            timestamp_ms,
            issuer_key_hash=hashlib.sha256(issuer_key).digest(),
            tbs_certificate=tbs,
            extensions=extensions,
        )
        if isinstance(self.key, rsa.RSAPrivateKey):
            algorithm = SIGNATURE_RSA
            signature = self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        else:
            algorithm = SIGNATURE_ECDSA
            signature = self.key.sign(data, ec.ECDSA(hashes.SHA256()))
        return SignedCertificateTimestamp(
            log_id=hashlib.sha256(spki(self.key.public_key())).digest(),
            timestamp_ms=timestamp_ms,
            extensions=extensions,
            hash_algorithm=HASH_SHA256,
            signature_algorithm=algorithm,
            signature=signature,
        )


def utf8(text: str) -> bytes:
    """DER UTF8String."""
    return asn1.encode(text)


@dataclass(frozen=True)
class Leaf:
    """What a signing certificate shall say; every default is right.

    Attributes:
        extensions: Number below Fulcio's arc, and the raw value.
        key_usages: Names of the bits, None for no extension.
        usages: Extended key usages, None for no extension.
        ca: Basic constraints, None for no extension.
        sct_extensions: The extensions field of the SCT.
        issuer_key: Whether it names the issuer's key.
    """

    names: tuple[x509.GeneralName, ...] = (x509.RFC822Name("signer@example.com"),)
    extensions: tuple[tuple[int, bytes], ...] = ((8, utf8("https://issuer.example")),)
    start: datetime = START
    end: datetime = START + LIFETIME
    key_usages: tuple[str, ...] | None = ("digital_signature",)
    usages: tuple[x509.ObjectIdentifier, ...] | None = (CODE_SIGNING,)
    ca: bool | None = None
    sct_time: datetime = START
    sct_extensions: bytes = b""
    issuer_key: bool = True
    others: tuple[Extension, ...] = field(default=())


def mint_leaf(
    key: PrivateKey,
    ca: Ca,
    ctlogs: Sequence[CtLog] = (),
    leaf: Leaf | None = None,
    *,
    sct_issuer: x509.Certificate | None = None,
    scts: Sequence[SignedCertificateTimestamp] | None = None,
) -> x509.Certificate:
    """Make a signing certificate.

    Args:
        key: The signer's.
        ca: Who issues.
        ctlogs: Who promises; empty for a certificate without SCTs.
        leaf: What it says.
        sct_issuer: Whose key the promises name, if not the issuer's.
        scts: What to embed in place of what the logs promise.
    """
    leaf = leaf or Leaf()
    extensions: list[Extension] = list(leaf.others)
    if leaf.names:
        extensions.append((x509.SubjectAlternativeName(leaf.names), True))
    if leaf.key_usages is not None:
        extensions.append((key_usage(*leaf.key_usages), True))
    if leaf.usages is not None:
        extensions.append((x509.ExtendedKeyUsage(leaf.usages), False))
    if leaf.ca is not None:
        extensions.append((x509.BasicConstraints(ca=leaf.ca, path_length=None), True))
    if leaf.issuer_key:
        extensions.append(_authority_key_identifier(ca))
    for number, raw in leaf.extensions:
        oid = x509.ObjectIdentifier(f"{FULCIO}.{number}")
        extensions.append((x509.UnrecognizedExtension(oid, raw), False))
    issuer = ca.certificate.subject
    builder = certificate_builder((x509.Name([]), issuer), key, leaf.start, leaf.end, extensions)
    if scts is None:
        tbs = signed(builder, ca.key).tbs_certificate_bytes
        scts = [
            log.promise(
                tbs,
                sct_issuer or ca.certificate,
                at=leaf.sct_time,
                extensions=leaf.sct_extensions,
            )
            for log in ctlogs
        ]
    if scts:
        builder = builder.add_extension(sct_list_extension(scts), critical=False)
    return signed(builder, ca.key)


def authority(
    *chain: Ca, valid_for: TimeRange = ALWAYS, uri: str = "https://ca.example", operator: str = ""
) -> Authority:
    """An entry of the trust root, from leaf-most to anchor."""
    return Authority(
        uri=uri,
        organization="",
        common_name="",
        chain=tuple(ca.certificate for ca in chain),
        valid_for=valid_for,
        operator=operator,
    )


def _authority_key_identifier(ca: Ca) -> Extension:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False


def signed(builder: x509.CertificateBuilder, key: PrivateKey) -> x509.Certificate:
    """Return the certificate, signed by any kind of key."""
    is_ed25519 = isinstance(key, ed25519.Ed25519PrivateKey)
    return builder.sign(key, None if is_ed25519 else hashes.SHA256())


def certificate_builder(
    names: tuple[x509.Name, x509.Name],
    key: PrivateKey,
    start: datetime,
    end: datetime,
    extensions: Sequence[Extension],
) -> x509.CertificateBuilder:
    """Return a certificate for signing; *names* are subject and issuer."""
    subject, issuer = names
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder

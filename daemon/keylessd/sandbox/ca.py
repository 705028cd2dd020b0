"""The certificate authority of the sandbox: short-lived code signing certificates. No HTTP.

The profile is that of Fulcio: ten minutes, an empty subject, one critical alternative name, the
identity's facts as extensions, and an embedded promise of the CT log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keylessd.sandbox.ctlog import CtLog, SignedCertificateTimestamp, sct_list_extension
from keylessd.sandbox.vault import Vault, ecdsa_key

if TYPE_CHECKING:
    from keylessd.clock import Clock

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

ORGANIZATION = "keyless sandbox"
LEAF_LIFETIME = timedelta(minutes=10)
AUTHORITY_LIFETIME = timedelta(days=3650)
# Authorities are valid a little before they are made, so that a slow clock does no harm.
BACKDATING = timedelta(hours=1)

FULCIO_ARC = "1.3.6.1.4.1.57264.1"
OID_OTHER_NAME = x509.ObjectIdentifier(f"{FULCIO_ARC}.7")
# Extensions 1 to 6 hold bare UTF-8 text, the later ones a DER UTF8String.
LAST_BARE_EXTENSION = 6

CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
RSA_SIZES = frozenset({2048, 3072, 4096})
RSA_EXPONENT = 65537

_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a certificate names.

    Attributes:
        name: What a proof of possession signs.
        san: The one alternative name.
        extensions: Last arc below 1.3.6.1.4.1.57264.1 -> text, for example 8 -> the issuer.
    """

    name: str
    san: x509.GeneralName
    extensions: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its chain, leaf first and anchor last.

    Attributes:
        detached_sct: The promise for the leaf; None if it is embedded or there is no log.
    """

    chain: tuple[x509.Certificate, ...]
    detached_sct: SignedCertificateTimestamp | None = None


class InsecureKeyError(ValueError):
    """The public key is of a kind or size that is never certified."""


def check_key(key: object) -> PublicKey:
    """Return *key* if it may be certified.

    Raises:
        InsecureKeyError: It is not ECDSA on P-256, P-384 or P-521, RSA of 2048, 3072 or 4096
            bits with exponent 65537, or Ed25519.
    """
    match key:
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, CURVES):
            return key
        case rsa.RSAPublicKey() if key.key_size in RSA_SIZES:
            if key.public_numbers().e == RSA_EXPONENT:
                return key
        case ed25519.Ed25519PublicKey():
            return key
        case _:
            pass
    raise InsecureKeyError(f"a key of type {type(key).__name__} is not certified")


def other_name(text: str) -> x509.OtherName:
    """Return the alternative name that Fulcio uses for user names, ``name!domain``."""
    return x509.OtherName(OID_OTHER_NAME, asn1.encode_der(text))


def key_usage(*granted: str) -> x509.KeyUsage:
    """Return a KeyUsage with exactly these bits set."""
    return x509.KeyUsage(**{usage: usage in granted for usage in _KEY_USAGES})


def spki_sha256(key: PublicKey) -> bytes:
    """Return the SHA-256 of the key's SubjectPublicKeyInfo."""
    return hashlib.sha256(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    ).digest()


def _distinguished_name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def make_authority(
    common_name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    not_before: datetime,
    not_after: datetime,
) -> x509.Certificate:
    """Make a CA certificate: self-signed with path length 1, or below *issuer* with 0."""
    name = _distinguished_name(common_name)
    issuer_name = name if issuer is None else issuer[0].subject
    signing_key = key if issuer is None else issuer[1]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(
            x509.BasicConstraints(ca=True, path_length=1 if issuer is None else 0), critical=True
        )
        .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
        ).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
    return builder.sign(signing_key, hashes.SHA256())


# --- DER surgery for precertificates -------------------------------------------------------

# Extension { 1.3.6.1.4.1.11129.2.4.3, critical TRUE, OCTET STRING { NULL } }
POISON = bytes.fromhex("3013060a2b06010401d6790204030101ff04020500")


def _read_length(der: bytes, at: int) -> tuple[int, int]:
    """Return (length, offset of the content) of the DER element whose tag is at *at*."""
    first = der[at + 1]
    if first < 0x80:  # noqa: PLR2004  # short form
        return first, at + 2
    octets = first & 0x7F
    return int.from_bytes(der[at + 2 : at + 2 + octets], "big"), at + 2 + octets


def _element(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:  # noqa: PLR2004  # short form
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def without_poison(tbs: bytes) -> bytes:
    """Return the TBSCertificate *tbs* without its last extension, which must be the poison.

    RFC 6962, 3.2: the log signs the precertificate's TBS with the poison removed.

    Raises:
        ValueError: The TBS does not end with the poison extension.
    """
    if not tbs.endswith(POISON):
        raise ValueError("the poison is not the last extension")
    _, at = _read_length(tbs, 0)
    start = at
    while tbs[at] != 0xA3:  # noqa: PLR2004  # [3] EXPLICIT Extensions, the last field
        length, content = _read_length(tbs, at)
        at = content + length
    _, wrapper = _read_length(tbs, at)
    _, first_extension = _read_length(tbs, wrapper)
    extensions = _element(0x30, tbs[first_extension : -len(POISON)])
    return _element(0x30, tbs[start:at] + _element(0xA3, extensions))


class CertificateAuthority:
    """Issues code signing certificates below an intermediate of its own.

    Args:
        chain: Intermediate and root.
        key: The intermediate's key.
        log: Where certificates are logged, or None for an authority without a CT log.
        clock: Gives ``notBefore`` (in whole seconds).
        lifetime: How long a leaf is valid.
        detached: Return SCTs beside the certificate instead of in it.
    """

    def __init__(
        self,
        chain: tuple[x509.Certificate, x509.Certificate],
        key: ec.EllipticCurvePrivateKey,
        *,
        log: CtLog | None,
        clock: Clock,
        lifetime: timedelta = LEAF_LIFETIME,
        detached: bool = False,
    ) -> None:
        self.chain = chain
        self.log = log
        self.lifetime = lifetime
        self.detached = detached
        self.issued = 0
        self._key = key
        self._clock = clock
        self._key_hash = spki_sha256(key.public_key())
        self._key_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())

    @classmethod
    def open(
        cls,
        vault: Vault,
        *,
        log: CtLog | None,
        clock: Clock,
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> CertificateAuthority:
        """Load the authority from *vault*; the first time make its keys and certificates."""
        key = ecdsa_key(vault, "fulcio")
        raw = vault.load("fulcio-chain.pem")
        if raw is None:
            root_key = ecdsa_key(vault, "fulcio-root")
            now = clock.now().replace(microsecond=0)
            start, end = now - BACKDATING, now + AUTHORITY_LIFETIME
            root = make_authority(
                "sandbox root", root_key, issuer=None, not_before=start, not_after=end
            )
            middle = make_authority(
                "sandbox intermediate",
                key,
                issuer=(root, root_key),
                not_before=start,
                not_after=end,
            )
            encoding = serialization.Encoding.PEM
            raw = middle.public_bytes(encoding) + root.public_bytes(encoding)
            vault.save("fulcio-chain.pem", raw)
        middle, root = x509.load_pem_x509_certificates(raw)
        return cls((middle, root), key, log=log, clock=clock, lifetime=lifetime)

    def issue(self, principal: Principal, key: PublicKey) -> Issued:
        """Certify *key* for *principal*, and log the certificate.

        Raises:
            InsecureKeyError: See check_key().
        """
        builder = self._builder(principal, check_key(key))
        if self.log is None or self.detached:
            leaf = builder.sign(self._key, hashes.SHA256())
            sct = None
            if self.log is not None:
                der = leaf.public_bytes(serialization.Encoding.DER)
                sct = self.log.add_certificate(der)
            self.issued += 1
            return Issued((leaf, *self.chain), sct)
        precertificate = builder.add_extension(x509.PrecertPoison(), critical=True).sign(
            self._key, hashes.SHA256()
        )
        promise = self.log.add_precertificate(
            without_poison(precertificate.tbs_certificate_bytes),
            issuer_key_hash=self._key_hash,
            precertificate=precertificate.public_bytes(serialization.Encoding.DER),
        )
        leaf = builder.add_extension(
            sct_list_extension([promise.serialized()]), critical=False
        ).sign(self._key, hashes.SHA256())
        self.issued += 1
        return Issued((leaf, *self.chain))

    def _builder(self, principal: Principal, key: PublicKey) -> x509.CertificateBuilder:
        now = self._clock.now().replace(microsecond=0)
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (key_usage("digital_signature"), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (self._key_identifier, False),
            (x509.SubjectAlternativeName([principal.san]), True),
        ]
        for arc, text in sorted(principal.extensions.items()):
            value = text.encode() if arc <= LAST_BARE_EXTENSION else asn1.encode_der(text)
            oid = x509.ObjectIdentifier(f"{FULCIO_ARC}.{arc}")
            extensions.append((x509.UnrecognizedExtension(oid, value), False))
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.chain[0].subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + self.lifetime)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder

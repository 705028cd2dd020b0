"""Keys and certificates for the real services, in the file formats that each of them takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keylessd.clock import SystemClock

CA_PASSWORD = "the-ca-of-the-tests"
TSA_PASSWORD = "the-tsa-of-the-tests"
LIFETIME = timedelta(days=30)
# So that neither a clock that is a little off nor a certificate of this second is refused.
BACKDATING = timedelta(minutes=10)

_PEM = serialization.Encoding.PEM
_PKCS8 = serialization.PrivateFormat.PKCS8
_SEC1 = serialization.PrivateFormat.TraditionalOpenSSL
_NONE = serialization.NoEncryption()

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Keys:
    """Where the keys lie, and what is public of them."""

    folder: Path
    start: datetime
    ca: x509.Certificate
    tsa_chain: tuple[x509.Certificate, ...]
    public: dict[str, PublicKey]


def make_keys(folder: Path) -> Keys:
    """Make everything that is signed with, new, as files in *folder*.

    ``ca.pem`` and ``ca.key`` (encrypted PKCS#8) for Fulcio; ``ct.key`` (SEC1) and ``ct.pub``;
    ``rekor1.key`` and three ``rekor2-*.key`` (PKCS#8), the first of them Ed25519 as the public
    log's is; ``tsa.pem`` (leaf, intermediate, root) and ``tsa.key``.
    """
    folder.mkdir(mode=0o700)
    start = SystemClock().now().astimezone(UTC).replace(microsecond=0) - BACKDATING
    ca_key = ec.generate_private_key(ec.SECP384R1())
    ca = _authority("keyless tests CA", ca_key, None, start, path_length=1)
    (folder / "ca.pem").write_bytes(ca.public_bytes(_PEM))
    (folder / "ca.key").write_bytes(_encrypted(ca_key, CA_PASSWORD))

    public: dict[str, PublicKey] = {}
    made: dict[str, PrivateKey] = {
        "ct": ec.generate_private_key(ec.SECP256R1()),
        "rekor1": ec.generate_private_key(ec.SECP256R1()),
        "rekor2-a": ed25519.Ed25519PrivateKey.generate(),
        "rekor2-b": ec.generate_private_key(ec.SECP256R1()),
        "rekor2-new": ed25519.Ed25519PrivateKey.generate(),
    }
    for name, key in made.items():
        form = _SEC1 if name == "ct" else _PKCS8
        (folder / f"{name}.key").write_bytes(key.private_bytes(_PEM, form, _NONE))
        public[name] = key.public_key()
        spki = key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(spki)
    return Keys(folder, start, ca, _timestamp_chain(folder, start), public)


def _timestamp_chain(folder: Path, start: datetime) -> tuple[x509.Certificate, ...]:
    root_key, middle_key, leaf_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
    root = _authority("keyless tests TSA root", root_key, None, start, path_length=1)
    # sigstore-go wants the extended usage on the intermediate as well.
    middle = _authority(
        "keyless tests TSA intermediate",
        middle_key,
        (root, root_key),
        start,
        path_length=0,
        stamping=True,
    )
    usage = _usage(digital_signature=True)
    leaf = (
        _builder("keyless tests TSA", leaf_key.public_key(), middle.subject, start)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(leaf_key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(middle_key.public_key()), False
        )
        .sign(middle_key, hashes.SHA384())
    )
    chain = (leaf, middle, root)
    (folder / "tsa.pem").write_bytes(b"".join(one.public_bytes(_PEM) for one in chain))
    (folder / "tsa.key").write_bytes(_encrypted(leaf_key, TSA_PASSWORD))
    return chain


def _encrypted(key: PrivateKey, password: str) -> bytes:
    encryption = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(_PEM, _PKCS8, encryption)


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name | None, start: datetime
) -> x509.CertificateBuilder:
    subject = _name(name)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
    )


def _authority(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    start: datetime,
    *,
    path_length: int,
    stamping: bool = False,
) -> x509.Certificate:
    above = key if issuer is None else issuer[1]
    builder = (
        _builder(name, key.public_key(), issuer and issuer[0].subject, start)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), False
        )
    )
    if stamping:
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        builder = builder.add_extension(usages, critical=False)
    return builder.sign(above, hashes.SHA384())


def _usage(*, authority: bool = False, digital_signature: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "keyless.test"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )

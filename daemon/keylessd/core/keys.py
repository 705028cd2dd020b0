"""Public keys: reading, naming and verifying with them. Never touches a private key."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import PublicKeyAlgorithmOID

from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.ed25519ph import verify_prehashed
from keylessd.core.remembered import Remembered
from keylessd.errors import InvalidInputError

if TYPE_CHECKING:
    from cryptography import x509

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

MAX_KEY_BYTES = 64 << 10  # bytes; an RSA-16384 key in PEM is under 4 KiB
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384  # larger moduli only serve to burn time

_CURVE_HASHES = {
    "secp256r1": HashAlgorithm.SHA256,
    "secp384r1": HashAlgorithm.SHA384,
    "secp521r1": HashAlgorithm.SHA512,
}
_CURVE_DETAILS = {
    "secp256r1": "PKIX_ECDSA_P256_SHA_256",
    "secp384r1": "PKIX_ECDSA_P384_SHA_384",
    "secp521r1": "PKIX_ECDSA_P521_SHA_512",
}
_PREHASHED = {algorithm: Prehashed(algorithm.hash()) for algorithm in HashAlgorithm}
_ECDSA = {algorithm: ec.ECDSA(prehashed) for algorithm, prehashed in _PREHASHED.items()}
_RSASSA_PSS = bytes.fromhex("06092a864886f70d01010a")  # 1.2.840.113549.1.1.10 in DER
_ALGORITHM_END = 32  # bytes, within which it ends
# No log takes such a signature: to both kinds, an RSA key signs by PKCS#1 v1.5.
NO_PSS = "RSASSA-PSS is not supported; RSA keys sign by PKCS#1 v1.5 here"
_NAMED_RSA_BITS = frozenset({2048, 3072, 4096})


class BadSignatureError(ValueError):
    """The signature was not made by this key over this message."""

    def __init__(self, message: str = "the signature does not verify with the key") -> None:
        super().__init__(message)


def load_public_key(raw: bytes) -> PublicKey:
    """Return the public key in *raw*.

    Args:
        raw: PEM, or DER, of a SubjectPublicKeyInfo or of a PKCS#1 RSAPublicKey.

    Raises:
        InvalidInputError: It is none of these, or of a kind that Sigstore signatures do not
            use here: ECDSA on P-256, P-384, P-521, RSA of 2048 bits and more, Ed25519.
    """
    if len(raw) > MAX_KEY_BYTES:
        raise InvalidInputError(f"public key of {len(raw)} bytes; the limit is {MAX_KEY_BYTES}")
    try:
        if raw.lstrip().startswith(b"-----BEGIN"):
            key = serialization.load_pem_public_key(raw)
            is_for_pss = _is_for_pss(_der_of(raw))
        else:
            key = serialization.load_der_public_key(raw)
            is_for_pss = _is_for_pss(raw)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise InvalidInputError("the public key is not PEM or DER of a known kind") from exc
    if is_for_pss:
        raise InvalidInputError(NO_PSS)
    return supported_key(key)


def key_in(certificate: x509.Certificate) -> PublicKey:
    """Return the key of a certificate.

    Raises:
        InvalidInputError: Its kind, curve or size is not supported.
        ValueError: It is malformed.
        UnsupportedAlgorithm: Nobody here knows its kind.
    """
    if certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS:
        raise InvalidInputError(NO_PSS)
    return supported_key(certificate.public_key())


def _is_for_pss(der: bytes) -> bool:
    """Return whether a key that could be read says that it signs by RSASSA-PSS alone.

    The cryptography package reads such a key as any other RSA key, and RFC 4055, 1.2 forbids to
    take it for one.
    """
    # The algorithm stands before all else in a SubjectPublicKeyInfo, behind two headers.
    return _RSASSA_PSS in der[:_ALGORITHM_END]


def _der_of(pem: bytes) -> bytes:
    """Return what stands in the first block of *pem*, which could be read."""
    return b64decode(pem.split(b"-----")[2])


def supported_key(key: object) -> PublicKey:
    """Return *key* itself if it is of a kind this package verifies with.

    Args:
        key: A public key object of the cryptography package, for example a certificate's.

    Raises:
        InvalidInputError: The kind, curve or size is not supported.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in _CURVE_HASHES:
            return key
        raise InvalidInputError(f"public key on the unsupported curve {key.curve.name!r}")
    if isinstance(key, rsa.RSAPublicKey):
        if MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            return key
        raise InvalidInputError(
            f"RSA key of {key.key_size} bits; supported are {MIN_RSA_BITS} to {MAX_RSA_BITS}"
        )
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise InvalidInputError(f"public key of the unsupported kind {type(key).__name__}")


def spki(key: PublicKey) -> bytes:
    """Return the key as DER of its SubjectPublicKeyInfo."""
    return _encoded(key)


def _encode(key: PublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


# Keys of logs are encoded for every signature of theirs.
_encoded = Remembered(_encode, most=512)


def key_details(key: PublicKey) -> str:
    """Return the key's name in Sigstore's registry of algorithms (``PublicKeyDetails``).

    For Ed25519 that is the pure form, ``"PKIX_ED25519"``.

    Raises:
        InvalidInputError: The registry has no name for an RSA key of this size.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVE_DETAILS[key.curve.name]
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "PKIX_ED25519"
    if key.key_size not in _NAMED_RSA_BITS:
        raise InvalidInputError(
            f"RSA key of {key.key_size} bits; only {sorted(_NAMED_RSA_BITS)} have a name"
        )
    return f"PKIX_RSA_PKCS1V15_{key.key_size}_SHA256"


def signing_hash(key: PublicKey) -> HashAlgorithm | None:
    """Return the hash that the key signs with: the curve's own, SHA-256 for RSA.

    None means that the key signs the message itself (pure Ed25519).
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVE_HASHES[key.curve.name]
    if isinstance(key, rsa.RSAPublicKey):
        return HashAlgorithm.SHA256
    return None


def verify_message(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Verify *signature* over *message*, hashed as signing_hash() says.

    Args:
        key: The signer's key.
        signature: DER for ECDSA, else raw; RSA is PKCS#1 v1.5.
        message: The whole message.

    Raises:
        BadSignatureError: It does not verify.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        try:
            key.verify(signature, message)
        except (InvalidSignature, ValueError) as exc:
            raise BadSignatureError from exc
        return
    algorithm = signing_hash(key)
    assert algorithm is not None  # noqa: S101  # only Ed25519 has none
    verify_digest(key, signature, digest_of(algorithm, message))


def verify_digest(key: PublicKey, signature: bytes, digest: Digest) -> None:
    """Verify *signature* over a message of which only the digest is known.

    The digest's algorithm is used as it is, also where it is not the key's own, since some
    formats fix it: a checkpoint is always hashed with SHA-256.

    Raises:
        BadSignatureError: It does not verify; or it is of an Ed25519 key, which signs no digest but
            SHA-512 (Ed25519ph).
    """
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, digest.value, _ECDSA[digest.algorithm])
            return
        if isinstance(key, rsa.RSAPublicKey):
            prehashed = _PREHASHED[digest.algorithm]
            key.verify(signature, digest.value, padding.PKCS1v15(), prehashed)
            return
    except (InvalidSignature, UnsupportedAlgorithm) as exc:
        raise BadSignatureError from exc
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    if digest.algorithm is not HashAlgorithm.SHA512:
        raise BadSignatureError("Ed25519 signs messages, or SHA-512 digests")
    if not verify_prehashed(raw, signature, digest.value):
        raise BadSignatureError

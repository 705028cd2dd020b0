"""Certificate paths with Ed25519 authorities, which the library that builds paths refuses.

Fulcio may have such a key (RFC 8410). The path is given whole here, so what is left of RFC 5280,
6.1 is little; what is rare (constraints on names) is refused rather than half obeyed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtensionOID

from keylessd.core.certificate import extension_of

if TYPE_CHECKING:
    from collections.abc import Sequence

# Extensions that may be critical, since they are obeyed: here, in core.chain, or by whoever knows
# what the leaf is for.
_OBEYED_OF_AUTHORITIES = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.CERTIFICATE_POLICIES,  # any will do
    }
)
_HASHES = frozenset({"sha256", "sha384", "sha512"})  # none in an Ed25519 signature
_OBEYED_OF_LEAVES = _OBEYED_OF_AUTHORITIES | {ExtensionOID.SUBJECT_ALTERNATIVE_NAME}


def has_ed25519(issuers: Sequence[x509.Certificate]) -> bool:
    """Return whether one of the authorities signs with Ed25519."""
    return any(isinstance(issuer.public_key(), Ed25519PublicKey) for issuer in issuers)


def verify_ed25519_path(leaf: x509.Certificate, issuers: Sequence[x509.Certificate]) -> None:
    """Verify a path but for its times, and for what the certificates are for.

    Args:
        leaf: The end of the path; all of it can be read, as of the issuers.
        issuers: From the one that issued the leaf to the anchor.

    Raises:
        ValueError: It is none.
    """
    _check_critical(leaf, _OBEYED_OF_LEAVES)
    below = leaf
    intermediates = 0  # below the issuer; those that issued themselves do not count
    for issuer in issuers:
        _check_issued(below, issuer)
        _check_authority(issuer, intermediates)
        intermediates += issuer.subject != issuer.issuer
        below = issuer


def _check_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    hash_algorithm = certificate.signature_hash_algorithm
    if hash_algorithm is not None and hash_algorithm.name not in _HASHES:
        raise ValueError("a certificate's signature uses a hash other than SHA-2")
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError) as exc:
        raise ValueError("a certificate was not issued by the one above it") from exc


def _check_authority(certificate: x509.Certificate, intermediates: int) -> None:
    _check_critical(certificate, _OBEYED_OF_AUTHORITIES)
    if extension_of(certificate, x509.NameConstraints) is not None:
        raise ValueError("constraints on names are not supported beside Ed25519 authorities")
    constraints = extension_of(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.value.ca:
        raise ValueError("a certificate in the place of an authority's is none")
    length = constraints.value.path_length
    if length is not None and intermediates > length:
        raise ValueError("path length constraint violated")


def _check_critical(
    certificate: x509.Certificate, obeyed: frozenset[x509.ObjectIdentifier]
) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in obeyed:
            raise ValueError(
                f"the critical extension {extension.oid.dotted_string} is not supported"
            )

"""Finds the certificate of a timestamp's signer: the trust root's, or one that the token brings.

Finds only: core.timestamp judges whether that certificate made the timestamp and may do so.

The chain of a timestamp authority may begin with its signer's certificate. Then that one alone is
meant, and what a token carries is compared with it. It may also begin with the authority that
issues such certificates, as the signer's stands in each token that was requested with
certificates. Then every signer is good that this authority answers for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from keylessd.core import asn1
from keylessd.core.certificate import extension_of, read_certificate, validity_of
from keylessd.core.remembered import Remembered
from keylessd.core.timestamp_token import Token, malformed
from keylessd.errors import VerificationError

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.core.trusted_root import Authority

MAX_BROUGHT = 16  # certificates in a token; a signer's with its chain are two to four
MAX_LINKS = 32  # pairs of them of which one names the other as its issuer
_KEPT_AUTHORITIES = 64  # certificates of timestamp authorities, of which a trust root has a few

_Chain: TypeAlias = "tuple[x509.Certificate, ...]"
_Link: TypeAlias = Callable[[x509.Certificate, x509.Certificate], bool]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A certificate that the token names as its signer's.

    Attributes:
        authority: Who would answer for it.
        certificate: The signer's.
        brought: All certificates of the token; None if the trust root lists the signer's.
    """

    authority: Authority
    certificate: x509.Certificate
    brought: _Chain | None

    def issuers_at(self, time: datetime) -> _Chain:
        """Return the chain to verify the certificate against, the trust root's anchor last.

        Those certificates of the token that stand between are no more than a proposal. Of several
        of one name those are chosen that were valid and fit; if none do, any, to be refused.
        """
        if self.brought is None:
            return self.authority.issuers

        def has_issued(below: x509.Certificate, above: x509.Certificate) -> bool:
            return _is_signed_by(below, above) and _is_valid_authority(above, time)

        path = partial(_path_above, self.certificate, self.brought, self.authority.chain)
        return path(has_issued) or path(_names_issuer)


def candidates(token: Token, authorities: Sequence[Authority]) -> list[Candidate]:
    """Return the certificates that may be the signer's, those of the trust root first.

    Args:
        token: The timestamp.
        authorities: The trust root's timestamp authorities.

    Raises:
        VerificationError: ``timestamp-authority`` if no authority of the trust root is named, or
            it cannot be told; ``timestamp-format`` if the token has more certificates than are
            looked at, and they matter.
    """
    listed = [
        Candidate(authority, authority.chain[0], None)
        for authority in authorities
        if _lists_signer(authority) and _is_named(token.signer, authority.chain[0])
    ]
    others = [authority for authority in authorities if not _lists_signer(authority)]
    found = listed + _brought(token, others) if others else listed
    if found:
        return found
    if others and not token.data.certificates:
        raise VerificationError(
            "timestamp-authority",
            "the timestamp carries no certificate, and the trust root does not list the one of "
            f"its signer either, but only the authority above it: {others[0].uri!r}",
            hint="such timestamps have to be requested with certificates (certReq)",
        )
    raise VerificationError(
        "timestamp-authority", "the timestamp is of an authority that the trust root lacks"
    )


def wants_certificates(authorities: Sequence[Authority]) -> bool:
    """Return whether timestamps need their signer's certificate in them, for these authorities."""
    return not all(_lists_signer(authority) for authority in authorities)


def _lists_signer(authority: Authority) -> bool:
    constraints = extension_of(authority.chain[0], x509.BasicConstraints)
    return constraints is None or not constraints.value.ca


# --- what the token names ------------------------------------------------------------------


def _is_named(signer: asn1.SignerInfo, certificate: x509.Certificate) -> bool:
    if isinstance(signer.sid, asn1.IssuerAndSerial):
        return signer.sid.serial_number == certificate.serial_number and asn1.encode(
            signer.sid.issuer
        ) == _issuer_name(certificate)
    identifier = extension_of(certificate, x509.SubjectKeyIdentifier)
    return identifier is not None and identifier.value.digest == signer.sid


def _encode_issuer(certificate: x509.Certificate) -> bytes:
    return certificate.issuer.public_bytes()


_issuer_name = Remembered(_encode_issuer, most=_KEPT_AUTHORITIES)


# --- what the token brings -----------------------------------------------------------------


def _brought(token: Token, authorities: Sequence[Authority]) -> list[Candidate]:
    """Return the token's certificates of its signer, by each authority that they lead to.

    By their names alone: a certificate that leads elsewhere is of another authority, one that
    claims this authority and is not of it is refused later.
    """
    certificates = _readable(token.data.certificates or [])
    links = sum(
        below is not above and _names_issuer(below, above)
        for below in certificates
        for above in certificates
    )
    if links > MAX_LINKS:
        raise malformed(f"{links} certificates name another one of them as issuer")
    return [
        Candidate(authority, certificate, certificates)
        for authority in authorities
        for certificate in certificates
        if _is_named(token.signer, certificate)
        and _path_above(certificate, certificates, authority.chain, _names_issuer)
    ]


def _readable(embedded: Sequence[x509.Certificate]) -> _Chain:
    """Return the certificates that can be read, once each. What cannot be read is a stranger's."""
    if len(embedded) > MAX_BROUGHT:
        raise malformed(f"{len(embedded)} certificates; at most {MAX_BROUGHT} are looked at")
    found: dict[bytes, x509.Certificate] = {}
    for certificate in embedded:
        der = certificate.public_bytes(serialization.Encoding.DER)
        with suppress(ValueError):
            # The same object for the same bytes, by which core.chain knows it.
            found[der] = read_certificate(der)
    return tuple(found.values())


def _path_above(
    certificate: x509.Certificate, pool: _Chain, chain: _Chain, is_link: _Link
) -> _Chain:
    """Return what leads from a certificate to the last one of *chain*, through *pool* if need be.

    Each certificate of the pool is tried once: where it leads does not depend on what is below.
    Empty if nothing leads there.
    """
    left = list(pool)

    def climb(below: x509.Certificate) -> _Chain:
        for level, listed in enumerate(chain):
            if is_link(below, listed):
                # The same object if it is the whole chain, by which core.chain knows it.
                return chain[level:]
        for above in pool:
            if above in left and is_link(below, above):
                left.remove(above)
                rest = climb(above)
                if rest:
                    return (above, *rest)
        return ()

    return climb(certificate)


def _names_issuer(below: x509.Certificate, above: x509.Certificate) -> bool:
    return below.issuer == above.subject


def _is_valid_authority(certificate: x509.Certificate, time: datetime) -> bool:
    start, end = validity_of(certificate)
    constraints = extension_of(certificate, x509.BasicConstraints)
    return (
        constraints is not None
        and constraints.value.ca
        and start <= time.replace(microsecond=0) <= end
    )


def _is_signed_by(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True

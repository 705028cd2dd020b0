"""Certificate paths by the hybrid model: every certificate valid at the signing time.

Builds a path from a leaf to an anchor of the trust root and says for which times it holds. What
the leaf may be used for is judged by core.certificate and core.timestamp.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
)
from cryptography.x509.verification import VerificationError as PathError

from keylessd.core.certificate import extension_of, validity_of
from keylessd.core.ed25519_path import has_ed25519, verify_ed25519_path
from keylessd.core.remembered import Memory
from keylessd.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keylessd.core.trusted_root import Authority

_Chain: TypeAlias = "tuple[x509.Certificate, ...]"

_KEPT_AUTHORITIES = 64  # a trust root has a few
_KEPT_PATHS = 512  # verified paths of recent leaves; a daemon signs many artifacts with one leaf


def verify_chain(
    leaf: x509.Certificate, authorities: Sequence[Authority], at: datetime
) -> tuple[x509.Certificate, ...]:
    """Return the path from a signing certificate to an anchor that was valid at a time.

    RFC 5280, 6.1, and the hybrid model: the leaf, each intermediate and the anchor itself were
    all valid then, and the trust root held their authority for valid. Only intermediates of the
    trust root are used; those of a bundle never.

    Args:
        leaf: From `keylessd.core.certificate.parse_leaf`.
        authorities: The trust root's certificate authorities.
        at: A verified time. Certificates count in whole seconds, both ends included.

    Returns:
        Leaf first, anchor last.

    Raises:
        VerificationError: ``certificate-expired`` if the leaf itself was not valid then, else
            ``certificate-chain``.
    """
    check_valid_at(leaf, at, what="signing certificate", check="certificate-expired")
    in_use = [authority for authority in authorities if authority.valid_for.contains(at)]
    failure: VerificationError | None = None
    for authority in in_use:
        try:
            return verify_path(
                leaf,
                authority.chain,
                at,
                usage=ExtendedKeyUsageOID.CODE_SIGNING,
                check="certificate-chain",
            )
        except VerificationError as exc:
            failure = exc
    if failure is not None:
        raise failure
    raise VerificationError(
        "certificate-chain",
        f"no certificate authority of the trust root was in use at {at.isoformat()}",
    )


def check_valid_at(certificate: x509.Certificate, at: datetime, *, what: str, check: str) -> None:
    """Check that a time lies in a certificate's own validity, in whole seconds, ends included.

    Args:
        certificate: The certificate.
        at: Aware time; its fraction of a second is dropped, since certificates have none. A path
            is judged by the same rule.
        what: What the certificate is, for the message.
        check: Name of the check, for the error.

    Raises:
        VerificationError: Under the name *check*.
    """
    second = at.replace(microsecond=0)
    start, end = validity_of(certificate)
    if not start <= second <= end:
        raise VerificationError(
            check,
            f"the {what} {certificate.subject.rfc4514_string()[:200]!r} is valid from "
            f"{start.isoformat()} to {end.isoformat()}, not at {at.isoformat()}",
            found=at.isoformat(),
            wanted=f"{start.isoformat()} to {end.isoformat()}",
        )


def verify_path(
    leaf: x509.Certificate,
    chain: tuple[x509.Certificate, ...],
    at: datetime,
    *,
    usage: x509.ObjectIdentifier,
    check: str,
) -> tuple[x509.Certificate, ...]:
    """Return the path from *leaf* through *chain* to its last certificate, valid at a time.

    Args:
        leaf: The end of the path.
        chain: An authority's certificates, leaf-most first; the last one is the anchor.
        at: When all of them must have been valid.
        usage: What the intermediates must be for, if they are restricted at all.
        check: Name of the check, for the error.

    Raises:
        VerificationError: Under the name *check*.
    """
    try:
        path = _signed_path(leaf, chain, usage)
    except _BadPathError as exc:
        raise VerificationError(check, str(exc)) from exc
    for certificate in path:
        check_valid_at(certificate, at, what="path's certificate", check=check)
    return path


class _BadPathError(ValueError):
    """There is no time at which the path is good; the message says why."""


def _signed_path(
    leaf: x509.Certificate,
    chain: tuple[x509.Certificate, ...],
    usage: x509.ObjectIdentifier,
) -> tuple[x509.Certificate, ...]:
    """Return the path if all but its times is right. It is remembered, as it never changes.

    Time enters such a verification through the validity periods alone. So the path is verified
    at the first second that could lie in all of them, and the caller compares the periods.
    """
    key = (id(leaf), id(chain), usage)
    known = _PATHS.get(key)
    if known is not None:
        return known[1]
    try:
        upper = _upper_part(leaf.issuer, chain, usage)
        start = max(validity_of(leaf)[0], upper.start)
        if upper.verified:
            _verify(leaf, upper.lowest, start)
        else:
            _verify(leaf, upper.whole, start)
            upper.verified = upper.is_plain
    except _BadPathError:
        raise
    except PathError as exc:
        raise _BadPathError(f"the certificate's path is not valid: {str(exc)[:200]}") from exc
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.UnsupportedGeneralNameType,
        x509.DuplicateExtension,
    ) as exc:
        raise _BadPathError(f"the certificate's path cannot be built: {str(exc)[:200]}") from exc
    path = (leaf, *upper.whole.issuers)
    return _PATHS.put(key, (chain, path))[1]


# By the objects themselves: to look certificates up by their content takes longer than much of
# what is done with them. Each value holds on to its objects, so that no other can have their id.
_PATHS: Memory[tuple[int, int, x509.ObjectIdentifier], tuple[_Chain, _Chain]] = Memory(_KEPT_PATHS)
_UPPER_PARTS: Memory[tuple[int, int, x509.ObjectIdentifier], tuple[_Chain, _UpperPart]] = Memory(
    _KEPT_AUTHORITIES
)


class _Issuers:
    """What a path is verified against.

    Attributes:
        issuers: The certificates above the leaf, the anchor last.
        intermediates: Those of them that are no anchor.
        policy: What the library is to demand, None where it refuses the authorities' keys.
    """

    __slots__ = ("intermediates", "issuers", "policy")

    def __init__(self, issuers: tuple[x509.Certificate, ...]) -> None:
        self.issuers = issuers
        self.intermediates = list(issuers[:-1])
        self.policy = None if has_ed25519(issuers) else _policy(issuers)


class _UpperPart:
    """What is known of the part of paths above their leaf.

    Attributes:
        whole: All of it.
        lowest: The leaf's issuer alone, as if it were the anchor.
        start: The first second in which all of it is valid.
        is_plain: Whether nothing in it depends on what the leaf says: no constraints on names.
        verified: Whether a whole path with it was verified, and it is plain. Of another leaf
            below it, only the lowest step is left to verify.
    """

    __slots__ = ("is_plain", "lowest", "start", "verified", "whole")

    def __init__(self, issuers: tuple[x509.Certificate, ...]) -> None:
        self.whole = _Issuers(issuers)
        self.lowest = _Issuers(issuers[:1])
        self.start = max(validity_of(certificate)[0] for certificate in issuers)
        limits = [extension_of(certificate, x509.NameConstraints) for certificate in issuers]
        self.is_plain = not any(limits)
        self.verified = False


def _upper_part(
    name: x509.Name, chain: tuple[x509.Certificate, ...], usage: x509.ObjectIdentifier
) -> _UpperPart:
    """Return the part of the chain above a certificate that *name* issued.

    The issuer is looked up by name, as a chain may serve leaves of several levels.
    """
    level = next((n for n, issuer in enumerate(chain) if issuer.subject == name), None)
    if level is None:
        raise _BadPathError("the certificate was issued by another authority")
    key = (id(chain), level, usage)
    known = _UPPER_PARTS.get(key)
    if known is None:
        issuers = chain[level:]
        for authority in issuers:
            _check_authority_usage(authority, usage)
            _check_may_issue(authority, is_anchor=authority is issuers[-1])
        known = _UPPER_PARTS.put(key, (chain, _UpperPart(issuers)))
    return known[1]


def _verify(leaf: x509.Certificate, above: _Issuers, at: datetime) -> None:
    if above.policy is None:
        verify_ed25519_path(leaf, above.issuers)
        return
    time = at.astimezone(UTC).replace(tzinfo=None)
    verifier = above.policy.time(time).build_client_verifier()
    if verifier.verify(leaf, above.intermediates).chain != [leaf, *above.issuers]:
        raise _BadPathError("the certificate's path leaves the authority's chain")


def _policy(issuers: tuple[x509.Certificate, ...]) -> PolicyBuilder:
    # The anchor alone is in the store. An intermediate there would be an anchor itself, and the
    # validity of those above it would never be looked at.
    return (
        PolicyBuilder()
        .store(Store([issuers[-1]]))
        .max_chain_depth(len(issuers))
        .extension_policies(ca_policy=_authority_policy(), ee_policy=_leaf_policy())
    )


def _check_authority_usage(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> None:
    # The library's rules for this are for TLS and are switched off below.
    usages = extension_of(certificate, x509.ExtendedKeyUsage)
    if usages is None:
        return
    if usage not in usages.value and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages.value:
        raise _BadPathError("an authority's certificate is restricted to another key usage")


def _check_may_issue(certificate: x509.Certificate, *, is_anchor: bool) -> None:
    """RFC 5280, 6.1.4 (n); 4.2.1.3 demands the usage of authorities.

    Of an anchor, which is trusted by its key (6.1.1 (d)), only what it says counts: those that
    `openssl req -x509` makes say nothing.
    """
    usage = extension_of(certificate, x509.KeyUsage)
    if is_anchor if usage is None else usage.value.key_cert_sign:
        return
    raise _BadPathError("an authority's certificate is not for signing certificates")


@lru_cache(maxsize=1)
def _authority_policy() -> ExtensionPolicy:
    # RFC 5280, 4.2.1.9 tells authorities to mark the constraints as critical; 6.1.4 (k) does not
    # tell readers to demand it, and home-made authorities leave it out.
    return (
        ExtensionPolicy.webpki_defaults_ca()
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, None)
        # What they say, the library checks in any case.
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        # A hint for building paths, which may name the issuer's certificate in place of its key.
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.NON_CRITICAL, None)
        # RFC 5280, 6.1.1 (c) and (e): any policy will do, and none need be there.
        .may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
    )


@lru_cache(maxsize=1)
def _leaf_policy() -> ExtensionPolicy:
    # Client authentication, which the default demands, is not what these certificates are for;
    # their own usage is checked by those who know it. A TSA's certificate has no name either.
    return (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
        .may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
        # A hint for building paths; this one is given.
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
        .may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
    )

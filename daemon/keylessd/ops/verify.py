"""Verifying and showing bundles for clients: trust root and policy; small ones side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from keylessd.core.inspection import Inspection, inspect_bundle
from keylessd.core.legacy import NOTHING_DETACHED, Detached, read_bundle
from keylessd.core.managed_key import read_managed_key
from keylessd.core.remembered import Remembered
from keylessd.core.verify import (
    FORM_STEP,
    ManagedKey,
    Verified,
    VerifyOptions,
    verify_bundle,
)
from keylessd.errors import InvalidInputError, VerificationError
from keylessd.ops.verdicts import Verdicts, key_of, signature_size, size_of
from keylessd.policy.expect import AnySigner, ExpectedSigner

if TYPE_CHECKING:
    from keylessd.core.bundle import Bundle
    from keylessd.core.digests import Digest, HashAlgorithm
    from keylessd.core.trusted_root import TrustedRoot
    from keylessd.core.verify import SignerPolicy
    from keylessd.flow.threads import Threads
    from keylessd.flow.together import Together
    from keylessd.trust.material import TrustMaterial
    from keylessd.trust.where import Where

# Bytes of bundle for which the event loop may stand still: it takes a millisecond or two, and a few
# if it is made of as many entries as fit. To a thread of its own it costs more (decisions/0021).
SMALL_BUNDLE = 32 << 10
QUICK_CURVE = 256  # bits
_KEPT_ROOTS = 64


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What is to be proven.

    Attributes:
        bundle: Sigstore bundle, or cosign's JSON of old; None if the signature is detached.
        detached: Parts of the signature in files of their own.
        digests: The artifact's digests by algorithm; the bundle decides which one counts.
        where: Whose trust root.
        accepted: The accepted signers; one must match. Not with *key*.
        key: PEM (or DER) of a public key, for a bundle without certificate; or None.
        options: Thresholds.
        predicate_type: What the statement's predicate must be, or None.
    """

    bundle: bytes | None
    digests: Mapping[HashAlgorithm, Digest]
    where: Where
    accepted: tuple[ExpectedSigner, ...]
    key: bytes | None
    options: VerifyOptions
    predicate_type: str | None
    detached: Detached = NOTHING_DETACHED


class VerifyOps:
    """The operations on signatures that exist: verifying and showing them."""

    def __init__(
        self,
        *,
        material: Callable[[Where], Awaitable[TrustMaterial]],
        threads: Threads,
        together: Together,
    ) -> None:
        """Store the parts.

        Args:
            material: Returns the trust root of a request's choice.
            threads: Verifies large bundles, as many at once as there are processors.
            together: Verifies small ones of slow signatures that come at the same time.
        """
        self._material = material
        self._threads = threads
        self._together = together
        self._verdicts = Verdicts()

    async def verify(self, request: VerifyRequest) -> Verified:
        """Return what the bundle proves.

        Raises:
            VerificationError: the first check that failed.
            MissingDigestError: the artifact's digest is needed in another algorithm.
            InvalidInputError: the key cannot be read, or both or none of key and signers are
                given.
            DaemonError: there is no trust root.
        """
        if request.key is not None and request.accepted:
            raise InvalidInputError("a key and accepted signers exclude each other")
        if request.key is None and not request.accepted:
            raise InvalidInputError(
                "nobody is accepted as the signer",
                hint="say whose signature it must be: --certificate-identity and"
                " --certificate-oidc-issuer, or --key",
            )
        material = await self._material(request.where)
        key = key_of(request, material.trusted_root.sha256)
        known = self._verdicts.get(key)
        if known is not None:
            return known
        size = size_of(request)
        if size <= SMALL_BUNDLE and not _checks_slowly(material.trusted_root):
            verified = _verify(request, material)
        elif size <= SMALL_BUNDLE:
            verified = await self._together.run(_verify, request, material)
        else:
            # Pure computation, so a client that leaves need not wait for it.
            verified = await self._threads.run(
                "verify", _verify, request, material, abandon_on_cancel=True
            )
        self._verdicts.put(key, verified, size)
        return verified

    async def inspect(self, bundle: bytes | None, detached: Detached) -> Inspection:
        """Return what is in a bundle of any form. Nothing of it is verified."""
        if signature_size(bundle, detached) <= SMALL_BUNDLE:
            return inspect_bundle(bundle, detached)
        return await self._threads.run(
            "verify", inspect_bundle, bundle, detached, abandon_on_cancel=True
        )


def _has_slow_keys(root: TrustedRoot) -> bool:
    """Return whether a check of an authority's signature takes longer than all of our own work.

    With P-384 it takes eight times what it takes with P-256. The checks above the first certificate
    are remembered.
    """
    authorities = (*root.certificate_authorities, *root.timestamp_authorities)
    keys = (authority.chain[0].public_key() for authority in authorities)
    return any(
        isinstance(key, ec.EllipticCurvePublicKey) and key.key_size > QUICK_CURVE for key in keys
    )


_checks_slowly = Remembered(_has_slow_keys, most=_KEPT_ROOTS)


def _verify(request: VerifyRequest, material: TrustMaterial) -> Verified:
    expected: SignerPolicy | ManagedKey = (
        read_managed_key(request.key) if request.key is not None else AnySigner(request.accepted)
    )
    options = request.options
    if request.predicate_type is not None:
        options = replace(options, predicate_type=request.predicate_type)
    return verify_bundle(
        _read(request),
        request.digests,
        material.trusted_root,
        expected=expected,
        options=options,
    )


def _read(request: VerifyRequest) -> Bundle:
    try:
        return read_bundle(request.bundle, request.detached)
    except VerificationError as exc:
        exc.step = FORM_STEP
        raise

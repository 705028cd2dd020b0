"""Verifying a bundle for a client: trust root and policy together, computed in a worker thread."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from keylessd.core.bundle import parse_bundle
from keylessd.core.keys import load_public_key
from keylessd.core.verify import ManagedKey, Verified, VerifyOptions, verify_bundle
from keylessd.errors import InvalidInputError
from keylessd.policy.expect import AnySigner, ExpectedSigner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from keylessd.core.digests import Digest, HashAlgorithm
    from keylessd.core.verify import SignerPolicy
    from keylessd.flow.threads import Threads
    from keylessd.trust.material import TrustMaterial
    from keylessd.trust.where import Where


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What is to be proven.

    Attributes:
        bundle: Sigstore bundle, JSON.
        digests: The artifact's digests by algorithm; the bundle decides which one counts.
        where: Whose trust root.
        accepted: The accepted signers; one must match. Not with *key*.
        key: PEM (or DER) of a public key, for a bundle without certificate; or None.
        options: Thresholds.
        predicate_type: What the statement's predicate must be, or None.
    """

    bundle: bytes
    digests: Mapping[HashAlgorithm, Digest]
    where: Where
    accepted: tuple[ExpectedSigner, ...]
    key: bytes | None
    options: VerifyOptions
    predicate_type: str | None


class VerifyOps:
    """The verifying operation."""

    def __init__(
        self, *, material: Callable[[Where], Awaitable[TrustMaterial]], threads: Threads
    ) -> None:
        """Store the parts.

        Args:
            material: Returns the trust root of a request's choice.
            threads: Runs the verification, as many at once as there are processors.
        """
        self._material = material
        self._threads = threads

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
        # Pure computation, so a client that leaves need not wait for it.
        return await self._threads.run("verify", _verify, request, material, abandon_on_cancel=True)


def _verify(request: VerifyRequest, material: TrustMaterial) -> Verified:
    expected: SignerPolicy | ManagedKey = (
        ManagedKey(load_public_key(request.key))
        if request.key is not None
        else AnySigner(request.accepted)
    )
    options = request.options
    if request.predicate_type is not None:
        options = replace(options, predicate_type=request.predicate_type)
    return verify_bundle(
        parse_bundle(request.bundle),
        request.digests,
        material.trusted_root,
        expected=expected,
        options=options,
    )

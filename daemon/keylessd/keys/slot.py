"""An ephemeral key with its certificate. It signs; the key never leaves it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from keylessd.core.csr import build_csr
from keylessd.core.digests import HashAlgorithm
from keylessd.core.keys import PublicKey, spki
from keylessd.services.verifier import certificate_verifier

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from keylessd.core.certificate import Signer
    from keylessd.core.digests import Digest

# One curve per hash: every log demands that the two fit.
CURVES: dict[HashAlgorithm, type[ec.EllipticCurve]] = {
    HashAlgorithm.SHA256: ec.SECP256R1,
    HashAlgorithm.SHA384: ec.SECP384R1,
    HashAlgorithm.SHA512: ec.SECP521R1,
}


class KeyDestroyedError(Exception):
    """The key was dropped; the holder takes another slot."""


class EphemeralKey:
    """A private key that can sign and be forgotten, and nothing else.

    Python cannot wipe memory: destroy() drops the last reference, after which the crypto
    library frees (and clears) its copy.
    """

    __slots__ = ("_key", "algorithm", "public_key")

    def __init__(self, algorithm: HashAlgorithm) -> None:
        """Generate the key.

        Args:
            algorithm: Hash of what will be signed; it decides the curve.
        """
        self.algorithm = algorithm
        self._key: ec.EllipticCurvePrivateKey | None = ec.generate_private_key(CURVES[algorithm]())
        self.public_key: PublicKey = self._key.public_key()

    @property
    def is_destroyed(self) -> bool:
        """Whether the key is gone."""
        return self._key is None

    def csr(self) -> bytes:
        """Return a certificate signing request, PEM."""
        return build_csr(self._private())

    def sign_digest(self, digest: Digest) -> bytes:
        """Return a DER signature over what *digest* is the digest of.

        Raises:
            KeyDestroyedError: the key is gone.
            ValueError: the digest is of another algorithm than the key's.
        """
        if digest.algorithm is not self.algorithm:
            raise ValueError(f"a {digest.algorithm} digest for a {self.algorithm} key")
        scheme = ec.ECDSA(Prehashed(self.algorithm.hash()))
        return self._private().sign(digest.value, scheme)

    def destroy(self) -> None:
        """Forget the key."""
        self._key = None

    def _private(self) -> ec.EllipticCurvePrivateKey:
        if self._key is None:
            raise KeyDestroyedError
        return self._key

    def __repr__(self) -> str:
        return f"<EphemeralKey {self.algorithm}{', destroyed' if self.is_destroyed else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is never copied or pickled")


class KeySlot:
    """A key, its checked certificate, and who is using them.

    Whatever a signature needs of the certificate is encoded once, here.

    Attributes:
        certificate: The leaf.
        verifier: The leaf in the forms the logs want.
        signer: Identity and issuer the certificate certifies.
        serial: Serial number, lower-case hex.
        not_before: Start of the certificate's life.
        not_after: End of it, both inclusive (UTC).
        spki_sha256: Names the key.
        signatures: How many were made.
        leases: Requests that hold the slot now.
        is_retired: Whether it is no longer given out; its key goes with the last lease.
    """

    __slots__ = (
        "_key",
        "certificate",
        "is_retired",
        "leases",
        "not_after",
        "not_before",
        "serial",
        "signatures",
        "signer",
        "spki_sha256",
        "verifier",
    )

    def __init__(self, key: EphemeralKey, certificate: x509.Certificate, signer: Signer) -> None:
        """Take over *key*, over which *certificate* was issued and checked."""
        self._key = key
        self.certificate = certificate
        self.verifier = certificate_verifier(certificate, key.public_key)
        self.signer = signer
        self.serial = f"{certificate.serial_number:x}"
        self.not_before: datetime = certificate.not_valid_before_utc
        self.not_after: datetime = certificate.not_valid_after_utc
        self.spki_sha256 = hashlib.sha256(spki(key.public_key)).digest()
        self.signatures = 0
        self.leases = 0
        self.is_retired = False

    @property
    def is_destroyed(self) -> bool:
        """Whether the key is gone."""
        return self._key.is_destroyed

    def sign_digest(self, digest: Digest) -> bytes:
        """Return a DER signature over what *digest* is the digest of.

        Raises:
            KeyDestroyedError: the key was dropped.
            ValueError: the digest is of another algorithm than the key's.
        """
        signature = self._key.sign_digest(digest)
        self.signatures += 1
        return signature

    def retire(self) -> None:
        """Give the slot out no more; the key is destroyed when the last lease ends."""
        self.is_retired = True
        if self.leases == 0:
            self._key.destroy()

    def destroy(self) -> None:
        """Forget the key now, whoever holds the slot."""
        self.is_retired = True
        self._key.destroy()

    def __repr__(self) -> str:
        return f"<KeySlot {self.serial} until {self.not_after.isoformat()}>"

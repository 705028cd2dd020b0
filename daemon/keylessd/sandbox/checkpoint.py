"""Signs a log's checkpoints, as the log and as its witnesses. It does not read or verify any."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from keylessd.core.note import NoteSignature, checkpoint_body, format_note, note_key_id

if TYPE_CHECKING:
    from keylessd.clock import Clock
    from keylessd.core.keys import PublicKey

LogKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_HINT_SIZE = 4  # bytes


@dataclass(frozen=True, slots=True)
class Witness:
    """Someone who cosigns checkpoints (C2SP tlog-cosignature, version 1)."""

    name: str
    key: ed25519.Ed25519PrivateKey


class CheckpointSigner:
    """Makes the signed note over (size, root) for one log.

    Attributes:
        name: The name on the log's signature line.
        origin: The note's first line; for Rekor v2 the name, for v1 the name and the tree id.
        key_id: 32 bytes; the first four are the key hint, and for Rekor v2 all are the log id.
    """

    def __init__(
        self,
        key: LogKey,
        *,
        name: str,
        origin: str,
        clock: Clock,
        witnesses: Sequence[Witness] = (),
    ) -> None:
        self._key = key
        self._clock = clock
        self._witnesses = tuple(witnesses)
        self.name = name
        self.origin = origin
        self.key_id = note_key_id(name, self.public_key)

    @property
    def public_key(self) -> PublicKey:
        """The log's public key."""
        return self._key.public_key()

    def __call__(self, size: int, root: bytes) -> str:
        """Return the signed note; *root* has 32 bytes."""
        body = checkpoint_body(self.origin, size, root)
        own = NoteSignature(self.name, self.key_id[:_HINT_SIZE], sign(self._key, body))
        cosigned = (self._cosign(witness, body) for witness in self._witnesses)
        return format_note(body, [own, *cosigned])

    def _cosign(self, witness: Witness, body: bytes) -> NoteSignature:
        # C2SP tlog-cosignature: the time is signed before the note and stands before the
        # signature; key type 0x04.
        seconds = int(self._clock.now().timestamp())
        raw = witness.key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        key_id = hashlib.sha256(witness.name.encode() + b"\n\x04" + raw).digest()
        signature = witness.key.sign(b"cosignature/v1\ntime %d\n" % seconds + body)
        return NoteSignature(
            witness.name, key_id[:_HINT_SIZE], seconds.to_bytes(8, "big") + signature
        )


def sign(key: LogKey, message: bytes) -> bytes:
    """Return a log's signature over *message*: DER ECDSA over SHA-256, or Ed25519."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    return key.sign(message, ec.ECDSA(hashes.SHA256()))

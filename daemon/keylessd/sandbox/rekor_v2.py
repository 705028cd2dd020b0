"""A Rekor v2 log: what it accepts, what it stores, and how it answers. No HTTP, no storage format.

It takes ``hashedrekord 0.0.2`` only, like the real one since June 2026. Keys of the pre-hashed
Ed25519 variant are refused, since the cryptography package cannot verify with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from keylessd.core.digests import Digest, HashAlgorithm
from keylessd.core.entry import hashedrekord_v2_body
from keylessd.core.keys import (
    BadSignatureError,
    PublicKey,
    key_details,
    load_public_key,
    signing_hash,
    supported_key,
    verify_digest,
)
from keylessd.core.merkle import leaf_hash
from keylessd.core.strict_json import (
    JsonObject,
    JsonValue,
    StrictJsonError,
    decode_base64,
    encode_base64,
    loads,
)
from keylessd.errors import InvalidInputError
from keylessd.sandbox.checkpoint import CheckpointSigner, LogKey, Witness
from keylessd.sandbox.sequencer import (
    BATCH_MAX,
    INTERVAL_SECONDS,
    PENDING_MAX,
    Published,
    Sequencer,
)
from keylessd.sandbox.store import LogStore, StoreError

if TYPE_CHECKING:
    from keylessd.clock import Clock

KIND = "hashedrekord"
VERSION = "0.0.2"
REQUEST_MAX = 1 << 20  # bytes
TILE_WIDTH = 256  # hashes, or entries
_LEVELS_PER_TILE = 8
_ENTRY_MAX = (1 << 16) - 1  # bytes; entry tiles give the length in 16 bits

_REQUEST = "hashedRekordRequestV002"
_DSSE_REQUEST = "dsseRequestV002"
_FORMS = ("x509Certificate", "publicKey")


class InvalidRequestError(Exception):
    """The log does not take this entry.

    Attributes:
        public: What the real log tells its client: hardly anything.
    """

    def __init__(self, reason: str, *, public: str = "invalid hashedrekord request") -> None:
        super().__init__(reason)
        self.public = public


class FrozenError(Exception):
    """The log takes no entries any more."""


class RekorV2:
    """One log (shard).

    Attributes:
        name: Its name: the base URL without the scheme.
        log_id: 32 bytes, the full key id of its checkpoints.
        frozen: Whether it refuses new entries; may be set at any time.
        sequencer: Its tree and storage.
    """

    def __init__(
        self,
        store: LogStore,
        key: LogKey,
        *,
        name: str,
        clock: Clock,
        witnesses: tuple[Witness, ...] = (),
        interval_seconds: float = INTERVAL_SECONDS,
        batch_max: int = BATCH_MAX,
        pending_max: int = PENDING_MAX,
    ) -> None:
        """Open the log in *store*.

        Raises:
            StoreError: The store holds another log.
        """
        signer = CheckpointSigner(key, name=name, origin=name, clock=clock, witnesses=witnesses)
        if store.claim("origin", name.encode()) != name.encode():
            raise StoreError(f"the storage is not that of the log {name!r}")
        self._signer = signer
        self.name = name
        self.log_id = signer.key_id
        self.frozen = False
        self.sequencer = Sequencer(
            store,
            signer,
            interval_seconds=interval_seconds,
            batch_max=batch_max,
            pending_max=pending_max,
        )

    @property
    def public_key(self) -> PublicKey:
        """The key that the checkpoints verify with."""
        return self._signer.public_key

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.sequencer.tree.size

    async def add(self, request: bytes) -> JsonObject:
        """Log *request* and return its TransparencyLogEntry once a checkpoint covers it.

        Args:
            request: JSON of a CreateEntryRequest.

        Raises:
            FrozenError: The log is closed.
            InvalidRequestError: The request is malformed, or its signature does not verify.
            DuplicateError: The log has this entry.
            PushbackError: Too many entries wait.
            StoreError: The entry could not be stored.
        """
        if self.frozen:
            raise FrozenError
        body = entry_body(request)
        index, published = await self.sequencer.add(leaf_hash(body), body)
        return self._entry(index, body, published)

    def checkpoint(self) -> str:
        """Return the newest checkpoint."""
        return self.sequencer.published().checkpoint

    def tile(self, level: int, index: int, width: int = TILE_WIDTH) -> bytes | None:
        """Return *width* hashes of a Merkle tile, or None if the tree has not that many.

        C2SP tlog-tiles: tile (level, index) holds the nodes of tree level ``8 * level``.
        """
        self.sequencer.published()
        try:
            return self.sequencer.tree.nodes(level * _LEVELS_PER_TILE, index * TILE_WIDTH, width)
        except ValueError:
            return None

    def entries_tile(self, index: int, width: int = TILE_WIDTH) -> bytes | None:
        """Return *width* entries, each after its length in 16 bits, or None if there are fewer."""
        self.sequencer.published()
        start = index * TILE_WIDTH
        records = self.sequencer.store.records(start, start + width)
        if len(records) != width:
            return None
        return b"".join(len(record.body).to_bytes(2, "big") + record.body for record in records)

    def close(self) -> None:
        """Integrate what waits and close the storage."""
        self.sequencer.close()

    def _entry(self, index: int, body: bytes, published: Published) -> JsonObject:
        # The real server writes out fields that are not populated, and int64 as strings.
        proof = self.sequencer.tree.inclusion_proof(index, published.size)
        return {
            "logIndex": str(index),
            "logId": {"keyId": encode_base64(self.log_id)},
            "kindVersion": {"kind": KIND, "version": VERSION},
            "integratedTime": "0",
            "inclusionPromise": None,
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": encode_base64(published.root),
                "treeSize": str(published.size),
                "hashes": [encode_base64(node) for node in proof],
                "checkpoint": {"envelope": published.checkpoint},
            },
            "canonicalizedBody": encode_base64(body),
        }


def entry_body(request: bytes) -> bytes:
    """Return the canonical body of the entry that *request* asks for, its signature verified.

    Raises:
        InvalidRequestError: The request is malformed, or its signature does not verify.
    """
    try:
        value = loads(request, max_bytes=REQUEST_MAX, max_depth=16)
    except StrictJsonError as exc:
        raise InvalidRequestError(str(exc), public=f"proto: syntax error: {exc}") from exc
    if not isinstance(value, dict):
        raise InvalidRequestError("not an object", public="proto: syntax error")
    _refuse_unknown(value, _REQUEST, _DSSE_REQUEST)
    if value.get(_REQUEST) is None or value.get(_DSSE_REQUEST) is not None:
        public = "invalid type, must be hashedrekord"
        raise InvalidRequestError("no hashedrekord request", public=public)
    wanted = _members(value[_REQUEST], "digest", "signature")
    signature = _members(wanted["signature"], "content", "verifier")
    content = _octets(signature, "content")
    verifier = _verifier_of(signature["verifier"])
    try:
        digest = Digest(verifier.algorithm, _octets(wanted, "digest"))
        verify_digest(verifier.key, content, digest)
    except (ValueError, BadSignatureError) as exc:
        raise InvalidRequestError(str(exc)) from exc
    body = hashedrekord_v2_body(
        digest,
        content,
        verifier=verifier.der,
        is_certificate=verifier.is_certificate,
        details=verifier.details,
    )
    if len(body) > _ENTRY_MAX:
        raise InvalidRequestError(f"an entry of {len(body)} bytes; the limit is {_ENTRY_MAX}")
    return body


@dataclass(frozen=True, slots=True)
class _Verifier:
    """A key, as a request brings it."""

    key: PublicKey
    der: bytes
    is_certificate: bool
    details: str
    algorithm: HashAlgorithm


def _verifier_of(value: JsonValue) -> _Verifier:
    if not isinstance(value, dict):
        raise InvalidRequestError("the verifier is not an object")
    _refuse_unknown(value, "keyDetails", *_FORMS)
    forms = [form for form in _FORMS if value.get(form) is not None]
    if len(forms) != 1:
        raise InvalidRequestError("must contain either a public key or an X.509 certificate")
    is_certificate = forms[0] == "x509Certificate"
    der = _octets(_members(value[forms[0]], "rawBytes"), "rawBytes")
    if der.lstrip().startswith(b"-----BEGIN"):
        raise InvalidRequestError("the verifier is not DER")
    try:
        if is_certificate:
            key = supported_key(x509.load_der_x509_certificate(der).public_key())
        else:
            key = load_public_key(der)
        details = key_details(key)
    except (InvalidInputError, ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as exc:
        raise InvalidRequestError(f"the verifier cannot be used: {exc}") from exc
    algorithm = signing_hash(key)
    if algorithm is None or value.get("keyDetails") != details:
        raise InvalidRequestError(f"keyDetails is not {details!r}, or not supported")
    return _Verifier(key, der, is_certificate, details, algorithm)


def _members(value: JsonValue, *names: str) -> dict[str, JsonValue]:
    """Return the object *value*, which must have exactly the members *names*."""
    if not isinstance(value, dict):
        raise InvalidRequestError(f"no object with {', '.join(names)}")
    _refuse_unknown(value, *names)
    for name in names:
        if value.get(name) is None:
            raise InvalidRequestError(f"missing {name}")
    return value


def _refuse_unknown(value: dict[str, JsonValue], *names: str) -> None:
    for name in value:
        if name not in names:
            public = f'proto: (line 1:1): unknown field "{name[:100]}"'
            raise InvalidRequestError(f"unknown field {name[:100]!r}", public=public)


def _octets(members: dict[str, JsonValue], name: str) -> bytes:
    text = members[name]
    try:
        octets = decode_base64(text) if isinstance(text, str) else b""
    except StrictJsonError as exc:
        raise InvalidRequestError(f"{name}: {exc}", public=f"proto: invalid {name}") from exc
    if not octets:
        raise InvalidRequestError(f"missing {name}")
    return octets

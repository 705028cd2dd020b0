"""A Rekor v1 log: one active shard with its promises and proofs. No HTTP, no entry formats.

The index of an entry in the whole log and in its shard differ, as in every log that has been
sharded once: clients that mix them up must fail here too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keylessd.core.canonical import canonical_json
from keylessd.core.merkle import leaf_hash
from keylessd.core.strict_json import (
    JsonObject,
    JsonValue,
    StrictJsonError,
    decode_base64,
    encode_base64,
    loads,
)
from keylessd.sandbox.checkpoint import CheckpointSigner, sign
from keylessd.sandbox.rekor_v1_entries import (
    InvalidEntryError,
    Proposal,
    normalize_verifier,
    parse_proposal,
)
from keylessd.sandbox.sequencer import (
    BATCH_MAX,
    INTERVAL_SECONDS,
    PENDING_MAX,
    DuplicateError,
    Published,
    Sequencer,
)
from keylessd.sandbox.store import LogStore, Record, StoreError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from keylessd.clock import Clock
    from keylessd.core.keys import PublicKey

REQUEST_MAX = 32 << 20  # bytes; statements are large
# Any 63-bit number; a fixed one keeps the checkpoints' origin the same from run to run.
TREE_ID = 1193050959916656506
INDEX_OFFSET = 1000  # entries that earlier shards would hold
_LEAF_DIGITS = 64
_TREE_DIGITS = 16
_TIME_SIZE = 8  # bytes


class EntryExistsError(Exception):
    """The log has an equivalent entry.

    Attributes:
        uuid: Its name, tree id and leaf hash in hex.
    """

    def __init__(self, uuid: str) -> None:
        super().__init__(
            f"an equivalent entry already exists in the transparency log with UUID {uuid}"
        )
        self.uuid = uuid


class BadQueryError(ValueError):
    """A search or a request for a proof makes no sense."""


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry with its name; ``entry`` is the LogEntry's JSON object without the UUID."""

    uuid: str
    entry: JsonObject

    def json(self) -> JsonObject:
        """Return the answer that the interface gives for the entry."""
        return {self.uuid: self.entry}


class RekorV1:
    """One log.

    Attributes:
        name: Its name on checkpoints: the base URL without the scheme.
        tree_id: The number of its shard.
        index_offset: What an index in the shard falls short of the one in the whole log.
        log_id: 32 bytes, SHA-256 of the key.
        sequencer: Its tree and storage.
    """

    def __init__(
        self,
        store: LogStore,
        key: ec.EllipticCurvePrivateKey,
        *,
        name: str,
        clock: Clock,
        tree_id: int = TREE_ID,
        index_offset: int = INDEX_OFFSET,
        interval_seconds: float = INTERVAL_SECONDS,
        batch_max: int = BATCH_MAX,
        pending_max: int = PENDING_MAX,
    ) -> None:
        """Open the log in *store*.

        Raises:
            StoreError: The store holds another log, shard or offset.
        """
        origin = f"{name} - {tree_id}"
        for fact, value in (("origin", origin), ("index offset", str(index_offset))):
            found = store.claim(fact, value.encode())
            if found != value.encode():
                raise StoreError(f"the storage's {fact} is {found!r}, not {value!r}")
        self._key = key
        self._clock = clock
        self.name = name
        self.tree_id = tree_id
        self.index_offset = index_offset
        signer = CheckpointSigner(key, name=name, origin=origin, clock=clock)
        self.log_id = signer.key_id
        self.sequencer = Sequencer(
            store,
            signer,
            interval_seconds=interval_seconds,
            batch_max=batch_max,
            pending_max=pending_max,
        )

    @property
    def public_key(self) -> PublicKey:
        """The key of promises and checkpoints."""
        return self._key.public_key()

    @property
    def size(self) -> int:
        """Number of entries in the shard."""
        return self.sequencer.tree.size

    async def add(self, request: bytes) -> Logged:
        """Log the ProposedEntry in *request* and return the entry once it is in the tree.

        Raises:
            UnknownKindError: Not a kind of this log.
            InvalidEntryError: Malformed, or a signature does not verify.
            EntryExistsError: There is an equivalent entry, and it can be read.
            PushbackError: Too many entries wait.
            StoreError: The entry could not be stored.
        """
        proposal = parse_proposal(_parse(request))
        leaf = leaf_hash(proposal.body)

        def promised(index: int) -> bytes:
            return self._promise(proposal.body, index)

        try:
            index, published = await self.sequencer.add(
                leaf, proposal.body, extra=promised, terms=proposal.terms
            )
        except DuplicateError as exc:
            raise EntryExistsError(self.uuid(leaf)) from exc
        record = self.sequencer.store.record(index)
        if record is None:
            raise StoreError(f"entry {index} was stored and is not there")
        return self._logged(record, published)

    def uuid(self, leaf: bytes) -> str:
        """Return an entry's name from its leaf hash."""
        return f"{self.tree_id:016x}{leaf.hex()}"

    def by_uuid(self, uuid: str) -> Logged | None:
        """Return the entry of that name, with or without the tree id; None if there is none.

        Raises:
            BadQueryError: It is not a name.
        """
        leaf = self._leaf_of(uuid)
        index = None if leaf is None else self.sequencer.store.index_of(leaf)
        return None if index is None else self._at(index)

    def by_index(self, log_index: int) -> Logged | None:
        """Return the entry at that index of the whole log, or None."""
        return self._at(log_index - self.index_offset)

    def by_proposal(self, value: JsonValue) -> Logged | None:
        """Return the entry that proposing *value* would find already there, or None.

        Raises:
            UnknownKindError, InvalidEntryError: As for add().
        """
        proposal: Proposal = parse_proposal(value)
        index = self.sequencer.store.index_of(leaf_hash(proposal.body))
        return None if index is None else self._at(index)

    def info(self) -> JsonObject:
        """Return what ``GET /api/v1/log`` answers."""
        published = self.sequencer.published()
        return {
            "inactiveShards": [],
            "rootHash": published.root.hex(),
            "signedTreeHead": published.checkpoint,
            "treeID": str(self.tree_id),
            "treeSize": published.size,
        }

    def consistency(self, first: int, last: int) -> JsonObject:
        """Return the proof that the tree of *first* leaves is a prefix of that of *last*.

        Raises:
            BadQueryError: The sizes make no sense, with the real server's words.
        """
        size = self.sequencer.published().size
        if first > last:
            raise BadQueryError(f"firstSize({first}) must be less than lastSize({last})")
        if last > size:
            raise BadQueryError(
                f"the tree size requested({last}) was greater than what is currently "
                f"observable({size})"
            )
        if first < 1:
            raise BadQueryError("firstSize must be at least 1")
        tree = self.sequencer.tree
        hashes: list[JsonValue] = [node.hex() for node in tree.consistency_proof(first, last)]
        return {"hashes": hashes, "rootHash": tree.root(last).hex()}

    def search(self, query: JsonValue) -> list[str]:
        """Return the names of the entries that a SearchIndex query finds.

        Raises:
            BadQueryError: There is nothing to search for, or the key cannot be parsed.
        """
        if not isinstance(query, dict):
            raise BadQueryError("the query is not an object")
        self.sequencer.published()
        store = self.sequencer.store
        found = [set(store.find(term)) for term in _terms_of(query)]
        if not found:
            raise BadQueryError("the query has neither hash, nor email, nor publicKey")
        both = query.get("operator") == "and"
        indexes = set.intersection(*found) if both else set.union(*found)
        records = [store.record(index) for index in sorted(indexes)]
        return [self.uuid(record.leaf) for record in records if record is not None]

    def close(self) -> None:
        """Integrate what waits and close the storage."""
        self.sequencer.close()

    def _leaf_of(self, uuid: str) -> bytes | None:
        digits = uuid.lower()
        if len(digits) not in {_LEAF_DIGITS, _LEAF_DIGITS + _TREE_DIGITS} or not set(digits) <= set(
            "0123456789abcdef"
        ):
            raise BadQueryError(f"incorrectly formatted uuid {uuid[:100]}")
        tree, leaf = digits[:-_LEAF_DIGITS], bytes.fromhex(digits[-_LEAF_DIGITS:])
        return leaf if tree in {"", f"{self.tree_id:016x}"} else None

    def _at(self, index: int) -> Logged | None:
        published = self.sequencer.published()
        record = self.sequencer.store.record(index)
        return None if record is None else self._logged(record, published)

    def _promise(self, body: bytes, index: int) -> bytes:
        """Return integrated time and signed entry timestamp, as the store keeps them."""
        seconds = int(self._clock.now().timestamp())
        promised: JsonObject = {
            "body": encode_base64(body),
            "integratedTime": seconds,
            "logID": self.log_id.hex(),
            "logIndex": index + self.index_offset,
        }
        return seconds.to_bytes(_TIME_SIZE, "big") + sign(self._key, canonical_json(promised))

    def _logged(self, record: Record, published: Published) -> Logged:
        proof = self.sequencer.tree.inclusion_proof(record.index, published.size)
        entry: JsonObject = {
            "body": encode_base64(record.body),
            "integratedTime": int.from_bytes(record.extra[:_TIME_SIZE], "big"),
            "logID": self.log_id.hex(),
            "logIndex": record.index + self.index_offset,
            "verification": {
                "inclusionProof": {
                    "checkpoint": published.checkpoint,
                    "hashes": [node.hex() for node in proof],
                    "logIndex": record.index,
                    "rootHash": published.root.hex(),
                    "treeSize": published.size,
                },
                "signedEntryTimestamp": encode_base64(record.extra[_TIME_SIZE:]),
            },
        }
        return Logged(self.uuid(record.leaf), entry)


def _parse(request: bytes) -> JsonValue:
    try:
        return loads(request, max_bytes=REQUEST_MAX)
    except StrictJsonError as exc:
        raise InvalidEntryError(f"parsing body failed: {exc}") from exc


def _terms_of(query: JsonObject) -> list[str]:
    terms: list[str] = []
    hashed, email, key = query.get("hash"), query.get("email"), query.get("publicKey")
    if isinstance(hashed, str) and hashed:
        # A bare digest is SHA-256.
        terms.append(hashed.lower() if ":" in hashed else f"sha256:{hashed.lower()}")
    if isinstance(email, str) and email:
        terms.append(email)
    if isinstance(key, dict):
        content = key.get("content")
        try:
            pem = normalize_verifier(decode_base64(content if isinstance(content, str) else ""))
        except (StrictJsonError, InvalidEntryError) as exc:
            raise BadQueryError("public key provided could not be parsed") from exc
        terms.append(hashlib.sha256(pem).hexdigest())
    return terms

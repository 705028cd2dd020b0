"""Proves that a log entry is in a log of the trust root, and when its log says it came there.

What the entry is about is not looked at here; core.entry holds its body against the bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from keylessd.core.entry import log_generation, verify_set
from keylessd.core.merkle import leaf_hash, root_from_inclusion_proof
from keylessd.core.note import Checkpoint, parse_checkpoint, verify_checkpoint
from keylessd.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keylessd.core.bundle import InclusionProof, TlogEntry
    from keylessd.core.trusted_root import TransparencyLog

REKOR_V2 = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry whose log is known and has it.

    Attributes:
        entry: The entry, of which index and body are now proven.
        log: The log, from the trust root.
        integrated_time: When the log took it, in whole seconds; None unless a verified promise
            says so.
        checkpoint: The log's checkpoint that the entry was proven to be under; None if a
            promise was taken in place of a proof.
    """

    entry: TlogEntry
    log: TransparencyLog
    integrated_time: datetime | None
    checkpoint: Checkpoint | None


class UnknownLogError(VerificationError):
    """The entry is of a log that the trust root does not name, and proves nothing."""

    def __init__(self, entry: TlogEntry) -> None:
        super().__init__(
            "log-unknown",
            f"the trust root has no log {entry.log_id.hex()}",
            found=entry.log_id.hex(),
        )


def verify_logged(
    entry: TlogEntry, tlogs: Sequence[TransparencyLog], *, promise_only: bool = False
) -> LoggedEntry:
    """Verify that a log of the trust root has the entry.

    Args:
        entry: From the bundle.
        tlogs: The trust root's Rekor logs.
        promise_only: Accept a promise of Rekor v1 without a proof of inclusion that a
            checkpoint makes authentic. A proof that is there must be right all the same.

    Raises:
        UnknownLogError: No log of the trust root has the entry's log id.
        VerificationError: ``entry-kind``, ``log-validity``, ``promise-unexpected``,
            ``promise-missing``, ``proof-missing``, ``checkpoint-...``, ``proof-checkpoint``,
            ``log-index``, ``inclusion-proof``, ``inclusion-promise`` or ``integrated-time``.
    """
    failure: VerificationError | None = None
    for log in tlogs:
        if log.log_id != entry.log_id:
            continue
        # A log may stand there more than once, with different periods.
        try:
            return _verify_in(entry, log, promise_only=promise_only)
        except VerificationError as exc:
            failure = exc
    raise failure or UnknownLogError(entry)


def _verify_in(entry: TlogEntry, log: TransparencyLog, *, promise_only: bool) -> LoggedEntry:
    generation = log_generation(entry.kind, entry.version)
    _check_log_usable(log)
    _check_promise_shape(entry, generation)
    found = _proof_of(entry, generation, promise_only=promise_only)
    checkpoint = None
    if found is not None:
        proof, checkpoint = found
        _check_checkpoint(checkpoint, log, generation)
        _check_proof_of_checkpoint(proof, checkpoint)
        _check_index(entry, proof, generation)
        _check_inclusion(entry, proof)
    integrated_time = None
    if entry.promise is not None:
        verify_set(entry, log.key)
        integrated_time = _integrated_time(entry, log)
    return LoggedEntry(entry, log, integrated_time, checkpoint)


# --- shape ---------------------------------------------------------------------------------


def _check_log_usable(log: TransparencyLog) -> None:
    # The format demands a start. Rekor v2 gives no authentic time to compare the range with,
    # so for its entries this is all that the range can say.
    if log.valid_for.start is None:
        raise VerificationError(
            "log-validity", f"the trust root does not say since when {log.base_url!r} is valid"
        )


def _check_promise_shape(entry: TlogEntry, generation: int) -> None:
    if generation == REKOR_V2 and entry.promise is not None:
        raise VerificationError("promise-unexpected", "Rekor v2 makes no inclusion promises")


def _proof_of(
    entry: TlogEntry, generation: int, *, promise_only: bool
) -> tuple[InclusionProof, Checkpoint] | None:
    """Return the proof of the entry's presence with its checkpoint, None if it has none.

    Bundles of v0.1 may hold a proof without a checkpoint. Nobody signed its root, so it proves
    nothing and is as good as none; such an entry has its promise alone.
    """
    if entry.proof is not None and entry.proof.checkpoint is not None:
        return entry.proof, parse_checkpoint(entry.proof.checkpoint)
    if generation == REKOR_V2 or not promise_only:
        promised = generation != REKOR_V2 and entry.promise is not None
        raise VerificationError(
            "proof-missing",
            "the entry has no proof of inclusion with a checkpoint",
            hint="in old (v0.1) bundles, --promise-only accepts the log's promise in its place"
            if promised
            else None,
        )
    if entry.promise is None:
        raise VerificationError("promise-missing", "the entry has no promise and no checkpoint")
    if entry.proof is not None:
        # It proves nothing, but one that is wrong was not what the log said.
        _check_inclusion(entry, entry.proof)
    return None


# --- inclusion -----------------------------------------------------------------------------


def _check_checkpoint(checkpoint: Checkpoint, log: TransparencyLog, generation: int) -> None:
    verify_checkpoint(
        checkpoint,
        log_name=log.name,
        key=log.key,
        key_hint=log.checkpoint_hint,
        v2=generation == REKOR_V2,
    )


def _check_proof_of_checkpoint(proof: InclusionProof, checkpoint: Checkpoint) -> None:
    """Check that proof and checkpoint speak of one tree."""
    if proof.root_hash != checkpoint.root_hash:
        raise VerificationError(
            "proof-checkpoint",
            "the inclusion proof and its checkpoint have different root hashes",
            found=proof.root_hash.hex(),
            wanted=checkpoint.root_hash.hex(),
        )
    if proof.tree_size != checkpoint.size:
        raise VerificationError(
            "proof-checkpoint",
            f"the inclusion proof is of {proof.tree_size} leaves, its checkpoint of "
            f"{checkpoint.size}",
            found=str(proof.tree_size),
            wanted=str(checkpoint.size),
        )


def _check_index(entry: TlogEntry, proof: InclusionProof, generation: int) -> None:
    # Rekor v1 counts entries over all its shards, and leaves within one.
    if generation == REKOR_V2 and entry.log_index != proof.log_index:
        raise VerificationError(
            "log-index",
            f"the entry says index {entry.log_index}, its proof {proof.log_index}",
            found=str(entry.log_index),
            wanted=str(proof.log_index),
        )


def _check_inclusion(entry: TlogEntry, proof: InclusionProof) -> None:
    root = root_from_inclusion_proof(
        leaf_hash(entry.body), proof.log_index, proof.tree_size, proof.hashes
    )
    if root != proof.root_hash:
        raise VerificationError(
            "inclusion-proof",
            "the inclusion proof does not lead from the entry to the root hash",
            found=root.hex(),
            wanted=proof.root_hash.hex(),
        )


# --- time ----------------------------------------------------------------------------------


def _integrated_time(entry: TlogEntry, log: TransparencyLog) -> datetime:
    """Return the time in a promise that was verified."""
    seconds = entry.integrated_time
    if seconds is None or seconds <= 0:
        raise VerificationError("integrated-time", "the entry's promise has no time")
    try:
        time = _EPOCH + timedelta(seconds=seconds)
    except OverflowError as exc:
        raise VerificationError("integrated-time", f"no calendar has second {seconds}") from exc
    if not log.valid_for.contains(time):
        raise VerificationError(
            "integrated-time",
            f"the key of {log.base_url!r} was not valid at {time.isoformat()}",
            found=time.isoformat(),
        )
    return time

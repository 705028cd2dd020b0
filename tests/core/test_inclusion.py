"""Log entries: each part of the proof wrong by itself, re-signed where a signature covers it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from keylessd.core.bundle import TlogEntry
from keylessd.core.digests import HashAlgorithm
from keylessd.core.entry import set_payload
from keylessd.core.inclusion import UnknownLogError, verify_logged
from keylessd.core.trusted_root import TimeRange
from keylessd.errors import VerificationError
from sigsim.pki import START, ec_key
from sigsim.worlds import SIGNED, V1_OFFSET, RekorLog, sign, tampered, v1_log

BODY_V1 = b'{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{}}'
BODY_V2 = b'{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{}}'
SECOND = timedelta(seconds=1)


def v2_log() -> RekorLog:
    return RekorLog(2, ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def one() -> tuple[RekorLog, TlogEntry]:
    log = v1_log()
    return log, log.add(BODY_V1)


@pytest.fixture
def two() -> tuple[RekorLog, TlogEntry]:
    log = v2_log()
    return log, log.add(BODY_V2)


def changed_proof(entry: TlogEntry, **changes: object) -> TlogEntry:
    assert entry.proof is not None
    return replace(entry, proof=replace(entry.proof, **changes))


def refused(log: RekorLog, entry: TlogEntry, *, promise_only: bool = False) -> str:
    with pytest.raises(VerificationError) as error:
        verify_logged(entry, [log.trusted()], promise_only=promise_only)
    return error.value.check


# --- accepted ------------------------------------------------------------------------------


def test_version_1_gives_a_time(one: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = one
    assert entry.proof is not None
    assert entry.log_index == entry.proof.log_index + V1_OFFSET
    assert verify_logged(entry, [log.trusted()]).integrated_time == SIGNED


def test_version_2_gives_none(two: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = two
    assert verify_logged(entry, [log.trusted()]).integrated_time is None


@pytest.mark.parametrize("before", [0, 1, 2, 3, 4, 6, 7, 8, 12, 31, 64])
def test_entry_of_a_tree_of_any_size(before: int) -> None:
    log = v2_log()
    log.leaves = [bytes([n]) for n in range(before)]
    assert verify_logged(log.add(BODY_V2), [log.trusted()])


def test_time_without_a_promise_is_ignored(one: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = one
    assert verify_logged(replace(entry, promise=None), [log.trusted()]).integrated_time is None


def test_time_in_version_2_is_ignored(two: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = two
    timed = replace(entry, integrated_time=int(SIGNED.timestamp()))
    assert verify_logged(timed, [log.trusted()]).integrated_time is None


def test_version_2_log_with_an_ecdsa_key() -> None:
    log = RekorLog(2, ec_key())
    assert verify_logged(log.add(BODY_V2), [log.trusted()])


def test_version_1_log_with_a_key_of_another_curve_signs_with_sha256() -> None:
    log = RekorLog(1, ec_key(ec.SECP384R1()))
    assert verify_logged(log.add(BODY_V1), [log.trusted()]).integrated_time == SIGNED


@pytest.mark.parametrize(
    "base_url", ["https://localhost:8000", "https://h.example/log/1", "rekor.example"]
)
def test_log_is_named_by_its_whole_address(base_url: str) -> None:
    log = RekorLog(2, ed25519.Ed25519PrivateKey.generate(), base_url=base_url)
    assert verify_logged(log.add(BODY_V2), [log.trusted()])


@pytest.mark.parametrize("size", [4, 32])
def test_trust_root_may_name_the_checkpoint_key(two: tuple[RekorLog, TlogEntry], size: int) -> None:
    log, entry = two
    trusted = replace(log.trusted(), checkpoint_key_id=log.key_id[:size])
    assert verify_logged(entry, [trusted])


def test_log_that_stands_twice_is_tried_twice(one: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = one
    over = log.trusted(TimeRange(START - 2 * SECOND, START - SECOND))
    assert verify_logged(entry, [over, log.trusted()])
    assert verify_logged(entry, [log.trusted(), over])


# --- refused -------------------------------------------------------------------------------


def test_unknown_log(one: tuple[RekorLog, TlogEntry]) -> None:
    _, entry = one
    for known in ([], [v1_log().trusted()]):
        with pytest.raises(UnknownLogError) as error:
            verify_logged(entry, known)
        assert error.value.check == "log-unknown"


def test_log_id_that_is_only_alike(two: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = two
    assert refused(log, replace(entry, log_id=entry.log_id[:4])) == "log-unknown"


def test_known_id_with_another_key(two: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = two
    impostor = replace(
        log.trusted(),
        key=ed25519.Ed25519PrivateKey.generate().public_key(),
        checkpoint_key_id=log.key_id,
    )
    with pytest.raises(VerificationError) as error:
        verify_logged(entry, [impostor])
    assert error.value.check == "checkpoint-signature"


def test_log_without_start_of_validity(two: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = two
    with pytest.raises(VerificationError) as error:
        verify_logged(entry, [log.trusted(TimeRange(None, None))])
    assert error.value.check == "log-validity"


@pytest.mark.parametrize(
    ("kind", "version"),
    [("dsse", "0.0.2"), ("hashedrekord", "0.0.3"), ("intoto", "0.0.1"), ("rekord", "0.0.1")],
)
def test_unsupported_kind(two: tuple[RekorLog, TlogEntry], kind: str, version: str) -> None:
    log, entry = two
    assert refused(log, replace(entry, kind=kind, version=version)) == "entry-kind"


def test_promise_of_version_2() -> None:
    log = v2_log()
    entry = log.promised(log.add(BODY_V2), at=SIGNED)
    assert refused(log, entry) == "promise-unexpected"


def test_entry_with_neither_proof_nor_promise(one: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = one
    assert refused(log, replace(entry, proof=None, promise=None)) == "proof-missing"
    bare = changed_proof(replace(entry, promise=None), checkpoint=None)
    assert refused(log, bare) == "proof-missing"
    assert refused(log, bare, promise_only=True) == "promise-missing"
    without = replace(entry, proof=None, promise=None)
    assert refused(log, without, promise_only=True) == "promise-missing"


def test_version_2_without_checkpoint(two: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = two
    for bare in (replace(entry, proof=None), changed_proof(entry, checkpoint=None)):
        assert refused(log, bare, promise_only=True) == "proof-missing"


def test_promise_alone_needs_the_option(one: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = one
    bare = replace(entry, proof=None)
    assert refused(log, bare) == "proof-missing"
    assert verify_logged(bare, [log.trusted()], promise_only=True).integrated_time == SIGNED


def test_proof_without_checkpoint_is_as_good_as_none(one: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = one
    old = changed_proof(entry, checkpoint=None)
    assert refused(log, old) == "proof-missing"
    assert verify_logged(old, [log.trusted()], promise_only=True).integrated_time == SIGNED
    assert entry.proof is not None
    wrong = changed_proof(old, root_hash=tampered(entry.proof.root_hash))
    assert refused(log, wrong, promise_only=True) == "inclusion-proof"
    bad = replace(old, promise=tampered(b"\x30\x00"))
    assert refused(log, bad, promise_only=True) == "inclusion-promise"


@pytest.mark.parametrize("generation", [1, 2])
def test_proof_of_another_tree(generation: int) -> None:
    log = v1_log() if generation == 1 else v2_log()
    entry = log.add(BODY_V1 if generation == 1 else BODY_V2)
    assert entry.proof is not None
    root = changed_proof(entry, root_hash=tampered(entry.proof.root_hash))
    assert refused(log, root) == "proof-checkpoint"
    assert refused(log, changed_proof(entry, tree_size=5)) == "proof-checkpoint"


def test_checkpoint_of_a_later_tree(two: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = two
    log.add(BODY_V2)
    assert refused(log, changed_proof(entry, checkpoint=log.checkpoint())) == "proof-checkpoint"


@pytest.mark.parametrize(
    ("generation", "origin"),
    [(1, "other.example - 42"), (2, "other.example"), (2, "rekor.example - 42")],
)
def test_checkpoint_of_another_origin(generation: int, origin: str) -> None:
    log = v1_log() if generation == 1 else v2_log()
    entry = log.add(BODY_V1 if generation == 1 else BODY_V2)
    wrong = changed_proof(entry, checkpoint=log.checkpoint(origin=origin))
    assert refused(log, wrong) == "checkpoint-origin"


def test_checkpoint_of_another_log(two: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = two
    other = v2_log()
    other.add(BODY_V2)
    wrong = changed_proof(entry, checkpoint=other.checkpoint())
    assert refused(log, wrong) == "checkpoint-signature"


def test_malformed_checkpoint(two: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = two
    assert refused(log, changed_proof(entry, checkpoint="x\n")) == "checkpoint-format"


@pytest.mark.parametrize("offset", [-1, 1, V1_OFFSET])
def test_index_of_version_2_is_the_proofs(two: tuple[RekorLog, TlogEntry], offset: int) -> None:
    log, entry = two
    assert refused(log, replace(entry, log_index=entry.log_index + offset)) == "log-index"


def test_wrong_inclusion(two: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = two
    proof = entry.proof
    assert proof is not None
    for hashes in (
        proof.hashes[:-1],
        (*proof.hashes, b"\x00" * 32),
        proof.hashes[::-1],
        (tampered(proof.hashes[0]), *proof.hashes[1:]),
        (proof.hashes[0][:-1], *proof.hashes[1:]),
    ):
        assert refused(log, changed_proof(entry, hashes=hashes)) == "inclusion-proof"
    assert refused(log, replace(entry, body=entry.body + b" ")) == "inclusion-proof"
    moved = replace(changed_proof(entry, log_index=proof.log_index - 1), log_index=2)
    assert refused(log, moved) == "inclusion-proof"
    beyond = replace(changed_proof(entry, log_index=proof.tree_size), log_index=proof.tree_size)
    assert refused(log, beyond) == "inclusion-proof"


def test_version_1_proof_is_not_by_the_global_index(one: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = one
    assert refused(log, changed_proof(entry, log_index=entry.log_index)) == "inclusion-proof"


def test_promise_covers_everything(one: tuple[RekorLog, TlogEntry]) -> None:
    log, entry = one
    assert entry.promise is not None
    assert entry.integrated_time is not None
    for wrong in (
        replace(entry, promise=tampered(entry.promise)),
        replace(entry, log_index=entry.log_index + 1),
        replace(entry, integrated_time=entry.integrated_time + 1),
        replace(entry, integrated_time=None),
    ):
        assert refused(log, wrong) == "inclusion-promise"


@pytest.mark.parametrize("second", [-1, 0, 2**52])
def test_promised_time_that_is_none(second: int) -> None:
    log = v1_log()
    timed = replace(log.add(BODY_V1, promise=False), integrated_time=second)
    promise = sign(log.key, set_payload(timed), HashAlgorithm.SHA256)
    always = log.trusted(TimeRange(datetime(1, 1, 1, tzinfo=UTC), None))
    with pytest.raises(VerificationError) as error:
        verify_logged(replace(timed, promise=promise), [always])
    assert error.value.check == "integrated-time"


@pytest.mark.parametrize(
    ("start", "end", "good"),
    [
        (SIGNED, None, True),
        (SIGNED + timedelta(microseconds=1), None, False),
        (START, SIGNED, True),
        (START, SIGNED - timedelta(microseconds=1), False),
    ],
)
def test_log_key_must_be_valid_at_the_promise(
    one: tuple[RekorLog, TlogEntry], start: datetime, end: datetime | None, good: bool
) -> None:
    log, entry = one
    trusted = log.trusted(TimeRange(start, end))
    if good:
        assert verify_logged(entry, [trusted]).integrated_time == SIGNED
        return
    with pytest.raises(VerificationError) as error:
        verify_logged(entry, [trusted])
    assert error.value.check == "integrated-time"

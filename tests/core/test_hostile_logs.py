"""The log: another one, another tree, another promise, another period. See `attempts`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attempts import (
    SECOND,
    Attempt,
    Attempts,
    checkpoint_signed_by,
    one,
    v2_log,
    with_checkpoint,
    with_entry,
)
from keylessd.core.note import NoteSignature, format_note
from keylessd.core.trusted_root import TimeRange
from sigsim.pki import (
    LIFETIME,
    START,
)
from sigsim.worlds import (
    SIGNED,
    RekorLog,
    World,
    v1_log,
)

attempt = Attempts()


@attempt("checkpoint-origin")
def checkpoint_of_another_trusted_log() -> Attempt:
    world, other = World(), v2_log("https://other.example")
    bundle = world.message()
    twin = other.add(bundle.entries[0].body)
    mixed = replace(twin, log_id=bundle.entries[0].log_id)
    root = world.root(tlogs=(world.rekor.trusted(), other.trusted()))
    return Attempt(world, with_entry(bundle, mixed), root)


@attempt("checkpoint-origin")
def entry_under_the_id_of_a_log_that_shares_its_key() -> Attempt:
    world = World()
    other = RekorLog(2, world.rekor.key, base_url="https://other.example")
    bundle = world.message()
    entry = replace(other.add(bundle.entries[0].body), log_id=world.rekor.key_id)
    root = world.root(tlogs=(world.rekor.trusted(), other.trusted()))
    return Attempt(world, with_entry(bundle, entry), root)


@attempt(None)
def two_logs_that_share_a_key_and_not_a_name() -> Attempt:
    world = World()
    other = RekorLog(2, world.rekor.key, base_url="https://other.example")
    bundle = world.message()
    entry = other.add(bundle.entries[0].body)
    root = world.root(tlogs=(world.rekor.trusted(), other.trusted()))
    return Attempt(world, with_entry(bundle, entry), root)


@attempt("checkpoint-signature")
def checkpoint_signed_by_the_signer_in_the_logs_name() -> Attempt:
    world = World()
    bundle = world.message()
    return Attempt(world, with_checkpoint(bundle, checkpoint_signed_by(world.rekor, world.key)))


@attempt("checkpoint-signature")
def checkpoint_with_a_line_added_after_it_was_signed() -> Attempt:
    world = World()
    bundle = world.message()
    note = world.rekor.checkpoint().replace("\n\n", "\nmore\n\n")
    return Attempt(world, with_checkpoint(bundle, note))


@attempt(None)
def checkpoint_with_extension_lines() -> Attempt:
    world = World()
    bundle = world.message()
    note = checkpoint_signed_by(world.rekor, world.rekor.key, more="frozen \u2014 for good\nx\n")
    return Attempt(world, with_checkpoint(bundle, note))


@attempt(None)
def checkpoint_with_witnesses_before_and_after_the_log() -> Attempt:
    world = World()
    bundle = world.message()
    head, _, line = world.rekor.checkpoint().partition("\n\n")
    witness = NoteSignature("witness.example/w1", b"wxyz", b"\0" * 72)
    lines = format_note(b"x\n", [witness]).partition("\n\n")[2]
    return Attempt(world, with_checkpoint(bundle, f"{head}\n\n{lines}{line}{lines}"))


@attempt("checkpoint-signature")
def checkpoint_of_witnesses_alone() -> Attempt:
    world = World()
    bundle = world.message()
    head = world.rekor.checkpoint().partition("\n\n")[0]
    lines = [NoteSignature(f"witness.example/{n}", b"wxyz", b"\0" * 72) for n in range(9)]
    note = f"{head}\n\n{format_note(b'x' + bytes([10]), lines).partition(chr(10) * 2)[2]}"
    return Attempt(world, with_checkpoint(bundle, note))


@attempt("checkpoint-format")
def checkpoint_with_windows_line_ends() -> Attempt:
    world = World()
    bundle = world.message()
    return Attempt(world, with_checkpoint(bundle, world.rekor.checkpoint().replace("\n", "\r\n")))


@attempt("inclusion-proof")
def index_beyond_the_tree() -> Attempt:
    world = World()
    bundle = world.message()
    (entry,) = bundle.entries
    assert entry.proof is not None
    beyond = replace(entry, log_index=4, proof=replace(entry.proof, log_index=4))
    return Attempt(world, with_entry(bundle, beyond))


@attempt("inclusion-proof")
def index_of_another_leaf() -> Attempt:
    world = World()
    bundle = world.message()
    (entry,) = bundle.entries
    assert entry.proof is not None
    other = replace(entry, log_index=2, proof=replace(entry.proof, log_index=2))
    return Attempt(world, with_entry(bundle, other))


@attempt("inclusion-proof")
def node_of_the_tree_as_a_leaf() -> Attempt:
    world = World()
    bundle = world.message()
    (entry,) = bundle.entries
    assert entry.proof is not None
    longer = replace(entry.proof, hashes=(*entry.proof.hashes, bytes(32)))
    return Attempt(world, with_entry(bundle, replace(entry, proof=longer)))


@attempt(None)
def only_leaf_of_a_tree() -> Attempt:
    log = v2_log()
    log.leaves = []
    world = World(rekor=log)
    return Attempt(world, world.message())


@attempt(None)
def last_leaf_of_a_tree_that_is_no_power_of_two() -> Attempt:
    log = v2_log()
    log.leaves = [bytes([n]) for n in range(36)]
    world = World(rekor=log)
    return Attempt(world, world.message())


@attempt("inclusion-promise")
def promise_for_another_index() -> Attempt:
    world = one()
    bundle = world.message(stamps=())
    (entry,) = bundle.entries
    return Attempt(world, with_entry(bundle, replace(entry, log_index=entry.log_index + 1)))


@attempt("inclusion-promise")
def promise_by_another_log_that_is_trusted_too() -> Attempt:
    world, other = one(), v1_log(base_url="https://other.example")
    bundle = world.message()
    (entry,) = bundle.entries
    foreign = other.promised(replace(entry, log_id=other.key_id), at=SIGNED)
    mixed = replace(entry, promise=foreign.promise)
    root = world.root(tlogs=(world.rekor.trusted(), other.trusted()))
    return Attempt(world, with_entry(bundle, mixed), root)


@attempt("promise-unexpected")
def promise_of_a_rekor_v2_to_make_its_time_count() -> Attempt:
    world = World()
    bundle = world.message(stamps=())
    (entry,) = bundle.entries
    promised = world.rekor.promised(entry, at=SIGNED)
    return Attempt(world, with_entry(bundle, promised))


@attempt("integrated-time")
def promise_after_the_logs_key_ended() -> Attempt:
    world = one()
    bundle = world.message()
    ended = world.rekor.trusted(TimeRange(START - LIFETIME, SIGNED - SECOND))
    return Attempt(world, bundle, world.root(tlogs=(ended,)))


@attempt(None)
def entry_of_a_key_that_was_replaced_later() -> Attempt:
    world = one()
    newer = v1_log()
    bundle = world.message()
    ended = world.rekor.trusted(TimeRange(START - LIFETIME, SIGNED))
    begun = newer.trusted(TimeRange(SIGNED, None))
    return Attempt(world, bundle, world.root(tlogs=(begun, ended)))


@attempt(None)
def rekor_v2_whose_period_is_over() -> Attempt:
    # No authentic time says when such a log took an entry.
    world = World()
    ended = world.rekor.trusted(TimeRange(START - LIFETIME, START - SECOND))
    return Attempt(world, world.message(), world.root(tlogs=(ended,)))


@attempt("log-validity")
def rekor_v2_of_which_the_root_does_not_say_since_when() -> Attempt:
    world = World()
    return Attempt(
        world, world.message(), world.root(tlogs=(world.rekor.trusted(TimeRange(None, None)),))
    )


@pytest.mark.parametrize("name", attempt.named)
def test_attempt(name: str) -> None:
    attempt.check(name)

"""The times: stamps of other things, by others, or not at all. See `attempts`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509

from attempts import (
    SECOND,
    Attempt,
    Attempts,
    with_entry,
)
from keylessd.core.trusted_root import TimeRange
from sigsim.pki import (
    CODE_SIGNING,
    TIME_STAMPING,
    Leaf,
    ec_key,
    mint_ca,
)
from sigsim.stamps import Tsa, mint_tsa, stamp
from sigsim.worlds import (
    ARTIFACT,
    SIGNED,
    World,
)

attempt = Attempts()


@attempt("timestamp-imprint")
def stamp_of_the_artifact() -> Attempt:
    world = World()
    wrong = (stamp(world.tsa, ARTIFACT, at=SIGNED),)
    return Attempt(world, replace(world.message(), timestamps=wrong))


@attempt("timestamp-authority")
def stamp_by_the_signer_with_its_own_certificate() -> Attempt:
    world = World(leaf=Leaf(usages=(CODE_SIGNING, TIME_STAMPING)))
    bundle = world.message(stamps=())
    leaf = x509.load_der_x509_certificate(bundle.certificates[0])
    own = Tsa(world.key, (leaf, world.ca.certificate, world.ca_root.certificate))
    forged = stamp(own, bundle.content.signature, at=SIGNED, embedded=own.chain)
    return Attempt(world, replace(bundle, timestamps=(forged,)))


@attempt("timestamp-signature")
def stamp_in_the_name_of_the_authority() -> Attempt:
    world = World()
    bundle = world.message(stamps=())
    forged = stamp(world.tsa, bundle.content.signature, at=SIGNED, signer_key=ec_key())
    return Attempt(world, replace(bundle, timestamps=(forged,)))


@attempt("timestamp-certificate")
def stamp_with_a_strangers_certificate_in_it() -> Attempt:
    world = World()
    bundle = world.message(stamps=())
    forged = stamp(world.tsa, bundle.content.signature, at=SIGNED, embedded=[mint_tsa().chain[0]])
    return Attempt(world, replace(bundle, timestamps=(forged,)))


@attempt("timestamp-validity")
def stamp_before_the_authority_was_in_use() -> Attempt:
    world = World()
    late = world.tsa.trusted(TimeRange(SIGNED + SECOND, None))
    return Attempt(world, world.message(), world.root(timestamp_authorities=(late,)))


@attempt("timestamp-chain")
def stamp_after_the_authoritys_certificate_ended() -> Attempt:
    world = World(tsa=mint_tsa(end=SIGNED - SECOND))
    return Attempt(world, world.message())


@attempt("timestamp-usage")
def stamp_by_an_authority_for_more_than_that() -> Attempt:
    world = World(tsa=mint_tsa(usages=(TIME_STAMPING, CODE_SIGNING)))
    return Attempt(world, world.message())


@attempt(None)
def authority_with_an_intermediate_and_all_of_it_in_the_stamp() -> Attempt:
    top = mint_ca("tsa root")
    tsa = mint_tsa(parents=[mint_ca("tsa middle", parent=top), top])
    world = World(tsa=tsa)
    bundle = world.message(stamps=())
    full = stamp(tsa, bundle.content.signature, at=SIGNED, embedded=tsa.chain)
    return Attempt(world, replace(bundle, timestamps=(full,)))


@attempt(None)
def authority_that_was_replaced_under_its_name() -> Attempt:
    world = World()
    other = mint_tsa()
    both = (other.trusted(), world.tsa.trusted())
    return Attempt(world, world.message(), world.root(timestamp_authorities=both))


@attempt("time-threshold")
def claimed_time_of_rekor_v2_and_no_stamp() -> Attempt:
    world = World()
    bundle = world.message(stamps=())
    (entry,) = bundle.entries
    timed = replace(entry, integrated_time=int(SIGNED.timestamp()))
    return Attempt(world, with_entry(bundle, timed))


@attempt("time-threshold")
def two_stamps_of_one_authority_for_two() -> Attempt:
    world = World()
    return Attempt(
        world, world.message(stamps=(SIGNED, SIGNED + SECOND)), options={"time_threshold": 2}
    )


@pytest.mark.parametrize("name", attempt.named)
def test_attempt(name: str) -> None:
    attempt.check(name)

"""The certificate: its authorities, times, uses, promises to be published. See `attempts`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from attempts import (
    SECOND,
    Attempt,
    Attempts,
    one,
)
from keylessd.core.trusted_root import TimeRange
from sigsim.pki import (
    CODE_SIGNING,
    LIFETIME,
    START,
    TIME_STAMPING,
    Ca,
    CtLog,
    Leaf,
    authority,
    der,
    ec_key,
    mint_ca,
    mint_leaf,
)
from sigsim.worlds import (
    SIGNED,
    RekorLog,
    World,
)

attempt = Attempts()


@attempt("certificate-chain")
def certificate_issued_by_a_signers_certificate() -> Attempt:
    world = World()
    middle = Ca(world.certificate(), world.key)
    leaf = mint_leaf(world.key, middle, [world.ct], Leaf(issuer_key=False))
    bundle = world.message(certificate=leaf)
    return Attempt(world, replace(bundle, certificates=(der(leaf), der(middle.certificate))))


@attempt("certificate-chain")
def certificate_of_an_authority_with_the_same_name() -> Attempt:
    world = World()
    twin = mint_ca("intermediate", parent=mint_ca("root"))
    return Attempt(world, world.message(certificate=mint_leaf(world.key, twin, [world.ct])))


@attempt("certificate-chain")
def certificate_below_an_intermediate_that_may_have_none() -> Attempt:
    root = mint_ca("root", path_length=0)
    world = World(ca_root=root)
    return Attempt(world, world.message())


@attempt("certificate-chain")
def authority_that_begins_a_second_later() -> Attempt:
    world = World()
    later = TimeRange(SIGNED + SECOND, None)
    limited = authority(world.ca, world.ca_root, valid_for=later)
    return Attempt(world, world.message(), world.root(certificate_authorities=(limited,)))


@attempt("certificate-chain")
def authority_of_which_the_root_does_not_say_since_when() -> Attempt:
    world = World()
    limited = authority(world.ca, world.ca_root, valid_for=TimeRange(None, None))
    return Attempt(world, world.message(), world.root(certificate_authorities=(limited,)))


@attempt(None)
def authorities_that_overlap_under_one_name() -> Attempt:
    world = World()
    twin_root = mint_ca("root")
    twin = mint_ca("intermediate", parent=twin_root)
    both = (authority(twin, twin_root), authority(world.ca, world.ca_root))
    return Attempt(world, world.message(), world.root(certificate_authorities=both))


@attempt(None)
def authority_that_ends_in_the_same_millisecond() -> Attempt:
    world = World()
    at = SIGNED + timedelta(milliseconds=999)
    limited = authority(world.ca, world.ca_root, valid_for=TimeRange(START, at))
    return Attempt(
        world, world.message(stamps=(at,)), world.root(certificate_authorities=(limited,))
    )


@attempt("certificate-chain")
def authority_that_ended_a_millisecond_before() -> Attempt:
    world = World()
    at = SIGNED + timedelta(milliseconds=999)
    limited = authority(
        world.ca, world.ca_root, valid_for=TimeRange(START, at - timedelta(milliseconds=1))
    )
    return Attempt(
        world, world.message(stamps=(at,)), world.root(certificate_authorities=(limited,))
    )


@attempt(None)
def time_in_the_last_second_of_the_certificate() -> Attempt:
    world = World()
    return Attempt(world, world.message(stamps=(START + LIFETIME + timedelta(milliseconds=900),)))


@attempt("certificate-expired")
def time_a_second_after_the_certificate() -> Attempt:
    world = World()
    return Attempt(world, world.message(stamps=(START + LIFETIME + SECOND,)))


@attempt("certificate-expired")
def good_promise_beside_a_timestamp_that_is_too_late() -> Attempt:
    world = one()
    return Attempt(world, world.message(stamps=(START + LIFETIME + SECOND,)))


@attempt("certificate-chain")
def unknown_critical_extension() -> Attempt:
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    return Attempt(world := World(leaf=Leaf(others=((odd, True),))), world.message())


@attempt(None)
def unknown_extension_that_is_not_critical() -> Attempt:
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    return Attempt(world := World(leaf=Leaf(others=((odd, False),))), world.message())


@attempt("certificate-extended-key-usage")
def certificate_for_time_stamping() -> Attempt:
    return Attempt(world := World(leaf=Leaf(usages=(TIME_STAMPING,))), world.message())


@attempt(None)
def certificate_for_more_than_code_signing() -> Attempt:
    leaf = Leaf(usages=(CODE_SIGNING, TIME_STAMPING))
    return Attempt(world := World(leaf=leaf), world.message())


@attempt("sct-signature")
def promise_to_publish_another_certificate() -> Attempt:
    world = World()
    other = mint_leaf(world.key, world.ca, [world.ct], Leaf(end=START + 2 * LIFETIME))
    from keylessd.core.sct import embedded_scts

    leaf = mint_leaf(world.key, world.ca, scts=embedded_scts(other))
    return Attempt(world, world.message(certificate=leaf))


@attempt("sct-signature")
def promise_for_the_root_in_place_of_the_issuer() -> Attempt:
    world = World()
    leaf = mint_leaf(world.key, world.ca, [world.ct], sct_issuer=world.ca_root.certificate)
    return Attempt(world, world.message(certificate=leaf))


@attempt(None)
def promise_of_a_known_log_beside_that_of_a_stranger() -> Attempt:
    world = World()
    leaf = mint_leaf(world.key, world.ca, [CtLog(ec_key()), world.ct])
    return Attempt(world, world.message(certificate=leaf))


@attempt("sct-threshold")
def two_promises_of_one_log() -> Attempt:
    world = World()
    leaf = mint_leaf(world.key, world.ca, [world.ct, world.ct])
    return Attempt(world, world.message(certificate=leaf), options={"sct_threshold": 2})


@attempt("sct-log")
def key_of_rekor_as_a_certificate_log() -> Attempt:
    key = ec_key()
    world = World(rekor=RekorLog(1, key), ct=CtLog(key))
    return Attempt(world, world.message(), world.root(ctlogs=()))


@pytest.mark.parametrize("name", attempt.named)
def test_attempt(name: str) -> None:
    attempt.check(name)

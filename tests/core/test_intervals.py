"""Periods of the trust root, one kind at a time: both ends included, to the finest unit it has."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from keylessd.core.trusted_root import TimeRange, TrustedRoot, parse_trusted_root
from keylessd.core.trusted_root import serialize_trusted_root as serialize
from keylessd.core.verify import ManagedKey, verify_bundle
from keylessd.errors import VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
from sigsim.pki import START, YEAR, Leaf, authority
from sigsim.worlds import SIGNED, World, digests, v1_log

SIGNER = AnySigner(
    (ExpectedSigner(identity="signer@example.com", issuer="https://issuer.example"),)
)
# Kind of entry -> finest unit its times have, and the check that stops it.
KINDS = {
    "tlog": (timedelta(seconds=1), "integrated-time"),
    "ctlog": (timedelta(milliseconds=1), "sct-time"),
    "ca": (timedelta(microseconds=1), "certificate-chain"),
    "tsa": (timedelta(microseconds=1), "timestamp-validity"),
    "key": (timedelta(microseconds=1), "key-validity"),
}
AT = SIGNED + timedelta(microseconds=999_999)  # what is stamped; the others count less finely


def moment(kind: str) -> datetime:
    return {"tlog": SIGNED, "ctlog": START + timedelta(milliseconds=999)}.get(kind, AT)


def root_with(world: World, kind: str, period: TimeRange) -> TrustedRoot:
    parts = {
        "tlog": {"tlogs": (world.rekor.trusted(period),)},
        "ctlog": {"ctlogs": (world.ct.trusted(period),)},
        "ca": {"certificate_authorities": (authority(world.ca, world.ca_root, valid_for=period),)},
        "tsa": {"timestamp_authorities": (world.tsa.trusted(period),)},
        "key": {},
    }
    # As it comes from a file.
    return parse_trusted_root(serialize(world.root(**parts[kind])))


def outcome(kind: str, period: TimeRange) -> str | None:
    world = World(leaf=Leaf(sct_time=moment("ctlog")))
    if kind == "tlog":
        world.rekor = v1_log()
    stamps = () if kind == "tlog" else (AT,)
    managed = kind == "key"
    expected = ManagedKey(world.key.public_key(), period) if managed else SIGNER
    bundle = world.message(stamps=stamps, managed=managed)
    try:
        verify_bundle(bundle, digests(), root_with(world, kind, period), expected=expected)
    except VerificationError as exc:
        return exc.check
    return None


@pytest.mark.parametrize("off", [-1, 0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_start_belongs_to_it(kind: str, off: int) -> None:
    unit, check = KINDS[kind]
    found = outcome(kind, TimeRange(moment(kind) + off * unit, None))
    assert found == (check if off > 0 else None)


@pytest.mark.parametrize("off", [-1, 0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_end_belongs_to_it(kind: str, off: int) -> None:
    unit, check = KINDS[kind]
    found = outcome(kind, TimeRange(START - YEAR, moment(kind) + off * unit))
    assert found == (check if off < 0 else None)


@pytest.mark.parametrize("kind", KINDS)
def test_one_instant_is_a_period(kind: str) -> None:
    assert outcome(kind, TimeRange(moment(kind), moment(kind))) is None


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_start_it_is_never(kind: str) -> None:
    # Of a log that is so for every entry, whether its time is known or not.
    check = {"tlog": "log-validity"}.get(kind, KINDS[kind][1])
    assert outcome(kind, TimeRange(None, None)) == check
    assert outcome(kind, TimeRange(None, moment(kind) + YEAR)) == check


@pytest.mark.parametrize("kind", ["tlog", "ctlog", "ca", "tsa"])
def test_any_of_several_that_overlap_may_fit(kind: str) -> None:
    unit, check = KINDS[kind]
    world = World(leaf=Leaf(sct_time=moment("ctlog")))
    if kind == "tlog":
        world.rekor = v1_log()
    at = moment(kind)
    early, late = TimeRange(START - YEAR, at - unit), TimeRange(at + unit, None)
    good = TimeRange(at, at)
    bundle = world.message(stamps=() if kind == "tlog" else (AT,))
    for periods, wanted in [
        ((early, late), check),
        ((early, good, late), None),
        ((good, early), None),
        ((late, good), None),
    ]:
        roots = [root_with(world, kind, period) for period in periods]
        name = {
            "tlog": "tlogs",
            "ctlog": "ctlogs",
            "ca": "certificate_authorities",
            "tsa": "timestamp_authorities",
        }[kind]
        together = tuple(item for root in roots for item in getattr(root, name))
        merged = replace(roots[0], **{name: together})
        try:
            verify_bundle(bundle, digests(), merged, expected=SIGNER)
            found = None
        except VerificationError as exc:
            found = exc.check
        assert found == wanted

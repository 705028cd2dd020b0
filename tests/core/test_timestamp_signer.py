"""Trust roots that name a timestamp authority's CA alone: the signer comes with the token."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from keylessd.core import asn1
from keylessd.core.timestamp import UNVERIFIABLE, VerifiedTimestamp, verify_timestamp
from keylessd.core.timestamp_signer import MAX_BROUGHT, MAX_LINKS, wants_certificates
from keylessd.core.trusted_root import Authority, TimeRange
from keylessd.errors import VerificationError
from sigsim.pki import (
    CODE_SIGNING,
    START,
    TIME_STAMPING,
    YEAR,
    Ca,
    Leaf,
    certificate_builder,
    der,
    ec_key,
    mint_ca,
    mint_leaf,
    signed,
)
from sigsim.stamps import Tsa, attribute, mint_tsa, stamp

SIGNATURE = b"a raw signature of any length"
AT = START + timedelta(minutes=1)
SECOND = timedelta(seconds=1)
ROOT = mint_ca("tsa root")
TSA = mint_tsa(parents=[ROOT])
OPEN = TSA.trusted(above=1)


def stamped(tsa: Tsa, *embedded: x509.Certificate, **more: object) -> bytes:
    """A response with these certificates in it, by default the signer's alone."""
    return stamp(tsa, SIGNATURE, at=AT, embedded=embedded or tsa.chain[:1], **more)  # type: ignore[arg-type]


def accepted(response: bytes, *authorities: Authority) -> VerifiedTimestamp:
    return verify_timestamp(response, SIGNATURE, authorities or [OPEN])


def refused(response: bytes, *authorities: Authority) -> str:
    with pytest.raises(VerificationError) as error:
        accepted(response, *authorities)
    return error.value.check


def trusting(*chain: Ca) -> Authority:
    return replace(OPEN, chain=tuple(ca.certificate for ca in chain))


# --- accepted ------------------------------------------------------------------------------


def test_signer_is_taken_from_the_token() -> None:
    verified = accepted(stamped(TSA))
    assert (verified.time, verified.authority, verified.serial) == (AT, OPEN.uri, 7)


def test_signer_named_by_key_identifier() -> None:
    assert accepted(stamped(TSA, by_key_identifier=True)).time == AT


@pytest.mark.parametrize("is_ca", [None, False])
def test_listed_signer_need_not_be_in_the_token(is_ca: bool | None) -> None:
    tsa = mint_tsa(is_ca=is_ca)
    assert not wants_certificates([tsa.trusted()])
    assert accepted(stamp(tsa, SIGNATURE, at=AT), tsa.trusted()).time == AT


def test_intermediate_from_the_trust_root() -> None:
    middle = mint_ca("middle", parent=ROOT)
    tsa = mint_tsa(parents=[middle, ROOT])
    assert accepted(stamped(tsa), tsa.trusted(above=1)).time == AT


def test_signer_right_below_the_anchor_of_a_longer_chain() -> None:
    assert accepted(stamped(TSA), trusting(mint_ca("middle", parent=ROOT), ROOT)).time == AT


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_intermediates_from_the_token(depth: int) -> None:
    above = [ROOT]
    for number in range(depth):
        above.insert(0, mint_ca(f"middle {number}", parent=above[0]))
    tsa = mint_tsa(parents=above)
    for embedded in (tsa.chain[:-1], tsa.chain[:-1][::-1], tsa.chain):
        assert accepted(stamped(tsa, *embedded), tsa.trusted(above=depth + 1)).time == AT


def test_unrelated_certificates_beside_the_signer() -> None:
    strangers = [certificate for _ in range(3) for certificate in mint_tsa().chain]
    assert accepted(stamped(TSA, *strangers, TSA.chain[0])).time == AT
    assert accepted(stamped(TSA, TSA.chain[0], *strangers)).time == AT


def test_certificate_that_stands_there_twice() -> None:
    assert accepted(stamped(TSA, *TSA.chain[:1] * 2)).time == AT


@pytest.mark.parametrize("order", [1, -1])
def test_other_certificate_of_the_same_key_beside_the_signer(order: int) -> None:
    twin = mint_tsa(parents=[ROOT], key=TSA.key)
    both = [twin.chain[0], TSA.chain[0]][::order]
    assert accepted(stamped(TSA, *both, by_key_identifier=True)).time == AT


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    "kind", ["over", "of-another-root", "of-another-key", "no-authority", "no-constraints"]
)
def test_second_intermediate_of_the_same_name(kind: str, order: int) -> None:
    middle = mint_ca("middle", parent=ROOT, start=AT, end=AT)
    names = middle.certificate.subject, ROOT.certificate.subject
    bare = signed(certificate_builder(names, middle.key, START, START + YEAR, ()), ROOT.key)
    others = {
        "over": mint_ca("middle", parent=ROOT, key=middle.key, end=AT - SECOND),
        "of-another-root": mint_ca("middle", parent=mint_ca("elsewhere"), key=middle.key),
        "of-another-key": mint_ca("middle", parent=ROOT),
        "no-authority": mint_ca("middle", parent=ROOT, key=middle.key, is_ca=False),
        "no-constraints": Ca(bare, middle.key),
    }
    tsa = mint_tsa(parents=[middle, ROOT])
    both = [middle.certificate, others[kind].certificate][::order]
    assert accepted(stamped(tsa, tsa.chain[0], *both)).time == AT


def test_intermediate_of_the_token_in_place_of_the_one_in_the_root_of_its_name() -> None:
    old, new = (mint_ca("middle", parent=ROOT) for _ in range(2))
    tsa = mint_tsa(parents=[new, ROOT])
    assert accepted(stamped(tsa, *tsa.chain[:2]), trusting(old, ROOT)).time == AT


def test_authorities_with_and_without_leaf_side_by_side() -> None:
    listed = mint_tsa()
    for authorities in ((listed.trusted(), OPEN), (OPEN, listed.trusted())):
        for embedded in (None, listed.chain[:1]):
            response = stamp(listed, SIGNATURE, at=AT, embedded=embedded)
            assert accepted(response, *authorities).time == AT
        assert accepted(stamped(TSA), *authorities).time == AT


def test_same_authority_twice_with_different_periods() -> None:
    over = TSA.trusted(TimeRange(START - 2 * SECOND, START - SECOND), above=1)
    assert accepted(stamped(TSA), over, OPEN).time == AT
    assert accepted(stamped(TSA), OPEN, over).time == AT


def test_signers_of_one_authority_count_as_one() -> None:
    nameless = replace(OPEN, uri="")
    second = mint_tsa(parents=[ROOT])
    found = {accepted(stamped(tsa), nameless).counts_as for tsa in (TSA, second)}
    assert len(found) == 1


@pytest.mark.parametrize("bits", [["digital_signature"], ["content_commitment"]])
def test_key_usage_that_allows_signing(bits: list[str]) -> None:
    tsa = mint_tsa(parents=[ROOT], key_usages=bits)
    assert accepted(stamped(tsa)).time == AT
    assert accepted(stamped(tsa), tsa.trusted()).time == AT


# --- refused: no signer --------------------------------------------------------------------


@pytest.mark.parametrize("embedded", [None, []], ids=["none", "empty"])
def test_token_without_certificates_cannot_be_judged(
    embedded: Sequence[x509.Certificate] | None,
) -> None:
    with pytest.raises(VerificationError) as error:
        accepted(stamp(TSA, SIGNATURE, at=AT, embedded=embedded))
    assert error.value.check == "timestamp-authority"
    assert "no certificate" in error.value.message
    assert repr(OPEN.uri) in error.value.message


def test_token_with_all_but_its_signers_certificate() -> None:
    with pytest.raises(VerificationError) as error:
        accepted(stamped(TSA, ROOT.certificate))
    assert error.value.check == "timestamp-authority"
    assert "no certificate" not in error.value.message


def test_other_leaf_is_still_refused_where_the_trust_root_lists_one() -> None:
    other = mint_tsa(parents=[ROOT])
    assert refused(stamped(TSA, other.chain[0]), TSA.trusted()) == "timestamp-certificate"
    assert refused(stamped(other), TSA.trusted()) == "timestamp-authority"


# --- refused: another authority's ----------------------------------------------------------


def test_signer_of_another_authority() -> None:
    stranger = mint_tsa(parents=[mint_ca("elsewhere")])
    assert refused(stamped(stranger)) == "timestamp-authority"
    assert refused(stamped(stranger, *stranger.chain)) == "timestamp-authority"
    assert "timestamp-authority" in UNVERIFIABLE


def test_signer_of_another_authority_of_the_same_name() -> None:
    assert refused(stamped(mint_tsa(parents=[mint_ca("tsa root")]))) == "timestamp-chain"


def test_intermediate_that_is_missing() -> None:
    tsa = mint_tsa(parents=[mint_ca("middle", parent=ROOT), ROOT])
    assert refused(stamped(tsa)) == "timestamp-authority"
    assert refused(stamped(tsa, tsa.chain[0], ROOT.certificate)) == "timestamp-authority"


def test_intermediate_of_another_key() -> None:
    tsa = mint_tsa(parents=[mint_ca("middle", parent=ROOT), ROOT])
    other = mint_ca("middle", parent=ROOT)
    assert refused(stamped(tsa, tsa.chain[0], other.certificate)) == "timestamp-chain"


def test_root_that_the_token_brings_is_no_anchor() -> None:
    other = mint_ca("tsa root")
    tsa = mint_tsa(parents=[mint_ca("middle", parent=other), other])
    assert refused(stamped(tsa, *tsa.chain)) == "timestamp-chain"


def test_authorities_of_the_token_that_vouch_for_each_other() -> None:
    first = mint_ca("first")
    second = mint_ca("second", parent=first)
    first = mint_ca("first", parent=second, key=first.key)
    tsa = mint_tsa(parents=[first, second])
    assert refused(stamped(tsa, *tsa.chain)) == "timestamp-authority"


# --- refused: the path ---------------------------------------------------------------------


@pytest.mark.parametrize("which", ["leaf", "intermediate", "root"])
@pytest.mark.parametrize(
    ("start", "end", "good"),
    [(AT, AT, True), (AT + SECOND, AT + 2 * SECOND, False), (START - SECOND, AT - SECOND, False)],
    ids=["exactly-then", "later", "before"],
)
def test_every_certificate_must_be_valid_then(
    which: str, start: object, end: object, good: bool
) -> None:
    limits: dict[str, object] = {"start": start, "end": end}
    root = mint_ca("root", **(limits if which == "root" else {}))  # type: ignore[arg-type]
    middle = mint_ca("middle", parent=root, **(limits if which == "intermediate" else {}))  # type: ignore[arg-type]
    tsa = mint_tsa(parents=[middle, root], **(limits if which == "leaf" else {}))  # type: ignore[arg-type]
    for response, authority in (
        (stamped(tsa, *tsa.chain[:2]), tsa.trusted(above=2)),
        (stamped(tsa), tsa.trusted(above=1)),
    ):
        if good:
            assert accepted(response, authority).time == AT
        else:
            assert refused(response, authority) == "timestamp-chain"


def test_what_is_wrong_with_the_path_is_said() -> None:
    root = mint_ca("tsa root", end=AT - SECOND)
    with pytest.raises(VerificationError) as error:
        accepted(stamped(mint_tsa(parents=[root])), trusting(root))
    assert error.value.check == "timestamp-chain"
    assert "is valid from" in error.value.message


@pytest.mark.parametrize(
    "fault",
    [{"is_ca": False}, {"cert_sign": False}, {"cert_sign": None}, {"usages": [CODE_SIGNING]}],
    ids=["no-ca", "no-cert-sign", "no-key-usage", "other-usage"],
)
def test_intermediate_of_the_token_must_be_an_authority(fault: dict[str, object]) -> None:
    tsa = mint_tsa(parents=[mint_ca("middle", parent=ROOT, **fault), ROOT])  # type: ignore[arg-type]
    assert refused(stamped(tsa, *tsa.chain[:2])) == "timestamp-chain"


def test_path_length_that_allows_no_intermediate() -> None:
    short = mint_ca("short", path_length=0)
    tsa = mint_tsa(parents=[mint_ca("middle", parent=short), short])
    assert refused(stamped(tsa, *tsa.chain[:2]), trusting(short)) == "timestamp-chain"


def test_authority_must_be_in_use_then() -> None:
    late = TSA.trusted(TimeRange(AT + SECOND, None), above=1)
    assert refused(stamped(TSA), late) == "timestamp-validity"


# --- refused: the signer -------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"usages": None},
        {"usages": [TIME_STAMPING, CODE_SIGNING]},
        {"usages": [CODE_SIGNING]},
        {"usages": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]},
        {"critical": False},
        {"is_ca": True},
        {"key_usages": ["key_cert_sign", "crl_sign"]},
        {"key_usages": ["key_encipherment"]},
    ],
    ids=["none", "one-more", "other", "any", "not-critical", "ca", "for-certificates", "for-keys"],
)
def test_signer_must_be_for_time_stamping_alone(fault: dict[str, object]) -> None:
    tsa = mint_tsa(parents=[ROOT], **fault)  # type: ignore[arg-type]
    assert refused(stamped(tsa)) == "timestamp-usage"


def test_authority_itself_signs_no_timestamps() -> None:
    for usages in (None, [TIME_STAMPING]):
        root = mint_ca("tsa root", usages=usages)
        own = Tsa(root.key, (root.certificate,))
        for embedded, check in ((None, "timestamp-authority"), (own.chain, "timestamp-usage")):
            response = stamp(own, SIGNATURE, at=AT, embedded=embedded)
            assert refused(response, own.trusted()) == check


def test_signature_of_another_key() -> None:
    assert refused(stamped(TSA, signer_key=ec_key())) == "timestamp-signature"


def test_signed_for_another_certificate() -> None:
    other = mint_tsa(parents=[ROOT])
    assert refused(stamped(TSA, signing_certificate=other.chain[0])) == "timestamp-certificate"


def test_certificate_must_be_bound_where_the_trust_root_does_not_list_it() -> None:
    """RFC 3161, 2.4.2: else whoever passes the token on could exchange it for another one."""
    bare = {"edit_attributes": lambda given: given[:2]}
    assert refused(stamped(TSA, **bare)) == "timestamp-certificate"
    assert accepted(stamped(TSA, **bare), TSA.trusted()).time == AT


def test_certificate_exchanged_for_another_one_of_the_same_key() -> None:
    twin = mint_tsa(parents=[ROOT], key=TSA.key)
    response = stamped(TSA, twin.chain[0], by_key_identifier=True)
    assert refused(response) == "timestamp-certificate"


def test_bound_by_the_first_version_of_the_attribute() -> None:
    def bound(cert_hash: bytes) -> bytes:
        certs = [asn1.EssCertId(cert_hash=cert_hash, issuer_serial=None)]
        value = asn1.SigningCertificate(certs=certs, policies=None)
        only = attribute(asn1.OID_ATTR_SIGNING_CERTIFICATE, value)
        return stamped(TSA, edit_attributes=lambda given: [*given[:2], only])

    right = hashlib.sha1(der(TSA.chain[0])).digest()
    assert accepted(bound(right)).time == AT
    assert refused(bound(bytes(20))) == "timestamp-certificate"


# --- limits --------------------------------------------------------------------------------


def test_more_certificates_than_any_authority_sends() -> None:
    many = [mint_ca(f"stranger {number}").certificate for number in range(MAX_BROUGHT)]
    assert accepted(stamped(TSA, TSA.chain[0], *many[1:])).time == AT
    assert refused(stamped(TSA, TSA.chain[0], *many)) == "timestamp-format"
    assert accepted(stamped(TSA, TSA.chain[0], *many), TSA.trusted()).time == AT


@pytest.mark.parametrize(("leaves", "good"), [(5, True), (6, False)])
def test_certificates_that_all_name_each_other(leaves: int, good: bool) -> None:
    """Of four that may be the issuer each, which is 12 links, and 20 or 24 from the leaves."""
    roots = [mint_ca("tsa root").certificate for _ in range(4)]
    below = [mint_tsa(parents=[ROOT]).chain[0] for _ in range(leaves - 1)]
    response = stamped(TSA, TSA.chain[0], *below, *roots)
    assert MAX_LINKS == 32
    if good:
        assert accepted(response).time == AT
    else:
        assert refused(response) == "timestamp-format"


def test_certificate_that_cannot_be_read_is_passed_over() -> None:
    garbage = x509.UnrecognizedExtension(ExtensionOID.KEY_USAGE, b"\x05\x00")
    odd = mint_leaf(ec_key(), ROOT, leaf=Leaf(key_usages=None, others=((garbage, False),)))
    assert accepted(stamped(TSA, odd, TSA.chain[0])).time == AT


# --- the request ---------------------------------------------------------------------------


def test_certificates_are_asked_for_where_the_trust_root_lacks_one() -> None:
    assert not wants_certificates([])
    assert not wants_certificates([TSA.trusted(), mint_tsa().trusted()])
    assert wants_certificates([mint_tsa().trusted(), OPEN])

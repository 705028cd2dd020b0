"""RFC 3161 responses: what is accepted, and each way one can be wrong while all else is right."""

import base64
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core import asn1
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.timestamp import (
    UNVERIFIABLE,
    VerifiedTimestamp,
    build_request,
    verify_timestamp,
)
from keylessd.core.trusted_root import Authority, TimeRange
from keylessd.errors import VerificationError
from sigsim.pki import CODE_SIGNING, SERVER_AUTH, START, TIME_STAMPING, ec_key, mint_ca
from sigsim.stamps import Tsa, attribute, mint_tsa, rejection, stamp
from sigsim.worlds import tampered

SIGNATURE = b"a raw signature of any length"
AT = START + timedelta(minutes=1)
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
TSA = mint_tsa()
TRUSTED = TSA.trusted()
GOOD = stamp(TSA, SIGNATURE, at=AT)
WITH_CERTIFICATE = stamp(TSA, SIGNATURE, at=AT, embedded=TSA.chain[:1])


def accepted(response: bytes, *authorities: Authority, **more: int) -> VerifiedTimestamp:
    return verify_timestamp(response, SIGNATURE, authorities or [TRUSTED], nonce=more.get("nonce"))


def refused(response: bytes, *authorities: Authority, **more: int) -> str:
    with pytest.raises(VerificationError) as error:
        accepted(response, *authorities, **more)
    return error.value.check


# --- the request ---------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", HashAlgorithm)
@pytest.mark.parametrize("certificates", [True, False])
def test_request_says_what_to_stamp(algorithm: HashAlgorithm, certificates: bool) -> None:
    digest = digest_of(algorithm, SIGNATURE)
    raw = build_request(digest, nonce=2**63 + 5, certificates=certificates)
    request = asn1.decode(asn1.TimeStampReq, raw)
    assert request.version == 1
    assert request.message_imprint.hashed_message == digest.value
    assert request.nonce == 2**63 + 5
    assert request.cert_req is certificates
    assert request.req_policy is None


def test_request_is_these_bytes() -> None:
    digest = digest_of(HashAlgorithm.SHA256, b"")
    expected = "3037020101302f300b0609608648016503040201 0420" + digest.hex + "020105"
    assert build_request(digest, nonce=5, certificates=False) == bytes.fromhex(expected)


# --- accepted ------------------------------------------------------------------------------


def test_time_and_authority_are_returned() -> None:
    verified = accepted(GOOD)
    assert verified.time == AT
    assert verified.authority == TRUSTED.uri
    assert verified.serial == 7


@pytest.mark.parametrize("algorithm", HashAlgorithm)
def test_any_sha2_imprint(algorithm: HashAlgorithm) -> None:
    assert accepted(stamp(TSA, SIGNATURE, at=AT, algorithm=algorithm)).time == AT


def test_fraction_of_a_second_is_kept() -> None:
    moment = AT + timedelta(milliseconds=120)
    assert accepted(stamp(TSA, SIGNATURE, at=moment)).time == moment


@pytest.mark.parametrize(
    ("fraction", "microseconds"),
    [(b".1234567", 123456), (b".123456789", 123456), (b"." + b"9" * 60, 999999), (b".5", 500000)],
)
def test_digits_beyond_the_microsecond_are_cut_off(fraction: bytes, microseconds: int) -> None:
    written = f"{AT:%Y%m%d%H%M%S}".encode() + fraction + b"Z"
    verified = accepted(stamp(TSA, SIGNATURE, at=AT, written=written))
    assert verified.time == AT.replace(microsecond=microseconds)


@pytest.mark.parametrize(
    "written",
    [
        b"20260230000000Z",
        b"20260101240000Z",
        b"20260101000060Z",
        b"20260101000000",
        b"20260101000000.Z",
        b"20260101000000.120Z",
        b"20260101000000,5Z",
        b"20260101000000.5",
        b"20260101000000+0000",
        b"202601010000Z",
        b" 20260101000000Z",
        b"00000101000000Z",
        b"",
    ],
)
def test_time_that_is_none_cannot_be_judged(written: bytes) -> None:
    assert refused(stamp(TSA, SIGNATURE, at=AT, written=written)) == "timestamp-format"


@pytest.mark.parametrize("count", [0, 1, 2], ids=["empty-set", "leaf", "leaf-and-root"])
def test_embedded_certificates_of_the_authority_itself(count: int) -> None:
    assert accepted(stamp(TSA, SIGNATURE, at=AT, embedded=TSA.chain[:count])).time == AT


def test_embedded_certificates_in_any_order() -> None:
    for chain in (TSA.chain, TSA.chain[::-1]):
        assert accepted(stamp(TSA, SIGNATURE, at=AT, embedded=chain)).time == AT


def test_signer_named_by_key_identifier() -> None:
    assert accepted(stamp(TSA, SIGNATURE, at=AT, by_key_identifier=True)).time == AT


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()],
    ids=["rsa", "ed25519"],
)
def test_other_kinds_of_key(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> None:
    tsa = mint_tsa(key=key)
    assert accepted(stamp(tsa, SIGNATURE, at=AT), tsa.trusted()).time == AT


def test_signing_certificate_attribute_may_be_absent() -> None:
    response = stamp(TSA, SIGNATURE, at=AT, edit_attributes=lambda given: given[:2])
    assert accepted(response).time == AT


def test_signing_certificate_of_the_first_version() -> None:
    raw = TSA.chain[0].public_bytes(Encoding.DER)
    value = asn1.SigningCertificate(
        certs=[asn1.EssCertId(cert_hash=hashlib.sha1(raw).digest(), issuer_serial=None)],
        policies=None,
    )
    right = attribute(asn1.OID_ATTR_SIGNING_CERTIFICATE, value)
    response = stamp(TSA, SIGNATURE, at=AT, edit_attributes=lambda given: [*given, right])
    assert accepted(response).time == AT


def test_nonce_of_a_stranger_does_not_matter() -> None:
    assert accepted(stamp(TSA, SIGNATURE, at=AT, nonce=5)).time == AT


def test_nonce_of_ours_is_repeated() -> None:
    assert accepted(stamp(TSA, SIGNATURE, at=AT, nonce=5), nonce=5).time == AT


def test_another_authority_in_front_is_passed_over() -> None:
    assert accepted(GOOD, mint_tsa().trusted(), TRUSTED).time == AT


def test_same_authority_twice_with_different_periods() -> None:
    over = TSA.trusted(TimeRange(START - 2 * SECOND, START - SECOND))
    assert accepted(GOOD, over, TRUSTED).time == AT
    assert accepted(GOOD, TRUSTED, over).time == AT


def test_stamps_of_an_operator_count_as_one() -> None:
    def counts_as(tsa: Tsa, **named: str) -> str:
        return accepted(stamp(tsa, SIGNATURE, at=AT), tsa.trusted(**named)).counts_as

    one, two = mint_tsa(), mint_tsa()
    first, second = {"uri": "https://one.example"}, {"uri": "https://two.example"}
    assert counts_as(one, operator="op", **first) == counts_as(two, operator="op", **second)
    assert counts_as(one, **first) != counts_as(two, **second)
    # A certificate that was renewed makes no second authority.
    assert counts_as(one, **first) == counts_as(two, **first)


def test_authorities_without_a_name_count_by_their_certificates() -> None:
    one, two = mint_tsa(), mint_tsa()
    found = {
        accepted(stamp(tsa, SIGNATURE, at=AT), replace(tsa.trusted(), uri="")).counts_as
        for tsa in (one, two, one)
    }
    assert len(found) == 2


def test_signers_digest_algorithm_is_a_listed_one() -> None:
    other = asn1.AlgorithmIdentifier(algorithm=asn1.OID_SHA512, parameters=None)
    assert refused(stamp(TSA, SIGNATURE, at=AT, listed=other)) == "timestamp-format"


# --- 1: encoding and status ----------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [b"", b"\x30\x00", GOOD + b"\x00", GOOD[:-1], b"\x30\x80" + GOOD[4:] + b"\x00\x00"],
    ids=["empty", "empty-sequence", "trailing", "truncated", "indefinite"],
)
def test_what_is_no_response_is_unverifiable(response: bytes) -> None:
    assert refused(response) == "timestamp-format"


def test_large_response_is_unverifiable_however_good() -> None:
    for size, good in ((1 << 19, True), (1 << 20, False)):
        ballast = attribute(asn1.OID_ATTR_SIGNING_TIME, b"x" * size)
        response = stamp(TSA, SIGNATURE, at=AT, edit_attributes=lambda given: [*given, ballast])  # noqa: B023
        if good:
            assert accepted(response).time == AT
        else:
            assert refused(response) == "timestamp-format"


def test_too_long_response_is_unverifiable() -> None:
    assert refused(b"\x30" * ((1 << 20) + 1)) == "timestamp-format"


@pytest.mark.parametrize(
    ("response", "check"),
    [
        (rejection(), "timestamp-status"),
        (rejection(status=0), "timestamp-format"),
        (stamp(TSA, SIGNATURE, at=AT, status=2), "timestamp-status"),
        (stamp(TSA, SIGNATURE, at=AT, status=1), "timestamp-status"),
        (stamp(TSA, SIGNATURE, at=AT, version=2), "timestamp-format"),
        (stamp(TSA, SIGNATURE, at=AT, signers=0), "timestamp-format"),
        (stamp(TSA, SIGNATURE, at=AT, signers=2), "timestamp-format"),
        (
            stamp(TSA, SIGNATURE, at=AT, content_type=x509.ObjectIdentifier("1.2.3")),
            "timestamp-format",
        ),
    ],
    ids=[
        "rejected",
        "granted-without-token",
        "rejected-with-token",
        "modified",
        "version",
        "unsigned",
        "two",
        "content",
    ],
)
def test_response_that_is_no_granted_timestamp(response: bytes, check: str) -> None:
    assert refused(response) == check


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_response_raises_nothing_else(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(WITH_CERTIFICATE)
    for place, value in changes:
        raw[place % len(raw)] = value
    with contextlib.suppress(VerificationError):
        assert accepted(bytes(raw)).time


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_raise_nothing_else(raw: bytes) -> None:
    assert refused(raw) in {"timestamp-format", "timestamp-status"}


@pytest.mark.parametrize("size", range(0, len(GOOD), 7))
def test_truncated_response_is_unverifiable(size: int) -> None:
    assert refused(GOOD[:size]) in UNVERIFIABLE


# --- 2: what was stamped -------------------------------------------------------------------


def test_stamp_of_another_signature() -> None:
    assert refused(stamp(TSA, tampered(SIGNATURE), at=AT)) == "timestamp-imprint"


def test_stamp_of_the_base64_text() -> None:
    assert refused(stamp(TSA, base64.b64encode(SIGNATURE), at=AT)) == "timestamp-imprint"


@pytest.mark.parametrize("oid", ["1.3.14.3.2.26", "2.16.840.1.101.3.4.2.8"], ids=["sha1", "sha3"])
def test_stamp_with_another_hash(oid: str) -> None:
    response = stamp(TSA, SIGNATURE, at=AT, imprint_oid=x509.ObjectIdentifier(oid))
    assert refused(response) == "timestamp-imprint"


@pytest.mark.parametrize("answered", [None, 4, -5])
def test_stamp_with_another_nonce(answered: int | None) -> None:
    assert refused(stamp(TSA, SIGNATURE, at=AT, nonce=answered), nonce=5) == "timestamp-nonce"


# --- 3: the signature ----------------------------------------------------------------------

Attributes = list[asn1.Attribute]


def test_attribute_of_another_type_cannot_be_read() -> None:
    typed = attribute(asn1.OID_ATTR_CONTENT_TYPE, b"no object identifier")
    response = stamp(TSA, SIGNATURE, at=AT, edit_attributes=lambda given: [typed, *given[1:]])
    assert refused(response) == "timestamp-format"


OTHER = attribute(asn1.OID_ATTR_CONTENT_TYPE, asn1.OID_SIGNED_DATA)
WRONG_DIGEST = attribute(asn1.OID_ATTR_MESSAGE_DIGEST, b"\x00" * 32)


@pytest.mark.parametrize(
    "edit",
    [
        lambda given: given[1:],
        lambda given: [OTHER, *given[1:]],
        lambda given: [given[0], *given],
        lambda given: [given[0], given[2]],
        lambda given: [given[0], WRONG_DIGEST, given[2]],
        lambda given: [*given, WRONG_DIGEST],
        lambda given: [given[0], attribute(asn1.OID_ATTR_MESSAGE_DIGEST), given[2]],
    ],
    ids=[
        "no-content-type",
        "other-content-type",
        "content-type-twice",
        "no-digest",
        "other-digest",
        "two-digests",
        "no-value",
    ],
)
def test_signed_attributes_must_fit_the_content(edit: Callable[[Attributes], Attributes]) -> None:
    response = stamp(TSA, SIGNATURE, at=AT, edit_attributes=edit)
    assert refused(response) == "timestamp-attributes"


def test_signature_of_another_key() -> None:
    assert refused(stamp(TSA, SIGNATURE, at=AT, signer_key=ec_key())) == "timestamp-signature"


def test_signature_algorithm_of_another_kind_of_key() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert refused(stamp(TSA, SIGNATURE, at=AT, signer_key=key)) == "timestamp-signature"


def test_signature_algorithm_that_was_not_used() -> None:
    wrong = stamp(TSA, SIGNATURE, at=AT, signed_by=asn1.OID_ED25519)
    assert refused(wrong) == "timestamp-signature"
    tsa = mint_tsa(key=ed25519.Ed25519PrivateKey.generate())
    other = stamp(tsa, SIGNATURE, at=AT, signed_by=asn1.OID_ECDSA_SHA256)
    with pytest.raises(VerificationError) as error:
        verify_timestamp(other, SIGNATURE, [tsa.trusted()])
    assert error.value.check == "timestamp-signature"


@pytest.mark.parametrize("oid", [asn1.OID_ECDSA_SHA256, asn1.OID_ED25519, asn1.OID_SHA256])
def test_signature_algorithm_that_rsa_has_not(oid: x509.ObjectIdentifier) -> None:
    tsa = mint_tsa(key=rsa.generate_private_key(65537, 2048))
    response = stamp(tsa, SIGNATURE, at=AT, signed_by=oid)
    with pytest.raises(VerificationError) as error:
        verify_timestamp(response, SIGNATURE, [tsa.trusted()])
    assert error.value.check == "timestamp-signature"


def test_content_hashed_by_an_unsupported_algorithm() -> None:
    sha1 = asn1.AlgorithmIdentifier(
        algorithm=x509.ObjectIdentifier("1.3.14.3.2.26"), parameters=None
    )
    response = stamp(TSA, SIGNATURE, at=AT, hashed_by=sha1, listed=sha1)
    assert refused(response) == "timestamp-attributes"


@pytest.mark.parametrize("fault", [{"token_type": asn1.OID_TST_INFO}, {"detached": True}])
def test_token_that_holds_no_signed_content(fault: dict[str, object]) -> None:
    assert refused(stamp(TSA, SIGNATURE, at=AT, **fault)) == "timestamp-format"  # type: ignore[arg-type]


def test_flipped_signature_bit() -> None:
    assert refused(tampered(GOOD)) == "timestamp-signature"


# --- 4: the signer -------------------------------------------------------------------------


def test_unknown_authority_is_unverifiable() -> None:
    stranger = mint_tsa()
    for embedded in (None, stranger.chain[:1]):
        response = stamp(stranger, SIGNATURE, at=AT, embedded=embedded)
        assert refused(response) == "timestamp-authority"
    assert "timestamp-authority" in UNVERIFIABLE


def test_authority_is_known_by_issuer_and_serial_number_together() -> None:
    right = TSA.chain[0]
    for issuer, serial in ((x509.Name([]), right.serial_number), (right.issuer, 5)):
        name = SimpleNamespace(issuer=issuer, serial_number=serial)
        response = stamp(TSA, SIGNATURE, at=AT, signer_name=name)  # type: ignore[arg-type]
        assert refused(response) == "timestamp-authority"


def test_trust_root_without_authorities() -> None:
    with pytest.raises(VerificationError) as error:
        verify_timestamp(GOOD, SIGNATURE, [])
    assert error.value.check == "timestamp-authority"


def test_embedded_certificate_of_a_stranger() -> None:
    response = stamp(TSA, SIGNATURE, at=AT, embedded=mint_tsa().chain[:1])
    assert refused(response) == "timestamp-certificate"


def test_embedded_certificate_with_the_same_key_is_still_another() -> None:
    twin = mint_tsa(key=TSA.key)
    response = stamp(TSA, SIGNATURE, at=AT, embedded=twin.chain[:1])
    assert refused(response) == "timestamp-certificate"


def test_signed_for_no_certificate() -> None:
    def edit(given: Attributes) -> Attributes:
        nothing = asn1.SigningCertificateV2(certs=[], policies=None)
        return [*given[:2], attribute(asn1.OID_ATTR_SIGNING_CERTIFICATE_V2, nothing)]

    response = stamp(TSA, SIGNATURE, at=AT, edit_attributes=edit)
    assert refused(response) == "timestamp-certificate"


def test_signed_for_a_certificate_by_an_unsupported_hash() -> None:
    der = TSA.chain[0].public_bytes(Encoding.DER)
    sha1 = asn1.AlgorithmIdentifier(
        algorithm=x509.ObjectIdentifier("1.3.14.3.2.26"), parameters=None
    )
    name = asn1.EssCertIdV2(
        hash_algorithm=sha1, cert_hash=hashlib.sha1(der).digest(), issuer_serial=None
    )
    value = asn1.SigningCertificateV2(certs=[name], policies=None)
    bound = attribute(asn1.OID_ATTR_SIGNING_CERTIFICATE_V2, value)
    response = stamp(TSA, SIGNATURE, at=AT, edit_attributes=lambda given: [*given[:2], bound])
    assert refused(response) == "timestamp-certificate"


@pytest.mark.parametrize("first", ["right", "other", "none"])
@pytest.mark.parametrize("second", ["right", "other"])
def test_both_versions_of_the_signing_certificate_must_fit(first: str, second: str) -> None:
    chains = {"right": TSA.chain[0], "other": mint_tsa().chain[0]}
    certs = [
        asn1.EssCertId(
            cert_hash=hashlib.sha1(chains[name].public_bytes(Encoding.DER)).digest(),
            issuer_serial=None,
        )
        for name in [first]
        if name in chains
    ]
    value = asn1.SigningCertificate(certs=certs, policies=None)
    old = attribute(asn1.OID_ATTR_SIGNING_CERTIFICATE, value)
    response = stamp(
        TSA, SIGNATURE, at=AT, signing_certificate=chains[second],
        edit_attributes=lambda given: [*given, old],
    )  # fmt: skip
    if first == second == "right":
        assert accepted(response).time == AT
    else:
        assert refused(response) == "timestamp-certificate"


def test_signed_for_another_certificate() -> None:
    response = stamp(TSA, SIGNATURE, at=AT, signing_certificate=mint_tsa().chain[0])
    assert refused(response) == "timestamp-certificate"


def test_signed_for_another_certificate_in_the_first_version() -> None:
    value = asn1.SigningCertificate(
        certs=[asn1.EssCertId(cert_hash=b"\x00" * 20, issuer_serial=None)], policies=None
    )
    wrong = attribute(asn1.OID_ATTR_SIGNING_CERTIFICATE, value)
    response = stamp(TSA, SIGNATURE, at=AT, edit_attributes=lambda given: [*given, wrong])
    assert refused(response) == "timestamp-certificate"


# --- 5: what the signer may do -------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"usages": None},
        {"usages": [TIME_STAMPING, CODE_SIGNING]},
        {"usages": [CODE_SIGNING]},
        {"usages": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]},
        {"critical": False},
        {"key_usages": ["key_cert_sign"]},
    ],
    ids=["no-usage", "one-more", "other", "any", "not-critical", "no-signatures"],
)
def test_certificate_must_be_for_time_stamping_alone(fault: dict[str, object]) -> None:
    tsa = mint_tsa(**fault)  # type: ignore[arg-type]
    assert refused(stamp(tsa, SIGNATURE, at=AT), tsa.trusted()) == "timestamp-usage"


@pytest.mark.parametrize(
    ("start", "end", "good"),
    [
        (AT, None, True),
        (AT + MICROSECOND, None, False),
        (START, AT, True),
        (START, AT - MICROSECOND, False),
        (None, AT, False),
    ],
)
def test_authority_must_be_in_use_then(
    start: datetime | None, end: datetime | None, good: bool
) -> None:
    authority = TSA.trusted(TimeRange(start, end))
    if good:
        assert accepted(GOOD, authority).time == AT
    else:
        assert refused(GOOD, authority) == "timestamp-validity"


@pytest.mark.parametrize("which", ["leaf", "intermediate", "root"])
@pytest.mark.parametrize(
    ("start", "end", "good"),
    [
        (AT, AT, True),
        (AT + SECOND, AT + 2 * SECOND, False),
        (START - SECOND, AT - SECOND, False),
    ],
    ids=["exactly-then", "later", "before"],
)
def test_every_certificate_must_be_valid_then(
    which: str, start: datetime, end: datetime, good: bool
) -> None:
    limits = {"start": start, "end": end}
    root = mint_ca("root", **(limits if which == "root" else {}))
    middle = mint_ca("middle", parent=root, **(limits if which == "intermediate" else {}))
    tsa = mint_tsa(parents=[middle, root], **(limits if which == "leaf" else {}))  # type: ignore[arg-type]
    response = stamp(tsa, SIGNATURE, at=AT)
    if good:
        assert accepted(response, tsa.trusted()).time == AT
    else:
        assert refused(response, tsa.trusted()) == "timestamp-chain"


@pytest.mark.parametrize(
    ("usages", "good"),
    [([TIME_STAMPING], True), (None, True), ([CODE_SIGNING], False), ([SERVER_AUTH], False)],
)
def test_usage_of_an_intermediate(usages: list[x509.ObjectIdentifier] | None, good: bool) -> None:
    root = mint_ca("root")
    tsa = mint_tsa(parents=[mint_ca("middle", parent=root, usages=usages), root])
    response = stamp(tsa, SIGNATURE, at=AT)
    if good:
        assert accepted(response, tsa.trusted()).time == AT
    else:
        assert refused(response, tsa.trusted()) == "timestamp-chain"


def test_chain_that_does_not_hang_together() -> None:
    tsa = mint_tsa()
    broken = type(tsa)(tsa.key, (tsa.chain[0], mint_ca("tsa root").certificate))
    assert refused(stamp(broken, SIGNATURE, at=AT), broken.trusted()) == "timestamp-chain"


def test_chain_without_an_issuer() -> None:
    alone = type(TSA)(TSA.key, TSA.chain[:1])
    assert refused(GOOD, alone.trusted()) == "timestamp-chain"

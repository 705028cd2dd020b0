"""Paths to the trust root at a time, and each way one can be wrong."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from keylessd.core import chain
from keylessd.core.chain import verify_chain
from keylessd.core.trusted_root import Authority, TimeRange
from keylessd.errors import VerificationError
from sigsim.pki import (
    CODE_SIGNING,
    LIFETIME,
    SERVER_AUTH,
    START,
    Ca,
    Leaf,
    PrivateKey,
    authority,
    ec_key,
    mint_ca,
    mint_leaf,
)

SECOND = timedelta(seconds=1)
AT = START + timedelta(minutes=5)
KEY = ec_key()
ED = ed25519.Ed25519PrivateKey.generate()
ROOT = mint_ca("root")
CA = mint_ca("intermediate", parent=ROOT)
LEAF = mint_leaf(KEY, CA)
GOOD = authority(CA, ROOT)


def refused(leaf: x509.Certificate, *authorities: Authority, at: datetime = AT) -> str:
    with pytest.raises(VerificationError) as error:
        verify_chain(leaf, authorities, at)
    return error.value.check


def test_path_goes_from_leaf_to_anchor() -> None:
    assert verify_chain(LEAF, [GOOD], AT) == (LEAF, CA.certificate, ROOT.certificate)


@pytest.mark.parametrize(
    ("at", "good"),
    [
        (START, True),
        (START - SECOND, False),
        (START - timedelta(microseconds=1), False),
        (START + LIFETIME, True),
        (START + LIFETIME + timedelta(microseconds=999_999), True),
        (START + LIFETIME + SECOND, False),
    ],
    ids=["first", "before", "just-before", "last", "last-fraction", "after"],
)
def test_leaf_is_valid_in_whole_seconds_with_both_ends(at: datetime, good: bool) -> None:
    if good:
        assert verify_chain(LEAF, [GOOD], at)
    else:
        assert refused(LEAF, GOOD, at=at) == "certificate-expired"


@pytest.mark.parametrize("late", ["root", "intermediate"])
@pytest.mark.parametrize(
    ("start", "end", "good"),
    [
        (AT - SECOND, AT + SECOND, True),
        (AT, AT, True),
        (AT + SECOND, AT + timedelta(days=1), False),
        (AT - timedelta(days=1), AT - SECOND, False),
        (START - timedelta(days=2), START - timedelta(days=1), False),
    ],
    ids=["around", "exactly-then", "later", "ended-in-the-leafs-life", "ended-before-the-leaf"],
)
def test_every_certificate_above_must_be_valid_then(
    late: str, start: datetime, end: datetime, good: bool
) -> None:
    limits = {"start": start, "end": end}
    root = mint_ca("root", **(limits if late == "root" else {}))
    ca = mint_ca("intermediate", parent=root, **(limits if late == "intermediate" else {}))
    leaf = mint_leaf(KEY, ca)
    if good:
        assert len(verify_chain(leaf, [authority(ca, root)], AT)) == 3
    else:
        assert refused(leaf, authority(ca, root)) == "certificate-chain"


def test_remembered_path_does_not_outlive_its_certificates() -> None:
    root = mint_ca("root", end=AT)
    ca = mint_ca("intermediate", parent=root)
    leaf = mint_leaf(KEY, ca)
    assert verify_chain(leaf, [authority(ca, root)], AT)
    assert refused(leaf, authority(ca, root), at=AT + SECOND) == "certificate-chain"


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[tuple[x509.Certificate, ...]]:
    """What signatures were verified through, path by path."""
    done: list[tuple[x509.Certificate, ...]] = []
    verify = chain._verify

    def noted(leaf: x509.Certificate, above: chain._Issuers, at: datetime) -> None:
        done.append(above.issuers)
        verify(leaf, above, at)

    monkeypatch.setattr(chain, "_verify", noted)
    return done


def test_a_path_is_verified_once(verified: list[tuple[x509.Certificate, ...]]) -> None:
    leaf, anchored = mint_leaf(KEY, CA), authority(CA, ROOT)
    for seconds in range(3):
        assert verify_chain(leaf, [anchored], AT + seconds * SECOND)
    assert verified == [anchored.chain]


def test_of_another_leaf_only_the_lowest_step_is_verified(
    verified: list[tuple[x509.Certificate, ...]],
) -> None:
    anchored = authority(CA, ROOT)
    for _ in range(3):
        assert verify_chain(mint_leaf(KEY, CA), [anchored], AT)
    assert verified == [anchored.chain, (CA.certificate,), (CA.certificate,)]


def test_a_path_that_failed_vouches_for_nothing(
    verified: list[tuple[x509.Certificate, ...]],
) -> None:
    stranger = mint_ca("intermediate", parent=mint_ca("root"))
    anchored = authority(stranger, ROOT)
    for _ in range(2):
        assert refused(mint_leaf(KEY, stranger), anchored) == "certificate-chain"
    assert verified == [anchored.chain] * 2


@pytest.mark.parametrize(
    ("start", "end", "good"),
    [
        (AT, None, True),
        (AT + timedelta(microseconds=1), None, False),
        (AT + SECOND, None, False),
        (START, AT, True),
        (START, AT - timedelta(microseconds=1), False),
        (START, AT - SECOND, False),
        (None, None, False),
    ],
)
def test_authority_must_be_in_use_then(
    start: datetime | None, end: datetime | None, good: bool
) -> None:
    limited = authority(CA, ROOT, valid_for=TimeRange(start, end))
    if good:
        assert verify_chain(LEAF, [limited], AT)
    else:
        assert refused(LEAF, limited) == "certificate-chain"


def test_any_authority_in_use_may_be_the_one() -> None:
    stranger = mint_ca("stranger")
    over = authority(CA, ROOT, valid_for=TimeRange(START - 2 * SECOND, START - SECOND))
    assert verify_chain(LEAF, [over, authority(stranger), GOOD], AT)


def test_trust_root_without_authorities_refuses() -> None:
    assert refused(LEAF) == "certificate-chain"


def test_leaf_below_the_root_itself() -> None:
    leaf = mint_leaf(KEY, ROOT)
    assert len(verify_chain(leaf, [authority(ROOT)], AT)) == 2


def test_intermediate_may_be_the_anchor() -> None:
    assert verify_chain(LEAF, [authority(CA)], AT) == (LEAF, CA.certificate)


def test_leaf_may_skip_a_level_of_the_chain() -> None:
    leaf = mint_leaf(KEY, ROOT)
    assert verify_chain(leaf, [GOOD], AT) == (leaf, ROOT.certificate)


def test_longer_chain() -> None:
    middle = mint_ca("middle", parent=CA)
    leaf = mint_leaf(KEY, middle)
    assert len(verify_chain(leaf, [authority(middle, CA, ROOT)], AT)) == 4


def test_authority_of_the_same_name_and_another_key_is_refused() -> None:
    impostor = mint_ca("intermediate", parent=ROOT)
    assert refused(mint_leaf(KEY, impostor), GOOD) == "certificate-chain"


def test_chain_that_does_not_hang_together_is_refused() -> None:
    other = mint_ca("root")
    assert refused(LEAF, authority(CA, other)) == "certificate-chain"


def test_chain_with_more_than_the_path_is_refused() -> None:
    """Who lists an authority below another one means that it is."""
    beside = mint_ca("another", parent=ROOT)
    chain_of = replace(GOOD, chain=(CA.certificate, beside.certificate, ROOT.certificate))
    assert refused(mint_leaf(KEY, CA), chain_of) == "certificate-chain"


def test_leaf_of_a_stranger_is_refused() -> None:
    assert refused(mint_leaf(KEY, mint_ca("stranger")), GOOD) == "certificate-chain"


@pytest.mark.parametrize(
    ("usages", "good"),
    [
        ([CODE_SIGNING], True),
        ([SERVER_AUTH, CODE_SIGNING], True),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], True),
        (None, True),
        ([SERVER_AUTH], False),
        ([ExtendedKeyUsageOID.TIME_STAMPING], False),
    ],
)
def test_usage_of_an_intermediate(usages: list[x509.ObjectIdentifier] | None, good: bool) -> None:
    ca = mint_ca("intermediate", parent=ROOT, usages=usages)
    leaf = mint_leaf(KEY, ca)
    if good:
        assert verify_chain(leaf, [authority(ca, ROOT)], AT)
    else:
        assert refused(leaf, authority(ca, ROOT)) == "certificate-chain"


def test_usage_of_a_root_counts_too() -> None:
    root = mint_ca("root", usages=[SERVER_AUTH])
    assert refused(mint_leaf(KEY, root), authority(root)) == "certificate-chain"


@pytest.mark.parametrize(
    "fault",
    [{"is_ca": False}, {"cert_sign": False}, {"cert_sign": None}],
    ids=["no-ca", "no-cert-sign", "no-usage"],
)
def test_intermediate_must_be_an_authority(fault: dict[str, bool]) -> None:
    ca = mint_ca("intermediate", parent=ROOT, **fault)  # type: ignore[arg-type]
    assert refused(mint_leaf(KEY, ca), authority(ca, ROOT)) == "certificate-chain"


@pytest.mark.parametrize("cert_sign", [True, None, False])
@pytest.mark.parametrize("below", [True, False])
def test_anchor_need_not_say_what_its_key_is_for(cert_sign: bool | None, below: bool) -> None:
    """What `openssl req -x509` makes does not; but what it says counts."""
    root = mint_ca("root", cert_sign=cert_sign)
    ca = mint_ca("intermediate", parent=root) if below else root
    named = authority(ca, root) if below else authority(root)
    if cert_sign is False:
        assert refused(mint_leaf(KEY, ca), named) == "certificate-chain"
    else:
        assert verify_chain(mint_leaf(KEY, ca), [named], AT)


@pytest.mark.parametrize("is_ca", [True, False])
def test_constraints_of_an_authority_need_not_be_critical(is_ca: bool) -> None:
    ca = mint_ca("intermediate", parent=ROOT, is_ca=is_ca, critical=False)
    if is_ca:
        assert verify_chain(mint_leaf(KEY, ca), [authority(ca, ROOT)], AT)
    else:
        assert refused(mint_leaf(KEY, ca), authority(ca, ROOT)) == "certificate-chain"


def test_leaf_need_not_name_its_issuers_key() -> None:
    assert verify_chain(mint_leaf(KEY, CA, leaf=Leaf(issuer_key=False)), [GOOD], AT)


@pytest.mark.parametrize("with_key", [True, False])
def test_authority_may_name_its_issuers_certificate(with_key: bool) -> None:
    """RFC 5280, 4.2.1.1: by name and number beside its key or, of old, in place of that."""
    key = x509.SubjectKeyIdentifier.from_public_key(ROOT.key.public_key()).digest
    named = x509.AuthorityKeyIdentifier(
        key if with_key else None,
        [x509.DirectoryName(ROOT.certificate.subject)],
        ROOT.certificate.serial_number,
    )
    ca = mint_ca("intermediate", parent=ROOT, issuer_key=named)
    assert verify_chain(mint_leaf(KEY, ca), [authority(ca, ROOT)], AT)


POLICIES = x509.CertificatePolicies(
    [x509.PolicyInformation(x509.ObjectIdentifier("1.3.6.1.4.1.57264.3"), None)]
)


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize("kind", [KEY, ED])
def test_any_certificate_policy_will_do(kind: PrivateKey, critical: bool) -> None:
    """RFC 5280, 6.1.1 (c): nobody asked for one."""
    root = mint_ca("root", key=kind)
    ca = mint_ca("intermediate", parent=root, others=[(POLICIES, critical)])
    leaf = mint_leaf(KEY, ca, leaf=Leaf(others=((POLICIES, critical),)))
    assert verify_chain(leaf, [authority(ca, root)], AT)


@pytest.mark.parametrize("kind", [KEY, ED])
def test_authority_that_demands_a_policy_is_refused(kind: PrivateKey) -> None:
    root = mint_ca("root", key=kind)
    demand = (x509.PolicyConstraints(0, None), True)
    ca = mint_ca("intermediate", parent=root, others=[demand])
    assert refused(mint_leaf(KEY, ca), authority(ca, root)) == "certificate-chain"


@pytest.mark.parametrize("critical", [True, False])
def test_path_length_is_obeyed(critical: bool) -> None:
    root = mint_ca("root", path_length=0, critical=critical)
    ca = mint_ca("intermediate", parent=root)
    assert refused(mint_leaf(KEY, ca), authority(ca, root)) == "certificate-chain"


def test_unknown_critical_extension_is_refused() -> None:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    leaf = mint_leaf(KEY, CA, leaf=replace(Leaf(), others=((strange, True),)))
    assert refused(leaf, GOOD) == "certificate-chain"


def test_name_of_any_kind_leaves_the_path_alone() -> None:
    name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), b"\x0c\x03a!b")
    leaf = mint_leaf(KEY, CA, leaf=Leaf(names=(name,)))
    assert verify_chain(leaf, [GOOD], AT)


@pytest.mark.parametrize(
    "names", ["3006a304040141ff", "300587030a0000"], ids=["x400", "three bytes of an address"]
)
def test_names_that_the_library_cannot_read_refuse(names: str) -> None:
    odd = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex(names))
    leaf = mint_leaf(KEY, CA, leaf=Leaf(names=(), others=((odd, False),)))
    assert refused(leaf, GOOD) == "certificate-chain"


def test_ed25519_leaf() -> None:
    leaf = mint_leaf(ed25519.Ed25519PrivateKey.generate(), CA)
    assert verify_chain(leaf, [GOOD], AT)


def test_leaf_that_is_the_anchor_itself_is_refused() -> None:
    assert isinstance(CA, Ca)
    assert refused(ROOT.certificate, authority(ROOT), at=AT) == "certificate-chain"


def test_path_that_leaves_out_an_authority_of_the_chain_is_refused() -> None:
    """Its times and usages would count for nothing."""
    root = mint_ca("same")
    below = Ca(mint_ca("same", parent=root, key=root.key).certificate, root.key)
    assert refused(mint_leaf(KEY, below), authority(below, root)) == "certificate-chain"

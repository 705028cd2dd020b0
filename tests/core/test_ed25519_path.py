"""Paths below Ed25519 authorities: each rule alone broken, and what the library's rules allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from keylessd.core.chain import verify_chain
from keylessd.core.ed25519_path import verify_ed25519_path
from keylessd.core.timestamp import verify_timestamp
from keylessd.core.verify import VerifyOptions, verify_bundle
from keylessd.errors import VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
from sigsim.pki import (
    CODE_SIGNING,
    SERVER_AUTH,
    START,
    YEAR,
    Ca,
    Leaf,
    PrivateKey,
    authority,
    certificate_builder,
    ec_key,
    key_usage,
    mint_ca,
    mint_leaf,
    signed,
)
from sigsim.stamps import mint_tsa, stamp
from sigsim.worlds import SIGNED, World, digests

AT = START + timedelta(minutes=1)
KEY = ec_key()
Extension = tuple[x509.ExtensionType, bool]


def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@dataclass(frozen=True)
class Says:
    """What an authority's certificate says; every default is right."""

    constraints: Extension | None = (x509.BasicConstraints(ca=True, path_length=None), True)
    usage: Extension | None = (key_usage("key_cert_sign"), True)
    others: Sequence[Extension] = ()


def ca(
    name: str, parent: Ca | None = None, says: Says | None = None, key: PrivateKey | None = None
) -> Ca:
    says = says or Says()
    key = key or ed25519_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = parent.certificate.subject if parent else subject
    given = [extension for extension in (says.constraints, says.usage) if extension is not None]
    builder = certificate_builder(
        (subject, issuer), key, START - YEAR, START + YEAR, [*given, *says.others]
    )
    return Ca(signed(builder, parent.key if parent else key), key)


def accepted(leaf: x509.Certificate, *chain: Ca) -> bool:
    try:
        path = verify_chain(leaf, [authority(*chain)], AT)
    except VerificationError:
        return False
    assert path == (leaf, *(one.certificate for one in chain))
    return True


ROOT = ca("root")
MIDDLE = ca("middle", ROOT)


def test_leaf_below_an_ed25519_root() -> None:
    assert accepted(mint_leaf(KEY, ROOT), ROOT)


def test_leaf_below_two_ed25519_authorities() -> None:
    assert accepted(mint_leaf(KEY, MIDDLE), MIDDLE, ROOT)
    # And a second one, which is not a matter of what is remembered of the first.
    assert accepted(mint_leaf(ec_key(), MIDDLE), MIDDLE, ROOT)
    assert not accepted(mint_leaf(ec_key(), ca("middle", ROOT)), MIDDLE, ROOT)


@pytest.mark.parametrize("upper", [ec_key, ed25519_key])
def test_mixed_keys(upper: Callable[[], PrivateKey]) -> None:
    root = ca("root", key=upper())
    lower = ca("lower", root, key=ec_key() if upper is ed25519_key else ed25519_key())
    assert accepted(mint_leaf(KEY, lower), lower, root)
    assert accepted(mint_leaf(ec_key(), lower), lower, root)


def test_leaf_of_another_key_of_the_same_name() -> None:
    assert not accepted(mint_leaf(KEY, ca("root")), ROOT)


def test_intermediate_of_another_key_of_the_same_name() -> None:
    other = ca("middle", ca("root"))
    assert not accepted(mint_leaf(KEY, other), other, ROOT)


def test_intermediate_below_another_name() -> None:
    other = ca("middle", ca("another", key=ROOT.key))
    assert not accepted(mint_leaf(KEY, other), other, ROOT)


def test_certificate_that_was_altered() -> None:
    leaf = mint_leaf(KEY, ROOT)
    encoded = bytearray(leaf.public_bytes(serialization.Encoding.DER))
    encoded[-1] ^= 1
    assert not accepted(x509.load_der_x509_certificate(bytes(encoded)), ROOT)


NOT_AN_AUTHORITY = [
    Says(constraints=None),
    Says(constraints=(x509.BasicConstraints(ca=False, path_length=None), True)),
    Says(usage=(key_usage("digital_signature"), True)),
    Says(others=[(x509.ExtendedKeyUsage([SERVER_AUTH]), False)]),
    Says(others=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True)]),
    Says(others=[(x509.NameConstraints([x509.DNSName("a.example")], None), True)]),
    Says(others=[(x509.NameConstraints([x509.DNSName("a.example")], None), False)]),
]


@pytest.mark.parametrize("says", NOT_AN_AUTHORITY)
def test_what_is_no_authority(says: Says) -> None:
    root = ca("root", says=says)
    assert not accepted(mint_leaf(KEY, root), root)
    middle = ca("middle", ROOT, says)
    assert not accepted(mint_leaf(KEY, middle), middle, ROOT)


AN_AUTHORITY = [
    Says(constraints=(x509.BasicConstraints(ca=True, path_length=None), False)),
    Says(constraints=(x509.BasicConstraints(ca=True, path_length=0), True)),
    Says(others=[(x509.ExtendedKeyUsage([CODE_SIGNING]), True)]),
    Says(others=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), False)]),
]


@pytest.mark.parametrize("says", AN_AUTHORITY)
def test_what_is_an_authority(says: Says) -> None:
    middle = ca("middle", ROOT, says)
    assert accepted(mint_leaf(KEY, middle), middle, ROOT)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_path_length(length: int) -> None:
    says = Says(constraints=(x509.BasicConstraints(ca=True, path_length=length), True))
    root = ca("root", says=says)
    upper = ca("upper", root)
    lower = ca("lower", upper)
    assert accepted(mint_leaf(KEY, root), root)
    assert accepted(mint_leaf(KEY, upper), upper, root) == (length >= 1)
    assert accepted(mint_leaf(KEY, lower), lower, upper, root) == (length >= 2)


def test_authority_that_issued_itself_is_no_further_step() -> None:
    """RFC 5280, 6.1.4 (l)."""
    says = Says(constraints=(x509.BasicConstraints(ca=True, path_length=0), True))
    root = ca("root", says=says)
    leaf = mint_leaf(KEY, root)
    again = Ca(ca("root", root, says, key=root.key).certificate, root.key)
    verify_ed25519_path(leaf, [again.certificate, root.certificate])
    other = ca("other", root)
    with pytest.raises(ValueError, match="path length"):
        verify_ed25519_path(mint_leaf(KEY, other), [other.certificate, root.certificate])


def test_critical_extension_of_a_leaf() -> None:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert not accepted(mint_leaf(KEY, ROOT, leaf=replace(Leaf(), others=((strange, True),))), ROOT)
    assert accepted(mint_leaf(KEY, ROOT, leaf=replace(Leaf(), others=((strange, False),))), ROOT)


@pytest.mark.parametrize(
    ("hash_algorithm", "good"),
    [
        (hashes.SHA224(), False),
        (hashes.SHA256(), True),
        (hashes.SHA384(), True),
        (hashes.SHA512(), True),
    ],
)
def test_hash_of_a_signature(hash_algorithm: hashes.HashAlgorithm, good: bool) -> None:
    root = mint_ca("root")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "middle")])
    given = [Says.constraints, Says.usage]
    key = ed25519_key()
    names = (subject, root.certificate.subject)
    builder = certificate_builder(names, key, START - YEAR, START + YEAR, given)
    middle = Ca(builder.sign(root.key, hash_algorithm), key)
    assert accepted(mint_leaf(KEY, middle), middle, root) == good


def test_whole_bundle_below_an_ed25519_authority() -> None:
    world = World(ca_root=ROOT, ca=MIDDLE)
    signer = ExpectedSigner(identity="signer@example.com", issuer="https://issuer.example")
    verified = verify_bundle(
        world.message(),
        digests(),
        world.root(),
        expected=AnySigner((signer,)),
        options=VerifyOptions(),
    )
    assert verified.times[0].time == SIGNED


def test_timestamp_authority_below_an_ed25519_authority() -> None:
    tsa = mint_tsa(parents=[ROOT])
    stamped = verify_timestamp(stamp(tsa, b"signature", at=SIGNED), b"signature", [tsa.trusted()])
    assert stamped.time == SIGNED

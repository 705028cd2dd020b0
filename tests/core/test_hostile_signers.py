"""The signer: names and issuers in certificates, and managed keys. See `attempts`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attempts import (
    ISSUER,
    SHA256,
    SIGNER,
    Attempt,
    Attempts,
    one,
    resigned,
    v2_log,
    with_entry,
)
from keylessd.core.digests import HashAlgorithm
from keylessd.core.verify import ManagedKey, verify_bundle
from keylessd.errors import VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
from sigsim.pki import (
    Leaf,
    der,
    ec_key,
    utf8,
)
from sigsim.worlds import (
    ARTIFACT,
    World,
    digests,
    v1_log,
)

attempt = Attempts()


# --- another signer ------------------------------------------------------------------------

NAMES: dict[str, tuple[tuple[x509.GeneralName, ...], str | None]] = {
    "right": ((x509.RFC822Name("signer@example.com"),), None),
    "large letters": ((x509.RFC822Name("Signer@example.com"),), "identity"),
    "dot at the end": ((x509.RFC822Name("signer@example.com."),), "identity"),
    "nul": ((x509.RFC822Name("signer@example.com\0.evil.example"),), "identity"),
    "line end": ((x509.RFC822Name("signer@example.com\n"),), "identity"),
    "longer": ((x509.RFC822Name("signer@example.com.evil.example"),), "identity"),
    "two": (
        (x509.RFC822Name("signer@example.com"), x509.RFC822Name("eve@example.com")),
        "certificate-san",
    ),
    "twice": ((x509.RFC822Name("signer@example.com"),) * 2, "certificate-san"),
    "none": ((), "certificate-san"),
    "domain": ((x509.DNSName("signer@example.com"),), "certificate-san"),
    "uri": ((x509.UniformResourceIdentifier("signer@example.com"),), "identity-kind"),
    "other name": (
        (x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"),
                        utf8("signer@example.com")),),
        "identity-kind",
    ),
    "other name of another kind": (
        (x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.9"),
                        utf8("signer@example.com")),),
        "certificate-san",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_name_in_the_certificate(name: str) -> None:
    names, check = NAMES[name]
    world = World(leaf=Leaf(names=names))
    assert Attempt(world, world.message()).outcome() == check


ISSUERS: dict[str, tuple[tuple[tuple[int, bytes], ...], str | None]] = {
    "right": ((ISSUER,), None),
    "deprecated alone": (((1, b"https://issuer.example"),), None),
    "both agree": (((1, b"https://issuer.example"), ISSUER), None),
    "both differ": (((1, b"https://evil.example"), ISSUER), "certificate-issuer"),
    "none": ((), "certificate-issuer"),
    "empty": (((8, utf8("")),), "certificate-issuer"),
    "raw": (((8, b"https://issuer.example"),), "certificate-extension"),
    "printable string": (((8, b"\x13\x16https://issuer.example"),), "certificate-extension"),
    "something behind": (((8, utf8("https://issuer.example") + b"\0"),), "certificate-extension"),
    "deprecated in DER": (((1, utf8("https://issuer.example")),), "issuer"),
    "another": (((8, utf8("https://issuer.example/")),), "issuer"),
    "in the place of the subject": (
        ((24, utf8("https://issuer.example")), (8, utf8("https://evil.example"))), "issuer"),
}  # fmt: skip


@pytest.mark.parametrize("name", ISSUERS)
def test_issuer_in_the_certificate(name: str) -> None:
    extensions, check = ISSUERS[name]
    world = World(leaf=Leaf(extensions=extensions))
    assert Attempt(world, world.message()).outcome() == check


def test_wrong_signer_of_a_good_bundle_is_named_and_of_a_bad_one_not() -> None:
    eve = AnySigner((ExpectedSigner(identity="eve@example.com", issuer="https://issuer.example"),))
    world = World()
    for bundle, named in [(world.message(), True), (resigned(world, b"wrong"), False)]:
        with pytest.raises(VerificationError) as caught:
            verify_bundle(bundle, digests(), world.root(), expected=eve)
        assert ("identity" in caught.value.details) is named


# --- managed keys --------------------------------------------------------------------------


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())],
    ids=lambda key: key.curve.name,
)
def test_managed_key_of_each_curve(generation: int, key: ec.EllipticCurvePrivateKey) -> None:
    world = World(key=key, rekor=v2_log() if generation == 2 else v1_log())
    expected = ManagedKey(key.public_key())
    everything = digests(ARTIFACT, *HashAlgorithm)
    bundle = replace(world.message(managed=True, stamps=()), key_hint="any hint")
    tried = Attempt(world, bundle, expected=expected, artifact=everything)
    assert tried.outcome() is None
    assert replace(tried, expected=ManagedKey(ec_key().public_key())).outcome() in {
        "signature", "message-digest",
    }  # fmt: skip
    assert replace(tried, expected=SIGNER).outcome() == "key-material"


@attempt("entry-verifier")
def managed_key_and_an_entry_of_a_certificate() -> Attempt:
    world = one()
    bundle = world.message(managed=True)
    certified = world.body(bundle.content, SHA256, der(world.certificate()), managed=False)
    key = ManagedKey(world.key.public_key())
    return Attempt(world, with_entry(bundle, world.rekor.add(certified)), expected=key)


@attempt("log-unknown")
def managed_key_and_a_log_of_its_owner() -> Attempt:
    world = one()
    own = World(key=world.key, rekor=v1_log(base_url="https://own.example"))
    key = ManagedKey(world.key.public_key())
    return Attempt(world, own.message(managed=True), expected=key)


@pytest.mark.parametrize("name", attempt.named)
def test_attempt(name: str) -> None:
    attempt.check(name)

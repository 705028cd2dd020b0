"""A certificate is used only if every part of it is as it must be; each test spoils one part."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.errors import ServiceReplyError
from keylessd.keys.rules import CaRules
from keylessd.keys.slot import EphemeralKey, KeyDestroyedError
from keylessd.sandbox.ca import CertificateAuthority, Issued, Principal
from keylessd.sandbox.ctlog import CtLog
from keylessd.sandbox.faults import SkewedClock
from keylessd.sandbox.store import LogStore
from keylessd.sandbox.vault import MemoryVault
from ops_rig import EMAIL, EPOCH, Rig, open_rig


@pytest.mark.parametrize(
    ("issuer", "kind", "identity"),
    [
        ("login", "email", EMAIL),
        ("github", "uri", "https://github.com/example/project/.github/workflows/release.yml@"),
        ("kubernetes", "uri", "https://kubernetes.io/namespaces/default/serviceaccounts/builder"),
        ("spiffe", "uri", "spiffe://"),
        ("uri", "uri", "https://"),
        ("username", "othername", "builder!"),
    ],
)
async def test_every_kind_of_identity(autojump_clock, tmp_path, issuer, kind, identity):
    async with open_rig(tmp_path) as rig:
        email = EMAIL if issuer == "login" else None
        result = await rig.sign(token=rig.token(issuer=issuer, email=email))
        assert result.identity_kind == kind
        assert result.identity.startswith(identity)


async def test_a_federated_issuer_is_the_one_behind_it(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        upstream = "https://accounts.example.org"
        token = rig.token(claims={"federated_claims": {"connector_id": upstream, "user_id": "1"}})
        assert (await rig.sign(token=token)).issuer == upstream


def spoil(rig: Rig, change) -> None:
    """Let *change* make what the CA issues, from the CA, the principal and the key."""
    authority = rig.sigstore.authority
    original = authority.issue
    authority.issue = lambda principal, key: change(authority, original, principal, key)


def another_key(authority, original, principal, key):
    return original(principal, ec.generate_private_key(ec.SECP256R1()).public_key())


def another_identity(authority, original, principal, key):
    return original(replace(principal, san=x509.RFC822Name("eve@example.org")), key)


def another_kind(authority, original, principal, key):
    return original(replace(principal, san=x509.UniformResourceIdentifier(EMAIL)), key)


def another_issuer(authority, original, principal, key):
    extensions = {arc: "https://evil.example" for arc in principal.extensions if arc in (1, 8)}
    return original(
        Principal(principal.name, principal.san, {**principal.extensions, **extensions}), key
    )


def rebuilt(authority, builder) -> Issued:
    """Log and sign a certificate of another shape, as issue() does."""
    original = authority._builder
    authority._builder = lambda principal, key: builder
    try:
        return CertificateAuthority.issue(authority, Principal("", x509.DNSName("x")), AN_EC_KEY)
    finally:
        authority._builder = original


AN_EC_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


def with_extension(authority, principal, key, kind, value) -> x509.CertificateBuilder:
    """The usual certificate with one extension replaced."""
    usual = authority._builder(principal, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.chain[0].subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(EPOCH)
        .not_valid_after(EPOCH + timedelta(minutes=10))
    )
    for extension in usual._extensions:
        chosen = value if isinstance(extension.value, kind) else extension.value
        builder = builder.add_extension(chosen, critical=extension.critical)
    return builder


def two_names(authority, original, principal, key):
    names = x509.SubjectAlternativeName([principal.san, x509.RFC822Name("eve@example.org")])
    builder = with_extension(authority, principal, key, x509.SubjectAlternativeName, names)
    return rebuilt(authority, builder)


def no_code_signing(authority, original, principal, key):
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return rebuilt(
        authority, with_extension(authority, principal, key, x509.ExtendedKeyUsage, usage)
    )


def no_sct(authority, original, principal, key):
    leaf = authority._builder(principal, key).sign(authority._key, hashes.SHA256())
    return Issued((leaf, *authority.chain))


def unknown_ct_log(authority, original, principal, key):
    authority.log = CtLog(
        ec.generate_private_key(ec.SECP256R1()), LogStore.in_memory(), clock=authority._clock
    )
    return original(principal, key)


def early(authority, original, principal, key):
    authority._clock = SkewedClock(authority._clock)
    authority._clock.offset = timedelta(minutes=3)
    return original(principal, key)


def late(authority, original, principal, key):
    authority._clock = SkewedClock(authority._clock)
    authority._clock.offset = timedelta(minutes=-11)
    return original(principal, key)


def foreign_ca(authority, original, principal, key):
    other = CertificateAuthority.open(MemoryVault(), log=authority.log, clock=authority._clock)
    return other.issue(principal, key)


@pytest.mark.parametrize(
    "change",
    [
        another_key,
        another_identity,
        another_kind,
        another_issuer,
        two_names,
        no_code_signing,
        no_sct,
        unknown_ct_log,
        early,
        late,
        foreign_ca,
    ],
    ids=lambda change: change.__name__,
)
async def test_a_certificate_that_is_not_ours_is_refused(autojump_clock, tmp_path, change):
    async with open_rig(tmp_path) as rig:
        spoil(rig, change)
        with pytest.raises(ServiceReplyError) as caught:
            await rig.sign()
        assert caught.value.details["service"] == "fulcio"
        assert rig.entries == 0
        assert rig.house.ring.slots() == []


async def test_the_usual_certificate_rebuilt_is_taken(autojump_clock, tmp_path):
    # What the tests above change would pass if they changed nothing.
    def unchanged(authority, original, principal, key):
        builder = with_extension(authority, principal, key, x509.Certificate, None)
        return rebuilt(authority, builder)

    async with open_rig(tmp_path) as rig:
        spoil(rig, unchanged)
        await rig.sign()


@pytest.mark.parametrize("seconds", [-45, 45])
async def test_our_clock_may_be_a_little_off(autojump_clock, tmp_path, seconds):
    async with open_rig(tmp_path, "v2") as rig:
        rig.clock.offset = timedelta(seconds=seconds)
        await rig.sign()


@pytest.mark.parametrize(
    ("ahead", "ends"),
    [
        # The CA may have said what time it is there when it was asked for its rules.
        (None, " here"),
        (timedelta(minutes=-5), "; this machine's clock is 300 s behind that of the certificate"),
    ],
)
async def test_our_clock_may_not_be_far_off(autojump_clock, tmp_path, monkeypatch, ahead, ends):
    monkeypatch.setattr(CaRules, "ahead", lambda *_: ahead)
    async with open_rig(tmp_path, "v2") as rig:
        rig.clock.offset = timedelta(minutes=-5)
        with pytest.raises(ServiceReplyError, match="it is 2026-03-01T11:55:00Z here") as caught:
            await rig.sign()
        assert caught.value.message.removesuffix(" authority").endswith(ends)
        assert "clock" in caught.value.hint
        assert rig.entries == 0


# --- keys ----------------------------------------------------------------------------------


def test_a_destroyed_key_signs_nothing():
    key = EphemeralKey(HashAlgorithm.SHA256)
    key.destroy()
    with pytest.raises(KeyDestroyedError):
        key.sign_digest(digest_of(HashAlgorithm.SHA256, b""))
    with pytest.raises(KeyDestroyedError):
        key.csr()


def test_a_key_signs_only_digests_of_its_own_algorithm():
    with pytest.raises(ValueError, match="sha512"):
        EphemeralKey(HashAlgorithm.SHA256).sign_digest(digest_of(HashAlgorithm.SHA512, b""))


def test_a_key_cannot_be_pickled_and_its_repr_says_nothing():
    key = EphemeralKey(HashAlgorithm.SHA256)
    with pytest.raises(TypeError):
        pickle.dumps(key)
    assert repr(key) == "<EphemeralKey sha256>"

"""Signatures over digests and envelopes, and statements about artifacts."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from keylessd.core.artifact import MissingDigestError, check_statement, verify_content
from keylessd.core.bundle import Bundle, DsseEnvelope, MessageSignature
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.dsse import pae
from keylessd.core.verify import ManagedKey, Verified, VerifyOptions, verify_bundle
from keylessd.errors import VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
from sigsim.pki import PrivateKey, ec_key
from sigsim.worlds import (
    ARTIFACT,
    IN_TOTO,
    RekorLog,
    World,
    digests,
    sign,
    sign_prehashed,
    statement,
    tampered,
    v1_log,
)

SHA256, SHA384, SHA512 = HashAlgorithm.SHA256, HashAlgorithm.SHA384, HashAlgorithm.SHA512
HEX = digest_of(SHA256, ARTIFACT).hex
ABOUT = {"sha256": HEX}
SIGNER = AnySigner(
    (ExpectedSigner(identity="signer@example.com", issuer="https://issuer.example"),)
)
CURVES: dict[str, Callable[[], ec.EllipticCurve]] = {
    "p256": ec.SECP256R1,
    "p384": ec.SECP384R1,
    "p521": ec.SECP521R1,
}


def message(key: PrivateKey, *, algorithm: HashAlgorithm, claimed: bool = True) -> MessageSignature:
    digest = digest_of(algorithm, ARTIFACT) if claimed else None
    return MessageSignature(sign(key, ARTIFACT, algorithm), digest)


def envelope(
    key: PrivateKey, payload: bytes = b"{}", algorithm: HashAlgorithm | None = None
) -> DsseEnvelope:
    return DsseEnvelope(payload, IN_TOTO, sign(key, pae(IN_TOTO, payload), algorithm), "")


def refused(
    content: MessageSignature | DsseEnvelope, key: PrivateKey, *known: HashAlgorithm
) -> str:
    with pytest.raises(VerificationError) as error:
        verify_content(content, key.public_key(), digests(ARTIFACT, *known))
    assert not isinstance(error.value, MissingDigestError)
    return error.value.check


# --- which hash ----------------------------------------------------------------------------


@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "unclaimed"])
@pytest.mark.parametrize(
    ("curve", "algorithm"),
    [
        ("p256", SHA256),
        ("p384", SHA384),
        ("p521", SHA512),
        ("p384", SHA256),
        ("p521", SHA256),
    ],
)
def test_hash_of_the_key_or_the_old_one(
    curve: str, algorithm: HashAlgorithm, claimed: bool
) -> None:
    key = ec_key(CURVES[curve]())
    content = message(key, algorithm=algorithm, claimed=claimed)
    found = verify_content(content, key.public_key(), digests(ARTIFACT, *HashAlgorithm))
    assert found == digest_of(algorithm, ARTIFACT)


@pytest.mark.parametrize(
    ("curve", "algorithm"),
    [("p256", SHA384), ("p256", SHA512), ("p384", SHA512), ("p521", SHA384)],
)
def test_hash_that_is_not_the_keys(curve: str, algorithm: HashAlgorithm) -> None:
    key = ec_key(CURVES[curve]())
    assert refused(message(key, algorithm=algorithm), key, *HashAlgorithm) == "message-digest"
    unclaimed = message(key, algorithm=algorithm, claimed=False)
    assert refused(unclaimed, key, *HashAlgorithm) == "signature"


@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "unclaimed"])
@pytest.mark.parametrize(("curve", "algorithm"), [("p384", SHA384), ("p521", SHA512)])
def test_digest_that_is_needed_is_named(
    curve: str, algorithm: HashAlgorithm, claimed: bool
) -> None:
    key = ec_key(CURVES[curve]())
    content = message(key, algorithm=algorithm, claimed=claimed)
    with pytest.raises(MissingDigestError) as error:
        verify_content(content, key.public_key(), digests(ARTIFACT, SHA256))
    assert error.value.algorithm is algorithm
    assert error.value.details["alg"] == algorithm.value
    assert error.value.code == "need_digest"


def test_no_digest_at_all() -> None:
    key = ec_key()
    with pytest.raises(MissingDigestError) as error:
        verify_content(message(key, algorithm=SHA256), key.public_key(), {})
    assert error.value.algorithm is SHA256


def test_rsa_signs_sha256() -> None:
    key = rsa.generate_private_key(65537, 2048)
    signature = key.sign(ARTIFACT, padding.PKCS1v15(), hashes.SHA256())
    assert verify_content(MessageSignature(signature, None), key.public_key(), digests())


def test_digest_cannot_stand_for_what_ed25519_signed_itself() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    content = MessageSignature(key.sign(ARTIFACT), None)
    assert refused(content, key, *HashAlgorithm) == "signature"
    sha256 = digest_of(HashAlgorithm.SHA256, ARTIFACT)
    assert refused(replace(content, digest=sha256), key, *HashAlgorithm) == "key-kind"


def test_ed25519_signs_a_digest_of_512_bits() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    signature = sign_prehashed(key, ARTIFACT)
    sha512 = digest_of(HashAlgorithm.SHA512, ARTIFACT)
    for claimed in (None, sha512):
        content = MessageSignature(signature, claimed)
        assert verify_content(content, key.public_key(), digests(ARTIFACT, *HashAlgorithm)) == (
            sha512
        )
    with pytest.raises(MissingDigestError) as caught:
        verify_content(content, key.public_key(), digests())
    assert caught.value.algorithm is HashAlgorithm.SHA512
    wrong = MessageSignature(signature, None)
    other = {HashAlgorithm.SHA512: digest_of(HashAlgorithm.SHA512, b"other")}
    with pytest.raises(VerificationError) as refusal:
        verify_content(wrong, key.public_key(), other)
    assert refusal.value.check == "signature"
    assert refusal.value.hint is not None


def test_envelope_signed_by_ed25519_over_its_digest() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    message = pae("t", b"p")
    content = DsseEnvelope(b"p", "t", sign_prehashed(key, message), "")
    signed = verify_content(content, key.public_key(), {})
    assert signed == digest_of(HashAlgorithm.SHA512, message)
    with pytest.raises(VerificationError):
        verify_content(replace(content, payload=b"q"), key.public_key(), {})


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("managed", [True, False])
def test_bundle_of_ed25519(generation: int, managed: bool) -> None:
    log = v1_log() if generation == 1 else RekorLog(2, ed25519.Ed25519PrivateKey.generate())
    world = World(key=ed25519.Ed25519PrivateKey.generate(), rekor=log)
    expected = ManagedKey(world.key.public_key()) if managed else SIGNER
    bundle = world.message(managed=managed, algorithm=HashAlgorithm.SHA512)
    everything = digests(ARTIFACT, *HashAlgorithm)
    verified = verify_bundle(bundle, everything, world.root(), expected=expected)
    assert verified.digest == everything[HashAlgorithm.SHA512]
    payload = statement({"sha256": everything[HashAlgorithm.SHA256].hex})
    envelope = world.envelope(payload, managed=managed, algorithm=HashAlgorithm.SHA512)
    assert verify_bundle(envelope, everything, world.root(), expected=expected).statement == payload


@pytest.mark.parametrize("generation", [1, 2])
def test_bundle_of_rsa(generation: int) -> None:
    log = v1_log() if generation == 1 else RekorLog(2, ed25519.Ed25519PrivateKey.generate())
    world = World(key=rsa.generate_private_key(65537, 2048), rekor=log)
    bundle = world.message()
    assert verify_bundle(bundle, digests(), world.root(), expected=SIGNER).signer is not None


# --- signature and claimed digest ----------------------------------------------------------


def test_another_artifact() -> None:
    key = ec_key()
    content = message(key, algorithm=SHA256)
    for unclaimed, check in ((False, "message-digest"), (True, "signature")):
        changed = replace(content, digest=None) if unclaimed else content
        with pytest.raises(VerificationError) as error:
            verify_content(changed, key.public_key(), digests(b"another"))
        assert error.value.check == check


def test_claimed_digest_of_another_artifact_over_a_good_signature() -> None:
    key = ec_key()
    wrong = replace(message(key, algorithm=SHA256), digest=digest_of(SHA256, b"another"))
    assert refused(wrong, key) == "message-digest"


def test_signature_of_another_key() -> None:
    assert refused(message(ec_key(), algorithm=SHA256), ec_key()) == "signature"


@pytest.mark.parametrize("signature", [b"\x00", b"\x30\x00", b"x" * 4096])
def test_signature_that_is_none(signature: bytes) -> None:
    key = ec_key()
    assert refused(MessageSignature(signature, None), key) == "signature"


# --- envelopes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "algorithm"),
    [("p256", None), ("p384", None), ("p521", None), ("p384", SHA256), ("p521", SHA256)],
)
def test_envelope_of_each_curve(curve: str, algorithm: HashAlgorithm | None) -> None:
    key = ec_key(CURVES[curve]())
    assert verify_content(envelope(key, algorithm=algorithm), key.public_key(), digests())


def test_envelope_of_ed25519() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    assert verify_content(envelope(key), key.public_key(), digests()) is None
    wrong = replace(envelope(key), payload=b"[]")
    assert refused(wrong, key) == "signature"


def test_type_and_payload_are_both_signed() -> None:
    key = ec_key()
    right = envelope(key, b"payload")
    assert refused(replace(right, payload=b"Payload"), key) == "signature"
    assert refused(replace(right, payload_type="text/plain"), key) == "signature"
    assert refused(replace(right, signature=tampered(right.signature)), key) == "signature"
    # A sum of type and payload that stays the same must not be enough.
    moved = replace(right, payload_type=IN_TOTO[:-1], payload=b"n" + b"payload")
    assert refused(moved, key) == "signature"


def test_lengths_are_counted_in_bytes() -> None:
    key = ec_key()
    kind, payload = "application/é", "ü".encode()
    signed = b"DSSEv1 14 " + kind.encode() + b" 2 " + payload
    signature = sign(key, signed)
    content = DsseEnvelope(payload, kind, signature, "")
    assert verify_content(content, key.public_key(), digests()) == digest_of(SHA256, signed)


# --- statements ----------------------------------------------------------------------------


def statement_refused(payload: bytes, known: dict[HashAlgorithm, Digest], **more: object) -> str:
    content = DsseEnvelope(payload, IN_TOTO, b"-", "")
    with pytest.raises(VerificationError) as error:
        check_statement(content, known, **more)  # type: ignore[arg-type]
    return error.value.check


@pytest.mark.parametrize("place", [0, 1, 2])
def test_artifact_is_any_of_the_subjects(place: int) -> None:
    subjects = [{"sha256": "00" * 32}] * 2
    subjects.insert(place, ABOUT)
    content = DsseEnvelope(statement(*subjects), IN_TOTO, b"-", "")
    found = check_statement(content, digests())
    assert found is not None
    assert found.payload == content.payload


@pytest.mark.parametrize(
    "subjects",
    [
        [{"sha256": "00" * 32}],
        [{"sha256": HEX.upper()}],
        [{"sha256": HEX[:-2]}],
        [{"sha1": HEX}],
        [{"SHA256": HEX}],
    ],
    ids=["other", "upper-case", "short", "other-algorithm", "misnamed"],
)
def test_statement_about_something_else(subjects: list[dict[str, str]]) -> None:
    assert statement_refused(statement(*subjects), digests()) == "subject"


def test_two_digests_of_a_subject_must_both_fit() -> None:
    wrong = {"sha256": HEX, "sha512": "00" * 64}
    assert statement_refused(statement(wrong), digests(ARTIFACT, SHA256, SHA512)) == "subject"


def test_digest_that_the_subjects_are_named_by_is_asked_for() -> None:
    payload = statement({"sha512": digest_of(SHA512, ARTIFACT).hex})
    content = DsseEnvelope(payload, IN_TOTO, b"-", "")
    with pytest.raises(MissingDigestError) as error:
        check_statement(content, digests())
    assert error.value.algorithm is SHA512
    assert check_statement(content, digests(ARTIFACT, SHA256, SHA512))


def test_subject_of_another_hash_among_those_of_ours_is_asked_for() -> None:
    # One subject is named by the hash that was given, the artifact itself by another.
    about = {"sha512": digest_of(SHA512, ARTIFACT).hex}
    content = DsseEnvelope(statement({"sha256": "00" * 32}, about), IN_TOTO, b"-", "")
    with pytest.raises(MissingDigestError) as error:
        check_statement(content, digests())
    assert error.value.algorithm is SHA512
    found = check_statement(content, digests(ARTIFACT, SHA256, SHA512))
    assert found is not None
    assert found.digest == digest_of(SHA512, ARTIFACT)
    assert statement_refused(content.payload, digests(b"another", SHA256, SHA512)) == "subject"


def test_digest_that_is_reported_is_one_that_was_compared() -> None:
    world = World()
    payload = statement({"sha512": digest_of(SHA512, ARTIFACT).hex})
    result = verified(world, world.envelope(payload), *HashAlgorithm)
    assert result.digest == digest_of(SHA512, ARTIFACT)
    nothing = verify_bundle(
        world.envelope(payload), {}, world.root(),
        expected=SIGNER, options=VerifyOptions(any_subject=True),
    )  # fmt: skip
    assert nothing.digest is None


def test_statement_without_an_artifact() -> None:
    payload = statement(ABOUT)
    assert statement_refused(payload, {}) == "subject"
    content = DsseEnvelope(payload, IN_TOTO, b"-", "")
    assert check_statement(content, {}, any_subject=True)
    other = statement({"sha256": "00" * 32})
    assert statement_refused(other, digests(), any_subject=True) == "subject"


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", statement(), b"\xff"])
def test_payload_that_is_no_statement(payload: bytes) -> None:
    assert statement_refused(payload, digests()) == "statement"


@pytest.mark.parametrize("kind", ["text/plain", IN_TOTO.upper(), IN_TOTO + " "])
def test_payload_type_is_pinned(kind: str) -> None:
    content = DsseEnvelope(statement(ABOUT), kind, b"-", "")
    with pytest.raises(VerificationError) as error:
        check_statement(content, digests())
    assert error.value.check == "payload-type"


def test_predicate_type_as_expected() -> None:
    payload = statement(ABOUT)
    content = DsseEnvelope(payload, IN_TOTO, b"-", "")
    assert check_statement(content, digests(), predicate_type="https://example.com/p")
    wrong = {"predicate_type": "https://example.com/"}
    assert statement_refused(payload, digests(), **wrong) == "predicate-type"


def test_artifact_signature_holds_no_predicate() -> None:
    content = MessageSignature(b"-", None)
    assert check_statement(content, digests()) is None
    with pytest.raises(VerificationError) as error:
        check_statement(content, digests(), predicate_type="https://example.com/p")
    assert error.value.check == "predicate-type"


# --- in a whole bundle ---------------------------------------------------------------------


def verified(world: World, bundle: Bundle, *known: HashAlgorithm, **options: object) -> Verified:
    return verify_bundle(
        bundle,
        digests(ARTIFACT, *known),
        world.root(),
        expected=SIGNER,
        options=VerifyOptions(**options),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("curve", CURVES)
def test_bundle_of_each_curve(curve: str, generation: int) -> None:
    world = World(key=ec_key(CURVES[curve]()))
    if generation == 1:
        world.rekor = v1_log()
    assert verified(world, world.message(), *HashAlgorithm)
    assert verified(world, world.envelope(statement(ABOUT))).statement == statement(ABOUT)


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("curve", ["p384", "p521"])
def test_bundle_with_sha256_of_a_larger_curve(curve: str, generation: int) -> None:
    world = World(key=ec_key(CURVES[curve]()))
    if generation == 1:
        world.rekor = v1_log()
    bundle = world.message(algorithm=SHA256)
    assert verified(world, bundle, *HashAlgorithm).digest == digest_of(SHA256, ARTIFACT)
    assert verified(world, world.envelope(statement(ABOUT), algorithm=SHA256))


def test_statement_in_a_bundle() -> None:
    world = World()
    bundle = world.envelope(statement({"sha256": "00" * 32}, ABOUT))
    result = verified(world, bundle, predicate_type="https://example.com/p")
    assert result.predicate_type == "https://example.com/p"
    assert result.digest == digest_of(SHA256, ARTIFACT)


@pytest.mark.parametrize(
    ("payload", "kind", "check"),
    [
        (statement({"sha256": "00" * 32}), IN_TOTO, "subject"),
        (statement(ABOUT), "text/plain", "payload-type"),
        (b"{}", IN_TOTO, "statement"),
    ],
)
def test_well_signed_envelope_of_something_else(payload: bytes, kind: str, check: str) -> None:
    world = World()
    with pytest.raises(VerificationError) as error:
        verified(world, world.envelope(payload, payload_type=kind))
    assert error.value.check == check


def test_ed25519_managed_key_with_an_envelope() -> None:
    world = World(key=ed25519.Ed25519PrivateKey.generate(), rekor=v1_log())
    bundle = world.envelope(statement(ABOUT), managed=True)
    expected = ManagedKey(world.key.public_key())
    assert verify_bundle(bundle, digests(), world.root(), expected=expected).statement

"""What each step says it found, and that it says nothing it has not found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from keylessd.core.bundle import Bundle, BundleVersion
from keylessd.core.explain import key_name
from keylessd.core.note import NoteSignature, format_note
from keylessd.core.trusted_root import TimeRange
from keylessd.core.verify import KEYLESS_STEPS, ManagedKey, VerifyOptions, verify_bundle
from keylessd.errors import VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
from sigsim.pki import START, Leaf, ec_key, utf8
from sigsim.stamps import mint_tsa, stamp
from sigsim.worlds import SIGNED, RekorLog, World, digests, statement, tampered, v1_log

SIGNER = AnySigner(
    (ExpectedSigner(identity="signer@example.com", issuer="https://issuer.example"),)
)
SHA256 = next(iter(digests().values()))
AT = "2026-03-01 12:01:00Z"


def told(world: World, bundle: Bundle, expected: object = SIGNER, **options: object) -> dict:
    verified = verify_bundle(
        bundle,
        digests(),
        world.root(),
        expected=expected,  # type: ignore[arg-type]
        options=VerifyOptions(explain=True, **options),  # type: ignore[arg-type]
    )
    assert tuple(step.name for step in verified.report) == verified.steps
    return {step.name: list(step.facts) for step in verified.report}


def test_every_step_of_a_signed_artifact() -> None:
    leaf = Leaf(extensions=((8, utf8("https://issuer.example")), (20, utf8("push"))))
    world = World(rekor=v1_log(), leaf=leaf)
    bundle = world.message()
    (entry,) = bundle.entries
    assert entry.proof is not None
    root = entry.proof.root_hash.hex()
    proven = f"leaf 3 of 4, by 2 hashes up to the root {root}, which the log signed"
    facts = told(world, bundle, now=SIGNED)
    serial = facts["certificate"][0].split(",")[0]
    assert facts == {
        "bundle": [
            "a Sigstore bundle of version 0.3",
            "a signature over an artifact",
            "1 log entry, 1 timestamp",
        ],
        "certificate": [
            f"{serial}, valid from 2026-03-01 12:00:00Z to 2026-03-01 12:10:00Z",
            "ECDSA on P-256",
        ],
        "log-entries": [
            "entry 5003 of https://rekor.example (hashedrekord 0.0.1)",
            proven,
            f"the log signed that it took it at {AT}",
        ],
        "timestamps": [f"https://tsa.example/api/v1/timestamp saw the signature at {AT}"],
        "time": [
            f"{AT} according to https://tsa.example/api/v1/timestamp",
            f"{AT} according to https://rekor.example",
        ],
        "clock": ["no time is ahead of the clock"],
        "certificate-chain": [
            "issued by CN=intermediate below CN=root",
            f"all of them valid at {AT}, {AT}",
        ],
        "certificate-profile": [
            "it is for digital signatures and code signing, and no authority's"
        ],
        "certificate-transparency": [
            "https://ct.example promised to publish it at 2026-03-01 12:00:00Z"
        ],
        "signer": [
            "signer@example.com (email)",
            "vouched for by https://issuer.example",
            "build_trigger: push",
        ],
        "signature": [f"ECDSA on P-256 over the artifact's digest {SHA256}"],
        "entry-bodies": ["entry 5003 holds this signature, this signer and what was signed"],
        "statement": ["none: the artifact itself was signed"],
        "identity": ["signer@example.com is accepted"],
    }
    assert set(facts) == {step.name for step in KEYLESS_STEPS}


def test_statement_of_a_managed_key() -> None:
    world = World()
    expected = ManagedKey(world.key.public_key(), TimeRange(START, None))
    bundle = world.envelope(statement({"sha256": SHA256.hex}), managed=True)
    facts = told(world, bundle, expected)
    assert facts["bundle"][1] == "a signed payload of type application/vnd.in-toto+json"
    (key,) = facts["key"]
    assert key.startswith("ECDSA on P-256, SHA-256 ")
    assert facts["key-validity"] == ["the key was in use at each of the times"]
    assert facts["signature"][0].startswith("ECDSA on P-256 over the envelope's digest sha256:")
    assert facts["statement"] == ["of type https://example.com/p", f"about the artifact {SHA256}"]
    unstamped = replace(bundle, timestamps=())
    timeless = told(world, unstamped, ManagedKey(world.key.public_key()))
    assert timeless["time"] == ["none is known, and none is needed"]
    assert timeless["timestamps"] == ["none"]


def test_what_was_passed_over_is_said() -> None:
    world = World(rekor=v1_log())
    bundle = world.message()
    (entry,) = bundle.entries
    more = replace(
        bundle,
        entries=(entry, replace(entry, log_id=bytes(32))),
        timestamps=(*bundle.timestamps, stamp(mint_tsa(), b"x", at=SIGNED)),
    )
    facts = told(world, more)
    assert facts["log-entries"][-1] == "1 of logs that the trust root does not name, passed over"
    assert facts["timestamps"][-1] == "1 that this trust root cannot judge, passed over"
    assert facts["bundle"][-1] == "2 log entries, 2 timestamps"


@pytest.mark.parametrize(
    ("count", "names"),
    [(1, "w0"), (5, "w0, w1, w2, w3, w4"), (7, "w0, w1, w2, w3, w4 and 2 more")],
)
def test_witnesses_are_named_and_not_verified(count: int, names: str) -> None:
    world = World()
    bundle = world.message()
    (entry,) = bundle.entries
    assert entry.proof is not None
    witnesses = [NoteSignature(f"w{n}", b"hint", b"\0" * 72) for n in range(count)]
    lines = format_note(b"x\n", witnesses).partition("\n\n")[2]
    proof = replace(entry.proof, checkpoint=f"{entry.proof.checkpoint}{lines}")
    facts = told(world, replace(bundle, entries=(replace(entry, proof=proof),)))
    assert facts["log-entries"][2] == (
        f"also signed in the name of {names}; a trust root names no witnesses, so these are not "
        "verified"
    )
    assert len(told(world, bundle)["log-entries"]) == 2


def test_other_name_of_a_log_is_said() -> None:
    world = World(rekor=v1_log())
    named = World(rekor=RekorLog(1, world.rekor.key, base_url="https://public.example"))
    bundle = world.message()
    (entry,) = bundle.entries
    assert entry.proof is not None
    proof = replace(entry.proof, checkpoint=_checkpoint(named.rekor, world.rekor.leaves))
    facts = told(world, replace(bundle, entries=(replace(entry, proof=proof),)))
    assert facts["log-entries"][2] == "the log calls itself public.example"
    assert "in the name of" not in " ".join(facts["log-entries"])


def _checkpoint(log: RekorLog, leaves: list[bytes]) -> str:
    log.leaves = leaves
    return log.checkpoint()


def test_promise_in_place_of_a_proof_is_said() -> None:
    world = World(rekor=v1_log())
    bundle = world.message()
    (entry,) = bundle.entries
    old = replace(bundle, version=BundleVersion.COSIGN, entries=(replace(entry, proof=None),))
    facts = told(world, old)
    assert facts["bundle"][0] == "a JSON file of the kind that cosign wrote before version 3"
    assert facts["log-entries"][1] == "no proof of inclusion: the log's promise is taken for it"


def test_bundle_in_no_log() -> None:
    world = World()
    bare = replace(world.message(), version=BundleVersion.DETACHED, entries=())
    facts = told(world, bare, tlog_threshold=0)
    assert facts["bundle"][0] == "a signature in a file of its own"
    assert "log-entries" not in facts
    assert "entry-bodies" not in facts


def test_steps_that_passed_before_one_that_did_not() -> None:
    world = World()
    bundle = world.message()
    bad = replace(
        bundle, content=replace(bundle.content, signature=tampered(bundle.content.signature))
    )
    unstamped = replace(bad, timestamps=())
    for explain in (True, False):
        with pytest.raises(VerificationError) as caught:
            verify_bundle(
                unstamped,
                digests(),
                world.root(),
                expected=SIGNER,
                options=VerifyOptions(explain=explain),
            )
        assert caught.value.step == "time"
        names = [step.name for step in caught.value.passed]
        assert names == (["bundle", "certificate", "log-entries", "timestamps"] if explain else [])


def test_nothing_is_told_unless_asked() -> None:
    world = World()
    verified = verify_bundle(world.message(), digests(), world.root(), expected=SIGNER)
    assert verified.report == ()
    assert verified.form == "0.3"
    assert verified.omitted == ()


def test_keys_are_called_as_people_call_them() -> None:
    assert key_name(ec_key().public_key()) == "ECDSA on P-256"
    assert key_name(rsa.generate_private_key(65537, 2048).public_key()) == "RSA of 2048 bits"
    assert key_name(ed25519.Ed25519PrivateKey.generate().public_key()) == "Ed25519"


def test_what_was_done_without_is_in_the_facts() -> None:
    world = World()
    bundle = replace(world.message(), entries=())
    verified = verify_bundle(
        bundle,
        digests(),
        world.root(),
        expected=SIGNER,
        options=VerifyOptions(tlog_threshold=0, sct_threshold=0),
    )
    assert verified.omitted == ("log-entries", "certificate-transparency")
    managed = ManagedKey(world.key.public_key())
    verified = verify_bundle(
        world.message(managed=True),
        digests(),
        world.root(),
        expected=managed,
        options=VerifyOptions(sct_threshold=0),
    )
    assert verified.omitted == ()


def test_ed25519_envelope_has_no_digest_to_tell() -> None:
    world = World(key=ed25519.Ed25519PrivateKey.generate(), rekor=v1_log())
    facts = told(world, world.envelope(statement({"sha256": SHA256.hex})))
    assert facts["signature"] == ["Ed25519 over the envelope's encoding"]

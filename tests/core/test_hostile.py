"""Bundles made to deceive: signed anew, logged anew, stamped anew, and wrong in one respect.

Whoever makes one has a certificate, logs and authorities of their own, may log whatever they like
in the logs that are trusted, and may say anything in a bundle. Each row names what is tried.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from keylessd.core.bundle import Bundle, DsseEnvelope, MessageSignature, TlogEntry
from keylessd.core.bundle import serialize_bundle as serialize
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.dsse import pae
from keylessd.core.legacy import Detached, read_bundle
from keylessd.core.note import NoteSignature, checkpoint_body, format_note, note_key_id
from keylessd.core.trusted_root import TimeRange, TrustedRoot
from keylessd.core.verify import ManagedKey, VerifyOptions, verify_bundle
from keylessd.errors import VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
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
    utf8,
)
from sigsim.stamps import Tsa, mint_tsa, stamp
from sigsim.worlds import (
    ARTIFACT,
    IN_TOTO,
    SIGNED,
    RekorLog,
    World,
    digests,
    sign,
    statement,
    v1_log,
)

ISSUER = (8, utf8("https://issuer.example"))
SIGNER = AnySigner(
    (ExpectedSigner(identity="signer@example.com", issuer="https://issuer.example"),)
)
SECOND = timedelta(seconds=1)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SHA256 = next(iter(digests().values()))


@dataclass
class Attempt:
    """What is given to the verifier."""

    world: World
    bundle: Bundle
    root: TrustedRoot | None = None
    expected: AnySigner | ManagedKey = SIGNER
    artifact: dict[HashAlgorithm, Digest] = field(default_factory=digests)
    options: dict[str, Any] = field(default_factory=dict)

    def outcome(self) -> str | None:
        """Return the check that stops it, None if nothing does."""
        try:
            verify_bundle(
                self.bundle,
                self.artifact,
                self.root or self.world.root(),
                expected=self.expected,
                options=VerifyOptions(**self.options),
            )
        except VerificationError as exc:
            return exc.check
        return None


Maker = Callable[[], Attempt]
ATTEMPTS: dict[str, tuple[Maker, str | None]] = {}


def attempt(check: str | None, name: str = "") -> Callable[[Maker], Maker]:
    def keep(make: Maker) -> Maker:
        ATTEMPTS[(name or make.__name__).replace("_", " ")] = (make, check)
        return make

    return keep


def one(**more: Any) -> World:
    return World(rekor=v1_log(), **more)


def v2_log(url: str = "https://v2.example") -> RekorLog:
    return RekorLog(2, ed25519.Ed25519PrivateKey.generate(), base_url=url)


def with_entry(bundle: Bundle, entry: TlogEntry) -> Bundle:
    return replace(bundle, entries=(entry,))


def with_signature(bundle: Bundle, signature: bytes) -> Bundle:
    return replace(bundle, content=replace(bundle.content, signature=signature))


def relogged(world: World, bundle: Bundle, edit: Callable[[Any], None] | None = None) -> Bundle:
    """The bundle with a new entry, whose body *edit* may change before it is logged."""
    value = json.loads(bundle.entries[0].body)
    if edit is not None:
        edit(value)
    body = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    entry = world.rekor.add(body)
    old = bundle.entries[0]
    return with_entry(bundle, replace(entry, kind=old.kind, version=old.version))


def resigned(world: World, signature: bytes, **more: Any) -> Bundle:
    """A bundle whose wrong signature was logged and stamped as if it were right."""
    content = MessageSignature(signature, SHA256)
    leaf = more.get("leaf") or der(world.certificate())
    body = world.body(content, SHA256, leaf, managed=False)
    good = world.message()
    return replace(
        good,
        certificates=(leaf,),
        content=content,
        entries=(world.rekor.add(body),),
        timestamps=(stamp(world.tsa, signature, at=SIGNED),),
    )


def checkpoint_signed_by(
    log: RekorLog, key: Any, *, name: str | None = None, origin: str | None = None, more: str = ""
) -> str:
    entry = log.leaves
    assert entry
    lines = log.checkpoint().split("\n\n")[0].split("\n")
    body = (
        checkpoint_body(origin or lines[0], int(lines[1]), base64.b64decode(lines[2]))
        + more.encode()
    )
    called = name or log.name
    hint = note_key_id(called, key.public_key())[:4]
    return format_note(body, [NoteSignature(called, hint, sign(key, body, HashAlgorithm.SHA256))])


def with_checkpoint(bundle: Bundle, checkpoint: str) -> Bundle:
    (entry,) = bundle.entries
    assert entry.proof is not None
    return with_entry(bundle, replace(entry, proof=replace(entry.proof, checkpoint=checkpoint)))


# --- another log ---------------------------------------------------------------------------


@attempt("checkpoint-origin")
def checkpoint_of_another_trusted_log() -> Attempt:
    world, other = World(), v2_log("https://other.example")
    bundle = world.message()
    twin = other.add(bundle.entries[0].body)
    mixed = replace(twin, log_id=bundle.entries[0].log_id)
    root = world.root(tlogs=(world.rekor.trusted(), other.trusted()))
    return Attempt(world, with_entry(bundle, mixed), root)


@attempt("checkpoint-origin")
def entry_under_the_id_of_a_log_that_shares_its_key() -> Attempt:
    world = World()
    other = RekorLog(2, world.rekor.key, base_url="https://other.example")
    bundle = world.message()
    entry = replace(other.add(bundle.entries[0].body), log_id=world.rekor.key_id)
    root = world.root(tlogs=(world.rekor.trusted(), other.trusted()))
    return Attempt(world, with_entry(bundle, entry), root)


@attempt(None)
def two_logs_that_share_a_key_and_not_a_name() -> Attempt:
    world = World()
    other = RekorLog(2, world.rekor.key, base_url="https://other.example")
    bundle = world.message()
    entry = other.add(bundle.entries[0].body)
    root = world.root(tlogs=(world.rekor.trusted(), other.trusted()))
    return Attempt(world, with_entry(bundle, entry), root)


@attempt("checkpoint-signature")
def checkpoint_signed_by_the_signer_in_the_logs_name() -> Attempt:
    world = World()
    bundle = world.message()
    return Attempt(world, with_checkpoint(bundle, checkpoint_signed_by(world.rekor, world.key)))


@attempt("checkpoint-signature")
def checkpoint_with_a_line_added_after_it_was_signed() -> Attempt:
    world = World()
    bundle = world.message()
    note = world.rekor.checkpoint().replace("\n\n", "\nmore\n\n")
    return Attempt(world, with_checkpoint(bundle, note))


@attempt(None)
def checkpoint_with_extension_lines() -> Attempt:
    world = World()
    bundle = world.message()
    note = checkpoint_signed_by(world.rekor, world.rekor.key, more="frozen \u2014 for good\nx\n")
    return Attempt(world, with_checkpoint(bundle, note))


@attempt(None)
def checkpoint_with_witnesses_before_and_after_the_log() -> Attempt:
    world = World()
    bundle = world.message()
    head, _, line = world.rekor.checkpoint().partition("\n\n")
    witness = NoteSignature("witness.example/w1", b"wxyz", b"\0" * 72)
    lines = format_note(b"x\n", [witness]).partition("\n\n")[2]
    return Attempt(world, with_checkpoint(bundle, f"{head}\n\n{lines}{line}{lines}"))


@attempt("checkpoint-signature")
def checkpoint_of_witnesses_alone() -> Attempt:
    world = World()
    bundle = world.message()
    head = world.rekor.checkpoint().partition("\n\n")[0]
    lines = [NoteSignature(f"witness.example/{n}", b"wxyz", b"\0" * 72) for n in range(9)]
    note = f"{head}\n\n{format_note(b'x' + bytes([10]), lines).partition(chr(10) * 2)[2]}"
    return Attempt(world, with_checkpoint(bundle, note))


@attempt("checkpoint-format")
def checkpoint_with_windows_line_ends() -> Attempt:
    world = World()
    bundle = world.message()
    return Attempt(world, with_checkpoint(bundle, world.rekor.checkpoint().replace("\n", "\r\n")))


@attempt("inclusion-proof")
def index_beyond_the_tree() -> Attempt:
    world = World()
    bundle = world.message()
    (entry,) = bundle.entries
    assert entry.proof is not None
    beyond = replace(entry, log_index=4, proof=replace(entry.proof, log_index=4))
    return Attempt(world, with_entry(bundle, beyond))


@attempt("inclusion-proof")
def index_of_another_leaf() -> Attempt:
    world = World()
    bundle = world.message()
    (entry,) = bundle.entries
    assert entry.proof is not None
    other = replace(entry, log_index=2, proof=replace(entry.proof, log_index=2))
    return Attempt(world, with_entry(bundle, other))


@attempt("inclusion-proof")
def node_of_the_tree_as_a_leaf() -> Attempt:
    world = World()
    bundle = world.message()
    (entry,) = bundle.entries
    assert entry.proof is not None
    longer = replace(entry.proof, hashes=(*entry.proof.hashes, bytes(32)))
    return Attempt(world, with_entry(bundle, replace(entry, proof=longer)))


@attempt(None)
def only_leaf_of_a_tree() -> Attempt:
    log = v2_log()
    log.leaves = []
    world = World(rekor=log)
    return Attempt(world, world.message())


@attempt(None)
def last_leaf_of_a_tree_that_is_no_power_of_two() -> Attempt:
    log = v2_log()
    log.leaves = [bytes([n]) for n in range(36)]
    world = World(rekor=log)
    return Attempt(world, world.message())


@attempt("inclusion-promise")
def promise_for_another_index() -> Attempt:
    world = one()
    bundle = world.message(stamps=())
    (entry,) = bundle.entries
    return Attempt(world, with_entry(bundle, replace(entry, log_index=entry.log_index + 1)))


@attempt("inclusion-promise")
def promise_by_another_log_that_is_trusted_too() -> Attempt:
    world, other = one(), v1_log(base_url="https://other.example")
    bundle = world.message()
    (entry,) = bundle.entries
    foreign = other.promised(replace(entry, log_id=other.key_id), at=SIGNED)
    mixed = replace(entry, promise=foreign.promise)
    root = world.root(tlogs=(world.rekor.trusted(), other.trusted()))
    return Attempt(world, with_entry(bundle, mixed), root)


@attempt("promise-unexpected")
def promise_of_a_rekor_v2_to_make_its_time_count() -> Attempt:
    world = World()
    bundle = world.message(stamps=())
    (entry,) = bundle.entries
    promised = world.rekor.promised(entry, at=SIGNED)
    return Attempt(world, with_entry(bundle, promised))


@attempt("integrated-time")
def promise_after_the_logs_key_ended() -> Attempt:
    world = one()
    bundle = world.message()
    ended = world.rekor.trusted(TimeRange(START - LIFETIME, SIGNED - SECOND))
    return Attempt(world, bundle, world.root(tlogs=(ended,)))


@attempt(None)
def entry_of_a_key_that_was_replaced_later() -> Attempt:
    world = one()
    newer = v1_log()
    bundle = world.message()
    ended = world.rekor.trusted(TimeRange(START - LIFETIME, SIGNED))
    begun = newer.trusted(TimeRange(SIGNED, None))
    return Attempt(world, bundle, world.root(tlogs=(begun, ended)))


@attempt(None)
def rekor_v2_whose_period_is_over() -> Attempt:
    # No authentic time says when such a log took an entry.
    world = World()
    ended = world.rekor.trusted(TimeRange(START - LIFETIME, START - SECOND))
    return Attempt(world, world.message(), world.root(tlogs=(ended,)))


@attempt("log-validity")
def rekor_v2_of_which_the_root_does_not_say_since_when() -> Attempt:
    world = World()
    return Attempt(
        world, world.message(), world.root(tlogs=(world.rekor.trusted(TimeRange(None, None)),))
    )


# --- another entry -------------------------------------------------------------------------


@attempt("entry-signature")
def authentic_entry_of_another_signature() -> Attempt:
    world = one()
    return Attempt(world, replace(world.message(), entries=world.message().entries))


@attempt("entry-verifier")
def entry_of_another_certificate_for_the_same_key() -> Attempt:
    world = one()
    bundle = world.message()
    return Attempt(world, replace(bundle, certificates=(der(world.certificate()),)))


@attempt("entry-verifier")
def entry_by_the_bare_key_of_the_certificate() -> Attempt:
    world = one()
    bundle = world.message()
    managed = world.body(bundle.content, SHA256, spki_of(world.key), managed=True)
    return Attempt(world, with_entry(bundle, world.rekor.add(managed)))


def spki_of(key: Any) -> bytes:
    from keylessd.core.keys import spki

    return spki(key.public_key())


@attempt("entry-kind")
def envelope_logged_as_an_artifact() -> Attempt:
    world = one()
    payload = statement({"sha256": SHA256.hex})
    bundle = world.envelope(payload)
    message = pae(IN_TOTO, payload)
    as_artifact = MessageSignature(bundle.content.signature, None)
    body = world.body(
        as_artifact, digest_of(HashAlgorithm.SHA256, message), bundle.certificates[0], managed=False
    )
    return Attempt(world, with_entry(bundle, world.rekor.add(body)))


@attempt("entry-kind")
def artifact_logged_as_an_envelope() -> Attempt:
    world = one()
    bundle = world.message()
    content = DsseEnvelope(ARTIFACT, IN_TOTO, bundle.content.signature, "")
    body = world.body(content, SHA256, bundle.certificates[0], managed=False)
    return Attempt(world, with_entry(bundle, world.rekor.add(body)))


@attempt("entry-kind")
def kind_that_the_body_does_not_have() -> Attempt:
    world = one()
    bundle = world.message()
    (entry,) = bundle.entries
    wrong = relogged(world, bundle, lambda body: body.update(kind="dsse"))
    return Attempt(world, with_entry(wrong, replace(wrong.entries[0], kind=entry.kind)))


KINDS = "hashedrekord 0.0.3|dsse 0.0.2|rekord 0.0.1|intoto 0.0.1|HASHEDREKORD 0.0.1| "


@pytest.mark.parametrize("kind", [tuple(one.split(" ")) for one in KINDS.split("|")])
def test_unsupported_kind_is_refused_whatever_it_says(kind: tuple[str, str]) -> None:
    world = World()
    bundle = world.message()
    changed = relogged(world, bundle, lambda body: body.update(kind=kind[0], apiVersion=kind[1]))
    entry = replace(changed.entries[0], kind=kind[0], version=kind[1])
    assert Attempt(world, with_entry(bundle, entry)).outcome() == "entry-kind"


@attempt("entry-digest")
def logged_digest_of_another_artifact() -> Attempt:
    world = one()
    bundle = world.message()

    def edit(body: Any) -> None:
        body["spec"]["data"]["hash"]["value"] = hashlib.sha256(b"other").hexdigest()

    return Attempt(world, relogged(world, bundle, edit))


@attempt("entry-digest")
def logged_digest_in_large_letters() -> Attempt:
    world = one()

    def edit(body: Any) -> None:
        body["spec"]["data"]["hash"]["value"] = body["spec"]["data"]["hash"]["value"].upper()

    return Attempt(world, relogged(world, world.message(), edit))


@attempt("entry-digest")
def logged_digest_of_another_algorithm() -> Attempt:
    world = one()

    def edit(body: Any) -> None:
        body["spec"]["data"]["hash"]["algorithm"] = "sha512"

    return Attempt(world, relogged(world, world.message(), edit))


@attempt("entry-body")
def rekor_v2_leaf_with_a_field_more() -> Attempt:
    world = World()

    def edit(body: Any) -> None:
        body["spec"]["dsseV002"] = {}

    return Attempt(world, relogged(world, world.message(), edit))


@attempt("entry-body")
def rekor_v2_leaf_that_is_not_canonical() -> Attempt:
    world = World()
    bundle = world.message()
    body = json.dumps(json.loads(bundle.entries[0].body), indent=1).encode()
    return Attempt(world, with_entry(bundle, world.rekor.add(body)))


@attempt("entry-verifier")
def rekor_v2_leaf_with_another_kind_of_key() -> Attempt:
    world = World()

    def edit(body: Any) -> None:
        verifier = body["spec"]["hashedRekordV002"]["signature"]["verifier"]
        verifier["keyDetails"] = "PKIX_ECDSA_P384_SHA_384"

    return Attempt(world, relogged(world, world.message(), edit))


@attempt("entry-body")
def dsse_entry_with_a_second_signature() -> Attempt:
    world = one()

    def edit(body: Any) -> None:
        body["spec"]["signatures"] *= 2

    payload = statement({"sha256": SHA256.hex})
    return Attempt(world, relogged(world, world.envelope(payload), edit))


@attempt("entry-digest")
def dsse_entry_of_another_payload() -> Attempt:
    world = one()

    def edit(body: Any) -> None:
        body["spec"]["payloadHash"]["value"] = hashlib.sha256(b"other").hexdigest()

    payload = statement({"sha256": SHA256.hex})
    return Attempt(world, relogged(world, world.envelope(payload), edit))


@attempt(None)
def dsse_entry_of_an_envelope_that_was_written_otherwise() -> Attempt:
    world = one()

    def edit(body: Any) -> None:
        body["spec"]["envelopeHash"]["value"] = hashlib.sha256(b"other").hexdigest()

    payload = statement({"sha256": SHA256.hex})
    return Attempt(world, relogged(world, world.envelope(payload), edit))


def intoto_body(world: World, bundle: Bundle, **changes: Any) -> bytes:
    content = bundle.content
    assert isinstance(content, DsseEnvelope)
    pem = json.loads(world.body(content, SHA256, bundle.certificates[0], managed=False))
    twice = base64.b64encode(base64.b64encode(content.signature)).decode()
    signature = {"publicKey": pem["spec"]["signatures"][0]["verifier"], "sig": twice}
    value = {
        "apiVersion": "0.0.2",
        "kind": "intoto",
        "spec": {
            "content": {
                "envelope": {
                    "payloadType": changes.get("payload_type", IN_TOTO),
                    "signatures": [signature | changes.get("signature", {})]
                    * changes.get("times", 1),
                },
                "hash": {"algorithm": "sha256", "value": "00" * 32},
                "payloadHash": {
                    "algorithm": "sha256",
                    "value": hashlib.sha256(changes.get("payload", content.payload)).hexdigest(),
                },
            }
        },
    }
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({}, None),
        ({"times": 2}, "entry-body"),
        ({"times": 0}, "entry-body"),
        ({"payload": b"other"}, "entry-digest"),
        ({"payload_type": "text/plain"}, "entry-body"),
        ({"signature": {"sig": "AAAA"}}, "entry-signature"),
        ({"signature": {"sig": base64.b64encode(b"AA AA").decode()}}, "entry-signature"),
        ({"signature": {"sig": base64.b64encode(b"\xff").decode()}}, "entry-signature"),
        ({"signature": {"publicKey": base64.b64encode(b"PEM").decode()}}, "entry-verifier"),
    ],
)
def test_intoto_entry(changes: dict[str, Any], check: str | None) -> None:
    world = one()
    bundle = world.envelope(statement({"sha256": SHA256.hex}))
    entry = world.rekor.add(intoto_body(world, bundle, **changes))
    assert Attempt(world, with_entry(bundle, entry)).outcome() == check


@attempt("entry-signature")
def second_entry_of_a_known_log_about_something_else() -> Attempt:
    world = one()
    bundle = world.message()
    return Attempt(world, replace(bundle, entries=(*bundle.entries, *world.message().entries)))


# --- another signature ---------------------------------------------------------------------


@attempt("entry-signature")
def signature_that_is_the_other_solution() -> Attempt:
    world = World()
    bundle = world.message()
    r, s = decode_dss_signature(bundle.content.signature)
    other = encode_dss_signature(r, P256_ORDER - s)
    stamped = replace(bundle, timestamps=(stamp(world.tsa, other, at=SIGNED),))
    return Attempt(world, with_signature(stamped, other))


@attempt("signature")
def signature_with_bytes_behind_it() -> Attempt:
    world = World()
    return Attempt(world, resigned(world, sign(world.key, ARTIFACT) + b"\0"))


@attempt("signature")
def signature_of_zeros() -> Attempt:
    world = World()
    return Attempt(world, resigned(world, encode_dss_signature(1, 1)))


@attempt("signature")
def signature_over_the_digest_and_not_the_artifact() -> Attempt:
    world = World()
    return Attempt(world, resigned(world, sign(world.key, SHA256.value)))


@attempt("signature")
def signature_of_a_stranger_under_the_signers_certificate() -> Attempt:
    world = World()
    return Attempt(world, resigned(world, sign(ec_key(), ARTIFACT)))


@attempt("message-digest")
def claimed_digest_in_a_hash_that_the_key_does_not_sign() -> Attempt:
    world = World()
    bundle = world.message()
    claimed = digest_of(HashAlgorithm.SHA512, ARTIFACT)
    return Attempt(
        world,
        replace(bundle, content=replace(bundle.content, digest=claimed)),
        artifact=digests(ARTIFACT, *HashAlgorithm),
    )


# --- another statement ---------------------------------------------------------------------


def stated(payload: bytes, **more: Any) -> Attempt:
    world = World()
    return Attempt(world, world.envelope(payload, **more))


def edited(**changes: Any) -> bytes:
    value = json.loads(statement({"sha256": SHA256.hex}))
    return json.dumps(value | changes).encode()


STATEMENTS: dict[str, tuple[bytes, str | None]] = {
    "right": (edited(), None),
    "version 0.1": (edited(_type="https://in-toto.io/Statement/v0.1"), None),
    "version 2": (edited(_type="https://in-toto.io/Statement/v2"), "statement"),
    "no subjects": (edited(subject=[]), "statement"),
    "subjects that are none": (edited(subject=None), "statement"),
    "subject without digests": (edited(subject=[{"name": "a"}]), "statement"),
    "third of three": (
        edited(subject=[{"digest": {"sha256": "00" * 32}}] * 2 + [
            {"digest": {"sha256": SHA256.hex}}]),
        None,
    ),
    "large letters": (edited(subject=[{"digest": {"sha256": SHA256.hex.upper()}}]), "subject"),
    "algorithm in large letters": (
        edited(subject=[{"digest": {"SHA256": SHA256.hex}}]), "subject"),
    "digest with spaces": (edited(subject=[{"digest": {"sha256": f" {SHA256.hex}"}}]), "subject"),
    "digest as a prefix": (edited(subject=[{"digest": {"sha256": SHA256.hex[:32]}}]), "subject"),
    "digest of another algorithm's name": (
        edited(subject=[{"digest": {"sha512": SHA256.hex}}]), "subject"),
    "no type of predicate": (edited(predicateType=""), "statement"),
    "subject twice": (
        edited()[:-1] + b', "subject": [{"digest": {"sha256": "' + b"00" * 32 + b'"}}]}',
        "statement",
    ),
    "something behind it": (edited() + b"{}", "statement"),
    "byte order mark": (b"\xef\xbb\xbf" + edited(), "statement"),
    "list": (b"[" + edited() + b"]", "statement"),
    "empty": (b"", "statement"),
}  # fmt: skip


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement(name: str) -> None:
    payload, check = STATEMENTS[name]
    assert stated(payload).outcome() == check


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/vnd.in-toto+json; charset=utf-8", "Application/vnd.in-toto+json",
     "application/vnd.in-toto+json ", "application/vnd.in-toto+jsoné"],
)  # fmt: skip
def test_payload_of_another_type_is_no_statement(kind: str) -> None:
    assert stated(edited(), payload_type=kind).outcome() == "payload-type"


def test_one_right_digest_beside_a_wrong_one_is_wrong() -> None:
    subject = {"digest": {"sha256": SHA256.hex, "sha512": "00" * 64}}
    both = digests(ARTIFACT, HashAlgorithm.SHA256, HashAlgorithm.SHA512)
    tried = stated(edited(subject=[subject]))
    assert replace(tried, artifact=both).outcome() == "subject"


@pytest.mark.parametrize("algorithm", list(HashAlgorithm))
def test_subject_by_any_hash(algorithm: HashAlgorithm) -> None:
    digest = digest_of(algorithm, ARTIFACT)
    tried = stated(edited(subject=[{"digest": {algorithm.value: digest.hex}}]))
    assert replace(tried, artifact={algorithm: digest}).outcome() is None
    other = digest_of(algorithm, b"other")
    assert replace(tried, artifact={algorithm: other}).outcome() == "subject"


# --- another certificate -------------------------------------------------------------------


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


# --- another time --------------------------------------------------------------------------


@attempt("timestamp-imprint")
def stamp_of_the_artifact() -> Attempt:
    world = World()
    wrong = (stamp(world.tsa, ARTIFACT, at=SIGNED),)
    return Attempt(world, replace(world.message(), timestamps=wrong))


@attempt("timestamp-authority")
def stamp_by_the_signer_with_its_own_certificate() -> Attempt:
    world = World(leaf=Leaf(usages=(CODE_SIGNING, TIME_STAMPING)))
    bundle = world.message(stamps=())
    leaf = x509.load_der_x509_certificate(bundle.certificates[0])
    own = Tsa(world.key, (leaf, world.ca.certificate, world.ca_root.certificate))
    forged = stamp(own, bundle.content.signature, at=SIGNED, embedded=own.chain)
    return Attempt(world, replace(bundle, timestamps=(forged,)))


@attempt("timestamp-signature")
def stamp_in_the_name_of_the_authority() -> Attempt:
    world = World()
    bundle = world.message(stamps=())
    forged = stamp(world.tsa, bundle.content.signature, at=SIGNED, signer_key=ec_key())
    return Attempt(world, replace(bundle, timestamps=(forged,)))


@attempt("timestamp-certificate")
def stamp_with_a_strangers_certificate_in_it() -> Attempt:
    world = World()
    bundle = world.message(stamps=())
    forged = stamp(world.tsa, bundle.content.signature, at=SIGNED, embedded=[mint_tsa().chain[0]])
    return Attempt(world, replace(bundle, timestamps=(forged,)))


@attempt("timestamp-validity")
def stamp_before_the_authority_was_in_use() -> Attempt:
    world = World()
    late = world.tsa.trusted(TimeRange(SIGNED + SECOND, None))
    return Attempt(world, world.message(), world.root(timestamp_authorities=(late,)))


@attempt("timestamp-chain")
def stamp_after_the_authoritys_certificate_ended() -> Attempt:
    world = World(tsa=mint_tsa(end=SIGNED - SECOND))
    return Attempt(world, world.message())


@attempt("timestamp-usage")
def stamp_by_an_authority_for_more_than_that() -> Attempt:
    world = World(tsa=mint_tsa(usages=(TIME_STAMPING, CODE_SIGNING)))
    return Attempt(world, world.message())


@attempt(None)
def authority_with_an_intermediate_and_all_of_it_in_the_stamp() -> Attempt:
    top = mint_ca("tsa root")
    tsa = mint_tsa(parents=[mint_ca("tsa middle", parent=top), top])
    world = World(tsa=tsa)
    bundle = world.message(stamps=())
    full = stamp(tsa, bundle.content.signature, at=SIGNED, embedded=tsa.chain)
    return Attempt(world, replace(bundle, timestamps=(full,)))


@attempt(None)
def authority_that_was_replaced_under_its_name() -> Attempt:
    world = World()
    other = mint_tsa()
    both = (other.trusted(), world.tsa.trusted())
    return Attempt(world, world.message(), world.root(timestamp_authorities=both))


@attempt("time-threshold")
def claimed_time_of_rekor_v2_and_no_stamp() -> Attempt:
    world = World()
    bundle = world.message(stamps=())
    (entry,) = bundle.entries
    timed = replace(entry, integrated_time=int(SIGNED.timestamp()))
    return Attempt(world, with_entry(bundle, timed))


@attempt("time-threshold")
def two_stamps_of_one_authority_for_two() -> Attempt:
    world = World()
    return Attempt(
        world, world.message(stamps=(SIGNED, SIGNED + SECOND)), options={"time_threshold": 2}
    )


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


# --- all of them ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt(name: str) -> None:
    make, check = ATTEMPTS[name]
    assert make().outcome() == check


def test_there_are_many() -> None:
    tables = (ATTEMPTS, STATEMENTS, NAMES, ISSUERS)
    assert sum(map(len, tables)) > 100


def test_the_same_after_a_round_trip_through_json() -> None:
    for name, (make, check) in ATTEMPTS.items():
        tried = make()
        if any(e.promise and e.version == "0.0.2" for e in tried.bundle.entries):
            continue
        again = replace(tried, bundle=read_bundle(serialize(one_leaf(tried.bundle)), Detached()))
        assert again.outcome() == check, name


def one_leaf(bundle: Bundle) -> Bundle:
    return replace(bundle, certificates=bundle.certificates[:1])


assert hashes.SHA256.digest_size == len(SHA256.value)

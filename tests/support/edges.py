"""Bundles and trust roots on whose edge verifiers differ: what each of them says, and is right to.

`tests/core/test_edges.py` asks this house and sigstore-python, `tests/real/test_edges.py` cosign
(with sigstore-go in it) and sigstore-js. daemon/doc/verification.md has the reasons.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edge_kit import (
    EDGES,
    LEAF,
    OLD_TYPE,
    PREDICATE_TYPE,
    SIGNER,
    Edge,
    edge,
    edited,
    entry_of,
    made,
    v1_world,
    v2_world,
    with_root,
)
from keylessd.core.bundle import TlogEntry
from keylessd.core.note import NoteSignature, checkpoint_body, format_note, parse_checkpoint
from keylessd.core.trusted_root import Authority
from sigsim.pki import START, CtLog, der, ec_key, mint_ca, mint_leaf
from sigsim.stamps import Tsa, mint_tsa, stamp
from sigsim.worlds import SIGNED, RekorLog, World, digests

__all__ = ["EDGES", "PREDICATE_TYPE", "SIGNER"]


# --- timestamps ----------------------------------------------------------------------------


def _tsa(*, depth: int = 0) -> Tsa:
    above = [mint_ca("tsa root")]
    for number in range(depth):
        above.insert(0, mint_ca(f"tsa middle {number}", parent=above[0]))
    return mint_tsa(parents=above)


def _stamped(
    world: World, listed: Authority, *, embedded: Sequence[x509.Certificate] = (), **how: Any
) -> Edge:
    bundle = world.message(stamps=())
    # Some read a set in its order alone.
    given = sorted(embedded, key=der) or None
    response = stamp(world.tsa, bundle.content.signature, at=SIGNED, embedded=given, **how)
    return made(world, replace(bundle, timestamps=(response,)), timestamp_authorities=(listed,))


@edge(None, "go")
def authority_alone_in_the_root_and_signer_in_the_stamp() -> Edge:
    world = v2_world(tsa=_tsa())
    return _stamped(world, world.tsa.trusted(above=1), embedded=world.tsa.chain[:1])


@edge(None, "go")
def authority_alone_in_the_root_and_intermediate_in_the_stamp() -> Edge:
    world = v2_world(tsa=_tsa(depth=1))
    return _stamped(world, world.tsa.trusted(above=2), embedded=world.tsa.chain[:2])


@edge("timestamp-authority", "")
def authority_alone_in_the_root_and_no_certificate() -> Edge:
    world = v2_world(tsa=_tsa())
    return _stamped(world, world.tsa.trusted(above=1))


@edge("timestamp-certificate", "go")
def authority_alone_in_the_root_and_signer_not_bound() -> Edge:
    world = v2_world(tsa=_tsa())
    return _stamped(
        world,
        world.tsa.trusted(above=1),
        embedded=world.tsa.chain[:1],
        edit_attributes=lambda given: given[:2],
    )


@edge("timestamp-chain", "go py")
def root_lists_signer_and_anchor_and_the_stamp_what_is_between() -> Edge:
    world = v2_world(tsa=_tsa(depth=1))
    listed = replace(world.tsa.trusted(), chain=(world.tsa.chain[0], world.tsa.chain[-1]))
    return _stamped(world, listed, embedded=world.tsa.chain[:2])


@edge("bundle-timestamp", "go")
def same_stamp_twice() -> Edge:
    def edit(value: Any) -> None:
        value["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"] *= 2

    return edited(v2_world(), edit)


@edge(None, "go py")
def two_stamps_of_one_authority() -> Edge:
    world = v2_world()
    return made(world, world.message(stamps=(SIGNED, SIGNED)))


@edge(None, "go py")
def fraction_of_a_second_in_one_digit() -> Edge:
    world = v2_world()
    return _stamped(world, world.tsa.trusted(), written=f"{SIGNED:%Y%m%d%H%M%S}.5Z".encode())


# --- the form ------------------------------------------------------------------------------


@edge(None, "go js")
def number_without_quotes() -> Edge:
    def edit(value: Any) -> None:
        proof = entry_of(value)["inclusionProof"]
        proof["treeSize"] = int(proof["treeSize"])

    return edited(v2_world(), edit)


@edge("bundle-entry", "go js")
def number_with_a_fraction() -> Edge:
    def edit(value: Any) -> None:
        proof = entry_of(value)["inclusionProof"]
        proof["treeSize"] = float(proof["treeSize"])

    return edited(v2_world(), edit)


@edge("bundle-entry", "go js")
def base64_without_padding() -> Edge:
    def edit(value: Any) -> None:
        entry_of(value)["logId"]["keyId"] = entry_of(value)["logId"]["keyId"].rstrip("=")

    return edited(v2_world(), edit)


@edge("bundle-entry", "go py")
def key_with_an_underscore() -> Edge:
    def edit(value: Any) -> None:
        entry_of(value)["canonicalized_body"] = entry_of(value).pop("canonicalizedBody")

    return edited(v2_world(), edit)


@edge("bundle-content", "go js")
def enumeration_by_number() -> Edge:
    def edit(value: Any) -> None:
        value["messageSignature"]["messageDigest"]["algorithm"] = 1

    return edited(v2_world(), edit)


@edge("bundle-json", "js")
def unknown_key() -> Edge:
    return edited(v2_world(), lambda value: value.update(comment="x"))


@edge("bundle-entry", "go")
def promise_that_is_empty() -> Edge:
    return edited(v2_world(), lambda value: entry_of(value).update(inclusionPromise={}))


@edge("bundle-media-type", "go")
def media_type_that_no_version_has() -> Edge:
    other = "application/vnd.dev.sigstore.bundle.v0.2+json"

    def edit(value: Any) -> None:
        material = value["verificationMaterial"]
        material["x509CertificateChain"] = {"certificates": [material.pop("certificate")]}
        value["mediaType"] = other

    return edited(v2_world(), edit)


@edge("bundle-material", "go js")
def certificate_without_chain_before_its_time() -> Edge:
    return edited(v2_world(), lambda value: value.update(mediaType=OLD_TYPE))


@edge(None, "py js")
def unsigned_time_outside_the_certificate() -> Edge:
    return edited(v2_world(), lambda value: entry_of(value).update(integratedTime="1"))


# --- the log -------------------------------------------------------------------------------


def _noted(world: World, edit: Callable[[str, NoteSignature], str]) -> Edge:
    """A bundle with another checkpoint, made of the text that is signed and the log's line."""
    bundle = world.message()
    (entry,) = bundle.entries
    assert entry.proof is not None
    assert entry.proof.checkpoint is not None
    found = parse_checkpoint(entry.proof.checkpoint)
    envelope = edit(found.signed.decode(), found.signatures[0])
    return made(world, replace(bundle, entries=(_with_checkpoint(entry, envelope),)))


def _with_checkpoint(entry: TlogEntry, envelope: str) -> TlogEntry:
    assert entry.proof is not None
    return replace(entry, proof=replace(entry.proof, checkpoint=envelope))


def _wrong(line: NoteSignature) -> NoteSignature:
    return replace(line, signature=bytes(len(line.signature)))


WITNESS = NoteSignature("witness.example/a", b"\1\2\3\4", bytes(72))


@edge(None, "py js")
def witness_on_a_checkpoint_of_rekor_v1() -> Edge:
    return _noted(v1_world(), lambda text, line: format_note(text.encode(), [WITNESS, line]))


@edge(None, "go py js")
def witness_on_a_checkpoint_of_rekor_v2() -> Edge:
    return _noted(v2_world(), lambda text, line: format_note(text.encode(), [WITNESS, line]))


@edge("checkpoint-signature", "js")
def wrong_signature_of_the_log_before_its_right_one() -> Edge:
    return _noted(v2_world(), lambda text, line: format_note(text.encode(), [_wrong(line), line]))


@edge("checkpoint-signature", "go py js")
def wrong_signature_of_the_log_after_its_right_one() -> Edge:
    return _noted(v2_world(), lambda text, line: format_note(text.encode(), [line, _wrong(line)]))


class OwnHashLog(RekorLog):
    """A Rekor v2 whose key is on P-384, and which signs as such a key does."""

    def checkpoint(self, *, origin: str | None = None) -> str:
        note = parse_checkpoint(super().checkpoint(origin=origin))
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        body = checkpoint_body(note.origin, note.size, note.root_hash)
        (line,) = note.signatures
        signature = self.key.sign(body, ec.ECDSA(hashes.SHA384()))
        return format_note(body, [replace(line, signature=signature)])


@edge(None, "go py")
def log_that_signs_by_the_hash_of_its_curve() -> Edge:
    return made(v2_world(rekor=OwnHashLog(2, ec_key(ec.SECP384R1()))))


# --- the certificate -----------------------------------------------------------------------


@edge("certificate-issuer", "go js")
def issuers_that_differ() -> Edge:
    leaf = replace(LEAF, extensions=((1, b"https://other.example"), LEAF.extensions[1]))
    return made(World(leaf=leaf))


@edge("certificate-extended-key-usage", "go js")
def certificate_that_does_not_say_what_it_is_for() -> Edge:
    return made(World(leaf=replace(LEAF, usages=None)))


@edge("certificate-chain", "go js")
def intermediate_without_key_usage() -> Edge:
    root = mint_ca("root")
    return made(v2_world(ca_root=root, ca=mint_ca("middle", parent=root, cert_sign=None)))


@edge(None, "go js")
def intermediate_that_names_its_issuers_certificate() -> Edge:
    root = mint_ca("root")
    named = x509.AuthorityKeyIdentifier(
        None, [x509.DirectoryName(root.certificate.subject)], root.certificate.serial_number
    )
    return made(v2_world(ca_root=root, ca=mint_ca("middle", parent=root, issuer_key=named)))


@edge(None, "go")
def promise_of_a_known_certificate_log_and_of_another() -> Edge:
    world = v2_world()
    other = CtLog(ec_key(), base_url="https://other.example")
    leaf = mint_leaf(world.key, world.ca, [other, world.ct], LEAF)
    return made(world, world.message(certificate=leaf))


# --- the statement -------------------------------------------------------------------------


def _attested(**changes: Any) -> Edge:
    world = v1_world()
    (digest,) = digests().values()
    value = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "artifact", "digest": {"sha256": digest.hex}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {},
    }
    bundle = world.envelope(json.dumps(value | changes).encode())
    return replace(made(world, bundle), is_attestation=True)


@edge("statement", "go py js")
def statement_of_an_unknown_type() -> Edge:
    return _attested(_type="https://in-toto.io/Statement/v9")


@edge(None, "py js")
def statement_with_an_unknown_key() -> Edge:
    return _attested(comment="x")


@edge("subject", "go py")
def digest_in_capital_letters() -> Edge:
    (digest,) = digests().values()
    return _attested(subject=[{"name": "artifact", "digest": {"sha256": digest.hex.upper()}}])


# --- the trust root ------------------------------------------------------------------------


@edge(None, "")
def log_in_the_root_with_an_unknown_kind_of_key() -> Edge:
    def edit(value: Any) -> None:
        other = copy.deepcopy(value["tlogs"][0])
        other["publicKey"]["keyDetails"] = "ANOTHER_KIND"
        value["tlogs"].append(other)

    return with_root(v2_world(), edit)


@edge("certificate-chain", "go js")
def certificate_authority_without_a_period() -> Edge:
    return with_root(
        v2_world(), lambda value: value["certificateAuthorities"][0].update(validFor={})
    )


@edge("log-validity", "py js")
def log_without_a_period() -> Edge:
    return with_root(v2_world(), lambda value: value["tlogs"][0]["publicKey"].pop("validFor"))


@edge(None, "go py js")
def log_with_a_period_that_ends_before_it_starts() -> Edge:
    def edit(value: Any) -> None:
        other = copy.deepcopy(value["ctlogs"][0])
        other["logId"]["keyId"] = "A" * 43 + "="
        other["publicKey"]["validFor"] = {
            "start": START.isoformat(),
            "end": "2020-01-01T00:00:00Z",
        }
        value["ctlogs"].append(other)

    return with_root(v2_world(), edit)

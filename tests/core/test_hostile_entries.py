"""The log entry: authentic, and about something else. See `attempts`."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from attempts import (
    SHA256,
    Attempt,
    Attempts,
    one,
    relogged,
    with_entry,
)
from keylessd.core.bundle import Bundle, DsseEnvelope, MessageSignature
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.dsse import pae
from sigsim.pki import (
    der,
)
from sigsim.worlds import (
    ARTIFACT,
    IN_TOTO,
    World,
    statement,
)

attempt = Attempts()


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


@pytest.mark.parametrize("name", attempt.named)
def test_attempt(name: str) -> None:
    attempt.check(name)

"""The signature and the statement: of another artifact, or of nothing. See `attempts`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from attempts import (
    P256_ORDER,
    SHA256,
    Attempt,
    Attempts,
    resigned,
    with_signature,
)
from keylessd.core.digests import HashAlgorithm, digest_of
from sigsim.pki import (
    ec_key,
)
from sigsim.stamps import stamp
from sigsim.worlds import (
    ARTIFACT,
    SIGNED,
    World,
    digests,
    sign,
    statement,
)

attempt = Attempts()


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


@pytest.mark.parametrize("name", attempt.named)
def test_attempt(name: str) -> None:
    attempt.check(name)

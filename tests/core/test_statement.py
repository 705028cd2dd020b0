"""In-toto statements."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.statement import (
    MAX_DIGESTS,
    MAX_SUBJECTS,
    STATEMENT_TYPE,
    Statement,
    Subject,
    build_statement,
    check_subject,
    parse_statement,
)
from keylessd.errors import InvalidInputError, VerificationError

SHA256 = digest_of(HashAlgorithm.SHA256, b"artifact")
SHA512 = digest_of(HashAlgorithm.SHA512, b"artifact")
OTHER = digest_of(HashAlgorithm.SHA256, b"other")
GIVEN = {HashAlgorithm.SHA256: SHA256}


def _payload(**changes: object) -> bytes:
    value: dict[str, object] = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "a", "digest": {"sha256": SHA256.hex}}],
        "predicateType": "https://example.com/p",
        "predicate": {},
    }
    value.update(changes)
    return json.dumps({key: item for key, item in value.items() if item is not ...}).encode()


def _subjects(*digests: dict[str, str]) -> Statement:
    subjects = [{"name": str(number), "digest": item} for number, item in enumerate(digests)]
    return parse_statement(_payload(subject=subjects))


@pytest.mark.parametrize(
    "changes",
    [
        {"_type": ...},
        {"_type": "https://in-toto.io/Statement/v2"},
        {"_type": 1},
        {"subject": ...},
        {"subject": []},
        {"subject": {}},
        {"subject": ["a"]},
        {"subject": [{"name": "a"}]},
        {"subject": [{"name": "a", "digest": {}}]},
        {"subject": [{"name": "a", "digest": []}]},
        {"subject": [{"name": "a", "digest": ["sha256"]}]},
        {"subject": [{"name": "a", "digest": "sha256"}]},
        {"subject": [{"name": "a", "digest": {"sha256": 1}}]},
        {"subject": [{"name": "a", "digest": {"sha256": ""}}]},
        {"subject": [{"name": 1, "digest": {"sha256": "aa"}}]},
        {"subject": [{"digest": {"sha256": "aa"}}] * (MAX_SUBJECTS + 1)},
        {"subject": [{"digest": {f"h{n}": "aa" for n in range(MAX_DIGESTS + 1)}}]},
        {"predicateType": ...},
        {"predicateType": ""},
        {"predicate_type": "https://example.com/p"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_malformed_statement_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(VerificationError) as caught:
        parse_statement(_payload(**changes))
    assert caught.value.check == "statement"


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b'"x"', b"{", b'{"_type":1,"_type":1}'])
def test_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        parse_statement(payload)
    assert caught.value.check == "statement"


def test_limits_themselves_are_accepted() -> None:
    digests = {f"h{number}": "aa" for number in range(MAX_DIGESTS)}
    statement = _subjects(*[digests] * MAX_SUBJECTS)
    assert len(statement.subjects) == MAX_SUBJECTS


@pytest.mark.parametrize("kind", [STATEMENT_TYPE, "https://in-toto.io/Statement/v0.1"])
def test_both_versions_are_read(kind: str) -> None:
    statement = parse_statement(_payload(_type=kind))
    assert statement.type == kind
    assert statement.predicate_type == "https://example.com/p"
    assert statement.subjects == (Subject("a", {"sha256": SHA256.hex}),)


@pytest.mark.parametrize(
    "digests",
    [
        {"sha256": OTHER.hex},
        {"sha256": SHA256.hex.upper()},
        {"sha256": SHA256.hex[:-1]},
        {"sha256": SHA256.hex + "00"},
        {"sha256": " " + SHA256.hex},
        {"sha512": SHA512.hex},
        {"SHA256": SHA256.hex},
        {"gitCommit": SHA256.hex},
    ],
    ids=["other", "upper", "short", "long", "space", "sha512-only", "name-case", "name"],
)
def test_other_subject_is_not_the_artifact(digests: dict[str, str]) -> None:
    with pytest.raises(VerificationError) as caught:
        check_subject(_subjects(digests), GIVEN)
    assert caught.value.check == "subject"


def test_no_digest_matches_nothing() -> None:
    assert _subjects({"sha256": SHA256.hex}).find({}) is None


@pytest.mark.parametrize("position", [0, 2, 4])
def test_subject_is_found_at_any_position(position: int) -> None:
    digests = [{"sha256": OTHER.hex}] * 5
    digests[position] = {"sha256": SHA256.hex}
    assert check_subject(_subjects(*digests), GIVEN).name == str(position)


def test_all_shared_digests_must_agree() -> None:
    both = {HashAlgorithm.SHA256: SHA256, HashAlgorithm.SHA512: SHA512}
    subject = {"sha256": SHA256.hex, "sha512": SHA512.hex, "sha1": "whatever"}
    assert _subjects(subject).find(both) is not None
    assert _subjects({**subject, "sha512": "00"}).find(both) is None
    assert _subjects({**subject, "sha256": OTHER.hex}).find(both) is None
    assert _subjects({**subject, "sha512": "00"}).find(GIVEN) is not None
    assert _subjects({"sha512": SHA512.hex}).find(both) is not None


@settings(deadline=None)
@given(st.binary())
def test_only_verification_error_escapes(payload: bytes) -> None:
    with pytest.raises(VerificationError):
        parse_statement(payload)


def test_predicate_goes_in_byte_for_byte() -> None:
    predicate = b' {"b": 1.0, "a": 1e2, "c": "\\u00e9", "d": 18446744073709551616}\n'
    payload = build_statement([Subject.of("é", SHA256, SHA512)], "https://p", predicate)
    assert payload.endswith(b',"predicate":' + predicate.strip() + b"}")
    assert json.loads(payload)["predicate"]["d"] == 18446744073709551616
    assert parse_statement(payload) == Statement(
        (Subject("é", {"sha256": SHA256.hex, "sha512": SHA512.hex}),), "https://p", STATEMENT_TYPE
    )


@pytest.mark.parametrize(
    ("subjects", "predicate_type", "predicate"),
    [
        ([], "https://p", b"{}"),
        ([Subject.of("a", SHA256)], "", b"{}"),
        ([Subject.of("a", SHA256)], "https://p", b"[]"),
        ([Subject.of("a", SHA256)], "https://p", b"{}, {}"),
        ([Subject.of("a", SHA256)], "https://p", b'{"a":1,"a":2}'),
        ([Subject.of("a", SHA256)], "https://p", b'{},"_type":"x"'),
        ([Subject.of("a", SHA256)], "https://p", b""),
        ([Subject.of("a", SHA256)], "https://p", b'{"a":' * 63 + b"1" + b"}" * 63 + b" "),
        ([Subject.of("a")], "https://p", b"{}"),
        ([Subject.of("\ud800", SHA256)], "https://p", b"{}"),
        ([Subject.of("a", SHA256)] * (MAX_SUBJECTS + 1), "https://p", b"{}"),
    ],
    ids=["no-subject", "no-type", "list", "two", "twice", "injection", "empty", "deep",
         "no-digest", "surrogate", "too-many"],
)  # fmt: skip
def test_what_would_not_be_a_statement_is_not_built(
    subjects: list[Subject], predicate_type: str, predicate: bytes
) -> None:
    if predicate.endswith(b" "):  # as deep as is allowed inside a statement, and one more
        build_statement(subjects, predicate_type, predicate)
        predicate = b'{"a":' + predicate.strip() + b"}"
    with pytest.raises(InvalidInputError):
        build_statement(subjects, predicate_type, predicate)

"""In-toto statements: reading, writing, and finding a subject. Reads no predicate's meaning."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keylessd.core.strict_json import Fields, JsonObject, StrictJsonError, loads
from keylessd.errors import InvalidInputError, VerificationError

if TYPE_CHECKING:
    from keylessd.core.digests import Digest, HashAlgorithm

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
STATEMENT_TYPES = frozenset({STATEMENT_TYPE, "https://in-toto.io/Statement/v0.1"})

MAX_STATEMENT_BYTES = 16 << 20  # bytes
MAX_SUBJECTS = 1024
MAX_DIGESTS = 32  # of one subject
MAX_DEPTH = 64  # predicates nest; SLSA provenance has about 10 levels

_STATEMENT = frozenset({"_type", "subject", "predicateType", "predicate"})
_SUBJECT = frozenset({"name", "digest"})


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that a statement is about.

    Attributes:
        name: As the statement calls it, ``""`` if it does not.
        digests: Value by algorithm, both as written; algorithms of any name, at least one.
    """

    name: str
    digests: Mapping[str, str]

    @classmethod
    def of(cls, name: str, *digests: Digest) -> Subject:
        """Return a subject with these digests."""
        return cls(name, {digest.algorithm.value: digest.hex for digest in digests})

    def matches(self, digests: Mapping[HashAlgorithm, Digest]) -> bool:
        """Return whether this is the artifact that has *digests*.

        At least one algorithm must be known to both, and for each that is, the values must be
        equal. Only lower-case hexadecimal digits count, as the in-toto specification has them.
        """
        shared = [digest for digest in digests.values() if digest.algorithm.value in self.digests]
        return bool(shared) and all(
            self.digests[digest.algorithm.value] == digest.hex for digest in shared
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """What a statement's payload says, apart from its predicate.

    Attributes:
        subjects: At least one.
        predicate_type: URI of the predicate's type, not empty.
        type: URI of the statement's own type.
    """

    subjects: tuple[Subject, ...]
    predicate_type: str
    type: str

    def find(self, digests: Mapping[HashAlgorithm, Digest]) -> Subject | None:
        """Return the first subject that is the artifact with *digests*, None if none is."""
        for subject in self.subjects:
            if subject.matches(digests):
                return subject
        return None


def parse_statement(payload: bytes) -> Statement:
    """Return the statement that an envelope's payload holds.

    Args:
        payload: The envelope's payload, at most MAX_STATEMENT_BYTES.

    Raises:
        VerificationError: ``check="statement"`` if it is not an in-toto statement of version 1
            or 0.1, or has no subject, more than MAX_SUBJECTS, or one without digests or with
            more than MAX_DIGESTS.
    """
    try:
        value = loads(payload, max_bytes=MAX_STATEMENT_BYTES, max_depth=MAX_DEPTH)
        fields = Fields(value, path="statement", known=_STATEMENT)
        kind = fields.text("_type")
        if kind not in STATEMENT_TYPES:
            fields.fail("_type", f"not that of an in-toto statement: {kind[:100]!r}")
        predicate_type = fields.text("predicateType")
        if not predicate_type:
            fields.fail("predicateType", "missing")
        subjects = fields.children("subject", _SUBJECT, limit=MAX_SUBJECTS)
        if not subjects:
            fields.fail("subject", "empty")
        return Statement(tuple(_subject_of(item) for item in subjects), predicate_type, kind)
    except StrictJsonError as exc:
        raise VerificationError("statement", str(exc)) from exc


def check_subject(statement: Statement, digests: Mapping[HashAlgorithm, Digest]) -> Subject:
    """Return the subject that is the artifact with *digests*.

    Raises:
        VerificationError: ``check="subject"`` if the statement is about something else.
    """
    subject = statement.find(digests)
    if subject is None:
        raise VerificationError(
            "subject",
            f"none of the statement's {len(statement.subjects)} subjects is the artifact",
            wanted=_listed(digests.values()),
        )
    return subject


def build_statement(
    subjects: Sequence[Subject], predicate_type: str, predicate_json: bytes
) -> bytes:
    """Return the payload of an in-toto statement of version 1.

    Args:
        subjects: What it is about.
        predicate_type: URI of the predicate's type.
        predicate_json: The predicate, a JSON object. It goes into the payload byte for byte,
            so that no number and no order in it changes.

    Raises:
        InvalidInputError: parse_statement() would refuse the result, or the predicate is not
            an object.
    """
    try:
        predicate = loads(predicate_json, max_bytes=MAX_STATEMENT_BYTES, max_depth=MAX_DEPTH - 1)
    except StrictJsonError as exc:
        raise InvalidInputError(f"the predicate cannot be used: {exc}") from exc
    if not isinstance(predicate, dict):
        raise InvalidInputError("the predicate is not a JSON object")
    head: JsonObject = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": subject.name, "digest": dict(subject.digests)} for subject in subjects
        ],
        "predicateType": predicate_type,
    }
    try:
        encoded = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        payload = encoded[:-1] + b',"predicate":' + predicate_json.strip() + b"}"
        parse_statement(payload)
    except UnicodeEncodeError as exc:
        raise InvalidInputError("a subject or the predicate type is not valid text") from exc
    except VerificationError as exc:
        raise InvalidInputError(f"the statement cannot be built: {exc.message}") from exc
    return payload


def _subject_of(fields: Fields) -> Subject:
    digests = fields.value("digest")
    if not isinstance(digests, dict) or not digests:
        fields.fail("digest", "missing or empty")
    if len(digests) > MAX_DIGESTS:
        fields.fail("digest", f"{len(digests)} digests; the limit is {MAX_DIGESTS}")
    texts: dict[str, str] = {}
    for algorithm, value in digests.items():
        if not isinstance(value, str) or not value:
            fields.fail("digest", f"{algorithm[:100]!r} is not a digest")
        texts[algorithm] = value
    return Subject(fields.text("name"), texts)


def _listed(digests: Iterable[Digest]) -> str:
    return ", ".join(str(digest) for digest in digests)

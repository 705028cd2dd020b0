"""Bodies to requests and results to bodies; and the cache of files named by hash."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylessd.core.digests import HashAlgorithm
from keylessd.errors import InvalidInputError, StepReport, TokenError, UnknownFileError
from keylessd.server.bodies import (
    MAX_TOKEN,
    accepted_of,
    batch_subjects,
    digests_of,
    options_of,
    report_body,
    subjects_of,
    token_of,
    where_of,
)
from keylessd.server.files import FileCache

ROOT = b'{"root": 1}'
SHA = hashlib.sha256(ROOT).digest()
HEX = "ab" * 32


def test_a_file_is_known_by_its_hash_from_the_first_time_on() -> None:
    files = FileCache(1000)
    first = where_of({"where": {"trusted_root": SHA}}, {"trusted_root": ROOT}, files)
    again = where_of({"where": {"trusted_root": SHA}}, {}, files)

    assert first.trusted_root == again.trusted_root == ROOT
    # Known by content, whatever it was called.
    assert where_of({"where": {"trust_config": SHA}}, {}, files).trust_config == ROOT


def test_an_unknown_file_is_named() -> None:
    with pytest.raises(UnknownFileError) as caught:
        where_of({"where": {"signing_config": SHA}}, {}, FileCache(1000))

    assert caught.value.details == {"name": "signing_config"}
    assert caught.value.retryable


def test_an_attachment_with_another_hash_is_refused_and_not_kept() -> None:
    files = FileCache(1000)
    with pytest.raises(InvalidInputError, match="SHA-256"):
        where_of({"where": {"trusted_root": SHA}}, {"trusted_root": b"other"}, files)

    assert files.size == 0


def test_least_recently_used_files_go() -> None:
    files = FileCache(30)
    contents = [bytes([number]) * 10 for number in range(4)]
    hashes = [hashlib.sha256(content).digest() for content in contents]
    for content, sha in zip(contents[:3], hashes[:3], strict=True):
        files.content("f", sha, {"f": content})
    files.content("f", hashes[0], {})
    files.content("f", hashes[3], {"f": contents[3]})

    assert files.size == 30
    for index in (0, 2, 3):
        assert files.content("f", hashes[index], {}) == contents[index]
    with pytest.raises(UnknownFileError):
        files.content("f", hashes[1], {})


def test_a_file_larger_than_the_cache_serves_its_request_only() -> None:
    files = FileCache(5)

    assert files.content("f", SHA, {"f": ROOT}) == ROOT
    assert files.size == 0


def test_a_smaller_cache_drops_what_no_longer_fits() -> None:
    files = FileCache(1000)
    files.content("f", SHA, {"f": ROOT})
    files.resize(5)

    assert files.size == 0


def test_where_without_files() -> None:
    where = where_of(
        {"where": {"instance": "x", "fulcio_url": "f", "timestamp_server_url": "t"}},
        {},
        FileCache(0),
    )

    assert (where.instance, where.urls.fulcio, where.urls.tsa, where.urls.rekor) == (
        "x",
        "f",
        "t",
        None,
    )
    assert where_of({}, {}, FileCache(0)).instance is None


def test_token_is_stripped_and_secret() -> None:
    token = token_of({"identity_token": b" abc\n"})

    assert token is not None
    assert token.reveal() == "abc"
    assert "abc" not in repr(token)
    assert token_of({}) is None


@pytest.mark.parametrize("raw", [b"", b" \n", b"\xff\xfe", "ä".encode(), b"x" * (MAX_TOKEN + 1)])
def test_what_is_no_token(raw: bytes) -> None:
    with pytest.raises(TokenError) as caught:
        token_of({"identity_token": raw})

    assert caught.value.code == "token_malformed"


def test_batch_subjects() -> None:
    raw = f"{HEX}  a b.txt\n{'0' * 64}  ä\u00a0ö\r\n{HEX}  a b.txt\n".encode()
    subjects = batch_subjects(raw)

    assert [(one.name, dict(one.digests)) for one in subjects] == [
        ("a b.txt", {"sha256": HEX}),
        ("ä\u00a0ö", {"sha256": "0" * 64}),
    ]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "0 subjects"),
        (b"\n\n", "0 subjects"),
        (f"{HEX} a".encode(), "line 1"),
        (f"{HEX.upper()}  a".encode(), "line 1"),
        (f"{HEX[:-1]}  a".encode(), "line 1"),
        (f"{HEX}  ".encode(), "line 1"),
        (f"{HEX}  a\n{HEX}  \x1b[2J".encode(), "line 2"),
        (f"{HEX}  {'x' * 1025}".encode(), "line 1"),
        (f"{HEX}  a\n{'0' * 64}  a".encode(), "names 'a' again"),
        (b"\xff", "UTF-8"),
        (f"{HEX}  a\n".encode() * 1025, "1025 subjects"),
        (b"\n" * (16 << 20), "more lines of subjects than 1024"),
    ],
)
def test_subjects_that_cannot_be_used(raw: bytes, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        batch_subjects(raw)


@given(st.binary(max_size=300) | st.text(alphabet="ab01 \n\r\t\x00é", max_size=300).map(str.encode))
def test_only_the_declared_error_leaves_the_subjects(raw: bytes) -> None:
    try:
        subjects = batch_subjects(raw)
    except InvalidInputError:
        return
    assert subjects


def test_digests_signers_options_and_subjects() -> None:
    (digest,) = digests_of({"sha512": bytes(64)}).values()
    (signer,) = accepted_of({"accepted": [{"identity_regexp": "a.*", "issuer": "i"}]})

    assert digest.algorithm is HashAlgorithm.SHA512
    assert (signer.identity_regexp, signer.issuer) == ("a.*", "i")
    assert options_of({"options": {"tlog_threshold": 2}}, managed=False).tlog_threshold == 2
    assert options_of({}, managed=False).sct_threshold == 1
    assert options_of({"explain": True}, managed=True).explain
    (subject,) = subjects_of([{"name": "n", "alg": "sha256", "value": bytes(32)}])
    assert dict(subject.digests) == {"sha256": "00" * 32}


def test_long_report_is_cut_to_what_a_head_holds() -> None:
    report = [StepReport(f"s{n}", ("\u2028" * 5000,) * 300) for n in range(20)]
    body = report_body(report)
    assert [row["step"] for row in body] == [f"s{n}" for n in range(20)]
    facts = [fact for row in body for fact in row["facts"]]  # type: ignore[attr-defined]
    assert 0 < sum(len(fact.encode()) for fact in facts) <= 24 << 10
    assert report_body([StepReport("s", ("x" * 500, "y" * 501))]) == [
        {"step": "s", "facts": ["x" * 500, "y" * 497 + "..."]}
    ]


def test_expression_that_does_not_compile() -> None:
    with pytest.raises(InvalidInputError):
        accepted_of({"accepted": [{"identity_regexp": "(", "issuer": "i"}]})

"""Signatures from before there were bundles, by the last cosign that writes them; we judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.real import legacy, matrix
from tests.real.clients import Expected
from tests.real.legacy import Legacy, OldCosign

Words = Callable[[Legacy], list[str | Path]]


@pytest.fixture(scope="module")
def old(stack) -> OldCosign:
    one = OldCosign(stack)
    matrix.TABLE.introduce(one.name, one.version)
    return one


def _cases(
    made: Legacy, other: Legacy, who: Expected | Path, folder: Path, *, in_bundle: bool
) -> Iterator[tuple[str, Legacy, Expected | Path]]:
    """Yield (name, files, signer): the good one, then one for each thing that can be wrong."""
    folder.mkdir()
    yield "good", made, who
    changed = folder / "changed"
    changed.write_bytes(made.artifact.read_bytes() + b"!")
    yield "artifact", replace(made, artifact=changed), who
    if isinstance(who, Expected):
        yield "identity", made, replace(who, identity="x" + who.identity)
        yield "issuer", made, replace(who, issuer=who.issuer + "/x")
    damages = legacy.bundle_cases if in_bundle else legacy.detached_cases
    for name, damaged in damages(made, other, folder / "damaged"):
        yield name, damaged, who


def _judge(
    row: str,
    column: str,
    refusal: Callable[[Legacy, Expected | Path], str | None],
    cases: Iterator[tuple[str, Legacy, Expected | Path]],
) -> None:
    wrong = []
    for name, made, who in cases:
        words = refusal(made, who)
        holds = (words is None) == (name == "good")
        found = None if holds else matrix.exception(column, words, "nobody knows why")
        matrix.TABLE.put(row, column, name, found)
        if not holds:
            wrong.append((name, words))
    assert not wrong, f"{column} about {row}: {wrong}"


@pytest.mark.parametrize("signer", ["keyless", "managed key"])
@pytest.mark.parametrize("judge", ["keyless", "cosign2"])
def test_old_bundle(house, primed, old, keyless, tmp_path: Path, judge: str, signer: str) -> None:
    files = house.files(2, stem=f"old-{judge}-{signer[0]}-")
    private, public = old.make_key(tmp_path) if signer != "keyless" else (None, None)
    made, other = (old.sign_legacy(path, key=private) for path in files)

    def refusal(one: Legacy, who: Expected | Path) -> str | None:
        if judge == "keyless":
            return keyless.words_refusal(legacy.bundle_words(one), one.artifact, who)
        return old.legacy_refusal(one, house.who if isinstance(who, Path) else who, public)

    cases = _cases(made, other, public or house.who, tmp_path / "cases", in_bundle=True)
    kind = "old bundle" if signer == "keyless" else "old bundle of a managed key"
    _judge(f"cosign2, {kind}, Rekor v1", judge, refusal, cases)


@pytest.mark.parametrize("signer", ["keyless", "managed key"])
def test_detached_with_a_timestamp(
    house, primed, old, keyless, tmp_path: Path, signer: str
) -> None:
    files = house.files(2, stem=f"detached-{signer[0]}-")
    private, public = old.make_key(tmp_path) if signer != "keyless" else (None, None)
    made, other = (old.sign_legacy(path, key=private, timestamp=True) for path in files)

    def refusal(one: Legacy, who: Expected | Path) -> str | None:
        return keyless.words_refusal(legacy.detached_words(one), one.artifact, who)

    cases = _cases(made, other, public or house.who, tmp_path / "cases", in_bundle=False)
    kind = "signature and certificate" if signer == "keyless" else "signature of a managed key"
    _judge(f"cosign2, {kind}, TSA", "keyless", refusal, cases)


def test_all_files_together(house, primed, old, keyless, tmp_path: Path) -> None:
    made, other = (old.sign_legacy(path) for path in house.files(2, stem="all-"))

    def refusal(one: Legacy, who: Expected | Path) -> str | None:
        return keyless.words_refusal(legacy.all_words(one), one.artifact, who)

    cases = _cases(made, other, house.who, tmp_path / "cases", in_bundle=True)
    _judge("cosign2, signature, certificate and old bundle", "keyless", refusal, cases)
    # What stands beside a bundle has to be what is in it.
    for name, damaged in legacy.detached_cases(made, other, tmp_path / "beside"):
        assert refusal(damaged, house.who) is not None, name


def test_signature_and_certificate_prove_no_time(house, primed, old, keyless) -> None:
    # Nothing tells when the certificate was used; where cosign asks the log, keyless stays offline.
    (path,) = house.files(1, stem="timeless-")
    made = old.sign_legacy(path)
    words = ["--signature", made.signature, "--certificate", made.certificate]

    for option in ([], ["--insecure-ignore-tlog"]):
        assert keyless.words_refusal([*words, *option], path, house.who) is not None


def test_promise_of_a_key_is_no_identity(house, primed, old, keyless, tmp_path: Path) -> None:
    (path,) = house.files(1, stem="key-promise-")
    private, _ = old.make_key(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, stranger = old.make_key(other)
    made = old.sign_legacy(path, key=private)

    words = legacy.bundle_words(made)
    assert keyless.words_refusal(words, path, house.who) is not None
    assert keyless.words_refusal(words, path, stranger) is not None

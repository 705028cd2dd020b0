"""gitsign signs commits and judges them; what they share with a bundle is judged both ways."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.real import matrix
from tests.real.cases import Made, judge
from tests.real.clients import Expected
from tests.real.commits import (
    Repository,
    attributes_of,
    bundle_of_signature,
    join,
    signature_of,
    split,
)
from tests.real.versions import GO

from standing import bundle_of

NAME = "gitsign"
OURS, THEIRS = "keyless, commit, Rekor v1", "gitsign, commit, Rekor v1"
VERSION = next(one.version for one in GO if one.name == NAME)


@pytest.fixture
def repository(stack, tmp_path: Path) -> Repository:
    matrix.TABLE.introduce(NAME, VERSION)
    return Repository(tmp_path / "repository", {**stack.environment(), "HOME": str(tmp_path)})


def _refusal(repository: Repository, name: str, who: Expected) -> str | None:
    done = repository.run(
        *(NAME, "verify", "--certificate-identity", who.identity),
        *("--certificate-oidc-issuer", who.issuer, name),
    )
    if done.returncode == 0:
        return None
    assert "Error" in done.stderr, done.stderr
    assert "unknown flag" not in done.stderr
    return done.stderr[done.stderr.index("Error") :]


def test_keyless_signs_what_gitsign_accepts(
    stack, house, primed, repository: Repository, tmp_path: Path
) -> None:
    commits = [repository.unsigned(f"number {number}") for number in range(2)]
    signed = [attributes_of(commit) for commit in commits]
    files = house.files(2, stem="commit-")
    for path, attributes in zip(files, signed, strict=True):
        path.write_bytes(attributes.signed)
    house.sign("v1", "--reuse", "never", *files)
    bundles = [bundle_of(path) for path in files]
    made = Made(OURS, files[0], bundles[0], bundles[1], house.who)

    def refusal(bundle: Path, artifact: Path, who: Expected) -> str | None:
        # A changed artifact is a changed commit; its attributes are those that were signed.
        commit = commits[0] + (b"" if artifact == files[0] else b"!")
        signature = signature_of(signed[0], json.loads(bundle.read_text()))
        return _refusal(repository, repository.put(join(commit, signature)), who)

    # The form has no place for the entry's body.
    skip = {"entry body"}
    judge(made, NAME, refusal, tmp_path / "cases", known={}, skip=skip)


def test_gitsign_signs_what_keyless_accepts(
    house, primed, keyless, repository: Repository, tmp_path: Path
) -> None:
    made = []
    for number in range(2):
        commit, signature = repository.commit(f"number {number}")
        artifact, bundle = bundle_of_signature(commit, signature)
        path = tmp_path / f"commit{number}"
        path.write_bytes(artifact)
        bundle_of(path).write_text(json.dumps(bundle))
        made.append(path)

    assert _refusal(repository, "HEAD", house.who) is None
    first, second = made
    row = Made(THEIRS, first, bundle_of(first), bundle_of(second), house.who)
    judge(row, "keyless", keyless.refusal, tmp_path / "cases", known={})


def test_gitsign_refuses_another_commit(house, primed, repository: Repository) -> None:
    commit, signature = repository.commit("signed")
    changed = repository.put(join(commit + b"!", signature))

    assert _refusal(repository, changed, house.who) is not None
    assert _refusal(repository, "HEAD", replace(house.who, identity="x@y.test")) is not None
    with pytest.raises(ValueError, match="another commit"):
        bundle_of_signature(commit + b"!", signature)
    assert split(join(commit, signature)) == (commit, signature)

"""What this house says of bundles on which verifiers differ, and sigstore-python beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edges import EDGES, SIGNER
from keylessd.core.trusted_root import parse_trusted_root
from sigsim.worlds import ARTIFACT

pytest.importorskip("sigstore")


@pytest.mark.parametrize("name", EDGES)
def test_verdicts_are_those_that_are_known(name: str, tmp_path: Path) -> None:
    from differential import ACCEPTED, Subject, their_verifier_of

    known = EDGES[name]
    edge = known.make()
    root_file = tmp_path / "root.json"
    root_file.write_bytes(edge.root)
    root = parse_trusted_root(edge.root)
    subject = Subject(name, None, ARTIFACT, SIGNER, root, their_verifier_of(root_file))
    assert subject.ours(edge.bundle) == (known.ours or ACCEPTED)
    theirs = subject.theirs(edge.bundle)
    assert (theirs == ACCEPTED) is ("sigstore-python" in known.accepted_by), theirs

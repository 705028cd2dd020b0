"""What the other clients say of bundles on which verifiers differ; see `edges`. No services."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.real.clients import PREDICATE_TYPE, TRUSTED_ROOT, Cosign, Expected, SigstoreJs

import edges
from edges import EDGES, SIGNER
from sigsim.worlds import ARTIFACT

WHO = Expected(*SIGNER)


@pytest.mark.parametrize("name", EDGES)
def test_verdicts_are_those_that_are_known(clients_installed, name: str, tmp_path: Path) -> None:
    assert edges.PREDICATE_TYPE == PREDICATE_TYPE
    known = EDGES[name]
    edge = known.make()
    files: Any = SimpleNamespace(directory=tmp_path, trust=tmp_path)
    (tmp_path / TRUSTED_ROOT).write_bytes(edge.root)
    bundle, artifact = tmp_path / "artifact.sigstore.json", tmp_path / "artifact"
    bundle.write_bytes(edge.bundle)
    artifact.write_bytes(ARTIFACT)
    javascript = SigstoreJs(files)
    try:
        for judge in (Cosign(files), javascript):
            refusal = judge.refusal(bundle, artifact, WHO, attestation=edge.is_attestation)
            assert (refusal is None) is (judge.name in known.accepted_by), (judge.name, refusal)
    finally:
        javascript.close()

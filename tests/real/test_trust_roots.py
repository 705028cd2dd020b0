"""Trust roots that say less than the stack's: a real authority's stamps under its CA alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.real.clients import TRUSTED_ROOT, Cosign

from keylessd.core.bundle import parse_bundle
from keylessd.core.timestamp_token import Token
from standing import bundle_of


@pytest.mark.parametrize("config", ["v1-tsa", "v2"])
def test_signer_of_timestamps_that_the_root_leaves_out(
    stack, house, tmp_path: Path, config: str
) -> None:
    root = json.loads((stack.trust / TRUSTED_ROOT).read_text())
    for authority in root["timestampAuthorities"]:
        del authority["certChain"]["certificates"][0]
    above = tmp_path / TRUSTED_ROOT
    above.write_text(json.dumps(root))
    where = "--trusted-root", above, "--signing-config", stack.trust / f"signing-{config}.json"
    listed, brought = house.files(2, stem=f"authority-{config}-")

    house.sign(config, listed)
    done = house.keyless("sign", *where, brought)
    assert done.returncode == 0, done.stderr

    # The stamp brings what the root does not have, under which both of us accept it.
    cosign = Cosign(_files(tmp_path))
    for path, good in ((brought, True), (listed, False)):
        (stamp,) = parse_bundle(bundle_of(path).read_bytes()).timestamps
        assert bool(Token.parse(stamp).data.certificates) is good
        assert (house.verify("--trusted-root", above, path).returncode == 0) is good
        assert (cosign.refusal(bundle_of(path), path, house.who) is None) is good
        assert house.verify(path).returncode == 0


def _files(trust: Path) -> Any:
    return SimpleNamespace(directory=trust, trust=trust)

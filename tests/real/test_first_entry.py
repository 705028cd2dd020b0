"""The first entry of a log: index 0, a tree of one leaf, and a proof without hashes."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator

import pytest
from tests.real import matrix
from tests.real.process import free_ports
from tests.real.services import HOST, Maker
from tests.real.trust import TRUSTED_ROOT, signing_config

from standing import bundle_of

NAME = "rekor2-new"


@pytest.fixture
def fresh(stack) -> Iterator[str]:
    """A Rekor v2 log without entries; the name of its signing configuration."""
    port, grpc, metrics = free_ports(3)
    log = Maker(stack.directory).rekor2(NAME, port, grpc, metrics)
    config = signing_config(stack.keys, stack.urls, [(f"http://{HOST}:{port}", 2)])
    (stack.trust / f"signing-{NAME}.json").write_bytes(config)
    log.start()
    log.wait_until_ready()
    yield NAME
    log.stop(signal.SIGKILL)
    shutil.rmtree(stack.directory / NAME)


def _proof(bundle) -> dict[str, object]:
    (entry,) = json.loads(bundle.read_text())["verificationMaterial"]["tlogEntries"]
    return entry["inclusionProof"]


def test_keyless_writes_it(stack, house, keyless, judges, fresh: str) -> None:
    (path,) = house.files(1, stem="first-ours-")
    files = ("--trusted-root", stack.trust / TRUSTED_ROOT)
    config = ("--signing-config", stack.trust / f"signing-{fresh}.json")
    environ = {"KEYLESS_INSTANCE": ""}
    done = house.keyless("sign", *files, *config, path, environ=environ)
    assert done.returncode == 0, done.stderr

    proof = _proof(bundle_of(path))
    assert (proof["logIndex"], proof["treeSize"], proof["hashes"]) == ("0", "1", [])
    for one in (keyless, *judges.values()):
        words = one.refusal(bundle_of(path), path, house.who)
        matrix.TABLE.put("keyless, first entry of a log", one.name, "good", words)
        assert words is None, one.name


def test_cosign_writes_it(house, keyless, judges, fresh: str) -> None:
    (path,) = house.files(1, stem="first-cosign-")
    judges["cosign"].sign(bundle_of(path), path, fresh)

    # What is zero is left out.
    proof = _proof(bundle_of(path))
    assert proof["treeSize"] == "1"
    assert not {"logIndex", "hashes"} & set(proof)
    row = "cosign, first entry of a log"
    for one in (keyless, *judges.values()):
        words = one.refusal(bundle_of(path), path, house.who)
        found = None
        if one.name == "sigstore-python":
            assert words is not None
            found = matrix.exception(one.name, words, "it wants zeros written")
        else:
            assert words is None, (one.name, words)
        matrix.TABLE.put(row, one.name, "good", found)
    path.write_bytes(b"changed")
    assert keyless.refusal(bundle_of(path), path, house.who) is not None

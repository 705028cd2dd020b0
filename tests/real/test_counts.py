"""How many certificates and entries many signatures make, counted in the logs themselves."""

from __future__ import annotations

import pytest
from tests.real.outcomes import counted

from standing import bundle_of, certificates, log_indexes

COUNT = 200


@pytest.mark.parametrize(("instance", "log"), [("v1", "rekor1"), ("v2", "rekor2-a")])
@pytest.mark.parametrize(("reuse", "wanted"), [("window", 1), ("never", COUNT)])
def test_two_hundred_signatures(
    stack, house, judges, instance: str, log: str, reuse: str, wanted: int
) -> None:
    house.kill_daemon()  # no certificate is left of other tests
    files = house.files(COUNT, stem=f"count-{instance}-{reuse}-")

    with counted(stack) as added:
        house.sign(instance, "--reuse", reuse, *files)

    assert added.certificates == wanted
    assert added == {log: COUNT}
    bundles = [bundle_of(path) for path in files]
    assert len(certificates(bundles)) == wanted
    assert set(log_indexes(bundles).values()) == {1}
    assert len(log_indexes(bundles)) == COUNT
    assert house.verify(*files).returncode == 0
    for path in files[:: COUNT // 5]:
        for one in judges.values():
            assert one.refusal(bundle_of(path), path, house.who) is None


def test_two_hundred_in_one_batch(stack, house, judges) -> None:
    files = house.files(COUNT, stem="batch-")
    out = house.work / "batch.json"

    with counted(stack) as added:
        house.sign("v1", "--batch", "--bundle", out, *files)

    assert added == {"rekor1": 1}
    done = house.verify("--bundle", out, files[-1])
    assert done.returncode == 0, done.stderr
    refusal = judges["sigstore-python"].refusal(out, files[-1], house.who, attestation=True)
    assert refusal is None


def test_forty_processes_share_a_certificate(stack, house) -> None:
    house.kill_daemon()
    files = house.files(40, stem="processes-")

    with counted(stack) as added:
        done = house.finish([house.start("sign", "--instance", "v1", path) for path in files])

    assert [one.stderr for one in done if one.returncode] == []
    assert added.certificates == 1
    assert added == {"rekor1": 40}
    assert house.verify(*files).returncode == 0

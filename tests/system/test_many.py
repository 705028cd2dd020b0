"""Two hundred files in one call and fifty processes at once: all proven, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from standing import (
    Independent,
    Standing,
    bundle_of,
    certificates,
    log_indexes,
    standing,
)

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Iterator[Standing]:
    yield from standing(tmp_path_factory.mktemp("many"))


@pytest.fixture(scope="module")
def independent(house: Standing) -> Independent:
    pytest.importorskip("sigstore")
    return Independent(house)


@pytest.mark.slow
@pytest.mark.parametrize("reuse", ["window", "never"])
def test_two_hundred_files_in_one_call(
    house: Standing, independent: Independent, reuse: str
) -> None:
    files = house.files(200, stem=reuse)
    before = house.counts()

    signed = house.keyless("sign", "--reuse", reuse, *files)

    assert signed.returncode == 0, signed.stderr
    new = house.counts().since(before)
    bundles = [bundle_of(path) for path in files]
    assert new.entries == 200
    assert set(log_indexes(bundles).values()) == {1}
    assert len(log_indexes(bundles)) == 200
    assert len(certificates(bundles)) == new.certificates
    assert new.certificates <= 2 if reuse == "window" else new.certificates == 200
    verified = house.verify(*files)
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.count(": OK, ") == 200
    for path in files:
        independent.verify(path)


@pytest.mark.slow
@pytest.mark.parametrize("reuse", ["window", "never"])
def test_fifty_processes_at_once(house: Standing, independent: Independent, reuse: str) -> None:
    # No daemon runs: fifty clients want to start one, and one of them does.
    house.kill_daemon()
    files = house.files(50, stem=f"process-{reuse}")
    before = house.counts()

    done = house.finish([house.start("sign", "--reuse", reuse, path) for path in files])

    assert [(one.returncode, one.stderr) for one in done if one.returncode] == []
    assert sum("starting one" in one.stderr for one in done) == 1
    new = house.counts().since(before)
    bundles = [bundle_of(path) for path in files]
    assert new.entries == 50
    assert len(log_indexes(bundles)) == 50
    assert len(certificates(bundles)) == new.certificates
    assert new.certificates <= 2 if reuse == "window" else new.certificates == 50
    assert house.verify(*files).returncode == 0
    for path in files:
        independent.verify(path)

"""No room for the ledger: the daemon signs nothing, says so, and goes on when there is room.

The kernel's limit on the size of a process's files stands in for the disk.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator

import pytest

from standing import Standing, bundle_of, standing

pytestmark = pytest.mark.system


@pytest.fixture
def house(tmp_path) -> Iterator[Standing]:
    yield from standing(tmp_path)


def test_nothing_is_signed_without_a_record(house: Standing) -> None:
    first, second = house.files(2)
    assert house.keyless("sign", first).returncode == 0
    before, size = house.counts(), house.ledger.stat().st_size
    pid = house.daemon_pid()
    assert pid is not None
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    for room in (0, 100):  # no byte more, and a part of a record
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + room, limits[1]))
        done = house.keyless("sign", "--json", second)
        assert done.returncode == 5, done.stderr
        error = json.loads(done.stdout.splitlines()[-1])["error"]
        assert error["code"] == "ledger_unavailable"
        assert error["retryable"]
        assert str(house.ledger) in error["message"]
        assert house.ledger.stat().st_size == size
    assert not bundle_of(second).exists()
    assert house.counts() == before
    # Verifying needs no record.
    assert house.verify(first).returncode == 0

    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    done = house.keyless("sign", second)
    assert done.returncode == 0, done.stderr
    assert house.counts().since(before).entries == 1
    assert house.daemon_pid() == pid
    assert [record["event"] for record in house.records()] == ["attempt", "outcome"] * 2

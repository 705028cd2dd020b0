"""Processes that behave as badly as they can, while healthy clients are still served.

How fast they are then is a matter of measuring by hand; here all their requests succeed, and the
daemon has neither descriptors nor log lines left over from the attack.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import hostile_client
from procfs import descriptors
from standing import LOOK, PATIENCE, Standing, standing

pytestmark = pytest.mark.system

ATTACKERS = 2  # processes
LOG_LINES = 300  # at most, of thousands of violations
DESCRIPTORS = 60  # of a daemon that serves nobody, and a margin


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Iterator[Standing]:
    yield from standing(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("attack", hostile_client.ATTACKS)
def test_healthy_clients_are_served_all_the_while(house: Standing, attack: str) -> None:
    files = house.files(6, stem=attack)
    assert house.keyless("sign", files[0]).returncode == 0
    pid = house.daemon_pid()
    lines = len(house.log.read_text().splitlines())
    command = [sys.executable, hostile_client.__file__, attack, str(house.socket)]
    attackers = [subprocess.Popen(command, env=house.environ) for _ in range(ATTACKERS)]
    try:
        for path in files[1:]:
            assert house.keyless("status").returncode == 0
            signed = house.keyless("sign", path)
            assert signed.returncode == 0, signed.stderr
            verified = house.verify(path)
            assert verified.returncode == 0, verified.stderr
        assert all(attacker.poll() is None for attacker in attackers)
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.wait()

    assert house.daemon_pid() == pid
    assert len(house.log.read_text().splitlines()) - lines < LOG_LINES
    assert pid is not None
    check_nothing_is_kept(house, pid)
    assert house.keyless("status").returncode == 0


def check_nothing_is_kept(house: Standing, pid: int) -> None:
    """The daemon has given back the attack's connections, and its descriptors if that shows."""
    end = time.monotonic() + PATIENCE
    while connections(house) > 1 or (descriptors(pid) or 0) > DESCRIPTORS:
        assert time.monotonic() < end, "connections or descriptors are kept"
        time.sleep(LOOK)


def connections(house: Standing) -> int:
    """Return how many connections the daemon says that it has, that of the question among them."""
    count = json.loads(house.keyless("status", "--json").stdout)["connections"]
    assert isinstance(count, int)
    return count

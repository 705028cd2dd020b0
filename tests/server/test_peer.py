"""The kernel's word on who connected, with real sockets and processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from keylessd.server.peer import Credentials, credentials, describe, is_nobody

CONNECT = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def listener(tmp_path: Path) -> socket.socket:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        yield sock


def test_credentials_are_those_of_the_connecting_process(listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            who = credentials(accepted)

    assert who == Credentials(pid=os.getpid(), uid=os.geteuid(), gid=os.getegid())


def test_no_peer_no_credentials() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lonely:
        who = credentials(lonely)

    assert who.pid == 0  # the kernel's answer for a socket that has no peer process


def _start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])


@pytest.mark.system
def test_facts_of_a_living_process(listener: socket.socket) -> None:
    command = [sys.executable, "-c", CONNECT, listener.getsockname()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        accepted, _ = listener.accept()
        with accepted:
            who = credentials(accepted)
            facts = describe(accepted, who)
        started = _start_time(child.pid)
        child.communicate(b"")

    assert who.pid == child.pid
    assert facts.alive
    assert facts.started == started
    assert set(facts.groups) == set(os.getgroups())


@pytest.mark.system
def test_a_dead_process_has_no_start_time(listener: socket.socket) -> None:
    command = [sys.executable, "-c", CONNECT, listener.getsockname()]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read()
        # Ended and not waited for: /proc/PID/stat is still there, and still says when it began.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert _start_time(child.pid)
        accepted, _ = listener.accept()
        with accepted:
            facts = describe(accepted, credentials(accepted))

    assert facts.alive is False
    assert facts.started is None


def test_start_time_is_read_past_a_hostile_command_name(
    listener: socket.socket, tmp_path: Path
) -> None:
    directory = tmp_path / "proc" / str(os.getpid())
    directory.mkdir(parents=True)
    fields = " ".join(str(number) for number in range(4, 53))
    (directory / "stat").write_text(f"7 (a) S 1 (x 9) S {fields}\n")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            facts = describe(accepted, credentials(accepted), proc=tmp_path / "proc")

    assert facts.started == 22


@pytest.mark.parametrize("stat", ["", "7 a", "7 (a) S 1", "7 (a) S " + "x " * 40, "\x00" * 99])
def test_unreadable_facts_are_absent(listener: socket.socket, tmp_path: Path, stat: str) -> None:
    directory = tmp_path / "proc" / str(os.getpid())
    directory.mkdir(parents=True)
    (directory / "stat").write_text(stat)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            facts = describe(accepted, credentials(accepted), proc=tmp_path / "proc")

    assert facts.started is None
    assert facts.alive


def test_without_pidfd_no_start_time_is_claimed(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keylessd.server.peer.SO_PEERPIDFD", 9999)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            facts = describe(accepted, credentials(accepted))

    assert facts.alive is None
    assert facts.started is None


def test_describe_leaves_no_descriptor(listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            before = sorted(os.listdir("/proc/self/fd"))
            describe(accepted, credentials(accepted))
            after = sorted(os.listdir("/proc/self/fd"))

    assert before == after


WHOLE = "         0          0 4294967295\n"


@pytest.mark.parametrize(
    ("uid", "uid_map", "nobody"),
    [
        (65534, "         0       1000          1\n", True),
        (65534, "0 100000 65536\n", True),
        (65534, WHOLE, False),
        (1000, "0 100000 65536\n", False),
        (65534, None, False),
    ],
)
def test_a_uid_that_stands_for_everybody_unknown(
    tmp_path: Path, uid: int, uid_map: str | None, *, nobody: bool
) -> None:
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/overflowuid").write_text("65534\n")
    if uid_map is not None:
        (tmp_path / "self").mkdir()
        (tmp_path / "self/uid_map").write_text(uid_map)

    assert is_nobody(uid, proc=tmp_path) is nobody

"""Running a CI system's command: real programs that behave in every way."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from keyless._tool import MAX_OUTPUT, SHOWN, run
from keyless.errors import KeylessError

ENVIRON = {"PATH": os.environ["PATH"], "MINE": "yes"}


@pytest.fixture
def tool(tmp_path: Path):
    def make(script: str) -> list[str]:
        path = tmp_path / "tool"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return [str(path), "a b", "--x"]

    return make


def refused(argv: list[str], **options: float) -> KeylessError:
    with pytest.raises(KeylessError) as caught:
        run(argv, ENVIRON, **options)
    assert caught.value.code == "identity_unavailable"
    return caught.value


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_what_it_prints_is_returned(tool) -> None:
    argv = tool('printf "%s|" "$@" "$MINE" "$HOME"; cat; echo noise >&2')
    assert run(argv, ENVIRON) == "a b|--x|yes||"


def test_the_whole_of_a_long_output(tool) -> None:
    assert run(tool(f"head -c {MAX_OUTPUT} /dev/zero | tr '\\0' x"), ENVIRON) == "x" * MAX_OUTPUT


@pytest.mark.parametrize("bytes_more", [1, 10 * MAX_OUTPUT])
def test_too_much_output(tool, bytes_more: int) -> None:
    error = refused(tool(f"head -c {MAX_OUTPUT + bytes_more} /dev/zero | tr '\\0' x"))
    assert f"more than {MAX_OUTPUT} bytes" in error.message


def test_output_without_end(tool) -> None:
    assert "printed more" in refused(tool("yes")).message


def test_complaints_without_end_do_not_block_it(tool) -> None:
    assert run(tool("head -c 1000000 /dev/zero >&2; echo fine"), ENVIRON) == "fine\n"


def test_failure_with_its_own_words(tool) -> None:
    error = refused(tool("echo out; echo 'no such audience' >&2; exit 7"))
    assert error.message.endswith("failed with status 7: no such audience")
    assert not error.retryable
    assert error.hint is not None


def test_a_token_in_a_complaint_is_not_repeated(tool) -> None:
    script = (
        "printf 'tok=eyJhbGciOi.eyJz.c2ln bad\\033[31m' >&2; head -c 9000 /dev/zero >&2; exit 1"
    )
    error = refused(tool(script))
    assert "eyJ" not in error.message
    assert "\x1b" not in error.message
    assert len(error.message) < SHOWN + 400


def test_killed_by_a_signal(tool) -> None:
    assert "status -9" in refused(tool("kill -9 $$")).message


def test_no_such_program(tmp_path: Path) -> None:
    assert "No such file" in refused([str(tmp_path / "none")]).message


def test_no_program(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("x")
    assert "cannot be run" in refused([str(path)]).message


def test_one_that_does_not_end_is_killed_with_its_children(tool, tmp_path: Path) -> None:
    argv = tool(f"sleep 1000 & echo $! > {tmp_path}/child; wait")
    clock = iter([0.0, 0.001, *[9.0] * 9])

    def time_goes() -> float:
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():
            time.sleep(0.01)  # until it has begun; the test's own time is the iterator
        return next(clock)

    with pytest.raises(KeylessError) as caught:
        run(argv, ENVIRON, seconds=1.0, clock=time_goes)
    assert (caught.value.code, caught.value.retryable) == ("identity_unavailable", True)
    child = int((tmp_path / "child").read_text())
    assert not is_running(child)


def test_one_that_leaves_something_behind_is_over_when_it_ends(tool, tmp_path: Path) -> None:
    argv = tool(f"sleep 1000 & echo $! > {tmp_path}/child; echo token")
    assert run(argv, ENVIRON) == "token\n"
    assert not is_running(int((tmp_path / "child").read_text()))


def test_no_descriptor_is_left_and_none_is_inherited(tool) -> None:
    mine = os.open("/dev/null", os.O_RDONLY)
    before = descriptors()
    listing = run(tool("ls /proc/self/fd"), ENVIRON).split()
    refused(tool("exit 1"))
    refused(["/none"])
    assert descriptors() == before
    os.close(mine)
    assert {"0", "1", "2"} <= set(listing)
    assert str(mine) not in listing


def is_running(pid: int) -> bool:
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        time.sleep(0.01)
    return True

"""The state directory's lock, and the look after our own socket."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from keylessd.server.hold import LOCK, StateHeldError, hold_state, wait_until_gone
from keylessd.server.listen import OwnSocket, describe_inherited


def test_holder_is_named_to_the_second(tmp_path: Path) -> None:
    first = hold_state(tmp_path)
    with pytest.raises(StateHeldError, match=f"process {os.getpid()}, uses the state directory"):
        hold_state(tmp_path, patience=0)
    os.close(first)

    os.close(hold_state(tmp_path, patience=0))


def test_predecessor_that_ends_is_waited_for(tmp_path: Path) -> None:
    first = hold_state(tmp_path)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            os.close(first)

    os.close(hold_state(tmp_path, patience=10, now=lambda: sum(slept), sleep=sleep))
    assert len(slept) == 3


def test_predecessor_that_does_not_end_is_not_waited_for_longer(tmp_path: Path) -> None:
    first = hold_state(tmp_path)
    slept: list[float] = []
    with pytest.raises(StateHeldError):
        hold_state(tmp_path, patience=1, now=lambda: sum(slept), sleep=slept.append)
    os.close(first)

    assert 1 <= sum(slept) < 1.1


def test_lock_is_no_way_to_write_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic"):
        hold_state(tmp_path / "state")

    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("change", ["removed", "replaced", "directory"])
async def test_socket_that_is_gone_is_noticed(
    autojump_clock: object, tmp_path: Path, change: str
) -> None:
    own = OwnSocket(tmp_path / "run" / "s")
    try:
        with trio.move_on_after(60) as patience:
            await wait_until_gone(own.listening)
        assert patience.cancelled_caught

        own.path.unlink()
        if change == "replaced":
            own.path.touch()
        elif change == "directory":
            (tmp_path / "run" / "s.lock").unlink()
            (tmp_path / "run").rmdir()
        with trio.fail_after(60):
            await wait_until_gone(own.listening)
    finally:
        own.close()


async def test_inherited_socket_is_the_managers_affair(
    autojump_clock: object, tmp_path: Path
) -> None:
    own = OwnSocket(tmp_path / "run" / "s")
    try:
        inherited = describe_inherited("sign", own.listening.listener)
        own.path.unlink()
        with trio.move_on_after(60) as patience:
            await wait_until_gone(inherited)
        assert patience.cancelled_caught
    finally:
        own.close()

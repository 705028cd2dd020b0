"""Our own socket: how it is born, who may make it, what a killed daemon leaves behind."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest
import trio

from keylessd.server import listen
from keylessd.server.listen import (
    ACCEPT_BATCH,
    ADMIT_BATCH,
    EXHAUSTED_PAUSE,
    ListenError,
    OwnSocket,
    SocketInUseError,
    accept_forever,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyless" / "sign.sock"


def test_socket_is_born_private_under_any_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        own = OwnSocket(path)
    finally:
        os.umask(before)
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE((path.parent / "sign.sock.lock").stat().st_mode) == 0o600
    finally:
        own.close()


def test_socket_can_be_reached_by_its_path_and_by_our_address(path: Path) -> None:
    own = OwnSocket(path)
    try:
        for address in (str(path), own.listening.connect_to):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(address)
                own.listening.listener.accept()[0].close()
    finally:
        own.close()


def test_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    own = OwnSocket(directory / "sign.sock")
    try:
        assert stat.S_ISSOCK((directory / "sign.sock").stat().st_mode)
    finally:
        own.close()


def test_close_removes_the_socket_and_frees_the_lock(path: Path) -> None:
    OwnSocket(path).close()

    assert not path.exists()
    OwnSocket(path).close()


def test_second_daemon_refuses_and_names_the_first(path: Path) -> None:
    own = OwnSocket(path)
    try:
        with pytest.raises(SocketInUseError, match=f"process {os.getpid()}") as caught:
            OwnSocket(path)
        assert caught.value.holder == os.getpid()
        assert path.exists()
    finally:
        own.close()


def test_stale_socket_is_replaced(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    own = OwnSocket(path)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        assert own.listening.path == str(path)
    finally:
        own.close()


def test_living_socket_of_somebody_without_the_lock_is_left_alone(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(1)
        with pytest.raises(SocketInUseError) as caught:
            OwnSocket(path)

        assert caught.value.holder is None
        assert path.exists()


def test_full_backlog_counts_as_alive(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    clients = []
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)
        while True:
            client = socket.socket(socket.AF_UNIX)
            clients.append(client)
            client.setblocking(False)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break
        with pytest.raises(SocketInUseError):
            OwnSocket(path)
        assert path.exists()
    for client in clients:
        client.close()


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link", "link to a socket"])
def test_what_is_not_our_socket_is_never_removed(path: Path, tmp_path: Path, kind: str) -> None:
    path.parent.mkdir(mode=0o700)
    if kind == "file":
        path.write_text("mine")
    elif kind == "directory":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "other.sock"))
        path.symlink_to(tmp_path / "other.sock")

    with pytest.raises(ListenError, match="no socket of ours"):
        OwnSocket(path)
    assert path.is_symlink() or path.exists()


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o777, 0o1777])
def test_directory_open_to_others_is_refused(path: Path, mode: int) -> None:
    path.parent.mkdir()
    path.parent.chmod(mode)

    with pytest.raises(ListenError, match="open to others"):
        OwnSocket(path)
    assert list(path.parent.iterdir()) == []


def test_directory_that_is_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    path.parent.symlink_to(tmp_path / "real")

    with pytest.raises(ListenError):
        OwnSocket(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_directory_of_another_user_is_refused(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    os.chown(path.parent, 12345, 12345)

    with pytest.raises(ListenError, match="belongs to uid 12345"):
        OwnSocket(path)


def test_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="a/b does not exist"):
        OwnSocket(tmp_path / "a" / "b" / "c" / "sign.sock")


def test_lock_that_is_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    (path.parent / "sign.sock.lock").symlink_to(tmp_path / "victim")

    with pytest.raises(ListenError, match="lock"):
        OwnSocket(path)
    assert not (tmp_path / "victim").exists()


def test_socket_that_was_replaced_is_not_removed(path: Path) -> None:
    own = OwnSocket(path)
    path.unlink()
    path.write_text("somebody else's")
    own.close()

    assert path.read_text() == "somebody else's"


def test_failed_start_leaves_no_descriptor_open(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_text("in the way")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ListenError):
        OwnSocket(path)

    assert len(os.listdir("/proc/self/fd")) == before


# --- the accept loop -------------------------------------------------------------------------


class ScriptedListener:
    """Plays errors and connections; afterwards there is nothing to accept."""

    def __init__(self, *script: int | str) -> None:
        self.script = list(script)

    def accept(self) -> tuple[socket.socket, object]:
        if not self.script:
            raise BlockingIOError
        step = self.script.pop(0)
        if isinstance(step, int):
            raise OSError(step, os.strerror(step))
        return step, ""  # type: ignore[return-value]  # stands for a socket


class AcceptLab:
    def __init__(self, *script: int | str, serve: bool = True) -> None:
        self.listener = ScriptedListener(*script)
        self.admitted: list[object] = []
        self.batches: list[int] = []
        self.exhausted = 0
        self.serve = serve

    def admit(self, connection: object) -> bool:
        self.admitted.append(connection)
        return self.serve

    async def wait_readable(self) -> None:
        self.batches.append(len(self.admitted))
        if not self.listener.script:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()

    def note_exhausted(self) -> None:
        self.exhausted += 1

    async def run(self) -> None:
        with trio.move_on_after(100):
            await accept_forever(
                self.listener,
                self.admit,  # type: ignore[arg-type]
                wait_readable=self.wait_readable,
                exhausted=self.note_exhausted,
            )


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_exhaustion_is_waited_out(autojump_clock: object, number: int) -> None:
    lab = AcceptLab("a", number, number, "b")
    start = trio.current_time()
    times: list[float] = []
    admit = lab.admit
    lab.admit = lambda connection: (times.append(trio.current_time() - start), admit(connection))[1]  # type: ignore[method-assign]
    await lab.run()

    assert lab.admitted == ["a", "b"]
    assert lab.exhausted == 2
    assert times == [0, pytest.approx(2 * EXHAUSTED_PAUSE)]


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EINTR])
async def test_a_client_that_left_early_is_passed_over(autojump_clock: object, number: int) -> None:
    lab = AcceptLab(number, "a")
    await lab.run()

    assert lab.admitted == ["a"]
    assert lab.exhausted == 0


async def test_an_unexpected_error_is_not_swallowed(autojump_clock: object) -> None:
    lab = AcceptLab(errno.EBADF)

    with pytest.raises(OSError, match="Bad file"):
        await lab.run()


async def test_refused_connections_are_taken_in_large_batches(autojump_clock: object) -> None:
    lab = AcceptLab(*map(str, range(2 * ACCEPT_BATCH)), serve=False)
    await lab.run()

    assert lab.batches == [0, ACCEPT_BATCH, 2 * ACCEPT_BATCH]


async def test_served_connections_are_taken_in_small_batches(autojump_clock: object) -> None:
    lab = AcceptLab(*map(str, range(2 * ADMIT_BATCH)))
    await lab.run()

    assert lab.batches == [0, ADMIT_BATCH, 2 * ADMIT_BATCH]


def test_what_else_is_to_be_claimed_comes_before_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "run" / "sign.sock"
    seen = []

    def refuse() -> None:
        seen.append((path.exists(), (tmp_path / "run" / "sign.sock.lock").exists()))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        OwnSocket(path, claim=refuse)

    # Whoever connects is served: a socket that is taken away again would drop them.
    assert seen == [(False, True)]
    assert not path.exists()
    OwnSocket(path).close()


def test_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="path too long"):
        OwnSocket(tmp_path / "run" / ("s" * 120))


def test_machine_without_proc_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_address", lambda _, name: f"/nowhere/self/fd/3/{name}")
    with pytest.raises(ListenError, match="/proc is needed"):
        OwnSocket(path)

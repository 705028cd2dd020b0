"""The command as a process: how it ends, and what becomes of its standard streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fakedaemon import FakeDaemon
from keyless.wire import Reply, Request

pytestmark = pytest.mark.system

Serve = Callable[..., FakeDaemon]
COMMAND = [sys.executable, "-P", "-m", "keyless"]


def start(*words: str, **options: object) -> subprocess.Popen[bytes]:
    settings: dict[str, object] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    return subprocess.Popen([*COMMAND, *words], **{**settings, **options})


def run(*words: str, **options: object) -> tuple[int, bytes, bytes]:
    process = start(*words, **options)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def shell(line: str) -> tuple[int, bytes]:
    """Run a shell line in which `keyless` is the command; return its status and its errors."""
    quoted = " ".join(f"'{word}'" for word in COMMAND)
    done = subprocess.run(
        ["sh", "-c", f'keyless() {{ {quoted} "$@"; }}; {line}'],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def wait_until_asleep(process: subprocess.Popen[bytes]) -> None:
    """Return when a process waits for something, as the kernel says (proc(5), state)."""
    stat = Path(f"/proc/{process.pid}/stat")
    end = time.monotonic() + 60
    while stat.read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    (folder / "a").write_bytes(b"a")


@pytest.mark.usefixtures("daemon")
def test_it_ends_with_the_code_of_the_command(folder: Path) -> None:
    code, out, err = run("sign", "a")
    assert (code, err) == (0, b"")
    assert out.startswith(b"a: signed as dev@example.com")
    assert (folder / "a.sigstore.json").exists()
    assert run("sign", "missing")[0] == 6
    assert run("sgin")[0] == 2


def test_ctrl_c_gives_up_what_was_asked_for(serve: Serve) -> None:
    daemon = serve(lambda _: None)
    process = start("sign", "a")
    daemon.wait_until(lambda: bool(daemon.requests))
    wait_until_asleep(process)  # amid a frame it would hang up instead of saying anything
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert err == b"\nkeyless: interrupted\n"
    daemon.wait_until(lambda: daemon.cancelled == [1])
    assert not os.path.exists("a.sigstore.json")


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("sign", "a"), ("sign", "--bundle", "-", "a"), ("--help",)])
def test_a_reader_that_has_gone_is_no_fault(words: tuple[str, ...], unbuffered: str) -> None:
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    readable, writable = os.pipe()
    os.close(readable)
    try:
        code, _, err = run(*words, stdout=writable, env=environ)
    finally:
        os.close(writable)
    assert (code, err) == (141, b"")


@pytest.mark.usefixtures("daemon")
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("sign", "a"), ("sign", "--bundle", "-", "a"), ("--help",)])
def test_results_that_cannot_be_written_are_a_failure(
    words: tuple[str, ...], unbuffered: str
) -> None:
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as full:
        code, _, err = run(*words, stdout=full, env=environ)
    assert code == 6
    assert b"No space left on device" in err
    assert b"Traceback" not in err


@pytest.mark.usefixtures("daemon")
def test_closed_streams_take_no_harm(folder: Path) -> None:
    code, err = shell("keyless sign a <&- >&-")
    assert (code, err) == (0, b"")
    assert (folder / "a.sigstore.json").stat().st_size > 0
    assert shell("keyless sign missing <&- >&- 2>&-")[0] == 6


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("sign --bundle b -", 6, b"keyless: -: cannot read '-': Bad file descriptor\n"),
        ("sign --identity-token - a", 6, b"--identity-token: cannot read -: Bad file descriptor"),
        ("lock", 2, b"keyless: the passphrase cannot be read: Bad file descriptor\n"),
    ],
)
def test_closed_input_is_not_an_empty_one(
    daemon: FakeDaemon, folder: Path, line: str, code: int, says: bytes
) -> None:
    ended, err = shell(f"keyless {line} <&-")
    assert ended == code
    assert says in err
    assert daemon.requests == []
    assert not (folder / "b").exists()


@pytest.mark.parametrize(
    "line", ["sign --bundle - a", "attest --predicate p --type custom --bundle - a"]
)
def test_a_bundle_meant_for_a_closed_stream_is_not_signed(
    serve: Serve, daemon: FakeDaemon, folder: Path, line: str
) -> None:
    """It would be lost, and what it is about in the log for good."""
    del serve
    (folder / "p").write_text("{}")
    code, err = shell(f"keyless {line} >&-")
    assert code == 6
    assert b"cannot write -: Bad file descriptor" in err
    assert daemon.requests == []


@pytest.mark.usefixtures("daemon")
def test_a_terminal_of_ascii_is_shown_escapes(folder: Path) -> None:
    (folder / "ü").write_bytes(b"x")
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    code, out, _ = run("sign", "ü", env=environ)
    assert code == 0
    assert out.startswith(b"\\xfc: signed as")


def test_a_fault_of_ours_never_looks_like_a_refusal(serve: Serve) -> None:
    """A verification that said no is 1, and so is what Python ends with after a traceback."""
    program = (
        "import sys, keyless.cli, keyless.cli._status as status\n"
        "def run(*_): raise ZeroDivisionError('as it happens')\n"
        "status.run = run\n"
        "sys.argv[1:] = ['status']\n"
        "keyless.cli.program()\n"
    )
    del serve
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, check=False)
    assert done.returncode == 70
    assert b"ZeroDivisionError: as it happens" in done.stderr


def test_output_is_whole_before_the_process_ends(serve: Serve) -> None:
    """It ends by os._exit, which flushes nothing by itself."""
    record = b'{"ts": "2026-01-01T00:00:00Z", "text": "' + b"x" * 200 + b'"}\n'
    serve(lambda request: Reply(request.id, {"records": 1000}, {"records": record * 1000}))
    code, out, err = run("ledger", "--limit", "1000", "--json")
    assert (code, err) == (0, b"")
    assert len(out.splitlines()) == 1000
    assert out.endswith(b'"}\n')


def test_standard_input_is_signed(daemon: FakeDaemon) -> None:
    readable, writable = os.pipe()
    os.write(writable, b"a")
    os.close(writable)
    code, out, _ = run("sign", "--bundle", "-", "-", stdin=readable)
    os.close(readable)
    assert code == 0
    assert b"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" in out
    assert [request.op for request in daemon.requests] == ["sign"]


def test_many_files_share_a_connection(serve: Serve, folder: Path) -> None:
    names = [f"f{n}" for n in range(200)]
    for name in names:
        (folder / name).write_bytes(name.encode())
    daemon = serve()
    code, out, _ = run("sign", *names)
    assert code == 0
    assert len(out.splitlines()) == 400
    assert daemon.connections == 1
    assert len(list(folder.glob("f*.sigstore.json"))) == 200


def test_progress_is_for_terminals_only(serve: Serve, folder: Path) -> None:
    import pty

    serve()
    (folder / "b").write_bytes(b"b")
    _, _, err = run("sign", "a", "b")
    assert err == b""
    ours, theirs = pty.openpty()
    process = start("sign", "--output-directory", ".", "a", "b", stderr=theirs)
    process.communicate(timeout=60)
    os.close(theirs)
    shown = os.read(ours, 65_536)
    os.close(ours)
    assert process.returncode == 0
    assert b"signed 1/2" in shown
    assert shown.endswith(b"\r\x1b[K")


def test_the_answer_of_a_request_is_not_mixed_with_another(serve: Serve, folder: Path) -> None:
    """Answers that come in another order belong to their own files."""
    held: list[Request] = []

    def answers(request: Request) -> object:
        from fakedaemon import answer

        held.append(request)
        if len(held) < 3:
            return None
        return [answer(request) for request in reversed(held)]

    serve(answers)
    for name in ("b", "c"):
        (folder / name).write_bytes(name.encode())
    assert run("sign", "a", "b", "c")[0] == 0
    from hashlib import sha256

    for name in ("a", "b", "c"):
        bundle = (folder / f"{name}.sigstore.json").read_bytes()
        assert sha256(name.encode()).hexdigest().encode() in bundle


@pytest.mark.usefixtures("daemon")
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_disk_under_every_stream(folder: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "sign", "--json", "a"], stdout=full, stderr=full, timeout=60, check=False
        )
        assert done.returncode == 6
        done = subprocess.run([*COMMAND, "sign", "-q", "a"], stderr=full, timeout=60, check=False)
        assert done.returncode == 0
        done = subprocess.run([*COMMAND, "sign", "gone"], stderr=full, timeout=60, check=False)
        assert done.returncode == 6
    assert (folder / "a.sigstore.json").exists()

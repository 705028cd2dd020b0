"""What a process has in its memory stays there: no core file, and nothing that others can read.

Each test first shows that an ordinary process does give away what is looked for.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from process_memory import identity_tokens, refresh_tokens
from procfs import shown_of
from signing_in import ADA, log_in
from standing import Standing, standing

pytestmark = pytest.mark.system

CANARY = "canary-in-the-memory-6Qx"
YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")  # above 0: only a parent may attach
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
# As high as we may, whatever limit this test has been started with.
WITH_CORES = ("/bin/sh", "-c", 'ulimit -S -c "$(ulimit -H -c)" && exec "$@"', "sh")
# A secret that is there after the interpreter has read its program, and then the signal.
ORDINARY = "import os, sys; secret = sys.argv[1][::-1]; os.kill(os.getpid(), int(sys.argv[2]))"
# The daemon under a service manager that lets nobody change limits.
BOUND = """
import resource, runpy
def setrlimit(*_):
    raise PermissionError
resource.setrlimit = setrlimit
runpy.run_module("keylessd", run_name="__main__", alter_sys=True)
"""
CRASHES = (signal.SIGSEGV, signal.SIGABRT)

# Runs a program without capabilities, also as root: as one of any user's.
PLAIN = """
import ctypes, os, sys
PR_SET_SECUREBITS, SECBIT_NOROOT = 28, 1
ctypes.CDLL(None).prctl(PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
WITHOUT_CAPABILITIES = (sys.executable, "-I", "-S", "-c", PLAIN)
PROBE = """
import ctypes, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
status = open("/proc/self/status").read()
print("capabilities", status.split("CapEff:")[1].split()[0])

def say(name, work):
    try:
        print(name, repr(work()))
    except OSError as exc:
        print(name, type(exc).__name__)

def called(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result

def memory():
    region = next(line for line in open(f"/proc/{pid}/maps") if " rw-p " in line)
    with open(f"/proc/{pid}/mem", "rb") as file:
        file.seek(int(region.split("-")[0], 16))
        return file.read(100)

for name in ("environ", "maps", "smaps", "auxv", "pagemap", "syscall", "stack"):
    say(name, lambda: open(f"/proc/{pid}/{name}", "rb").read(4096))
say("map_files", lambda: os.listdir(f"/proc/{pid}/map_files"))
for name in ("cwd", "exe", "root"):
    say(name, lambda: os.readlink(f"/proc/{pid}/{name}"))
say("mem", memory)
say("open-mem", lambda: open(f"/proc/{pid}/mem", "rb").close())
PTRACE_SEIZE, PIDFD_GETFD = 0x4206, 438
PROCESS_VM_READV = {"x86_64": 310}.get(os.uname().machine, 270)
say("ptrace", lambda: called(libc.ptrace(PTRACE_SEIZE, pid, None, None)))
buffer = ctypes.create_string_buffer(8)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
say("readv", lambda: called(libc.syscall(PROCESS_VM_READV, pid, vector, 1, vector, 1, 0)))
say("getfd", lambda: called(libc.syscall(PIDFD_GETFD, os.pidfd_open(pid), 0, 0)))
"""
NOT_GIVEN = (
    *("environ", "maps", "smaps", "auxv", "pagemap", "syscall", "stack", "map_files"),
    *("cwd", "exe", "root", "mem", "open-mem", "ptrace", "readv", "getfd"),
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    directory = tmp_path_factory.mktemp("memory")
    for made in standing(directory):
        made.environ.pop("CI", None)
        yield made


@pytest.fixture(autouse=True)
def _healed(house: Standing) -> Iterator[None]:
    yield
    house.heal()


def crashed(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> bool:
    """Wait for a process that was killed; return whether the kernel has dumped its core."""
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    assert os.WIFSIGNALED(status), status
    return os.WCOREDUMP(status)


def cores(directory: Path) -> list[Path]:
    return list(directory.rglob("core*"))


@pytest.fixture
def ordinary(tmp_path: Path) -> None:
    """An ordinary process leaves a core with its secret in it, or there is nothing to be seen."""
    pattern = CORE_PATTERN.read_text().strip()
    if not pattern.startswith("core") or "/" in pattern:
        pytest.skip(f"cores of this machine do not go to the working directory but to {pattern}")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("core files are limited for this process, and it cannot raise the limit")
    folder = tmp_path / "ordinary"
    folder.mkdir()
    argv = [sys.executable, "-I", "-S", "-c", ORDINARY, CANARY[::-1], str(int(signal.SIGSEGV))]
    assert crashed(subprocess.Popen([*WITH_CORES, *argv], cwd=folder))
    (core,) = cores(folder)
    assert CANARY.encode() in core.read_bytes()
    core.unlink()


class Daemon:
    """A daemon that may leave a core, as far as its limits say, where it can be found."""

    def __init__(
        self,
        house: Standing,
        program: tuple[str, ...] = ("-m", "keylessd"),
        *,
        before: tuple[str, ...] = (),
    ) -> None:
        house.kill_daemon()
        read, write = os.pipe()
        house.log.parent.mkdir(parents=True, exist_ok=True)
        words = ("--log-level", "debug", "--ready-fd", str(write))
        with house.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*WITH_CORES, *before, sys.executable, *program, *words],
                env={k: v for k, v in house.environ.items() if k != "SIGSTORE_ID_TOKEN"},
                cwd=house.work,
                stderr=log,
                pass_fds=[write],
            )
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            assert pipe.read().startswith(b"READY"), house.log.read_text()
        self.pid = self.process.pid

    def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def daemon(house: Standing) -> Iterator[Daemon]:
    """A daemon with a session that it has signed with, so that all it can hold is in its memory."""
    daemon = Daemon(house)
    try:
        log_in(house)
        signed = house.keyless(
            "sign",
            *house.files(1, stem=f"held-{daemon.pid}-"),
            environ={"SIGSTORE_ID_TOKEN": ""},
        )
        assert signed.returncode == 0, signed.stderr
        yield daemon
    finally:
        daemon.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read the daemon's memory")
def test_the_tokens_of_a_session_are_in_its_memory_and_nowhere_else(
    house: Standing, daemon: Daemon
) -> None:
    grants = next(house.sandbox_directory.rglob("oidc-grants.json"))
    of_ada = {
        one for one in identity_tokens(daemon.pid) if one != house.environ["SIGSTORE_ID_TOKEN"]
    }
    refresh = refresh_tokens(daemon.pid, grants)
    assert of_ada
    assert refresh

    said = [
        house.keyless(*words, environ={"SIGSTORE_ID_TOKEN": ""})
        for words in (
            ("status", "--json"),
            ("status",),
            ("whoami", "--json"),
            ("whoami",),
            ("ledger", "--json"),
            ("sign", "--json", "--instance", "nobody", "f"),
            ("logout", "--json", "--all"),
        )
    ]
    places = {f"output {n}": (one.stdout + one.stderr).encode() for n, one in enumerate(said)}
    files = [path for path in house.directory.rglob("*") if path.is_file()]
    places |= {
        str(path): path.read_bytes()
        for path in files
        if house.sandbox_directory not in path.parents
    }
    places |= shown_of(daemon.pid)
    assert any(event["level"] == "debug" for event in house.log_events())
    parts = {part for token in of_ada for part in token.split(".")[1:]} | refresh
    for place, content in places.items():
        for part in parts:
            assert part.encode() not in content, place


@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize("number", CRASHES)
def test_a_daemon_that_crashes_leaves_no_core(
    house: Standing, daemon: Daemon, number: signal.Signals
) -> None:
    os.kill(daemon.pid, number)
    assert not crashed(daemon.process)
    assert cores(house.directory) == []


@pytest.mark.usefixtures("ordinary")
def test_it_leaves_none_either_where_it_may_not_set_its_limit(house: Standing) -> None:
    daemon = Daemon(house, ("-c", BOUND))
    try:
        log_in(house)
        limits = Path(f"/proc/{daemon.pid}/limits").read_text()
        assert "Max core file size        unlimited " in limits
        os.kill(daemon.pid, signal.SIGSEGV)
        assert not crashed(daemon.process)
        assert cores(house.directory) == []
    finally:
        daemon.close()


def probe(pid: int) -> dict[str, str]:
    """Return what a program of the same user, without privileges, finds out of a process."""
    done = subprocess.run(
        [*WITHOUT_CAPABILITIES, sys.executable, "-I", "-c", PROBE, str(pid)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    if int(found.pop("capabilities"), 16) != 0:
        pytest.skip("here not even root can give up its capabilities")
    return found


def test_a_program_of_the_same_user_cannot_look_into_the_daemon(house: Standing) -> None:
    ordinary = subprocess.Popen(
        [*WITHOUT_CAPABILITIES, sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"SECRET": CANARY},
    )
    try:
        assert ordinary.stdout is not None
        assert ordinary.stdout.readline() == b"\n"
        found = probe(ordinary.pid)
    finally:
        ordinary.communicate(b"\n")
    assert CANARY in found["environ"]
    assert "heap" in found["maps"]
    if not YAMA.exists() or YAMA.read_text().strip() == "0":
        assert found["mem"].startswith("b'")

    daemon = Daemon(house, before=WITHOUT_CAPABILITIES)
    try:
        log_in(house)
        assert probe(daemon.pid) == dict.fromkeys(NOT_GIVEN, "PermissionError")
        # What everybody may read says nothing.
        command = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()
        assert b"keylessd" in command
        assert ADA.encode() not in command
    finally:
        daemon.close()


@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize("given", ["flag", "file", "input", "environment", "named file"])
def test_a_command_that_has_a_token_leaves_no_core(
    house: Standing, tmp_path: Path, given: str
) -> None:
    token = house.token()
    path = tmp_path / "token"
    path.write_text(token)
    environ = {**house.environ, "SIGSTORE_ID_TOKEN": ""}
    words: tuple[str, ...] = ()
    if given == "flag":
        words = ("--identity-token", token)
    elif given == "file":
        words = ("--identity-token", str(path))
    elif given == "input":
        words = ("--identity-token", "-")
    elif given == "environment":
        environ["SIGSTORE_ID_TOKEN"] = token
    else:
        environ["KEYLESS_IDENTITY_TOKEN_FILE"] = str(path)
    house.fault("fulcio", fault="delay", seconds=30.0)
    (file,) = house.files(1, stem=f"crashed-{given[0]}")
    command = house.command("sign", "--reuse", "never", *words, file)
    with path.open("rb") as stdin:
        process = subprocess.Popen(
            [*WITH_CORES, *command],
            env=environ,
            cwd=house.work,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    house.wait_for_daemon()
    while house.asked("fulcio") == 0:
        assert process.poll() is None
    process.send_signal(signal.SIGSEGV)
    assert not crashed(process)
    assert cores(house.work) == []


@pytest.mark.usefixtures("ordinary")
def test_a_command_that_reads_a_passphrase_leaves_no_core(house: Standing) -> None:
    process = subprocess.Popen(
        [*WITH_CORES, *house.command("lock")],
        env=house.environ,
        cwd=house.work,
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(CANARY.encode())  # and no end of the line: it waits for the rest
    process.stdin.flush()
    while _unread(process.stdin) != 0:
        assert process.poll() is None
    process.send_signal(signal.SIGSEGV)
    assert not crashed(process)
    assert cores(house.work) == []


def _unread(pipe: IO[bytes]) -> int:
    """Return how many bytes in a pipe nobody has taken yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)

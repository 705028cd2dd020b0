"""Start, signals, and every way to end, with real processes."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from keyless.wire import Failure, Reply

pytestmark = pytest.mark.system

TERM, HUP, USR1, KILL = 15, 1, 10, 9


def test_ready_line_names_process_and_socket(daemon) -> None:
    reply = daemon.ask()

    assert isinstance(reply, Reply)
    assert reply.body["pid"] == daemon.process.pid
    assert reply.body["socket"] == str(daemon.path)


def test_socket_and_directories_are_private(daemon) -> None:
    for path, mode in [
        (daemon.path, 0o600),
        (daemon.path.parent, 0o700),
        (daemon.directory / "cache", 0o700),
        (daemon.directory / "state", 0o700),
    ]:
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_process_has_the_name_by_which_people_signal_it(daemon) -> None:
    # Whoever starts it runs `python3 -m keylessd`, and `pkill keylessd` must find it.
    assert Path(f"/proc/{daemon.process.pid}/comm").read_text() == "keylessd\n"


def test_memory_is_protected(daemon) -> None:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))

    assert core.split()[4:6] == ["0", "0"]
    assert "CoreDumping:\t0" in status
    # The owner of /proc/PID/environ is root as soon as the process is not dumpable.
    assert Path(f"/proc/{daemon.process.pid}/environ").stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_before_it_speaks(daemon) -> None:
    # The modes already keep it out; this is the check behind them.
    daemon.path.chmod(0o666)
    for directory in (daemon.path.parent, *daemon.path.parents):
        if directory == Path("/tmp"):
            break
        directory.chmod(0o755)
    code = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(10)
print(b"not_allowed" in s.recv(1000), s.recv(1000))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(daemon.path)], capture_output=True, text=True, check=True
    )

    assert done.stdout == "True b''\n"
    assert daemon.wait_for_event("peer.refused")["reason"] == "other-uid"


NOBODY = 65534


def _as_nobody(arguments: list[str], environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
    )


def _python_for_nobody() -> tuple[str, dict[str, str]]:
    """Find an interpreter with our packages that a plain user may run."""
    packages = os.pathsep.join(entry for entry in sys.path if entry)
    for python in (sys.executable, "/usr/bin/python3"):
        for environ in ({}, {"PYTHONPATH": packages}):
            try:
                probe = _as_nobody([python, "-c", "import keylessd.server.app"], environ)
            except OSError:
                continue
            probe.communicate()
            if probe.returncode == 0:
                return python, environ
    pytest.skip("no interpreter here that a plain user may run")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_runs_as_a_plain_user(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    python, environ = _python_for_nobody()
    process = _as_nobody(
        [python, "-m", "keylessd", "--ready-fd", "1"],
        {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), **environ},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == f"READY {process.pid} {home}/keyless/sign.sock\n"
        assert (home / "keyless/sign.sock").stat().st_uid == NOBODY
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.parametrize(("most", "starts"), [(16, False), (63, False), (64, True)])
def test_it_does_not_start_with_too_few_descriptors(
    tmp_path: Path, daemons, most: int, starts: bool
) -> None:
    daemon = daemons(shell=f"ulimit -n {most}")
    line = daemon.ready()
    if starts:
        assert line.startswith("READY ")
    else:
        wanted = f"it may open {most} files only, and 64 are the least (ulimit -n)"
        assert line == f"FAILED {wanted}"
        assert daemon.wait() == 1
        assert daemon.log_text() == f"keylessd: {wanted}\n"


def test_second_daemon_names_the_first_and_leaves_it_alone(daemon, daemons) -> None:
    second = daemons()

    assert second.ready() == (
        f"FAILED another keylessd, process {daemon.process.pid}, serves {daemon.path} already"
    )
    assert second.wait() == 5
    assert isinstance(daemon.ask(), Reply)


def test_term_stops_and_leaves_no_socket(daemon) -> None:
    daemon.signal(TERM)

    assert daemon.wait() == 0
    assert not daemon.path.exists()
    assert daemon.events()[-1]["event"] == "daemon.stopped"


def test_term_says_goodbye_to_idle_clients(daemon) -> None:
    heard = b""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(daemon.path))
        daemon.ask()
        daemon.signal(TERM)
        while data := client.recv(1000):
            heard += data

    assert b"shutting_down" in heard
    assert daemon.wait() == 0


def test_killed_daemon_leaves_nothing_that_hinders(daemons) -> None:
    for _ in range(5):
        daemon = daemons()
        assert daemon.ready().startswith("READY")
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(daemon.path))
        daemon.signal(KILL)
        daemon.wait()
        client.close()
        assert daemon.path.exists()

    last = daemons()
    assert last.ready().startswith("READY")
    assert isinstance(last.ask(), Reply)


def test_killed_during_its_start(daemons) -> None:
    for _ in range(5):
        daemon = daemons()
        daemon.signal(KILL)
        daemon.wait()

    assert daemons().ready().startswith("READY")


def test_hup_reloads_and_keeps_the_old_on_error(daemon) -> None:
    config = daemon.directory / "config.toml"
    good = config.read_text()
    config.write_text('reuse = "never"\n' + good)
    daemon.signal(HUP)
    daemon.wait_for_event("settings.reloaded")
    assert daemon.ask().body["reuse"] == "never"

    config.write_text('reuse = "newer"\n' + good)
    daemon.signal(HUP)
    problem = daemon.wait_for_event("settings.refused")["problem"]
    assert daemon.ask().body["reuse"] == "never"
    assert f'{config}:1: reuse: \'newer\' is not one of "window", "never"' in problem


def test_reload_by_request_reports_the_error(daemon) -> None:
    assert isinstance(daemon.ask("reload"), Reply)
    (daemon.directory / "config.toml").write_text("[limits]\nconections = 5\n")
    failure = daemon.ask("reload")

    assert isinstance(failure, Failure)
    assert failure.error.code == "invalid_input"
    assert 'config.toml:2: limits.conections: unknown key; did you mean "connections"?' in (
        failure.error.message
    )


def test_reload_changes_instances(daemon) -> None:
    config = daemon.directory / "config.toml"
    config.write_text(config.read_text() + '[instance.other]\ntrusted_root = "o.json"\n')
    daemon.ask("reload")
    names = [one["name"] for one in daemon.ask().body["instances"]]

    assert "other" in names
    config.write_text(config.read_text() + '[instance.third]\ntuf_url="https://x"\ntuf_root="n"\n')
    assert daemon.ask("reload").error.code == "invalid_input"
    assert [one["name"] for one in daemon.ask().body["instances"]] == names


BROKEN = {
    "a file that is not there": '[instance.third]\ntuf_url = "https://x"\ntuf_root = "n"\n',
    "no valid text": "\x00",
}


@pytest.mark.parametrize("more", BROKEN.values(), ids=BROKEN.keys())
def test_no_settings_end_a_running_daemon(daemon, more: str) -> None:
    config = daemon.directory / "config.toml"
    config.write_text(config.read_text() + more)
    daemon.signal(HUP)

    daemon.wait_for_event("settings.refused")
    assert isinstance(daemon.ask(), Reply)


def test_reload_without_a_place_is_refused_and_not_the_end(daemons, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('sandbox_dir = "sandbox"\n')
    daemon = daemons(environ={"HOME": ""})
    assert daemon.ready().startswith("READY ")
    config.write_text("")
    daemon.signal(HUP)
    daemon.wait_for_event("settings.refused")

    assert isinstance(daemon.ask(), Reply)


def test_reload_names_what_waits_for_the_next_start(daemon) -> None:
    config = daemon.directory / "config.toml"
    config.write_text(config.read_text() + '[http]\nproxy = "http://proxy.example:1"\n')
    daemon.ask("reload")

    assert daemon.wait_for_event("settings.need_restart")["keys"] == ["http.proxy"]


def test_usr1_drops_keys(daemon) -> None:
    daemon.signal(USR1)

    assert daemon.wait_for_event("keys.dropped")["count"] == 0
    assert isinstance(daemon.ask(), Reply)


def test_bad_settings_are_told_with_their_line(tmp_path: Path, daemons) -> None:
    (tmp_path / "config.toml").write_text("\n\nreuse = 3\n")
    daemon = daemons()

    assert daemon.ready() == (
        f"FAILED {tmp_path}/config.toml:3: reuse: must be a string, not a whole number"
    )
    assert daemon.wait() == 4


def test_a_system_daemon_keeps_no_logins(tmp_path: Path, daemons) -> None:
    (tmp_path / "config.toml").write_text('persist = "secret-service"\n')
    daemon = daemons("--system")

    assert "persist: a system daemon keeps no sessions" in daemon.ready()
    assert daemon.wait() == 4


def test_a_keyring_that_cannot_be_had_ends_nothing(tmp_path: Path, daemons) -> None:
    (tmp_path / "config.toml").write_text('persist = "secret-service"\n')
    daemon = daemons()

    assert daemon.ready().startswith("READY ")
    assert isinstance(daemon.ask("whoami"), Reply)
    assert "D-Bus" in str(daemon.wait_for_event("sessions.not_loaded")["problem"])


def test_a_file_that_settings_name_and_is_not_there_is_a_mistake_in_them(
    tmp_path: Path, daemons
) -> None:
    (tmp_path / "config.toml").write_text('[instance.x]\ntuf_url = "https://x"\ntuf_root = "n"\n')
    daemon = daemons()

    problem = f"instance.x.tuf_root: {tmp_path}/n cannot be read: No such file or directory"
    assert daemon.ready() == f"FAILED {problem}"
    assert daemon.wait() == 4


def test_a_ledger_that_cannot_be_opened_is_told(tmp_path: Path, daemons) -> None:
    ledger = tmp_path / "state" / "ledger.jsonl"
    ledger.mkdir(parents=True)
    daemon = daemons()

    assert daemon.ready() == f"FAILED the ledger {ledger} cannot be opened: Is a directory"
    assert daemon.wait() == 6


def test_state_that_others_may_write_is_refused(tmp_path: Path, daemons) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    daemon = daemons()

    assert "state is not ours alone to write to" in daemon.ready()
    assert daemon.wait() == 6


def test_directory_open_to_others_is_refused(tmp_path: Path, daemons) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    daemon = daemons()

    assert "chmod it to 700" in daemon.ready()
    assert daemon.wait() == 6


def test_missing_package_is_told_in_a_sentence(tmp_path: Path) -> None:
    code = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name == "trio":
            raise ModuleNotFoundError("No module named 'trio'", name="trio")
sys.meta_path.insert(0, Nothing())
from keylessd.__main__ import main
sys.exit(main([]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    assert done.returncode == 3
    assert done.stderr == (
        "keylessd: trio is missing; install with: pip install 'keyless[daemon]'\n"
    )


def test_version_and_help_need_no_package(tmp_path: Path) -> None:
    for option in ("--version", "--help"):
        code = (
            "import sys;from keylessd.__main__ import main\n"
            "try: main(sys.argv[1:])\n"
            "finally: print(sorted({'trio','httpx','cryptography'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, option], capture_output=True, text=True, check=True
        )
        assert done.stdout.endswith("[]\n")


def test_every_log_line_is_json_in_ascii(daemon) -> None:
    daemon.ask()
    daemon.signal(TERM)
    daemon.wait()
    lines = daemon.log_text().splitlines()

    assert lines
    for line in lines:
        assert line.isascii()
        assert {"ts", "level", "logger", "event"} <= set(json.loads(line))

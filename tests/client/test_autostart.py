"""Starting a daemon on demand: once, clean, and with a word when it fails."""

import os
import signal
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest

import fakedaemon
from keyless import Client, Digest, _autostart, _connect
from keyless._address import SYSTEM_SOCKET
from keyless.errors import DaemonUnreachableError

# A daemon that notes its own start and serves until it is told to end.
SCRIPT = """
import json, os, sys, time
sys.path.insert(0, {support!r})
from fakedaemon import FakeDaemon
path = sys.argv[sys.argv.index("--socket") + 1]
with open({notes!r}, "a") as notes:
    line = {{"pid": os.getpid(), "sid": os.getsid(0), "cwd": os.getcwd(), "env": sorted(os.environ),
             "stdin": os.readlink("/proc/self/fd/0"), "fds": len(os.listdir("/proc/self/fd"))}}
    notes.write(json.dumps(line) + "\\n")
daemon = FakeDaemon(path)
time.sleep(600)
"""


@pytest.fixture
def house(tmp_path):
    """A home, a socket's path not yet in existence, and a script that is the daemon."""

    class House:
        path = str(tmp_path / "run" / "keyless" / "sign.sock")
        notes = tmp_path / "notes"
        environ = {  # noqa: RUF012
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "SIGSTORE_ID_TOKEN": "secret",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret",
            "KEYLESS_TOKEN": "secret",
            "NOTIFY_SOCKET": "/x",
        }

        def command(self, text=SCRIPT):
            script = tmp_path / "daemon.py"
            support = str(Path(fakedaemon.__file__).parent)
            script.write_text(text.format(support=support, notes=str(self.notes)))
            return [sys.executable, str(script)]

        def start(self, **options):
            if "command" not in options:
                options["command"] = self.command()
            return _autostart.start(self.path, self.environ, connect=_connect.connect, **options)

        def started(self):
            import json

            lines = self.notes.read_text().splitlines() if self.notes.exists() else []
            return [json.loads(line) for line in lines]

    house = House()
    yield house
    for each in house.started():
        os.kill(each["pid"], signal.SIGKILL)


def test_a_daemon_is_started_apart_and_clean(house):
    told = []
    house.start(notice=told.append).close()
    (facts,) = house.started()
    assert len(told) == 1
    assert "starting" in told[0]
    assert facts["sid"] == facts["pid"] != os.getpid()
    assert facts["cwd"] == "/"
    assert facts["stdin"] == "/dev/null"
    assert facts["fds"] <= 5
    assert {"HOME", "PATH", "PYTHONPATH"} <= set(facts["env"])
    assert not [name for name in facts["env"] if "TOKEN" in name or "NOTIFY" in name]
    assert stat.S_IMODE(Path(house.path).parent.stat().st_mode) == 0o700
    log = Path(house.environ["HOME"]) / ".local/state/keyless/keylessd.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_many_at_once_start_one(house):
    command, connections, told = house.command(), [], []
    threads = [
        threading.Thread(
            target=lambda: connections.append(house.start(command=command, notice=told.append))
        )
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(connections) == 12
    assert len(house.started()) == len(told) == 1
    for connection in connections:
        connection.close()


def test_a_daemon_that_dies_is_quoted(house):
    with pytest.raises(DaemonUnreachableError) as caught:
        house.start(command=house.command("import sys; sys.exit('no \\x1b[31mroom')"))
    assert "no \\u001b[31mroom" in caught.value.message
    assert "log" in caught.value.hint


def test_an_old_log_is_not_quoted(house):
    with pytest.raises(DaemonUnreachableError):
        house.start(command=house.command("import sys; sys.exit('first')"))
    with pytest.raises(DaemonUnreachableError) as caught:
        house.start(command=house.command("import sys; sys.exit('second')"))
    assert "second" in caught.value.message
    assert "first" not in caught.value.message


def test_a_daemon_that_never_listens_is_given_up_at_the_deadline(house):
    ticks = iter(range(1000))
    text = SCRIPT.replace("daemon = FakeDaemon(path)", "")
    with pytest.raises(DaemonUnreachableError, match="did not come up"):
        house.start(command=house.command(text), clock=lambda: next(ticks), sleep=lambda _: None)
    while not house.started():  # so that it is ended with the test
        pass


def test_one_that_lost_the_race_to_another_daemon_is_no_failure(house):
    Path(house.path).parent.mkdir(0o700, parents=True)
    taken = []

    def sleep(_):
        # The one we started ends at once, and meanwhile somebody else's daemon has come up.
        if not taken:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(house.path)
            listener.listen()
            taken.append(listener)

    house.start(command=house.command("import sys; sys.exit('lock is held')"), sleep=sleep).close()
    taken[0].close()


def test_a_directory_of_somebody_else_is_refused(house, monkeypatch):
    Path(house.path).parent.mkdir(parents=True)
    monkeypatch.setattr(_autostart.os, "geteuid", lambda: 12345)
    with pytest.raises(DaemonUnreachableError, match="belongs to uid"):
        house.start()
    assert house.started() == []


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o1777])
def test_a_directory_open_to_others_is_left_as_it_is(house, mode):
    """The daemon would not listen there, so nothing is put there for one."""
    directory = Path(house.path).parent
    directory.mkdir(parents=True)
    directory.chmod(mode)
    with pytest.raises(DaemonUnreachableError, match=f"is open to others .mode {mode:04o}"):
        house.start()
    assert house.started() == []
    assert list(directory.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_reported(house):
    Path(house.environ["HOME"], "run").write_text("a file")
    with pytest.raises(DaemonUnreachableError, match="none can be started"):
        house.start()


@pytest.mark.parametrize(
    "place", ["run/keyless/sign.sock.start", ".local/state/keyless/keylessd.log"]
)
def test_a_file_in_the_way_is_reported(house, place):
    target = Path(house.environ["HOME"], place)
    target.parent.mkdir(parents=True, mode=0o700)
    target.symlink_to("elsewhere")  # never followed: it may be anybody's
    with pytest.raises(DaemonUnreachableError, match=r"none can be started: .*symbolic links"):
        house.start()
    assert house.started() == []


def test_an_interpreter_that_is_gone_is_reported(house):
    with pytest.raises(DaemonUnreachableError, match="none can be started: '/nowhere/python'"):
        house.start(command=["/nowhere/python"])


def test_a_log_that_is_gone_is_no_failure_of_ours(house):
    text = "import os, sys; os.unlink(os.readlink('/proc/self/fd/1')); sys.exit(1)"
    with pytest.raises(DaemonUnreachableError, match="did not come up"):
        house.start(command=house.command(text))


# --- when it is tried at all -----------------------------------------------------------------


@pytest.fixture
def starts(monkeypatch):
    seen = []

    def start(path, *_, **__):
        seen.append(path)
        raise DaemonUnreachableError("daemon_unreachable", "as asked")

    monkeypatch.setattr(_autostart, "start", start)
    return seen


@pytest.mark.parametrize(
    ("environ", "autostart", "tried"),
    [
        ({}, None, True),
        ({"KEYLESS_AUTOSTART": "1"}, None, True),
        ({"KEYLESS_AUTOSTART": "0"}, None, False),
        ({"KEYLESS_AUTOSTART": "0"}, True, True),
        ({}, False, False),
    ],
)
def test_who_may_start(tmp_path, starts, environ, autostart, tried):
    environ = {**environ, "KEYLESS_SOCKET": str(tmp_path / "s")}
    with pytest.raises(DaemonUnreachableError):
        Client(environ=environ, autostart=autostart).sign(Digest("sha256", bytes(32)))
    assert starts == ([str(tmp_path / "s")] if tried else [])


def test_the_daemon_of_the_system_is_never_started(starts):
    with pytest.raises(DaemonUnreachableError):
        _connect.open_daemon(SYSTEM_SOCKET + "", {"KEYLESS_AUTOSTART": "1"})
    assert starts == []


def test_a_daemon_that_is_there_but_not_ours_is_not_replaced(tmp_path, starts, monkeypatch):
    path = str(tmp_path / "s")
    with fakedaemon.fake_daemon(path):
        monkeypatch.setattr(_connect.os, "geteuid", lambda: 12345)
        monkeypatch.setattr(_connect, "_ROOT", 54321)
        with pytest.raises(DaemonUnreachableError, match="belongs to uid"):
            _connect.open_daemon(path, {})
    assert starts == []

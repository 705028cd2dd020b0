"""Directories that vanish, are full or cannot be written, and daemons that would share one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyless.wire import Reply
from keylessd.ops.ledger import first_break
from standing import Standing, bundle_of, standing

pytestmark = pytest.mark.system


def test_daemon_whose_socket_was_removed_ends(daemon) -> None:
    shutil.rmtree(daemon.path.parent)

    assert daemon.wait() == 0
    assert daemon.wait_for_event("socket.gone")["path"] == str(daemon.path)


def test_daemon_whose_socket_was_replaced_ends_and_leaves_the_other(daemon) -> None:
    daemon.path.unlink()
    daemon.path.write_text("somebody else's")

    assert daemon.wait() == 0
    assert daemon.path.read_text() == "somebody else's"


@pytest.mark.slow
def test_two_daemons_never_share_a_state_directory(daemon, daemons, tmp_path: Path) -> None:
    second = daemons("--socket", str(tmp_path / "other" / "sign.sock"))

    assert second.ready() == (
        f"FAILED another keylessd, process {daemon.process.pid}, uses the state directory"
        f" {tmp_path}/state; give this one another"
    )
    assert second.wait() == 5
    # Nobody was let in to be turned out again.
    assert not (tmp_path / "other" / "sign.sock").exists()
    assert isinstance(daemon.ask(), Reply)


def test_successor_waits_for_one_that_is_about_to_end(daemon, daemons) -> None:
    shutil.rmtree(daemon.path.parent)
    second = daemons()

    assert second.ready().startswith("READY ")
    assert daemon.wait() == 0
    assert isinstance(second.ask(), Reply)


# --- with a sandbox ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Standing]:
    yield from standing(tmp_path_factory.mktemp("places"))


@pytest.fixture
def house(running: Standing) -> Iterator[Standing]:
    yield running
    running.kill_daemon()


def sign(house: Standing, **environ: str) -> subprocess.CompletedProcess[str]:
    (path,) = house.files(1)
    done = house.keyless("sign", *house.where("v1"), path, environ=environ)
    assert bundle_of(path).exists() == (done.returncode == 0)
    bundle_of(path).unlink(missing_ok=True)
    return done


def test_runtime_directory_deleted_between_two_signatures(house: Standing) -> None:
    assert sign(house).returncode == 0
    first = house.daemon_pid()
    shutil.rmtree(house.run / "keyless")

    done = sign(house)

    assert done.returncode == 0, done.stderr
    assert house.daemon_pid() != first
    lines = house.ledger.read_bytes().split(b"\n")[:-1]
    assert first_break(lines) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_full_disk_signs_nothing_and_breaks_nothing(house: Standing, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k,mode=700", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no mounts are allowed here")
    try:
        environ = {"XDG_STATE_HOME": str(disk / "state"), "KEYLESS_INSTANCE": ""}
        assert sign(house, **environ).returncode == 0
        fill(disk / "filling")
        before = house.counts()

        done = [sign(house, **environ) for _ in range(6)]

        # What was left of the last block takes a record or two.
        failed = [one for one in done if one.returncode]
        assert failed
        for one in failed:
            assert "cannot be written: no space left on the device" in one.stderr
        # What the ledger does not know was not signed.
        assert house.counts().since(before).entries <= len(done) - len(failed)
        assert house.keyless("status", environ=environ).returncode == 0
        (disk / "filling").unlink()
        assert sign(house, **environ).returncode == 0
        lines = (disk / "state" / "keyless" / "ledger.jsonl").read_bytes().split(b"\n")
        assert lines.pop() == b""
        assert first_break(lines) is None
    finally:
        house.kill_daemon()
        # At once or when the last thread of the daemon has gone.
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(path: Path) -> None:
    """Write until nothing fits any more."""
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 512)
        except OSError:
            return


UNWRITABLE = ["XDG_STATE_HOME", "XDG_CACHE_HOME"]


@pytest.mark.parametrize("name", UNWRITABLE)
def test_directory_that_cannot_be_made_is_named(house: Standing, tmp_path: Path, name: str) -> None:
    # A file in the way stops root as well, where modes do not.
    (tmp_path / "file").write_bytes(b"")

    done = sign(house, **{name: str(tmp_path / "file" / "below")})

    assert done.returncode == 3
    assert f"the directory {tmp_path}/file/below/keyless: Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_runtime_directory_that_cannot_be_made_is_named(house: Standing, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    done = sign(house, XDG_RUNTIME_DIR=str(tmp_path / "file" / "below"))

    assert done.returncode == 3
    assert f"{tmp_path}/file/below" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_home(house: Standing) -> None:
    environ = {
        name: value
        for name, value in house.environ.items()
        if name != "HOME" and not name.startswith("XDG_")
    }
    done = subprocess.run(
        house.command("status"),
        env={**environ, "XDG_RUNTIME_DIR": str(house.run)},
        capture_output=True,
        text=True,
        check=False,
    )
    # What the daemon said is shown, though there was no directory for its log.
    assert done.returncode == 3
    assert "nor HOME is set; give --" in done.stderr
    assert "Traceback" not in done.stderr
    # With all places given, nobody asks for a home.
    done = house.keyless("status", environ={"HOME": ""})
    assert done.returncode == 0, done.stderr


def test_no_network_at_the_start(house: Standing) -> None:
    (path,) = house.files(1, stem="offline")
    assert house.keyless("sign", path).returncode == 0
    house.kill_daemon()
    config = house.directory / "config" / "keyless"
    config.mkdir(parents=True, exist_ok=True)
    # Port 9 of this machine: refused at once, as without a network nothing answers either.
    (config / "config.toml").write_text(
        'default_instance = "far"\n[instance.far]\ntuf_url = "http://127.0.0.1:9/"\n'
        f'tuf_root = "{house.sandbox_directory}/root.json"\n'
    )
    try:
        root = house.sandbox_directory / "trusted_root.json"
        assert house.verify("--trusted-root", root, path).returncode == 0
        done = house.keyless("sign", "--instance", "far", "--json", path)
        assert done.returncode == 5
        assert '"trust_unavailable"' in done.stdout
        assert house.verify("--instance", "far", path).returncode == 5
        assert house.keyless("sign", "--instance", "sandbox", path).returncode == 0
    finally:
        shutil.rmtree(config)


def test_thin_client_needs_no_directory_at_all(house: Standing) -> None:
    assert house.keyless("status").returncode == 0
    done = subprocess.run(
        [*house.command("status"), "--socket", str(house.socket)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": house.environ["PYTHONPATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr

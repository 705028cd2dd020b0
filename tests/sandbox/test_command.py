"""The sandbox as a process: the command, its files, its end; and other clients against it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import jwt
import pytest

from keylessd.core.trusted_root import parse_trusted_root
from keylessd.sandbox.command import main
from keylessd.sandbox.instance import Instance, default_directory
from keylessd.sandbox.local import LocalSigstore
from keylessd.sandbox.vault import SandboxError

PATIENCE = 60  # seconds


def command(directory: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "keylessd.sandbox", "--dir", str(directory), *arguments]


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(directory, *arguments),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Served:
    """A sandbox in a process of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        readable, writable = os.pipe()
        self.process = subprocess.Popen(
            command(directory, "up", "--ready-fd", str(writable), *arguments),
            pass_fds=[writable],
            stderr=subprocess.PIPE,
        )
        os.close(writable)
        with os.fdopen(readable, "rb") as pipe:
            self.ready = pipe.read()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, bytes]:
        """End it; return its exit status and what it wrote to stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors

    def instance(self) -> dict[str, object]:
        return json.loads((self.directory / "instance.json").read_bytes())


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("sandbox") / "one", "--checkpoint-interval-ms", "10")
    assert found.ready == b"ready\n"
    yield found
    assert found.end() == (0, b"")


# --- without a process ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/keyless/sandbox"),
        ({"HOME": "/h"}, "/h/.local/state/keyless/sandbox"),
        ({"XDG_STATE_HOME": "", "HOME": "/h"}, "/h/.local/state/keyless/sandbox"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/keyless/sandbox"),
        ({"XDG_STATE_HOME": "relative", "HOME": "h"}, "None"),
        ({}, "None"),
    ],
)
def test_default_directory(environ, wanted):
    assert str(default_directory(environ)) == wanted


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"ports": {"oidc": "x"}}', '{"ports": 7}'])
def test_damaged_instance_file(tmp_path, text):
    (tmp_path / "instance.json").write_text(text)
    with pytest.raises(SandboxError, match="damaged"):
        Instance.read(tmp_path)


@pytest.mark.parametrize("what", ["up", "env", "token", "status", "down"])
def test_there_is_no_place_for_it(monkeypatch, capsys, what):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    assert main([what]) == 1
    said = "keyless sandbox: neither XDG_STATE_HOME nor HOME is set; give --dir DIRECTORY\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("what", ["env", "token"])
def test_nothing_to_use_where_no_sandbox_was(tmp_path, capsys, what):
    assert main(["--dir", str(tmp_path), what]) == 1
    assert "there is no sandbox" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["up", "--port-base", "0"],
        ["up", "--port-base", "65530"],
        ["up", "--port-base", "x"],
        ["up", "--certificate-lifetime", "0"],
        ["up", "--token-lifetime", "99999999999999"],
        ["up", "--checkpoint-interval-ms", "-1"],
        ["token", "--lifetime", "99999999999999"],
    ],
)
def test_numbers_that_make_no_sense(tmp_path, capsys, words):
    with pytest.raises(SystemExit) as ended:
        main(["--dir", str(tmp_path / "x"), *words])
    assert ended.value.code == 2
    assert f"{words[-1]!r} is no number from" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.fixture
def umask_of_its_own():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("words", [["up"], ["up", "--background"], ["token"], ["status"]])
def test_directory_that_cannot_be(umask_of_its_own, tmp_path, capsys, words):
    (tmp_path / "file").write_text("x")
    assert main(["--dir", str(tmp_path / "file"), *words]) == 1
    said = capsys.readouterr()
    assert str(tmp_path / "file") in said.err + said.out
    assert "Traceback" not in said.err


def test_status_and_down_where_no_sandbox_was(tmp_path, capsys):
    assert main(["--dir", str(tmp_path / "x"), "status"]) == 1
    assert "does not run" in capsys.readouterr().out
    assert main(["down", "--dir", str(tmp_path / "x")]) == 0
    assert not (tmp_path / "x").exists()


# --- one sandbox ------------------------------------------------------------------------------


@pytest.mark.system
def test_files_are_private_and_agree(served):
    names = [
        "instance.json",
        "root.json",
        "trusted_root.json",
        "signing_config.json",
        "trust_config.json",
        "pid",
        "lock",
    ]
    for path in [served.directory, *served.directory.rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    assert {path.name for path in served.directory.iterdir() if path.is_file()} == set(names)
    assert int((served.directory / "pid").read_text()) == served.process.pid
    parse_trusted_root((served.directory / "trusted_root.json").read_bytes())
    facts = served.instance()
    assert (
        httpx.get(f"{facts['tuf_url']}/1.root.json").content
        == (served.directory / "root.json").read_bytes()
    )


@pytest.mark.system
def test_environment_for_a_shell(served):
    text = run(served.directory, "env", "--email", "it's@b.test").stdout
    shell = subprocess.run(
        ["sh", "-c", f"{text}\nenv"], capture_output=True, text=True, check=True, env={}
    )
    found = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    claims = jwt.decode(found["SIGSTORE_ID_TOKEN"], options={"verify_signature": False})
    assert claims["email"] == "it's@b.test"
    assert claims["exp"] - claims["iat"] == 3600
    assert found["KEYLESS_TRUST_CONFIG"] == str(served.directory / "trust_config.json")
    assert "KEYLESS_INSTANCE" not in found
    assert found["KEYLESS_SANDBOX_FULCIO_URL"] == served.instance()["fulcio_url"]


@pytest.mark.system
def test_environment_of_the_default_directory_names_the_instance(served, monkeypatch, capsys):
    state = served.directory.parent / "state"
    (state / "keyless").mkdir(parents=True)
    (state / "keyless" / "sandbox").symlink_to(served.directory)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    assert main(["env", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["KEYLESS_INSTANCE"] == "sandbox"
    assert "KEYLESS_TRUST_CONFIG" not in found


@pytest.mark.system
def test_token_of_the_command_is_genuine(served):
    arguments = ["--issuer", "github", "--claim", "ref=refs/tags/v1", "--claim", 'run_id="9"']
    token = run(served.directory, "token", *arguments).stdout.strip()
    issuer = f"{served.instance()['oidc_issuer']}/ci/github"
    document = httpx.get(f"{issuer}/.well-known/openid-configuration").json()
    keys = httpx.get(document["jwks_uri"]).json()["keys"]
    claims = jwt.decode(
        token, jwt.PyJWK(keys[0]), algorithms=["ES256"], audience="sigstore", issuer=issuer
    )
    assert (claims["ref"], claims["run_id"]) == ("refs/tags/v1", "9")


@pytest.mark.system
def test_second_sandbox_in_the_same_directory(served):
    found = run(served.directory, "up")
    assert (found.returncode, found.stdout) == (1, "")
    assert "another sandbox already runs" in found.stderr


@pytest.mark.system
def test_port_that_is_taken(tmp_path, served):
    port = str(served.instance()["ports"]["oidc"])
    found = run(tmp_path / "x", "up", "--port-base", port)
    assert found.returncode == 1
    assert f"cannot listen at port {port} for oidc" in found.stderr


@pytest.mark.system
def test_up_in_the_background_says_that_it_runs_already(served):
    found = run(served.directory, "up", "--background")
    assert (found.returncode, str(served.process.pid) in found.stderr) == (0, True)


@pytest.mark.system
def test_status_knows_the_process(served):
    found = run(served.directory, "status", "--json")
    facts = json.loads(found.stdout)
    assert (found.returncode, facts["running"], facts["pid"]) == (0, True, served.process.pid)
    assert facts["certificates"] == certified(served)
    assert {"rekor_v1_entries", "rekor_v2_entries"} <= set(facts)
    assert f"certificates = {facts['certificates']}" in run(served.directory, "status").stdout


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("rekor", ["v1", "v2"])
def test_sigstore_python_signs_and_verifies(served, tmp_path, rekor):
    pytest.importorskip("sigstore")
    trust = json.loads((served.directory / "trust_config.json").read_bytes())
    facts = served.instance()
    trust["signingConfig"]["rekorTlogUrls"] = [
        {
            **trust["signingConfig"]["rekorTlogUrls"][0],
            "url": facts[f"rekor_{rekor}_url"],
            "majorApiVersion": 1 if rekor == "v1" else 2,
        }
    ]
    (tmp_path / "trust.json").write_text(json.dumps(trust))
    (tmp_path / "artifact").write_bytes(b"artifact")
    token = run(served.directory, "token", "--email", "a@b.test").stdout.strip()
    base = [sys.executable, "-m", "sigstore", "--trust-config", "trust.json"]
    environ = {**os.environ, "HOME": str(tmp_path)}

    def judge(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*base, *arguments],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )

    signed = judge("sign", "--identity-token", token, "--bundle", "b.json", "artifact")
    assert signed.returncode == 0, signed.stderr
    expected = ["--cert-oidc-issuer", str(facts["oidc_issuer"]), "--bundle", "b.json", "artifact"]
    good = judge("verify", "identity", "--cert-identity", "a@b.test", *expected)
    assert good.returncode == 0, good.stderr
    bad = judge("verify", "identity", "--cert-identity", "c@b.test", *expected)
    assert bad.returncode != 0


# --- life and death ---------------------------------------------------------------------------


def certified(served: Served) -> int:
    return httpx.get(f"{served.instance()['ctlog_url']}/ct/v1/get-sth").json()["tree_size"]


@pytest.mark.system
def test_killed_sandbox_starts_again_where_it_was(tmp_path):
    directory = tmp_path / "x"
    first = Served(directory, "--rekor", "v2")
    before = first.instance()
    root = (directory / "trusted_root.json").read_bytes()
    first.end(signal.SIGKILL)
    assert run(directory, "status").returncode == 1
    with ExitStack() as ends:
        second = Served(directory)
        ends.callback(second.end)
        assert second.ready == b"ready\n"
        assert second.instance() == before
        assert before["rekor"] == "v2"
        assert (directory / "trusted_root.json").read_bytes() == root
        assert certified(second) == 0
        assert run(directory, "down").returncode == 0
        assert second.process.wait(PATIENCE) == 0
    assert not (directory / "pid").exists()


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_quietly_with_connections_open(tmp_path, number):
    served = Served(tmp_path / "x")
    port = served.instance()["ports"]["tuf"]
    with socket.create_connection(("127.0.0.1", port)) as idle, httpx.Client() as client:
        client.get(f"http://127.0.0.1:{port}/timestamp.json")
        assert served.end(number) == (0, b"")
        assert idle.recv(1) == b""


@pytest.mark.system
def test_background(tmp_path):
    directory = tmp_path / "x"
    started = run(directory, "up", "--background")
    assert started.returncode == 0, started.stderr
    assert "env" in started.stderr
    try:
        assert run(directory, "status").returncode == 0
        assert run(directory, "env").stderr == ""
    finally:
        assert run(directory, "down").returncode == 0
    assert run(directory, "status").returncode == 1
    # What it prints is of use again as soon as the sandbox is, and says so until then.
    for what in ("env", "token"):
        done = run(directory, what)
        assert (done.returncode, bool(done.stdout)) == (0, True)
        assert done.stderr == (
            f"the sandbox in {directory} does not run; to start it:\n"
            f"  keyless sandbox --dir {directory} up --background\n"
        )


@pytest.mark.system
def test_background_says_why_not_though_it_can_write_no_log(tmp_path):
    directory = tmp_path / "x"
    directory.mkdir(mode=0o700)
    (directory / "log").symlink_to("/dev/full")
    started = run(directory, "up", "--background", "--accept-issuers", str(tmp_path / "gone"))
    assert started.returncode == 1
    assert started.stderr.startswith("keyless sandbox: the sandbox did not start: ")
    assert f"{tmp_path}/gone" in started.stderr


@pytest.mark.system
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("created", "long ago"),
        ("fulcio.key", "no key"),
        ("fulcio-chain.pem", "no chain"),
        ("tsa-chain", ""),
        ("ctlog.sqlite", "no database" * 100),
        ("oidc-grants.json", "["),
    ],
)
def test_damaged_state(tmp_path, name, content):
    LocalSigstore.create(tmp_path).close()
    (tmp_path / "state" / name).write_text(content)
    found = run(tmp_path, "up")
    assert found.returncode == 1
    assert found.stderr.startswith("keyless sandbox: ")
    assert "Traceback" not in found.stderr


@pytest.mark.system
def test_background_says_why_it_did_not_start(tmp_path):
    (tmp_path / "issuers").write_text('[{"issuer": "https://a.test", "type": "none"}]')
    found = run(tmp_path / "x", "up", "--background", "--accept-issuers", str(tmp_path / "issuers"))
    assert found.returncode == 1
    assert "there are no issuers of type 'none'" in found.stderr


@pytest.mark.system
def test_accepted_issuers_and_faults(tmp_path):
    (tmp_path / "issuers").write_text('[{"issuer": "https://a.test/*", "type": "uri"}]')
    directory = tmp_path / "x"
    for arguments in (["--accept-issuers", str(tmp_path / "issuers"), "--faults"], []):
        served = Served(directory, *arguments)
        with ExitStack() as ends:
            ends.callback(served.end)
            url = served.instance()["fulcio_url"]
            issuers = httpx.get(f"{url}/api/v2/configuration").json()["issuers"]
            assert issuers[-1]["wildcardIssuerUrl"] == "https://a.test/*"
            faults = httpx.get(f"{url}/_faults")
            assert faults.status_code == (200 if arguments else 404)

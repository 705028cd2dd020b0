"""What each command loads: names and not times, since a time is another on every machine.

Every module costs a client a tenth of a millisecond, and some of the standard library more than
the whole client, so both are listed: what no command may load, and what each one loads of ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakedaemon import FakeDaemon, answer, fake_daemon
from keyless.wire import Reply, Request

pytestmark = pytest.mark.system

# Each brings in others, or maps a library, or both.
HEAVY = {
    "argparse", "ast", "asyncio", "base64", "collections", "contextlib", "copyreg", "ctypes",
    "dataclasses", "datetime", "decimal", "difflib", "email", "enum", "functools", "gettext",
    "hashlib", "hmac", "http", "importlib", "importlib.metadata", "inspect", "json", "locale",
    "logging", "operator", "pathlib", "pickle", "queue", "random", "re", "reprlib", "secrets",
    "select", "selectors", "shutil", "signal", "socket", "ssl", "string", "struct", "subprocess",
    "tempfile", "textwrap", "threading", "tokenize", "traceback", "types", "typing", "unittest",
    "urllib", "uuid", "warnings", "weakref", "zlib",
    "_hashlib", "_ssl",
    "cryptography", "h2", "httpcore", "httpx", "jwt", "keylessd", "msgpack", "re2", "trio", "tuf",
}  # fmt: skip

# What main() and every command need.
ALWAYS = {"keyless", "keyless._version", "keyless.cli"}
COMMAND = ALWAYS | {"keyless.cli._options", "keyless.cli._output", "keyless.errors"}
TALKING = COMMAND | {
    "keyless._address", "keyless._calls", "keyless._client", "keyless._client_daemon",
    "keyless._connect", "keyless._exchange", "keyless._hash", "keyless._line",
    "keyless._surroundings", "keyless.cli._inputs", "keyless.cli._session", "keyless.values",
    "keyless.wire",
    "keyless.wire._codec", "keyless.wire._connection", "keyless.wire._framing",
    "keyless.wire._heads", "keyless.wire._limits", "keyless.wire._messages",
    "keyless.wire._operations", "keyless.wire._schema", "keyless.wire._state",
}  # fmt: skip

# Those that say neither what nor where.
QUIET = TALKING - {"keyless.cli._inputs", "keyless._surroundings"}
# Those that say which Sigstore look into the repository's configuration.
PLACED = TALKING | {"keyless.cli._repository"}
# Those that need an identity look for one.
ASKING = PLACED | {"keyless._gather"}
# What is told of the daemon.
TOLD = {"keyless.states", "keyless._daemon_calls"}
VERIFYING = {"keyless.cli._verify", "keyless.cli._detached", "keyless._verifying"}

# -S: `site` runs what the .pth files of an environment say, and those import as they like.
PROGRAM = """
import sys
sys.path.append({path!r})
before = set(sys.modules)
from keyless.cli import main
code = main(sys.argv[1:])
sys.stdout.flush()
sys.stderr.write("\\nLOADED " + " ".join(sorted(set(sys.modules) - before)))
sys.exit(code)
"""

STATUS = {
    "version": "0.1.0", "pid": 1, "started": 1, "uptime_seconds": 1, "socket": "/s",
    "requests": {}, "connections": 1, "default_instance": "public", "reuse": "window",
    "instances": [{"name": "public", "state": "fresh"}], "slots": [],
}  # fmt: skip


def answers(request: Request) -> object:
    """Answer as a daemon does, also where `answer` has nothing to say."""
    if request.op == "status":
        return Reply(request.id, STATUS)
    if request.op.startswith("trust_"):
        return Reply(request.id, {"instances": [{"name": "a", "source": "tuf", "state": "fresh"}]})
    if request.op == "whoami":
        known = {"identity": "me", "issuer": "them", "source": "token"}
        return Reply(request.id, {"identities": [known]})
    return answer(request)


def loaded(folder: Path, *words: str) -> set[str]:
    """Run a command and return the modules it loaded beyond a bare interpreter's."""
    import keyless

    program = PROGRAM.format(path=str(Path(keyless.__path__[0]).parent))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "KEYLESS_SOCKET": str(folder / "s")},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("\nLOADED ")[2].split())


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith("keyless")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "f").write_bytes(b"x" * 1000)
    (tmp_path / "f.sigstore.json").write_bytes(b"{}")
    (tmp_path / "key").write_bytes(b"PEM")
    (tmp_path / "predicate").write_bytes(b"{}")
    (tmp_path / "root").write_bytes(b"{}")
    (tmp_path / "token").write_bytes(b"a.b.c")
    return tmp_path


@pytest.fixture
def daemon(folder: Path) -> FakeDaemon:
    with fake_daemon(folder / "s", answers) as started:
        yield started


LIGHT = {
    "version": (["--version"], ALWAYS),
    "help": (["--help"], ALWAYS),
    "help-of-a-command": (["help", "sandbox"], COMMAND | {"keyless.cli._sandbox"}),
    "status": (["status"], QUIET | TOLD | {"keyless.cli._status", "keyless.cli._text"}),
    "status-json": (
        ["status", "--json"],
        QUIET | TOLD | {"keyless.cli._status", "keyless.cli._text"},
    ),
    "sign-json": (["sign", "--json", "f"], ASKING | {"keyless.cli._sign"}),
    "whoami": (
        ["whoami"],
        ASKING
        | {"keyless._identities", "keyless.states", "keyless.cli._status", "keyless.cli._text"},
    ),
    "trust": (
        ["trust"],
        QUIET | TOLD | {"keyless.cli._trust", "keyless.cli._status", "keyless.cli._text"},
    ),
    "sign": (["sign", "f"], ASKING | {"keyless.cli._sign"}),
    "sign-a-digest": (
        ["sign", "--bundle", "b", "sha256:" + "ab" * 32],
        ASKING | {"keyless.cli._sign"},
    ),
    "sign-with-files": (["sign", "--trusted-root", "root", "f"], ASKING | {"keyless.cli._sign"}),
    "sign-with-a-token": (
        ["sign", "--identity-token", "token", "f"],
        PLACED | {"keyless.cli._sign", "keyless.cli._cores"},
    ),
    "sign-a-batch": (
        ["sign", "--batch", "--bundle", "b", "f", "key"],
        ASKING | {"keyless.cli._sign"},
    ),
    "verify": (["verify", "--key", "key", "f"], PLACED | VERIFYING),
    "verify-an-identity": (
        ["verify", "--certificate-identity", "I", "--certificate-oidc-issuer", "U", "f"],
        PLACED | VERIFYING,
    ),
    "attest": (
        ["attest", "--predicate", "predicate", "--type", "spdx", "f"],
        ASKING | {"keyless.cli._attest"},
    ),
}


@pytest.mark.parametrize("name", LIGHT)
def test_a_command_loads_its_own_modules_and_nothing_heavy(
    name: str, folder: Path, daemon: FakeDaemon
) -> None:
    del daemon
    words, expected = LIGHT[name]
    modules = loaded(folder, *words)
    assert not HEAVY & modules
    assert ours(modules) == expected


def test_a_large_file_is_hashed_by_openssl(folder: Path, daemon: FakeDaemon) -> None:
    """The one heavy module that pays: it is five times as fast."""
    del daemon
    (folder / "large").write_bytes(bytes(2 << 20))
    modules = loaded(folder, "sign", "large")
    assert "hashlib" in modules
    assert not (HEAVY - {"hashlib", "_hashlib"}) & modules


def test_importing_the_package_loads_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import keyless; print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {"keyless", "keyless._version"}

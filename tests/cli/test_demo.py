"""`keyless demo`: the first thing a newcomer runs, with real processes, and what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def demo(tmp_path: Path) -> object:
    """Run it with everything it makes below one directory."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "keyless", "demo", *words],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path / "home"),
                "TMPDIR": str(temporary),
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def processes_below(folder: Path) -> list[str]:
    """Return the command lines of processes that have something below *folder* to do."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue  # it has ended
        if str(folder) in line:
            found.append(line)
    return found


def test_it_signs_verifies_and_refuses(demo: object, tmp_path: Path) -> None:
    (tmp_path / "report").write_bytes(b"a report")
    done = demo("report")
    assert (done.returncode, done.stderr) == (0, "")
    assert "sign report" in done.stdout
    assert "OK: signed by you@sandbox.test" in done.stdout
    assert "refused: " in done.stdout
    assert processes_below(tmp_path) == []
    # The file itself is left alone.
    assert {path.name for path in tmp_path.iterdir()} <= {"report", "tmp", "home"}


@pytest.mark.parametrize("rekor", ["v1", "both"])
def test_what_it_leaves_verifies_without_it(demo: object, tmp_path: Path, rekor: str) -> None:
    done = demo("--json", "--rekor", rekor)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["ok"] is True
    assert {entry["kind"] for entry in told["entries"]} == {"hashedrekord"}
    left = Path(told["bundle"]).parent
    assert left.parent == tmp_path / "tmp"
    assert {path.name for path in left.iterdir()} == {
        Path(told[name]).name for name in ("artifact", "bundle", "trusted_root")
    }
    verify(told)


def verify(told: dict[str, str]) -> None:
    from keylessd.core.bundle import parse_bundle
    from keylessd.core.digests import HashAlgorithm, digest_of
    from keylessd.core.trusted_root import parse_trusted_root
    from keylessd.core.verify import verify_bundle
    from keylessd.policy.expect import ExpectedSigner

    digest = digest_of(HashAlgorithm.SHA256, Path(told["artifact"]).read_bytes())
    verified = verify_bundle(
        parse_bundle(Path(told["bundle"]).read_bytes()),
        {HashAlgorithm.SHA256: digest},
        parse_trusted_root(Path(told["trusted_root"]).read_bytes()),
        expected=ExpectedSigner(identity=told["identity"], issuer=told["issuer"]),
    )
    assert verified.signer.identity == "you@sandbox.test"


def test_a_file_that_is_missing(demo: object, tmp_path: Path) -> None:
    done = demo("gone")
    assert done.returncode == 6
    assert "cannot read gone: No such file or directory" in done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
    assert processes_below(tmp_path) == []

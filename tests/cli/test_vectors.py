"""`keyless verify` and a real daemon answer rightly on real bundles, by path and by digest."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

IDENTITY = (
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/"
    ".github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
)
ISSUER = "https://token.actions.githubusercontent.com"
# The cases of the public conformance suite that lie beside the project.
CASES = [
    "bundle-empty-certificate-chain_fail",
    "bundle-malformed-json_fail",
    "checkpoint-wrong-roothash_fail",
    "dsse-mismatch-sig_fail",
    "happy-path-intoto-in-dsse-v3",
    "happy-path-v0.1",
    "happy-path-v0.3",
    "inclusion-proof-corrupted-hash_fail",
    "intoto-with-custom-trust-root",
    "invalid-ct-key_fail",
    "managed-key-happy-path",
    "managed-key-no-key_fail",
    "message-digest-mismatch_fail",
    "rekor2-checkpoint-cosigned",
    "rekor2-dsse-happy-path",
    "rekor2-dsse-mismatch-sig_fail",
    "rekor2-happy-path",
    "rekor2-no-timestamp_fail",
    "rekor2-timestamp-payload-mismatch_fail",
    "rekor2-timestamp-without-embedded-cert",
    "set-invalid-signature_fail",
    "trust-root-tsa-validity-end-inclusive",
    "wrong-hashedrekord-entry_fail",
    "wrong-material_fail",
]
PATIENCE = 30  # seconds a daemon may take to start


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a daemon that has no settings and nothing in its caches."""
    home = tmp_path_factory.mktemp("daemon")
    path = home / "s"
    readable, writable = os.pipe()
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *[sys.executable, "-P", "-m", "keylessd", "--socket", str(path)],
                *["--cache-dir", str(home / "cache"), "--state-dir", str(home / "state")],
                *["--sandbox-dir", str(home / "sandbox"), "--ready-fd", str(writable)],
            ],
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
            stdout=log,
            stderr=log,
            pass_fds=[writable],
        )
    os.close(writable)
    try:
        assert select.select([readable], [], [], PATIENCE)[0]
        assert os.read(readable, 1000).startswith(b"READY"), (home / "log").read_text()
        yield path
    finally:
        os.close(readable)
        process.terminate()
        process.wait(PATIENCE)


def command_line(vectors: Path, name: str, *, by_digest: bool) -> list[str]:
    """Return how a user would verify a case."""
    case = vectors / "conformance" / name
    artifact = case / "artifact"
    if not artifact.exists():
        artifact = vectors / "conformance" / "a.txt"
    root = case / "trusted_root.json"
    if not root.exists():
        root = vectors / "trust" / "production.trusted_root.json"
    signer = ["--certificate-identity", IDENTITY, "--certificate-oidc-issuer", ISSUER]
    if (case / "key.pub").exists():
        signer = ["--key", str(case / "key.pub")]
    word = str(artifact)
    if by_digest:
        word = f"sha256:{sha256(artifact.read_bytes()).hexdigest()}"
    bundle = str(case / "bundle.sigstore.json")
    return ["verify", "--bundle", bundle, *signer, "--trusted-root", str(root), word]


def verify(socket: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "keyless", *words],
        env={"PATH": os.environ["PATH"], "KEYLESS_SOCKET": str(socket), "KEYLESS_AUTOSTART": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check(socket: Path, vectors: Path, name: str, *, by_digest: bool) -> None:
    """Verify a case and assert that the answer is the one its name promises."""
    done = verify(socket, command_line(vectors, name, by_digest=by_digest))
    assert "Traceback" not in done.stderr
    if name.endswith("_fail"):
        assert (done.returncode, done.stdout) == (1, ""), name
        assert "  check: " in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, ""), name
        assert ": OK, signed by " in done.stdout


@pytest.mark.parametrize("by_digest", [False, True], ids=["path", "digest"])
@pytest.mark.parametrize("name", CASES)
def test_a_real_bundle(socket: Path, vectors: Path, name: str, by_digest: bool) -> None:
    check(socket, vectors, name, by_digest=by_digest)


def test_cases_that_were_added_to_the_folder(socket: Path, vectors: Path) -> None:
    present = {path.name for path in (vectors / "conformance").iterdir() if path.is_dir()}
    assert set(CASES) <= present
    for name in sorted(present - set(CASES)):
        for by_digest in (False, True):
            check(socket, vectors, name, by_digest=by_digest)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--certificate-identity", "https://github.com/somebody/else"),
        ("--certificate-identity", IDENTITY + "x"),
        ("--certificate-identity", IDENTITY[:-1]),
        ("--certificate-identity", IDENTITY.upper()),
        ("--certificate-oidc-issuer", "https://accounts.example.com"),
        ("--certificate-oidc-issuer", ISSUER + "/"),
    ],
)
def test_a_good_bundle_of_somebody_else_is_refused(
    socket: Path, vectors: Path, option: str, value: str
) -> None:
    words = command_line(vectors, "happy-path-v0.3", by_digest=False)
    words[words.index(option) + 1] = value
    done = verify(socket, words)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"wanted: {value}" in done.stderr


@pytest.mark.parametrize(
    ("expression", "code"), [(r"https://github\.com/.*", 0), (r"https://github\.com/", 1)]
)
def test_an_expression_must_match_the_whole_identity(
    socket: Path, vectors: Path, expression: str, code: int
) -> None:
    words = command_line(vectors, "happy-path-v0.3", by_digest=True)
    at = words.index("--certificate-identity")
    words[at : at + 2] = ["--certificate-identity-regexp", expression]
    assert verify(socket, words).returncode == code


def test_another_key_is_refused(socket: Path, vectors: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    path = tmp_path / "other.pub"
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    words = command_line(vectors, "managed-key-happy-path", by_digest=False)
    words[words.index("--key") + 1] = str(path)
    done = verify(socket, words)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_key_that_is_none_is_a_mistake(socket: Path, vectors: Path) -> None:
    words = command_line(vectors, "managed-key-happy-path", by_digest=False)
    words[words.index("--key") + 1] = str(vectors / "conformance" / "a.txt")
    assert verify(socket, words).returncode == 2

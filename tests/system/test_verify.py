"""`keyless verify` against a real daemon: what is proven and what is wrong, as it is told."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from keylessd.core.bundle import Bundle, serialize_bundle
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.keys import spki
from keylessd.core.strict_json import format_timestamp
from keylessd.core.trusted_root import serialize_trusted_root
from sigsim.pki import Leaf, ec_key, utf8
from sigsim.worlds import ARTIFACT, SIGNED, World, statement, v1_log

pytestmark = pytest.mark.system

IDENTITY, ISSUER = "https://github.com/o/r/.github/workflows/w.yml@refs/heads/main", "https://i.ex"
ME = ("--certificate-identity", IDENTITY, "--certificate-oidc-issuer", ISSUER)
LEAF = Leaf(
    names=(x509.UniformResourceIdentifier(IDENTITY),),
    extensions=(
        (1, ISSUER.encode()), (2, b"push"), (3, b"5ha"), (4, b"build"), (5, b"o/r"),
        (6, b"refs/heads/main"), (8, utf8(ISSUER)), (11, utf8("github-hosted")),
    ),
)  # fmt: skip
SHA512 = digest_of(HashAlgorithm.SHA512, ARTIFACT).hex


@dataclass
class Desk:
    """A folder with an artifact, a bundle and a trust root, and the command that judges them."""

    folder: Path
    socket: Path
    world: World

    def put(self, bundle: Bundle) -> None:
        (self.folder / "root.json").write_bytes(serialize_trusted_root(self.world.root()))
        (self.folder / "a").write_bytes(ARTIFACT)
        (self.folder / "a.sigstore.json").write_bytes(serialize_bundle(bundle))

    def verify(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "keyless", "verify", "--trusted-root", "root.json", *words]
        return subprocess.run(
            command,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "KEYLESS_SOCKET": str(self.socket)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def facts(self, *words: str) -> dict[str, object]:
        done = self.verify("--json", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def failure(self, *words: str) -> dict[str, str]:
        done = self.verify("--json", *words)
        assert done.returncode == 1, (done.stdout, done.stderr)
        error = json.loads(done.stdout)["error"]
        assert error["code"] == "verification_failed"
        return error["details"]

    def verdict(self, *words: str) -> dict[str, str]:
        """What was wrong, without where it was found and who signed."""
        details = self.failure(*words)
        assert details["step"]
        return {name: details[name] for name in ("check", "found", "wanted") if name in details}


@pytest.fixture
def desk(daemon, tmp_path: Path) -> Desk:
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(folder, daemon.path, World(leaf=LEAF, rekor=v1_log()))


def test_facts_have_their_sources(desk: Desk) -> None:
    desk.put(desk.world.message())
    facts = desk.facts(*ME, "a")
    assert (facts["identity"], facts["identity_kind"], facts["issuer"]) == (IDENTITY, "uri", ISSUER)
    assert facts["digest"] == f"sha256:{digest_of(HashAlgorithm.SHA256, ARTIFACT).hex}"
    assert {time["source"] for time in facts["times"]} == {"tsa", "rekor"}  # type: ignore[attr-defined]
    assert [entry["log"] for entry in facts["entries"]] == ["https://rekor.example"]  # type: ignore[attr-defined]
    assert facts["extensions"]["runner_environment"] == "github-hosted"  # type: ignore[index]
    assert "clock" not in facts["steps"]  # type: ignore[operator]
    spoken = desk.verify(*ME, "-v", "a").stdout
    assert spoken.startswith(f"a: OK, signed by {IDENTITY} ({ISSUER})\n")
    assert "according to https://tsa.example/api/v1/timestamp" in spoken
    assert re.search(r"^ +[0-9]+\. certificate-chain$", spoken, re.MULTILINE)


def test_wrong_signer_is_told_with_the_right_one(desk: Desk) -> None:
    desk.put(desk.world.message())
    other = ("--certificate-identity", "https://x.ex", "--certificate-oidc-issuer", ISSUER)
    assert desk.failure(*other, "a") == {
        "check": "identity", "found": IDENTITY, "wanted": "https://x.ex",
        "step": "identity", "identity": IDENTITY, "issuer": ISSUER,
    }  # fmt: skip
    spoken = desk.verify(*other, "a").stderr
    assert f"found:  {IDENTITY}" in spoken
    assert "wanted: https://x.ex" in spoken
    partly = desk.verify("--certificate-identity-regexp", "github", *ME[2:], "a").stderr
    assert "matches a part of the identity" in partly
    broken = desk.verify("--certificate-identity-regexp", "(", *ME[2:], "a")
    assert broken.returncode != 0
    assert "does not compile" in broken.stderr


def test_one_of_several_signers(desk: Desk) -> None:
    desk.put(desk.world.message())
    assert desk.facts("--certificate-identity", "https://x.ex", *ME, "a")["identity"] == IDENTITY
    two = ("--certificate-identity", "https://x.ex", "--certificate-identity", "y@x.ex")
    details = desk.failure(*two, "--certificate-oidc-issuer", ISSUER, "a")
    assert details["found"] == f"{IDENTITY} ({ISSUER})"
    assert details["wanted"] == f"https://x.ex ({ISSUER}) or y@x.ex ({ISSUER})"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("trigger", "push"), ("sha", "5ha"), ("name", "build"), ("repository", "o/r"),
        ("ref", "refs/heads/main"),
    ],
)  # fmt: skip
def test_workflow_as_expected(desk: Desk, part: str, value: str) -> None:
    desk.put(desk.world.message())
    option = f"--certificate-github-workflow-{part}"
    assert desk.facts(*ME, option, value, "a")["ok"] is True
    assert desk.verdict(*ME, option, f"{value}x", "a") == {
        "check": "certificate-extension-value", "found": value, "wanted": f"{value}x"
    }  # fmt: skip


def test_predicate_and_subject(desk: Desk) -> None:
    payload = statement({"sha256": "00" * 32}, {"sha512": SHA512}, predicate_type="https://p.ex/1")
    desk.put(desk.world.envelope(payload))
    # The subject is named by a hash that is not the first to be tried.
    facts = desk.facts(*ME, "--type", "https://p.ex/1", "a")
    assert facts["predicate_type"] == "https://p.ex/1"
    assert facts["digest"] == f"sha512:{SHA512}"
    assert facts["statement"] == payload.decode()
    assert desk.verdict(*ME, "--type", "https://p.ex/2", "a") == {
        "check": "predicate-type", "found": "https://p.ex/1", "wanted": "https://p.ex/2"
    }  # fmt: skip
    (desk.folder / "a").write_bytes(b"another")
    assert desk.failure(*ME, "a")["check"] == "subject"


def test_another_artifact(desk: Desk) -> None:
    desk.put(desk.world.message())
    (desk.folder / "a").write_bytes(b"another")
    details = desk.failure(*ME, "a")
    assert details["check"] == "message-digest"
    assert details["found"] == f"sha256:{digest_of(HashAlgorithm.SHA256, ARTIFACT).hex}"
    assert details["wanted"] == f"sha256:{digest_of(HashAlgorithm.SHA256, b'another').hex}"


def test_managed_key(desk: Desk) -> None:
    desk.put(desk.world.message(managed=True))
    for name, key in (("good", desk.world.key), ("other", ec_key())):
        pem = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (desk.folder / name).write_bytes(pem)
    assert "identity" not in desk.facts("--key", "good", "a")
    assert desk.failure("--key", "other", "a")["check"] == "signature"
    assert desk.failure(*ME, "a")["check"] == "key-material"
    desk.put(desk.world.message())
    assert desk.failure("--key", "good", "a")["check"] == "key-material"
    (desk.folder / "good").write_bytes(b"no key")
    assert "public key" in desk.verify("--key", "good", "a").stderr


def test_managed_key_with_its_period(desk: Desk) -> None:
    desk.put(desk.world.message(managed=True))
    encoded = base64.b64encode(spki(desk.world.key.public_key())).decode()
    for name, period in (
        ("in", {"start": format_timestamp(SIGNED), "end": format_timestamp(SIGNED)}),
        ("out", {"start": format_timestamp(SIGNED + timedelta(seconds=1))}),
    ):
        (desk.folder / name).write_text(json.dumps({"rawBytes": encoded, "validFor": period}))
    assert "key-validity" in desk.facts("--key", "in", "a")["steps"]
    assert desk.failure("--key", "out", "a")["check"] == "key-validity"
    (desk.folder / "in").write_text(json.dumps({"rawBytes": encoded, "validFrom": {}}))
    assert "validFrom" in desk.verify("--key", "in", "a").stderr


def test_promise_alone_by_option(desk: Desk) -> None:
    bundle = desk.world.message()
    desk.put(bundle)
    path = desk.folder / "a.sigstore.json"
    value = json.loads(path.read_bytes())
    value["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1"
    material = value["verificationMaterial"]
    material["x509CertificateChain"] = {"certificates": [material.pop("certificate")]}
    del material["tlogEntries"][0]["inclusionProof"]["checkpoint"]
    path.write_text(json.dumps(value))
    # Nobody signed the proof, so the promise beside it counts.
    assert desk.facts(*ME, "a")["ok"] is True
    assert desk.failure(*ME, "--require-inclusion-proof", "a")["check"] == "proof-missing"
    del material["tlogEntries"][0]["inclusionProof"]
    path.write_text(json.dumps(value))
    assert desk.failure(*ME, "a")["check"] == "proof-missing"
    assert desk.facts(*ME, "--promise-only", "a")["ok"] is True


def test_threshold_that_is_not_met(desk: Desk) -> None:
    desk.put(desk.world.message())
    assert desk.facts(*ME, "--timestamp-threshold", "2", "a")["ok"] is True
    assert desk.verdict(*ME, "--timestamp-threshold", "3", "a") == {
        "check": "time-threshold", "found": "2", "wanted": "3"
    }  # fmt: skip


def test_unknown_log_names_the_log(desk: Desk) -> None:
    bundle = desk.world.message()
    (entry,) = bundle.entries
    desk.put(replace(bundle, entries=(replace(entry, log_id=b"\x01" * 32),)))
    assert desk.verdict(*ME, "a") == {"check": "log-unknown", "found": "01" * 32}

"""The real clients, each as a judge of bundles and as a maker of them. They judge; we record.

A judge answers None if it accepts, else its own words. A judge that cannot be asked (a usage
error, a crash) raises, so that it is not mistaken for a refusal.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.real.process import plain_environ
from tests.real.services import EMAIL
from tests.real.stack import Stack
from tests.real.trust import TRUSTED_ROOT
from tests.real.versions import GO, HERE, node_modules, program

PATIENCE = 60.0  # seconds for one command
STATEMENT_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "https://keyless.test/predicate/v1"


@dataclass(frozen=True, slots=True)
class Expected:
    """Whom a judge is told to expect."""

    identity: str
    issuer: str


class Judge(Protocol):
    """Verifies bundles."""

    name: str
    version: str

    def refusal(
        self, bundle: Path, artifact: Path, expected: Expected, *, attestation: bool = False
    ) -> str | None:
        """Return why it refuses, or None if it accepts."""
        ...


class ClientError(Exception):
    """A client failed where it should have done something; the message has its words."""


def expected(stack: Stack) -> Expected:
    """Return who signs with Dex's token."""
    return Expected(EMAIL, stack.urls.dex)


class Cosign:
    """The cosign command, and sigstore-go inside it."""

    def __init__(self, stack: Stack, binary: str = "cosign") -> None:
        self.name = binary
        self.version = next(one.version for one in GO if binary in one.programs)
        self._stack = stack
        self._home = stack.directory / f"home-{binary}"
        self._home.mkdir(exist_ok=True)
        self.command = str(program(binary))

    def run(self, *words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [self.command, *map(str, words)],
            env={**self.environ(), **environ},
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )

    def environ(self) -> dict[str, str]:
        """Return its environment: a home of its own, nothing else."""
        return {**plain_environ(self._home), "COSIGN_PASSWORD": ""}

    def verify_words(
        self, bundle: Path, artifact: Path, who: Expected, *, attestation: bool = False
    ) -> list[str | Path]:
        """Return the words that verify."""
        kind = ["verify-blob"]
        if attestation:
            kind = ["verify-blob-attestation", "--type", PREDICATE_TYPE]
        if _has_both_times(bundle):
            # It would look at the log's time only.
            kind.append("--use-signed-timestamps")
        return [
            *kind,
            *("--bundle", bundle, "--trusted-root", self._stack.trust / TRUSTED_ROOT),
            *("--certificate-identity", who.identity, "--certificate-oidc-issuer", who.issuer),
            artifact,
        ]

    def refusal(
        self, bundle: Path, artifact: Path, expected: Expected, *, attestation: bool = False
    ) -> str | None:
        done = self.run(*self.verify_words(bundle, artifact, expected, attestation=attestation))
        return judgement(done)

    def key_refusal(self, bundle: Path, artifact: Path, key: Path) -> str | None:
        """Judge a bundle of a managed key."""
        root = self._stack.trust / TRUSTED_ROOT
        words = ("verify-blob", "--bundle", bundle, "--trusted-root", root, "--key", key, artifact)
        return judgement(self.run(*words))

    def sign_words(
        self, bundle: Path, artifact: Path, config: str, *, predicate: Path | None = None
    ) -> list[str | Path]:
        """Return the words that sign, all but the identity."""
        kind: list[str | Path] = ["sign-blob"]
        if predicate is not None:
            kind = ["attest-blob", "--predicate", predicate, "--type", PREDICATE_TYPE]
        trust = self._stack.trust
        return [
            *kind,
            *("--yes", "--bundle", bundle, "--trusted-root", trust / TRUSTED_ROOT),
            *("--signing-config", trust / f"signing-{config}.json", artifact),
        ]

    def sign(
        self,
        bundle: Path,
        artifact: Path,
        config: str,
        *,
        predicate: Path | None = None,
        key: Path | None = None,
        token: str | None = None,
    ) -> None:
        """Sign with a token of Dex, another token, or a managed key."""
        who = ["--key", str(key)] if key else ["--identity-token", token or self._stack.dex_token()]
        words = self.sign_words(bundle, artifact, config, predicate=predicate)
        done = self.run(*words, *who)
        if done.returncode != 0:
            raise ClientError(f"{self.name} does not sign: {done.stderr[-1000:]}")

    def make_key(self, folder: Path) -> tuple[Path, Path]:
        """Make a managed key pair; return private and public file."""
        done = self.run("generate-key-pair", "--output-key-prefix", folder / "managed")
        if done.returncode != 0:
            raise ClientError(done.stderr)
        return folder / "managed.key", folder / "managed.pub"


def _has_both_times(bundle: Path) -> bool:
    material = json.loads(bundle.read_text())["verificationMaterial"]
    stamps = (material.get("timestampVerificationData") or {}).get("rfc3161Timestamps")
    promised = any(one.get("inclusionPromise") for one in material["tlogEntries"])
    return bool(stamps) and promised


def judgement(done: subprocess.CompletedProcess[str]) -> str | None:
    """Return why a command of cosign refused, or None if it accepted.

    Raises:
        ClientError: It failed in a way that is no refusal.
    """
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.startswith(("Error:", "error"))]
    if not lines or "unknown flag" in done.stderr or "panic" in done.stderr:
        raise ClientError(f"{done.args}: {done.stderr[-1000:]}")
    return re.sub(r"^Error: *", "", lines[0])


class SigstorePython:
    """sigstore-python's library, in this process."""

    name = "sigstore-python"

    def __init__(self, stack: Stack) -> None:
        from sigstore.models import TrustedRoot
        from sigstore.verify import Verifier

        self.version = importlib.metadata.version("sigstore")
        self._stack = stack
        root = TrustedRoot.from_file(str(stack.trust / TRUSTED_ROOT))
        self._verifier = Verifier(trusted_root=root)

    def refusal(
        self, bundle: Path, artifact: Path, expected: Expected, *, attestation: bool = False
    ) -> str | None:
        from sigstore.dsse import InvalidEnvelope
        from sigstore.errors import VerificationError
        from sigstore.models import Bundle, InvalidBundle
        from sigstore.verify.policy import Identity

        who = Identity(identity=expected.identity, issuer=expected.issuer)
        try:
            found = Bundle.from_json(bundle.read_bytes())
            if not attestation:
                self._verifier.verify_artifact(artifact.read_bytes(), found, who)
                return None
            _, payload = self._verifier.verify_dsse(found, who)
        except (VerificationError, InvalidBundle, InvalidEnvelope) as exc:
            return f"{type(exc).__name__}: {exc}"
        return not_a_subject(payload, artifact)

    def sign(
        self, bundle: Path, artifact: Path, config: str, *, predicate: Path | None = None
    ) -> None:
        """Sign with a token of Dex."""
        from sigstore.models import ClientTrustConfig
        from sigstore.oidc import IdentityToken
        from sigstore.sign import SigningContext

        text = (self._stack.trust / f"trust-{config}.json").read_text()
        context = SigningContext.from_trust_config(ClientTrustConfig.from_json(text))
        with context.signer(IdentityToken(self._stack.dex_token())) as signer:
            if predicate is None:
                made = signer.sign_artifact(artifact.read_bytes())
            else:
                made = signer.sign_dsse(_python_statement(artifact, predicate))
        bundle.write_text(made.to_json())


def _python_statement(artifact: Path, predicate: Path) -> object:
    from sigstore.dsse import StatementBuilder, Subject

    digest = hashlib.sha256(artifact.read_bytes()).hexdigest()
    return (
        StatementBuilder()
        .subjects([Subject(name=artifact.name, digest={"sha256": digest})])
        .predicate_type(PREDICATE_TYPE)
        .predicate(json.loads(predicate.read_text()))
        .build()
    )


class SigstoreJs:
    """sigstore-js' libraries in one Node process, and its command against the TUF mirror."""

    name = "sigstore-js"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._home = stack.directory / "home-js"
        self._home.mkdir(exist_ok=True)
        self._root = json.loads((stack.trust / TRUSTED_ROOT).read_text())
        lock = json.loads((HERE / "js" / "package-lock.json").read_text())["packages"]
        self.version = lock["node_modules/sigstore"]["version"]
        self.command_version = lock["node_modules/@sigstore/cli"]["version"]
        self._process = subprocess.Popen(
            [_node(), str(HERE / "js" / "judge.cjs")],
            env={**plain_environ(self._home), "NODE_PATH": str(node_modules())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _ask(self, **request: object) -> Mapping[str, object]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ClientError("the JavaScript judge ended")
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def refusal(
        self, bundle: Path, artifact: Path, expected: Expected, *, attestation: bool = False
    ) -> str | None:
        value = json.loads(bundle.read_text())
        answer = self._ask(
            op="verify",
            root=self._root,
            bundle=value,
            artifact=None if attestation else _base64(artifact.read_bytes()),
            identity=expected.identity,
            issuer=expected.issuer,
        )
        if "error" in answer:
            return str(answer["error"])
        if attestation:
            # The library leaves the subject to its caller.
            payload = base64.b64decode(value["dsseEnvelope"]["payload"])
            return not_a_subject(payload, artifact)
        return None

    def sign(
        self,
        bundle: Path,
        payload: bytes,
        *,
        version: int,
        token: str,
        kind: str | None = None,
        timestamp: bool = True,
    ) -> None:
        """Sign a blob, or with *kind* an envelope of that payload type.

        The token has to be of an issuer whose challenge is the subject.
        """
        urls = self._stack.urls
        answer = self._ask(
            op="sign",
            fulcio=urls.fulcio,
            rekor=urls.rekor1 if version == 1 else urls.rekor2_a,
            version=version,
            # It adds the path itself.
            tsa=urls.tsa.removesuffix("/api/v1/timestamp") if timestamp else None,
            token=token,
            payload=_base64(payload),
            type=kind,
        )
        if "error" in answer:
            raise ClientError(f"sigstore-js does not sign: {answer['error']}")
        bundle.write_text(json.dumps(answer["value"]))

    def command_refusal(self, bundle: Path, artifact: Path, expected: Expected) -> str | None:
        """Judge by the command, which takes its trust root from the TUF repository."""
        repository = self._stack.repository
        done = subprocess.run(
            [
                *(str(node_modules() / ".bin" / "sigstore"), "verify", str(bundle)),
                *("--blob-file", str(artifact), "--tuf-mirror-url", repository.url),
                *("--tuf-root-path", str(repository.root)),
                *("--tuf-cache-path", str(self._home / "tuf")),
                *("--certificate-identity-email", re.escape(expected.identity)),
                *("--certificate-issuer", expected.issuer),
            ],
            env=plain_environ(self._home),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        words = " ".join((done.stdout + done.stderr).split())
        if done.returncode == 0:
            return None
        # Of a stack trace the line that says what it is.
        said = re.search(r"(?<!new )\b\w+Error: .+?(?= at |$)", words)
        return said[0] if said else words or "it failed without a word"


def not_a_subject(payload: bytes, artifact: Path) -> str | None:
    """Return a refusal if a verified statement is not about the artifact."""
    digest = hashlib.sha256(artifact.read_bytes()).hexdigest()
    subjects = json.loads(payload)["subject"]
    if digest in {one["digest"].get("sha256") for one in subjects}:
        return None
    return "the artifact is no subject of the statement (checked by its caller)"


def statement(artifact: Path, predicate: object) -> bytes:
    """Return an in-toto statement about one file."""
    digest = hashlib.sha256(artifact.read_bytes()).hexdigest()
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": artifact.name, "digest": {"sha256": digest}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
    ).encode()


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _node() -> str:
    found = shutil.which("node")
    assert found is not None, "node is not installed"
    return os.path.realpath(found)

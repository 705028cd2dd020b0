"""The forms that cosign wrote before there were bundles, by its last release that writes them."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.real.clients import ClientError, Cosign, Expected, judgement
from tests.real.stack import Stack
from tests.real.tamper import flip


@dataclass(frozen=True, slots=True)
class Legacy:
    """What one signature is held in.

    Attributes:
        artifact: The file.
        signature: Base64 text.
        certificate: Base64 of PEM; None if a managed key signed.
        timestamp: A timestamp of the signature, as JSON, or None.
        bundle: All of it and the log's promise, as JSON.
    """

    artifact: Path
    signature: Path
    certificate: Path | None
    timestamp: Path | None
    bundle: Path


class OldCosign(Cosign):
    """The command of the former major version."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, "cosign2")
        self._keys = stack.directory / "keys"
        self._urls = stack.urls

    def environ(self) -> dict[str, str]:
        """Return its environment; it has no other way to name the roots of trust."""
        return {
            **super().environ(),
            "SIGSTORE_ROOT_FILE": str(self._keys / "ca.pem"),
            "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE": str(self._keys / "ct.pub"),
            "SIGSTORE_REKOR_PUBLIC_KEY": str(self._keys / "rekor1.pub"),
        }

    def sign_legacy(
        self, artifact: Path, *, key: Path | None = None, timestamp: bool = False
    ) -> Legacy:
        """Sign with a token of Dex, or with a managed key; write every file there is."""

        def beside(suffix: str) -> Path:
            return artifact.with_name(artifact.name + suffix)

        made = Legacy(
            artifact,
            beside(".sig"),
            beside(".pem") if key is None else None,
            beside(".rfc3161") if timestamp else None,
            beside(".bundle"),
        )
        words: list[str | Path] = ["sign-blob", "--yes", "--rekor-url", self._urls.rekor1]
        words += ["--output-signature", made.signature, "--bundle", made.bundle]
        if made.certificate is not None:
            words += ["--fulcio-url", self._urls.fulcio, "--output-certificate", made.certificate]
            words += ["--identity-token", self._stack.dex_token()]
        if key is not None:
            words += ["--key", key]
        if made.timestamp is not None:
            words += ["--timestamp-server-url", self._urls.tsa]
            words += ["--rfc3161-timestamp", made.timestamp]
        done = self.run(*words, artifact)
        if done.returncode != 0:
            raise ClientError(f"{self.name} does not sign: {done.stderr[-1000:]}")
        return made

    def legacy_words(self, made: Legacy, who: Expected, key: Path | None) -> list[str | Path]:
        """Return the words that verify a signature by its old bundle."""
        signer: list[str | Path] = ["--key", key] if key else _signer(who)
        return ["verify-blob", "--bundle", made.bundle, *signer, made.artifact]

    def legacy_refusal(self, made: Legacy, who: Expected, key: Path | None = None) -> str | None:
        """Judge an old bundle."""
        return judgement(self.run(*self.legacy_words(made, who, key)))


def bundle_words(made: Legacy) -> list[str | Path]:
    """Return what tells `keyless verify` of an old bundle."""
    return ["--bundle", made.bundle]


def detached_words(made: Legacy) -> list[str | Path]:
    """Return what tells `keyless verify` of a signature and a certificate, with a timestamp.

    They say nothing of a log, so a timestamp has to prove when the certificate was used.
    """
    words: list[str | Path] = ["--signature", made.signature, "--insecure-ignore-tlog"]
    words += ["--certificate", made.certificate] if made.certificate else []
    return [*words, "--rfc3161-timestamp", made.timestamp] if made.timestamp else words


def all_words(made: Legacy) -> list[str | Path]:
    """Return what tells `keyless verify` of all files: the old bundle has the log's promise."""
    words: list[str | Path] = ["--signature", made.signature, "--bundle", made.bundle]
    words += ["--certificate", made.certificate] if made.certificate else []
    return [*words, "--rfc3161-timestamp", made.timestamp] if made.timestamp else words


# --- what can be wrong ---------------------------------------------------------------------------


def bundle_cases(made: Legacy, other: Legacy, folder: Path) -> Iterator[tuple[str, Legacy]]:
    """Yield what has to be refused in an old bundle, one thing each."""
    folder.mkdir()
    found, others = (json.loads(one.bundle.read_text()) for one in (made, other))
    damaged: dict[str, dict[str, Any]] = {}

    def damage(name: str) -> dict[str, Any]:
        damaged[name] = copy.deepcopy(found)
        return damaged[name]

    one = damage("signature")
    one["base64Signature"] = flip(one["base64Signature"])
    rekor = damage("promise")["rekorBundle"]
    rekor["SignedEntryTimestamp"] = flip(rekor["SignedEntryTimestamp"])
    damage("integrated time")["rekorBundle"]["Payload"]["integratedTime"] += 1
    damage("log index")["rekorBundle"]["Payload"]["logIndex"] += 1
    payload = damage("log")["rekorBundle"]["Payload"]
    payload["logID"] = payload["logID"][:-1] + ("0" if payload["logID"][-1] != "0" else "1")
    payload = damage("entry body")["rekorBundle"]["Payload"]
    payload["body"] = _other_digest(payload["body"])
    damage("other's entry")["rekorBundle"] = others["rekorBundle"]
    damage("other's signature")["base64Signature"] = others["base64Signature"]
    if made.certificate is not None:
        one = damage("certificate")
        one["cert"] = _damaged_certificate(one["cert"].encode()).decode()
        damage("other's certificate")["cert"] = others["cert"]
    for name, value in damaged.items():
        path = folder / f"{name.replace(' ', '-')}.json"
        path.write_text(json.dumps(value))
        yield name, replace(made, bundle=path)


def detached_cases(made: Legacy, other: Legacy, folder: Path) -> Iterator[tuple[str, Legacy]]:
    """Yield what has to be refused in files of their own, one thing each."""
    folder.mkdir()

    def written(name: str, content: bytes) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    text = made.signature.read_text().strip()
    yield "signature", replace(made, signature=written("signature", flip(text).encode()))
    yield "other's signature", replace(made, signature=other.signature)
    if made.certificate is not None:
        damaged = _damaged_certificate(made.certificate.read_bytes())
        yield "certificate", replace(made, certificate=written("certificate", damaged))
        yield "other's certificate", replace(made, certificate=other.certificate)
    if made.timestamp is not None:
        stamp = json.loads(made.timestamp.read_text())
        stamp["SignedRFC3161Timestamp"] = flip(stamp["SignedRFC3161Timestamp"])
        path = written("timestamp", json.dumps(stamp).encode())
        yield "timestamp", replace(made, timestamp=path)
        yield "other's timestamp", replace(made, timestamp=other.timestamp)


def _signer(who: Expected) -> list[str | Path]:
    return ["--certificate-identity", who.identity, "--certificate-oidc-issuer", who.issuer]


def _other_digest(body: str) -> str:
    found = json.loads(base64.b64decode(body))
    digest = found["spec"]["data"]["hash"]
    digest["value"] = digest["value"][:-1] + ("0" if digest["value"][-1] != "0" else "1")
    raw = json.dumps(found, separators=(",", ":"), sort_keys=True).encode()
    return base64.b64encode(raw).decode()


def _damaged_certificate(raw: bytes) -> bytes:
    """Change the last byte, one of the CA's signature; PEM, or base64 of that, as it was."""
    if not raw.startswith(b"-----"):
        return base64.b64encode(_damaged_certificate(base64.b64decode(raw)))
    leaf = x509.load_pem_x509_certificate(raw)
    der = flip(base64.b64encode(leaf.public_bytes(Encoding.DER)).decode())
    return f"-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n".encode()

"""Two verifiers on one bundle: this house's, and sigstore-python as the other opinion."""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from sigstore.errors import Error
from sigstore.models import Bundle as TheirBundle
from sigstore.models import TrustedRoot as TheirRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity

from keylessd.core.bundle import Bundle, BundleVersion, parse_bundle, serialize_bundle
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.timestamp import UNVERIFIABLE, verify_timestamp
from keylessd.core.trusted_root import TrustedRoot, parse_trusted_root, serialize_trusted_root
from keylessd.core.verify import verify_bundle
from keylessd.errors import VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
from minted_faults import SIGNER, Minted
from sigsim.pki import Leaf, utf8
from sigsim.worlds import ARTIFACT, World, digests, statement, v1_log

ACCEPTED = "accepted"
REPOSITORY = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon"
BEACON = (
    f"{REPOSITORY}/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
    "https://token.actions.githubusercontent.com",
)
# What the other one cannot verify: managed keys, and entries of the kind intoto.
CASES = (
    "happy-path-intoto-in-dsse-v3",
    "happy-path-v0.1",
    "happy-path-v0.3",
    "rekor2-checkpoint-cosigned",
    "rekor2-dsse-happy-path",
    "rekor2-happy-path",
    "rekor2-timestamp-without-embedded-cert",
)


# Where this house refuses and the other one accepts, and why that is right. Whatever is not in
# here is a finding; daemon/doc/verification.md has the same list for people.
STRICTER = {
    "bundle-json": "a key stands twice, or is spelled with underscores",
    "bundle-material": "a key is spelled with underscores, base64 with other characters",
    "bundle-entry": "the same; a number with a sign, space or underscore; a promise without time",
    "bundle-timestamp": "as bundle-material",
    "bundle-content": "as bundle-material",
    "log-unknown": "the entry names another log than its checkpoint",
    "log-index": "the index of an entry of Rekor v2 is not the proof's",
    "checkpoint-format": "the checkpoint has a line that is no signature line",
    "checkpoint-signature": "as checkpoint-format",
    "checkpoint-origin": "the name on the log's line of the checkpoint is not its origin",
    "timestamp-format": "a bad timestamp, beside a good time that the log promised",
    "timestamp-authority": "the same; or the signer's name differs in case",
    "timestamp-imprint": "as timestamp-format",
    "timestamp-attributes": "as timestamp-format",
    "timestamp-certificate": "as timestamp-format",
    "timestamp-usage": "as timestamp-format",
    "timestamp-validity": "as timestamp-format",
    "timestamp-status": "as timestamp-format",
    "timestamp-signature": "the same; or the signature's algorithm is not the one that was used",
}


@dataclass(frozen=True)
class Subject:
    """A good bundle and all that is needed to judge it and its mutations, for both verifiers."""

    name: str
    value: Any
    artifact: bytes
    signer: tuple[str, str]
    root: TrustedRoot
    their_verifier: Verifier | None

    def ours(self, raw: bytes) -> str:
        """Return ACCEPTED or the check that failed. Any other exception is a finding."""
        known: dict[HashAlgorithm, Digest] = {
            algorithm: digest_of(algorithm, self.artifact) for algorithm in HashAlgorithm
        }
        expected = AnySigner((ExpectedSigner(identity=self.signer[0], issuer=self.signer[1]),))
        try:
            verify_bundle(parse_bundle(raw), known, self.root, expected=expected)
        except VerificationError as error:
            return error.check
        return ACCEPTED

    def theirs(self, raw: bytes) -> str:
        """Return ACCEPTED, or the kind of the refusal; a crash of theirs is one too."""
        policy = Identity(identity=self.signer[0], issuer=self.signer[1])
        if self.their_verifier is None:
            return "refused: the trust root"
        try:
            bundle = TheirBundle.from_json(raw)
            if bundle._dsse_envelope is not None:
                self.their_verifier.verify_dsse(bundle, policy)
            else:
                self.their_verifier.verify_artifact(self.artifact, bundle, policy)
        except Error as error:
            return f"refused: {type(error).__name__}: {str(error)[:160]}"
        except Exception as error:  # noqa: BLE001  # whatever it is, it is not an acceptance
            return f"crashed: {type(error).__name__}: {str(error)[:160]}"
        return ACCEPTED

    def finding(self, raw: bytes) -> str | None:
        """Return in which way the two disagree without a reason, None if they do not."""
        ours, theirs = self.ours(raw), self.theirs(raw)
        if (ours == ACCEPTED) == (theirs == ACCEPTED):
            return None
        if ours != ACCEPTED:
            return None if ours in STRICTER else f"{ours}; they accept"
        # Proto3's JSON has several spellings of one message, of which they read fewer.
        good, read = parse_bundle(json.dumps(self.value).encode()), parse_bundle(raw)
        if read in (good, replace(good, timestamps=())):
            return None
        if self._differ_in_nothing_that_counts(good, read):
            return None
        if good.version is BundleVersion.V01 and read == _without_checkpoints(good):
            return None
        return f"accepted; they say {theirs}"

    def _differ_in_nothing_that_counts(self, good: Bundle, read: Bundle) -> bool:
        """Return whether timestamps that say nothing stand beside good ones, and that is all."""
        if replace(read, timestamps=()) != replace(good, timestamps=()):
            return False
        checks = {self._check_of(stamp, read) for stamp in read.timestamps}
        return ACCEPTED in checks and checks <= {ACCEPTED, *UNVERIFIABLE}

    def _check_of(self, stamp: bytes, read: Bundle) -> str:
        try:
            verify_timestamp(stamp, read.content.signature, self.root.timestamp_authorities)
        except VerificationError as error:
            return error.check
        return ACCEPTED


def _without_checkpoints(bundle: Bundle) -> Bundle:
    """Return what a v0.1 bundle may be: with promises, and proofs that nobody signed."""
    entries = []
    for entry in bundle.entries:
        assert entry.proof is not None
        entries.append(replace(entry, proof=replace(entry.proof, checkpoint=None)))
    return replace(bundle, entries=tuple(entries))


def real_subjects(vectors: Path) -> list[Subject]:
    """Return the real bundles that both should accept."""
    found = []
    for name in CASES:
        folder = vectors / "conformance" / name
        artifact = folder / "artifact"
        content = (artifact if artifact.exists() else folder.parent / "a.txt").read_bytes()
        root_file = folder / "trusted_root.json"
        if not root_file.exists():
            root_file = vectors / "trust" / "production.trusted_root.json"
        value = json.loads((folder / "bundle.sigstore.json").read_bytes())
        found.append(_subject(name, value, content, BEACON, root_file))
    return found


def minted_subjects(folder: Path) -> list[Subject]:
    """Return bundles of worlds that were made just now; their roots are written to *folder*."""
    about = {"sha256": next(iter(digests().values())).hex}
    identity, issuer = signer = ("signer@example.com", "https://issuer.example")
    # The other one reads the deprecated issuer extension alone.
    leaf = Leaf(
        names=(x509.RFC822Name(identity),), extensions=((1, issuer.encode()), (8, utf8(issuer)))
    )
    found = []
    for generation, world in ((2, World(leaf=leaf)), (1, World(leaf=leaf, rekor=v1_log()))):
        root_file = folder / f"root{generation}.json"
        root_file.write_bytes(serialize_trusted_root(world.root()))
        bundles = {"message": world.message(), "envelope": world.envelope(statement(about))}
        for kind, bundle in bundles.items():
            value = json.loads(serialize_bundle(bundle))
            name = f"minted-{kind}-v{generation}"
            found.append(_subject(name, value, ARTIFACT, signer, root_file))
    return found


def minted_subject(name: str, minted: Minted, folder: Path) -> Subject:
    """Return a bundle of `minted_faults`; the trust root is written to *folder*."""
    root_file = folder / "root.json"
    root_file.write_bytes(serialize_trusted_root(minted.root))
    value = json.loads(serialize_bundle(minted.bundle))
    return _subject(name, value, ARTIFACT, SIGNER, root_file)


def _subject(
    name: str, value: Any, artifact: bytes, signer: tuple[str, str], root_file: Path
) -> Subject:
    root = parse_trusted_root(root_file.read_bytes())
    return Subject(name, value, artifact, signer, root, their_verifier_of(root_file))


def their_verifier_of(root_file: Path) -> Verifier | None:
    """Return sigstore-python's verifier, None if it does not take the trust root."""
    logging.getLogger("sigstore").setLevel(logging.CRITICAL)
    with contextlib.suppress(ValueError, Error):  # their reader's errors are of the former kind
        return Verifier(trusted_root=TheirRoot.from_file(str(root_file)))
    return None

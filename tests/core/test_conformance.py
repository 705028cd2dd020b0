"""Every real case of the public conformance suite that is at hand, by path and by digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from keylessd.core.bundle import parse_bundle
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.keys import load_public_key
from keylessd.core.trusted_root import parse_trusted_root
from keylessd.core.verify import ManagedKey, Verified, verify_bundle
from keylessd.errors import VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner

SIGNER = ExpectedSigner(
    identity="https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/"
    ".github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
    issuer="https://token.actions.githubusercontent.com",
)
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
# The check that stops each failing case, so that none passes for a reason of ours.
STOPPED_BY = {
    "bundle-empty-certificate-chain_fail": "bundle-material",
    "bundle-malformed-json_fail": "bundle-json",
    "checkpoint-wrong-roothash_fail": "proof-checkpoint",
    "dsse-mismatch-sig_fail": "entry-signature",
    "inclusion-proof-corrupted-hash_fail": "inclusion-proof",
    "invalid-ct-key_fail": "sct-log",
    "managed-key-no-key_fail": "key-material",
    "message-digest-mismatch_fail": "message-digest",
    "rekor2-dsse-mismatch-sig_fail": "entry-signature",
    "rekor2-no-timestamp_fail": "time-threshold",
    "rekor2-timestamp-payload-mismatch_fail": "timestamp-imprint",
    "set-invalid-signature_fail": "inclusion-promise",
    "wrong-hashedrekord-entry_fail": "entry-signature",
    "wrong-material_fail": "message-digest",
}


def all_digests(artifact: Path) -> dict[HashAlgorithm, Digest]:
    raw = artifact.read_bytes()
    return {algorithm: digest_of(algorithm, raw) for algorithm in HashAlgorithm}


def sha256_only(artifact: Path) -> dict[HashAlgorithm, Digest]:
    value = hashlib.sha256(artifact.read_bytes()).digest()
    return {HashAlgorithm.SHA256: Digest(HashAlgorithm.SHA256, value)}


def verify_case(folder: Path, vectors: Path, digests_of: object) -> Verified:
    assert callable(digests_of)
    artifact = folder / "artifact"
    if not artifact.exists():
        artifact = vectors / "conformance" / "a.txt"
    root_file = folder / "trusted_root.json"
    if not root_file.exists():
        root_file = vectors / "trust" / "production.trusted_root.json"
    root = parse_trusted_root(root_file.read_bytes())
    key_file = folder / "key.pub"
    expected: AnySigner | ManagedKey = AnySigner((SIGNER,))
    if key_file.exists():
        expected = ManagedKey(load_public_key(key_file.read_bytes()))
    bundle = parse_bundle((folder / "bundle.sigstore.json").read_bytes())
    return verify_bundle(bundle, digests_of(artifact), root, expected=expected)


@pytest.mark.parametrize("digests_of", [all_digests, sha256_only], ids=["path", "digest"])
@pytest.mark.parametrize("name", CASES)
def test_conformance_case(vectors: Path, name: str, digests_of: object) -> None:
    folder = vectors / "conformance" / name
    if name.endswith("_fail"):
        with pytest.raises(VerificationError) as refused:
            verify_case(folder, vectors, digests_of)
        assert refused.value.check == STOPPED_BY[name]
    else:
        verified = verify_case(folder, vectors, digests_of)
        assert verified.entries
        assert verified.times or verified.key_sha256


def test_no_case_is_left_out(vectors: Path) -> None:
    found = {item.name for item in (vectors / "conformance").iterdir() if item.is_dir()}
    assert found == set(CASES)

"""Signatures of git commits in gitsign's form, and what they have in common with a bundle.

`keyless` signs and verifies digests and bundles; a commit's signature holds the same certificate,
signature and log entry as CMS (RFC 5652). So each can be made of the other without a key: that
is what this module does, so that gitsign judges what `keyless` signed, and the other way round.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ObjectIdentifier
from tests.real.services import EMAIL

from keylessd.clock import SystemClock
from keylessd.core import asn1 as types
from keylessd.core.canonical import canonical_json

OID_DATA = ObjectIdentifier("1.2.840.113549.1.7.1")
# The unsigned attribute that holds the log's entry, as gitsign has it in its offline mode.
OID_ENTRY = ObjectIdentifier("1.3.6.1.4.1.57264.3.1")
BEGIN, END = "-----BEGIN SIGNED MESSAGE-----", "-----END SIGNED MESSAGE-----"
HEADER = "gpgsig"
LINE = 64
UTC_TIME = b"\x17\x0d"
_SHA256 = types.AlgorithmIdentifier(algorithm=types.OID_SHA256, parameters=None)


class Repository:
    """A git repository of its own, without the settings of the person who runs the tests."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        folder.mkdir()
        self.folder = folder
        self._environ = {
            **environ,
            **{f"GIT_{who}_NAME": "builder" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": EMAIL for who in ("AUTHOR", "COMMITTER")},
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self.git("init", "-q")

    def git(self, *words: str, content: bytes | None = None) -> bytes:
        """Run git; fails the test if git does."""
        done = subprocess.run(
            ["git", "-c", "gpg.format=x509", "-c", "gpg.x509.program=gitsign", *words],
            cwd=self.folder,
            env=self._environ,
            input=content,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another program in the repository."""
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def unsigned(self, message: str) -> bytes:
        """Return a new commit, as the object that would be signed."""
        tree = self.git("mktree", content=b"").decode().strip()
        name = self.git("commit-tree", tree, "-m", message).decode().strip()
        return self.git("cat-file", "commit", name)

    def put(self, commit: bytes) -> str:
        """Store a commit; return its name."""
        return self.git("hash-object", "-t", "commit", "-w", "--stdin", content=commit).decode()[
            :-1
        ]

    def commit(self, message: str) -> tuple[bytes, bytes]:
        """Have gitsign sign a commit; return what was signed, and the signature (DER)."""
        self.git("commit", "-q", "-S", "--allow-empty", "-m", message)
        return split(self.git("cat-file", "commit", "HEAD"))


def split(commit: bytes) -> tuple[bytes, bytes]:
    """Return the commit without its signature, and the signature (DER)."""
    head, body = commit.split(b"\n\n", 1)
    kept: list[bytes] = []
    signature: list[str] = []
    inside = False
    for line in head.split(b"\n"):
        inside = line.startswith(f"{HEADER} ".encode()) or (inside and line.startswith(b" "))
        if inside:
            signature.append(line.removeprefix(f"{HEADER}".encode()).strip().decode())
        else:
            kept.append(line)
    text = [line for line in signature if line and not line.startswith("-----")]
    return b"\n".join(kept) + b"\n\n" + body, base64.b64decode("".join(text))


def join(commit: bytes, signature: bytes) -> bytes:
    """Return the commit with a signature (DER) in its head."""
    text = base64.b64encode(signature).decode()
    lines = [BEGIN, *(text[at : at + LINE] for at in range(0, len(text), LINE)), END]
    head, body = commit.split(b"\n\n", 1)
    return b"%s\n%s %s\n\n%s" % (head, HEADER.encode(), "\n ".join(lines).encode(), body)


# --- of a commit ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is signed: the commit's digest among a few attributes.

    Attributes:
        sent: As the signature holds them.
        signed: The very bytes that are signed; the artifact of the bundle.
    """

    sent: asn1.TLV
    signed: bytes


def attributes_of(commit: bytes) -> Attributes:
    """Return what has to be signed for a commit."""
    now = SystemClock().now().strftime("%y%m%d%H%M%SZ").encode()
    values = {
        types.OID_ATTR_CONTENT_TYPE: types.tlv_of(OID_DATA),
        types.OID_ATTR_SIGNING_TIME: asn1.decode_der(asn1.TLV, UTC_TIME + now),
        types.OID_ATTR_MESSAGE_DIGEST: types.tlv_of(hashlib.sha256(commit).digest()),
    }
    made = [
        types.Attribute(type=kind, values=asn1.SetOf([value])) for kind, value in values.items()
    ]
    return Attributes(*types.signed_attributes(sorted(made, key=types.encode)))


def signature_of(attributes: Attributes, bundle: Mapping[str, object]) -> bytes:
    """Return the commit's signature (DER) that a bundle over *attributes* comes to."""
    found = json.loads(json.dumps(bundle))
    material = found["verificationMaterial"]
    leaf = x509.load_der_x509_certificate(base64.b64decode(material["certificate"]["rawBytes"]))
    entry = types.Attribute(
        type=OID_ENTRY, values=asn1.SetOf([types.tlv_of(_protobuf(material["tlogEntries"][0]))])
    )
    signer = types.SignerInfo(
        version=1,
        sid=types.IssuerAndSerial(
            issuer=asn1.decode_der(asn1.TLV, leaf.issuer.public_bytes()),
            serial_number=leaf.serial_number,
        ),
        digest_algorithm=_SHA256,
        signed_attributes=attributes.sent,
        signature_algorithm=types.AlgorithmIdentifier(
            algorithm=types.OID_ECDSA_SHA256, parameters=None
        ),
        signature=base64.b64decode(found["messageSignature"]["signature"]),
        unsigned_attributes=[types.tlv_of(entry)],
    )
    data = types.SignedData(
        version=1,
        digest_algorithms=asn1.SetOf([_SHA256]),
        content=types.EncapsulatedContent(content_type=OID_DATA, content=None),
        certificates=[leaf],
        crls=None,
        signer_infos=asn1.SetOf([signer]),
    )
    return types.encode(types.TimeStampToken(content_type=types.OID_SIGNED_DATA, content=data))


def bundle_of_signature(commit: bytes, signature: bytes) -> tuple[bytes, dict[str, object]]:
    """Return the bundle that a commit's signature comes to, after what it is about.

    Raises:
        ValueError: The signature is not of this commit: that is for its reader to check.
    """
    data = types.decode(types.TimeStampToken, signature).content
    (signer,) = data.signer_infos.as_list()
    (leaf,) = data.certificates or []
    named = {
        one.type: one.values.as_list()[0]
        for one in types.parse_signed_attributes(signer.signed_attributes)
    }
    digest = asn1.decode_der(bytes, types.encode(named[types.OID_ATTR_MESSAGE_DIGEST]))
    if digest != hashlib.sha256(commit).digest():
        raise ValueError("the signature is of another commit")
    signed = types.signed_form(signer.signed_attributes)
    (entry,) = (
        types.decode(types.Attribute, types.encode(one)) for one in signer.unsigned_attributes or []
    )
    assert entry.type == OID_ENTRY
    proven = _entry(asn1.decode_der(bytes, types.encode(entry.values.as_list()[0])))
    # The form leaves the entry's body out, since it follows from the rest.
    proven["canonicalizedBody"] = _base64(_body(signed, signer.signature, leaf))
    return signed, {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "certificate": {"rawBytes": _base64(leaf.public_bytes(Encoding.DER))},
            "tlogEntries": [proven],
        },
        "messageSignature": {
            "messageDigest": {
                "algorithm": "SHA2_256",
                "digest": _base64(hashlib.sha256(signed).digest()),
            },
            "signature": _base64(signer.signature),
        },
    }


def _body(signed: bytes, signature: bytes, leaf: x509.Certificate) -> bytes:
    digest = {"algorithm": "sha256", "value": hashlib.sha256(signed).hexdigest()}
    key = {"content": _base64(leaf.public_bytes(Encoding.PEM))}
    return canonical_json(
        {
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": digest},
                "signature": {"content": _base64(signature), "publicKey": key},
            },
        }
    )


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


# --- TransparencyLogEntry of dev.sigstore.rekor.v1, as protocol buffer  ---


def _protobuf(entry: Mapping[str, object]) -> bytes:
    """Return an entry of a bundle, without its body."""
    found = json.loads(json.dumps(entry))
    proof = found["inclusionProof"]
    checkpoint = _field(1, proof["checkpoint"]["envelope"].encode())
    return b"".join(
        [
            _field(1, int(found["logIndex"])),
            _field(2, _field(1, base64.b64decode(found["logId"]["keyId"]))),
            _field(
                3,
                _field(1, found["kindVersion"]["kind"].encode())
                + _field(2, found["kindVersion"]["version"].encode()),
            ),
            _field(4, int(found["integratedTime"])),
            _field(
                5, _field(1, base64.b64decode(found["inclusionPromise"]["signedEntryTimestamp"]))
            ),
            _field(
                6,
                b"".join(
                    [
                        _field(1, int(proof["logIndex"])),
                        _field(2, base64.b64decode(proof["rootHash"])),
                        _field(3, int(proof["treeSize"])),
                        *(_field(4, base64.b64decode(one)) for one in proof["hashes"]),
                        _field(5, checkpoint),
                    ]
                ),
            ),
        ]
    )


def _entry(raw: bytes) -> dict[str, object]:
    """Return an entry as a bundle has it, without its body."""
    top = _fields(raw)
    kind, proof = _fields(top[3][0]), _fields(top[6][0])
    return {
        "logIndex": str(top.get(1, [0])[0]),
        "logId": {"keyId": _base64(_fields(top[2][0])[1][0])},
        "kindVersion": {"kind": kind[1][0].decode(), "version": kind[2][0].decode()},
        "integratedTime": str(top[4][0]),
        "inclusionPromise": {"signedEntryTimestamp": _base64(_fields(top[5][0])[1][0])},
        "inclusionProof": {
            "logIndex": str(proof.get(1, [0])[0]),
            "rootHash": _base64(proof[2][0]),
            "treeSize": str(proof[3][0]),
            "hashes": [_base64(one) for one in proof.get(4, [])],
            "checkpoint": {"envelope": _fields(proof[5][0])[1][0].decode()},
        },
    }


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value) if value else b""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _fields(raw: bytes) -> dict[int, list]:
    """Return field number -> values, numbers or bytes."""
    found: dict[int, list] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(raw):
        number, kind = divmod(varint(), 8)
        assert kind in {0, 2}, "there are numbers and bytes only"
        value: int | bytes = varint()
        if kind == 2:
            end = at + int(value)
            value, at = raw[at:end], end
        found.setdefault(number, []).append(value)
    return found

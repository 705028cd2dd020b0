"""Sigstore bundles, to and from JSON. Checks the form only; core.verify proves the content."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

from keylessd.core.digests import Digest, HashAlgorithm
from keylessd.core.strict_json import (
    Fields,
    JsonObject,
    JsonValue,
    StrictJsonError,
    encode_base64,
    loads,
)
from keylessd.core.tlog_entry import (
    InclusionProof,
    TlogEntry,
    entry_fields,
    entry_of,
    parse_tlog_entry,
    tlog_entry_json,
)
from keylessd.errors import VerificationError

__all__ = [
    "MAX_BUNDLE_BYTES",
    "MAX_ENTRIES",
    "MAX_TIMESTAMPS",
    "MEDIA_TYPE",
    "Bundle",
    "BundleVersion",
    "DsseEnvelope",
    "InclusionProof",
    "MessageSignature",
    "TlogEntry",
    "parse_bundle",
    "parse_envelope",
    "parse_tlog_entry",
    "serialize_bundle",
    "tlog_entry_json",
]

MAX_BUNDLE_BYTES = 16 << 20  # bytes; an envelope may carry a large statement
MAX_ENTRIES = 32
MAX_TIMESTAMPS = 32
MAX_CERTIFICATES = 32
MAX_DEPTH = 32  # a bundle has 7 levels; unknown fields may have more

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class BundleVersion(enum.StrEnum):
    """The versions of the bundle format, and what there was before it (core.legacy)."""

    V01 = "0.1"
    V02 = "0.2"
    V03 = "0.3"
    COSIGN = "cosign"  # one JSON file with the log's promise
    DETACHED = "detached"  # signature and certificate in files of their own


_MEDIA_TYPES = {
    "application/vnd.dev.sigstore.bundle+json;version=0.1": BundleVersion.V01,
    "application/vnd.dev.sigstore.bundle+json;version=0.2": BundleVersion.V02,
    "application/vnd.dev.sigstore.bundle+json;version=0.3": BundleVersion.V03,
    MEDIA_TYPE: BundleVersion.V03,
}

_BUNDLE = frozenset({"mediaType", "verificationMaterial", "messageSignature", "dsseEnvelope"})
_MATERIAL = frozenset(
    {
        "publicKey",
        "x509CertificateChain",
        "certificate",
        "tlogEntries",
        "timestampVerificationData",
    }
)
_PUBLIC_KEY = frozenset({"hint"})
_CHAIN = frozenset({"certificates"})
_CERTIFICATE = frozenset({"rawBytes"})
_TIMESTAMPS = frozenset({"rfc3161Timestamps"})
_TIMESTAMP = frozenset({"signedTimestamp"})
_MESSAGE = frozenset({"messageDigest", "signature"})
_DIGEST = frozenset({"algorithm", "digest"})
_ENVELOPE = frozenset({"payload", "payloadType", "signatures"})
_SIGNATURE = frozenset({"sig", "keyid"})
_ALGORITHMS = {algorithm.proto: algorithm for algorithm in HashAlgorithm}


@dataclass(frozen=True, slots=True)
class MessageSignature:
    """A signature over an artifact.

    Attributes:
        signature: Not empty.
        digest: The artifact's digest as the bundle claims it, unauthenticated, or None.
    """

    signature: bytes
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class DsseEnvelope:
    """A signed payload, with its one signature.

    Attributes:
        payload: The payload's exact bytes.
        payload_type: Its media type, not empty.
        signature: Over the pre-authentication encoding (core.dsse.pae); not empty.
        keyid: What the envelope says of the key, unauthenticated; ``""`` if nothing.
    """

    payload: bytes
    payload_type: str
    signature: bytes
    keyid: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose form is right. Nothing in it is proven.

    Attributes:
        version: The format and its version.
        certificates: DER, leaf first; empty if a managed key signed.
        key_hint: Which managed key signed, ``""`` if the bundle does not say; None if a
            certificate's key did.
        entries: Log entries, no two of the same log and index.
        timestamps: DER of TimeStampResp, no two the same.
        content: What was signed.
    """

    version: BundleVersion
    certificates: tuple[bytes, ...]
    key_hint: str | None
    entries: tuple[TlogEntry, ...]
    timestamps: tuple[bytes, ...]
    content: MessageSignature | DsseEnvelope


def parse_bundle(raw: bytes) -> Bundle:
    """Return the bundle that *raw* is the JSON of.

    Applied are the rules that need no key and no trust root: one content and one kind of key
    material; a chain up to v0.2, a single certificate from v0.3; entries with a promise in v0.1
    and with a proof and its checkpoint since; nothing twice, nothing empty that counts, and no
    key that the format does not have: what may be in a bundle goes by its media type.

    Args:
        raw: At most MAX_BUNDLE_BYTES.

    Raises:
        VerificationError: The check is ``"bundle-json"`` (size, encoding, syntax),
            ``"bundle-media-type"``, ``"bundle-material"`` (key or certificates),
            ``"bundle-entry"``, ``"bundle-timestamp"`` or ``"bundle-content"``.
    """
    part = "bundle-json"
    try:
        value = loads(raw, max_bytes=MAX_BUNDLE_BYTES, max_depth=MAX_DEPTH)
        fields = Fields(value, path="bundle", known=_BUNDLE)
        part = "bundle-media-type"
        version = _version_of(fields)
        # Not before the version is known to be one of those whose keys these are.
        part = "bundle-json"
        fields = Fields(value, path="bundle", known=_BUNDLE, closed=True)
        part = "bundle-material"
        material = fields.child("verificationMaterial", _MATERIAL)
        if material is None:
            fields.fail("verificationMaterial", "missing")
        certificates, key_hint = _key_material_of(material, version)
        part = "bundle-entry"
        entries = _entries_of(material, version)
        part = "bundle-timestamp"
        timestamps = _timestamps_of(material)
        part = "bundle-content"
        content = _content_of(fields)
    except StrictJsonError as exc:
        raise VerificationError(part, f"the bundle cannot be read: {exc}") from exc
    _check_keyid(content, key_hint)
    return Bundle(version, certificates, key_hint, entries, timestamps, content)


def serialize_bundle(bundle: Bundle) -> bytes:
    """Return the bundle as JSON of version 0.3, whatever version it was read as.

    Numbers and lists that are zero or empty are written out; what is None is left out. Of the
    certificates only the leaf is written, since v0.3 has room for no other.

    Raises:
        ValueError: An entry lacks the proof with checkpoint that v0.3 demands.
    """
    if any(entry.proof is None or entry.proof.checkpoint is None for entry in bundle.entries):
        raise ValueError("an entry without proof and checkpoint has no place in a v0.3 bundle")
    material: JsonObject = {}
    if bundle.certificates:
        material["certificate"] = {"rawBytes": encode_base64(bundle.certificates[0])}
    else:
        material["publicKey"] = {"hint": bundle.key_hint or ""}
    material["tlogEntries"] = [tlog_entry_json(entry) for entry in bundle.entries]
    material["timestampVerificationData"] = {
        "rfc3161Timestamps": [
            {"signedTimestamp": encode_base64(response)} for response in bundle.timestamps
        ]
    }
    value: JsonObject = {"mediaType": MEDIA_TYPE, "verificationMaterial": material}
    if isinstance(bundle.content, MessageSignature):
        value["messageSignature"] = _message_json(bundle.content)
    else:
        value["dsseEnvelope"] = _envelope_json(bundle.content)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _version_of(fields: Fields) -> BundleVersion:
    media_type = fields.text("mediaType")
    if media_type not in _MEDIA_TYPES:
        fields.fail("mediaType", f"not that of a known bundle: {media_type[:100]!r}")
    return _MEDIA_TYPES[media_type]


def _key_material_of(
    material: Fields, version: BundleVersion
) -> tuple[tuple[bytes, ...], str | None]:
    """Return the certificates and the key hint; one of the two is empty."""
    names = ("publicKey", "x509CertificateChain", "certificate")
    present = [name for name in names if material.has(name)]
    if len(present) != 1:
        raise StrictJsonError(f"{material.path} has {len(present)} of {', '.join(names)}; not 1")
    public_key = material.child("publicKey", _PUBLIC_KEY)
    if public_key is not None:
        return (), public_key.text("hint")
    if (present[0] == "certificate") != (version is BundleVersion.V03):
        material.fail(present[0], f"not allowed in a v{version.value} bundle")
    certificate = material.child("certificate", _CERTIFICATE)
    if certificate is not None:
        return (_certificate_of(certificate),), None
    chain = material.child("x509CertificateChain", _CHAIN)
    listed = chain.children("certificates", _CERTIFICATE, limit=MAX_CERTIFICATES) if chain else []
    if not listed:
        material.fail("x509CertificateChain", "empty")
    return tuple(_certificate_of(item) for item in listed), None


def _certificate_of(fields: Fields) -> bytes:
    certificate = fields.octets("rawBytes")
    if not certificate:
        fields.fail("rawBytes", "empty")
    return certificate


def _entries_of(material: Fields, version: BundleVersion) -> tuple[TlogEntry, ...]:
    entries: list[TlogEntry] = []
    seen: set[tuple[bytes, int]] = set()
    for fields in entry_fields(material, "tlogEntries", limit=MAX_ENTRIES):
        entry = entry_of(fields)
        if version is BundleVersion.V01:
            if entry.promise is None:
                fields.fail("inclusionPromise", "missing in a v0.1 bundle")
        elif entry.proof is None or entry.proof.checkpoint is None:
            fields.fail("inclusionProof", f"missing, or its checkpoint, in a v{version} bundle")
        place = (entry.log_id, entry.log_index)
        if place in seen:
            fields.fail("logIndex", "the same entry stands twice in the bundle")
        seen.add(place)
        entries.append(entry)
    return tuple(entries)


def _timestamps_of(material: Fields) -> tuple[bytes, ...]:
    data = material.child("timestampVerificationData", _TIMESTAMPS)
    if data is None:
        return ()
    timestamps: list[bytes] = []
    for fields in data.children("rfc3161Timestamps", _TIMESTAMP, limit=MAX_TIMESTAMPS):
        response = fields.octets("signedTimestamp")
        if not response:
            fields.fail("signedTimestamp", "empty")
        if response in timestamps:
            fields.fail("signedTimestamp", "the same timestamp stands twice in the bundle")
        timestamps.append(response)
    return tuple(timestamps)


def _content_of(fields: Fields) -> MessageSignature | DsseEnvelope:
    message = fields.child("messageSignature", _MESSAGE)
    envelope = fields.child("dsseEnvelope", _ENVELOPE)
    if (message is None) == (envelope is None):
        raise StrictJsonError("bundle needs exactly one of messageSignature and dsseEnvelope")
    if message is not None:
        return MessageSignature(_signature_of(message, "signature"), _digest_of(message))
    assert envelope is not None  # noqa: S101  # exactly one of the two is there
    return _envelope_of(envelope)


def parse_envelope(value: JsonValue) -> DsseEnvelope:
    """Return the envelope that stands by itself as a DSSE JSON object.

    Raises:
        StrictJsonError: It is malformed, or has not exactly one signature.
    """
    return _envelope_of(Fields(value, path="envelope", known=_ENVELOPE, closed=True))


def _envelope_of(envelope: Fields) -> DsseEnvelope:
    payload_type = envelope.text("payloadType")
    if not payload_type:
        envelope.fail("payloadType", "empty")
    signatures = envelope.children("signatures", _SIGNATURE, limit=MAX_ENTRIES)
    if len(signatures) != 1:
        envelope.fail("signatures", f"{len(signatures)} signatures; not 1")
    return DsseEnvelope(
        payload=envelope.octets("payload"),
        payload_type=payload_type,
        signature=_signature_of(signatures[0], "sig"),
        keyid=signatures[0].text("keyid"),
    )


def _signature_of(fields: Fields, name: str) -> bytes:
    signature = fields.octets(name)
    if not signature:
        fields.fail(name, "empty")
    return signature


def _digest_of(message: Fields) -> Digest | None:
    fields = message.child("messageDigest", _DIGEST)
    if fields is None:
        return None
    algorithm = fields.enumerated("algorithm", _ALGORITHMS, default=None)
    if algorithm is None:
        fields.fail("algorithm", "missing")
    value = fields.octets("digest")
    if len(value) != algorithm.size:
        fields.fail("digest", f"{len(value)} bytes; {algorithm.value} has {algorithm.size}")
    return Digest(algorithm, value)


def _check_keyid(content: MessageSignature | DsseEnvelope, key_hint: str | None) -> None:
    """Refuse an envelope and a bundle that name two different managed keys."""
    if not key_hint or isinstance(content, MessageSignature) or not content.keyid:
        return
    if content.keyid != key_hint:
        raise VerificationError(
            "bundle-material", "the envelope names another key than the bundle does"
        )


def _message_json(content: MessageSignature) -> JsonObject:
    value: JsonObject = {}
    if content.digest is not None:
        value["messageDigest"] = {
            "algorithm": content.digest.algorithm.proto,
            "digest": encode_base64(content.digest.value),
        }
    value["signature"] = encode_base64(content.signature)
    return value


def _envelope_json(content: DsseEnvelope) -> JsonObject:
    signature: JsonObject = {"sig": encode_base64(content.signature)}
    if content.keyid:
        signature["keyid"] = content.keyid
    return {
        "payload": encode_base64(content.payload),
        "payloadType": content.payload_type,
        "signatures": [signature],
    }

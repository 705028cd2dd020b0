"""The entry kinds of Rekor v1: from a proposal to the body that is logged. No log, no HTTP.

``hashedrekord 0.0.1``, ``dsse 0.0.1`` and the old ``intoto 0.0.2``. Signatures are verified, keys
are not asked whose they are. Members that a kind does not have are ignored, as by the real server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from keylessd.core.canonical import canonical_json
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.dsse import pae
from keylessd.core.keys import (
    BadSignatureError,
    PublicKey,
    load_public_key,
    signing_hash,
    supported_key,
    verify_digest,
    verify_message,
)
from keylessd.core.strict_json import (
    JsonObject,
    JsonValue,
    StrictJsonError,
    decode_base64,
    encode_base64,
    loads,
)
from keylessd.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = "0.0.1"
INTOTO_VERSION = "0.0.2"
ENVELOPE_MAX = 16 << 20  # bytes
SIGNATURES_MAX = 16
STATEMENT_TYPE = "application/vnd.in-toto+json"
_SUBJECTS_MAX = 1024  # indexed of one statement


class InvalidEntryError(Exception):
    """The proposal is malformed, or its signature does not verify."""


class UnknownKindError(Exception):
    """No such kind of entry."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An entry that may be logged.

    Attributes:
        body: Its canonical form, which becomes the leaf.
        terms: What the search index knows it by: digests (``"sha256:..."``), the SHA-256 of
            the key's PEM in hex, and e-mail addresses and URIs of the certificate.
    """

    body: bytes
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Verifier:
    """A key, as a proposal brings it.

    Attributes:
        key: The key itself.
        pem: The certificate or key in PEM, as every library writes it.
        names: Subject alternative names.
    """

    key: PublicKey
    pem: bytes
    names: tuple[str, ...]


def parse_proposal(value: JsonValue) -> Proposal:
    """Return the entry that a ProposedEntry describes, its signatures verified.

    Raises:
        UnknownKindError: Not a kind of this log.
        InvalidEntryError: Malformed, or a signature does not verify.
    """
    if not isinstance(value, dict):
        raise InvalidEntryError("the entry is not an object")
    kind = value.get("kind")
    wanted, read = _KINDS.get(kind, (None, None)) if isinstance(kind, str) else (None, None)
    if read is None:
        raise UnknownKindError(f"unsupported entry kind {str(kind)[:100]!r}")
    version = value.get("apiVersion")
    if version != wanted:
        raise InvalidEntryError(f"entry kind {kind!r} has no version {str(version)[:100]!r}")
    return read(_object(value, "spec"))


# --- hashedrekord --------------------------------------------------------------------------


def _hashedrekord(spec: JsonObject) -> Proposal:
    signature = _object(spec, "signature")
    content = _octets(signature, "content")
    verifier = _verifier(_octets(_object(signature, "publicKey"), "content"))
    hashed = _object(_object(spec, "data"), "hash")
    digest = _digest(_text(hashed, "algorithm"), _text(hashed, "value"))
    try:
        verify_digest(verifier.key, content, digest)
    except BadSignatureError as exc:
        raise InvalidEntryError("verifying signature: invalid signature") from exc
    body = _body(
        ("hashedrekord", VERSION),
        {
            "data": {"hash": {"algorithm": digest.algorithm.value, "value": digest.hex}},
            "signature": {
                "content": encode_base64(content),
                "publicKey": {"content": encode_base64(verifier.pem)},
            },
        },
    )
    key_hash = hashlib.sha256(verifier.pem).hexdigest()
    return Proposal(body, _unique(str(digest), key_hash, *verifier.names))


def _digest(algorithm: str, value: str) -> Digest:
    try:
        digest = Digest(HashAlgorithm(algorithm), bytes.fromhex(value))
    except ValueError as exc:
        raise InvalidEntryError("invalid value for hash") from exc
    if digest.hex != value.lower():
        raise InvalidEntryError("invalid value for hash")  # fromhex() skips white space
    return digest


# --- dsse ----------------------------------------------------------------------------------


def _dsse(spec: JsonObject) -> Proposal:
    proposed = _object(spec, "proposedContent")
    text = _text(proposed, "envelope").encode()
    verifiers = [_verifier(_decode(item, "verifiers")) for item in _list(proposed, "verifiers")]
    try:
        envelope = loads(text, max_bytes=ENVELOPE_MAX)
    except StrictJsonError as exc:
        raise InvalidEntryError(f"the envelope is not JSON: {exc}") from exc
    if not isinstance(envelope, dict):
        raise InvalidEntryError("the envelope is not an object")
    payload = _octets(envelope, "payload", empty=True)
    signatures = _list(envelope, "signatures")
    signed = pae(_text(envelope, "payloadType"), payload)
    matched = dict(_match(signatures, verifiers, signed))
    if {verifier.pem for verifier in matched.values()} != {item.pem for item in verifiers}:
        raise InvalidEntryError("could not verify envelope: a key has signed nothing in it")
    envelope_hash = hashlib.sha256(text).hexdigest()
    payload_hash = hashlib.sha256(payload).hexdigest()
    body = _body(
        ("dsse", VERSION),
        {
            "envelopeHash": {"algorithm": "sha256", "value": envelope_hash},
            "payloadHash": {"algorithm": "sha256", "value": payload_hash},
            "signatures": [
                {"signature": signature, "verifier": encode_base64(matched[signature].pem)}
                for signature in sorted(matched)
            ],
        },
    )
    terms = [f"sha256:{payload_hash}", f"sha256:{envelope_hash}"]
    for verifier in matched.values():
        terms += [hashlib.sha256(verifier.pem).hexdigest(), *verifier.names]
    if envelope.get("payloadType") == STATEMENT_TYPE:
        terms += _subjects(payload)
    return Proposal(body, _unique(*terms))


def _match(
    signatures: list[JsonValue], verifiers: list[_Verifier], signed: bytes
) -> Iterator[tuple[str, _Verifier]]:
    """Yield every signature, in base64, with the verifier that made it."""
    # The real server hashes with SHA-256, whatever the curve.
    digest = digest_of(HashAlgorithm.SHA256, signed)
    for item in signatures:
        if not isinstance(item, dict):
            raise InvalidEntryError("a signature is not an object")
        raw = _octets(item, "sig")
        for verifier in verifiers:
            if _made_by(verifier.key, raw, signed, digest):
                yield encode_base64(raw), verifier
                break
        else:
            raise InvalidEntryError("all signatures must have a key that verifies it")


def _made_by(key: PublicKey, signature: bytes, signed: bytes, digest: Digest) -> bool:
    try:
        if signing_hash(key) is None:
            verify_message(key, signature, signed)
        else:
            verify_digest(key, signature, digest)
    except BadSignatureError:
        return False
    return True


def _subjects(payload: bytes) -> list[str]:
    """Return the digests of a statement's subjects; none if it is not one."""
    try:
        statement = loads(payload, max_bytes=ENVELOPE_MAX)
    except StrictJsonError:
        return []
    subjects = statement.get("subject") if isinstance(statement, dict) else None
    terms: list[str] = []
    for subject in subjects[:_SUBJECTS_MAX] if isinstance(subjects, list) else []:
        digests = subject.get("digest") if isinstance(subject, dict) else None
        if isinstance(digests, dict):
            terms += [f"{name}:{value}".lower() for name, value in digests.items()]
    return terms


# --- intoto --------------------------------------------------------------------------------


def _intoto(spec: JsonObject) -> Proposal:
    """Read the kind that preceded dsse: keys beside their signatures, base64 within base64."""
    content = _object(spec, "content")
    envelope = _object(content, "envelope")
    payload_type = _text(envelope, "payloadType")
    payload = _twice(envelope, "payload")
    signed = pae(payload_type, payload)
    digest = digest_of(HashAlgorithm.SHA256, signed)
    hashed = _object(content, "hash")
    # The real server takes the proposer's word for the envelope's hash, and keys as they come.
    claimed = _digest(_text(hashed, "algorithm"), _text(hashed, "value"))
    signatures: list[JsonValue] = []
    names: list[str] = []
    for item in _list(envelope, "signatures"):
        if not isinstance(item, dict):
            raise InvalidEntryError("a signature is not an object")
        pem = _octets(item, "publicKey")
        verifier = _verifier(pem)
        if not _made_by(verifier.key, _twice(item, "sig"), signed, digest):
            raise InvalidEntryError("could not verify envelope: a signature is not its key's")
        kept: JsonObject = {"publicKey": encode_base64(pem), "sig": _text(item, "sig")}
        if keyid := item.get("keyid"):
            kept["keyid"] = keyid
        signatures.append(kept)
        names += [hashlib.sha256(verifier.pem).hexdigest(), *verifier.names]
    payload_hash = hashlib.sha256(payload).hexdigest()
    body = _body(
        ("intoto", INTOTO_VERSION),
        {
            "content": {
                "envelope": {"payloadType": payload_type, "signatures": signatures},
                "hash": {"algorithm": claimed.algorithm.value, "value": claimed.hex},
                "payloadHash": {"algorithm": "sha256", "value": payload_hash},
            }
        },
    )
    terms = [f"sha256:{payload_hash}", *names]
    if payload_type == STATEMENT_TYPE:
        terms += _subjects(payload)
    return Proposal(body, _unique(*terms))


def _twice(members: JsonObject, name: str) -> bytes:
    """Return what stands in base64 within base64."""
    try:
        return _decode(_octets(members, name).decode("ascii"), name)
    except UnicodeDecodeError as exc:
        raise InvalidEntryError(f"{name} is not base64 within base64") from exc


# --- shared --------------------------------------------------------------------------------


_KINDS: dict[str, tuple[str, Callable[[JsonObject], Proposal]]] = {
    "hashedrekord": (VERSION, _hashedrekord),
    "dsse": (VERSION, _dsse),
    "intoto": (INTOTO_VERSION, _intoto),
}


def normalize_verifier(raw: bytes) -> bytes:
    """Return a certificate or public key (PEM) in the form in which entries hold it.

    Raises:
        InvalidEntryError: It is neither.
    """
    return _verifier(raw).pem


def _verifier(raw: bytes) -> _Verifier:
    if not raw.lstrip().startswith(b"-----BEGIN"):
        raise InvalidEntryError("the public key is not PEM")
    try:
        if b"BEGIN CERTIFICATE" in raw:
            certificates = x509.load_pem_x509_certificates(raw)
            key = supported_key(certificates[0].public_key())
            encoding = serialization.Encoding.PEM
            pem = b"".join(certificate.public_bytes(encoding) for certificate in certificates)
            return _Verifier(key, pem, _names(certificates[0]))
        key = load_public_key(raw)
    except (InvalidInputError, ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as exc:
        raise InvalidEntryError(f"the public key cannot be used: {exc}") from exc
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return _Verifier(key, pem, ())


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        ValueError,
    ):
        return ()
    names = extension.value
    return (
        *names.get_values_for_type(x509.RFC822Name),
        *names.get_values_for_type(x509.UniformResourceIdentifier),
    )


def _body(kind: tuple[str, str], spec: JsonObject) -> bytes:
    return canonical_json({"apiVersion": kind[1], "kind": kind[0], "spec": spec})


def _unique(*terms: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(terms))


def _object(members: JsonObject, name: str) -> JsonObject:
    value = members.get(name)
    if not isinstance(value, dict):
        raise InvalidEntryError(f"missing {name}")
    return value


def _list(members: JsonObject, name: str) -> list[JsonValue]:
    value = members.get(name)
    if not isinstance(value, list) or not 0 < len(value) <= SIGNATURES_MAX:
        raise InvalidEntryError(f"{name} must have 1 to {SIGNATURES_MAX} items")
    return value


def _text(members: JsonObject, name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise InvalidEntryError(f"missing {name}")
    return value


def _octets(members: JsonObject, name: str, *, empty: bool = False) -> bytes:
    octets = _decode(members.get(name), name)
    if not octets and not empty:
        raise InvalidEntryError(f"missing {name}")
    return octets


def _decode(value: JsonValue, name: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidEntryError(f"missing {name}")
    try:
        return decode_base64(value)
    except StrictJsonError as exc:
        raise InvalidEntryError(f"failed parsing base64 data for {name}: {exc}") from exc

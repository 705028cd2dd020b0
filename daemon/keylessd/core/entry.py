"""What a log entry's body says, held against the bundle (and the promise over it).

Does not know the log: inclusion, checkpoints and which log it is are others' business.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NoReturn

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from keylessd.core.bundle import DsseEnvelope, MessageSignature, TlogEntry
from keylessd.core.canonical import MAX_INTEGER
from keylessd.core.certificate import key_of, read_certificate, read_pem_certificate
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.keys import (
    BadSignatureError,
    PublicKey,
    key_details,
    load_public_key,
    spki,
)
from keylessd.core.log_signature import verify_log_signature
from keylessd.core.strict_json import (
    Fields,
    StrictJsonError,
    decode_base64,
    encode_base64,
    loads,
)
from keylessd.errors import InvalidInputError, VerificationError

MAX_BODY_BYTES = 16 << 20  # bytes; a body of Rekor v1 may carry a payload

_PEM_LINE = re.compile(r".{1,64}")
_HASHEDREKORD_V1 = ("hashedrekord", "0.0.1")
_HASHEDREKORD_V2 = ("hashedrekord", "0.0.2")
_DSSE_V1 = ("dsse", "0.0.1")
_INTOTO_V1 = ("intoto", "0.0.2")
_GENERATIONS = {_HASHEDREKORD_V1: 1, _DSSE_V1: 1, _INTOTO_V1: 1, _HASHEDREKORD_V2: 2}
_MESSAGE_KINDS = frozenset({_HASHEDREKORD_V1, _HASHEDREKORD_V2})
_ANY: frozenset[str] = frozenset()  # bodies may have keys that are not looked at
_ENVELOPE_KINDS = frozenset({_DSSE_V1, _INTOTO_V1, _HASHEDREKORD_V2})


@dataclass(frozen=True, slots=True)
class _Signer:
    """Who signed: DER of a certificate, or of a managed key's SubjectPublicKeyInfo."""

    der: bytes
    is_certificate: bool


def log_generation(kind: str, version: str) -> int:
    """Return which Rekor, 1 or 2, has entries of this kind and version.

    Raises:
        VerificationError: ``check="entry-kind"`` if none that is supported has.
    """
    generation = _GENERATIONS.get((kind, version))
    if generation is None:
        raise VerificationError(
            "entry-kind", f"unsupported log entry {kind[:100]!r} {version[:100]!r}"
        )
    return generation


def check_entry(
    entry: TlogEntry,
    *,
    content: MessageSignature | DsseEnvelope,
    verifier: bytes,
    is_certificate: bool,
    digest: Digest | None,
) -> None:
    """Check that the entry is about this signature, by this signer, over this content.

    Args:
        entry: Its body is the leaf whose inclusion is proven elsewhere.
        content: The bundle's signature or envelope.
        verifier: DER of the leaf certificate, or of the managed key's SubjectPublicKeyInfo.
        is_certificate: Which of the two *verifier* is.
        digest: What was signed, from `keylessd.core.artifact.verify_content`: the artifact's
            digest, or that of an envelope's pre-authentication encoding, in the hash that was
            signed with; None if the key signs messages themselves (Ed25519).

    Raises:
        VerificationError: ``check="entry-kind"`` if the kind is not supported, is not the
            body's, or not one for such content; ``"entry-body"`` if the body is malformed or
            says more than it should; ``"entry-signature"``, ``"entry-verifier"`` or
            ``"entry-digest"`` if that part is not the bundle's.
    """
    signer = _Signer(verifier, is_certificate)
    claimed = (entry.kind, entry.version)
    kinds = _MESSAGE_KINDS if isinstance(content, MessageSignature) else _ENVELOPE_KINDS
    if claimed not in kinds:
        raise VerificationError(
            "entry-kind", f"a {entry.kind} {entry.version} entry cannot log such a bundle"
        )
    if entry.body == _rebuilt(claimed, content, signer, digest):
        _check_readable(signer)
        return
    try:
        body = Fields(loads(entry.body, max_bytes=MAX_BODY_BYTES), path="body", known=_ANY)
        actual = (body.text("kind"), body.text("apiVersion"))
        if actual != claimed:
            raise VerificationError(
                "entry-kind",
                "the entry's body is of another kind than the bundle says",
                found=" ".join(actual)[:200],
                wanted=" ".join(claimed),
            )
        spec = _child(body, "spec")
        if claimed == _HASHEDREKORD_V2:
            _explain_hashedrekord_v2(spec, content, signer, digest)
        elif isinstance(content, MessageSignature):
            _check_hashedrekord_v1(spec, content, signer, digest)
        elif claimed == _DSSE_V1:
            _check_dsse(spec, content, signer)
        else:
            _check_intoto(spec, content, signer)
    except StrictJsonError as exc:
        raise VerificationError("entry-body", f"the entry is malformed: {exc}") from exc


def hashedrekord_v2_body(
    digest: Digest, signature: bytes, *, verifier: bytes, is_certificate: bool, details: str
) -> bytes:
    """Return the leaf that Rekor v2 stores for a signature, to the byte.

    Args:
        digest: Of the artifact, or of an envelope's pre-authentication encoding.
        signature: Raw.
        verifier: DER of a certificate or of a SubjectPublicKeyInfo.
        is_certificate: Which of the two *verifier* is.
        details: Name of key and hash in Sigstore's registry.
    """
    signer = "x509Certificate" if is_certificate else "publicKey"
    # Canonical JSON (RFC 8785): the keys are in order, and no value needs an escape.
    return (
        '{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":'
        f'{{"algorithm":"{digest.algorithm.proto}","digest":"{encode_base64(digest.value)}"}},'
        f'"signature":{{"content":"{encode_base64(signature)}","verifier":{{"keyDetails":"{details}",'
        f'"{signer}":{{"rawBytes":"{encode_base64(verifier)}"}}}}}}}}}}}}'
    ).encode("ascii")


def set_payload(entry: TlogEntry) -> bytes:
    """Return the bytes that the entry's promise (signed entry timestamp) is a signature over.

    Raises:
        VerificationError: ``check="inclusion-promise"`` if the entry has no time, or its
            numbers are beyond what the form can say.
    """
    if entry.integrated_time is None:
        raise VerificationError("inclusion-promise", "the entry has no integrated time")
    if max(entry.integrated_time, entry.log_index) > MAX_INTEGER:
        raise VerificationError("inclusion-promise", "index or time is out of range")
    # Canonical JSON (RFC 8785): the keys are in order, and no value needs an escape.
    return (
        f'{{"body":"{encode_base64(entry.body)}","integratedTime":{entry.integrated_time},'
        f'"logID":"{entry.log_id.hex()}","logIndex":{entry.log_index}}}'
    ).encode("ascii")


def verify_set(entry: TlogEntry, key: PublicKey) -> None:
    """Verify the entry's promise, which makes its integrated time authentic.

    Args:
        entry: With a promise.
        key: The log's.

    Raises:
        VerificationError: ``check="inclusion-promise"`` if there is none, or it is wrong.
    """
    if entry.promise is None:
        raise VerificationError("inclusion-promise", "the entry has no inclusion promise")
    try:
        verify_log_signature(key, entry.promise, set_payload(entry))
    except BadSignatureError as exc:
        raise VerificationError(
            "inclusion-promise", "the log's signature on the inclusion promise is wrong"
        ) from exc


def _check_hashedrekord_v1(
    spec: Fields,
    content: MessageSignature,
    signer: _Signer,
    digest: Digest | None,
) -> None:
    signature = _child(spec, "signature")
    _match("signature", signature.octets("content"), content.signature)
    _match_pem(_child(signature, "publicKey").octets("content"), signer)
    if digest is None:
        raise VerificationError("entry-digest", "the artifact's digest is not known")
    _match_hash(_child(_child(spec, "data"), "hash"), digest)


def _rebuilt(
    kind: tuple[str, str],
    content: MessageSignature | DsseEnvelope,
    signer: _Signer,
    digest: Digest | None,
) -> bytes | None:
    """Return what the log stores for this signature, None if that is not known to the byte.

    The specification of Rekor v2 lets the whole leaf be rebuilt, which leaves no room for a field
    that means something to another reader. What Rekor v1 writes of its own for a digest is known
    likewise, but others may have written theirs in another way.
    """
    if digest is None:
        return None
    if kind == _HASHEDREKORD_V1:
        return _hashedrekord_v1_body(digest, content.signature, signer)
    if kind != _HASHEDREKORD_V2:
        return None
    return hashedrekord_v2_body(
        digest,
        content.signature,
        verifier=signer.der,
        is_certificate=signer.is_certificate,
        details=_details_of(_key_of(signer), digest.algorithm),
    )


def _hashedrekord_v1_body(digest: Digest, signature: bytes, signer: _Signer) -> bytes:
    pem = _pem("CERTIFICATE" if signer.is_certificate else "PUBLIC KEY", signer.der)
    return (
        '{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":'
        f'{{"algorithm":"{digest.algorithm.value}","value":"{digest.hex}"}}}},"signature":'
        f'{{"content":"{encode_base64(signature)}","publicKey":'
        f'{{"content":"{encode_base64(pem)}"}}}}}}}}'
    ).encode("ascii")


def _pem(label: str, der: bytes) -> bytes:
    lines = "\n".join(_PEM_LINE.findall(encode_base64(der)))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode("ascii")


def _explain_hashedrekord_v2(
    spec: Fields,
    content: MessageSignature | DsseEnvelope,
    signer: _Signer,
    digest: Digest | None,
) -> NoReturn:
    """Refuse a body that is not the rebuilt one, by the part that differs."""
    record = _child(spec, "hashedRekordV002")
    signature = _child(record, "signature")
    _match("signature", signature.octets("content"), content.signature)
    logged = _child(signature, "verifier")
    raw = _child(logged, "x509Certificate" if signer.is_certificate else "publicKey")
    _match("verifier", raw.octets("rawBytes"), signer.der)
    if digest is None:
        raise VerificationError("entry-digest", "such a log has no signatures without a digest")
    details = _details_of(_key_of(signer), digest.algorithm)
    if logged.text("keyDetails") != details:
        raise VerificationError(
            "entry-verifier",
            "the entry has another kind of key or hash",
            found=logged.text("keyDetails")[:100],
            wanted=details,
        )
    data = _child(record, "data")
    if data.text("algorithm") != digest.algorithm.proto:
        raise VerificationError("entry-digest", "the entry's digest is of another algorithm")
    _match("digest", data.octets("digest"), digest.value)
    raise VerificationError("entry-body", "the entry says more than the bundle does")


def _check_dsse(spec: Fields, content: DsseEnvelope, signer: _Signer) -> None:
    signature = _only_signature(spec)
    _match("signature", signature.octets("signature"), content.signature)
    _match_pem(signature.octets("verifier"), signer)
    # The envelope's own hash is not checked: it is over the JSON as it was sent to the log,
    # which the bundle does not keep.
    _match_hash(_child(spec, "payloadHash"), digest_of(HashAlgorithm.SHA256, content.payload))


def _check_intoto(spec: Fields, content: DsseEnvelope, signer: _Signer) -> None:
    record = _child(spec, "content")
    envelope = _child(record, "envelope")
    signature = _only_signature(envelope)
    try:
        # This kind has base64 inside base64.
        logged = decode_base64(signature.octets("sig").decode("ascii"))
    except (StrictJsonError, UnicodeDecodeError) as exc:
        raise VerificationError("entry-signature", "not base64 within base64") from exc
    _match("signature", logged, content.signature)
    _match_pem(signature.octets("publicKey"), signer)
    if envelope.text("payloadType") != content.payload_type:
        raise VerificationError("entry-body", "the entry has another payload type")
    _match_hash(_child(record, "payloadHash"), digest_of(HashAlgorithm.SHA256, content.payload))


def _child(fields: Fields, name: str) -> Fields:
    child = fields.child(name, _ANY)
    if child is None:
        fields.fail(name, "missing")
    return child


def _only_signature(fields: Fields) -> Fields:
    signatures = fields.children("signatures", _ANY, limit=1)
    if not signatures:
        fields.fail("signatures", "empty")
    return signatures[0]


def _match(part: str, found: bytes, wanted: bytes) -> None:
    if found != wanted:
        raise VerificationError(
            f"entry-{part}",
            f"the logged {part} is not the bundle's",
            found=f"sha256:{hashlib.sha256(found).hexdigest()}",
            wanted=f"sha256:{hashlib.sha256(wanted).hexdigest()}",
        )


def _match_hash(fields: Fields, digest: Digest) -> None:
    """Compare a hash of Rekor v1, which is a name and lower-case hexadecimal digits."""
    found = f"{fields.text('algorithm')}:{fields.text('value')}"
    if found != str(digest):
        raise VerificationError(
            "entry-digest",
            "the logged digest is not that of the content",
            found=found[:200],
            wanted=str(digest),
        )


def _match_pem(pem: bytes, signer: _Signer) -> None:
    """Compare by DER: the log writes PEM anew, with its own line breaks."""
    wanted = signer.der
    try:
        if signer.is_certificate:
            found = read_pem_certificate(pem).public_bytes(serialization.Encoding.DER)
        else:
            found = spki(load_public_key(pem))
            wanted = spki(load_public_key(wanted))
    except (ValueError, InvalidInputError) as exc:
        raise VerificationError(
            "entry-verifier", "the logged verifier is not PEM of the bundle's kind of signer"
        ) from exc
    _match("verifier", found, wanted)


def _check_readable(signer: _Signer) -> None:
    """Check what reading a body would have: that it names a certificate, or a key."""
    try:
        if signer.is_certificate:
            read_certificate(signer.der)
        else:
            load_public_key(signer.der)
    except (ValueError, InvalidInputError) as exc:
        raise VerificationError("entry-verifier", "the signer cannot be read") from exc


def _key_of(signer: _Signer) -> PublicKey:
    try:
        if signer.is_certificate:
            return key_of(read_certificate(signer.der))
        return load_public_key(signer.der)
    except (ValueError, VerificationError, InvalidInputError) as exc:
        raise VerificationError("entry-verifier", "the signer's key is not supported") from exc


def _details_of(key: PublicKey, algorithm: HashAlgorithm) -> str:
    """Return the registry's name of the key together with the hash it signed."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        bits = {"secp256r1": 256, "secp384r1": 384, "secp521r1": 521}[key.curve.name]
        return f"PKIX_ECDSA_P{bits}_SHA_{algorithm.value.removeprefix('sha')}"
    if isinstance(key, rsa.RSAPublicKey):
        try:
            return key_details(key)
        except InvalidInputError as exc:
            raise VerificationError("entry-verifier", exc.message) from exc
    return "PKIX_ED25519_PH"

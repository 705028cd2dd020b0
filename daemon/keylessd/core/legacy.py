"""What signers wrote before there were bundles, read into the bundle that says the same.

Two forms: a JSON file with the signature, the certificate or key, and the log's promise; and a
signature and a certificate in files of their own. Checks the form only; core.verify proves the
content, with the same steps as for any bundle.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from keylessd.core.bundle import (
    MAX_BUNDLE_BYTES,
    MAX_CERTIFICATES,
    MAX_DEPTH,
    Bundle,
    BundleVersion,
    DsseEnvelope,
    MessageSignature,
    TlogEntry,
    parse_bundle,
    parse_envelope,
)
from keylessd.core.certificate import MAX_CERTIFICATE_BYTES, check_outline, read_certificate
from keylessd.core.strict_json import Fields, JsonValue, StrictJsonError, decode_base64, loads
from keylessd.errors import InvalidInputError, VerificationError

_BUNDLE = frozenset({"base64Signature", "cert", "rekorBundle"})
_REKOR = frozenset({"SignedEntryTimestamp", "Payload"})
_PAYLOAD = frozenset({"body", "integratedTime", "logIndex", "logID"})
_TIMESTAMP = frozenset({"SignedRFC3161Timestamp"})
_BODY = frozenset({"kind", "apiVersion", "spec"})

_LOG_ID = re.compile(r"[0-9a-f]{64}")
_BEGIN = b"-----BEGIN "
_DASHES = b"-----"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Detached:
    """What the caller holds in files of their own, as they are; None for what there is not.

    Attributes:
        signature: Base64 text or raw bytes; or a DSSE envelope, likewise.
        certificate: The signer's, in PEM, in base64 of that, or in DER.
        chain: Certificates of authorities in PEM. Read, and never trusted: the trust root says
            who is an authority.
        timestamp: RFC 3161 response: DER, base64 of that, or a JSON object that holds it.
    """

    signature: bytes | None = None
    certificate: bytes | None = None
    chain: bytes | None = None
    timestamp: bytes | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held so."""
        return self == NOTHING_DETACHED


NOTHING_DETACHED = Detached()


def read_bundle(raw: bytes | None, detached: Detached) -> Bundle:
    """Return the bundle in *raw*, in any form; or the one that the detached parts make up.

    Args:
        raw: A Sigstore bundle, or cosign's JSON of old, or None. To the latter, detached parts
            add what it lacks; what both have must be the same.
        detached: Parts that stand alone.

    Raises:
        VerificationError: ``bundle-...`` or ``certificate-format`` if a part is malformed, or
            two of them contradict each other.
        InvalidInputError: There is no signature at all, or parts beside a bundle that has its
            own.
    """
    if raw is None:
        return _from_parts(None, detached)
    if is_legacy(raw):
        return _from_parts(_parse_legacy(raw), detached)
    if not detached.is_empty:
        raise InvalidInputError(
            "a Sigstore bundle has its own signature, certificate and timestamps",
            hint="leave the other files out",
        )
    return parse_bundle(raw)


def is_legacy(raw: bytes) -> bool:
    """Return whether *raw* is to be read as cosign's JSON of old. Decides which reader, no more."""
    return b'"base64Signature"' in raw and b'"mediaType"' not in raw


# --- the old JSON --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Old:
    """The old JSON, read."""

    content: MessageSignature | DsseEnvelope | None
    certificates: tuple[bytes, ...]
    entry: TlogEntry | None


def _parse_legacy(raw: bytes) -> _Old:
    part = "bundle-json"
    try:
        value = loads(raw, max_bytes=MAX_BUNDLE_BYTES, max_depth=MAX_DEPTH)
        fields = Fields(value, path="bundle", known=_BUNDLE, closed=True)
        part = "bundle-content"
        signature = fields.octets("base64Signature")
        content = _content_of(signature) if signature else None
        part = "bundle-material"
        held = fields.octets("cert")
        # A key's place is the same field. It is not taken from here: the caller says which key.
        certificates = () if not held or _is_public_key(held) else _chain_of(held)
        part = "bundle-entry"
        rekor = fields.child("rekorBundle", _REKOR)
        entry = None if rekor is None else _entry_of(rekor)
    except StrictJsonError as exc:
        raise VerificationError(part, f"the bundle cannot be read: {exc}") from exc
    return _Old(content, certificates, entry)


def _entry_of(rekor: Fields) -> TlogEntry:
    """Read the log's answer, which holds a promise and no proof."""
    promise = rekor.octets("SignedEntryTimestamp")
    if not promise:
        rekor.fail("SignedEntryTimestamp", "missing")
    payload = rekor.child("Payload", _PAYLOAD)
    if payload is None:
        rekor.fail("Payload", "missing")
    body = payload.octets("body")
    if not body:
        payload.fail("body", "missing")
    log_id = payload.text("logID")
    if _LOG_ID.fullmatch(log_id) is None:
        payload.fail("logID", "not 64 small hexadecimal digits")
    integrated_time = payload.int64("integratedTime")
    if integrated_time == 0:
        payload.fail("integratedTime", "missing")
    # The form does not say of which kind the entry is; its body does.
    kind = Fields(loads(body, max_bytes=MAX_BUNDLE_BYTES), path="body", known=_BODY)
    return TlogEntry(
        log_index=payload.int64("logIndex"),
        log_id=bytes.fromhex(log_id),
        kind=kind.text("kind"),
        version=kind.text("apiVersion"),
        integrated_time=integrated_time,
        promise=promise,
        proof=None,
        body=body,
    )


# --- parts ---------------------------------------------------------------------------------


def _from_parts(old: _Old | None, detached: Detached) -> Bundle:
    content = None if old is None else old.content
    if detached.signature is not None:
        content = _same("signature", content, _read_signature(detached.signature))
    if content is None:
        raise InvalidInputError(
            "there is no signature to verify",
            hint="name its file with --signature, or a bundle that has one with --bundle",
        )
    certificates = () if old is None else old.certificates
    if detached.certificate is not None:
        given = _read_certificates(detached.certificate, "the certificate")
        leaf = _same("certificate", certificates[0] if certificates else None, given[0])
        certificates = (leaf, *(certificates[1:] or given[1:]))
    if detached.chain is not None:
        chain = _read_certificates(detached.chain, "the certificate chain")
        certificates = (*certificates, *chain) if certificates else ()
    return Bundle(
        version=BundleVersion.DETACHED if old is None else BundleVersion.COSIGN,
        certificates=_without_roots(certificates),
        key_hint=None if certificates else "",
        entries=() if old is None or old.entry is None else (old.entry,),
        timestamps=() if detached.timestamp is None else (_read_timestamp(detached.timestamp),),
        content=content,
    )


def _same(what: str, held: T | None, given: T) -> T:
    """Return *given*, which must be what the bundle holds if it holds any."""
    if held is not None and held != given:
        raise VerificationError(
            "bundle-content" if what == "signature" else "bundle-material",
            f"the {what} that was given is not the one in the bundle",
        )
    return given


def _read_signature(raw: bytes) -> MessageSignature | DsseEnvelope:
    if len(raw) > MAX_BUNDLE_BYTES:
        raise VerificationError(
            "bundle-content", f"signature of {len(raw)} bytes; the limit is {MAX_BUNDLE_BYTES}"
        )
    if not raw.strip():
        raise VerificationError("bundle-content", "the signature is empty")
    return _content_of(_unwrapped(raw) or raw)


def _content_of(signature: bytes) -> MessageSignature | DsseEnvelope:
    """Return what was signed: an envelope if the signature's place holds one."""
    if not signature.lstrip().startswith(b"{"):
        return MessageSignature(signature, None)
    try:
        value = loads(signature, max_bytes=MAX_BUNDLE_BYTES, max_depth=MAX_DEPTH)
    except StrictJsonError:
        # A signature is any bytes.
        return MessageSignature(signature, None)
    try:
        return parse_envelope(value)
    except StrictJsonError as exc:
        raise VerificationError("bundle-content", str(exc)) from exc


def _read_certificates(raw: bytes, what: str) -> tuple[bytes, ...]:
    try:
        return _chain_of(raw)
    except StrictJsonError as exc:
        raise VerificationError("certificate-format", f"{what} cannot be read: {exc}") from exc


def _chain_of(raw: bytes) -> tuple[bytes, ...]:
    """Return the certificates in *raw* as DER, in their order; at least one."""
    if len(raw) > MAX_CERTIFICATES * MAX_CERTIFICATE_BYTES:
        raise StrictJsonError(f"{len(raw)} bytes of certificates")
    if _BEGIN not in raw:
        raw = _unwrapped(raw) or raw
    if _BEGIN not in raw:
        return (raw,)
    blocks = _pem_blocks(raw)
    if len(blocks) > MAX_CERTIFICATES:
        raise StrictJsonError(f"{len(blocks)} certificates; the limit is {MAX_CERTIFICATES}")
    if any(label != b"CERTIFICATE" for label, _ in blocks):
        raise StrictJsonError("PEM of something that is no certificate")
    return tuple(decode_base64(text.decode("ascii", "replace")) for _, text in blocks)


def _is_public_key(raw: bytes) -> bool:
    """Return whether the PEM in *raw* says that it is a public key."""
    return _BEGIN in raw and _pem_blocks(raw)[0][0] == b"PUBLIC KEY"


def _pem_blocks(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Return label and base64 of each block (RFC 7468), white space taken out."""
    blocks = []
    for block in raw.split(_BEGIN)[1:]:
        label, _, rest = block.partition(_DASHES)
        text, end, _ = rest.partition(_DASHES + b"END " + label + _DASHES)
        if not end:
            raise StrictJsonError("not PEM")
        blocks.append((label, b"".join(text.split())))
    return blocks


def _without_roots(certificates: Sequence[bytes]) -> tuple[bytes, ...]:
    """Leave out the roots above the leaf. Unlike a bundle's, such a chain ends with one."""
    return (*certificates[:1], *(der for der in certificates[1:] if not _is_root(der)))


def _is_root(der: bytes) -> bool:
    """Return whether a certificate issued itself; of one that cannot be read, nobody knows.

    Raises:
        VerificationError: ``certificate-format`` if it is none.
    """
    try:
        certificate = read_certificate(der)
    except ValueError:
        check_outline(der)
        return False
    return certificate.subject == certificate.issuer


def _read_timestamp(raw: bytes) -> bytes:
    response: bytes = raw
    if raw.lstrip().startswith(b"{"):
        try:
            value: JsonValue = loads(raw, max_bytes=MAX_BUNDLE_BYTES, max_depth=MAX_DEPTH)
            fields = Fields(value, path="timestamp", known=_TIMESTAMP, closed=True)
            response = fields.octets("SignedRFC3161Timestamp")
        except StrictJsonError as exc:
            raise VerificationError("bundle-timestamp", str(exc)) from exc
    else:
        response = _unwrapped(raw) or raw
    if not response:
        raise VerificationError("bundle-timestamp", "the timestamp is empty")
    return response


def _unwrapped(raw: bytes) -> bytes | None:
    """Return what *raw* is the base64 text of, white space around it aside; None if of nothing."""
    try:
        return decode_base64(raw.strip().decode("ascii")) or None
    except (StrictJsonError, UnicodeDecodeError):
        return None

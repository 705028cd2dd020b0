"""The TrustedRoot: whose keys are trusted and when. Reads and writes JSON; verifies nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keylessd.core.certificate import read_certificate
from keylessd.core.keys import PublicKey, key_in, load_public_key, spki
from keylessd.core.note import note_key_id
from keylessd.core.strict_json import (
    Fields,
    JsonObject,
    StrictJsonError,
    encode_base64,
    format_timestamp,
    loads,
)
from keylessd.errors import InvalidInputError

if TYPE_CHECKING:
    from cryptography import x509

MAX_TRUSTED_ROOT_BYTES = 4 << 20  # bytes; the public one has 7 KiB
MAX_INSTANCES = 256  # of each kind
MAX_CHAIN = 16  # certificates

MEDIA_TYPE_V01 = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
MEDIA_TYPE_V02 = "application/vnd.dev.sigstore.trustedroot.v0.2+json"
_OTHER_V01 = "application/vnd.dev.sigstore.trustedroot.v0.1+json"
_MEDIA_TYPES = frozenset({MEDIA_TYPE_V01, _OTHER_V01, MEDIA_TYPE_V02})
_HINT_BYTES = 4

_LISTS = {"tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities"}
_ROOT = frozenset({"mediaType", *_LISTS})
_LOG = frozenset({"baseUrl", "hashAlgorithm", "publicKey", "logId", "checkpointKeyId", "operator"})
_PUBLIC_KEY = frozenset({"rawBytes", "keyDetails", "validFor"})
_LOG_ID = frozenset({"keyId"})
_TIME_RANGE = frozenset({"start", "end"})
_AUTHORITY = frozenset({"subject", "uri", "certChain", "validFor", "operator"})
_SUBJECT = frozenset({"organization", "commonName"})
_CHAIN = frozenset({"certificates"})
_CERTIFICATE = frozenset({"rawBytes"})

# What the registry's names (PublicKeyDetails) say about the key. Others, RSA-PSS and post-quantum
# ones among them, mean signatures that keys.py cannot verify.
_CURVES = {
    "PKIX_ECDSA_P256_SHA_256": "secp256r1",
    "PKIX_ECDSA_P256_HMAC_SHA_256": "secp256r1",
    "PKIX_ECDSA_P384_SHA_384": "secp384r1",
    "PKIX_ECDSA_P521_SHA_512": "secp521r1",
    "PKIX_ECDSA_P384_SHA_256": "secp384r1",  # what logs do, whatever their curve
    "PKIX_ECDSA_P521_SHA_256": "secp521r1",
}
_RSA_BITS = {
    "PKCS1_RSA_PKCS1V5": None,
    "PKIX_RSA_PKCS1V5": None,
    "PKIX_RSA_PKCS1V15_2048_SHA256": 2048,
    "PKIX_RSA_PKCS1V15_3072_SHA256": 3072,
    "PKIX_RSA_PKCS1V15_4096_SHA256": 4096,
}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A period in which a key or a service is valid; both ends belong to it.

    Attributes:
        start: First instant. None, which the format does not allow, makes the range empty.
        end: Last instant, None if open. One before the start makes the range empty too.
    """

    start: datetime | None
    end: datetime | None

    def contains(self, time: datetime) -> bool:
        """Return whether the aware *time* is in the range, to the microsecond."""
        if self.start is None or time < self.start:
            return False
        return self.end is None or time <= self.end


@dataclass(frozen=True, slots=True)
class TransparencyLog:
    """A Rekor or CT log and its key.

    Attributes:
        base_url: As written in the root; may lack the scheme.
        name: base_url without scheme and trailing slash: the log's name in its checkpoints.
        key: The log's public key.
        key_details: The key's name in Sigstore's registry.
        valid_for: When the key is valid.
        log_id: What entries and SCTs call the log, 32 bytes by the present formats.
        checkpoint_key_id: What checkpoints call the key, 4 or 32 bytes; None if not given.
        operator: Who runs it, ``""`` if the root does not say.
        checkpoint_hint: The 4 bytes before its signatures there; if not given, its log id's.
    """

    base_url: str
    name: str
    key: PublicKey
    key_details: str
    valid_for: TimeRange
    log_id: bytes
    checkpoint_key_id: bytes | None
    operator: str
    checkpoint_hint: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        hint = (self.checkpoint_key_id or self.log_id)[:_HINT_BYTES]
        object.__setattr__(self, "checkpoint_hint", hint)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority or a timestamp authority.

    Attributes:
        uri: Where it is reached, ``""`` if the root does not say.
        organization: Of its subject.
        common_name: Of its subject.
        chain: Its certificates, leaf-most first; the last one is the trust anchor.
        valid_for: When it is trusted.
        operator: Who runs it, ``""`` if the root does not say.
        issuers: The certificates above the first one.
    """

    uri: str
    organization: str
    common_name: str
    chain: tuple[x509.Certificate, ...]
    valid_for: TimeRange
    operator: str
    issuers: tuple[x509.Certificate, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # The same object each time, by which core.chain knows it.
        object.__setattr__(self, "issuers", self.chain[1:])


@dataclass(frozen=True, slots=True)
class TrustedRoot:
    """All that is trusted of one Sigstore instance.

    Attributes:
        tlogs: Rekor logs, of any time.
        ctlogs: Certificate transparency logs.
        certificate_authorities: Fulcio chains.
        timestamp_authorities: TSA chains.
        disabled: A sentence per entry left out, since its kind of key is not supported here.
        sha256: Hex digest of the JSON it was read from.
    """

    tlogs: tuple[TransparencyLog, ...]
    ctlogs: tuple[TransparencyLog, ...]
    certificate_authorities: tuple[Authority, ...]
    timestamp_authorities: tuple[Authority, ...]
    disabled: tuple[str, ...]
    sha256: str


class _UnusableError(Exception):
    """One entry of the root cannot be used; the others can."""


def parse_trusted_root(raw: bytes) -> TrustedRoot:
    """Return the trust root that *raw* is the JSON of.

    An entry with a key of an unknown kind, or an empty period, is left out and named in
    ``disabled``: a new kind must not lock out who cannot use it yet. Expired ones are kept.

    Raises:
        InvalidInputError: It is not a TrustedRoot of version 0.1 or 0.2, or malformed.
    """
    disabled: list[str] = []
    try:
        value = loads(raw, max_bytes=MAX_TRUSTED_ROOT_BYTES)
        fields = Fields(value, path="trustedRoot", known=_ROOT)
        media_type = fields.text("mediaType")
        if media_type not in _MEDIA_TYPES:
            fields.fail("mediaType", f"not that of a trusted root: {media_type[:100]!r}")
        return TrustedRoot(
            tlogs=_logs_of(fields, "tlogs", disabled),
            ctlogs=_logs_of(fields, "ctlogs", disabled),
            certificate_authorities=_authorities_of(fields, "certificateAuthorities", disabled),
            timestamp_authorities=_authorities_of(fields, "timestampAuthorities", disabled),
            disabled=tuple(disabled),
            sha256=hashlib.sha256(raw).hexdigest(),
        )
    except StrictJsonError as exc:
        raise InvalidInputError(f"the trusted root cannot be used: {exc}") from exc


def serialize_trusted_root(root: TrustedRoot) -> bytes:
    """Return the root as JSON: version 0.1 if that can say it, else 0.2.

    Entries that were disabled at reading are lost.
    """
    logs = (*root.tlogs, *root.ctlogs)
    authorities = (*root.certificate_authorities, *root.timestamp_authorities)
    newer = any(log.checkpoint_key_id is not None or log.operator for log in logs) or any(
        authority.operator for authority in authorities
    )
    value: JsonObject = {
        "mediaType": MEDIA_TYPE_V02 if newer else MEDIA_TYPE_V01,
        "tlogs": [_log_json(log) for log in root.tlogs],
        "certificateAuthorities": [_authority_json(ca) for ca in root.certificate_authorities],
        "ctlogs": [_log_json(log) for log in root.ctlogs],
        "timestampAuthorities": [_authority_json(tsa) for tsa in root.timestamp_authorities],
    }
    return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8")


def time_range_of(fields: Fields, name: str) -> TimeRange | None:
    """Return the period in a TimeRange field, None if the field is absent.

    Raises:
        StrictJsonError: It is malformed.
    """
    period = fields.child(name, _TIME_RANGE)
    return None if period is None else TimeRange(period.timestamp("start"), period.timestamp("end"))


def time_range_json(period: TimeRange) -> JsonObject:
    """Return the period as a TimeRange's JSON object."""
    value: JsonObject = {}
    if period.start is not None:
        value["start"] = format_timestamp(period.start)
    if period.end is not None:
        value["end"] = format_timestamp(period.end)
    return value


def _logs_of(root: Fields, name: str, disabled: list[str]) -> tuple[TransparencyLog, ...]:
    logs: list[TransparencyLog] = []
    for fields in root.children(name, _LOG, limit=MAX_INSTANCES):
        try:
            logs.append(_log_of(fields, is_rekor=name == "tlogs"))
        except _UnusableError as exc:
            disabled.append(f"{fields.path} ({fields.text('baseUrl')[:200]!r}): {exc}")
    return tuple(logs)


def _log_of(fields: Fields, *, is_rekor: bool) -> TransparencyLog:
    base_url = fields.text("baseUrl")
    public_key = fields.child("publicKey", _PUBLIC_KEY)
    if public_key is None:
        fields.fail("publicKey", "missing")
    log_id = _key_id_of(fields, "logId")
    checkpoint_key_id = _key_id_of(fields, "checkpointKeyId")
    details = public_key.text("keyDetails")
    key = _key_of(public_key.octets("rawBytes"), details)
    algorithm = fields.text("hashAlgorithm")
    if algorithm != "SHA2_256":
        raise _UnusableError(f"unsupported hash algorithm {algorithm[:100]!r}")
    name = _name_of(base_url)
    if log_id is None:
        # CT logs and Rekor v1 are known by the hash of their key, Rekor v2, whose keys are
        # Ed25519, by that of name and key.
        by_name = is_rekor and isinstance(key, ed25519.Ed25519PublicKey)
        log_id = note_key_id(name, key) if by_name else hashlib.sha256(spki(key)).digest()
    return TransparencyLog(
        base_url=base_url,
        name=name,
        key=key,
        key_details=details,
        valid_for=_valid_for(public_key),
        log_id=log_id,
        checkpoint_key_id=checkpoint_key_id,
        operator=fields.text("operator"),
    )


def _valid_for(fields: Fields) -> TimeRange:
    period = time_range_of(fields, "validFor") or TimeRange(None, None)
    if period.start is not None and not period.contains(period.start):
        raise _UnusableError("its period ends before it starts")
    return period


def _key_id_of(fields: Fields, name: str) -> bytes | None:
    log_id = fields.child(name, _LOG_ID)
    if log_id is None:
        return None
    key_id = log_id.octets("keyId")
    if len(key_id) < _HINT_BYTES:
        log_id.fail("keyId", f"{len(key_id)} bytes; at least {_HINT_BYTES} are needed")
    return key_id


def _name_of(base_url: str) -> str:
    """Return the URL without scheme and trailing slash; the port and the path stay."""
    _, separator, rest = base_url.partition("://")
    return (rest if separator else base_url).rstrip("/")


def _key_of(raw: bytes, details: str) -> PublicKey:
    """Return the key, if it is what its registered name says.

    Raises:
        _UnusableError: The name is unknown here, or the key is of another kind.
    """
    if details not in _CURVES and details not in _RSA_BITS and details != "PKIX_ED25519":
        raise _UnusableError(f"unsupported key details {details[:100]!r}")
    try:
        key = load_public_key(raw)
    except InvalidInputError as exc:
        raise _UnusableError(exc.message) from exc
    if isinstance(key, ec.EllipticCurvePublicKey):
        fits = _CURVES.get(details) == key.curve.name
    elif isinstance(key, rsa.RSAPublicKey):
        fits = details in _RSA_BITS and _RSA_BITS[details] in {None, key.key_size}
    else:
        fits = details == "PKIX_ED25519"
    if not fits:
        raise _UnusableError(f"the key is not of the kind {details!r}")
    return key


def _authorities_of(root: Fields, name: str, disabled: list[str]) -> tuple[Authority, ...]:
    authorities: list[Authority] = []
    for fields in root.children(name, _AUTHORITY, limit=MAX_INSTANCES):
        try:
            authorities.append(_authority_of(fields))
        except _UnusableError as exc:
            disabled.append(f"{fields.path} ({fields.text('uri')[:200]!r}): {exc}")
    return tuple(authorities)


def _authority_of(fields: Fields) -> Authority:
    subject = fields.child("subject", _SUBJECT)
    chain = fields.child("certChain", _CHAIN)
    listed = chain.children("certificates", _CERTIFICATE, limit=MAX_CHAIN) if chain else []
    if not listed:
        fields.fail("certChain", "empty")
    return Authority(
        uri=fields.text("uri"),
        organization=subject.text("organization") if subject is not None else "",
        common_name=subject.text("commonName") if subject is not None else "",
        chain=tuple(_certificate_of(item.octets("rawBytes")) for item in listed),
        valid_for=_valid_for(fields),
        operator=fields.text("operator"),
    )


def _certificate_of(raw: bytes) -> x509.Certificate:
    try:
        certificate = read_certificate(raw)
        key_in(certificate)
    except (ValueError, UnsupportedAlgorithm, InvalidInputError) as exc:
        raise _UnusableError("a certificate is malformed or has an unsupported key") from exc
    return certificate


def _log_json(log: TransparencyLog) -> JsonObject:
    raw = spki(log.key)
    if log.key_details == "PKCS1_RSA_PKCS1V5":
        raw = log.key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    value: JsonObject = {
        "baseUrl": log.base_url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": encode_base64(raw),
            "keyDetails": log.key_details,
            "validFor": time_range_json(log.valid_for),
        },
        "logId": {"keyId": encode_base64(log.log_id)},
    }
    if log.checkpoint_key_id is not None:
        value["checkpointKeyId"] = {"keyId": encode_base64(log.checkpoint_key_id)}
    if log.operator:
        value["operator"] = log.operator
    return value


def _authority_json(authority: Authority) -> JsonObject:
    value: JsonObject = {
        "subject": {
            "organization": authority.organization,
            "commonName": authority.common_name,
        },
        "uri": authority.uri,
        "certChain": {
            "certificates": [
                {"rawBytes": encode_base64(item.public_bytes(serialization.Encoding.DER))}
                for item in authority.chain
            ]
        },
        "validFor": time_range_json(authority.valid_for),
    }
    if authority.operator:
        value["operator"] = authority.operator
    return value

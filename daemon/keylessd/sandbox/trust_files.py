"""Writes trusted root, signing configuration and trust configuration of a sandbox. Pure.

It does not use the daemon's own writers of these formats, so that each can judge the other.
"""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from keylessd.sandbox.ca import PublicKey
    from keylessd.sandbox.oidc import JsonValue

TRUSTED_ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
SIGNING_CONFIG = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
TRUST_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
OPERATOR = "sandbox.test"


class RekorChoice(enum.StrEnum):
    """Which logs a signing configuration names; a client takes the newer version of both."""

    V1 = "v1"
    V2 = "v2"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class LogFacts:
    """A log: ``url`` with its name, its key, and its 32-byte id."""

    url: str
    key: PublicKey
    log_id: bytes


@dataclass(frozen=True, slots=True)
class AuthorityFacts:
    """A certificate authority or timestamp authority: its URI and its chain, anchor last."""

    uri: str
    chain: Sequence[x509.Certificate]


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _log(facts: LogFacts, start: datetime) -> JsonValue:
    raw = facts.key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    is_ecdsa = isinstance(facts.key, ec.EllipticCurvePublicKey)
    return {
        "baseUrl": facts.url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": _base64(raw),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256" if is_ecdsa else "PKIX_ED25519",
            "validFor": {"start": _time(start)},
        },
        "logId": {"keyId": _base64(facts.log_id)},
    }


def _authority(facts: AuthorityFacts, start: datetime) -> JsonValue:
    anchor = facts.chain[-1].subject
    (organization,) = anchor.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    (common_name,) = anchor.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return {
        "subject": {
            "organization": str(organization.value),
            "commonName": str(common_name.value),
        },
        "uri": facts.uri,
        "certChain": {
            "certificates": [
                {"rawBytes": _base64(certificate.public_bytes(serialization.Encoding.DER))}
                for certificate in facts.chain
            ]
        },
        "validFor": {"start": _time(start)},
    }


def trusted_root(
    *,
    tlogs: Sequence[LogFacts],
    ctlogs: Sequence[LogFacts],
    certificate_authorities: Sequence[AuthorityFacts],
    timestamp_authorities: Sequence[AuthorityFacts],
    start: datetime,
) -> bytes:
    """Return the TrustedRoot (JSON) in which all of these are valid from *start* on."""
    return _dump(
        {
            "mediaType": TRUSTED_ROOT,
            "tlogs": [_log(facts, start) for facts in tlogs],
            "certificateAuthorities": [_authority(f, start) for f in certificate_authorities],
            "ctlogs": [_log(facts, start) for facts in ctlogs],
            "timestampAuthorities": [_authority(f, start) for f in timestamp_authorities],
        }
    )


def signing_config(
    *,
    ca_url: str,
    oidc_url: str,
    rekor_urls: Mapping[int, str],
    tsa_url: str,
    start: datetime,
) -> bytes:
    """Return the SigningConfig v0.2 (JSON); *rekor_urls* is API version -> base URL."""

    def service(url: str, version: int) -> JsonValue:
        return {
            "url": url,
            "majorApiVersion": version,
            "validFor": {"start": _time(start)},
            "operator": OPERATOR,
        }

    return _dump(
        {
            "mediaType": SIGNING_CONFIG,
            "caUrls": [service(ca_url, 1)],
            "oidcUrls": [service(oidc_url, 1)],
            "rekorTlogUrls": [
                service(url, version) for version, url in sorted(rekor_urls.items(), reverse=True)
            ],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [service(tsa_url, 1)],
            "tsaConfig": {"selector": "ANY"},
        }
    )


def trust_config(root: bytes, config: bytes) -> bytes:
    """Return both documents in one, as ``--trust-config`` takes it."""
    return _dump(
        {
            "mediaType": TRUST_CONFIG,
            "trustedRoot": json.loads(root),
            "signingConfig": json.loads(config),
        }
    )


def _dump(value: JsonValue) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"

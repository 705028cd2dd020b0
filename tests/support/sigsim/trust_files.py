"""Small valid TrustedRoot and SigningConfig files, for tests of what reads them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from keylessd.core.keys import key_details, spki
from keylessd.core.note import note_key_id
from keylessd.core.signing_config import Selector, Service, SigningConfig, serialize_signing_config
from keylessd.core.trusted_root import (
    TimeRange,
    TransparencyLog,
    TrustedRoot,
    serialize_trusted_root,
)

START = datetime(2020, 1, 1, tzinfo=UTC)
PERIOD = TimeRange(START, None)


def log(url: str, *, v2: bool) -> TransparencyLog:
    """Return a log with a new key: Ed25519 and called by its note key for v2, else ECDSA."""
    name = url.partition("://")[2].rstrip("/")
    key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
    if v2:
        key = ed25519.Ed25519PrivateKey.generate().public_key()
        log_id = note_key_id(name, key)
    else:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        log_id = hashlib.sha256(spki(key)).digest()
    return TransparencyLog(
        base_url=url,
        name=name,
        key=key,
        key_details=key_details(key),
        valid_for=PERIOD,
        log_id=log_id,
        checkpoint_key_id=None,
        operator="",
    )


def trusted_root(*logs: TransparencyLog) -> bytes:
    """Return the JSON of a root that has *logs*, or one log of version 1, and nothing else."""
    return serialize_trusted_root(
        TrustedRoot(
            tlogs=logs or (log("https://rekor.example", v2=False),),
            ctlogs=(),
            certificate_authorities=(),
            timestamp_authorities=(),
            disabled=(),
            sha256="",
        )
    )


def signing_config(host: str = "example") -> bytes:
    """Return the JSON of a configuration with one service of each kind at *host*."""

    def one(kind: str, version: int = 1) -> tuple[Service, ...]:
        return (Service(f"https://{kind}.{host}", version, PERIOD, "operator"),)

    return serialize_signing_config(
        SigningConfig(
            ca_urls=one("fulcio"),
            oidc_urls=one("oidc"),
            rekor_urls=one("rekor"),
            tsa_urls=one("tsa"),
            rekor_selector=Selector.ANY,
            rekor_count=0,
            tsa_selector=Selector.ANY,
            tsa_count=0,
        )
    )

"""Managed keys as callers give them: alone, or with a period."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keylessd.core.keys import spki
from keylessd.core.managed_key import read_managed_key
from keylessd.core.trusted_root import TimeRange
from keylessd.errors import InvalidInputError

P256 = ec.generate_private_key(ec.SECP256R1()).public_key()
P384 = ec.generate_private_key(ec.SECP384R1()).public_key()
P521 = ec.generate_private_key(ec.SECP521R1()).public_key()
ED25519 = ed25519.Ed25519PrivateKey.generate().public_key()
RSA = rsa.generate_private_key(65537, 2048).public_key()
ODD_RSA = rsa.generate_private_key(65537, 2056).public_key()


def message(key: object = P256, **fields: object) -> bytes:
    value = {"rawBytes": base64.b64encode(spki(key)).decode(), **fields}
    return json.dumps(value).encode()


def test_key_alone() -> None:
    pem = P256.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for raw in (pem, spki(P256), message(), b" \n" + message(), message(validFor=None)):
        read = read_managed_key(raw)
        assert spki(read.key) == spki(P256)
        assert read.valid_for is None


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        (
            {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00.5Z"},
            TimeRange(
                datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, 0, 0, 0, 500_000, tzinfo=UTC)
            ),
        ),
        ({"start": "2026-01-01T00:00:00Z"}, TimeRange(datetime(2026, 1, 1, tzinfo=UTC), None)),
        # The format demands a start; without it there is no time at which the key was in use.
        ({"end": "2026-01-01T00:00:00Z"}, TimeRange(None, datetime(2026, 1, 1, tzinfo=UTC))),
        ({}, TimeRange(None, None)),
    ],
)
def test_period(period: object, expected: TimeRange) -> None:
    read = read_managed_key(message(validFor=period))
    assert read.valid_for == expected
    assert spki(read.key) == spki(P256)


@pytest.mark.parametrize(
    ("key", "details"),
    [
        (P256, "PKIX_ECDSA_P256_SHA_256"),
        (P384, "PKIX_ECDSA_P384_SHA_384"),
        (P384, "PKIX_ECDSA_P384_SHA_256"),
        (P521, "PKIX_ECDSA_P521_SHA_512"),
        (P521, "PKIX_ECDSA_P521_SHA_256"),
        (ED25519, "PKIX_ED25519"),
        (ED25519, "PKIX_ED25519_PH"),
        (RSA, "PKIX_RSA_PKCS1V15_2048_SHA256"),
    ],
)
def test_kinds(key: object, details: str) -> None:
    assert spki(read_managed_key(message(key, keyDetails=details)).key) == spki(key)
    if key is not P256:
        with pytest.raises(InvalidInputError, match="not of the kind"):
            read_managed_key(message(P256, keyDetails=details))
    with pytest.raises(InvalidInputError, match="not of the kind"):
        read_managed_key(message(key, keyDetails="LMS_SHA256"))


# Of RSA by RSASSA-PSS alone, as its algorithm says.
PSS_KEY = b"""\
-----BEGIN PUBLIC KEY-----
MIIBVjBBBgkqhkiG9w0BAQowNKAPMA0GCWCGSAFlAwQCAQUAoRwwGgYJKoZIhvcN
AQEIMA0GCWCGSAFlAwQCAQUAogMCASADggEPADCCAQoCggEBAJne6Bmphk2APPLB
VVKd/nuPDG2GRBJ2YVwOe9JJykNqcWnb3uSw1/7imwc2x6zNSjoKy+VSsX4xrqMT
DqPnrpxMPs8rQtNkTq6qV2fvlkiOnLuBP/vDORe9Ssu7LmWFg7idJ7ueZV3glmPL
nnz98oMgwlvQtn3N9G7i2qLsPkcasLfuvaB5xq7B+TI+znU3BbckmtGYTcLa3nZb
TEAb1l4nM/S1oykDFzUjK+K02JNQNOP/EA2ofsYrqnSJjH+PZheEM+24eXgvQ6Jv
PRXeTVtiv4ZD2T4U5akFVNedVsGuZDwywE+QC1Wo9n4neVWlci6DhkW04pSW9cyi
Kb4yXHcCAwEAAQ==
-----END PUBLIC KEY-----
"""


def test_a_key_for_pss_alone_is_not_taken_for_another() -> None:
    lines = PSS_KEY.decode().splitlines()[1:-1]
    der = base64.b64decode("".join(lines))
    for raw in (PSS_KEY, b" \n" + PSS_KEY, PSS_KEY.replace(b"\n", b"\r\n"), der):
        with pytest.raises(InvalidInputError, match="RSASSA-PSS"):
            read_managed_key(raw)
    with pytest.raises(InvalidInputError, match="RSASSA-PSS"):
        read_managed_key(json.dumps({"rawBytes": "".join(lines)}).encode())


@pytest.mark.parametrize("details", ["PKIX_RSA_PSS_2048_SHA256", "PKIX_RSA_PSS", "PKCS1_RSA_PSS"])
def test_a_key_that_is_said_to_be_for_pss(details: str) -> None:
    with pytest.raises(InvalidInputError, match="RSASSA-PSS"):
        read_managed_key(message(RSA, keyDetails=details))


def test_key_without_a_name() -> None:
    assert spki(read_managed_key(message(ODD_RSA)).key) == spki(ODD_RSA)
    with pytest.raises(InvalidInputError, match="have a name"):
        read_managed_key(message(ODD_RSA, keyDetails="PKIX_RSA_PKCS1V15_2048_SHA256"))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not PEM or DER"),
        (b"[]", "not PEM or DER"),
        (b"{", "not JSON"),
        (b"{}", "not PEM or DER"),
        (b'{"rawBytes": "AA=="}', "not PEM or DER"),
        (b'{"rawBytes": "*"}', "rawBytes"),
        (b'{"raw_bytes": "AA=="}', "rawBytes"),
        (message(keydetails="PKIX_ED25519"), "keydetails"),
        (message(keyDetails=5), "keyDetails"),
        (message(validFor=[]), "validFor"),
        (message(validFor={"start": "2026-01-01"}), "validFor.start"),
        (message(validFor={"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}), "end"),
        (message() + b"x", "not JSON"),
        (message(validFor=None).replace(b"{", b'{"validFor": {}, ', 1), "twice"),
        (b"{" + b" " * (64 << 10) + b"}", "bytes"),
    ],
)
def test_what_is_no_key(raw: bytes, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_managed_key(raw)
    assert says in caught.value.message

"""Corners of the forms older than bundles: exact limits, and what is taken of which file."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from keylessd.core.bundle import MAX_BUNDLE_BYTES, MAX_CERTIFICATES, Bundle
from keylessd.core.certificate import MAX_CERTIFICATE_BYTES
from keylessd.core.legacy import Detached, read_bundle
from keylessd.errors import VerificationError
from sigsim.pki import der, mint_ca, with_negative_serial
from sigsim.worlds import World, v1_log

WORLD = World(rekor=v1_log())
LEAF = der(WORLD.certificate())
INTERMEDIATE, ROOT = der(WORLD.ca.certificate), der(WORLD.ca_root.certificate)


def pem(*certificates: bytes) -> bytes:
    encoding = serialization.Encoding.PEM
    loaded = [x509.load_der_x509_certificate(raw) for raw in certificates]
    return b"".join(certificate.public_bytes(encoding) for certificate in loaded)


def old(*certificates: bytes, payload: dict[str, Any] | None = None) -> bytes:
    value: dict[str, Any] = {"base64Signature": "c2lnbmF0dXJl"}
    if certificates:
        value["cert"] = base64.b64encode(pem(*certificates)).decode()
    if payload is not None:
        value["rekorBundle"] = {"SignedEntryTimestamp": "AAAA", "Payload": payload}
    return json.dumps(value).encode()


def refusal(raw: bytes | None, detached: Detached) -> tuple[str, str]:
    with pytest.raises(VerificationError) as caught:
        read_bundle(raw, detached)
    return caught.value.check, caught.value.message


def test_entry_without_a_body_says_so() -> None:
    payload = {"body": "", "integratedTime": 1, "logIndex": 1, "logID": "00" * 32}
    check, sentence = refusal(old(LEAF, payload=payload), Detached())
    assert check == "bundle-entry"
    assert "body: missing" in sentence


@pytest.mark.parametrize(
    ("held", "given"), [((LEAF, INTERMEDIATE), (LEAF,)), ((LEAF,), (LEAF, INTERMEDIATE))]
)
def test_chain_is_taken_from_whichever_has_one(
    held: tuple[bytes, ...], given: tuple[bytes, ...]
) -> None:
    found = read_bundle(old(*held), Detached(certificate=pem(*given)))
    assert found.certificates == (LEAF, INTERMEDIATE)


def test_roots_are_left_out_of_a_chain_and_others_are_not() -> None:
    chain = Detached(signature=b"s", certificate=LEAF, chain=pem(INTERMEDIATE, ROOT))
    assert read_bundle(None, chain).certificates == (LEAF, INTERMEDIATE)


def test_root_that_cannot_be_read_stays_and_does_no_harm() -> None:
    """It is not used; one that is no certificate at all is refused."""

    def with_root(root: bytes) -> Detached:
        written = base64.b64encode(root)
        last = b"-----BEGIN CERTIFICATE-----\n" + written + b"\n-----END CERTIFICATE-----\n"
        return Detached(signature=b"s", certificate=LEAF, chain=pem(INTERMEDIATE) + last)

    old_root = with_negative_serial(ROOT)
    found = read_bundle(None, with_root(old_root))
    assert found.certificates == (LEAF, INTERMEDIATE, old_root)
    assert refusal(None, with_root(ROOT[:-1]))[0] == "certificate-format"


def test_size_of_a_signature() -> None:
    largest = b"\xff" * MAX_BUNDLE_BYTES
    assert read_bundle(None, Detached(signature=largest)).content.signature == largest
    check, sentence = refusal(None, Detached(signature=largest + b"\xff"))
    assert check == "bundle-content"
    assert "limit" in sentence


def with_certificate(raw: bytes) -> Bundle:
    return read_bundle(None, Detached(signature=b"s", certificate=raw))


def test_size_of_a_chain() -> None:
    largest = b"\xff" * (MAX_CERTIFICATES * MAX_CERTIFICATE_BYTES)
    assert with_certificate(largest).certificates == (largest,)
    check, sentence = refusal(None, Detached(signature=b"s", certificate=largest + b"\xff"))
    assert check == "certificate-format"
    assert "bytes of certificates" in sentence


def test_number_of_certificates_in_a_chain() -> None:
    middle = der(mint_ca("middle", parent=WORLD.ca).certificate)
    most = pem(LEAF, *[middle] * (MAX_CERTIFICATES - 1))
    assert len(with_certificate(most).certificates) == MAX_CERTIFICATES
    check, sentence = refusal(None, Detached(signature=b"s", certificate=most + pem(middle)))
    assert check == "certificate-format"
    assert "limit" in sentence


def test_key_in_place_of_a_certificate_says_so() -> None:
    key = WORLD.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    check, sentence = refusal(None, Detached(signature=b"s", certificate=key))
    assert check == "certificate-format"
    assert "no certificate" in sentence

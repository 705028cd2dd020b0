"""Log entries held against the bundle: each part wrong alone, in bodies made for it."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import ssl
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import EllipsisType
from typing import Any, NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core import entry as entry_module
from keylessd.core.bundle import (
    DsseEnvelope,
    MessageSignature,
    TlogEntry,
    parse_bundle,
)
from keylessd.core.canonical import MAX_INTEGER, canonical_json
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.dsse import pae
from keylessd.core.entry import (
    check_entry,
    hashedrekord_v2_body,
    log_generation,
    set_payload,
    verify_set,
)
from keylessd.core.keys import load_public_key, spki
from keylessd.core.trusted_root import parse_trusted_root
from keylessd.errors import VerificationError
from sigsim.pki import with_negative_serial

Body = dict[str, Any]

KEY = ec.derive_private_key(7, ec.SECP256R1())
OTHER_KEY = ec.derive_private_key(8, ec.SECP256R1())
PEM = serialization.Encoding.PEM


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(minutes=10))
        .sign(KEY, hashes.SHA256())
    )


LEAF, OTHER_LEAF = _certificate(KEY), _certificate(OTHER_KEY)
SPKI, OTHER_SPKI = spki(KEY.public_key()), spki(OTHER_KEY.public_key())
SPKI_PEM = KEY.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DER = LEAF.public_bytes(serialization.Encoding.DER)
OTHER_DER = OTHER_LEAF.public_bytes(serialization.Encoding.DER)
LEAF_PEM, OTHER_PEM = LEAF.public_bytes(PEM), OTHER_LEAF.public_bytes(PEM)

SIGNATURE = b"a signature"
DIGEST = digest_of(HashAlgorithm.SHA256, b"artifact")
MESSAGE = MessageSignature(SIGNATURE, None)
PAYLOAD = b'{"a":1}'
ENVELOPE = DsseEnvelope(PAYLOAD, "application/vnd.in-toto+json", SIGNATURE, "")


def pae_digest(content: DsseEnvelope) -> Digest:
    return digest_of(HashAlgorithm.SHA256, pae(content.payload_type, content.payload))


PAYLOAD_HASH = {"algorithm": "sha256", "value": hashlib.sha256(PAYLOAD).hexdigest()}


def hashedrekord_v1(pem: bytes = LEAF_PEM) -> Body:
    return {
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": DIGEST.hex}},
            "signature": {"content": b64(SIGNATURE), "publicKey": {"content": b64(pem)}},
        },
    }


def hashedrekord_v2(digest: Digest = DIGEST) -> Body:
    return {
        "apiVersion": "0.0.2",
        "kind": "hashedrekord",
        "spec": {
            "hashedRekordV002": {
                "data": {"algorithm": "SHA2_256", "digest": b64(digest.value)},
                "signature": {
                    "content": b64(SIGNATURE),
                    "verifier": {
                        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                        "x509Certificate": {"rawBytes": b64(DER)},
                    },
                },
            }
        },
    }


def dsse() -> Body:
    return {
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": {"algorithm": "sha256", "value": "00" * 32},
            "payloadHash": PAYLOAD_HASH,
            "signatures": [{"signature": b64(SIGNATURE), "verifier": b64(LEAF_PEM)}],
        },
    }


def intoto() -> Body:
    return {
        "apiVersion": "0.0.2",
        "kind": "intoto",
        "spec": {
            "content": {
                "envelope": {
                    "payloadType": ENVELOPE.payload_type,
                    "signatures": [
                        {"sig": b64(b64(SIGNATURE).encode()), "publicKey": b64(LEAF_PEM)}
                    ],
                },
                "hash": {"algorithm": "sha256", "value": "00" * 32},
                "payloadHash": PAYLOAD_HASH,
            }
        },
    }


def _entry(body: Body, kind: str | None = None, version: str | None = None) -> TlogEntry:
    return TlogEntry(
        log_index=9,
        log_id=b"\xab" * 32,
        kind=body["kind"] if kind is None else kind,
        version=body["apiVersion"] if version is None else version,
        integrated_time=1710869186,
        promise=None,
        proof=None,
        body=canonical_json(body),
    )


def _check(
    entry: TlogEntry,
    content: MessageSignature | DsseEnvelope,
    *,
    verifier: bytes = DER,
    digest: Digest | EllipsisType | None = ...,
    is_certificate: bool = True,
) -> None:
    if isinstance(digest, EllipsisType):
        digest = DIGEST if isinstance(content, MessageSignature) else pae_digest(content)
    check_entry(
        entry, content=content, verifier=verifier, is_certificate=is_certificate, digest=digest
    )


def _refusal(action: Callable[[], None]) -> str:
    with pytest.raises(VerificationError) as caught:
        action()
    return caught.value.check


def _edited(body: Body, path: str, item: object) -> Body:
    body = copy.deepcopy(body)
    *parents, last = path.split(".")
    at: Any = body
    for name in parents:
        at = at[int(name) if name.isdigit() else name]
    if item is ...:
        del at[last]
    else:
        at[int(last) if last.isdigit() else last] = item
    return body


FORMS: dict[str, tuple[Body, MessageSignature | DsseEnvelope]] = {
    "hashedrekord-v1": (hashedrekord_v1(), MESSAGE),
    "hashedrekord-v2": (hashedrekord_v2(), MESSAGE),
    "hashedrekord-v2-dsse": (hashedrekord_v2(pae_digest(ENVELOPE)), ENVELOPE),
    "dsse": (dsse(), ENVELOPE),
    "intoto": (intoto(), ENVELOPE),
}


@pytest.mark.parametrize("form", FORMS)
def test_entry_that_agrees_is_accepted(form: str) -> None:
    body, content = FORMS[form]
    _check(_entry(body), content)


# --- kinds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("dsse", "0.0.2"),
        ("hashedrekord", "0.0.3"),
        ("hashedrekord", ""),
        ("intoto", "0.0.1"),
        ("rekord", "0.0.1"),
        ("HashedRekord", "0.0.1"),
        ("", ""),
    ],
)
def test_unsupported_kind_is_refused(kind: str, version: str) -> None:
    assert _refusal(lambda: log_generation(kind, version) and None) == "entry-kind"
    body = {**hashedrekord_v1(), "kind": kind, "apiVersion": version}
    for content in (MESSAGE, ENVELOPE):
        assert _refusal(lambda content=content: _check(_entry(body), content)) == "entry-kind"  # type: ignore[misc]


def test_kind_and_version_together_tell_the_generation() -> None:
    assert log_generation("hashedrekord", "0.0.1") == 1
    assert log_generation("dsse", "0.0.1") == 1
    assert log_generation("intoto", "0.0.2") == 1
    assert log_generation("hashedrekord", "0.0.2") == 2


@pytest.mark.parametrize(
    ("body", "content"),
    [(hashedrekord_v1(), ENVELOPE), (dsse(), MESSAGE), (intoto(), MESSAGE)],
    ids=["hashedrekord-for-envelope", "dsse-for-message", "intoto-for-message"],
)
def test_kind_for_other_content_is_refused(
    body: Body, content: MessageSignature | DsseEnvelope
) -> None:
    assert _refusal(lambda: _check(_entry(body), content)) == "entry-kind"


@pytest.mark.parametrize(
    ("form", "kind", "version"),
    [
        ("hashedrekord-v1", "hashedrekord", "0.0.2"),
        ("hashedrekord-v2", "hashedrekord", "0.0.1"),
        ("dsse", "intoto", "0.0.2"),
        ("intoto", "dsse", "0.0.1"),
        ("hashedrekord-v2-dsse", "dsse", "0.0.1"),
    ],
)
def test_body_of_another_kind_than_claimed_is_refused(form: str, kind: str, version: str) -> None:
    body, content = FORMS[form]
    assert _refusal(lambda: _check(_entry(body, kind, version), content)) == "entry-kind"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("raw", [b"", b"x", b"[]", b"null", b'{"kind":1}', b"\xff", b"[" * 100_000])
def test_body_that_is_no_object_is_refused(form: str, raw: bytes) -> None:
    body, content = FORMS[form]
    assert _refusal(lambda: _check(replace(_entry(body), body=raw), content)) == "entry-body"


@pytest.mark.parametrize("form", FORMS)
def test_body_with_a_key_twice_is_refused(form: str) -> None:
    body, content = FORMS[form]
    raw = canonical_json(body).replace(b'{"apiVersion"', b'{"kind":"x","apiVersion"', 1)
    assert _refusal(lambda: _check(replace(_entry(body), body=raw), content)) == "entry-body"


# --- one part wrong --------------------------------------------------------------------------

V1_SIGNATURE = "spec.signature.content"
V1_KEY = "spec.signature.publicKey.content"
V2 = "spec.hashedRekordV002"
V2_SIGNER = f"{V2}.signature.verifier"
DSSE = "spec.signatures"
INTOTO = "spec.content.envelope.signatures"
OTHER_HASH = "11" * 32

WRONG = [
    ("hashedrekord-v1", V1_SIGNATURE, b64(b"other"), "entry-signature"),
    ("hashedrekord-v1", V1_SIGNATURE, ..., "entry-signature"),
    ("hashedrekord-v1", V1_SIGNATURE, "?", "entry-body"),
    ("hashedrekord-v1", V1_SIGNATURE, b64(SIGNATURE) + "\n", "entry-body"),
    ("hashedrekord-v1", "spec.signature", ..., "entry-body"),
    ("hashedrekord-v1", V1_KEY, b64(OTHER_PEM), "entry-verifier"),
    ("hashedrekord-v1", V1_KEY, b64(SPKI_PEM), "entry-verifier"),
    ("hashedrekord-v1", V1_KEY, b64(DER), "entry-verifier"),
    ("hashedrekord-v1", V1_KEY, b64(LEAF_PEM[:-40]), "entry-verifier"),
    ("hashedrekord-v1", V1_KEY, b64(OTHER_PEM + LEAF_PEM), "entry-verifier"),
    ("hashedrekord-v1", V1_KEY, ..., "entry-verifier"),
    ("hashedrekord-v1", "spec.signature.publicKey", ..., "entry-body"),
    ("hashedrekord-v1", "spec.data.hash.value", OTHER_HASH, "entry-digest"),
    ("hashedrekord-v1", "spec.data.hash.value", DIGEST.hex.upper(), "entry-digest"),
    ("hashedrekord-v1", "spec.data.hash.value", "", "entry-digest"),
    ("hashedrekord-v1", "spec.data.hash.algorithm", "sha512", "entry-digest"),
    ("hashedrekord-v1", "spec.data.hash.algorithm", ..., "entry-digest"),
    ("hashedrekord-v1", "spec.data", ..., "entry-body"),
    ("hashedrekord-v1", "spec", [], "entry-body"),
    ("hashedrekord-v2", f"{V2}.signature.content", b64(b"other"), "entry-signature"),
    ("hashedrekord-v2", f"{V2_SIGNER}.x509Certificate.rawBytes", b64(OTHER_DER), "entry-verifier"),
    ("hashedrekord-v2", f"{V2_SIGNER}.x509Certificate.rawBytes", b64(SPKI), "entry-verifier"),
    ("hashedrekord-v2", f"{V2_SIGNER}.x509Certificate", ..., "entry-body"),
    ("hashedrekord-v2", f"{V2_SIGNER}.keyDetails", "PKIX_ECDSA_P384_SHA_384", "entry-verifier"),
    ("hashedrekord-v2", f"{V2_SIGNER}.keyDetails", ..., "entry-verifier"),
    ("hashedrekord-v2", f"{V2_SIGNER}.publicKey", {"rawBytes": b64(SPKI)}, "entry-body"),
    ("hashedrekord-v2", f"{V2}.data.digest", b64(b"\x11" * 32), "entry-digest"),
    ("hashedrekord-v2", f"{V2}.data.algorithm", "SHA2_512", "entry-digest"),
    ("hashedrekord-v2", f"{V2}.data.algorithm", "sha256", "entry-digest"),
    ("hashedrekord-v2", f"{V2}.extra", 1, "entry-body"),
    ("hashedrekord-v2", "spec.extra", None, "entry-body"),
    ("hashedrekord-v2", "extra", {}, "entry-body"),
    ("hashedrekord-v2-dsse", f"{V2}.signature.content", b64(b"other"), "entry-signature"),
    ("hashedrekord-v2-dsse", f"{V2}.data.digest", b64(DIGEST.value), "entry-digest"),
    ("hashedrekord-v2-dsse", f"{V2}.data.digest", b64(hashlib.sha256(PAYLOAD).digest()),
     "entry-digest"),
    ("hashedrekord-v2-dsse", f"{V2}.extra", 1, "entry-body"),
    ("dsse", f"{DSSE}.0.signature", b64(b"other"), "entry-signature"),
    ("dsse", f"{DSSE}.0.signature", b64(b64(SIGNATURE).encode()), "entry-signature"),
    ("dsse", f"{DSSE}.0.verifier", b64(OTHER_PEM), "entry-verifier"),
    ("dsse", DSSE, [], "entry-body"),
    ("dsse", DSSE, dsse()["spec"]["signatures"] * 2, "entry-body"),
    ("dsse", "spec.payloadHash.value", OTHER_HASH, "entry-digest"),
    ("dsse", "spec.payloadHash.value", pae_digest(ENVELOPE).hex, "entry-digest"),
    ("dsse", "spec.payloadHash.algorithm", "sha512", "entry-digest"),
    ("dsse", "spec.payloadHash", ..., "entry-body"),
    ("intoto", f"{INTOTO}.0.sig", b64(b64(b"other").encode()), "entry-signature"),
    ("intoto", f"{INTOTO}.0.sig", b64(SIGNATURE), "entry-signature"),
    ("intoto", f"{INTOTO}.0.sig", b64("é".encode()), "entry-signature"),
    ("intoto", f"{INTOTO}.0.publicKey", b64(OTHER_PEM), "entry-verifier"),
    ("intoto", f"{INTOTO}.0.publicKey", ..., "entry-verifier"),
    ("intoto", INTOTO, [], "entry-body"),
    ("intoto", INTOTO, intoto()["spec"]["content"]["envelope"]["signatures"] * 2, "entry-body"),
    ("intoto", "spec.content.envelope.payloadType", "text/plain", "entry-body"),
    ("intoto", "spec.content.payloadHash.value", OTHER_HASH, "entry-digest"),
    ("intoto", "spec.content.payloadHash", ..., "entry-body"),
    ("intoto", "spec.content.envelope", ..., "entry-body"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "path", "item", "check"), WRONG)
def test_each_part_wrong_alone_is_refused(form: str, path: str, item: object, check: str) -> None:
    body, content = FORMS[form]
    assert _refusal(lambda: _check(_entry(_edited(body, path, item)), content)) == check


@pytest.mark.parametrize("form", ["hashedrekord-v1", "hashedrekord-v2"])
def test_digest_of_another_artifact_or_algorithm_is_refused(form: str) -> None:
    body, content = FORMS[form]
    other = digest_of(HashAlgorithm.SHA256, b"other")
    assert _refusal(lambda: _check(_entry(body), content, digest=other)) == "entry-digest"
    assert _refusal(lambda: _check(_entry(body), content, digest=None)) == "entry-digest"
    wider = digest_of(HashAlgorithm.SHA512, b"artifact")
    assert _refusal(lambda: _check(_entry(body), content, digest=wider)).startswith("entry-")


@pytest.mark.parametrize(
    ("form", "good"), [("hashedrekord-v2-dsse", False), ("dsse", True), ("intoto", True)]
)
def test_envelope_of_a_key_that_signs_no_digest(form: str, good: bool) -> None:
    body, content = FORMS[form]
    if good:
        _check(_entry(body), content, digest=None)
    else:
        assert _refusal(lambda: _check(_entry(body), content, digest=None)) == "entry-digest"


@pytest.mark.parametrize("form", ["hashedrekord-v2-dsse", "dsse", "intoto"])
def test_other_payload_is_refused(form: str) -> None:
    body, content = FORMS[form]
    assert isinstance(content, DsseEnvelope)
    other = replace(content, payload=PAYLOAD + b" ")
    assert _refusal(lambda: _check(_entry(body), other)) == "entry-digest"


def test_whitespace_in_a_rekor_v2_body_is_refused() -> None:
    entry = _entry(hashedrekord_v2())
    loose = replace(entry, body=json.dumps(hashedrekord_v2()).encode())
    assert _refusal(lambda: _check(loose, MESSAGE)) == "entry-body"


# --- signers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_entry_of_another_certificate_is_refused(form: str) -> None:
    body, content = FORMS[form]
    check = _refusal(lambda: _check(_entry(body), content, verifier=OTHER_DER))
    assert check == "entry-verifier"


@pytest.mark.parametrize(
    "pem",
    [
        LEAF_PEM.rstrip(b"\n"),
        LEAF_PEM.replace(b"\n", b"\r\n"),
        b"\n" + LEAF_PEM + b"\n\n",
    ],
    ids=["no-final-newline", "crlf", "blank-lines"],
)
def test_pem_is_compared_by_its_content(pem: bytes) -> None:
    _check(_entry(hashedrekord_v1(pem)), MESSAGE)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(raw: bytes, **limits: int) -> NoReturn:
        raise AssertionError((raw, limits))

    monkeypatch.setattr("keylessd.core.entry.loads", loads)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("form", [form for form in FORMS if form.startswith("hashedrekord")])
def test_what_the_log_itself_writes_need_not_be_read(form: str) -> None:
    body, content = FORMS[form]
    _check(_entry(body), content)
    _check(_entry(_managed(body)), content, verifier=SPKI, is_certificate=False)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("is_certificate", [True, False], ids=["certificate", "key"])
def test_what_cannot_be_read_is_refused_however_it_is_written(*, is_certificate: bool) -> None:
    label = "CERTIFICATE" if is_certificate else "PUBLIC KEY"
    pem = f"-----BEGIN {label}-----\n{b64(b'junk')}\n-----END {label}-----\n".encode()
    entry = _entry(hashedrekord_v1(pem))
    check = _refusal(
        lambda: _check(entry, MESSAGE, verifier=b"junk", is_certificate=is_certificate)
    )
    assert check == "entry-verifier"


@given(st.binary(min_size=1, max_size=300))
def test_written_like_the_library_writes_it(der: bytes) -> None:
    """What is compared to the byte has the lines that PEM has."""
    pem = entry_module._pem("CERTIFICATE", der)
    assert pem.decode() == ssl.DER_cert_to_PEM_cert(der)


def _managed(body: Body) -> Body:
    if "hashedRekordV002" in body["spec"]:
        body = _edited(body, f"{V2_SIGNER}.x509Certificate", ...)
        return _edited(body, f"{V2_SIGNER}.publicKey", {"rawBytes": b64(SPKI)})
    path = {"hashedrekord": V1_KEY, "dsse": f"{DSSE}.0.verifier", "intoto": f"{INTOTO}.0.publicKey"}
    return _edited(body, path[body["kind"]], b64(SPKI_PEM))


@pytest.mark.parametrize("form", FORMS)
def test_managed_key_is_compared(form: str) -> None:
    body, content = FORMS[form]
    entry = _entry(_managed(body))
    _check(entry, content, verifier=SPKI, is_certificate=False)
    check = _refusal(lambda: _check(entry, content, verifier=OTHER_SPKI, is_certificate=False))
    assert check == "entry-verifier"
    assert _refusal(lambda: _check(entry, content)) in {"entry-verifier", "entry-body"}


@pytest.mark.parametrize("form", FORMS)
def test_certificate_is_no_managed_key(form: str) -> None:
    body, content = FORMS[form]
    check = _refusal(lambda: _check(_entry(body), content, verifier=SPKI, is_certificate=False))
    assert check in {"entry-verifier", "entry-body"}


def _v2_by_key(key: bytes, digest: Digest, details: str) -> TlogEntry:
    body = hashedrekord_v2_body(
        digest, SIGNATURE, verifier=key, is_certificate=False, details=details
    )
    return replace(_entry(hashedrekord_v2()), body=body)


@pytest.mark.parametrize(
    ("key", "algorithm", "details"),
    [
        (ec.derive_private_key(3, ec.SECP384R1()), HashAlgorithm.SHA384, "PKIX_ECDSA_P384_SHA_384"),
        (ec.derive_private_key(3, ec.SECP384R1()), HashAlgorithm.SHA256, "PKIX_ECDSA_P384_SHA_256"),
        (ec.derive_private_key(3, ec.SECP521R1()), HashAlgorithm.SHA512, "PKIX_ECDSA_P521_SHA_512"),
        (rsa.generate_private_key(65537, 2048), HashAlgorithm.SHA256,
         "PKIX_RSA_PKCS1V15_2048_SHA256"),
        (ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32), HashAlgorithm.SHA512,
         "PKIX_ED25519_PH"),
    ],
    ids=["p384", "p384-sha256", "p521", "rsa2048", "ed25519ph"],
)  # fmt: skip
def test_key_and_hash_have_one_name_in_rekor_v2(
    key: ec.EllipticCurvePrivateKey, algorithm: HashAlgorithm, details: str
) -> None:
    der = spki(key.public_key())
    digest = digest_of(algorithm, b"artifact")
    entry = _v2_by_key(der, digest, details)
    _check(entry, MESSAGE, verifier=der, is_certificate=False, digest=digest)
    entry = _v2_by_key(der, digest, "PKIX_ECDSA_P256_SHA_256")
    check = _refusal(
        lambda: _check(entry, MESSAGE, verifier=der, is_certificate=False, digest=digest)
    )
    assert check == "entry-verifier"


def test_keys_that_rekor_v2_cannot_log_are_refused() -> None:
    ed = spki(ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32).public_key())
    odd = spki(rsa.generate_private_key(65537, 2304).public_key())
    for der, content in ((ed, MESSAGE), (odd, MESSAGE), (b"junk", MESSAGE)):
        entry = _v2_by_key(der, DIGEST, "PKIX_ED25519")
        with pytest.raises(VerificationError) as caught:
            _check(entry, content, verifier=der, is_certificate=False)
        assert caught.value.check == "entry-verifier"


@pytest.mark.parametrize("action", ["error", "ignore"])
@pytest.mark.parametrize("form", FORMS)
def test_logged_certificate_without_a_positive_serial_number(form: str, action: str) -> None:
    body, content = FORMS[form]
    bad = with_negative_serial(DER)
    text = json.dumps(body).replace(b64(DER), b64(bad))
    pem = f"-----BEGIN CERTIFICATE-----\n{b64(bad)}\n-----END CERTIFICATE-----\n".encode()
    entry = _entry(json.loads(text.replace(b64(LEAF_PEM), b64(pem))))
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]
        assert _refusal(lambda: _check(entry, content, verifier=bad)) == "entry-verifier"


def test_leaf_that_is_no_certificate_is_refused() -> None:
    for form, (body, content) in FORMS.items():
        if form.startswith("hashedrekord-v2"):
            body = _edited(body, f"{V2_SIGNER}.x509Certificate.rawBytes", b64(b"junk"))  # noqa: PLW2901
        with pytest.raises(VerificationError) as caught:
            _check(_entry(body), content, verifier=b"junk")
        assert caught.value.check == "entry-verifier"


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None)
@given(data=st.data())
def test_damaged_body_raises_nothing_else(form: str, data: st.DataObject) -> None:
    body, content = FORMS[form]
    raw = canonical_json(body)
    position = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:position] + bytes([data.draw(st.integers(0, 255))]) + raw[position + 1 :]
    with suppress(VerificationError):
        _check(replace(_entry(body), body=changed), content)


# --- promises --------------------------------------------------------------------------------

LOG_KEY = ec.derive_private_key(11, ec.SECP256R1())
PROMISED = TlogEntry(735, b"\xab" * 32, "hashedrekord", "0.0.1", 1710869186, None, None, b"\x00{}?")
PAYLOAD_OF_PROMISED = (
    b'{"body":"AHt9Pw==","integratedTime":1710869186,"logID":"' + b"ab" * 32 + b'","logIndex":735}'
)


def _promised(entry: TlogEntry = PROMISED) -> TlogEntry:
    promise = LOG_KEY.sign(set_payload(entry), ec.ECDSA(hashes.SHA256()))
    return replace(entry, promise=promise)


def test_promise_is_over_this_payload() -> None:
    assert set_payload(PROMISED) == PAYLOAD_OF_PROMISED


@pytest.mark.parametrize("part", ["log_index", "integrated_time"])
def test_numbers_in_a_promise_have_the_digits_that_json_can_say(part: str) -> None:
    largest = replace(PROMISED, **{part: (1 << 53) - 1})
    assert b":9007199254740991" in set_payload(largest)
    beyond = replace(PROMISED, **{part: 1 << 53})
    assert _refusal(lambda: set_payload(beyond)) == "inclusion-promise"


@given(st.binary(max_size=80), st.integers(0, MAX_INTEGER), st.integers(0, MAX_INTEGER))
def test_promise_is_over_canonical_json(body: bytes, index: int, seconds: int) -> None:
    entry = replace(PROMISED, body=body, log_index=index, integrated_time=seconds)
    assert set_payload(entry) == canonical_json(
        {
            "body": b64(body),
            "integratedTime": seconds,
            "logID": "ab" * 32,
            "logIndex": index,
        }
    )


def test_promise_without_a_time_has_no_payload() -> None:
    untimed = replace(PROMISED, integrated_time=None)
    assert _refusal(lambda: set_payload(untimed) and None) == "inclusion-promise"


def test_good_promise_is_accepted() -> None:
    verify_set(_promised(), LOG_KEY.public_key())


@pytest.mark.parametrize(
    "change",
    [
        {"log_index": 736},
        {"log_id": b"\xac" * 32},
        {"integrated_time": 1710869187},
        {"integrated_time": None},
        {"body": b"\x00{}!"},
        {"promise": None},
        {"promise": b""},
        {"promise": b"x" * 70},
        {"log_index": 1 << 60},
        {"integrated_time": 1 << 60},
    ],
    ids=str,
)
def test_promise_with_one_part_changed_is_refused(change: dict[str, Any]) -> None:
    entry = replace(_promised(), **change)
    assert _refusal(lambda: verify_set(entry, LOG_KEY.public_key())) == "inclusion-promise"


def test_promise_of_another_log_is_refused() -> None:
    key = OTHER_KEY.public_key()
    assert _refusal(lambda: verify_set(_promised(), key)) == "inclusion-promise"


def test_promise_counts_the_entrys_index_and_not_the_proofs(vectors: Path) -> None:
    raw = (vectors / "conformance/happy-path-v0.1/bundle.sigstore.json").read_bytes()
    root = parse_trusted_root((vectors / "trust/production.trusted_root.json").read_bytes())
    (entry,) = parse_bundle(raw).entries
    verify_set(entry, root.tlogs[0].key)
    assert entry.proof is not None
    assert entry.proof.log_index != entry.log_index
    wrong = replace(entry, log_index=entry.proof.log_index)
    assert _refusal(lambda: verify_set(wrong, root.tlogs[0].key)) == "inclusion-promise"


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("happy-path-v0.1", None),
        ("happy-path-v0.3", None),
        ("happy-path-intoto-in-dsse-v3", None),
        ("intoto-with-custom-trust-root", None),
        ("managed-key-happy-path", None),
        ("rekor2-happy-path", None),
        ("rekor2-dsse-happy-path", None),
        ("dsse-mismatch-sig_fail", "entry-signature"),
        ("rekor2-dsse-mismatch-sig_fail", "entry-signature"),
        ("wrong-hashedrekord-entry_fail", "entry-signature"),
        ("wrong-material_fail", "entry-digest"),
    ],
)
def test_real_entries(vectors: Path, case: str, expected: str | None) -> None:
    folder = vectors / "conformance" / case
    bundle = parse_bundle((folder / "bundle.sigstore.json").read_bytes())
    artifact = folder / "artifact"
    data = (artifact if artifact.exists() else vectors / "conformance/a.txt").read_bytes()
    is_certificate = bundle.key_hint is None
    if is_certificate:
        verifier = bundle.certificates[0]
    else:
        verifier = spki(load_public_key((folder / "key.pub").read_bytes()))

    def check() -> None:
        check_entry(
            bundle.entries[0],
            content=bundle.content,
            verifier=verifier,
            is_certificate=is_certificate,
            digest=digest_of(HashAlgorithm.SHA256, data)
            if isinstance(bundle.content, MessageSignature)
            else pae_digest(bundle.content),
        )

    if expected is None:
        check()
    else:
        assert _refusal(check) == expected

"""Forms older than bundles: read strictly, verified by the same steps, refused without evidence."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core.bundle import Bundle, DsseEnvelope, parse_bundle, serialize_bundle
from keylessd.core.keys import load_public_key
from keylessd.core.legacy import Detached, is_legacy, read_bundle
from keylessd.core.verify import ManagedKey, Verified, VerifyOptions, verify_bundle
from keylessd.errors import InvalidInputError, VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
from sigsim.pki import LIFETIME, START, der, ec_key
from sigsim.worlds import ARTIFACT, SIGNED, World, digests, statement, tampered, v1_log

SIGNER = AnySigner(
    (ExpectedSigner(identity="signer@example.com", issuer="https://issuer.example"),)
)
SECOND = timedelta(seconds=1)


def one() -> World:
    return World(rekor=v1_log())


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def pem_of(certificate: bytes) -> bytes:
    return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)


def public_pem(world: World) -> bytes:
    return world.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def old_value(bundle: Bundle, *, held: bytes | None = None) -> dict[str, Any]:
    """What cosign of old wrote for the same signature."""
    (entry,) = bundle.entries
    content = bundle.content
    signature = content.signature
    if isinstance(content, DsseEnvelope):
        signature = json.dumps(
            {
                "payloadType": content.payload_type,
                "payload": b64(content.payload),
                "signatures": [{"keyid": "", "sig": b64(content.signature)}],
            }
        ).encode()
    value: dict[str, Any] = {
        "base64Signature": b64(signature),
        "rekorBundle": {
            "SignedEntryTimestamp": b64(entry.promise or b""),
            "Payload": {
                "body": b64(entry.body),
                "integratedTime": entry.integrated_time,
                "logIndex": entry.log_index,
                "logID": entry.log_id.hex(),
            },
        },
    }
    if held is None and bundle.certificates:
        held = pem_of(bundle.certificates[0])
    if held is not None:
        value["cert"] = b64(held)
    return value


def old(bundle: Bundle, *, held: bytes | None = None, **changes: Any) -> bytes:
    return json.dumps(old_value(bundle, held=held) | changes).encode()


def accepted(
    world: World,
    raw: bytes | None,
    detached: Detached | None = None,
    *,
    expected: AnySigner | ManagedKey = SIGNER,
    artifact: bytes = ARTIFACT,
    **options: Any,
) -> Verified:
    return verify_bundle(
        read_bundle(raw, detached or Detached()),
        digests(artifact),
        world.root(),
        expected=expected,
        options=VerifyOptions(**options),
    )


def refused(world: World, raw: bytes | None, *more: Any, **options: Any) -> str:
    with pytest.raises(VerificationError) as error:
        accepted(world, raw, *more, **options)
    return error.value.check


def unreadable(raw: bytes | None, detached: Detached | None = None) -> str:
    with pytest.raises(VerificationError) as error:
        read_bundle(raw, detached or Detached())
    return error.value.check


# --- the old JSON: form --------------------------------------------------------------------


def changed(path: str, value: Any) -> bytes:
    """An old bundle with one part set, or taken out if *value* is Ellipsis."""
    whole = old_value(one().message())
    *parents, last = path.split(".")
    place = whole
    for name in parents:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("path", "value", "check"),
    [
        ("base64Signature", "%%%", "bundle-content"),
        ("base64Signature", 7, "bundle-content"),
        ("base64Signature", b64(b'{"payload": ""}'), "bundle-content"),
        ("cert", "%%%", "bundle-material"),
        ("cert", b64(b"-----BEGIN CERTIFICATE-----\nAAAA"), "bundle-material"),
        ("cert", b64(b"-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----"),
         "bundle-material"),
        ("cert", b64(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END PUBLIC KEY-----"),
         "bundle-material"),
        ("cert", b64(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
         "bundle-material"),
        ("rekorBundle", [], "bundle-entry"),
        ("rekorBundle", {}, "bundle-entry"),
        ("rekorBundle.SignedEntryTimestamp", ..., "bundle-entry"),
        ("rekorBundle.SignedEntryTimestamp", "", "bundle-entry"),
        ("rekorBundle.SignedEntryTimestamp", "Zg", "bundle-entry"),
        ("rekorBundle.Payload", ..., "bundle-entry"),
        ("rekorBundle.Payload", None, "bundle-entry"),
        ("rekorBundle.Payload.body", ..., "bundle-entry"),
        ("rekorBundle.Payload.body", {"apiVersion": "0.0.1"}, "bundle-entry"),
        ("rekorBundle.Payload.body", b64(b"not JSON"), "bundle-entry"),
        ("rekorBundle.Payload.body", b64(b"[]"), "bundle-entry"),
        ("rekorBundle.Payload.body", b64(b'{"kind": 1}'), "bundle-entry"),
        ("rekorBundle.Payload.integratedTime", ..., "bundle-entry"),
        ("rekorBundle.Payload.integratedTime", 0, "bundle-entry"),
        ("rekorBundle.Payload.integratedTime", -1, "bundle-entry"),
        ("rekorBundle.Payload.integratedTime", 1 << 63, "bundle-entry"),
        ("rekorBundle.Payload.integratedTime", 1.5, "bundle-entry"),
        ("rekorBundle.Payload.logIndex", -1, "bundle-entry"),
        ("rekorBundle.Payload.logIndex", "07", "bundle-entry"),
        ("rekorBundle.Payload.logID", ..., "bundle-entry"),
        ("rekorBundle.Payload.logID", "ab" * 31, "bundle-entry"),
        ("rekorBundle.Payload.logID", "AB" * 32, "bundle-entry"),
        ("rekorBundle.Payload.logID", b64(bytes(32)), "bundle-entry"),
        ("verified", True, "bundle-json"),
    ],
)  # fmt: skip
def test_malformed_old_bundle_is_refused(path: str, value: Any, check: str) -> None:
    assert unreadable(changed(path, value)) == check


@pytest.mark.parametrize(
    "raw",
    [
        b'{"base64Signature": "AA==", "base64Signature": "AA=="}',
        b'{"base64Signature": "AA=="',
        b'["base64Signature"]',
        b'{"base64Signature": "AA=="} x',
        b'\xff{"base64Signature": "AA=="}',
        b'{"base64Signature": ' + b"[" * 100 + b"]" * 100 + b"}",
    ],
)
def test_old_bundle_that_is_no_strict_json_is_refused(raw: bytes) -> None:
    assert unreadable(raw) == "bundle-json"


def test_old_bundle_without_a_signature_needs_one_beside_it() -> None:
    with pytest.raises(InvalidInputError):
        read_bundle(b'{"base64Signature": ""}', Detached())
    with pytest.raises(InvalidInputError):
        read_bundle(None, Detached(certificate=b"x"))


def test_only_what_looks_old_is_read_as_old() -> None:
    new = serialize_bundle(one().message())
    assert not is_legacy(new)
    assert read_bundle(new, Detached()) == parse_bundle(new)
    # Whoever writes both is refused by the reader of bundles.
    both = json.dumps(json.loads(new) | {"base64Signature": "AA=="}).encode()
    assert not is_legacy(both)
    assert unreadable(both) == "bundle-json"


def test_parts_beside_a_bundle_of_today_are_refused() -> None:
    new = serialize_bundle(one().message())
    for detached in (Detached(signature=b"AA=="), Detached(timestamp=b"x")):
        with pytest.raises(InvalidInputError):
            read_bundle(new, detached)


@settings(max_examples=300)
@given(st.data())
def test_damaged_old_bundle_raises_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(len(raw) // 2, len(raw))) :]
    try:
        accepted(WORLD, bytes(raw))
    except (VerificationError, InvalidInputError):
        return
    assert json.loads(bytes(raw)) == json.loads(GOOD)


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_any_files_raise_nothing_else(signature: bytes, certificate: bytes, stamp: bytes) -> None:
    parts = Detached(signature=signature, certificate=certificate, timestamp=stamp)
    with pytest.raises(VerificationError):
        accepted(WORLD, None, parts)


# --- the old JSON: content -----------------------------------------------------------------


def test_old_bundle_verifies_by_its_promise() -> None:
    world = one()
    bundle = world.message(stamps=())
    verified = accepted(world, old(bundle))
    assert verified.signer is not None
    assert verified.signer.identity == "signer@example.com"
    assert [(item.time, item.source) for item in verified.times] == [(SIGNED, "rekor")]
    assert verified.entries[0].log_index == bundle.entries[0].log_index
    assert "inclusion-proof" in verified.omitted


def test_old_bundle_with_the_certificate_in_der_or_bare_pem() -> None:
    world = one()
    bundle = world.message(stamps=())
    assert accepted(world, old(bundle, held=bundle.certificates[0]))
    twice = base64.b64encode(pem_of(bundle.certificates[0]))
    assert accepted(world, old(bundle, held=twice))


def test_old_bundle_of_a_managed_key() -> None:
    world = one()
    key = ManagedKey(world.key.public_key())
    bundle = world.message(managed=True, stamps=())
    for held in (public_pem(world), None):
        verified = accepted(world, old(bundle, held=held), expected=key)
        assert verified.key_sha256 is not None
        assert verified.entries
    assert refused(world, old(bundle)) == "key-material"
    assert refused(world, old(world.message()), expected=key) == "key-material"


def test_old_bundle_of_another_managed_key() -> None:
    world = one()
    bundle = world.message(managed=True, stamps=())
    another = ManagedKey(ec_key().public_key())
    # What the bundle says of its key is not what is trusted.
    assert refused(world, old(bundle, held=public_pem(world)), expected=another) == "signature"


def test_old_bundle_of_an_envelope() -> None:
    world = one()
    bundle = world.envelope(statement({"sha256": next(iter(digests().values())).hex}))
    verified = accepted(world, old(bundle))
    assert verified.statement is not None
    assert refused(world, old(bundle), artifact=b"another") == "subject"


def test_each_step_is_made_for_old_bundles() -> None:
    world = one()
    bundle = world.message(stamps=())
    (entry,) = bundle.entries
    stranger = one().message(stamps=())
    value = old_value(bundle)
    late = START + LIFETIME + SECOND
    wrong: dict[str, Any] = {
        "message-digest": None,
        "inclusion-promise": old(
            replace(bundle, entries=(replace(entry, promise=tampered(entry.promise or b"")),))
        ),
        "log-unknown": old(stranger),
        "entry-signature": old(
            replace(bundle, content=world.message(stamps=()).content), held=None
        ),
        "signature": old(
            replace(
                bundle,
                content=replace(
                    bundle.content, signature=tampered(bundle.content.signature)
                ),
            )
        ),
        "entry-verifier": old(bundle, held=pem_of(der(world.certificate()))),
        "certificate-expired": old(world.message(stamps=(), logged_at=late)),
        "log-threshold": json.dumps(
            {name: part for name, part in value.items() if name != "rekorBundle"}
        ).encode(),
        "key-material": json.dumps(
            {name: part for name, part in value.items() if name != "cert"}
        ).encode(),
    }  # fmt: skip
    del wrong["message-digest"]
    found = {check: refused(world, raw) for check, raw in wrong.items()}
    assert found == {check: check for check in wrong}
    assert refused(world, old(bundle), artifact=b"another") == "signature"
    eve = AnySigner((ExpectedSigner(identity="eve@example.com", issuer="https://issuer.example"),))
    assert refused(world, old(bundle), expected=eve) == "identity"


def test_promise_is_over_what_the_old_bundle_says() -> None:
    world = one()
    bundle = world.message(stamps=())
    for name, value in [("logIndex", 1), ("integratedTime", int(SIGNED.timestamp()) + 1)]:
        whole = old_value(bundle)
        whole["rekorBundle"]["Payload"][name] = value
        assert refused(world, json.dumps(whole).encode()) == "inclusion-promise"


def test_old_bundle_has_no_room_for_a_rekor_v2_entry() -> None:
    world = World()
    bundle = world.message()
    (entry,) = bundle.entries
    promised = replace(entry, promise=b"x", integrated_time=int(SIGNED.timestamp()))
    assert refused(world, old(replace(bundle, entries=(promised,)))) == "promise-unexpected"


def test_proof_may_be_demanded() -> None:
    world = one()
    assert refused(world, old(world.message()), promise_only=False) == "proof-missing"


# --- detached files ------------------------------------------------------------------------


def detached_of(bundle: Bundle, **changes: Any) -> Detached:
    parts: dict[str, Any] = {
        "signature": base64.b64encode(bundle.content.signature),
        "certificate": pem_of(bundle.certificates[0]) if bundle.certificates else None,
    }
    return Detached(**(parts | changes))


def test_detached_signature_without_log_evidence_is_refused_and_says_what_to_do() -> None:
    world = one()
    with pytest.raises(VerificationError) as error:
        accepted(world, None, detached_of(world.message()))
    assert error.value.check == "log-threshold"
    assert "no log entry" in error.value.message
    assert "--bundle" in (error.value.hint or "")
    assert "--insecure-ignore-tlog" in (error.value.hint or "")


def test_detached_signature_of_a_certificate_needs_a_time_even_then() -> None:
    world = one()
    bundle = world.message()
    with pytest.raises(VerificationError) as error:
        accepted(world, None, detached_of(bundle), tlog_threshold=0)
    assert error.value.check == "time-threshold"
    assert "--rfc3161-timestamp" in (error.value.hint or "")
    stamped = detached_of(bundle, timestamp=bundle.timestamps[0])
    verified = accepted(world, None, stamped, tlog_threshold=0)
    assert verified.entries == ()
    assert "log-entries" in verified.omitted
    assert [item.source for item in verified.times] == ["tsa"]


def test_detached_signature_of_a_managed_key() -> None:
    world = one()
    key = ManagedKey(world.key.public_key())
    parts = detached_of(world.message(managed=True))
    assert refused(world, None, parts, expected=key) == "log-threshold"
    assert accepted(world, None, parts, expected=key, tlog_threshold=0).key_sha256
    found = refused(world, None, parts, expected=key, tlog_threshold=0, artifact=b"another")
    assert found == "signature"


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_signature_is_base64_text_or_raw(ending: bytes) -> None:
    world = one()
    bundle = world.message(managed=True)
    key = ManagedKey(world.key.public_key())
    text = base64.b64encode(bundle.content.signature) + ending
    for signature in (text, bundle.content.signature):
        parts = detached_of(bundle, signature=signature)
        assert accepted(world, None, parts, expected=key, tlog_threshold=0)


def test_rsa_signature_that_begins_like_json_is_a_signature() -> None:
    key = rsa.generate_private_key(65537, 2048)
    signature = b"{" + bytes(255)
    found = read_bundle(None, Detached(signature=base64.b64encode(signature)))
    assert found.content.signature == signature
    assert not isinstance(found.content, DsseEnvelope)
    del key


@pytest.mark.parametrize("wrap", [lambda raw: raw, base64.b64encode])
@pytest.mark.parametrize("before", [b"", b"subject=nobody\n", b"\r\n"])
def test_certificate_is_pem_or_base64_of_it(wrap: Any, before: bytes) -> None:
    bundle = one().message()
    pem = before + pem_of(bundle.certificates[0]).replace(b"\n", b"\r\n")
    found = read_bundle(None, detached_of(bundle, certificate=wrap(pem)))
    assert found.certificates == bundle.certificates
    raw = read_bundle(None, detached_of(bundle, certificate=bundle.certificates[0]))
    assert raw.certificates == bundle.certificates


@pytest.mark.parametrize(
    ("part", "value", "check"),
    [
        ("signature", b"", "bundle-content"),
        ("signature", b" \n", "bundle-content"),
        ("signature", b"{}", "bundle-content"),
        ("certificate", b"-----BEGIN CERTIFICATE-----\n", "certificate-format"),
        ("certificate", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
         "certificate-format"),
        ("certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" * 33,
         "certificate-format"),
        ("certificate", bytes(3 << 20), "certificate-format"),
        ("chain", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
         "certificate-format"),
        ("timestamp", b"", "bundle-timestamp"),
        ("timestamp", b"{}", "bundle-timestamp"),
        ("timestamp", b'{"SignedRFC3161Timestamp": "%"}', "bundle-timestamp"),
        ("timestamp", b'{"signedTimestamp": "AAAA"}', "bundle-timestamp"),
    ],
)  # fmt: skip
def test_malformed_part_is_refused(part: str, value: bytes, check: str) -> None:
    assert unreadable(None, detached_of(one().message(), **{part: value})) == check


def test_many_dashes_take_linear_time() -> None:
    hostile = b"-----BEGIN CERTIFICATE-----" + b" \n" * 500_000 + b"-----END X-----"
    assert unreadable(None, detached_of(one().message(), certificate=hostile)) == (
        "certificate-format"
    )


def test_chain_is_read_and_not_trusted() -> None:
    world = one()
    stranger = World(key=world.key, ct=world.ct, rekor=world.rekor, tsa=world.tsa)
    bundle = world.message(certificate=stranger.certificate())
    chain = b"".join(
        ca.certificate.public_bytes(serialization.Encoding.PEM)
        for ca in (stranger.ca, stranger.ca_root)
    )
    parts = detached_of(bundle, chain=chain, timestamp=bundle.timestamps[0])
    assert refused(world, None, parts, tlog_threshold=0) == "certificate-chain"
    good = world.message()
    own = b"".join(
        ca.certificate.public_bytes(serialization.Encoding.PEM) for ca in (world.ca, world.ca_root)
    )
    parts = detached_of(good, chain=own, timestamp=good.timestamps[0])
    assert accepted(world, None, parts, tlog_threshold=0)


@pytest.mark.parametrize(
    "form",
    [
        lambda raw: raw,
        base64.b64encode,
        lambda raw: json.dumps({"SignedRFC3161Timestamp": b64(raw)}).encode(),
    ],
    ids=["DER", "base64", "JSON"],
)
def test_timestamp_in_a_file_of_its_own(form: Any) -> None:
    world = one()
    bundle = world.message()
    parts = Detached(timestamp=form(bundle.timestamps[0]))
    verified = accepted(world, old(bundle), parts)
    assert [item.source for item in verified.times] == ["tsa", "rekor"]


def test_old_bundle_takes_what_it_lacks_from_files() -> None:
    world = one()
    bundle = world.message(stamps=())
    value = old_value(bundle)
    del value["cert"]
    raw = json.dumps(value).encode()
    assert refused(world, raw) == "key-material"
    assert accepted(world, raw, detached_of(bundle))
    other = world.message(stamps=())
    assert unreadable(old(bundle), detached_of(other)) == "bundle-content"
    mixed = detached_of(bundle, certificate=pem_of(other.certificates[0]))
    assert unreadable(old(bundle), mixed) == "bundle-material"


def test_what_is_detached_can_be_written_as_a_bundle_of_today() -> None:
    bundle = read_bundle(None, detached_of(one().message()))
    assert parse_bundle(serialize_bundle(bundle)).content == bundle.content


WORLD = one()
GOOD = old(WORLD.message(stamps=()))
assert isinstance(load_public_key(public_pem(WORLD)), ec.EllipticCurvePublicKey)

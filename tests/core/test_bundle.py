"""Bundles: what is read, what is refused, and what is written."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core.bundle import (
    MAX_BUNDLE_BYTES,
    MAX_ENTRIES,
    MAX_TIMESTAMPS,
    MEDIA_TYPE,
    Bundle,
    BundleVersion,
    DsseEnvelope,
    InclusionProof,
    MessageSignature,
    TlogEntry,
    parse_bundle,
    parse_tlog_entry,
    serialize_bundle,
    tlog_entry_json,
)
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.errors import VerificationError

Edit = Callable[[Any], None]
OLD_TYPE = "application/vnd.dev.sigstore.bundle+json;version="


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


DIGEST = digest_of(HashAlgorithm.SHA256, b"artifact")
ENTRY = {
    "logIndex": "735",
    "logId": {"keyId": b64(b"i" * 32)},
    "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"},
    "integratedTime": "1710869186",
    "inclusionPromise": {"signedEntryTimestamp": b64(b"promise")},
    "inclusionProof": {
        "logIndex": "3",
        "rootHash": b64(b"r" * 32),
        "treeSize": "5",
        "hashes": [b64(b"a" * 32), b64(b"b" * 32)],
        "checkpoint": {"envelope": "note"},
    },
    "canonicalizedBody": b64(b"{}"),
}
MESSAGE = {
    "messageDigest": {"algorithm": "SHA2_256", "digest": b64(DIGEST.value)},
    "signature": b64(b"signature"),
}
ENVELOPE = {
    "payload": b64(b"{}"),
    "payloadType": "application/vnd.in-toto+json",
    "signatures": [{"sig": b64(b"signature"), "keyid": ""}],
}
V03 = {
    "mediaType": MEDIA_TYPE,
    "verificationMaterial": {
        "certificate": {"rawBytes": b64(b"leaf")},
        "tlogEntries": [ENTRY],
        "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": b64(b"tsr")}]},
    },
    "messageSignature": MESSAGE,
}


def _raw(*edits: Edit) -> bytes:
    value = copy.deepcopy(V03)
    for edit in edits:
        edit(value)
    return json.dumps(value).encode()


def put(path: str, item: object) -> Edit:
    """Return an edit that sets what stands at a dotted path; ``...`` deletes it."""

    def edit(value: Any) -> None:
        *parents, last = path.split(".")
        for name in parents:
            value = value[int(name) if name.isdigit() else name]
        key = int(last) if last.isdigit() else last
        if item is ...:
            del value[key]
        else:
            value[key] = copy.deepcopy(item)

    return edit


def material(name: str, item: object) -> Edit:
    return put(f"verificationMaterial.{name}", item)


def entry(name: str, item: object) -> Edit:
    return put(f"verificationMaterial.tlogEntries.0.{name}", item)


def as_version(version: str) -> Edit:
    """Return an edit that turns the bundle into one of version 0.1 or 0.2."""

    def edit(value: Any) -> None:
        value["mediaType"] = OLD_TYPE + version
        leaf = value["verificationMaterial"].pop("certificate")
        value["verificationMaterial"]["x509CertificateChain"] = {"certificates": [leaf]}

    return edit


def managed_key(hint: object) -> Edit:
    def edit(value: Any) -> None:
        del value["verificationMaterial"]["certificate"]
        value["verificationMaterial"]["publicKey"] = hint

    return edit


def as_envelope(value: Any) -> None:
    del value["messageSignature"]
    value["dsseEnvelope"] = copy.deepcopy(ENVELOPE)


def _refusal(*edits: Edit) -> str:
    with pytest.raises(VerificationError) as caught:
        parse_bundle(_raw(*edits))
    return caught.value.check


# --- the whole file --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        _raw()[:-1],
        _raw() + b"x",
        b"\xef\xbb\xbf" + _raw(),
        _raw().decode().encode("utf-16"),
        _raw().replace(b'"logIndex": "735"', b'"logIndex": "735", "logIndex": "735"'),
        b'{"a":' + b"[" * 40 + b"]" * 40 + b"," + _raw()[1:],
        b'{"a":' + b"[" * 100_000,
        b" " * MAX_BUNDLE_BYTES + _raw(),
    ],
    ids=["empty", "list", "null", "cut", "cut-end", "more", "bom", "utf16", "twice", "deep",
         "very-deep", "large"],
)  # fmt: skip
def test_file_that_is_no_strict_json_is_refused(raw: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        parse_bundle(raw)
    assert caught.value.check == "bundle-json"


@pytest.mark.parametrize(
    "media_type",
    [
        ...,
        None,
        "",
        1,
        "application/json",
        OLD_TYPE + "0.4",
        OLD_TYPE + "99.9",
        "application/vnd.dev.sigstore.bundle.v0.2+json",
        "application/vnd.dev.sigstore.bundle.v0.4+json",
        MEDIA_TYPE.upper(),
        MEDIA_TYPE + " ",
    ],
)
def test_unknown_media_type_is_refused(media_type: object) -> None:
    assert _refusal(put("mediaType", media_type)) == "bundle-media-type"


@pytest.mark.parametrize(
    ("edits", "version"),
    [
        ([as_version("0.1")], BundleVersion.V01),
        ([as_version("0.2")], BundleVersion.V02),
        ([put("mediaType", OLD_TYPE + "0.3")], BundleVersion.V03),
        ([], BundleVersion.V03),
    ],
)
def test_every_version_is_read(edits: list[Edit], version: BundleVersion) -> None:
    bundle = parse_bundle(_raw(*edits))
    assert bundle.version is version
    assert bundle.certificates == (b"leaf",)
    assert bundle.key_hint is None


def test_everything_is_read() -> None:
    assert parse_bundle(_raw()) == Bundle(
        version=BundleVersion.V03,
        certificates=(b"leaf",),
        key_hint=None,
        entries=(
            TlogEntry(
                log_index=735,
                log_id=b"i" * 32,
                kind="hashedrekord",
                version="0.0.1",
                integrated_time=1710869186,
                promise=b"promise",
                proof=InclusionProof(3, b"r" * 32, 5, (b"a" * 32, b"b" * 32), "note"),
                body=b"{}",
            ),
        ),
        timestamps=(b"tsr",),
        content=MessageSignature(b"signature", DIGEST),
    )


@pytest.mark.parametrize(
    ("edit", "check"),
    [
        (put("later", {"a": [1]}), "bundle-json"),
        (put("later", None), "bundle-json"),
        (material("later", 1), "bundle-material"),
        (material("certificate.later", 1), "bundle-material"),
        (entry("later", "x"), "bundle-entry"),
        (entry("inclusionProof.later", "x"), "bundle-entry"),
        (put("messageSignature.later", "x"), "bundle-content"),
    ],
)
def test_unknown_keys_are_refused(edit: Edit, check: str) -> None:
    with pytest.raises(VerificationError) as error:
        parse_bundle(_raw(edit))
    assert error.value.check == check


def test_unknown_version_is_named_before_unknown_keys() -> None:
    with pytest.raises(VerificationError) as error:
        parse_bundle(_raw(put("later", 1), put("mediaType", MEDIA_TYPE.replace("0.3", "0.4"))))
    assert error.value.check == "bundle-media-type"


def test_log_may_say_more_of_an_entry_than_a_bundle_may() -> None:
    assert parse_tlog_entry({**ENTRY, "later": 1}) == parse_tlog_entry(ENTRY)


# --- keys and certificates -------------------------------------------------------------------

CHAIN = {"certificates": [{"rawBytes": b64(b"leaf")}, {"rawBytes": b64(b"intermediate")}]}


@pytest.mark.parametrize(
    "edits",
    [
        [put("verificationMaterial", ...)],
        [put("verificationMaterial", None)],
        [put("verificationMaterial", [])],
        [material("certificate", ...)],
        [material("certificate", None)],
        [material("certificate", {})],
        [material("certificate", {"rawBytes": ""})],
        [material("certificate", {"rawBytes": "bGVhZg"})],
        [material("certificate", {"raw_bytes": b64(b"leaf")})],
        [material("certificate", "bGVhZg==")],
        [material("publicKey", {"hint": "h"})],
        [material("x509CertificateChain", CHAIN)],
        [material("certificate", ...), material("x509CertificateChain", CHAIN)],
        [put("mediaType", OLD_TYPE + "0.1")],
        [put("mediaType", OLD_TYPE + "0.2")],
        [as_version("0.2"), material("x509CertificateChain", {})],
        [as_version("0.2"), material("x509CertificateChain", {"certificates": []})],
        [as_version("0.2"), material("x509CertificateChain", {"certificates": [{}]})],
        [
            as_version("0.2"),
            material("x509CertificateChain.certificates", CHAIN["certificates"] * 17),
        ],
        [managed_key({"hint": 1})],
        [managed_key("hint")],
    ],
)
def test_wrong_key_material_is_refused(edits: list[Edit]) -> None:
    assert _refusal(*edits) == "bundle-material"


def test_chain_is_read_leaf_first() -> None:
    bundle = parse_bundle(_raw(as_version("0.2"), material("x509CertificateChain", CHAIN)))
    assert bundle.certificates == (b"leaf", b"intermediate")


@pytest.mark.parametrize(("key", "hint"), [({"hint": "h"}, "h"), ({}, ""), ({"hint": None}, "")])
def test_managed_key_has_a_hint(key: object, hint: str) -> None:
    bundle = parse_bundle(_raw(managed_key(key)))
    assert (bundle.certificates, bundle.key_hint) == ((), hint)


def test_envelope_that_names_another_managed_key_is_refused() -> None:
    keyid = put("dsseEnvelope.signatures.0.keyid", "other")
    assert _refusal(managed_key({"hint": "h"}), as_envelope, keyid) == "bundle-material"
    for hint, name in (("h", ""), ("h", "h"), ("", "other")):
        keyid = put("dsseEnvelope.signatures.0.keyid", name)
        parse_bundle(_raw(managed_key({"hint": hint}), as_envelope, keyid))
    parse_bundle(_raw(as_envelope, put("dsseEnvelope.signatures.0.keyid", "any")))


# --- log entries -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edits",
    [
        [material("tlogEntries", {})],
        [material("tlogEntries", [None])],
        [material("tlogEntries", ["x"])],
        [entry("logIndex", "-1")],
        [entry("logIndex", -1)],
        [entry("logIndex", "9223372036854775808")],
        [entry("logIndex", " 735 ")],
        [entry("logIndex", "7_35")],
        [entry("logIndex", 735.0)],
        [entry("logIndex", True)],
        [entry("log_index", "735")],
        [entry("logId", ...)],
        [entry("logId", {})],
        [entry("logId", {"keyId": ""})],
        [entry("logId", {"keyId": "wNI9 atQ="})],
        [entry("kindVersion", ...)],
        [entry("kindVersion", {"kind": "hashedrekord"})],
        [entry("kindVersion", {"version": "0.0.1"})],
        [entry("kindVersion.kind", 1)],
        [entry("integratedTime", ...)],
        [entry("integratedTime", "0")],
        [entry("integratedTime", "-5")],
        [entry("inclusionPromise", {})],
        [entry("inclusionPromise", {"signedEntryTimestamp": ""})],
        [entry("inclusionPromise", [])],
        [entry("inclusionProof", ...)],
        [entry("inclusionProof", None)],
        [entry("inclusionProof.checkpoint", ...)],
        [entry("inclusionProof.checkpoint", {})],
        [entry("inclusionProof.checkpoint.envelope", "")],
        [entry("inclusionProof.checkpoint.envelope", 1)],
        [entry("inclusionProof.rootHash", ...)],
        [entry("inclusionProof.rootHash", b64(b"r" * 31))],
        [entry("inclusionProof.treeSize", "-1")],
        [entry("inclusionProof.logIndex", "01")],
        [entry("inclusionProof.hashes", [b64(b"a" * 33)])],
        [entry("inclusionProof.hashes", [""])],
        [entry("inclusionProof.hashes", [None])],
        [entry("inclusionProof.hashes", [b64(b"a" * 32)] * 65)],
        [entry("inclusionProof.hashes", b64(b"a" * 32))],
        [entry("canonicalizedBody", ...)],
        [entry("canonicalizedBody", "")],
        [entry("canonicalizedBody", "e30")],
        [material("tlogEntries", [ENTRY, ENTRY])],
        [as_version("0.2"), entry("inclusionProof", ...)],
        [as_version("0.2"), entry("inclusionProof.checkpoint", ...)],
        [as_version("0.1"), entry("inclusionPromise", ...)],
    ],
)
def test_malformed_entry_is_refused(edits: list[Edit]) -> None:
    assert _refusal(*edits) == "bundle-entry"


def _entries(count: int) -> list[object]:
    return [{**ENTRY, "logIndex": str(number)} for number in range(count)]


def test_number_of_entries_is_limited() -> None:
    bundle = parse_bundle(_raw(material("tlogEntries", _entries(MAX_ENTRIES))))
    assert len(bundle.entries) == MAX_ENTRIES
    assert _refusal(material("tlogEntries", _entries(MAX_ENTRIES + 1))) == "bundle-entry"


def test_same_index_in_another_log_is_another_entry() -> None:
    other = {**ENTRY, "logId": {"keyId": b64(b"j" * 32)}}
    assert len(parse_bundle(_raw(material("tlogEntries", [ENTRY, other]))).entries) == 2


@pytest.mark.parametrize("item", [..., None, []], ids=repr)
def test_bundle_may_have_no_entry(item: object) -> None:
    assert parse_bundle(_raw(material("tlogEntries", item))).entries == ()


def test_zero_fields_may_be_left_out() -> None:
    # proto3 leaves out what is zero: this is the first entry of a new log.
    edits = [entry("logIndex", ...), entry("inclusionProof.logIndex", ...)]
    edits += [entry("inclusionProof.hashes", ...), entry("inclusionProof.treeSize", "1")]
    (found,) = parse_bundle(_raw(*edits)).entries
    assert found.proof is not None
    assert (found.log_index, found.proof.log_index, found.proof.hashes) == (0, 0, ())


def test_integers_may_be_numbers() -> None:
    edits = [entry("logIndex", 735), entry("integratedTime", 1710869186)]
    edits += [entry("inclusionProof.treeSize", 5), entry("inclusionProof.logIndex", 3)]
    assert parse_bundle(_raw(*edits)) == parse_bundle(_raw())


def test_null_means_absent() -> None:
    edits = [put("dsseEnvelope", None), material("publicKey", None)]
    edits += [entry("inclusionPromise", None), entry("integratedTime", None)]
    edits += [material("x509CertificateChain", None)]
    absent = [entry("inclusionPromise", ...), entry("integratedTime", ...)]
    assert parse_bundle(_raw(*edits)) == parse_bundle(_raw(*absent))


@pytest.mark.parametrize("time", ["0", 0, None, ...], ids=repr)
def test_entry_of_rekor_v2_has_neither_promise_nor_time(time: object) -> None:
    edits = [entry("inclusionPromise", None), entry("integratedTime", time)]
    (found,) = parse_bundle(_raw(*edits)).entries
    assert (found.promise, found.integrated_time) == (None, None)


def test_time_without_promise_is_kept_as_the_unproven_claim_it_is() -> None:
    (found,) = parse_bundle(_raw(entry("inclusionPromise", ...))).entries
    assert (found.promise, found.integrated_time) == (None, 1710869186)


@pytest.mark.parametrize("name", ["inclusionProof", "inclusionProof.checkpoint"])
def test_version_01_needs_the_promise_only(name: str) -> None:
    (found,) = parse_bundle(_raw(as_version("0.1"), entry(name, ...))).entries
    assert found.proof is None or found.proof.checkpoint is None


def test_lone_entry_is_read_as_rekor_v2_answers_it() -> None:
    answer = {**ENTRY, "integratedTime": "0", "inclusionPromise": None}
    found = parse_tlog_entry(answer)  # type: ignore[arg-type]
    assert (found.integrated_time, found.promise, found.body) == (None, None, b"{}")
    for wrong in (None, [], "x", {**answer, "logIndex": "x"}, {**answer, "logId": None}):
        with pytest.raises(VerificationError) as caught:
            parse_tlog_entry(wrong)  # type: ignore[arg-type]
        assert caught.value.check == "bundle-entry"


# --- timestamps and content ------------------------------------------------------------------

STAMPS = "timestampVerificationData"


@pytest.mark.parametrize(
    "edit",
    [
        material(STAMPS, []),
        material(f"{STAMPS}.rfc3161Timestamps", {}),
        material(f"{STAMPS}.rfc3161Timestamps", ["dHNy"]),
        material(f"{STAMPS}.rfc3161Timestamps", [{}]),
        material(f"{STAMPS}.rfc3161Timestamps", [{"signedTimestamp": ""}]),
        material(f"{STAMPS}.rfc3161Timestamps", [{"signedTimestamp": "dHNy\n"}]),
        material(f"{STAMPS}.rfc3161Timestamps", [{"signedTimestamp": "dHNy"}] * 2),
        material(
            f"{STAMPS}.rfc3161Timestamps",
            [{"signedTimestamp": b64(b"%d" % n)} for n in range(MAX_TIMESTAMPS + 1)],
        ),
        material(f"{STAMPS}.rfc3161_timestamps", []),
    ],
)
def test_malformed_timestamps_are_refused(edit: Edit) -> None:
    assert _refusal(edit) == "bundle-timestamp"


@pytest.mark.parametrize("item", [..., None, {}, {"rfc3161Timestamps": []}], ids=repr)
def test_bundle_may_have_no_timestamp(item: object) -> None:
    assert parse_bundle(_raw(material(STAMPS, item))).timestamps == ()


@pytest.mark.parametrize(
    "edits",
    [
        [put("messageSignature", ...)],
        [put("messageSignature", None)],
        [put("messageSignature", [])],
        [put("dsseEnvelope", ENVELOPE)],
        [put("messageSignature.signature", ...)],
        [put("messageSignature.signature", "")],
        [put("messageSignature.signature", "c2ln bmF0dXJl")],
        [put("messageSignature.messageDigest.algorithm", ...)],
        [put("messageSignature.messageDigest.algorithm", "SHA3_256")],
        [put("messageSignature.messageDigest.algorithm", "sha256")],
        [put("messageSignature.messageDigest.algorithm", 1)],
        [put("messageSignature.messageDigest.algorithm", "SHA2_512")],
        [put("messageSignature.messageDigest.digest", ...)],
        [put("messageSignature.messageDigest.digest", b64(b"d" * 31))],
        [put("messageSignature.message_digest", {})],
        [as_envelope, put("dsseEnvelope.payload", "?")],
        [as_envelope, put("dsseEnvelope.payloadType", ...)],
        [as_envelope, put("dsseEnvelope.payloadType", "")],
        [as_envelope, put("dsseEnvelope.payload_type", "x")],
        [as_envelope, put("dsseEnvelope.signatures", ...)],
        [as_envelope, put("dsseEnvelope.signatures", [])],
        [as_envelope, put("dsseEnvelope.signatures", ENVELOPE["signatures"] * 2)],  # type: ignore[operator]
        [as_envelope, put("dsseEnvelope.signatures.0.sig", "")],
        [as_envelope, put("dsseEnvelope.signatures.0.sig", ...)],
        [as_envelope, put("dsseEnvelope.signatures.0.keyid", 1)],
    ],
)
def test_malformed_content_is_refused(edits: list[Edit]) -> None:
    assert _refusal(*edits) == "bundle-content"


@pytest.mark.parametrize("item", [..., None], ids=repr)
def test_message_digest_is_optional(item: object) -> None:
    content = parse_bundle(_raw(put("messageSignature.messageDigest", item))).content
    assert content == MessageSignature(b"signature", None)


def test_envelope_is_read() -> None:
    content = parse_bundle(_raw(as_envelope)).content
    assert content == DsseEnvelope(b"{}", "application/vnd.in-toto+json", b"signature", "")


def test_large_payload_is_read() -> None:
    payload = b"x" * (8 << 20)
    raw = _raw(as_envelope, put("dsseEnvelope.payload", b64(payload)))
    content = parse_bundle(raw).content
    assert isinstance(content, DsseEnvelope)
    assert content.payload == payload


# --- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edits",
    [
        [],
        [as_envelope],
        [managed_key({"hint": "h"})],
        [managed_key({})],
        [material("tlogEntries", [])],
        [material(STAMPS, ...)],
        [entry("inclusionPromise", ...), entry("integratedTime", ...)],
        [put("messageSignature.messageDigest", ...)],
        [as_envelope, put("dsseEnvelope.signatures.0.keyid", "ké")],
    ],
)
def test_what_is_written_is_read_again(edits: list[Edit]) -> None:
    bundle = parse_bundle(_raw(*edits))
    assert parse_bundle(serialize_bundle(bundle)) == bundle


def test_old_bundle_is_written_as_v03_with_the_leaf_alone() -> None:
    bundle = parse_bundle(_raw(as_version("0.2"), material("x509CertificateChain", CHAIN)))
    assert parse_bundle(serialize_bundle(bundle)) == parse_bundle(_raw())


def test_zero_is_written_out_and_absent_is_not_written() -> None:
    edits = [entry("logIndex", ...), entry("inclusionProof.logIndex", ...)]
    edits += [entry("inclusionProof.hashes", ...), entry("inclusionProof.treeSize", "1")]
    edits += [entry("inclusionPromise", ...), entry("integratedTime", "0")]
    written = json.loads(serialize_bundle(parse_bundle(_raw(*edits))))
    (found,) = written["verificationMaterial"]["tlogEntries"]
    assert found["logIndex"] == "0"
    assert found["inclusionProof"]["logIndex"] == "0"
    assert found["inclusionProof"]["hashes"] == []
    assert "integratedTime" not in found
    assert "inclusionPromise" not in found
    assert tlog_entry_json(parse_tlog_entry(found)) == found


@pytest.mark.parametrize("name", ["inclusionProof", "inclusionProof.checkpoint"])
def test_bundle_that_v03_cannot_say_is_not_written(name: str) -> None:
    bundle = parse_bundle(_raw(as_version("0.1"), entry(name, ...)))
    with pytest.raises(ValueError, match="checkpoint"):
        serialize_bundle(bundle)


# --- real bundles ----------------------------------------------------------------------------


def _cases(vectors: Path) -> Iterator[tuple[str, bytes]]:
    for folder in sorted((vectors / "conformance").iterdir()):
        if folder.is_dir():
            yield folder.name, (folder / "bundle.sigstore.json").read_bytes()


def test_real_bundles_are_read_unless_their_form_is_what_is_wrong(vectors: Path) -> None:
    malformed = {
        "bundle-empty-certificate-chain_fail": "bundle-material",
        "bundle-malformed-json_fail": "bundle-json",
    }
    refused = {}
    for name, raw in _cases(vectors):
        try:
            parse_bundle(raw)
        except VerificationError as exc:
            refused[name] = exc.check
    assert refused == malformed


def test_real_bundles_are_written_so_that_others_read_them(vectors: Path) -> None:
    models = pytest.importorskip("sigstore.models")
    written = 0
    for name, raw in _cases(vectors):
        if name.endswith("_fail") or name.startswith("managed-key"):
            continue  # that reader knows no managed keys
        bundle = parse_bundle(raw)
        ours = serialize_bundle(bundle)
        assert parse_bundle(ours).entries == bundle.entries
        models.Bundle.from_json(ours)
        written += 1
    assert written >= 8


def test_first_entry_of_a_log_is_written_so_that_others_read_it(vectors: Path) -> None:
    models = pytest.importorskip("sigstore.models")
    folder = vectors / "conformance" / "intoto-with-custom-trust-root"
    value = json.loads((folder / "bundle.sigstore.json").read_bytes())
    (found,) = value["verificationMaterial"]["tlogEntries"]
    for fields, name in (
        (found, "logIndex"),
        (found["inclusionProof"], "logIndex"),
        (found["inclusionProof"], "hashes"),
    ):
        del fields[name]
    ours = serialize_bundle(parse_bundle(json.dumps(value).encode()))
    assert models.Bundle.from_json(ours).log_entry._inner.log_index == 0


PASS_CASES = [
    "happy-path-v0.1",
    "happy-path-v0.3",
    "happy-path-intoto-in-dsse-v3",
    "intoto-with-custom-trust-root",
    "managed-key-happy-path",
    "rekor2-happy-path",
]


@pytest.mark.parametrize("case", PASS_CASES)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_damaged_real_bundle_raises_nothing_else(
    vectors: Path, case: str, data: st.DataObject
) -> None:
    raw = (vectors / "conformance" / case / "bundle.sigstore.json").read_bytes().rstrip()
    position = data.draw(st.integers(0, len(raw) - 1))
    with suppress(VerificationError):
        parse_bundle(raw[:position] + bytes([data.draw(st.integers(0, 255))]) + raw[position + 1 :])
    with suppress(VerificationError):
        parse_bundle(raw[:position] + raw[position + 1 + data.draw(st.integers(0, 50)) :])
    with pytest.raises(VerificationError):
        parse_bundle(raw[:position])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


WRONG = [None, 0, -1, 1.5, True, "", "x", "é", [], [None], {}, {"x": 1}, 1 << 64]


@pytest.mark.parametrize("case", PASS_CASES)
def test_every_field_of_a_real_bundle_may_be_anything(vectors: Path, case: str) -> None:
    raw = (vectors / "conformance" / case / "bundle.sigstore.json").read_bytes()
    value = json.loads(raw)
    for container, key in list(_places(value)):
        saved = container[key]
        for wrong in WRONG:
            container[key] = wrong
            with suppress(VerificationError):
                parse_bundle(json.dumps(value).encode())
        container[key] = saved
        if isinstance(container, dict):
            del container[key]
            with suppress(VerificationError):
                parse_bundle(json.dumps(value).encode())
            container[key] = saved
    assert parse_bundle(json.dumps(value).encode()) == parse_bundle(raw)

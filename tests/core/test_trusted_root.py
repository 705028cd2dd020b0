"""Trust roots."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core.keys import spki
from keylessd.core.note import note_key_id
from keylessd.core.trusted_root import (
    MAX_TRUSTED_ROOT_BYTES,
    MEDIA_TYPE_V01,
    MEDIA_TYPE_V02,
    TimeRange,
    TransparencyLog,
    parse_trusted_root,
    serialize_trusted_root,
)
from keylessd.errors import InvalidInputError
from sigsim.pki import with_negative_serial

Edit = Callable[[Any], None]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


P256 = ec.derive_private_key(5, ec.SECP256R1())
P384 = ec.derive_private_key(5, ec.SECP384R1())
P521 = ec.derive_private_key(5, ec.SECP521R1())
ED = ed25519.Ed25519PrivateKey.from_private_bytes(b"e" * 32)
RSA = rsa.generate_private_key(65537, 2048)
P256_SPKI, ED_SPKI = spki(P256.public_key()), spki(ED.public_key())
PKCS1 = RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
START = datetime(2025, 1, 1, tzinfo=UTC)


def _certificate(key: ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey) -> bytes:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=1))
        .sign(P256, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


CERTIFICATE = _certificate(P256)
LOG = {
    "baseUrl": "https://rekor.example.com",
    "hashAlgorithm": "SHA2_256",
    "publicKey": {
        "rawBytes": b64(P256_SPKI),
        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
        "validFor": {"start": "2025-01-01T00:00:00Z", "end": "2025-12-31T23:59:59.999Z"},
    },
    "logId": {"keyId": b64(hashlib.sha256(P256_SPKI).digest())},
}
ED_LOG = {
    "baseUrl": "https://log2025-1.rekor.example.com",
    "hashAlgorithm": "SHA2_256",
    "publicKey": {
        "rawBytes": b64(ED_SPKI),
        "keyDetails": "PKIX_ED25519",
        "validFor": {"start": "2025-01-01T00:00:00Z"},
    },
}
AUTHORITY = {
    "subject": {"organization": "example.com", "commonName": "authority"},
    "uri": "https://fulcio.example.com",
    "certChain": {"certificates": [{"rawBytes": b64(CERTIFICATE)}] * 2},
    "validFor": {"start": "2025-01-01T00:00:00Z"},
}
ROOT = {
    "mediaType": MEDIA_TYPE_V01,
    "tlogs": [LOG, ED_LOG],
    "certificateAuthorities": [AUTHORITY],
    "ctlogs": [LOG],
    "timestampAuthorities": [AUTHORITY],
}


def _raw(*edits: Edit) -> bytes:
    value = json.loads(json.dumps(ROOT))  # unlike deepcopy, this undoes the sharing in ROOT
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


def _key(raw: bytes, details: str) -> Edit:
    def edit(value: Any) -> None:
        value["ctlogs"][0]["publicKey"].update(rawBytes=b64(raw), keyDetails=details)

    return edit


# --- time ranges -----------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.timedeltas(timedelta(seconds=3), timedelta(days=1000)),
    st.sampled_from([timedelta(0), timedelta(microseconds=1), timedelta(seconds=1)]),
)
def test_both_ends_belong_to_a_range(start: datetime, length: timedelta, step: timedelta) -> None:
    period, open_ended = TimeRange(start, start + length), TimeRange(start, None)
    assert period.contains(start + step)
    assert period.contains(start + length - step)
    assert open_ended.contains(start + step)
    assert period.contains(start - step) is (not step)
    assert open_ended.contains(start - step) is (not step)
    assert period.contains(start + length + step) is (not step)
    assert open_ended.contains(start + length + step)


@pytest.mark.parametrize("end", [None, START])
def test_range_without_start_contains_nothing(end: datetime | None) -> None:
    for time in (START, START - timedelta(days=1), datetime.min.replace(tzinfo=UTC)):
        assert not TimeRange(None, end).contains(time)


def test_fraction_of_the_end_counts() -> None:
    period = parse_trusted_root(_raw()).tlogs[0].valid_for
    last = datetime(2025, 12, 31, 23, 59, 59, 999_000, UTC)
    assert period.contains(last)
    assert not period.contains(last + timedelta(microseconds=1))


@pytest.mark.parametrize("item", [..., None, {}, {"end": "2030-01-01T00:00:00Z"}], ids=repr)
@pytest.mark.parametrize(
    "path", ["tlogs.0.publicKey.validFor", "certificateAuthorities.0.validFor"]
)
def test_missing_start_is_loaded_and_never_valid(path: str, item: object) -> None:
    root = parse_trusted_root(_raw(put(path, item)))
    kind = root.tlogs if path.startswith("tlogs") else root.certificate_authorities
    assert not kind[0].valid_for.contains(START + timedelta(days=1))
    assert root.disabled == ()


# --- malformed files -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"not json",
        _raw()[:-1],
        _raw().replace(b'"tlogs"', b'"tlogs": [], "tlogs"', 1),
        b" " * MAX_TRUSTED_ROOT_BYTES + _raw(),
        *(
            _raw(put("mediaType", kind))
            for kind in (..., "", 1, "application/vnd.dev.sigstore.trustedroot.v0.3+json", "x")
        ),
        _raw(put("tlogs", {})),
        _raw(put("tlogs", [1])),
        _raw(put("tlogs", [LOG] * 257)),
        _raw(put("tlogs.0.baseUrl", 1)),
        _raw(put("tlogs.0.base_url", "x")),
        _raw(put("tlogs.0.publicKey", ...)),
        _raw(put("tlogs.0.publicKey.rawBytes", "?")),
        _raw(put("tlogs.0.publicKey.validFor.start", "2025-01-01T00:00:00")),
        _raw(put("tlogs.0.publicKey.validFor.start", 1735689600)),
        _raw(put("tlogs.0.logId.keyId", "YWI=")),
        _raw(put("tlogs.0.logId", "x")),
        _raw(put("tlogs.0.checkpointKeyId", {"keyId": ""})),
        _raw(put("tlogs.0.operator", 1)),
        _raw(put("certificateAuthorities.0.certChain", ...)),
        _raw(put("certificateAuthorities.0.certChain.certificates", [])),
        _raw(put("certificateAuthorities.0.certChain.certificates.0.rawBytes", "?")),
        _raw(put("certificateAuthorities.0.subject", [])),
        _raw(put("certificateAuthorities.0.uri", 1)),
    ],
)
def test_malformed_root_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_trusted_root(raw)


@settings(deadline=None)
@given(data=st.data())
def test_damaged_root_raises_nothing_else(data: st.DataObject) -> None:
    raw = _raw()
    position = data.draw(st.integers(0, len(raw) - 1))
    with suppress(InvalidInputError):
        parse_trusted_root(
            raw[:position] + bytes([data.draw(st.integers(0, 255))]) + raw[position + 1 :]
        )
    with suppress(InvalidInputError):
        parse_trusted_root(raw[:position] + raw[position + data.draw(st.integers(1, 60)) :])
    with pytest.raises(InvalidInputError):
        parse_trusted_root(raw[:position])


# --- what is read ----------------------------------------------------------------------------


def test_everything_is_read() -> None:
    raw = _raw()
    root = parse_trusted_root(raw)
    assert root.tlogs[0] == TransparencyLog(
        base_url="https://rekor.example.com",
        name="rekor.example.com",
        key=P256.public_key(),
        key_details="PKIX_ECDSA_P256_SHA_256",
        valid_for=TimeRange(START, datetime(2025, 12, 31, 23, 59, 59, 999_000, UTC)),
        log_id=hashlib.sha256(P256_SPKI).digest(),
        checkpoint_key_id=None,
        operator="",
    )
    assert root.ctlogs == root.tlogs[:1]
    (authority,) = root.certificate_authorities
    assert (authority.organization, authority.common_name) == ("example.com", "authority")
    assert authority.uri == "https://fulcio.example.com"
    assert len(authority.chain) == 2
    assert authority.valid_for == TimeRange(START, None)
    assert root.timestamp_authorities == root.certificate_authorities
    assert root.disabled == ()
    assert root.sha256 == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize(
    "media_type",
    [MEDIA_TYPE_V01, "application/vnd.dev.sigstore.trustedroot.v0.1+json", MEDIA_TYPE_V02],
)
def test_every_version_is_read(media_type: str) -> None:
    assert len(parse_trusted_root(_raw(put("mediaType", media_type))).tlogs) == 2


@pytest.mark.parametrize("item", [..., None, []], ids=repr)
@pytest.mark.parametrize("name", ["tlogs", "ctlogs", "certificateAuthorities"])
def test_any_kind_may_be_missing(name: str, item: object) -> None:
    parse_trusted_root(_raw(put(name, item)))


def test_expired_and_future_entries_are_kept() -> None:
    past = {"start": "1990-01-01T00:00:00Z", "end": "1991-01-01T00:00:00Z"}
    edits = [put("tlogs.0.publicKey.validFor", past)]
    edits += [put("certificateAuthorities.0.validFor", {"start": "2999-01-01T00:00:00Z"})]
    root = parse_trusted_root(_raw(*edits))
    assert (len(root.tlogs), len(root.certificate_authorities)) == (2, 1)


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://rekor.example.com", "rekor.example.com"),
        ("https://rekor.example.com/", "rekor.example.com"),
        ("rekor.example.com", "rekor.example.com"),
        ("rekor.example.com/", "rekor.example.com"),
        ("http://localhost:8000", "localhost:8000"),
        ("localhost:8000", "localhost:8000"),
        ("https://example.com/rekor/2025", "example.com/rekor/2025"),
        ("https://example.com:8443/rekor/", "example.com:8443/rekor"),
    ],
)
def test_name_is_the_url_without_scheme_and_final_slash(base_url: str, name: str) -> None:
    log = parse_trusted_root(_raw(put("tlogs.1.baseUrl", base_url))).tlogs[1]
    assert (log.base_url, log.name) == (base_url, name)
    # A Rekor v2 log is known by its name and key, if the root does not say its id.
    assert log.log_id == note_key_id(name, ED.public_key())
    assert log.checkpoint_hint == log.log_id[:4]


def test_missing_id_of_other_logs_is_the_hash_of_the_key() -> None:
    edits = [put("tlogs.0.logId", ...), put("ctlogs", [ED_LOG])]
    root = parse_trusted_root(_raw(*edits))
    assert root.tlogs[0].log_id == hashlib.sha256(P256_SPKI).digest()
    assert root.ctlogs[0].log_id == hashlib.sha256(ED_SPKI).digest()


def test_log_whose_checkpoint_key_is_not_said_signs_under_its_id() -> None:
    root = parse_trusted_root(_raw(put("tlogs.1.logId", {"keyId": b64(b"log id")})))
    assert root.tlogs[1].checkpoint_hint == b"log "


@pytest.mark.parametrize("key_id", [b"hint", b"hint" + b"x" * 28], ids=["4", "32"])
def test_root_may_say_the_checkpoint_key_and_operators(key_id: bytes) -> None:
    edits = [put("mediaType", MEDIA_TYPE_V02)]
    edits += [put("tlogs.1.checkpointKeyId", {"keyId": b64(key_id)})]
    edits += [put("tlogs.1.operator", "o"), put("timestampAuthorities.0.operator", "t")]
    root = parse_trusted_root(_raw(*edits))
    assert root.tlogs[1].checkpoint_key_id == key_id
    assert root.tlogs[1].checkpoint_hint == b"hint"
    assert root.tlogs[1].operator == "o"
    assert root.timestamp_authorities[0].operator == "t"
    again = serialize_trusted_root(root)
    assert json.loads(again)["mediaType"] == MEDIA_TYPE_V02
    assert replace(parse_trusted_root(again), sha256=root.sha256) == root


# --- keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "details"),
    [
        (b"\x00" * 1312, "ML_DSA_44"),
        (b"", "ML_DSA_65"),
        (P256_SPKI, ""),
        (P256_SPKI, "PKIX_ECDSA_P384_SHA_384"),
        (P256_SPKI, "PKIX_ECDSA_P384_SHA_256"),
        (spki(P384.public_key()), "PKIX_ECDSA_P521_SHA_256"),
        (P256_SPKI, "PKIX_ED25519"),
        (P256_SPKI, "PKIX_RSA_PKCS1V5"),
        (spki(P384.public_key()), "PKIX_ECDSA_P256_SHA_256"),
        (ED_SPKI, "PKIX_ED25519_PH"),
        (ED_SPKI, "PKIX_ECDSA_P256_SHA_256"),
        (spki(RSA.public_key()), "PKIX_RSA_PSS_2048_SHA256"),
        (spki(RSA.public_key()), "PKIX_RSA_PKCS1V15_4096_SHA256"),
        (spki(RSA.public_key()), "PKIX_ED25519"),
        (P256_SPKI[:-1], "PKIX_ECDSA_P256_SHA_256"),
        (b"", "PKIX_ECDSA_P256_SHA_256"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_key_that_cannot_be_used_disables_its_log_only(raw: bytes, details: str) -> None:
    root = parse_trusted_root(_raw(_key(raw, details)))
    assert root.ctlogs == ()
    assert len(root.tlogs) == 2
    assert len(root.disabled) == 1
    assert root.disabled[0].startswith("trustedRoot.ctlogs[0] ('https://rekor.example.com'): ")


@pytest.mark.parametrize("algorithm", [..., "SHA2_512", "HASH_ALGORITHM_UNSPECIFIED"], ids=repr)
def test_other_tree_hash_disables_its_log(algorithm: object) -> None:
    root = parse_trusted_root(_raw(put("tlogs.0.hashAlgorithm", algorithm)))
    assert [log.name for log in root.tlogs] == ["log2025-1.rekor.example.com"]
    assert len(root.disabled) == 1


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("tlogs.0.publicKey", (1, 1, 1, 1)),
        ("ctlogs.0.publicKey", (2, 0, 1, 1)),
        ("certificateAuthorities.0", (2, 1, 0, 1)),
        ("timestampAuthorities.0", (2, 1, 1, 0)),
    ],
)
def test_period_that_ends_before_it_starts_disables_its_entry(
    path: str, left: tuple[int, ...]
) -> None:
    backwards = {"start": "2025-01-02T00:00:00Z", "end": "2025-01-01T00:00:00Z"}
    root = parse_trusted_root(_raw(put(f"{path}.validFor", backwards)))
    kinds = root.tlogs, root.ctlogs, root.certificate_authorities, root.timestamp_authorities
    assert tuple(map(len, kinds)) == left
    assert len(root.disabled) == 1
    assert "ends before it starts" in root.disabled[0]


@pytest.mark.parametrize("raw", [b"", b"junk", CERTIFICATE[:-1], CERTIFICATE + b"\x00"])
def test_certificate_that_cannot_be_read_disables_its_authority(raw: bytes) -> None:
    path = "timestampAuthorities.0.certChain.certificates.1.rawBytes"
    root = parse_trusted_root(_raw(put(path, b64(raw))))
    assert root.timestamp_authorities == ()
    assert len(root.certificate_authorities) == 1
    assert len(root.disabled) == 1


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_certificate_without_a_positive_serial_number_disables_its_authority(action: str) -> None:
    path = "certificateAuthorities.0.certChain.certificates.0.rawBytes"
    raw = _raw(put(path, b64(with_negative_serial(CERTIFICATE))))
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]
        root = parse_trusted_root(raw)
    assert (root.certificate_authorities, len(root.disabled)) == ((), 1)


def test_certificate_with_an_unsupported_key_disables_its_authority() -> None:
    raw = _certificate(ed448.Ed448PrivateKey.generate())
    path = "certificateAuthorities.0.certChain.certificates.0.rawBytes"
    root = parse_trusted_root(_raw(put(path, b64(raw))))
    assert (root.certificate_authorities, len(root.disabled)) == ((), 1)


@pytest.mark.parametrize(
    ("raw", "details"),
    [
        (P256_SPKI, "PKIX_ECDSA_P256_SHA_256"),
        (spki(P384.public_key()), "PKIX_ECDSA_P384_SHA_384"),
        (spki(P384.public_key()), "PKIX_ECDSA_P384_SHA_256"),
        (spki(P521.public_key()), "PKIX_ECDSA_P521_SHA_256"),
        (ED_SPKI, "PKIX_ED25519"),
        (spki(RSA.public_key()), "PKIX_RSA_PKCS1V15_2048_SHA256"),
        (spki(RSA.public_key()), "PKIX_RSA_PKCS1V5"),
        (PKCS1, "PKCS1_RSA_PKCS1V5"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_key_is_read_and_written_as_its_details_say(raw: bytes, details: str) -> None:
    root = parse_trusted_root(_raw(_key(raw, details)))
    assert root.disabled == ()
    (written,) = json.loads(serialize_trusted_root(root))["ctlogs"]
    assert written["publicKey"]["rawBytes"] == b64(raw)
    assert written["publicKey"]["keyDetails"] == details


# --- writing, and real roots -----------------------------------------------------------------


def test_what_is_written_is_read_again() -> None:
    root = parse_trusted_root(_raw())
    written = serialize_trusted_root(root)
    assert json.loads(written)["mediaType"] == MEDIA_TYPE_V01
    assert replace(parse_trusted_root(written), sha256=root.sha256) == root


@pytest.mark.parametrize(
    ("instance", "tlogs", "ctlogs", "authorities"),
    [("production", 2, 2, 2), ("staging", 4, 4, 1)],
)
def test_real_roots_are_read_whole(
    vectors: Path, instance: str, tlogs: int, ctlogs: int, authorities: int
) -> None:
    raw = (vectors / f"trust/{instance}.trusted_root.json").read_bytes()
    root = parse_trusted_root(raw)
    assert root.disabled == ()
    assert (len(root.tlogs), len(root.ctlogs)) == (tlogs, ctlogs)
    assert len(root.certificate_authorities) == authorities
    assert len(root.timestamp_authorities) == 1
    assert all(log.checkpoint_hint == log.log_id[:4] for log in root.tlogs)
    # Also where the key is written as PKCS#1, a CT log's id is the hash of its SPKI.
    assert all(log.log_id == hashlib.sha256(spki(log.key)).digest() for log in root.ctlogs)


def _same(found: Any, wanted: Any) -> bool:
    """Compare JSON, timestamps by their instant and absent strings as empty."""
    if isinstance(wanted, dict):
        return all(_same(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    if isinstance(wanted, str) and wanted[-1:] == "Z" and wanted[:2] == "20":
        return datetime.fromisoformat(found) == datetime.fromisoformat(wanted)
    return bool(found == wanted)


def test_real_roots_are_written_as_they_were_and_others_read_them(
    vectors: Path, tmp_path: Path
) -> None:
    models = pytest.importorskip("sigstore.models")
    paths = [*vectors.glob("trust/*.json"), *vectors.glob("conformance/*/trusted_root.json")]
    assert len(paths) > 5
    for path in paths:
        root = parse_trusted_root(path.read_bytes())
        written = serialize_trusted_root(root)
        assert _same(json.loads(written), json.loads(path.read_bytes()))
        assert replace(parse_trusted_root(written), sha256=root.sha256) == root
        ours = tmp_path / "root.json"
        ours.write_bytes(written)
        theirs = models.TrustedRoot.from_file(str(ours))
        assert theirs.get_fulcio_certs()

"""Signed certificate timestamps: bytes both ways, and each way a promise can be wrong."""

import hashlib
import struct
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from keylessd.core.certificate import parse_leaf
from keylessd.core.keys import spki
from keylessd.core.sct import (
    MAX_SCTS,
    PRECERTIFICATE_SIGNING_OID,
    SCT_LIST_OID,
    SignedCertificateTimestamp,
    encode_sct,
    encode_sct_list,
    parse_sct_list,
    sct_list_extension,
    sct_signed_data,
    sct_signed_data_x509,
    verify_sct,
    verify_scts,
)
from keylessd.core.trusted_root import TimeRange
from keylessd.errors import VerificationError
from sigsim.pki import CODE_SIGNING, START, CtLog, Leaf, der, ec_key, mint_ca, mint_leaf
from sigsim.worlds import tampered

MS = timedelta(milliseconds=1)
SCT = SignedCertificateTimestamp(b"L" * 32, 0x0102030405060708, b"ext", 4, 3, b"signature")


class Scene:
    """A root, an intermediate below it, a log, and a key to certify."""

    def __init__(self) -> None:
        self.root = mint_ca("root")
        self.ca = mint_ca("intermediate", parent=self.root)
        self.log = CtLog(ec_key())
        self.key = ec_key()

    def path(self, leaf: x509.Certificate) -> tuple[x509.Certificate, ...]:
        return (leaf, self.ca.certificate, self.root.certificate)

    def promise(self, **changes: object) -> SignedCertificateTimestamp:
        bare = mint_leaf(self.key, self.ca)
        leaf = replace(Leaf(), **changes)  # type: ignore[arg-type]
        return self.log.promise(
            bare.tbs_certificate_bytes,
            self.ca.certificate,
            at=leaf.sct_time,
            extensions=leaf.sct_extensions,
        )


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def refused(path: tuple[x509.Certificate, ...], *logs: object, threshold: int = 1) -> str:
    with pytest.raises(VerificationError) as error:
        verify_scts(path, logs, threshold=threshold)  # type: ignore[arg-type]
    return error.value.check


# --- bytes ---------------------------------------------------------------------------------


def test_embedded_promise_signs_these_bytes() -> None:
    data = sct_signed_data(
        0x0102030405060708, issuer_key_hash=b"K" * 32, tbs_certificate=b"tbs", extensions=b"ext"
    )
    expected = bytes.fromhex("0000 0102030405060708 0001") + b"K" * 32
    assert data == expected + b"\x00\x00\x03tbs" + b"\x00\x03ext"


def test_detached_promise_signs_these_bytes() -> None:
    data = sct_signed_data_x509(1, certificate=b"cert")
    assert data == bytes.fromhex("0000 0000000000000001 0000 000004") + b"cert" + b"\x00\x00"


def test_encoded_promise_has_this_layout() -> None:
    expected = b"\x00" + b"L" * 32 + bytes.fromhex("0102030405060708") + b"\x00\x03ext"
    assert encode_sct(SCT) == expected + b"\x04\x03\x00\x09signature"


def test_list_survives_a_round_trip() -> None:
    other = replace(SCT, extensions=b"", signature=b"x" * 72)
    assert parse_sct_list(encode_sct_list([SCT, other])) == (SCT, other)


def test_promise_of_an_unknown_version_is_skipped() -> None:
    later = b"\x01" + b"whatever"
    items = [later, encode_sct(SCT)]
    body = b"".join(struct.pack(">H", len(item)) + item for item in items)
    assert parse_sct_list(struct.pack(">H", len(body)) + body) == (SCT,)


@pytest.mark.parametrize("size", range(len(encode_sct_list([SCT]))))
def test_truncated_list_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"wanted|allowed"):
        parse_sct_list(encode_sct_list([SCT])[:size])


@pytest.mark.parametrize(
    "raw",
    [
        encode_sct_list([SCT]) + b"\x00",
        encode_sct_list([SCT]) + encode_sct_list([SCT])[2:],
        encode_sct_list([SCT])[:-1] + b"e\x00",
        encode_sct_list([]),
        encode_sct_list([SCT] * 33),
        b"\x00\x02\x00\x01",
    ],
    ids=["trailing-byte", "trailing-item", "longer-inside", "empty", "too-many", "short-item"],
)
def test_malformed_list_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_sct_list(raw)


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_raise_value_error(raw: bytes) -> None:
    try:
        scts = parse_sct_list(raw)
    except ValueError:
        return
    assert all(len(sct.log_id) == 32 for sct in scts)


# --- verification --------------------------------------------------------------------------


def test_promise_of_a_known_log_verifies(scene: Scene) -> None:
    leaf = mint_leaf(scene.key, scene.ca, [scene.log])
    (sct,) = verify_scts(scene.path(leaf), [scene.log.trusted()])
    assert (sct.log, sct.time) == ("https://ct.example", START)


def test_extensions_are_part_of_what_is_signed(scene: Scene) -> None:
    leaf = mint_leaf(
        scene.key, scene.ca, [scene.log], Leaf(sct_extensions=bytes.fromhex("0000050000000001"))
    )
    assert len(verify_scts(scene.path(leaf), [scene.log.trusted()])) == 1


def test_milliseconds_are_kept(scene: Scene) -> None:
    moment = START + 999 * MS
    leaf = mint_leaf(scene.key, scene.ca, [scene.log], Leaf(sct_time=moment))
    (sct,) = verify_scts(scene.path(leaf), [scene.log.trusted()])
    assert sct.time == moment


def test_rsa_log_verifies(scene: Scene) -> None:
    log = CtLog(rsa.generate_private_key(65537, 2048))
    leaf = mint_leaf(scene.key, scene.ca, [log])
    assert len(verify_scts(scene.path(leaf), [log.trusted()])) == 1


def embed(scene: Scene, change: dict[str, object]) -> x509.Certificate:
    """A certificate with a promise that was right until *change*."""
    bare = mint_leaf(scene.key, scene.ca)
    good = scene.log.promise(
        bare.tbs_certificate_bytes,
        scene.ca.certificate,
        at=START,
        extensions=bytes.fromhex("0000050000000001"),
    )
    return _with_scts(scene, bare, [replace(good, **change)])  # type: ignore[arg-type]


def _with_scts(
    scene: Scene, bare: x509.Certificate, scts: list[SignedCertificateTimestamp]
) -> x509.Certificate:
    builder = x509.CertificateBuilder(
        bare.issuer,
        bare.subject,
        bare.public_key(),  # type: ignore[arg-type]
        bare.serial_number,
        bare.not_valid_before_utc.replace(tzinfo=None),
        bare.not_valid_after_utc.replace(tzinfo=None),
        list(bare.extensions),
    ).add_extension(sct_list_extension(scts), critical=False)
    return builder.sign(scene.ca.key, hashes.SHA256())


def test_unchanged_promise_verifies(scene: Scene) -> None:
    assert verify_scts(scene.path(embed(scene, {})), [scene.log.trusted()])


GOOD_MS = int(START.timestamp() * 1000)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"extensions": bytes.fromhex("0000050000000002")}, "sct-signature"),
        ({"extensions": b""}, "sct-signature"),
        ({"timestamp_ms": GOOD_MS + 1}, "sct-signature"),
        ({"timestamp_ms": GOOD_MS - 1}, "sct-signature"),
        ({"timestamp_ms": 2**64 - 1}, "sct-signature"),
        ({"log_id": b"\x00" * 32}, "sct-log"),
        ({"hash_algorithm": 5}, "sct-signature"),
        ({"signature_algorithm": 1}, "sct-signature"),
        ({"signature": b"\x30\x00"}, "sct-signature"),
    ],
)
def test_changed_promise_is_refused(scene: Scene, change: dict[str, object], check: str) -> None:
    assert refused(scene.path(embed(scene, change)), scene.log.trusted()) == check


def test_promise_for_the_roots_key_is_refused(scene: Scene) -> None:
    leaf = mint_leaf(scene.key, scene.ca, [scene.log], sct_issuer=scene.root.certificate)
    assert refused(scene.path(leaf), scene.log.trusted()) == "sct-signature"


def test_promise_for_another_certificate_is_refused(scene: Scene) -> None:
    leaf = mint_leaf(scene.key, scene.ca, scts=[scene.promise()])
    assert refused(scene.path(leaf), scene.log.trusted()) == "sct-signature"


def test_promise_for_the_whole_certificate_is_refused(scene: Scene) -> None:
    bare = mint_leaf(scene.key, scene.ca)
    data = sct_signed_data_x509(GOOD_MS, certificate=der(bare))
    sct = SignedCertificateTimestamp(
        hashlib.sha256(spki(scene.log.key.public_key())).digest(),
        GOOD_MS,
        b"",
        4,
        3,
        scene.log.key.sign(data, ec.ECDSA(hashes.SHA256())),  # type: ignore[call-arg,arg-type]
    )
    leaf = _with_scts(scene, bare, [sct])
    assert refused(scene.path(leaf), scene.log.trusted()) == "sct-signature"


def test_log_key_with_a_strangers_id_is_refused(scene: Scene) -> None:
    leaf = mint_leaf(scene.key, scene.ca, [scene.log])
    impostor = replace(scene.log.trusted(), key=ec_key().public_key())
    assert refused(scene.path(leaf), impostor) == "sct-signature"


def test_log_with_a_key_of_no_such_log(scene: Scene) -> None:
    # RFC 6962 knows ECDSA and RSA; there is no number for the algorithm of this signature.
    key = ed25519.Ed25519PrivateKey.generate()
    log = replace(scene.log.trusted(), key=key.public_key())
    data = b"signed"
    sct = replace(SCT, log_id=log.log_id, timestamp_ms=0, signature=key.sign(data))
    with pytest.raises(VerificationError) as error:
        verify_sct(sct, data, [log])
    assert error.value.check == "sct-signature"


def test_certificate_without_promise_is_refused(scene: Scene) -> None:
    leaf = mint_leaf(scene.key, scene.ca)
    assert refused(scene.path(leaf), scene.log.trusted()) == "sct-missing"


def test_trust_root_without_logs_refuses(scene: Scene) -> None:
    leaf = mint_leaf(scene.key, scene.ca, [scene.log])
    assert refused(scene.path(leaf)) == "sct-log"


def test_garbage_in_the_extension_is_refused(scene: Scene) -> None:
    garbage = x509.UnrecognizedExtension(SCT_LIST_OID, b"\x04\x03\x00\x01\x00")
    leaf = mint_leaf(scene.key, scene.ca, leaf=Leaf(others=((garbage, False),)))
    with pytest.raises(VerificationError) as error:
        verify_scts(scene.path(parse_leaf(der(leaf))), [scene.log.trusted()])
    assert error.value.check in {"sct-format", "certificate-format"}


def test_more_promises_than_allowed_are_refused(scene: Scene) -> None:
    many = sct_list_extension([scene.promise()] * (MAX_SCTS + 1))
    leaf = mint_leaf(scene.key, scene.ca, leaf=Leaf(others=((many, False),)))
    assert refused(scene.path(leaf), scene.log.trusted()) == "sct-format"


@pytest.mark.parametrize(
    ("start", "end", "good"),
    [
        (START, None, True),
        (START + MS, None, False),
        (START - MS, START, True),
        (START - MS, START - timedelta(microseconds=1), False),
        (None, None, False),
    ],
    ids=["starts-then", "starts-after", "ends-then", "ends-before", "no-start"],
)
def test_log_key_must_be_in_use_at_the_promise(
    scene: Scene, start: object, end: object, good: bool
) -> None:
    leaf = mint_leaf(scene.key, scene.ca, [scene.log])
    log = scene.log.trusted(TimeRange(start, end))  # type: ignore[arg-type]
    if good:
        assert verify_scts(scene.path(leaf), [log])
    else:
        assert refused(scene.path(leaf), log) == "sct-time"


def test_a_log_counts_once(scene: Scene) -> None:
    leaf = mint_leaf(scene.key, scene.ca, [scene.log, scene.log])
    assert refused(scene.path(leaf), scene.log.trusted(), threshold=2) == "sct-threshold"


def test_an_operator_counts_once(scene: Scene) -> None:
    logs = [CtLog(ec_key(), operator="one"), CtLog(ec_key(), operator="one")]
    leaf = mint_leaf(scene.key, scene.ca, logs)
    trusted = [log.trusted() for log in logs]
    assert len(verify_scts(scene.path(leaf), trusted)) == 2
    assert refused(scene.path(leaf), *trusted, threshold=2) == "sct-threshold"


def test_two_logs_count_twice(scene: Scene) -> None:
    logs = [scene.log, CtLog(ec_key())]
    leaf = mint_leaf(scene.key, scene.ca, logs)
    trusted = [log.trusted() for log in logs]
    assert len(verify_scts(scene.path(leaf), trusted, threshold=2)) == 2


def test_bad_promise_beside_a_good_one_does_not_count(scene: Scene) -> None:
    bare = mint_leaf(scene.key, scene.ca)
    good = scene.log.promise(bare.tbs_certificate_bytes, scene.ca.certificate, at=START)
    bad = replace(good, signature=tampered(good.signature))
    leaf = _with_scts(scene, bare, [bad, good])
    assert len(verify_scts(scene.path(leaf), [scene.log.trusted()])) == 1
    assert refused(scene.path(leaf), scene.log.trusted(), threshold=2) == "sct-threshold"


def test_issuer_is_looked_for_above_a_precertificate_signer(scene: Scene) -> None:
    signer = mint_ca("signer", parent=scene.ca, usages=[PRECERTIFICATE_SIGNING_OID])
    leaf = mint_leaf(scene.key, signer, [scene.log], sct_issuer=scene.ca.certificate)
    path = (leaf, signer.certificate, scene.ca.certificate, scene.root.certificate)
    assert verify_scts(path, [scene.log.trusted()])


def test_an_issuer_for_other_usages_is_the_issuer(scene: Scene) -> None:
    usages = [CODE_SIGNING]
    issuer = mint_ca("issuer", parent=scene.ca, usages=usages)
    leaf = mint_leaf(scene.key, issuer, [scene.log])
    path = (leaf, issuer.certificate, scene.ca.certificate, scene.root.certificate)
    assert verify_scts(path, [scene.log.trusted()])


def test_path_without_issuer_is_refused(scene: Scene) -> None:
    leaf = mint_leaf(scene.key, scene.ca, [scene.log])
    assert refused((leaf,), scene.log.trusted()) == "certificate-chain"

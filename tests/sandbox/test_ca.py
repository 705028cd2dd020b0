"""The sandbox's CA and CT log, judged by the rules of RFC 5280 and RFC 6962."""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from keylessd.sandbox.ca import (
    CertificateAuthority,
    InsecureKeyError,
    Principal,
    check_key,
    other_name,
    without_poison,
)
from keylessd.sandbox.ctlog import (
    CtLog,
    LogEntry,
    precert_chain_entry,
)
from keylessd.sandbox.store import LogStore
from keylessd.sandbox.vault import MemoryVault, ecdsa_key

NOW = datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


class FixedClock:
    """Time that moves only by hand."""

    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time


def email_principal(address: str = "a@example.com") -> Principal:
    return Principal(
        address, x509.RFC822Name(address), {1: "https://i.test", 8: "https://i.test", 24: "s" * 200}
    )


def new_authority(**options):
    vault = MemoryVault()
    clock = FixedClock()
    log = CtLog(ecdsa_key(vault, "ctfe"), LogStore.in_memory(), clock=clock, **options)
    return CertificateAuthority.open(vault, log=log, clock=clock), log


KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


def test_leaf_has_fulcios_profile():
    authority, _ = new_authority()
    leaf, middle, root = authority.issue(email_principal(), KEY).chain
    leaf.verify_directly_issued_by(middle)
    middle.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    find = leaf.extensions.get_extension_for_class
    assert leaf.subject == x509.Name([])
    assert leaf.not_valid_before_utc == NOW.replace(microsecond=0)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(minutes=10)
    assert find(x509.SubjectAlternativeName).critical
    assert find(x509.KeyUsage).value.digital_signature
    assert list(find(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CODE_SIGNING]
    assert leaf.public_key() == KEY


def test_extensions_one_to_six_are_bare_and_later_ones_are_der():
    authority, _ = new_authority()
    leaf = authority.issue(email_principal(), KEY).chain[0]

    def value(arc):
        oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{arc}")
        return leaf.extensions.get_extension_for_oid(oid).value.value

    assert value(1) == b"https://i.test"
    assert value(8) == b"\x0c\x0ehttps://i.test"
    assert value(24) == b"\x0c\x81\xc8" + b"s" * 200


def test_embedded_sct_verifies_over_the_certificate_without_it():
    authority, log = new_authority()
    leaf, middle, _ = authority.issue(email_principal(), KEY).chain
    (sct,) = leaf.extensions.get_extension_for_class(
        x509.PrecertificateSignedCertificateTimestamps
    ).value
    tbs = leaf.tbs_precertificate_bytes
    issuer = middle.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    milliseconds = 1893553445678
    message = (
        struct.pack(">BBQH", 0, 0, milliseconds, 1)
        + hashlib.sha256(issuer).digest()
        + len(tbs).to_bytes(3, "big")
        + tbs
        + b"\0\0"
    )
    key = serialization.load_der_public_key(log.public_key_der)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(sct.signature, message, ec.ECDSA(hashes.SHA256()))
    assert sct.log_id == log.log_id
    with pytest.raises(InvalidSignature):
        key.verify(sct.signature, message[:-1] + b"\1", ec.ECDSA(hashes.SHA256()))


def test_leaf_index_extension_is_that_of_static_logs():
    authority, _ = new_authority(leaf_index_extension=True)
    authority.issue(email_principal(), KEY)
    leaf = authority.issue(email_principal(), KEY).chain[0]
    (sct,) = leaf.extensions.get_extension_for_class(
        x509.PrecertificateSignedCertificateTimestamps
    ).value
    assert sct.extension_bytes == bytes.fromhex("00 0005 0000000001")


@given(length=st.integers(min_value=1, max_value=60000))
def test_poison_is_removed_at_every_length_of_the_certificate(length):
    principal = Principal("x", other_name("u!d.test"), {8: "i" * length})
    leaf = AUTHORITY.issue(principal, KEY).chain[0]
    entry = LOG.entries(LOG.size - 1, LOG.size - 1)[0]
    precertificate = x509.load_der_x509_certificate(entry.precertificate)
    assert without_poison(precertificate.tbs_certificate_bytes) == leaf.tbs_precertificate_bytes


AUTHORITY, LOG = new_authority()


def test_certificate_without_poison_is_refused_as_precertificate():
    leaf = AUTHORITY.issue(email_principal(), KEY).chain[0]
    with pytest.raises(ValueError, match="poison"):
        without_poison(leaf.tbs_certificate_bytes)


def test_detached_sct_is_over_the_final_certificate():
    authority, log = new_authority()
    authority.detached = True
    issued = authority.issue(email_principal(), KEY)
    der = issued.chain[0].public_bytes(serialization.Encoding.DER)
    sct = issued.detached_sct
    assert sct is not None
    message = (
        struct.pack(">BBQH", 0, 0, sct.timestamp, 0) + len(der).to_bytes(3, "big") + der + b"\0\0"
    )
    key = serialization.load_der_public_key(log.public_key_der)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(sct.signature, message, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP224R1()).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        rsa.generate_private_key(65537, 1024).public_key(),
        rsa.generate_private_key(3, 2048).public_key(),
        b"not a key",
    ],
    ids=["P-224", "secp256k1", "RSA-1024", "RSA exponent 3", "bytes"],
)
def test_weak_key_is_refused(key):
    with pytest.raises(InsecureKeyError):
        check_key(key)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ec.generate_private_key(ec.SECP521R1()).public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
    ],
    ids=["P-384", "P-521", "RSA-2048", "Ed25519"],
)
def test_every_usual_kind_of_key_is_certified(key):
    assert AUTHORITY.issue(email_principal(), key).chain[0].public_key() == key


def test_authority_is_the_same_after_opening_again():
    vault = MemoryVault()
    first = CertificateAuthority.open(vault, log=None, clock=FixedClock())
    second = CertificateAuthority.open(vault, log=None, clock=FixedClock(NOW + timedelta(days=1)))
    assert first.chain == second.chain
    leaf, middle, _ = second.issue(email_principal(), KEY).chain
    leaf.verify_directly_issued_by(middle)


# --- the log --------------------------------------------------------------------------------


def test_log_goes_on_where_it_was(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    clock = FixedClock()
    with LogStore.open(tmp_path / "ct") as store:
        log = CtLog(key, store, clock=clock)
        for number in range(5):
            log.add_certificate(bytes([number]) * 9)
        head = log.tree_head()
    with LogStore.open(tmp_path / "ct") as store:
        again = CtLog(key, store, clock=clock)
        assert (again.size, again.tree_head().root_hash) == (5, head.root_hash)
        again.add_certificate(b"next")
        assert len(again.entries(0, 99)) == 6


def test_same_certificate_in_the_same_millisecond_is_one_entry():
    _, log = new_authority()
    assert log.add_certificate(b"one").timestamp == log.add_certificate(b"one").timestamp
    assert log.size == 1


def test_leaf_is_found_by_its_hash_and_proved():
    _, log = new_authority()
    log.add_certificate(b"one")
    log.add_certificate(b"two")
    first, second = (hashlib.sha256(b"\0" + entry.leaf).digest() for entry in log.entries(0, 1))
    assert log.proof(second, 2) == (1, (first,))
    assert log.proof(second, 1) is None
    assert log.proof(b"?" * 32, 2) is None
    assert log.consistency(1, 2) == (second,)
    assert log.consistency(1, 3) is None


def test_tree_head_is_signed_over_size_time_and_root():
    _, log = new_authority()
    log.add_certificate(b"one")
    head = log.tree_head()
    root = hashlib.sha256(b"\0" + log.entries(0, 0)[0].leaf).digest()
    assert (head.size, head.root_hash) == (1, root)
    message = struct.pack(">BBQQ", 0, 1, 1893553445678, 1) + root
    key = serialization.load_der_public_key(log.public_key_der)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert head.signature[:2] == b"\x04\x03"
    key.verify(head.signature[4:], message, ec.ECDSA(hashes.SHA256()))


def test_extra_data_holds_precertificate_and_chain():
    entry = LogEntry(leaf=b"", precertificate=b"PRE")
    assert precert_chain_entry(entry, [b"C", b"RR"]) == bytes.fromhex(
        "000003 505245 000009 000001 43 000002 5252".replace(" ", "")
    )

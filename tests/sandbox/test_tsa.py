"""The sandbox's timestamp authority, judged by our verifier, openssl and rfc3161-client."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from keylessd.core import asn1 as types
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.timestamp import build_request, verify_timestamp
from keylessd.core.trusted_root import Authority, TimeRange
from keylessd.errors import VerificationError
from keylessd.sandbox.faults import SkewedClock
from keylessd.sandbox.tsa import (
    FailInfo,
    InvalidRequestError,
    Rejection,
    TimestampAuthority,
    pem,
)
from keylessd.sandbox.tsa_app import PATH, make_app
from keylessd.sandbox.vault import MemoryVault
from sandbox_requests import NOW, SteppedClock, client_of

SIGNATURE = b"the raw bytes of a signature"
QUERY = {"content-type": "application/timestamp-query"}


@pytest.fixture(scope="module")
def authority() -> TimestampAuthority:
    return TimestampAuthority.open(MemoryVault(), clock=SteppedClock())


def anchors(authority: TimestampAuthority) -> list[Authority]:
    return [
        Authority(
            uri="https://tsa.example.test",
            organization="test",
            common_name="tsa",
            chain=authority.chain,
            valid_for=TimeRange(NOW - timedelta(days=1), None),
            operator="test",
        )
    ]


def query(algorithm=HashAlgorithm.SHA256, *, nonce: int = 77, certificates: bool = False) -> bytes:
    return build_request(digest_of(algorithm, SIGNATURE), nonce=nonce, certificates=certificates)


@pytest.mark.parametrize("certificates", [False, True])
@pytest.mark.parametrize("algorithm", list(HashAlgorithm))
def test_stamp_verifies(authority, algorithm, certificates):
    reply = authority.respond(query(algorithm, certificates=certificates))
    verified = verify_timestamp(reply, SIGNATURE, anchors(authority), nonce=77)
    assert verified.time == NOW.replace(microsecond=0)
    with pytest.raises(VerificationError):
        verify_timestamp(reply, SIGNATURE + b"x", anchors(authority))
    with pytest.raises(VerificationError):
        verify_timestamp(reply, SIGNATURE, anchors(authority), nonce=78)


def token_of(reply: bytes) -> types.SignedData:
    return types.decode(types.TimeStampResp, reply).token.content


def info_of(reply: bytes) -> types.TstInfo:
    return types.decode(types.TstInfo, token_of(reply).content.content)


def test_content_of_the_token(authority):
    reply = authority.respond(query(nonce=1 << 63))
    info = info_of(reply)
    assert info.policy.dotted_string == "1.3.6.1.4.1.57264.2"
    assert info.nonce == 1 << 63
    assert info.accuracy.seconds == 1
    assert info_of(authority.respond(query())).serial_number != info.serial_number


def test_certificate_only_if_asked_for(authority):
    assert token_of(authority.respond(query())).certificates is None
    assert token_of(authority.respond(query(certificates=True))).certificates == [
        authority.chain[0]
    ]


def test_signed_attributes(authority):
    data = token_of(authority.respond(query()))
    (signer,) = data.signer_infos.as_list()
    attributes = {
        attribute.type: attribute.values.as_list()
        for attribute in types.parse_signed_attributes(signer.signed_attributes)
    }
    assert set(attributes) == {
        types.OID_ATTR_CONTENT_TYPE,
        types.OID_ATTR_MESSAGE_DIGEST,
        types.OID_ATTR_SIGNING_CERTIFICATE_V2,
    }
    (digest,) = attributes[types.OID_ATTR_MESSAGE_DIGEST]
    assert digest.parse(bytes) == hashlib.sha256(data.content.content).digest()


def test_request_without_nonce(authority):
    wanted = types.decode(types.TimeStampReq, query())
    raw = types.encode(
        types.TimeStampReq(
            version=1,
            message_imprint=wanted.message_imprint,
            req_policy=types.ObjectIdentifier("1.2.3.4"),
            nonce=None,
            cert_req=False,
            extensions=None,
        )
    )
    info = info_of(authority.respond(raw))
    assert info.nonce is None
    assert info.policy.dotted_string == "1.2.3.4"


def test_chain(authority):
    leaf, root = authority.chain
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert usage.critical
    assert list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    leaf.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)


def test_vault_keeps_the_chain():
    vault = MemoryVault()
    first = TimestampAuthority.open(vault, clock=SteppedClock())
    second = TimestampAuthority.open(vault, clock=SteppedClock())
    assert first.chain == second.chain
    verify_timestamp(second.respond(query()), SIGNATURE, anchors(first))


def test_skewed_clock():
    clock = SkewedClock(SteppedClock())
    authority = TimestampAuthority.open(MemoryVault(), clock=clock)
    clock.offset = timedelta(minutes=-20)
    verified = verify_timestamp(authority.respond(query()), SIGNATURE, anchors(authority))
    assert verified.time == datetime(2026, 7, 1, 11, 40, tzinfo=UTC)


# --- refusals -------------------------------------------------------------------------------


def request_with(**changes) -> bytes:
    wanted = types.decode(types.TimeStampReq, query())
    members = {
        "version": wanted.version,
        "message_imprint": wanted.message_imprint,
        "req_policy": None,
        "nonce": 1,
        "cert_req": False,
        "extensions": None,
    }
    return types.encode(types.TimeStampReq(**{**members, **changes}))


def imprint(oid, hashed: bytes) -> types.MessageImprint:
    algorithm = types.AlgorithmIdentifier(algorithm=oid, parameters=None)
    return types.MessageImprint(hash_algorithm=algorithm, hashed_message=hashed)


SHA1 = types.ObjectIdentifier("1.3.14.3.2.26")
REFUSED = {
    "empty": b"",
    "text": b"not DER",
    "trailing byte": request_with() + b"\x00",
    "version 2": request_with(version=2),
    "SHA-1": request_with(message_imprint=imprint(SHA1, b"\x00" * 20)),
    "short digest": request_with(message_imprint=imprint(types.OID_SHA256, b"\x00" * 31)),
    "SHA-512 digest called SHA-256": request_with(
        message_imprint=imprint(types.OID_SHA256, b"\x00" * 64)
    ),
    "extensions": request_with(
        extensions=[asn1.decode_der(asn1.TLV, b"\x30\x05\x06\x01\x2a\x04\x00")]
    ),
    "endless nonce": request_with(nonce=1 << 600),
    # A BER length that is not minimal.
    "not DER": b"\x30\x81" + request_with()[1:],
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
async def test_refused_request_is_400_with_the_real_ones_odd_media_type(
    autojump_clock, authority, raw
):
    issued = authority.issued
    async with client_of(make_app(authority)) as client:
        reply = await client.post(PATH, content=raw, headers=QUERY)
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/timestamp-reply"
    assert reply.json()["code"] == 400
    assert reply.json()["message"]
    assert authority.issued == issued


def test_accepted_request_differs_from_the_refused(authority):
    authority.respond(request_with())


@given(st.binary(max_size=80))
def test_only_the_declared_error_escapes(raw):
    with pytest.raises(InvalidRequestError):
        FUZZED.respond(raw)


@given(st.integers(0, 1 << 16), st.integers(0, 255))
def test_only_the_declared_error_escapes_from_changed_requests(position, byte):
    raw = bytearray(request_with())
    raw[position % len(raw)] = byte
    try:
        reply = FUZZED.respond(bytes(raw))
    except InvalidRequestError:
        return
    assert info_of(reply).message_imprint.hashed_message in bytes(raw)


FUZZED = TimestampAuthority.open(MemoryVault(), clock=SteppedClock())


@pytest.mark.parametrize("failure", list(FailInfo))
def test_rejection(failure):
    authority = TimestampAuthority.open(MemoryVault(), clock=SteppedClock())
    authority.rejecting = Rejection(failure, "no")
    reply = authority.respond(query())
    decoded = types.decode(types.TimeStampResp, reply)
    assert (decoded.status.status, decoded.status.status_string) == (2, ["no"])
    assert decoded.token is None
    bits = decoded.status.fail_info.as_bytes()
    assert bits[failure // 8] & (0x80 >> failure % 8)
    assert sum(byte.bit_count() for byte in bits) == 1
    with pytest.raises(VerificationError):
        verify_timestamp(reply, SIGNATURE, anchors(authority))
    assert authority.issued == 0


# --- HTTP -----------------------------------------------------------------------------------


async def test_http_answer(autojump_clock, authority):
    async with client_of(make_app(authority)) as client:
        reply = await client.post(PATH, content=query(), headers=QUERY)
        chain = await client.get(f"{PATH}/certchain")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/timestamp-reply"
    verify_timestamp(reply.content, SIGNATURE, anchors(authority), nonce=77)
    assert tuple(x509.load_pem_x509_certificates(chain.content)) == authority.chain


async def test_old_servers_answer_201(autojump_clock, authority):
    async with client_of(make_app(authority, success=201)) as client:
        assert (await client.post(PATH, content=query(), headers=QUERY)).status_code == 201


@pytest.mark.parametrize("media_type", ["", "application/json", "text/plain", "timestamp-query"])
async def test_wrong_media_type(autojump_clock, authority, media_type):
    async with client_of(make_app(authority)) as client:
        reply = await client.post(PATH, content=query(), headers={"content-type": media_type})
    assert reply.status_code == 415
    assert reply.json()["code"] == 415


async def test_too_large_a_request(autojump_clock, authority):
    async with client_of(make_app(authority)) as client:
        reply = await client.post(PATH, content=bytes((64 << 10) + 1), headers=QUERY)
    assert reply.status_code == 413


# --- other implementations' opinion -----------------------------------------------------------


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


def openssl(*arguments: str) -> str:
    done = subprocess.run(
        ["openssl", "ts", *arguments], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_openssl
@pytest.mark.system
@pytest.mark.parametrize("algorithm", ["-sha256", "-sha384", "-sha512"])
def test_openssl_asks_and_verifies(tmp_path, algorithm):
    # openssl takes the machine's time for the chain, so the authority must not be in its future.
    authority = TimestampAuthority.open(
        MemoryVault(), clock=SteppedClock(datetime(2024, 1, 1, tzinfo=UTC))
    )
    data, asked, got = tmp_path / "data", tmp_path / "query", tmp_path / "reply"
    data.write_bytes(SIGNATURE)
    openssl("-query", "-data", str(data), algorithm, "-cert", "-out", str(asked))
    got.write_bytes(authority.respond(asked.read_bytes()))
    root, leaf = tmp_path / "root.pem", tmp_path / "leaf.pem"
    root.write_bytes(pem(authority.chain[1:]))
    leaf.write_bytes(pem(authority.chain[:1]))
    trust = ["-in", str(got), "-CAfile", str(root)]
    openssl("-verify", "-queryfile", str(asked), *trust)
    text = openssl("-reply", "-in", str(got), "-text")
    assert "Status: Granted." in text
    assert "Time stamp: Jan  1 00:00:00 2024 GMT" in text
    # Without the certificate in the token.
    openssl("-query", "-data", str(data), algorithm, "-out", str(asked))
    got.write_bytes(authority.respond(asked.read_bytes()))
    openssl("-verify", "-queryfile", str(asked), "-untrusted", str(leaf), *trust)


@needs_openssl
@pytest.mark.system
def test_openssl_reads_our_request_and_a_rejection(tmp_path):
    asked, got = tmp_path / "query", tmp_path / "reply"
    asked.write_bytes(query())
    assert "Nonce: 0x4D" in openssl("-query", "-in", str(asked), "-text")
    got.write_bytes(Rejection().der())
    text = openssl("-reply", "-in", str(got), "-text")
    assert "Status: Rejected." in text
    assert "the time source is not available" in text
    assert "timeNotAvailable" in text or "time source" in text


@pytest.mark.parametrize("certificates", [False, True])
def test_rfc3161_client_verifies(authority, certificates):
    client = pytest.importorskip("rfc3161_client")
    reply = authority.respond(query(certificates=certificates))
    decoded = client.decode_timestamp_response(reply)
    leaf, root = authority.chain
    verifier = client.VerifierBuilder().tsa_certificate(leaf).add_root_certificate(root).build()
    assert verifier.verify_message(decoded, SIGNATURE)
    with pytest.raises(client.VerificationError):
        verifier.verify_message(decoded, SIGNATURE + b"x")


def test_rfc3161_client_asks(authority):
    client = pytest.importorskip("rfc3161_client")
    built = client.TimestampRequestBuilder().data(SIGNATURE).nonce(nonce=True).build()
    decoded = client.decode_timestamp_response(authority.respond(built.as_bytes()))
    assert decoded.tst_info.nonce == built.nonce

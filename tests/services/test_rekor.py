"""The logs' answers: what is read, what is recovered, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from datetime import UTC, datetime

import httpx
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from keylessd.core.bundle import DsseEnvelope
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.errors import (
    DaemonError,
    ServiceRefusedError,
    ServiceReplyError,
    ServiceUnavailableError,
)
from keylessd.services import rekor_v1, rekor_v2
from keylessd.services.http import HttpClient, HttpReply, new_client
from keylessd.services.verifier import key_verifier

URL = "https://rekor.example"
VERIFIER = key_verifier(ec.generate_private_key(ec.SECP256R1()).public_key())
DIGEST = digest_of(HashAlgorithm.SHA256, b"artifact")
REQUEST = rekor_v1.hashedrekord_request(DIGEST, b"signature", VERIFIER)
ENVELOPE = DsseEnvelope("{ü}".encode(), "application/vnd.in-toto+json", b"signature", "")
DSSE_REQUEST = rekor_v1.dsse_request(ENVELOPE, VERIFIER)


def dsse_body(**changes: object) -> bytes:
    spec = {
        "envelopeHash": {"algorithm": "sha256", "value": "00" * 32},
        "payloadHash": {
            "algorithm": "sha256",
            "value": hashlib.sha256(ENVELOPE.payload).hexdigest(),
        },
        "signatures": [
            {
                "signature": base64.b64encode(b"signature").decode(),
                "verifier": VERIFIER.pem_base64,
            }
        ],
        **changes,
    }
    return json.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}).encode()


def uuid_of(body: bytes) -> str:
    return "24296fb24b8ad77a" + hashlib.sha256(b"\x00" + body).hexdigest()


def entry(body: bytes = REQUEST, **changes: object) -> dict[str, object]:
    return {
        "body": base64.b64encode(body).decode(),
        "integratedTime": 1700000000,
        "logID": "c0" * 32,
        "logIndex": 5,
        "verification": {
            "signedEntryTimestamp": "c2V0",
            "inclusionProof": {
                "logIndex": 2,
                "treeSize": 3,
                "rootHash": "aa" * 32,
                "hashes": ["bb" * 32],
                "checkpoint": "note",
            },
        },
        **changes,
    }


def client_for(answer) -> tuple[httpx.AsyncClient, HttpClient]:
    client = new_client(transport=httpx.MockTransport(answer))
    return client, HttpClient(client, rng=random.Random(0), user_agent="test/1")


def reply(body: object, status: int = 201, **headers: str) -> HttpReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(status, httpx.Headers(headers), raw, URL)


# --- v1: entries ---------------------------------------------------------------------------


def test_an_entry_is_read():
    uuid, read = rekor_v1.parse_entry(reply({uuid_of(REQUEST): entry()}))
    assert uuid == uuid_of(REQUEST)
    assert (read.kind, read.version) == ("hashedrekord", "0.0.1")
    assert (read.log_index, read.integrated_time) == (5, 1700000000)
    assert read.log_id == bytes.fromhex("c0" * 32)
    assert read.promise == b"set"
    assert read.body == REQUEST
    assert read.proof is not None
    assert (read.proof.log_index, read.proof.tree_size) == (2, 3)
    assert read.proof.hashes == (bytes.fromhex("bb" * 32),)


def proof(**changes: object) -> dict[str, object]:
    usual = entry()["verification"]
    assert isinstance(usual, dict)
    return {"verification": {**usual, "inclusionProof": {**usual["inclusionProof"], **changes}}}


BAD_ENTRIES = {
    "body no text": {**entry(), "body": 1},
    "body no base64": {**entry(), "body": "*"},
    "body no JSON": {**entry(), "body": "AAAA"},
    "body without kind": {**entry(), "body": base64.b64encode(b"{}").decode()},
    "no index": {k: v for k, v in entry().items() if k != "logIndex"},
    "index true": entry(logIndex=True),
    "index as text": entry(logIndex="5"),
    "index negative": entry(logIndex=-1),
    "index too large": entry(logIndex=1 << 63),
    "time a fraction": entry(integratedTime=1.5),
    "log id short": entry(logID="c0"),
    "log id upper case": entry(logID="C0" * 32),
    "no verification": entry(verification=None),
    "no promise": entry(verification={**entry()["verification"], "signedEntryTimestamp": ""}),
    "no proof": entry(verification={"signedEntryTimestamp": "c2V0"}),
    "no checkpoint": entry(**proof(checkpoint="")),
    "hashes no list": entry(**proof(hashes="bb")),
    "a hash too short": entry(**proof(hashes=["bb"])),
    "too many hashes": entry(**proof(hashes=["bb" * 32] * 65)),
}


@pytest.mark.parametrize("bad", BAD_ENTRIES.values(), ids=BAD_ENTRIES.keys())
def test_bad_entries(bad):
    with pytest.raises(ServiceReplyError):
        rekor_v1.parse_entry(reply({uuid_of(REQUEST): bad}))


@pytest.mark.parametrize(
    "body", [{}, {"a": entry()}, {uuid_of(b"1"): entry(), uuid_of(b"2"): entry()}, [], b"\xff"]
)
def test_bad_answers(body):
    with pytest.raises(ServiceReplyError):
        rekor_v1.parse_entry(reply(body))


KEYS = sorted([*entry(), *entry()["verification"], "inclusionProof", "hashes", "treeSize"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(JSON | st.binary(max_size=64))
def test_only_the_declared_error_escapes(value):
    for body in (value, {uuid_of(REQUEST): value}):
        if isinstance(body, dict) and any(isinstance(part, bytes) for part in body.values()):
            continue
        for parse in (rekor_v1.parse_entry, rekor_v2.parse_entry):
            try:
                parse(reply(body))
            except DaemonError as exc:
                assert exc.code == "service_invalid_reply"  # noqa: PT017


# --- v1: an entry that exists --------------------------------------------------------------


def existing(stored: bytes, *, location: str | None = None, uuid: str | None = None):
    """A log that has *stored* and answers 409; returns its handler and what it was asked."""
    asked: list[httpx.Request] = []
    named = uuid or uuid_of(stored)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.method == "POST":
            place = location if location is not None else f"/api/v1/log/entries/{named}"
            return httpx.Response(409, headers={"location": place}, json={"message": "exists"})
        return httpx.Response(200, json={named: entry(stored)})

    return answer, asked


async def add(answer, request: bytes = REQUEST):
    client, http = client_for(answer)
    async with client:
        return await rekor_v1.add(http, URL + "/", request)


async def test_an_equivalent_entry_is_fetched(autojump_clock):
    answer, asked = existing(REQUEST)
    assert (await add(answer)).body == REQUEST
    assert [request.method for request in asked] == ["POST", "GET"]


@pytest.mark.parametrize("seconds", [0.1, 12.0, 25.0])
async def test_an_entry_that_a_slow_log_shows_late(autojump_clock, seconds):
    answer, asked = existing(REQUEST)
    began = trio.current_time()

    def slow(request: httpx.Request) -> httpx.Response:
        reply = answer(request)
        if request.method == "GET" and trio.current_time() < began + seconds:
            return httpx.Response(404, json={"code": 404, "message": "entry not found"})
        return reply

    assert (await add(slow)).body == REQUEST
    # It is asked with pauses, not without end.
    assert len(asked) < 30


async def test_an_entry_that_the_log_names_and_never_shows(autojump_clock):
    answer, _ = existing(REQUEST)
    began = trio.current_time()

    def never(request: httpx.Request) -> httpx.Response:
        return answer(request) if request.method == "POST" else httpx.Response(404)

    with pytest.raises(ServiceUnavailableError, match=r"has the entry .* not shown it") as caught:
        await add(never)
    assert caught.value.retryable
    assert caught.value.details["status"] == 404
    assert trio.current_time() - began <= rekor_v1.READ_DEADLINE_SECONDS


async def test_a_dsse_entry_is_compared_by_its_parts(autojump_clock):
    answer, _ = existing(dsse_body())
    assert (await add(answer, DSSE_REQUEST)).kind == "dsse"


async def test_another_host_in_location_is_never_asked(autojump_clock):
    answer, asked = existing(
        REQUEST, location=f"https://evil.example/api/v1/log/entries/{uuid_of(REQUEST)}"
    )
    await add(answer)
    assert {request.url.host for request in asked} == {"rekor.example"}


async def test_the_message_names_the_entry_if_location_does_not(autojump_clock):
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={uuid_of(REQUEST): entry()})
        text = f"an equivalent entry already exists with UUID {uuid_of(REQUEST)}"
        return httpx.Response(409, json={"code": 409, "message": text})

    assert (await add(answer)).body == REQUEST


@pytest.mark.parametrize(
    "location",
    ["", "/api/v1/log/entries/", "/x/../../secret", "//evil", "http://[", "https://[::1"],
)
async def test_a_conflict_that_names_nothing(autojump_clock, location):
    answer, asked = existing(REQUEST, location=location)
    with pytest.raises(ServiceReplyError):
        await add(answer)
    assert len(asked) == 1


CERTIFICATE = (
    x509.CertificateBuilder()
    .subject_name(x509.Name([]))
    .issuer_name(x509.Name([]))
    .public_key((SIGNER := ec.generate_private_key(ec.SECP256R1())).public_key())
    .serial_number(1)
    .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
    .sign(SIGNER, hashes.SHA256())
    .public_bytes(Encoding.DER)
)
# A version that X.509 does not have: the library has an error of its own for it.
VERSION_5 = CERTIFICATE.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020104"), 1)


def pem_of(der: bytes) -> bytes:
    text = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


OTHER = key_verifier(ec.generate_private_key(ec.SECP256R1()).public_key())
DIFFERENT = {
    "digest": rekor_v1.hashedrekord_request(
        digest_of(HashAlgorithm.SHA256, b"x"), b"signature", VERIFIER
    ),
    "algorithm": REQUEST.replace(b'"sha256"', b'"sha512"'),
    "signature": rekor_v1.hashedrekord_request(DIGEST, b"other", VERIFIER),
    "key": rekor_v1.hashedrekord_request(DIGEST, b"signature", OTHER),
    "kind": dsse_body(),
    "form": b'{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{}}',
    "certificate": REQUEST.replace(
        VERIFIER.pem_base64.encode(), base64.b64encode(pem_of(VERSION_5))
    ),
}


@pytest.mark.parametrize("stored", DIFFERENT.values(), ids=DIFFERENT.keys())
async def test_an_equivalent_entry_that_is_another(autojump_clock, stored):
    answer, _ = existing(stored)
    with pytest.raises(ServiceReplyError, match="differs"):
        await add(answer)


DIFFERENT_DSSE = {
    "payload": dsse_body(payloadHash={"algorithm": "sha256", "value": "11" * 32}),
    "no signature": dsse_body(signatures=[]),
    "two signatures": dsse_body(signatures=[{}, {}]),
    "signature": dsse_body(signatures=[{"signature": "AAAA", "verifier": VERIFIER.pem_base64}]),
    "key": dsse_body(signatures=[{"signature": "c2lnbmF0dXJl", "verifier": OTHER.pem_base64}]),
}


@pytest.mark.parametrize("stored", DIFFERENT_DSSE.values(), ids=DIFFERENT_DSSE.keys())
async def test_an_equivalent_envelope_that_is_another(autojump_clock, stored):
    answer, _ = existing(stored)
    with pytest.raises(ServiceReplyError, match="differs"):
        await add(answer, DSSE_REQUEST)


async def test_pem_that_the_log_wrote_anew_is_the_same(autojump_clock):
    pem = base64.b64decode(VERIFIER.pem_base64).replace(b"\n", b"\r\n")
    stored = REQUEST.replace(VERIFIER.pem_base64.encode(), base64.b64encode(pem))
    answer, _ = existing(stored)
    assert (await add(answer)).body == stored


async def test_an_entry_under_a_name_that_is_not_its_hash(autojump_clock):
    answer, _ = existing(REQUEST, uuid=uuid_of(b"something else"))
    with pytest.raises(ServiceReplyError, match="hash"):
        await add(answer)


async def test_an_entry_of_another_name_than_was_asked_for(autojump_clock):
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={uuid_of(b"other"): entry()})
        place = f"/api/v1/log/entries/{uuid_of(REQUEST)}"
        return httpx.Response(409, headers={"location": place})

    with pytest.raises(ServiceReplyError):
        await add(answer)


# --- v2 ------------------------------------------------------------------------------------


def test_the_request_of_v2():
    body = json.loads(rekor_v2.hashedrekord_request(DIGEST, b"signature", VERIFIER))
    assert body == {
        "hashedRekordRequestV002": {
            "digest": base64.b64encode(DIGEST.value).decode(),
            "signature": {
                "content": base64.b64encode(b"signature").decode(),
                "verifier": {
                    "publicKey": {"rawBytes": base64.b64encode(VERIFIER.der).decode()},
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                },
            },
        }
    }


@pytest.mark.parametrize(
    ("headers", "message", "index"),
    [
        ({"x-log-index": "7"}, "", 7),
        ({}, "an equivalent entry already exists in the transparency log with index 1634", 1634),
        ({"x-log-index": "-1"}, "", None),
        ({"x-log-index": "007"}, "", None),
        ({}, "", None),
    ],
)
async def test_an_entry_that_exists_in_v2(autojump_clock, headers, message, index):
    client, http = client_for(
        lambda _: httpx.Response(409, headers=headers, json={"message": message})
    )
    async with client:
        with pytest.raises(rekor_v2.EntryExistsError) as caught:
            await rekor_v2.add(http, URL, b"{}")
    assert caught.value.index == index


async def test_a_frozen_log(autojump_clock):
    client, http = client_for(lambda _: httpx.Response(405, text="This log has been frozen"))
    async with client:
        with pytest.raises(rekor_v2.LogFrozenError):
            await rekor_v2.add(http, URL, b"{}")


async def test_a_refusal_of_v2(autojump_clock):
    client, http = client_for(lambda _: httpx.Response(400, json={"code": 3, "message": "no"}))
    async with client:
        with pytest.raises(ServiceRefusedError):
            await rekor_v2.add(http, URL, b"{}")

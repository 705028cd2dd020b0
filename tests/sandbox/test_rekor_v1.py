"""The sandbox's Rekor v1: its answers, and that they verify; what it refuses and how."""

from __future__ import annotations

import base64
import copy
import hashlib
import json

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from keylessd.core.bundle import DsseEnvelope, TlogEntry
from keylessd.core.entry import check_entry
from keylessd.core.keys import spki, verify_message
from keylessd.core.merkle import leaf_hash, root_from_inclusion_proof, verify_consistency
from keylessd.core.note import parse_checkpoint, verify_checkpoint
from keylessd.sandbox.rekor_v1 import EntryExistsError, RekorV1
from keylessd.sandbox.rekor_v1_app import make_app
from keylessd.sandbox.rekor_v1_entries import InvalidEntryError, UnknownKindError, parse_proposal
from keylessd.sandbox.store import LogStore, StoreError
from sandbox_requests import NOW, Signer, SteppedClock, b64, client_of, v1_dsse_request

NAME = "rekor1.example.test"
ENTRIES = "/api/v1/log/entries"
TREE = 7
OFFSET = 500
STATEMENT = json.dumps(
    {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "a", "digest": {"sha256": "ab" * 32}}],
        "predicateType": "https://example.test/p",
        "predicate": {},
    }
).encode()


def new_log(key=None, store=None, **options) -> RekorV1:
    return RekorV1(
        store if store is not None else LogStore.in_memory(),
        key if key is not None else ec.generate_private_key(ec.SECP256R1()),
        name=NAME,
        clock=options.pop("clock", SteppedClock()),
        tree_id=TREE,
        index_offset=OFFSET,
        **options,
    )


def raw(request: dict) -> bytes:
    return json.dumps(request).encode()


def check(log: RekorV1, answer: dict) -> dict:
    """Verify an answer from the reference alone; return the entry."""
    ((uuid, entry),) = answer.items()
    body = base64.b64decode(entry["body"])
    leaf = leaf_hash(body)
    assert uuid == f"{TREE:016x}" + leaf.hex()
    assert entry["logID"] == hashlib.sha256(spki(log.public_key)).hexdigest()
    signed = json.dumps(
        {name: entry[name] for name in ("body", "integratedTime", "logID", "logIndex")},
        sort_keys=True,
        separators=(",", ":"),
    ).encode()
    promise = base64.b64decode(entry["verification"]["signedEntryTimestamp"])
    verify_message(log.public_key, promise, signed)
    proof = entry["verification"]["inclusionProof"]
    note = parse_checkpoint(proof["checkpoint"])
    assert note.origin == f"{NAME} - {TREE}"
    hint = hashlib.sha256(spki(log.public_key)).digest()[:4]
    verify_checkpoint(note, log_name=NAME, key=log.public_key, key_hint=hint, v2=False)
    assert (note.size, note.root_hash.hex()) == (proof["treeSize"], proof["rootHash"])
    path = [bytes.fromhex(node) for node in proof["hashes"]]
    root = root_from_inclusion_proof(leaf, proof["logIndex"], proof["treeSize"], path)
    assert root.hex() == proof["rootHash"]
    assert entry["logIndex"] == proof["logIndex"] + OFFSET
    return entry


async def test_hashedrekord(autojump_clock):
    log, signer = new_log(), Signer()
    request = signer.v1_request(b"hello")
    async with client_of(make_app(log)) as client:
        reply = await client.post(ENTRIES, json=request)
    assert reply.status_code == 201
    ((uuid, _),) = reply.json().items()
    assert reply.headers["location"] == f"{ENTRIES}/{uuid}"
    assert reply.headers["etag"] == uuid
    entry = check(log, reply.json())
    assert (
        base64.b64decode(entry["body"])
        == json.dumps(request, sort_keys=True, separators=(",", ":")).encode()
    )
    assert entry["integratedTime"] == int(NOW.timestamp())
    assert entry["logIndex"] == OFFSET


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["p256", "p384", "p521", "rsa2048"],
)
async def test_keys_that_are_taken(autojump_clock, make):
    log, signer = new_log(), Signer(make())
    pem = signer.public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    check(log, (await log.add(raw(signer.v1_request()))).json())
    check(log, (await log.add(raw(signer.v1_request(pem=pem)))).json())
    check(log, (await log.add(raw(signer.v1_dsse_request(STATEMENT)))).json())


async def test_ed25519_signs_envelopes_but_no_digests(autojump_clock):
    log, signer = new_log(), Signer(ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(InvalidEntryError):
        await log.add(raw(signer.v1_request()))
    from keylessd.core.dsse import pae

    envelope = {
        "payload": b64(STATEMENT),
        "payloadType": "t",
        "signatures": [{"sig": b64(signer.key.sign(pae("t", STATEMENT)))}],
    }
    check(log, (await log.add(raw(v1_dsse_request(json.dumps(envelope), signer.pem)))).json())


async def test_pem_is_written_anew(autojump_clock):
    log, signer = new_log(), Signer()
    loose = b"comment before\n" + signer.pem.replace(b"\n", b"\r\n") + b"\n\n"
    loose = loose.split(b"\n", 1)[1]
    entry = check(log, (await log.add(raw(signer.v1_request(pem=loose)))).json())
    spec = json.loads(base64.b64decode(entry["body"]))["spec"]
    assert base64.b64decode(spec["signature"]["publicKey"]["content"]) == signer.pem


async def test_upper_case_digest_and_extra_members_make_the_same_entry(autojump_clock):
    log, signer = new_log(), Signer()
    request = signer.v1_request()
    await log.add(raw(request))
    hashed = request["spec"]["data"]["hash"]
    hashed["value"] = hashed["value"].upper()
    request["spec"]["data"]["url"] = None
    with pytest.raises(EntryExistsError):
        await log.add(raw(request))


async def test_dsse(autojump_clock):
    log, signer = new_log(), Signer()
    text = json.dumps(signer.envelope(STATEMENT), indent=2)
    async with client_of(make_app(log)) as client:
        reply = await client.post(ENTRIES, json=v1_dsse_request(text, signer.pem))
    assert reply.status_code == 201
    body = json.loads(base64.b64decode(check(log, reply.json())["body"]))
    assert body == {
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": {
                "algorithm": "sha256",
                "value": hashlib.sha256(text.encode()).hexdigest(),
            },
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(STATEMENT).hexdigest()},
            "signatures": [
                {
                    "signature": json.loads(text)["signatures"][0]["sig"],
                    "verifier": b64(signer.pem),
                }
            ],
        },
    }


async def test_dsse_with_two_signatures_is_sorted(autojump_clock):
    log, one, two = new_log(), Signer(), Signer()
    envelope = one.envelope(STATEMENT)
    envelope["signatures"] += two.envelope(STATEMENT)["signatures"]
    entry = check(
        log, (await log.add(raw(v1_dsse_request(json.dumps(envelope), two.pem, one.pem)))).json()
    )
    signatures = json.loads(base64.b64decode(entry["body"]))["spec"]["signatures"]
    texts = [item["signature"] for item in signatures]
    assert texts == sorted(item["sig"] for item in envelope["signatures"])
    owner = {envelope["signatures"][0]["sig"]: one.pem, envelope["signatures"][1]["sig"]: two.pem}
    assert [base64.b64decode(item["verifier"]) for item in signatures] == [owner[t] for t in texts]


def intoto_request(signer, **changes):
    envelope = signer.envelope(STATEMENT)
    signature = {
        "publicKey": b64(signer.pem),
        "sig": b64(envelope["signatures"][0]["sig"].encode()),
    }
    content = {
        "envelope": {
            "payloadType": envelope["payloadType"],
            "payload": b64(envelope["payload"].encode()),
            "signatures": [{**signature, **changes}],
        },
        "hash": {"algorithm": "sha256", "value": "ab" * 32},
    }
    return {"apiVersion": "0.0.2", "kind": "intoto", "spec": {"content": content}}


async def test_intoto_is_logged_without_its_payload(autojump_clock):
    log, signer = new_log(), Signer()
    request = intoto_request(signer, keyid="me")
    async with client_of(make_app(log)) as client:
        reply = await client.post(ENTRIES, json=request)
    assert reply.status_code == 201
    body = json.loads(base64.b64decode(check(log, reply.json())["body"]))
    content = copy.deepcopy(request["spec"]["content"])
    del content["envelope"]["payload"]
    content["payloadHash"] = {"algorithm": "sha256", "value": hashlib.sha256(STATEMENT).hexdigest()}
    assert body == {"apiVersion": "0.0.2", "kind": "intoto", "spec": {"content": content}}


async def test_intoto_entry_is_read_by_the_verifier(autojump_clock):
    log, signer = new_log(), Signer()
    ((_, answer),) = (await log.add(raw(intoto_request(signer)))).json().items()
    envelope = signer.envelope(STATEMENT)
    logged = json.loads(base64.b64decode(answer["body"]))["spec"]["content"]["envelope"]
    signature = base64.b64decode(base64.b64decode(logged["signatures"][0]["sig"]))
    check_entry(
        TlogEntry(
            log_index=0,
            log_id=bytes(32),
            kind="intoto",
            version="0.0.2",
            integrated_time=1,
            promise=None,
            proof=None,
            body=base64.b64decode(answer["body"]),
        ),
        content=DsseEnvelope(STATEMENT, envelope["payloadType"], signature, ""),
        verifier=x509.load_pem_x509_certificate(signer.pem).public_bytes(
            serialization.Encoding.DER
        ),
        is_certificate=True,
        digest=None,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"sig": b64(b64(b"another").encode())},
        {"sig": b64(b"not base64 within base64!")},
        {"sig": b64(b"\xff")},
        {"sig": 5},
        {"publicKey": b64(b"no key")},
        {"publicKey": None},
    ],
    ids=["wrong", "once", "no text", "no base64", "no key", "none"],
)
async def test_intoto_is_refused(autojump_clock, changes):
    log, signer = new_log(), Signer()
    with pytest.raises(InvalidEntryError):
        await log.add(raw(intoto_request(signer, **changes)))
    with pytest.raises(InvalidEntryError):
        await log.add(raw({**intoto_request(signer), "apiVersion": "0.0.1"}))


async def test_equivalent_entry_is_a_conflict_that_can_be_read(autojump_clock):
    log, signer = new_log(), Signer()
    request = signer.v1_request()
    async with client_of(make_app(log)) as client:
        first = await client.post(ENTRIES, json=request)
        again = await client.post(ENTRIES, json=request)
        ((uuid, entry),) = first.json().items()
        assert again.status_code == 409
        assert again.headers["location"] == f"{ENTRIES}/{uuid}"
        assert again.json() == {
            "code": 409,
            "message": "an equivalent entry already exists in the transparency log with UUID "
            + uuid,
        }
        read = await client.get(again.headers["location"])
    assert read.json()[uuid]["body"] == entry["body"]
    check(log, read.json())


async def test_lost_first_answer_is_a_conflict_too(autojump_clock):
    log, request = new_log(interval_seconds=1.0), raw(Signer().v1_request())
    with trio.move_on_after(0.1):
        await log.add(request)
    with pytest.raises(EntryExistsError) as caught:
        await log.add(request)
    check(log, log.by_uuid(caught.value.uuid).json())


async def test_batch_shares_a_checkpoint_and_each_has_its_promise(autojump_clock):
    log, signer = new_log(), Signer()
    answers = []

    async def one(n: int) -> None:
        answers.append((await log.add(raw(signer.v1_request(b"%d" % n)))).json())

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(one, n)
    entries = [check(log, answer) for answer in answers]
    assert sorted(entry["logIndex"] for entry in entries) == list(range(OFFSET, OFFSET + 20))
    notes = {entry["verification"]["inclusionProof"]["checkpoint"] for entry in entries}
    assert len(notes) == 1


async def test_promise_keeps_its_time_and_the_proof_follows_the_tree(autojump_clock):
    clock = SteppedClock()
    log, signer = new_log(clock=clock), Signer()
    first = (await log.add(raw(signer.v1_request(b"1")))).json()
    clock.advance(hours=1)
    for n in range(5):
        await log.add(raw(signer.v1_request(b"later %d" % n)))
    ((uuid, before),) = first.items()
    after = check(log, log.by_uuid(uuid).json())
    assert after["integratedTime"] == before["integratedTime"]
    promise = before["verification"]["signedEntryTimestamp"]
    assert after["verification"]["signedEntryTimestamp"] == promise
    assert after["verification"]["inclusionProof"]["treeSize"] == 6


# --- refusals -------------------------------------------------------------------------------


def change(request: dict, path: str, value) -> dict:
    changed = copy.deepcopy(request)
    *parents, last = path.split("/")
    target = changed
    for parent in parents:
        target = target[parent]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return changed


HASH = "spec/data/hash"
BAD = {
    "version": ("apiVersion", "0.0.9"),
    "no version": ("apiVersion", None),
    "no spec": ("spec", None),
    "no data": ("spec/data", None),
    "no hash": (HASH, None),
    "no algorithm": (f"{HASH}/algorithm", None),
    "SHA-1": (f"{HASH}/algorithm", "sha1"),
    "algorithm of another length": (f"{HASH}/algorithm", "sha512"),
    "digest of something else": (f"{HASH}/value", "00" * 32),
    "short digest": (f"{HASH}/value", "00" * 31),
    "digest that is no hex": (f"{HASH}/value", "zz" * 32),
    "digest with spaces": (f"{HASH}/value", "00 " * 32),
    "no signature": ("spec/signature", None),
    "no content": ("spec/signature/content", None),
    "empty content": ("spec/signature/content", ""),
    "content that is no base64": ("spec/signature/content", "%%"),
    "garbage content": ("spec/signature/content", b64(b"garbage")),
    "no key": ("spec/signature/publicKey", None),
    "key that is no PEM": ("spec/signature/publicKey/content", b64(b"key")),
    "broken certificate": (
        "spec/signature/publicKey/content",
        b64(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ),
}


@pytest.mark.parametrize(("path", "value"), BAD.values(), ids=BAD.keys())
async def test_bad_hashedrekord(autojump_clock, path, value):
    log = new_log()
    async with client_of(make_app(log)) as client:
        reply = await client.post(ENTRIES, json=change(Signer().v1_request(), path, value))
    assert reply.status_code == 400
    assert reply.json()["code"] == 400
    assert reply.json()["message"].startswith("error processing entry: ")
    assert log.size == 0


async def test_certificate_of_an_unknown_version_is_refused(autojump_clock):
    signer = Signer()
    der = signer.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)
    assert der != signer.der
    pem = b"-----BEGIN CERTIFICATE-----\n%b-----END CERTIFICATE-----\n" % base64.encodebytes(der)
    async with client_of(make_app(new_log())) as client:
        reply = await client.post(ENTRIES, json=signer.v1_request(pem=pem))
    assert reply.status_code == 400


def bad_envelopes() -> dict:
    signer, other = Signer(), Signer()
    good = signer.envelope(STATEMENT)
    text = json.dumps(good)
    return {
        "no JSON": v1_dsse_request("{", signer.pem),
        "a list": v1_dsse_request("[]", signer.pem),
        "no verifier": v1_dsse_request(text),
        "another's key": v1_dsse_request(text, other.pem),
        "a key too many": v1_dsse_request(text, signer.pem, other.pem),
        "other payload": v1_dsse_request(
            json.dumps({**good, "payload": b64(b"other")}), signer.pem
        ),
        "other type": v1_dsse_request(json.dumps({**good, "payloadType": "text"}), signer.pem),
        "no signatures": v1_dsse_request(json.dumps({**good, "signatures": []}), signer.pem),
        "signature as text": v1_dsse_request(json.dumps({**good, "signatures": ["x"]}), signer.pem),
        "second signature bad": v1_dsse_request(
            json.dumps({**good, "signatures": [*good["signatures"], {"sig": b64(b"x")}]}),
            signer.pem,
        ),
        "key twice": v1_dsse_request('{"payload":"","payload":""}', signer.pem),
        "17 signatures": v1_dsse_request(
            json.dumps({**good, "signatures": good["signatures"] * 17}), signer.pem
        ),
    }


@pytest.mark.parametrize("request_", bad_envelopes().values(), ids=bad_envelopes().keys())
async def test_bad_envelope(autojump_clock, request_):
    log = new_log()
    async with client_of(make_app(log)) as client:
        reply = await client.post(ENTRIES, json=request_)
    assert reply.status_code == 400
    assert log.size == 0


@pytest.mark.parametrize("kind", ["rpm", "", 5, None, "alpine"])
async def test_unknown_kind_is_422(autojump_clock, kind):
    async with client_of(make_app(new_log())) as client:
        reply = await client.post(ENTRIES, json={**Signer().v1_request(), "kind": kind})
    assert reply.status_code == 422
    assert reply.json()["code"] == 422


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"a":1,"a":2}', b"\xff"])
async def test_body_that_is_no_entry(autojump_clock, body):
    async with client_of(make_app(new_log())) as client:
        headers = {"content-type": "application/json"}
        reply = await client.post(ENTRIES, content=body, headers=headers)
    assert reply.status_code == 400


async def test_media_type(autojump_clock):
    async with client_of(make_app(new_log())) as client:
        reply = await client.post(
            ENTRIES, content=raw(Signer().v1_request()), headers={"content-type": "text/plain"}
        )
    assert reply.status_code == 415


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["spec", "data", "hash", "signature", "publicKey", "content",
                         "algorithm", "value", "proposedContent", "envelope",
                         "verifiers"]) | st.text(max_size=3),
        inner,
        max_size=4,
    )
), max_leaves=12), st.sampled_from(["hashedrekord", "dsse"]))  # fmt: skip
def test_only_the_declared_errors_escape(spec, kind):
    with pytest.raises((InvalidEntryError, UnknownKindError)):
        parse_proposal({"kind": kind, "apiVersion": "0.0.1", "spec": spec})


@given(st.text(max_size=40))
def test_only_the_declared_error_escapes_from_envelopes(text):
    with pytest.raises(InvalidEntryError):
        parse_proposal(v1_dsse_request(text, SIGNER.pem))


@given(st.binary(max_size=40))
def test_only_the_declared_error_escapes_from_keys(key):
    pem = b"-----BEGIN CERTIFICATE-----\n" + key + b"\n-----END CERTIFICATE-----\n"
    with pytest.raises(InvalidEntryError):
        parse_proposal(SIGNER.v1_request(pem=pem))


SIGNER = Signer()


async def test_failed_storage_is_a_500(autojump_clock, monkeypatch):
    log = new_log()

    def fail(records, **state):
        raise StoreError("disk full")

    monkeypatch.setattr(log.sequencer.store, "append", fail)
    async with client_of(make_app(log)) as client:
        reply = await client.post(ENTRIES, json=Signer().v1_request())
    assert reply.status_code == 500
    assert log.size == 0


@pytest.mark.parametrize("fact", ["origin", "index offset"])
def test_storage_of_another_log_is_refused(fact):
    store = LogStore.in_memory()
    store.claim(fact, b"other")
    with pytest.raises(StoreError, match="other"):
        new_log(store=store)


async def test_reopened_log_goes_on(autojump_clock, tmp_path):
    key, signer = ec.generate_private_key(ec.SECP256R1()), Signer()
    log = new_log(key, LogStore.open(tmp_path / "log"))
    first = (await log.add(raw(signer.v1_request(b"1")))).json()
    log.close()
    log = new_log(key, LogStore.open(tmp_path / "log"))
    ((uuid, entry),) = first.items()
    assert log.by_uuid(uuid).json() == check_same(first, log)
    second = check(log, (await log.add(raw(signer.v1_request(b"2")))).json())
    assert second["logIndex"] == entry["logIndex"] + 1
    log.close()


def check_same(answer: dict, log: RekorV1) -> dict:
    """The answer with the checkpoint as the reopened log signed it anew."""
    answer = copy.deepcopy(answer)
    ((_, entry),) = answer.items()
    checkpoint = log.sequencer.published().checkpoint
    entry["verification"]["inclusionProof"]["checkpoint"] = checkpoint
    check(log, answer)
    return answer


# --- reading --------------------------------------------------------------------------------


async def test_reading(autojump_clock):
    log, signer = new_log(), Signer()
    requests = [signer.v1_request(b"%d" % n) for n in range(5)]
    answers = [(await log.add(raw(request))).json() for request in requests]
    uuids = [next(iter(answer)) for answer in answers]
    async with client_of(make_app(log)) as client:
        by_uuid = await client.get(f"{ENTRIES}/{uuids[1]}")
        assert list(by_uuid.json()) == [uuids[1]]
        check(log, by_uuid.json())
        short = await client.get(f"{ENTRIES}/{uuids[1][16:]}")
        assert list(short.json()) == [uuids[1]]
        by_index = await client.get(ENTRIES, params={"logIndex": OFFSET + 2})
        assert list(by_index.json()) == [uuids[2]]
        several = await client.post(
            f"{ENTRIES}/retrieve",
            json={
                "entryUUIDs": [uuids[0]],
                "logIndexes": [OFFSET + 3, 1],
                "entries": [requests[4], signer.v1_request(b"not logged")],
            },
        )
    assert [next(iter(found)) for found in several.json()] == [uuids[0], uuids[3], uuids[4]]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{ENTRIES}/{'0' * 64}", 404),
        (f"{ENTRIES}/{'0' * 80}", 404),
        (f"{ENTRIES}/{'0' * 63}", 400),
        (f"{ENTRIES}/{'z' * 64}", 400),
        (f"{ENTRIES}?logIndex={OFFSET - 1}", 404),
        (f"{ENTRIES}?logIndex={OFFSET + 1}", 404),
        (f"{ENTRIES}?logIndex=0", 404),
        (f"{ENTRIES}?logIndex=-1", 400),
        (f"{ENTRIES}?logIndex=x", 400),
        (f"{ENTRIES}?logIndex=" + "9" * 30, 400),
        (ENTRIES, 400),
        ("/api/v1/log/proof", 400),
        ("/api/v1/log/proof?lastSize=2", 400),
        ("/api/v1/log/proof?firstSize=2&lastSize=1", 400),
        ("/api/v1/log/proof?firstSize=0&lastSize=1", 400),
        ("/api/v1/log/proof?lastSize=1&treeID=8", 400),
    ],
)
async def test_what_is_not_there(autojump_clock, path, status):
    log = new_log()
    await log.add(raw(Signer().v1_request()))
    async with client_of(make_app(log)) as client:
        assert (await client.get(path)).status_code == status


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"logIndexes": list(range(11))}, 422),
        ({}, 422),
        ([], 400),
        ({"entryUUIDs": "x"}, 400),
        ({"entryUUIDs": ["x"]}, 400),
        ({"entries": [{}]}, 422),
        ({"logIndexes": list(range(10))}, 200),
    ],
)
async def test_retrieve_refuses(autojump_clock, query, status):
    async with client_of(make_app(new_log())) as client:
        assert (await client.post(f"{ENTRIES}/retrieve", json=query)).status_code == status


async def test_log_info_and_key(autojump_clock):
    log = new_log()
    await log.add(raw(Signer().v1_request()))
    async with client_of(make_app(log)) as client:
        info = (await client.get("/api/v1/log")).json()
        key = await client.get("/api/v1/log/publicKey")
    note = parse_checkpoint(info["signedTreeHead"])
    assert info["treeSize"] == note.size == 1
    assert info["rootHash"] == note.root_hash.hex()
    assert info["treeID"] == str(TREE)
    assert key.headers["content-type"] == "application/x-pem-file"
    assert spki(serialization.load_pem_public_key(key.content)) == spki(log.public_key)


async def test_consistency_proof(autojump_clock):
    log, signer = new_log(), Signer()
    roots = {}
    for n in range(1, 8):
        await log.add(raw(signer.v1_request(b"%d" % n)))
        roots[n] = log.sequencer.tree.root()
    async with client_of(make_app(log)) as client:
        reply = await client.get("/api/v1/log/proof?firstSize=3&lastSize=6")
    answer = reply.json()
    assert answer["rootHash"] == roots[6].hex()
    path = [bytes.fromhex(node) for node in answer["hashes"]]
    verify_consistency(old_size=3, old_root=roots[3], new_size=6, new_root=roots[6], path=path)


async def test_search(autojump_clock):
    log, jo, al = new_log(), Signer(), Signer(email="al@example.com")
    one = next(iter((await log.add(raw(jo.v1_request(b"1")))).json()))
    two = next(iter((await log.add(raw(al.v1_request(b"1")))).json()))
    three = next(iter((await log.add(raw(jo.v1_dsse_request(STATEMENT)))).json()))
    digest = hashlib.sha256(b"1").hexdigest()
    key = {"format": "x509", "content": b64(jo.pem)}
    asked = [
        ({"hash": f"sha256:{digest}"}, [one, two]),
        ({"hash": digest.upper()}, [one, two]),
        ({"hash": "sha256:" + "ab" * 32}, [three]),
        ({"hash": hashlib.sha256(STATEMENT).hexdigest()}, [three]),
        ({"hash": "sha256:" + "00" * 32}, []),
        ({"email": "al@example.com"}, [two]),
        ({"publicKey": key}, [one, three]),
        ({"hash": digest, "publicKey": key}, [one, two, three]),
        ({"hash": digest, "publicKey": key, "operator": "and"}, [one]),
    ]
    async with client_of(make_app(log)) as client:
        for query, found in asked:
            reply = await client.post("/api/v1/index/retrieve", json=query)
            assert (reply.status_code, reply.json()) == (200, found), query
        for query in ({}, [], {"publicKey": {"content": "%"}}, {"hash": ""}):
            reply = await client.post("/api/v1/index/retrieve", json=query)
            assert reply.status_code == 400, query


# --- another implementation's opinion --------------------------------------------------------


def keyring(log: RekorV1):
    from sigstore._internal.trust import Keyring
    from sigstore_models.common.v1 import PublicKey, PublicKeyDetails

    return Keyring(
        [PublicKey(raw_bytes=base64.b64encode(spki(log.public_key)),
                   key_details=PublicKeyDetails.PKIX_ECDSA_P256_SHA_256)]
    )  # fmt: skip


async def test_sigstore_python_builds_the_request_and_verifies_the_answer(autojump_clock):
    module = pytest.importorskip("sigstore._internal.rekor.client")
    from sigstore import dsse
    from sigstore.hashes import Hashed
    from sigstore.models import TransparencyLogEntry
    from sigstore_models.common.v1 import HashAlgorithm
    from sigstore_models.intoto import Envelope as Inner
    from sigstore_models.intoto import Signature

    log, signer, judge = new_log(), Signer(), module.RekorClient("http://service.test")
    for n in range(4):
        await log.add(raw(signer.v1_request(b"%d" % n)))
    hashed = Hashed(digest=hashlib.sha256(b"x").digest(), algorithm=HashAlgorithm.SHA2_256)
    plain = judge._build_hashed_rekord_request(hashed, signer.sign(b"x"), signer.certificate)
    sig = base64.b64decode(signer.envelope(STATEMENT)["signatures"][0]["sig"])
    envelope = dsse.Envelope(
        Inner(
            payload=base64.b64encode(STATEMENT),
            payload_type="application/vnd.in-toto+json",
            signatures=[Signature(sig=base64.b64encode(sig))],
        )
    )
    async with client_of(make_app(log)) as client:
        for request in (plain, judge._build_dsse_request(envelope, signer.certificate)):
            reply = await client.post(ENTRIES, json=request)
            assert reply.status_code == 201, reply.text
            entry = TransparencyLogEntry._from_v1_response(reply.json())
            entry._verify(keyring(log))
            with pytest.raises(Exception, match="invalid signature"):
                entry._verify(keyring(new_log()))
            # It looks entries up by what it would propose.
            found = await client.post(f"{ENTRIES}/retrieve/", json={"entries": [request]})
            assert list(found.json()[0]) == list(reply.json())

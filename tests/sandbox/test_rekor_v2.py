"""The sandbox's Rekor v2: its answers, and that they verify; what it refuses and how."""

from __future__ import annotations

import base64
import copy
import hashlib
import json

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from keylessd.core.keys import spki
from keylessd.core.merkle import leaf_hash, root_from_inclusion_proof
from keylessd.core.note import parse_checkpoint, verify_checkpoint
from keylessd.core.tlog_entry import parse_tlog_entry
from keylessd.sandbox.checkpoint import Witness
from keylessd.sandbox.rekor_v2 import InvalidRequestError, RekorV2, entry_body
from keylessd.sandbox.rekor_v2_app import make_app
from keylessd.sandbox.sequencer import DuplicateError
from keylessd.sandbox.store import LogStore, NewRecord, StoreError
from sandbox_requests import NOW, Signer, SteppedClock, b64, client_of

NAME = "rekor2.example.test"
ENTRIES = "/api/v2/log/entries"


def new_log(key=None, store=None, **options) -> RekorV2:
    return RekorV2(
        store if store is not None else LogStore.in_memory(),
        key if key is not None else ed25519.Ed25519PrivateKey.generate(),
        name=NAME,
        clock=SteppedClock(),
        **options,
    )


def check(log: RekorV2, value: dict) -> None:
    """Verify an answer with the project's own verifier."""
    entry = parse_tlog_entry(value)
    assert entry.proof is not None
    checkpoint = parse_checkpoint(entry.proof.checkpoint)
    verify_checkpoint(
        checkpoint, log_name=NAME, key=log.public_key, key_hint=log.log_id[:4], v2=True
    )
    assert checkpoint.size == entry.proof.tree_size
    assert checkpoint.root_hash == entry.proof.root_hash
    root = root_from_inclusion_proof(
        leaf_hash(entry.body), entry.proof.log_index, checkpoint.size, entry.proof.hashes
    )
    assert root == checkpoint.root_hash


async def test_first_entry_has_the_form_of_the_real_one(autojump_clock):
    log, signer = new_log(), Signer()
    request = signer.v2_request(b"hello")
    async with client_of(make_app(log)) as client:
        reply = await client.post(ENTRIES, json=request)
    assert reply.status_code == 201
    assert reply.headers["content-type"] == "application/json"
    value = reply.json()
    asked = request["hashedRekordRequestV002"]
    body = {
        "apiVersion": "0.0.2",
        "kind": "hashedrekord",
        "spec": {
            "hashedRekordV002": {
                "data": {"algorithm": "SHA2_256", "digest": asked["digest"]},
                "signature": asked["signature"],
            }
        },
    }
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    root = hashlib.sha256(b"\x00" + canonical).digest()
    proof = value["inclusionProof"]
    assert value == {
        "logIndex": "0",
        "logId": {"keyId": b64(log.log_id)},
        "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
        "integratedTime": "0",
        "inclusionPromise": None,
        "inclusionProof": {
            "logIndex": "0",
            "rootHash": b64(root),
            "treeSize": "1",
            "hashes": [],
            "checkpoint": {"envelope": proof["checkpoint"]["envelope"]},
        },
        "canonicalizedBody": b64(canonical),
    }
    check(log, value)


def test_log_id_is_the_full_key_id():
    key = ed25519.Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes_raw()
    wanted = hashlib.sha256(NAME.encode() + b"\n\x01" + raw).digest()
    assert new_log(key).log_id == wanted
    ecdsa = ec.generate_private_key(ec.SECP256R1())
    assert new_log(ecdsa).log_id == hashlib.sha256(spki(ecdsa.public_key())).digest()


@pytest.mark.parametrize("as_key", [False, True], ids=["certificate", "key"])
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
async def test_keys_that_are_taken(autojump_clock, make, as_key):
    log, signer = new_log(), Signer(make())
    value = await log.add(json.dumps(signer.v2_request(as_key=as_key)).encode())
    check(log, value)
    spec = json.loads(base64.b64decode(value["canonicalizedBody"]))["spec"]["hashedRekordV002"]
    assert ("publicKey" in spec["signature"]["verifier"]) is as_key


async def test_ecdsa_log_key(autojump_clock):
    log = new_log(ec.generate_private_key(ec.SECP256R1()))
    check(log, await log.add(json.dumps(Signer().v2_request()).encode()))


async def test_concurrent_entries_share_a_checkpoint(autojump_clock):
    log, signer = new_log(), Signer()
    answers = []

    async def one(n: int) -> None:
        answers.append(await log.add(json.dumps(signer.v2_request(b"%d" % n)).encode()))

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(one, n)
    assert {a["inclusionProof"]["treeSize"] for a in answers} == {"20"}
    assert sorted(int(a["logIndex"]) for a in answers) == list(range(20))
    for answer in answers:
        check(log, answer)


async def test_answer_waits_for_the_interval_and_no_longer(autojump_clock):
    log = new_log(interval_seconds=2.0)
    before = trio.current_time()
    await log.add(json.dumps(Signer().v2_request()).encode())
    assert trio.current_time() - before == pytest.approx(2.0)


async def test_full_batch_does_not_wait(autojump_clock):
    log, signer = new_log(interval_seconds=1000.0, batch_max=3), Signer()
    before = trio.current_time()
    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(log.add, json.dumps(signer.v2_request(b"%d" % n)).encode())
    assert trio.current_time() == before


async def test_same_entry_again_is_a_conflict(autojump_clock):
    log, signer = new_log(), Signer()
    await log.add(json.dumps(signer.v2_request(b"other")).encode())
    request = signer.v2_request()
    async with client_of(make_app(log)) as client:
        assert (await client.post(ENTRIES, json=request)).status_code == 201
        again = await client.post(ENTRIES, json=request)
    assert again.status_code == 409
    assert again.headers["x-log-index"] == "1"
    assert "location" not in again.headers
    assert again.json()["code"] == 6
    assert again.json()["message"] == (
        "an equivalent entry already exists in the transparency log with index 1"
    )
    assert log.sequencer.tree.size == 2


async def test_same_entry_twice_at_once_is_logged_once(autojump_clock):
    log = new_log()
    request = json.dumps(Signer().v2_request()).encode()
    outcomes = []

    async def one() -> None:
        try:
            outcomes.append((await log.add(request))["logIndex"])
        except DuplicateError as exc:
            outcomes.append(exc.index)
            # Not told before the entry is there to be read.
            assert log.sequencer.tree.size == 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    assert sorted(outcomes, key=str) == ["0", 0] or sorted(outcomes, key=str) == [0, "0"]


async def test_caller_that_hangs_up_does_not_take_its_entry_back(autojump_clock):
    log = new_log(interval_seconds=1.0)
    request = json.dumps(Signer().v2_request()).encode()
    with trio.move_on_after(0.5):
        await log.add(request)
    await trio.sleep(1)
    assert parse_checkpoint(log.checkpoint()).size == 1
    with pytest.raises(DuplicateError):
        await log.add(request)


async def test_hanging_up_does_not_disturb_the_rest_of_the_batch(autojump_clock):
    log, signer = new_log(interval_seconds=1.0), Signer()

    async def impatient() -> None:
        with trio.move_on_after(0.5):
            await log.add(json.dumps(signer.v2_request(b"a")).encode())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(impatient)
        await trio.testing.wait_all_tasks_blocked()
        check(log, await log.add(json.dumps(signer.v2_request(b"b")).encode()))
    assert log.sequencer.tree.size == 2


async def test_pushback(autojump_clock):
    log, signer = new_log(interval_seconds=1.0, pending_max=2), Signer()
    async with client_of(make_app(log)) as client, trio.open_nursery() as nursery:
        for n in range(2):
            nursery.start_soon(log.add, json.dumps(signer.v2_request(b"%d" % n)).encode())
        await trio.testing.wait_all_tasks_blocked()
        refused = await client.post(ENTRIES, json=signer.v2_request(b"third"))
        assert refused.status_code == 503
        assert refused.json()["code"] == 14
        assert refused.json()["message"] == "reached max pushback; retry"
        await trio.sleep(1.5)
        assert (await client.post(ENTRIES, json=signer.v2_request(b"3"))).status_code == 201


async def test_frozen_log(autojump_clock):
    log = new_log()
    log.frozen = True
    async with client_of(make_app(log)) as client:
        reply = await client.post(ENTRIES, json=Signer().v2_request())
        assert (await client.get("/api/v2/checkpoint")).status_code == 200
    assert reply.status_code == 405
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.text == "This log has been frozen, please switch to the latest log.\n"


def change(request: dict, path: str, value) -> dict:
    """A copy of *request* with the member at *path* set, or dropped if *value* is None."""
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


H = "hashedRekordRequestV002"
V = f"{H}/signature/verifier"
BAD = {
    "unknown field at the top": ("extra", 1),
    "unknown field in the request": (f"{H}/extra", 1),
    "unknown field in the signature": (f"{H}/signature/extra", 1),
    "unknown field in the verifier": (f"{V}/extra", 1),
    "unknown field in the certificate": (f"{V}/x509Certificate/extra", 1),
    "two kinds of request": ("dsseRequestV002", {}),
    "no request": (H, None),
    "no digest": (f"{H}/digest", None),
    "no signature": (f"{H}/signature", None),
    "no content": (f"{H}/signature/content", None),
    "empty content": (f"{H}/signature/content", ""),
    "no verifier": (V, None),
    "no key": (f"{V}/x509Certificate", None),
    "two keys": (f"{V}/publicKey", {"rawBytes": "MA=="}),
    "no key details": (f"{V}/keyDetails", None),
    "key details of another key": (f"{V}/keyDetails", "PKIX_ECDSA_P384_SHA_384"),
    "key details as a number": (f"{V}/keyDetails", 5),
    "digest of SHA-1's length": (f"{H}/digest", b64(b"\x00" * 20)),
    "digest of SHA-384's length": (f"{H}/digest", b64(b"\x00" * 48)),
    "digest of something else": (f"{H}/digest", b64(b"\x00" * 32)),
    "digest that is no base64": (f"{H}/digest", "%%%"),
    "digest as a number": (f"{H}/digest", 1),
    "garbage signature": (f"{H}/signature/content", b64(b"garbage")),
    "garbage certificate": (f"{V}/x509Certificate/rawBytes", b64(b"\x30\x03garbage")),
    "certificate as a string": (f"{V}/x509Certificate", "MA=="),
}


@pytest.mark.parametrize(("path", "value"), BAD.values(), ids=BAD.keys())
async def test_bad_request(autojump_clock, path, value):
    log = new_log()
    async with client_of(make_app(log)) as client:
        reply = await client.post(ENTRIES, json=change(Signer().v2_request(), path, value))
    assert reply.status_code == 400
    assert reply.json()["code"] == 3
    assert reply.json()["message"]
    assert log.sequencer.tree.size == 0


async def test_signature_of_another_key_is_refused(autojump_clock):
    request = Signer().v2_request()
    other = Signer().v2_request()[H]["signature"]["content"]
    async with client_of(make_app(new_log())) as client:
        reply = await client.post(ENTRIES, json=change(request, f"{H}/signature/content", other))
    assert reply.status_code == 400
    assert reply.json()["message"] == "invalid hashedrekord request"


async def test_pure_ed25519_cannot_be_logged(autojump_clock):
    signer = Signer(ed25519.Ed25519PrivateKey.generate())
    async with client_of(make_app(new_log())) as client:
        assert (await client.post(ENTRIES, json=signer.v2_request())).status_code == 400


@pytest.mark.parametrize("as_key", [False, True], ids=["certificate", "key"])
async def test_rsa_key_of_an_odd_size_is_refused(autojump_clock, as_key):
    signer = Signer(rsa.generate_private_key(65537, 2304))
    named = Signer(rsa.generate_private_key(65537, 2048)).v2_request(as_key=as_key)
    form = "publicKey" if as_key else "x509Certificate"
    der = spki(signer.public) if as_key else signer.der
    request = change(named, f"{V}/{form}/rawBytes", b64(der))
    async with client_of(make_app(new_log())) as client:
        assert (await client.post(ENTRIES, json=request)).status_code == 400


async def test_certificate_of_an_unknown_version_is_refused(autojump_clock):
    signer = Signer()
    der = signer.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)
    assert der != signer.der
    request = change(signer.v2_request(), f"{V}/x509Certificate/rawBytes", b64(der))
    async with client_of(make_app(new_log())) as client:
        assert (await client.post(ENTRIES, json=request)).status_code == 400


async def test_dsse_request_is_refused_by_name(autojump_clock):
    async with client_of(make_app(new_log())) as client:
        reply = await client.post(ENTRIES, json={"dsseRequestV002": {"envelope": {}}})
    assert reply.status_code == 400
    assert reply.json()["message"] == "invalid type, must be hashedrekord"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b'{"a":1,"a":2}', b"\xff"])
async def test_body_that_is_no_request(autojump_clock, body):
    async with client_of(make_app(new_log())) as client:
        assert (await client.post(ENTRIES, content=body)).status_code == 400


async def test_too_large_a_body(autojump_clock):
    async with client_of(make_app(new_log())) as client:
        reply = await client.post(ENTRIES, content=b" " * ((1 << 20) + 1))
    assert reply.status_code == 413


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from([H, "digest", "signature", "content", "verifier", "publicKey",
                         "x509Certificate", "rawBytes", "keyDetails"]) | st.text(max_size=3),
        inner,
        max_size=4,
    )
), max_leaves=12))  # fmt: skip
def test_only_the_declared_error_escapes(value):
    with pytest.raises(InvalidRequestError):
        entry_body(json.dumps(value).encode())


@given(st.binary(max_size=60))
def test_only_the_declared_error_escapes_from_certificates(raw):
    request = change(V2_REQUEST, f"{V}/x509Certificate/rawBytes", b64(raw))
    with pytest.raises(InvalidRequestError):
        entry_body(json.dumps(request).encode())


V2_REQUEST = Signer().v2_request()


async def test_failed_storage_is_a_500_and_the_log_goes_on(autojump_clock, monkeypatch):
    log, signer = new_log(), Signer()
    await log.add(json.dumps(signer.v2_request(b"first")).encode())
    root, append = log.sequencer.tree.root(), log.sequencer.store.append

    def fail(records, **state):
        raise StoreError("disk full")

    monkeypatch.setattr(log.sequencer.store, "append", fail)
    async with client_of(make_app(log)) as client:
        reply = await client.post(ENTRIES, json=signer.v2_request(b"second"))
        assert reply.status_code == 500
        assert reply.json()["message"] == "failed to integrate entry"
        assert log.sequencer.tree.root() == root
        monkeypatch.setattr(log.sequencer.store, "append", append)
        reply = await client.post(ENTRIES, json=signer.v2_request(b"third"))
    assert reply.json()["logIndex"] == "1"
    check(log, reply.json())


async def test_reopened_log_goes_on(autojump_clock, tmp_path):
    key, signer = ed25519.Ed25519PrivateKey.generate(), Signer()
    log = new_log(key, LogStore.open(tmp_path / "log"))
    request = json.dumps(signer.v2_request(b"first")).encode()
    await log.add(request)
    log.close()
    log = new_log(key, LogStore.open(tmp_path / "log"))
    assert parse_checkpoint(log.checkpoint()).size == 1
    with pytest.raises(DuplicateError):
        await log.add(request)
    value = await log.add(json.dumps(signer.v2_request(b"second")).encode())
    assert value["inclusionProof"]["treeSize"] == "2"
    check(log, value)
    log.close()


def test_storage_of_another_log_is_refused():
    store = LogStore.in_memory()
    store.claim("origin", b"other.example.test")
    with pytest.raises(StoreError):
        new_log(store=store)


async def test_witness_lines(autojump_clock):
    key = ed25519.Ed25519PrivateKey.generate()
    log = new_log(witnesses=(Witness("witness.example/w1", key),))
    value = await log.add(json.dumps(Signer().v2_request()).encode())
    check(log, value)
    note = parse_checkpoint(value["inclusionProof"]["checkpoint"]["envelope"])
    line = next(line for line in note.signatures if line.name == "witness.example/w1")
    raw = key.public_key().public_bytes_raw()
    assert line.key_hint == hashlib.sha256(b"witness.example/w1\n\x04" + raw).digest()[:4]
    seconds = int.from_bytes(line.signature[:8], "big")
    assert seconds == int(NOW.timestamp())
    message = b"cosignature/v1\ntime %d\n" % seconds + note.signed
    key.public_key().verify(line.signature[8:], message)


# --- reading --------------------------------------------------------------------------------


def filled(count: int) -> RekorV2:
    store = LogStore.in_memory()
    bodies = [b"body %d" % n for n in range(count)]
    store.append([NewRecord(leaf_hash(b), leaf_hash(b), b) for b in bodies])
    return new_log(store=store)


async def test_checkpoint_of_the_empty_log(autojump_clock):
    log = new_log()
    async with client_of(make_app(log)) as client:
        reply = await client.get("/api/v2/checkpoint")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    note = parse_checkpoint(reply.text)
    assert (note.size, note.root_hash) == (0, hashlib.sha256(b"").digest())
    verify_checkpoint(note, log_name=NAME, key=log.public_key, key_hint=log.log_id[:4], v2=True)


async def test_tiles(autojump_clock):
    log = filled(600)
    leaves = [leaf_hash(b"body %d" % n) for n in range(600)]
    async with client_of(make_app(log)) as client:
        full = await client.get("/api/v2/tile/0/001")
        part = await client.get("/api/v2/tile/0/002.p/88")
        upper = await client.get("/api/v2/tile/1/000.p/2")
        entries = await client.get("/api/v2/tile/entries/002.p/88")
    assert full.content == b"".join(leaves[256:512])
    assert part.content == b"".join(leaves[512:])
    assert upper.content == log.sequencer.tree.node(8, 0) + log.sequencer.tree.node(8, 1)
    rest, bodies = entries.content, []
    while rest:
        length = int.from_bytes(rest[:2], "big")
        bodies.append(rest[2 : 2 + length])
        rest = rest[2 + length :]
    assert bodies == [b"body %d" % n for n in range(512, 600)]
    assert full.headers["content-type"] == "application/octet-stream"


async def test_large_tile_numbers(autojump_clock):
    log = filled(1)
    assert log.tile(0, 1234067) is None
    async with client_of(make_app(log)) as client:
        assert (await client.get("/api/v2/tile/0/x001/x234/067")).status_code == 404


@pytest.mark.parametrize(
    "name",
    ["0/000", "0/000.p/4", "0/000.p/0", "0/000.p/256", "0/000.p/03", "0/0", "1/000.p/1",
     "0/001.p/1", "8/000.p/1", "00/000.p/3", "x/000", "entries/000",
     "entries/000.p/4", "0/x000/000.p/3",
     "0/000/000.p/3", "0/-01", "0/000.p/3/"],
)  # fmt: skip
async def test_tiles_that_are_not(autojump_clock, name):
    async with client_of(make_app(filled(3))) as client:
        assert (await client.get("/api/v2/tile/0/000.p/3")).status_code == 200
        assert (await client.get(f"/api/v2/tile/{name}")).status_code == 404


# --- another implementation's opinion --------------------------------------------------------


async def test_sigstore_python_builds_the_request_and_verifies_the_answer(autojump_clock):
    client_v2 = pytest.importorskip("sigstore._internal.rekor.client_v2")
    from sigstore.hashes import Hashed
    from sigstore.models import TransparencyLogEntry
    from sigstore_models.common.v1 import HashAlgorithm
    from sigstore_models.rekor.v1 import TransparencyLogEntry as Inner

    log, signer = new_log(), Signer()
    for n in range(4):
        await log.add(json.dumps(signer.v2_request(b"%d" % n)).encode())
    digest = hashlib.sha256(b"judged").digest()
    request = client_v2.RekorV2Client._build_hashed_rekord_request(
        Hashed(digest=digest, algorithm=HashAlgorithm.SHA2_256),
        signer.sign(b"judged"),
        signer.certificate,
    )
    async with client_of(make_app(log)) as client:
        reply = await client.post(ENTRIES, json=request)
    assert reply.status_code == 201, reply.text
    entry = TransparencyLogEntry(Inner.from_dict(reply.json()))
    entry._verify(keyring(log))
    other = new_log()
    with pytest.raises(Exception, match="invalid signature"):
        entry._verify(keyring(other))


def keyring(log: RekorV2):
    from sigstore._internal.trust import Keyring
    from sigstore_models.common.v1 import PublicKey, PublicKeyDetails

    return Keyring(
        [PublicKey(raw_bytes=base64.b64encode(spki(log.public_key)),
                   key_details=PublicKeyDetails.PKIX_ED25519)]
    )  # fmt: skip

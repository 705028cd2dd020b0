"""An entry read again out of a log's tiles: found, or refused for whatever is wrong with them."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable

import httpx
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec

from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.merkle import leaf_hash, node_hash
from keylessd.errors import ServiceRefusedError, ServiceReplyError, ServiceUnavailableError
from keylessd.services import rekor_v2, rekor_v2_tiles
from keylessd.services.http import HttpClient, new_client
from keylessd.services.verifier import key_verifier

URL = "https://rekor.example"
ORIGIN = "rekor.example"
LOG_ID = b"i" * 32
VERIFIER = key_verifier(ec.generate_private_key(ec.SECP256R1()).public_key())
REQUEST = rekor_v2.hashedrekord_request(
    digest_of(HashAlgorithm.SHA256, b"artifact"), b"signature", VERIFIER
)


def body(**changes: object) -> bytes:
    """The entry that the log makes of REQUEST, or one that differs from it."""
    asked = json.loads(REQUEST)["hashedRekordRequestV002"]
    data = {"algorithm": "SHA2_256", "digest": changes.get("digest", asked["digest"])}
    signature = {**asked["signature"], **changes.get("signature", {})}
    spec = {"hashedRekordV002": {"data": data, "signature": signature}}
    kind = changes.get("kind", "hashedrekord")
    return json.dumps({"apiVersion": "0.0.2", "kind": kind, "spec": spec}).encode()


def answers(entry: bytes, *, origin: str = ORIGIN) -> dict[str, bytes]:
    """A log of two entries, *entry* the second one."""
    entries = [b"{}", entry]
    leaves = [leaf_hash(one) for one in entries]
    root = base64.b64encode(node_hash(*leaves)).decode()
    signed = base64.b64encode(b"hint" + b"s" * 64).decode()
    note = f"{origin}\n2\n{root}\n\n\u2014 {origin} {signed}\n"
    return {
        "/api/v2/checkpoint": note.encode(),
        "/api/v2/tile/0/000.p/2": b"".join(leaves),
        "/api/v2/tile/entries/000.p/2": b"".join(
            len(one).to_bytes(2, "big") + one for one in entries
        ),
    }


async def find(served: dict[str, bytes], *, index: int = 1):
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.method == "GET"
        found = served.get(request.url.path)
        return httpx.Response(404) if found is None else httpx.Response(200, content=found)

    async with new_client(transport=httpx.MockTransport(handler)) as client:
        http = HttpClient(client, rng=random.Random(1), user_agent="test")
        return await rekor_v2_tiles.find(
            http, URL, index=index, request=REQUEST, log_ids={ORIGIN: LOG_ID}
        )


async def test_found(autojump_clock) -> None:
    served = answers(body())

    entry = await find(served)

    assert (entry.log_index, entry.log_id, entry.body) == (1, LOG_ID, body())
    assert (entry.kind, entry.version) == ("hashedrekord", "0.0.2")
    assert entry.proof is not None
    assert entry.proof.hashes == (leaf_hash(b"{}"),)
    assert entry.proof.checkpoint == served["/api/v2/checkpoint"].decode()


@pytest.mark.parametrize(
    "changed",
    [
        {"digest": base64.b64encode(hashlib.sha256(b"other").digest()).decode()},
        {"digest": 7},
        {"signature": {"content": "AAAA"}},
        {"signature": {"verifier": {"publicKey": {"rawBytes": "AAAA"}}}},
        {"signature": {"verifier": {}}},
        {"kind": "dsse"},
    ],
    ids=str,
)
async def test_another_entry_is_not_taken_for_ours(autojump_clock, changed) -> None:
    with pytest.raises(ServiceReplyError, match="not the one that was sent"):
        await find(answers(body(**changed)))


async def test_entry_that_is_no_json(autojump_clock) -> None:
    with pytest.raises(ServiceReplyError, match="not the one that was sent"):
        await find(answers(b"\xff"))


async def test_log_that_nobody_trusts(autojump_clock) -> None:
    with pytest.raises(ServiceReplyError, match="not trusted"):
        await find(answers(body(), origin="elsewhere.example"))


@pytest.mark.parametrize(
    ("part", "damage", "words"),
    [
        ("checkpoint", lambda raw: b"\xff", "malformed"),
        ("checkpoint", lambda raw: b"words", "malformed"),
        ("tile/0/000.p/2", lambda raw: raw[:-1], "cannot be used"),
        ("tile/0/000.p/2", lambda raw: b"x" + raw[1:], "do not lead to the root"),
        ("tile/entries/000.p/2", lambda raw: raw[:-1], "cannot be used"),
        ("tile/entries/000.p/2", lambda raw: raw.replace(b"0.0.2", b"0.0.3"), "do not lead"),
    ],
)
async def test_damaged_part(
    autojump_clock, part: str, damage: Callable[[bytes], bytes], words: str
) -> None:
    served = answers(body())
    served[f"/api/v2/{part}"] = damage(served[f"/api/v2/{part}"])

    with pytest.raises(ServiceReplyError, match=words):
        await find(served)


@pytest.mark.parametrize("part", ["checkpoint", "tile/0/000.p/2", "tile/entries/000.p/2"])
async def test_part_that_is_not_served(autojump_clock, part: str) -> None:
    served = answers(body())
    del served[f"/api/v2/{part}"]

    with pytest.raises(ServiceRefusedError):
        await find(served)


async def test_waits_for_a_checkpoint_that_covers_the_entry_and_not_for_ever(
    autojump_clock,
) -> None:
    began = trio.current_time()

    with pytest.raises(ServiceUnavailableError, match="covers entry 2"):
        await find(answers(body()), index=2)

    assert trio.current_time() - began == rekor_v2_tiles.WAIT_SECONDS

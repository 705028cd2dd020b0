"""A whole sandbox in process: sign with its services, and check the result with our verifier."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from keylessd.core.csr import build_csr
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.sct import verify_scts
from keylessd.core.signing_config import (
    parse_signing_config,
    parse_trust_config,
    select_ca,
    select_oidc,
    select_rekor,
    select_tsa,
)
from keylessd.core.timestamp import build_request, verify_timestamp
from keylessd.core.trusted_root import parse_trusted_root
from keylessd.sandbox.inprocess import ABORT, BODY_MAX, InProcessTransport
from keylessd.sandbox.local import LocalSigstore
from keylessd.sandbox.names import SERVICES
from keylessd.sandbox.vault import SandboxError

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


class FixedClock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time


def new_sandbox(**options) -> LocalSigstore:
    return LocalSigstore.create(clock=FixedClock(), **options)


async def certify(sandbox: LocalSigstore, client: httpx.AsyncClient, key, **token):
    body = {
        "credentials": {"oidcIdentityToken": sandbox.token(**token)},
        "certificateSigningRequest": base64.b64encode(build_csr(key)).decode(),
    }
    reply = await client.post(sandbox.urls["fulcio"] + "/api/v2/signingCert", json=body)
    assert reply.status_code == 200, reply.text
    pems = reply.json()["signedCertificateEmbeddedSct"]["chain"]["certificates"]
    return [x509.load_pem_x509_certificate(pem.encode()) for pem in pems]


async def test_certificate_and_sct_fit_the_trusted_root(autojump_clock):
    key = ec.generate_private_key(ec.SECP256R1())
    with new_sandbox() as sandbox:
        async with httpx.AsyncClient(transport=sandbox.transport()) as client:
            path = await certify(sandbox, client, key, email="a@b.test")
        root = parse_trusted_root(sandbox.trusted_root())
    assert list(root.certificate_authorities[0].chain) == path[1:]
    assert len(verify_scts(path, root.ctlogs)) == 1
    assert sandbox.counters()["certificates"] == sandbox.counters()["ct_entries"] == 1


async def test_timestamp_fits_the_trusted_root(autojump_clock):
    with new_sandbox() as sandbox:
        request = build_request(
            digest_of(HashAlgorithm.SHA256, b"signature"), nonce=7, certificates=False
        )
        url = select_tsa(parse_signing_config(sandbox.signing_config()), NOW).services[0].url
        async with httpx.AsyncClient(transport=sandbox.transport()) as client:
            headers = {"content-type": "application/timestamp-query"}
            reply = await client.post(url, content=request, headers=headers)
        root = parse_trusted_root(sandbox.trusted_root())
    found = verify_timestamp(reply.content, b"signature", root.timestamp_authorities, nonce=7)
    assert found.time == NOW


async def test_both_logs_take_an_entry(autojump_clock):
    key = ec.generate_private_key(ec.SECP256R1())
    signature = key.sign(b"artifact", ec.ECDSA(hashes.SHA256()))
    digest = hashlib.sha256(b"artifact").digest()
    with new_sandbox() as sandbox:
        async with httpx.AsyncClient(transport=sandbox.transport()) as client:
            leaf = (await certify(sandbox, client, key))[0]
            pem = leaf.public_bytes(serialization.Encoding.PEM)
            der = leaf.public_bytes(serialization.Encoding.DER)
            v1 = {
                "apiVersion": "0.0.1",
                "kind": "hashedrekord",
                "spec": {
                    "data": {"hash": {"algorithm": "sha256", "value": digest.hex()}},
                    "signature": {
                        "content": base64.b64encode(signature).decode(),
                        "publicKey": {"content": base64.b64encode(pem).decode()},
                    },
                },
            }
            v2 = {
                "hashedRekordRequestV002": {
                    "digest": base64.b64encode(digest).decode(),
                    "signature": {
                        "content": base64.b64encode(signature).decode(),
                        "verifier": {
                            "x509Certificate": {"rawBytes": base64.b64encode(der).decode()},
                            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                        },
                    },
                }
            }
            first = await client.post(sandbox.urls["rekor-v1"] + "/api/v1/log/entries", json=v1)
            second = await client.post(sandbox.urls["rekor-v2"] + "/api/v2/log/entries", json=v2)
        counters = sandbox.counters()
    assert (first.status_code, second.status_code) == (201, 201), first.text + second.text
    assert (counters["rekor_v1_entries"], counters["rekor_v2_entries"]) == (1, 1)


@pytest.mark.parametrize(("rekor", "versions"), [("v1", [1]), ("v2", [2]), ("both", [2, 1])])
def test_signing_config_names_the_services(rekor, versions):
    with new_sandbox(rekor=rekor) as sandbox:
        config = parse_signing_config(sandbox.signing_config())
        urls = sandbox.urls
    assert [service.api_version for service in config.rekor_urls] == versions
    (chosen,) = select_rekor(config, NOW).services
    assert chosen.url == urls[f"rekor-v{versions[0]}"]
    assert select_ca(config, NOW).url == urls["fulcio"]
    assert select_oidc(config, NOW).url == urls["oidc"]


def test_trust_config_holds_both_documents():
    with new_sandbox() as sandbox:
        root, config = parse_trust_config(sandbox.trust_config())
        assert json.loads(root) == json.loads(sandbox.trusted_root())
        assert json.loads(config) == json.loads(sandbox.signing_config())


def test_tuf_repository_holds_the_trust_material():
    with new_sandbox() as sandbox:
        targets = json.loads(sandbox.tuf.read("1.targets.json") or b"")["signed"]["targets"]
        assert set(targets) == {
            "trusted_root.json",
            "signing_config.v0.2.json",
            "signing_config_rekor_v2.v0.2.json",
        }
        digest = hashlib.sha256(sandbox.trusted_root()).hexdigest()
        assert targets["trusted_root.json"]["hashes"]["sha256"] == digest


def test_own_time_of_one_service():
    late = FixedClock()
    late.time += timedelta(hours=2)
    with LocalSigstore.create(clock=FixedClock(), clocks={"ctlog": late}) as sandbox:
        assert sandbox.ctlog.tree_head().timestamp == int(late.time.timestamp()) * 1000


# --- directories ------------------------------------------------------------------------------


def test_everything_is_there_again_after_a_restart(tmp_path):
    directory = tmp_path / "sandbox"
    with LocalSigstore.create(directory, clock=FixedClock(), rekor="v2") as sandbox:
        sandbox.ctlog.add_certificate(b"certificate")
        root, tuf_root = sandbox.trusted_root(), sandbox.tuf.root()
        head = sandbox.ctlog.tree_head()
    with LocalSigstore.load(directory, clock=FixedClock()) as again:
        assert again.trusted_root() == root
        assert again.tuf.root() == tuf_root
        assert again.ctlog.tree_head().root_hash == head.root_hash
        assert again.counters()["ct_entries"] == 1


def test_directory_is_private(tmp_path):
    directory = tmp_path / "sandbox"
    with LocalSigstore.create(directory, clock=FixedClock()):
        for path in [directory, *directory.rglob("*")]:
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_directory_is_for_one_at_a_time(tmp_path):
    with (
        LocalSigstore.create(tmp_path / "sandbox", clock=FixedClock()),
        pytest.raises(SandboxError, match="another sandbox"),
    ):
        LocalSigstore.create(tmp_path / "sandbox", clock=FixedClock())
    LocalSigstore.create(tmp_path / "sandbox", clock=FixedClock()).close()


def test_only_an_existing_sandbox_is_loaded(tmp_path):
    with pytest.raises(SandboxError, match="no sandbox"):
        LocalSigstore.load(tmp_path)


# --- the transport ----------------------------------------------------------------------------


async def test_every_service_answers_at_its_own_host(autojump_clock):
    with new_sandbox() as sandbox:
        async with httpx.AsyncClient(transport=sandbox.transport()) as client:
            for service in SERVICES:
                reply = await client.get(sandbox.urls[service] + "/nothing")
                assert reply.status_code == 404


async def test_other_hosts_cannot_be_reached(autojump_clock):
    with new_sandbox() as sandbox:
        async with httpx.AsyncClient(transport=sandbox.transport()) as client:
            for url in ("http://elsewhere.test/", "http://fulcio.sandbox.test:81/"):
                with pytest.raises(httpx.ConnectError):
                    await client.get(url)


async def answer_from(app, **options) -> httpx.Response:
    transport = InProcessTransport({"x": app}, {"x": "http://x.test"})
    async with httpx.AsyncClient(transport=transport) as client:
        return await client.post("http://x.test/p%41?q=1", content=b"body", **options)


async def test_application_sees_the_request(autojump_clock):
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope, body=(await receive())["body"])
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"b")]})
        await send({"type": "http.response.body", "body": b"an", "more_body": True})
        await send({"type": "http.response.body", "body": b"swer"})
        assert (await receive())["type"] == "http.disconnect"

    reply = await answer_from(app, headers={"X-Given": "Yes"})
    assert (reply.status_code, reply.headers["x-a"], reply.text) == (201, "b", "answer")
    assert (seen["method"], seen["path"], seen["query_string"]) == ("POST", "/pA", b"q=1")
    assert (b"x-given", b"Yes") in seen["headers"]
    assert (seen["body"], ABORT in seen["extensions"]) == (b"body", True)


async def test_application_without_an_answer_breaks_the_connection(autojump_clock):
    async def app(scope, receive, send):
        await receive()

    with pytest.raises(httpx.RemoteProtocolError):
        await answer_from(app)


async def test_answer_that_breaks_off(autojump_clock):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    with pytest.raises(httpx.RemoteProtocolError):
        await answer_from(app)


async def test_answer_without_end_ends_the_application(autojump_clock):
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b" " * (1 << 20), "more_body": True})
            sent.append(1)

    with pytest.raises(httpx.RemoteProtocolError):
        await answer_from(app)
    assert len(sent) == (BODY_MAX >> 20) + 1


# --- the CT log over HTTP ---------------------------------------------------------------------


async def test_ct_log_shows_entries_and_proofs(autojump_clock):
    key = ec.generate_private_key(ec.SECP256R1())
    with new_sandbox() as sandbox:
        async with httpx.AsyncClient(
            transport=sandbox.transport(), base_url=sandbox.urls["ctlog"]
        ) as client:
            for _ in range(3):
                await certify(sandbox, client, key)
            head = (await client.get("/ct/v1/get-sth")).json()
            found = (await client.get("/ct/v1/get-entries?start=1&end=9")).json()["entries"]
            leaf = base64.b64decode(found[0]["leaf_input"])
            leaf_hash = base64.b64encode(hashlib.sha256(b"\0" + leaf).digest()).decode()
            proof = await client.get(
                "/ct/v1/get-proof-by-hash", params={"hash": leaf_hash, "tree_size": 3}
            )
            consistency = await client.get("/ct/v1/get-sth-consistency?first=1&second=3")
            roots = (await client.get("/ct/v1/get-roots")).json()["certificates"]
    assert (head["tree_size"], len(found)) == (3, 2)
    assert (proof.json()["leaf_index"], len(proof.json()["audit_path"])) == (1, 2)
    assert len(consistency.json()["consistency"]) == 2
    anchor = sandbox.authority.chain[-1].public_bytes(serialization.Encoding.DER)
    assert [base64.b64decode(root) for root in roots] == [anchor]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("get-entries", 400),
        ("get-entries?start=0&end=0", 400),
        ("get-entries?start=-1&end=0", 400),
        ("get-entries?start=x&end=0", 400),
        ("get-entries?start=1&end=0", 400),
        ("get-entries?start=9999999999999999999&end=9999999999999999999", 400),
        ("get-proof-by-hash?hash=!&tree_size=1", 400),
        ("get-proof-by-hash?hash=AAAA&tree_size=1", 404),
        ("get-proof-by-hash?hash=AAAA", 400),
        ("get-sth-consistency?first=0&second=0", 400),
        ("get-sth-consistency?first=1", 400),
    ],
)
async def test_ct_log_refuses(autojump_clock, path, status):
    with new_sandbox() as sandbox:
        async with httpx.AsyncClient(transport=sandbox.transport()) as client:
            reply = await client.get(f"{sandbox.urls['ctlog']}/ct/v1/{path}")
    assert reply.status_code == status

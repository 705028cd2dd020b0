"""The verifying operation: whose signature is accepted must be said, and is what counts."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from keylessd.core.bundle import parse_bundle, serialize_bundle
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.legacy import NOTHING_DETACHED, Detached
from keylessd.core.statement import Subject, build_statement
from keylessd.core.verify import MissingDigestError, VerifyOptions
from keylessd.errors import IdentityError, InvalidInputError, TokenError, VerificationError
from keylessd.flow.threads import Threads
from keylessd.flow.together import Together
from keylessd.identity.source import AmbientGrant
from keylessd.ops.verify import SMALL_BUNDLE
from keylessd.policy.expect import ExpectedSigner
from keylessd.secret import Secret
from ops_rig import EMAIL, Owner, open_rig
from sigsim.pki import authority, ec_key, mint_ca
from sigsim.stamps import mint_tsa
from sigsim.worlds import ARTIFACT, World

DIGEST = digest_of(HashAlgorithm.SHA256, b"artifact")
PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)


async def test_whose_signature_must_be_said(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign()).bundle
        with pytest.raises(InvalidInputError):
            await rig.verify(bundle, DIGEST, accepted=())
        with pytest.raises(InvalidInputError):
            await rig.verify(bundle, DIGEST, key=PEM)


async def test_one_accepted_signer_is_enough_and_none_is_not(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign()).bundle
        issuer = rig.sigstore.urls["oidc"]
        eve = ExpectedSigner(identity="eve@example.org", issuer=issuer)
        ada = ExpectedSigner(identity=EMAIL, issuer=issuer)
        verified = await rig.verify(bundle, DIGEST, accepted=(eve, ada))
        assert verified.signer.identity == EMAIL
        for wrong in (eve, ExpectedSigner(identity=EMAIL, issuer="https://evil.example")):
            with pytest.raises(VerificationError):
                await rig.verify(bundle, DIGEST, accepted=(wrong,))


async def test_a_key_does_not_verify_a_certificates_bundle(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign()).bundle
        with pytest.raises(VerificationError):
            await rig.verify(bundle, DIGEST, accepted=(), key=PEM)
        with pytest.raises(InvalidInputError):
            await rig.verify(bundle, DIGEST, accepted=(), key=b"no key")


async def test_the_predicate_type_counts(autojump_clock, tmp_path):
    statement = build_statement([Subject.of("a", DIGEST)], "https://a.example/v1", b"{}")
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.attest(statement)).bundle
        await rig.verify(bundle, DIGEST, predicate_type="https://a.example/v1")
        with pytest.raises(VerificationError):
            await rig.verify(bundle, DIGEST, predicate_type="https://b.example/v1")


async def test_a_large_statement_is_signed_in_threads_and_verifies(autojump_clock, tmp_path):
    predicate = b'{"x": "' + b"y" * 300_000 + b'"}'
    statement = build_statement([Subject.of("a", DIGEST)], "https://a.example/v1", predicate)
    async with open_rig(tmp_path, "v1") as rig:
        bundle = (await rig.attest(statement)).bundle
        assert (await rig.verify(bundle, DIGEST)).statement == statement


def threads_used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that will have the kind of each work that is given to a thread from now on."""
    used = []

    async def run(self, kind, fn, *args, **options):
        used.append(kind)
        return fn(*args)

    monkeypatch.setattr(Threads, "run", run)
    return used


BY_SIZE = pytest.mark.parametrize(
    ("size", "kinds"), [(SMALL_BUNDLE, []), (SMALL_BUNDLE + 1, ["verify"])]
)


@BY_SIZE
async def test_only_a_large_bundle_is_worth_a_thread(
    autojump_clock, tmp_path, monkeypatch, size, kinds
):
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign()).bundle
        used = threads_used(monkeypatch)
        verified = await rig.verify(bundle.ljust(size), DIGEST)
        assert (verified.signer.identity, used) == (EMAIL, kinds)


@BY_SIZE
async def test_only_a_large_bundle_is_shown_by_a_thread(
    autojump_clock, tmp_path, monkeypatch, size, kinds
):
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign()).bundle
        used = threads_used(monkeypatch)
        inspect = rig.house.verify.inspect
        assert (await inspect(bundle.ljust(size), NOTHING_DETACHED)).form == "0.3"
        assert used == kinds
        # What stands in files of its own counts as well.
        parts = Detached(signature=b"QQ==", chain=b" " * (size - 4))
        assert (await inspect(None, parts)).form == "detached"
        assert used == kinds * 2


@pytest.mark.parametrize(
    ("ca", "tsa", "gathered"),
    [(256, 256, 0), (384, 256, 1), (256, 384, 1), (521, 521, 1)],
)
async def test_slow_signatures_are_checked_side_by_side(
    autojump_clock, tmp_path, monkeypatch, ca, tsa, gathered
):
    curves = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}
    world = World(ca=mint_ca("ca", key=ec_key(curves[ca])), tsa=mint_tsa(key=ec_key(curves[tsa])))
    root = replace(world.root(), certificate_authorities=(authority(world.ca),))
    anybody = ExpectedSigner(identity_regexp=".*", issuer_regexp=".*")
    used = []
    run = Together.run

    async def noted(self, fn, *args):
        used.append(fn)
        return await run(self, fn, *args)

    monkeypatch.setattr(Together, "run", noted)
    async with open_rig(tmp_path) as rig:
        rig.trust.current = replace(rig.trust.current, trusted_root=root)
        for _ in range(2):
            bundle = serialize_bundle(world.message())
            digest = digest_of(HashAlgorithm.SHA256, ARTIFACT)
            await rig.verify(bundle, digest, accepted=(anybody,))
    assert len(used) == 2 * gathered


async def test_the_digest_that_is_missing_is_named(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign(digest=digest_of(HashAlgorithm.SHA384, b"artifact"))).bundle
        with pytest.raises(MissingDigestError) as caught:
            await rig.verify(bundle, DIGEST)
        assert caught.value.algorithm is HashAlgorithm.SHA384


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b"[" * 1000])
async def test_what_is_no_bundle(autojump_clock, tmp_path, raw):
    async with open_rig(tmp_path) as rig:
        with pytest.raises(VerificationError):
            await rig.verify(raw, DIGEST)


# --- whoami --------------------------------------------------------------------------------


async def test_whoami(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        asking = rig.request(token=rig.token(), owner=Owner(1))
        [me] = await rig.house.status.whoami(asking)
        assert (me.identity, me.source, me.instance) == (EMAIL, "request", "sandbox")
        assert await rig.house.status.whoami(rig.request(owner=Owner(1))) == []
        with pytest.raises(TokenError):
            await rig.house.status.whoami(rig.request(token=Secret("x")))
        named = rig.request(token=rig.token(), identity="eve@example.org")
        with pytest.raises(IdentityError, match="was asked for"):
            await rig.house.status.whoami(named)
        grant = AmbientGrant("github", Secret("s"), url="https://x")
        with pytest.raises(IdentityError, match="environments"):
            await rig.house.status.whoami(rig.request(ambient=grant))


# --- what there was before bundles ---------------------------------------------------------


async def test_old_forms_of_a_signature_that_was_made_here(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v1") as rig:
        bundle = parse_bundle((await rig.sign()).bundle)
        (entry,) = bundle.entries
        pem = x509.load_der_x509_certificate(bundle.certificates[0]).public_bytes(
            serialization.Encoding.PEM
        )
        old = {
            "base64Signature": b64encode(bundle.content.signature).decode(),
            "cert": b64encode(pem).decode(),
            "rekorBundle": {
                "SignedEntryTimestamp": b64encode(entry.promise).decode(),
                "Payload": {
                    "body": b64encode(entry.body).decode(),
                    "integratedTime": entry.integrated_time,
                    "logIndex": entry.log_index,
                    "logID": entry.log_id.hex(),
                },
            },
        }
        verified = await rig.verify(json.dumps(old).encode(), DIGEST)
        assert verified.signer.identity == EMAIL
        assert (verified.form, verified.omitted) == ("cosign", ("inclusion-proof",))
        detached = Detached(signature=b64encode(bundle.content.signature), certificate=pem)
        with pytest.raises(VerificationError) as caught:
            await rig.verify(None, DIGEST, detached=detached)
        assert (caught.value.check, caught.value.step) == ("log-threshold", "log-entries")


async def test_what_cannot_be_read_fails_in_the_first_step(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        with pytest.raises(VerificationError) as caught:
            await rig.verify(b"{}", DIGEST)
        assert caught.value.step == "bundle"


async def test_who_did_sign_is_told_with_the_steps_that_passed(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign()).bundle
        issuer = rig.sigstore.urls["oidc"]
        eve = ExpectedSigner(identity="eve@example.org", issuer=issuer)
        with pytest.raises(VerificationError) as caught:
            await rig.verify(bundle, DIGEST, accepted=(eve,), options=VerifyOptions(explain=True))
        error = caught.value
        assert (error.check, error.step) == ("identity", "identity")
        assert error.details["identity"] == EMAIL
        assert error.details["issuer"] == issuer
        passed = [report.name for report in error.passed]
        assert passed[0] == "bundle"
        assert passed[-1] == "statement"
        assert all(report.facts for report in error.passed)


async def test_inspecting_needs_no_trust_root(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign()).bundle
        rig.trust.current = None
        found = await rig.house.verify.inspect(bundle, Detached())
        assert found.form == "0.3"
        shown = json.loads(found.json)
        assert shown["verified"] is False
        assert shown["certificates"][0]["signer"]["identity"] == EMAIL

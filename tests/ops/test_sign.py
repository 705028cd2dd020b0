"""Signing end to end on the sandbox: every log, both contents, both ways to reuse a key."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
import trio

from keylessd.core.bundle import parse_bundle
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.statement import Subject, build_statement
from keylessd.core.timestamp_token import Token
from keylessd.errors import (
    InvalidInputError,
    LoginRequiredError,
    TrustUnavailableError,
    VerificationError,
)
from ops_rig import EMAIL, Owner, open_rig

SHA256 = HashAlgorithm.SHA256
STATEMENT = build_statement(
    [Subject.of("a", digest_of(SHA256, b"artifact")), Subject.of("b", digest_of(SHA256, b"b"))],
    "https://example.org/predicate/v1",
    b'{"built": "h\xc3\xbcbsch"}',
)


@pytest.mark.parametrize(
    ("rekor", "kind"),
    [
        ("v1", ("hashedrekord", "0.0.1")),
        ("v2", ("hashedrekord", "0.0.2")),
        ("both", ("hashedrekord", "0.0.2")),
    ],
)
async def test_sign(autojump_clock, tmp_path, rekor, kind):
    async with open_rig(tmp_path, rekor) as rig:
        result = await rig.sign(b"artifact")
        assert (result.identity, result.identity_kind) == (EMAIL, "email")
        assert result.issuer == rig.sigstore.urls["oidc"]
        assert [(entry.kind, entry.version) for entry in result.entries] == [kind]
        assert any(time.source == "tsa" for time in result.times)
        assert not result.certificate_reused
        await rig.verify(result.bundle, digest_of(SHA256, b"artifact"))
        with pytest.raises(VerificationError):
            await rig.verify(result.bundle, digest_of(SHA256, b"another"))


async def test_stamp_brings_its_signer_where_the_trust_root_does_not_list_it(
    autojump_clock, tmp_path
):
    async with open_rig(tmp_path) as rig:
        root = rig.trust.current.trusted_root
        (authority,) = root.timestamp_authorities
        above = replace(authority, chain=authority.chain[1:])
        for listed in (authority, above):
            changed = replace(root, timestamp_authorities=(listed,))
            rig.trust.current = replace(rig.trust.current, trusted_root=changed)
            result = await rig.sign(b"artifact")
            assert any(time.source == "tsa" for time in result.times)
            (response,) = parse_bundle(result.bundle).timestamps
            assert bool(Token.parse(response).data.certificates) is (listed is above)


@pytest.mark.parametrize("algorithm", list(HashAlgorithm))
@pytest.mark.parametrize("rekor", ["v1", "v2"])
async def test_sign_every_digest(autojump_clock, tmp_path, rekor, algorithm):
    async with open_rig(tmp_path, rekor) as rig:
        digest = digest_of(algorithm, b"artifact")
        result = await rig.sign(digest=digest)
        await rig.verify(result.bundle, digest)


@pytest.mark.parametrize(
    ("rekor", "kind"), [("v1", ("dsse", "0.0.1")), ("v2", ("hashedrekord", "0.0.2"))]
)
async def test_attest(autojump_clock, tmp_path, rekor, kind):
    async with open_rig(tmp_path, rekor) as rig:
        result = await rig.attest(STATEMENT)
        assert [(entry.kind, entry.version) for entry in result.entries] == [kind]
        assert result.statement == STATEMENT
        assert result.predicate_type == "https://example.org/predicate/v1"
        for data in (b"artifact", b"b"):
            verified = await rig.verify(result.bundle, digest_of(SHA256, data))
            assert verified.statement == STATEMENT
        with pytest.raises(VerificationError):
            await rig.verify(result.bundle, digest_of(SHA256, b"c"))


async def test_what_is_no_statement_is_refused_before_anything_happens(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        with pytest.raises(InvalidInputError):
            await rig.attest(b'{"_type": "https://in-toto.io/Statement/v1", "subject": []}')
        assert rig.faults["fulcio"].total == 0


async def test_no_token_is_login_required_at_once(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        with pytest.raises(LoginRequiredError):
            await rig.sign(token=None)
        assert rig.faults["fulcio"].total == 0
        assert rig.ledger() == []


async def test_no_token_is_login_required_also_without_a_trust_root(autojump_clock, tmp_path):
    async def unavailable(where: object, purpose: str = "sign") -> object:
        raise TrustUnavailableError("the TUF repository could not be read")

    async with open_rig(tmp_path) as rig:
        rig.house.sign._material = unavailable
        with pytest.raises(LoginRequiredError):
            await rig.sign(token=None)
        with pytest.raises(TrustUnavailableError):
            await rig.sign()


async def test_the_first_entry_of_a_log_has_its_zeros_written_out(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        entry = json.loads((await rig.sign()).bundle)["verificationMaterial"]["tlogEntries"][0]
        assert entry["logIndex"] == "0"
        assert entry["inclusionProof"]["logIndex"] == "0"
        assert entry["inclusionProof"]["hashes"] == []


# --- keys and certificates -----------------------------------------------------------------


async def test_window_uses_one_certificate_for_many(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        token = rig.token()
        results = []

        async def one(number: int) -> None:
            results.append(await rig.sign(b"%d" % number, token=token))

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(one, number)
        assert rig.certificates == 1
        assert rig.entries == 50
        assert sum(not result.certificate_reused for result in results) == 1
        assert len({result.certificate_serial for result in results}) == 1
        [slot] = rig.house.status.slots(Owner(1000))
        assert (slot.identity, slot.signatures) == (EMAIL, 50)
        assert rig.house.status.slots(Owner(1001)) == []


async def test_never_takes_a_certificate_each_and_keeps_no_key(autojump_clock, tmp_path):
    async with open_rig(tmp_path, reuse="never") as rig:
        token = rig.token()
        results = [await rig.sign(b"%d" % number, token=token) for number in range(3)]
        assert rig.certificates == 3
        assert len({result.certificate_serial for result in results}) == 3
        assert rig.house.ring.slots() == []


async def test_the_request_may_choose(autojump_clock, tmp_path):
    async with open_rig(tmp_path, reuse="window") as rig:
        token = rig.token()
        await rig.sign(token=token)
        await rig.sign(token=token, reuse="never")
        await rig.sign(token=token, reuse="window")
        assert rig.certificates == 2
        with pytest.raises(InvalidInputError):
            await rig.sign(token=token, reuse="always")


async def test_another_owner_has_another_key(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        token = rig.token()
        await rig.sign(token=token)
        result = await rig.sign(token=token, owner=Owner(1001))
        assert not result.certificate_reused
        assert rig.certificates == 2


async def test_a_forged_token_with_the_same_claims_gets_no_existing_key(autojump_clock, tmp_path):
    from keylessd.errors import TokenError
    from keylessd.secret import Secret

    async with open_rig(tmp_path) as rig:
        token = rig.token()
        await rig.sign(token=token)
        head, _, signature = token.reveal().rpartition(".")
        forged = Secret(f"{head}.{'A' * len(signature)}")
        with pytest.raises(TokenError) as caught:
            await rig.sign(token=forged)
        assert caught.value.code == "token_rejected"
        assert rig.entries == 1


async def test_a_batch_that_outlives_its_token_goes_on_with_its_certificate(
    autojump_clock, tmp_path
):
    async with open_rig(tmp_path) as rig:
        token = rig.token(lifetime=timedelta(seconds=60))
        await rig.sign(token=token)
        await trio.sleep(70)
        result = await rig.sign(b"another", token=token)
        assert result.certificate_reused
        assert rig.certificates == 1


async def test_an_ended_token_renews_nothing_and_the_old_certificate_serves(
    autojump_clock, tmp_path
):
    async with open_rig(tmp_path) as rig:
        token = rig.token(lifetime=timedelta(seconds=60))
        await rig.sign(token=token)
        await trio.sleep(490)  # past the time from which a certificate is renewed
        asked = rig.faults["fulcio"].seen("POST", "/api/v2/signingCert")
        result = await rig.sign(b"another", token=token)
        assert result.certificate_reused
        assert rig.faults["fulcio"].seen("POST", "/api/v2/signingCert") == asked


@pytest.mark.parametrize("reuse", ["window", "never"])
async def test_an_ended_token_gets_no_new_certificate(autojump_clock, tmp_path, reuse):
    from keylessd.errors import TokenError

    async with open_rig(tmp_path) as rig:
        token = rig.token(lifetime=timedelta(seconds=60))
        await rig.sign(token=token)
        # With "window" until the certificate is too old to be used again.
        await trio.sleep(70 if reuse == "never" else 580)
        with pytest.raises(TokenError) as caught:
            await rig.sign(token=token, reuse=reuse)
        assert caught.value.code == "token_expired"
        assert rig.certificates == 1


async def test_the_certificate_is_renewed_before_its_end(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        token = rig.token()
        first = await rig.sign(b"1", token=token)
        await trio.sleep(7 * 60)
        assert (await rig.sign(b"2", token=token)).certificate_serial == first.certificate_serial
        await trio.sleep(90)  # past 80 % of ten minutes
        third = await rig.sign(b"3", token=token)
        assert third.certificate_serial != first.certificate_serial
        assert rig.certificates == 2
        assert len(rig.house.ring.slots()) == 1


async def test_a_failed_renewal_does_not_matter_while_the_old_one_lives(autojump_clock, tmp_path):
    from keylessd.sandbox.faults import Status

    async with open_rig(tmp_path) as rig:
        token = rig.token()
        first = await rig.sign(b"1", token=token)
        rig.faults["fulcio"].fail(Status(503), path="/api/v2/signingCert")
        await trio.sleep(8.2 * 60)
        second = await rig.sign(b"2", token=token)
        assert second.certificate_serial == first.certificate_serial


async def test_drop_all_destroys_keys_and_signing_goes_on(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        token = rig.token()
        await rig.sign(b"1", token=token)
        assert rig.house.ring.drop_all() == 1
        assert rig.house.ring.slots() == []
        result = await rig.sign(b"2", token=token)
        assert not result.certificate_reused
        assert rig.certificates == 2


async def test_a_new_trust_root_means_a_new_key(autojump_clock, tmp_path):
    from dataclasses import replace

    async with open_rig(tmp_path) as rig:
        token = rig.token()
        await rig.sign(token=token)
        rig.trust.current = replace(rig.trust.current, version="w")
        await rig.sign(token=token)
        assert rig.certificates == 2


async def test_ended_keys_are_swept_without_a_request(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        await rig.sign()
        await trio.sleep(11 * 60)
        assert rig.house.ring.slots() == []


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_statement_is_the_same_whoever_builds_it(autojump_clock, tmp_path, size):
    async with open_rig(tmp_path) as rig:
        subjects = [Subject.of("a", digest_of(SHA256, b"a"))]
        predicate = b'{"padding": "%s"}' % (b"x" * size)
        built = await rig.house.sign.statement(subjects, "https://t", predicate)
        assert built == build_statement(subjects, "https://t", predicate)
        with pytest.raises(InvalidInputError):
            await rig.house.sign.statement(subjects, "https://t", predicate + b"]")

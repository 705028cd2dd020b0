"""Discovery documents and ID tokens: what is believed, and each thing that is not."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from issuer_rig import ISSUER, half_hash, jwk, open_issuer, private_key
from keylessd.errors import (
    DaemonError,
    IdentityError,
    InvalidInputError,
    RateLimitedError,
    ServiceError,
    ServiceUnavailableError,
)
from keylessd.identity.provider import Expected, IdTokenInvalidError
from keylessd.secret import Secret

WANTED = Expected(client_id="sigstore", nonce="n-1", access_token=Secret("access"))


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "RS256", "PS384", "EdDSA"])
async def test_a_genuine_token(autojump_clock, algorithm):
    async with open_issuer() as rig:
        rig.issuer.algorithm = algorithm
        rig.issuer.keys = [jwk(private_key(algorithm), "k1")]
        name = {"384": "sha384", "512": "sha512"}.get(algorithm[2:], "sha256")
        name = "sha512" if algorithm == "EdDSA" else name
        raw = Secret(rig.issuer.token(nonce="n-1", at_hash=half_hash("access", name)))
        provider = await rig.providers.discover(ISSUER)
        token = await rig.providers.verify(provider, raw, WANTED)
        assert token.identity_hint == "ada@example.org"
        other = replace(WANTED, access_token=Secret("another"))
        with pytest.raises(IdTokenInvalidError, match="at_hash"):
            await rig.providers.verify(provider, raw, other)


BAD_CLAIMS = {
    "another issuer": ({"iss": "https://evil.example"}, "names the issuer"),
    "the issuer with a slash": ({"iss": ISSUER + "/"}, "names the issuer"),
    "for somebody else": ({"aud": "other"}, "it is for 'other'"),
    "for several, given to nobody": ({"aud": ["sigstore", "other"]}, "given to None"),
    "for several, given to another": (
        {"aud": ["sigstore", "other"], "azp": "other"},
        "given to 'other'",
    ),
    "given to another": ({"azp": "other"}, "given to 'other'"),
    "another nonce": ({"nonce": "n-2"}, "nonce"),
    "a nonce that is no text": ({"nonce": 1}, "nonce"),
    "another at_hash": ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "at_hash"),
    "no subject": ({"sub": ""}, "no claim sub"),
    "no end": ({"exp": None}, "no time"),
    "at its end": ({"exp": 1772366400}, "ended 0 s ago"),
}


@pytest.mark.parametrize("name", BAD_CLAIMS)
async def test_a_claim_that_is_wrong(autojump_clock, name):
    claims, reason = BAD_CLAIMS[name]
    async with open_issuer() as rig:
        provider = await rig.providers.discover(ISSUER)
        raw = rig.issuer.token(**{"nonce": "n-1", **claims})
        with pytest.raises(IdTokenInvalidError, match=reason) as caught:
            await rig.providers.verify(provider, Secret(raw), WANTED)
        assert raw[-40:] not in str(caught.value)
        assert caught.value.code == "identity_unavailable"


async def test_a_nonce_that_is_missing(autojump_clock):
    async with open_issuer() as rig:
        provider = await rig.providers.discover(ISSUER)
        raw = Secret(rig.issuer.token())
        with pytest.raises(IdTokenInvalidError, match="nonce"):
            await rig.providers.verify(provider, raw, WANTED)
        await rig.providers.verify(provider, raw, replace(WANTED, nonce_may_lack=True))
        other = Secret(rig.issuer.token(nonce="n-2"))
        with pytest.raises(IdTokenInvalidError, match="nonce"):
            await rig.providers.verify(provider, other, replace(WANTED, nonce_may_lack=True))


async def test_signatures_of_others(autojump_clock):
    async with open_issuer() as rig:
        provider = await rig.providers.discover(ISSUER)
        issuer = rig.issuer
        good = issuer.token(nonce="n-1")
        head, payload, signature = good.split(".")
        foreign = private_key("ES384")
        issuer.algorithm = "ES384"
        by_another = issuer.token(nonce="n-1", key=foreign)
        issuer.algorithm = "ES256"
        unsigned = "eyJhbGciOiJub25lIn0." + payload + "."
        shared = "eyJhbGciOiJIUzI1NiJ9." + payload + "." + signature
        odd = "eyJhbGciOiJSUzEifQ." + payload + "." + signature
        changed = f"{head}.{issuer.token(nonce='n-1', email='eve@e.org').split('.')[1]}.{signature}"
        for raw in (by_another, unsigned + "AA", unsigned, shared, odd, changed, good[:-8], "x"):
            with pytest.raises(IdTokenInvalidError):
                await rig.providers.verify(provider, Secret(raw), WANTED)


async def test_keys_that_are_not_used(autojump_clock):
    async with open_issuer() as rig:
        provider = await rig.providers.discover(ISSUER)
        good = private_key("ES256")
        rig.issuer.keys = [
            {"kty": "oct", "k": "AAAA", "kid": "k1"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "k1"},
            jwk(good, "k1", use="enc"),
            jwk(private_key("weak"), "k1"),
            jwk(good, "k1", alg="ES384"),
            "junk",  # type: ignore[list-item]
        ]
        with pytest.raises(IdTokenInvalidError, match="no key"):
            await rig.providers.verify(provider, Secret(rig.issuer.token(nonce="n-1")), WANTED)
        rig.clock.advance(60)
        rig.issuer.keys = [jwk(good, "k2"), jwk(good, None)]  # a key without a name fits any
        await rig.providers.verify(provider, Secret(rig.issuer.token(nonce="n-1")), WANTED)


async def test_a_new_key_is_asked_for_but_not_for_every_token(autojump_clock):
    async with open_issuer() as rig:
        provider = await rig.providers.discover(ISSUER)
        raw = Secret(rig.issuer.token(nonce="n-1"))
        await rig.providers.verify(provider, raw, WANTED)
        new = Secret(rig.issuer.token(nonce="n-1", headers={"kid": "k2"}))
        rig.issuer.paths.clear()
        for _ in range(5):
            with pytest.raises(IdTokenInvalidError):
                await rig.providers.verify(provider, new, WANTED)
        assert rig.issuer.paths == []  # it was asked a moment ago
        rig.clock.advance(11)
        rig.issuer.keys.append(jwk(private_key("ES256"), "k2"))
        await rig.providers.verify(provider, new, WANTED)
        assert rig.issuer.paths == ["/keys"]


async def test_what_was_learned_is_used_while_the_provider_is_down(autojump_clock):
    async with open_issuer() as rig:
        provider = await rig.providers.discover(ISSUER)
        raw = Secret(rig.issuer.token(nonce="n-1", exp=1772366400 + 200_000))
        await rig.providers.verify(provider, raw, WANTED)
        asked = len(rig.issuer.paths)
        await rig.providers.discover(ISSUER)
        assert len(rig.issuer.paths) == asked
        rig.issuer.broken = True
        rig.clock.suspend(7200)
        assert await rig.providers.discover(ISSUER) == provider
        assert len(rig.issuer.paths) > asked
        await rig.providers.verify(provider, raw, WANTED)
        rig.clock.suspend(24 * 3600)
        with pytest.raises(ServiceUnavailableError):
            await rig.providers.discover(ISSUER)
        with pytest.raises(ServiceUnavailableError):
            await rig.providers.verify(provider, raw, WANTED)


DOCUMENTS = {
    "another issuer": ({"issuer": "https://evil.example"}, IdentityError, "calls itself"),
    "an issuer with a slash": ({"issuer": ISSUER + "/"}, IdentityError, "calls itself"),
    "no keys": ({"jwks_uri": None}, IdentityError, "where its keys are"),
    "keys in clear text": ({"jwks_uri": "http://issuer.example/k"}, IdentityError, "clear text"),
    "tokens in clear text": (
        {"token_endpoint": "http://localhost/token"},
        IdentityError,
        "clear text",
    ),
    "a line break": ({"token_endpoint": ISSUER + "/t\n"}, IdentityError, "no URL"),
    "a blank": ({"authorization_endpoint": ISSUER + "/a b"}, IdentityError, "no URL"),
    "other letters": ({"authorization_endpoint": ISSUER + "/\u202e"}, IdentityError, "no URL"),
    "a long one": ({"authorization_endpoint": ISSUER + "/" * 3000}, IdentityError, "no URL"),
    "an endpoint that is none": ({"jwks_uri": "https://"}, IdentityError, "its jwks_uri: https:"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_document_that_cannot_be_used(autojump_clock, name):
    change, kind, reason = DOCUMENTS[name]
    async with open_issuer() as rig:
        rig.issuer.document |= change
        with pytest.raises(kind, match=reason):
            await rig.providers.discover(ISSUER)


async def test_a_document_that_is_too_long_or_none(autojump_clock):
    async with open_issuer() as rig:
        rig.issuer.document["padding"] = "x" * (65 << 10)
        with pytest.raises(DaemonError, match="more than"):
            await rig.providers.discover(ISSUER)
        with pytest.raises(InvalidInputError):
            await rig.providers.discover("http://issuer.example")
        rig.issuer.document = ["x"]  # type: ignore[assignment]
        with pytest.raises(DaemonError, match="not an object"):
            await rig.providers.discover(ISSUER)


async def test_pkce_and_the_issuers_name_are_read(autojump_clock):
    async with open_issuer() as rig:
        assert (await rig.providers.discover(ISSUER)).has_s256
        rig.clock.advance(4000)
        rig.issuer.document["code_challenge_methods_supported"] = ["plain"]
        rig.issuer.document["authorization_response_iss_parameter_supported"] = True
        provider = await rig.providers.discover(ISSUER)
        assert not provider.has_s256
        assert provider.names_itself


@pytest.mark.parametrize(("asked", "waited"), [("200", 200.0), ("9999", 300.0)])
async def test_an_issuer_that_wants_to_be_left_alone_says_for_how_long(
    autojump_clock, asked, waited
):
    async with open_issuer() as rig:
        rig.issuer.unwell = httpx.Response(429, headers={"retry-after": asked})
        with pytest.raises(RateLimitedError) as caught:
            await rig.providers.discover(ISSUER)
        assert caught.value.retry_after_seconds == waited


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(503), r"^the issuer at https://\S+ answered 503$"),
        (
            httpx.Response(200, text="<html>"),
            r"^the issuer at https://\S+ answered 200 with a body",
        ),
        (httpx.Response(200, json=[]), r"^the issuer at https://\S+ answered 200 with JSON"),
        (None, r"^the issuer at https://\S+ cannot be reached"),
    ],
)
async def test_an_error_says_who_failed_and_where(autojump_clock, answer, words):
    async with open_issuer() as rig:
        rig.issuer.unwell, rig.issuer.broken = answer, answer is None
        with pytest.raises(ServiceError, match=words):
            await rig.providers.discover(ISSUER)

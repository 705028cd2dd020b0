"""Fulcio's answers: what is read, and what is refused with which error."""

from __future__ import annotations

import base64
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

from keylessd.errors import (
    DaemonError,
    RateLimitedError,
    ServiceRefusedError,
    ServiceReplyError,
    ServiceUnavailableError,
)
from keylessd.secret import Secret
from keylessd.services import fulcio
from keylessd.services.http import HttpClient, HttpReply, new_client

URL = "https://fulcio.example/base/"
TOKEN = Secret("eyJhbGciOiJSUzI1NiJ9.e30.c2ln")


def client_for(answer) -> tuple[httpx.AsyncClient, HttpClient]:
    client = new_client(transport=httpx.MockTransport(answer))
    return client, HttpClient(client, rng=random.Random(0), user_agent="test/1")


def reply(body: object, status: int = 200) -> HttpReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(status, httpx.Headers(), raw, URL)


async def test_the_request_is_of_the_csr_form(autojump_clock):
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(500)

    client, http = client_for(answer)
    async with client:
        with pytest.raises(ServiceUnavailableError):
            await fulcio.issue(http, URL, b"-----BEGIN", TOKEN)
    assert str(seen[0].url) == "https://fulcio.example/base/api/v2/signingCert"
    body = json.loads(seen[0].content)
    assert body == {
        "credentials": {"oidcIdentityToken": TOKEN.reveal()},
        "certificateSigningRequest": base64.b64encode(b"-----BEGIN").decode(),
    }
    assert len(seen) == fulcio.ISSUE_ATTEMPTS


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "There was an error processing the identity token", fulcio.TokenRefusedError),
        (400, "The certificate signing request could not be parsed", ServiceRefusedError),
        (403, "no", ServiceRefusedError),
        (429, "slow down", RateLimitedError),
        (500, "Error entering certificate in CTL", ServiceUnavailableError),
        (302, "", ServiceReplyError),
        (204, "", ServiceReplyError),
    ],
)
async def test_refusals(autojump_clock, status, message, kind):
    client, http = client_for(
        lambda _: httpx.Response(status, json={"code": 3, "message": message})
    )
    async with client:
        with pytest.raises(kind) as caught:
            await fulcio.issue(http, URL, b"csr", TOKEN)
    assert type(caught.value) is kind
    assert TOKEN.reveal() not in str(caught.value)


def silent_at_issuing(configuration: httpx.Response | None):
    """Return a CA that never answers a request for a certificate, and this to others."""

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" or configuration is None:
            await trio.sleep_forever()
        return configuration

    return answer


async def test_a_ca_that_waits_for_its_log_is_told_from_one_that_is_gone(autojump_clock):
    client, http = client_for(silent_at_issuing(httpx.Response(200, json={"issuers": []})))
    began = trio.current_time()
    async with client:
        with pytest.raises(ServiceUnavailableError, match="did not answer within 22 s") as found:
            await fulcio.issue(http, URL, b"csr", TOKEN)

    assert "answers other requests" in found.value.message
    assert "certificate transparency log" in found.value.message
    assert found.value.url == "https://fulcio.example/base/api/v2/signingCert"
    assert trio.current_time() - began == pytest.approx(fulcio.ISSUE_DEADLINE_SECONDS)


@pytest.mark.parametrize("configuration", [None, httpx.Response(503)])
async def test_nothing_is_guessed_about_a_ca_that_answers_nothing(autojump_clock, configuration):
    client, http = client_for(silent_at_issuing(configuration))
    began = trio.current_time()
    async with client:
        with pytest.raises(ServiceUnavailableError, match="did not answer within 22 s") as found:
            await fulcio.issue(http, URL, b"csr", TOKEN)

    assert "transparency" not in found.value.message
    waited = trio.current_time() - began - fulcio.ISSUE_DEADLINE_SECONDS
    assert waited <= fulcio.PROBE_SECONDS


async def test_a_ca_that_cannot_log_the_certificate_is_understood(autojump_clock):
    said = {"code": 13, "message": "Error entering certificate in CTL", "details": []}
    client, http = client_for(lambda request: httpx.Response(500, json=said))
    began = trio.current_time()
    async with client:
        with pytest.raises(ServiceUnavailableError) as found:
            await fulcio.issue(http, URL, b"csr", TOKEN)

    assert "cannot use its certificate transparency log" in found.value.message
    assert "answered 500: Error entering certificate in CTL" in found.value.message
    assert found.value.details["status"] == 500
    assert found.value.hint is not None
    # As fast as it says so, with a few attempts.
    assert trio.current_time() - began < 2


async def test_a_refused_token_is_not_sent_again_and_tells_the_servers_time(autojump_clock):
    calls = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(
            400,
            json={"message": "There was an error processing the identity token"},
            headers={"date": "Sun, 01 Mar 2026 12:00:00 GMT"},
        )

    client, http = client_for(answer)
    async with client:
        with pytest.raises(fulcio.TokenRefusedError) as caught:
            await fulcio.issue(http, URL, b"csr", TOKEN)
    assert len(calls) == 1
    assert caught.value.server_time == datetime(2026, 3, 1, 12, tzinfo=UTC)


def embedded(*certificates: object) -> dict[str, object]:
    return {"signedCertificateEmbeddedSct": {"chain": {"certificates": list(certificates)}}}


BAD_CHAINS = {
    "not JSON": b"<html>",
    "a list": [],
    "nothing": {},
    "null": {"signedCertificateEmbeddedSct": None},
    "no chain": {"signedCertificateEmbeddedSct": {}},
    "empty chain": embedded(),
    "too long": embedded(*["x"] * 11),
    "a number": embedded(1),
    "no PEM": embedded("x"),
    "detached": {"signedCertificateDetachedSct": {"chain": {"certificates": []}}, **embedded("x")},
    "a key twice": b'{"signedCertificateEmbeddedSct": {}, "signedCertificateEmbeddedSct": {}}',
}


def test_a_certificate_of_a_version_that_there_is_not():
    key = ec.generate_private_key(ec.SECP256R1())
    der = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    bad = der.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020104"), 1)
    assert bad != der
    text = base64.encodebytes(bad).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"
    with pytest.raises(ServiceReplyError):
        fulcio.parse_chain(reply(embedded(pem)))


@pytest.mark.parametrize("body", BAD_CHAINS.values(), ids=BAD_CHAINS.keys())
def test_bad_chains(body):
    with pytest.raises(ServiceReplyError):
        fulcio.parse_chain(reply(body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["signedCertificateEmbeddedSct", "chain", "certificates", "issuers", "issuerUrl"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(JSON | st.binary(max_size=64))
def test_only_the_declared_errors_escape(body):
    for parse in (fulcio.parse_chain, fulcio.parse_configuration):
        try:
            parse(reply(body))
        except DaemonError as exc:
            assert exc.code == "service_invalid_reply"  # noqa: PT017  # success is fine too


def test_the_configuration_is_read():
    found = fulcio.parse_configuration(
        reply(
            {
                "issuers": [
                    {
                        "issuerUrl": "https://a.example",
                        "audience": "sigstore",
                        "challengeClaim": "email",
                        "issuerType": "email",
                    },
                    {"wildcardIssuerUrl": "https://*.b.example/org/*", "audience": "corp"},
                    {"audience": "nobody"},
                    "not an object",
                ]
            }
        )
    )
    assert len(found.issuers) == 2
    exact, wild = found.issuers
    assert (exact.audience, exact.issuer_type) == ("sigstore", "email")
    assert found.find("https://a.example") is exact
    assert found.find("https://x-1.b.example/org/y_2") is wild


@pytest.mark.parametrize(
    "issuer",
    [
        "https://a.example/",
        "https://A.example",
        "https://.b.example/org/y",
        "https://x.y.b.example/org/y",
        "https://x.b.example/org/y/z",
        "https://xxb.example/org/y",
        "prefix https://x.b.example/org/y",
        "https://x.b.example/org/y\n",
    ],
)
def test_issuers_match_as_a_whole(issuer):
    found = fulcio.FulcioConfiguration(
        (
            fulcio.FulcioIssuer("https://a.example", False, "", "", "", ""),
            fulcio.FulcioIssuer("https://*.b.example/org/*", True, "", "", "", ""),
        )
    )
    assert found.find(issuer) is None


def test_an_exact_entry_goes_before_a_pattern():
    wild = fulcio.FulcioIssuer("https://*", True, "wild", "", "", "")
    exact = fulcio.FulcioIssuer("https://a", False, "exact", "", "", "")
    assert fulcio.FulcioConfiguration((wild, exact)).find("https://a") is exact


def test_a_pattern_made_to_stall_is_ignored():
    entry = fulcio.FulcioIssuer("https://" + "*" * 9, True, "", "", "", "")
    assert not entry.matches("https://" + "a" * 100 + "!")

"""What Fulcio refuses without a reason, and the reason that keyless gives in its place."""

from __future__ import annotations

import base64
import random
from datetime import timedelta

import httpx
import pytest
from tests.real.outcomes import counted, failure_of

from keylessd.core.digests import HashAlgorithm
from keylessd.errors import ServiceRefusedError
from keylessd.keys.slot import EphemeralKey
from keylessd.secret import Secret
from keylessd.services import fulcio
from keylessd.services.http import HttpClient, new_client


def _damaged_signature(token: str) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{'A' * len(signature)}"


def _tokens(stack) -> dict[str, tuple[str, str, str]]:
    """Return name -> (token, code, what the message has to contain)."""
    known = stack.issuers.known
    other_domain = known.token(issuer="spiffe", subject="spiffe://elsewhere.test/builder")
    return {
        "expired": (
            known.token(email="a@b.test", lifetime=timedelta(seconds=-90)),
            "token_expired",
            "ended 9",
        ),
        "audience": (
            known.token(email="a@b.test", audience="somebody"),
            "token_audience",
            "'somebody'",
        ),
        "audiences": (
            known.token(email="a@b.test", audience=["some", "body"]),
            "token_audience",
            "'some', 'body'",
        ),
        "unverified": (
            known.token(email="a@b.test", email_verified=False),
            "token_unverified_email",
            "a@b.test",
        ),
        "issuer": (
            stack.issuers.unknown.mint(email="a@b.test"),
            "token_rejected",
            f"issuer '{stack.issuers.unknown.url}' is unknown there",
        ),
        "signature": (
            _damaged_signature(known.token(email="a@b.test")),
            "token_rejected",
            "signature is wrong",
        ),
        "subject": (other_domain, "token_rejected", "subject is not admitted"),
        "garbage": ("no.token.atall", "token_malformed", "no identity token"),
    }


@pytest.mark.parametrize(
    "name",
    ["expired", "audience", "audiences", "unverified", "issuer", "signature", "subject", "garbage"],
)
def test_cause_is_named(stack, house, name: str) -> None:
    token, code, words = _tokens(stack)[name]
    (path,) = house.files(1, stem=f"refused-{name}-")

    with counted(stack) as added:
        done = house.keyless("sign", "--json", path, environ={"SIGSTORE_ID_TOKEN": token})

    failure = failure_of(done)
    assert failure.code == code, failure
    assert words in failure.message
    assert failure.status == 4
    assert token not in done.stdout + done.stderr
    assert added == {}
    assert added.certificates == 0


@pytest.mark.parametrize("name", ["expired", "audience", "unverified", "issuer", "signature"])
def test_fulcio_itself_never_says(stack, name: str) -> None:
    # If it ever does, we can pass on its own words instead of our guess.
    token, _, _ = _tokens(stack)[name]
    csr = base64.b64encode(EphemeralKey(HashAlgorithm.SHA256).csr()).decode()

    reply = httpx.post(
        f"{stack.urls.fulcio}/api/v2/signingCert",
        json={"credentials": {"oidcIdentityToken": token}, "certificateSigningRequest": csr},
    )

    assert reply.status_code == 400
    assert reply.json()["message"] == "There was an error processing the identity token"


async def test_bad_proof_of_possession(stack) -> None:
    mine, other = EphemeralKey(HashAlgorithm.SHA256), EphemeralKey(HashAlgorithm.SHA256)
    pem = mine.csr().replace(b"\n", b"")
    raw = bytearray(base64.b64decode(pem.split(b"-----")[2]))
    raw[-1] ^= 1
    broken = b"-----BEGIN CERTIFICATE REQUEST-----\n%s\n-----END CERTIFICATE REQUEST-----\n"
    token = Secret(stack.dex_token())

    async with new_client() as client:
        http = HttpClient(client, rng=random.Random(1), user_agent="test")
        with pytest.raises(ServiceRefusedError) as caught:
            await fulcio.issue(http, stack.urls.fulcio, broken % base64.b64encode(raw), token)
        good = await fulcio.issue(http, stack.urls.fulcio, other.csr(), token)

    assert "signature" in caught.value.message.lower()
    assert good

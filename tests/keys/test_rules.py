"""Why a CA refused a token: it never says, so the first rule that fails is named."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import trio

from keylessd.errors import TokenError
from keylessd.identity.token import IdentityToken
from keylessd.keys.rules import CaRules, check_against, explain_refusal
from keylessd.secret import Secret
from keylessd.services.fulcio import FulcioConfiguration, FulcioIssuer
from keylessd.services.http import HttpClient, new_client

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ISSUER = FulcioIssuer("https://issuer.example", False, "sigstore", "email", "email", "")
CONFIGURATION = FulcioConfiguration((ISSUER, FulcioIssuer("https://b/*", True, "", "", "", "")))
TOKEN = IdentityToken(
    raw=Secret("secret-token"),
    sha256=b"",
    issuer="https://issuer.example",
    subject="1",
    email="ada@example.org",
    email_verified=True,
    audience=("sigstore",),
    expires=NOW + timedelta(minutes=1),
    issued=None,
    federated_issuer=None,
    claims={},
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"issuer": "https://evil"},
            ["'https://evil'", "'https://issuer.example'", "'https://b/*'"],
        ),
        ({"expires": NOW - timedelta(seconds=7)}, ["expired 7 s ago"]),
        ({"audience": ("other",)}, ["'other'", "'sigstore'"]),
        ({"email": None}, ["no email address"]),
        ({"email_verified": False}, ["'ada@example.org' is not verified"]),
        ({}, ["signature"]),
    ],
    ids=["issuer", "expired", "audience", "no email", "unverified", "signature"],
)
def test_the_reason(changes, said):
    error = explain_refusal(replace(TOKEN, **changes), CONFIGURATION, now=NOW, server_time=NOW)
    assert error.code == "token_rejected"
    assert all(part in error.message for part in said)
    assert "secret-token" not in error.message
    assert "clock" not in error.message


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-31, "31 s behind"), (31, "31 s ahead of"), (30, None), (-30, None)],
)
def test_clocks_that_differ(seconds, said):
    here = NOW + timedelta(seconds=seconds)
    error = explain_refusal(TOKEN, CONFIGURATION, now=here, server_time=NOW)
    assert (said in error.message) if said else ("clock" not in error.message)


def test_expiry_is_by_the_cas_clock():
    here = NOW - timedelta(minutes=5)
    late = NOW + timedelta(minutes=2)
    error = explain_refusal(TOKEN, CONFIGURATION, now=here, server_time=late)
    assert "expired 60 s ago" in error.message


def test_without_a_configuration_what_can_be_said_is_said():
    error = explain_refusal(replace(TOKEN, audience=("x",)), None, now=NOW, server_time=None)
    assert "'sigstore'" in error.message


def test_a_long_list_of_issuers_is_cut():
    many = FulcioConfiguration(
        tuple(FulcioIssuer(f"https://i{n}", False, "", "", "", "") for n in range(100))
    )
    error = explain_refusal(TOKEN, many, now=NOW, server_time=None)
    assert "and 88 more" in error.message
    assert len(error.message) < 1000


@pytest.mark.parametrize(
    ("issuer", "changes", "code"),
    [
        (ISSUER, {}, None),
        (None, {}, None),
        (replace(ISSUER, audience="corp"), {}, "token_audience"),
        (replace(ISSUER, audience="corp"), {"audience": ("corp",)}, None),
        (ISSUER, {"audience": ("corp",)}, "token_audience"),
        (None, {"audience": ("corp",)}, "token_audience"),
        (ISSUER, {"email_verified": False}, "token_unverified_email"),
        (None, {"email_verified": False}, "token_unverified_email"),
        (None, {"email": None, "email_verified": False}, None),
        (replace(ISSUER, skip_email_verification=True), {"email_verified": False}, None),
        (replace(ISSUER, issuer_type="uri"), {"email_verified": False}, None),
        (ISSUER, {"expires": NOW}, "token_expired"),
    ],
)
def test_checks_before_the_ca_is_called(issuer, changes, code):
    token = replace(TOKEN, **changes)
    if code is None:
        check_against(token, issuer, now=NOW)
        return
    with pytest.raises(TokenError) as caught:
        check_against(token, issuer, now=NOW)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (None, None),
        (timedelta(0), None),
        (timedelta(seconds=30), None),
        (timedelta(seconds=400), "400 s ahead of"),
        (timedelta(seconds=-400), "400 s behind"),
    ],
)
def test_a_clock_that_is_off_is_told_of_a_token_that_seems_to_have_ended(ahead, said):
    ended = replace(TOKEN, expires=NOW - timedelta(seconds=40))
    with pytest.raises(TokenError) as caught:
        check_against(ended, ISSUER, now=NOW, ahead=ahead)
    assert caught.value.code == "token_expired"
    assert "ended 40 s ago" in caught.value.message
    assert ("clock" in caught.value.message) is (said is not None)
    assert said is None or said in caught.value.message
    assert caught.value.hint


def test_a_clock_that_is_off_is_no_matter_for_other_errors():
    other = replace(TOKEN, audience=("other",))
    with pytest.raises(TokenError) as caught:
        check_against(other, ISSUER, now=NOW, ahead=timedelta(seconds=400))
    assert caught.value.code == "token_audience"
    assert "clock" not in caught.value.message
    check_against(TOKEN, ISSUER, now=NOW, ahead=timedelta(seconds=400))


async def test_how_far_the_clock_is_off_is_measured_when_the_ca_is_asked(autojump_clock):
    class Clock:
        def now(self):
            return NOW + timedelta(seconds=trio.current_time())

        def boottime(self):
            return trio.current_time()

    async def answer(request):
        await trio.sleep(4)
        date = format_datetime(NOW - timedelta(seconds=90), usegmt=True)
        return httpx.Response(200, json={"issuers": []}, headers={"date": date})

    async with (
        new_client(transport=httpx.MockTransport(answer)) as client,
        trio.open_nursery() as nursery,
    ):
        http = HttpClient(client, rng=random.Random(0), user_agent="test/1")
        rules = CaRules(http, nursery, Clock())
        assert rules.ahead("https://ca.example") is None
        began = trio.current_time()
        await rules.configuration("https://ca.example")
        ahead = rules.ahead("https://ca.example")
        assert ahead is not None
        assert abs(ahead.total_seconds() - (90 + 2 + began)) < 0.01
        nursery.cancel_scope.cancel()

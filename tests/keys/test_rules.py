"""Why a CA refused a token: it never says, so the first rule that fails is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from keylessd.errors import TokenError
from keylessd.identity.token import IdentityToken
from keylessd.keys.rules import check_against, explain_refusal
from keylessd.secret import Secret
from keylessd.services.fulcio import FulcioConfiguration, FulcioIssuer

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

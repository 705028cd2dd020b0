"""Tokens are read strictly, checked before the CA sees them, and never shown."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylessd.errors import LoginRequiredError, TokenError
from keylessd.identity.source import IdentityRequest, SuppliedToken
from keylessd.identity.token import MAX_KNOWN, KnownTokens, check_token, parse_token
from keylessd.secret import Secret

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CLAIMS = {
    "iss": "https://issuer.example",
    "sub": "subject-1",
    "aud": "sigstore",
    "exp": int(NOW.timestamp()) + 60,
    "iat": int(NOW.timestamp()),
    "email": "ada@example.org",
    "email_verified": True,
}


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def jwt(
    *, header: object = None, payload: object = None, without: str = "", **claims: object
) -> Secret:
    body = {k: v for k, v in {**CLAIMS, **claims}.items() if k != without}
    return Secret(
        ".".join([part(header or {"alg": "RS256"}), part(payload or body), part(b"signature")])
    )


def test_claims_are_read():
    token = parse_token(jwt(federated_claims={"connector_id": "https://github.com/login/oauth"}))
    assert (token.issuer, token.subject) == ("https://issuer.example", "subject-1")
    assert token.audience == ("sigstore",)
    assert token.expires == NOW + timedelta(seconds=60)
    assert token.issued == NOW
    assert token.identity_hint == "ada@example.org"
    assert token.email_verified
    assert token.federated_issuer == "https://github.com/login/oauth"
    check_token(token, now=NOW, needs_email=True)


def test_a_list_of_audiences_is_taken():
    check_token(parse_token(jwt(aud=["other", "sigstore"])), now=NOW)


@pytest.mark.parametrize("missing", ["iat", "email", "email_verified"])
def test_claims_that_a_ca_does_not_need_may_be_missing(missing):
    check_token(parse_token(jwt(without=missing)), now=NOW)


def test_an_issue_time_in_the_future_is_no_reason_to_refuse():
    check_token(parse_token(jwt(iat=CLAIMS["exp"] - 1)), now=NOW)


MALFORMED = {
    "empty": Secret(""),
    "two parts": Secret("e30.e30"),
    "four parts": Secret("e30.e30.e30.e30"),
    "encrypted, five parts": Secret("e30.e30.e30.e30.e30"),
    "empty signature": Secret(jwt().reveal().rpartition(".")[0] + "."),
    "standard base64": Secret("a+/=.e30.e30"),
    "white space": Secret(jwt().reveal() + "\n"),
    "too long": Secret("e30." + "e" * 40000 + ".e30"),
    "header no JSON": jwt(header=b"{"),
    "header a list": jwt(header=["RS256"]),
    "unsigned": jwt(header={"alg": "none"}),
    "unsigned, other case": jwt(header={"alg": "NONE"}),
    "symmetric": jwt(header={"alg": "HS256"}),
    "no algorithm": jwt(header={"typ": "JWT"}),
    "payload no JSON": jwt(payload=b"{"),
    "payload a list": jwt(payload=["x"]),
    "key twice": jwt(payload=b'{"iss":"a","iss":"b","sub":"c","aud":"d","exp":9}'),
    "no issuer": jwt(without="iss"),
    "empty issuer": jwt(iss=""),
    "issuer a number": jwt(iss=1),
    "no subject": jwt(without="sub"),
    "no audience": jwt(without="aud"),
    "empty audience list": jwt(aud=[]),
    "audience of numbers": jwt(aud=["sigstore", 1]),
    "no end": jwt(without="exp"),
    "end as text": jwt(exp="1700000000"),
    "end true": jwt(exp=True),
    "end beyond all time": jwt(exp=10**15),
    "email a number": jwt(email=5),
    "issuer too long": jwt(iss="https://" + "x" * 1017),
    "subject too long": jwt(sub="x" * 1025),
    "email too long": jwt(email="x" * 1025),
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(raw):
    with pytest.raises(TokenError) as caught:
        parse_token(raw)
    assert caught.value.code == "token_malformed"
    if raw.reveal():
        assert raw.reveal() not in f"{caught.value.message}{caught.value.hint}"


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: f"e30.{part(raw)}.e30"))
def test_only_the_declared_error_escapes(text):
    with contextlib.suppress(TokenError):
        parse_token(Secret(text))


@given(
    st.dictionaries(
        st.sampled_from([*sorted(CLAIMS), "federated_claims"]),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.lists(st.text()),
    )
)
def test_odd_claims_are_read_or_refused(odd):
    payload = json.dumps({**CLAIMS, **odd}).encode()
    with contextlib.suppress(TokenError):
        assert parse_token(jwt(payload=payload)).audience


@pytest.mark.parametrize(
    ("seconds", "refused"), [(-1, True), (0, True), (9, True), (10, False), (60, False)]
)
def test_expiry_to_the_second(seconds, refused):
    token = parse_token(jwt(exp=int(NOW.timestamp()) + seconds))
    if not refused:
        check_token(token, now=NOW)
        return
    with pytest.raises(TokenError) as caught:
        check_token(token, now=NOW)
    assert caught.value.code == "token_expired"


def test_an_expired_token_is_told_how_long_ago():
    token = parse_token(jwt(exp=int(NOW.timestamp()) - 75))
    with pytest.raises(TokenError, match="75 s ago"):
        check_token(token, now=NOW)


@pytest.mark.parametrize(("early", "good"), [(-60, True), (0, True), (300, True), (301, False)])
def test_a_token_that_is_not_valid_yet(early, good):
    """As far as the CA lets clocks differ, so do we."""
    start = int(NOW.timestamp()) + early
    token = parse_token(jwt(nbf=start, exp=start + 600))
    if good:
        check_token(token, now=NOW)
        return
    with pytest.raises(TokenError, match="not valid for another 301 s, until 2026-01-02T03:09:06"):
        check_token(token, now=NOW)


@pytest.mark.parametrize("nbf", ["soon", -1, True, [], 1e300])
def test_a_start_that_is_no_time(nbf):
    with pytest.raises(TokenError, match="claim nbf is no time"):
        parse_token(jwt(nbf=nbf))


@pytest.mark.parametrize("aud", ["Sigstore", "sigstore2", ["sig", "store"]])
def test_wrong_audience(aud):
    with pytest.raises(TokenError) as caught:
        check_token(parse_token(jwt(aud=aud)), now=NOW)
    assert caught.value.code == "token_audience"


def test_the_instances_own_audience_counts():
    token = parse_token(jwt(aud="corp"))
    check_token(token, now=NOW, audience="corp")
    with pytest.raises(TokenError):
        check_token(token, now=NOW)


@pytest.mark.parametrize("verified", [False, None, "no", 1])
def test_unverified_email(verified):
    token = parse_token(jwt(email_verified=verified))
    check_token(token, now=NOW)
    with pytest.raises(TokenError) as caught:
        check_token(token, now=NOW, needs_email=True)
    assert caught.value.code == "token_unverified_email"
    assert "confirmed" in (caught.value.hint or "")


@pytest.mark.parametrize("verified", [True, "true", "True"])
def test_verified_email(verified):
    check_token(parse_token(jwt(email_verified=verified)), now=NOW, needs_email=True)


def test_no_email_where_one_is_certified():
    with pytest.raises(TokenError) as caught:
        check_token(parse_token(jwt(without="email")), now=NOW, needs_email=True)
    assert caught.value.code == "token_unverified_email"


def test_the_repr_shows_no_token():
    raw = jwt()
    assert raw.reveal() not in repr(parse_token(raw))


async def test_no_token_means_login_required_and_says_what_to_do():
    with pytest.raises(LoginRequiredError) as caught:
        await SuppliedToken().token(IdentityRequest(1000, "public", None))
    assert "--identity-token" in (caught.value.hint or "")
    assert "SIGSTORE_ID_TOKEN" in (caught.value.hint or "")


async def test_the_callers_token_is_returned():
    token = await SuppliedToken().token(IdentityRequest(1000, "public", jwt()))
    assert token.subject == "subject-1"


# --- tokens that come again ------------------------------------------------------------------


def test_a_token_that_comes_again_says_the_same_and_is_not_read_again(monkeypatch):
    read = []
    monkeypatch.setattr(
        "keylessd.identity.token.parse_token", lambda raw: read.append(raw) or parse_token(raw)
    )
    known, first, other = KnownTokens(), jwt(sub="1"), jwt(sub="2")

    for raw in (first, other, Secret(first.reveal()), other):
        assert known.read(raw) == parse_token(raw)
        assert known.read(raw).raw is raw
    assert read == [first, other]


def test_what_is_remembered_holds_no_token():
    known, raw = KnownTokens(), jwt()
    known.read(raw)

    (kept,) = known._known.values()
    assert kept.raw.reveal() == ""
    parts = raw.reveal().split(".")
    for text in (repr(known._known), repr(kept.claims)):
        assert not any(one in text for one in parts)


def test_no_more_is_remembered_than_fits(monkeypatch):
    read = []
    monkeypatch.setattr(
        "keylessd.identity.token.parse_token", lambda raw: read.append(raw) or parse_token(raw)
    )
    known = KnownTokens()
    raws = [jwt(sub=str(number)) for number in range(MAX_KNOWN + 1)]
    for raw in raws:
        known.read(raw)

    assert len(known._known) == MAX_KNOWN
    known.read(raws[-1])
    assert len(read) == MAX_KNOWN + 1
    known.read(raws[0])
    assert len(read) == MAX_KNOWN + 2


@pytest.mark.parametrize("text", ["", "a.b", "\ud800.a.b"])
def test_what_is_no_token_is_refused_every_time(text):
    known = KnownTokens()
    for _ in range(2):
        with pytest.raises(TokenError):
            known.read(Secret(text))

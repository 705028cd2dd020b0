"""The table of operations: for each, what is taken and what is refused, field by field."""

import pytest

from keyless.wire import OPERATIONS
from keyless.wire._operations import reply_problem, request_problem

SHA = {"alg": "sha256", "value": bytes(32)}
SUBJECT = {"name": "a", "alg": "sha512", "value": bytes(64)}
SIGNER = {"identity": "a@example.com", "issuer": "https://issuer.example"}
HASH = bytes(32)

GOOD = {
    "status": ("status", {}, {}),
    "sign": ("sign", {"digest": SHA}, {}),
    "sign with all": (
        "sign",
        {
            "digest": {"alg": "sha384", "value": bytes(48)},
            "where": {
                "instance": "x",
                "trusted_root": HASH,
                "signing_config": HASH,
                "fulcio_url": "https://f",
                "rekor_url": "https://r",
                "oidc_issuer": "https://o",
                "timestamp_server_url": "https://t",
            },
            "reuse": "never",
            "idempotency_key": "k",
            "name": "dir/Ünïcode file\u00a0.tar",
            "progress": True,
        },
        {"identity_token": 5, "trusted_root": 7},
    ),
    "sign_batch": ("sign_batch", {}, {"subjects": 70}),
    "attest a statement": ("attest", {}, {"statement": 3}),
    "attest a predicate": (
        "attest",
        {"predicate_type": "https://p", "subjects": [SUBJECT]},
        {"predicate": 3},
    ),
    "verify a signer": (
        "verify",
        {"digests": {"sha256": HASH}, "accepted": [SIGNER]},
        {"bundle": 1},
    ),
    "verify a key": ("verify", {"digests": {"sha512": bytes(64)}}, {"bundle": 1, "key": 2}),
    "verify without evidence": (
        "verify",
        {
            "digests": {"sha256": HASH},
            "accepted": [SIGNER],
            "options": {"tlog_threshold": 0, "sct_threshold": 0},
            "explain": True,
        },
        {"bundle": 1},
    ),
    "verify detached": (
        "verify",
        {"digests": {"sha256": HASH}, "accepted": [SIGNER]},
        {"signature": 1, "certificate": 2, "certificate_chain": 3, "timestamp": 4},
    ),
    "inspect": ("inspect", {}, {"bundle": 1}),
    "inspect detached": ("inspect", {}, {"signature": 1}),
    "verify with all": (
        "verify",
        {
            "digests": {"sha256": HASH, "sha384": bytes(48)},
            "accepted": [
                {"identity_regexp": ".*", "issuer_regexp": ".*", "extensions": {"a": "b"}},
                SIGNER,
            ],
            "predicate_type": "https://p",
            "where": {"trust_config": HASH},
            "options": {"tlog_threshold": 1, "time_threshold": 2, "sct_threshold": 3},
        },
        {"bundle": 1, "trust_config": 4},
    ),
    "whoami": ("whoami", {"where": {}}, {"identity_token": 1}),
    "whoami of a job": (
        "whoami",
        {"ambient": {"kind": "github", "url": "https://x", "audience": "a"}, "identity": "b"},
        {"ambient_token": 9},
    ),
    "sign as somebody": ("sign", {"digest": SHA, "identity": "a@example.com"}, {}),
    "sign as a job": (
        "sign",
        {"digest": SHA, "ambient": {"kind": "buildkite", "job": "1"}},
        {"ambient_token": 9},
    ),
    "login": ("login", {}, {}),
    "login with all": (
        "login",
        {
            "where": {"instance": "x", "trusted_root": HASH},
            "flow": "device",
            "connector": "https://github.com/login/oauth",
            "identity": "a@example.com",
            "client_id": "sigstore",
            "default": True,
        },
        {"trusted_root": 7},
    ),
    "login_code": ("login_code", {"login": "abc"}, {"code": 20}),
    "logout": ("logout", {}, {}),
    "logout with all": ("logout", {"instance": "x", "identity": "a", "all": True}, {}),
    "lock": ("lock", {}, {"passphrase": 8}),
    "unlock": ("unlock", {}, {"passphrase": 8}),
    "trust_status": ("trust_status", {"instance": "x"}, {}),
    "trust_refresh": ("trust_refresh", {}, {}),
    "ledger": ("ledger", {"limit": 1}, {}),
    "reload": ("reload", {}, {}),
}


@pytest.mark.parametrize("name", GOOD)
def test_taken(name):
    assert request_problem(*GOOD[name]) is None


def test_every_operation_has_a_good_request():
    assert {op for op, _, _ in GOOD.values()} == set(OPERATIONS)


VERIFY = {"digests": {"sha256": HASH}, "accepted": [SIGNER]}
BAD = {
    "closed": ("status", {"verbose": True}, {}),
    "attachment unknown": ("status", {}, {"x": 1}),
    "digest missing": ("sign", {}, {}),
    "digest too short": ("sign", {"digest": {"alg": "sha256", "value": bytes(31)}}, {}),
    "digest of another length": ("sign", {"digest": {"alg": "sha256", "value": bytes(48)}}, {}),
    "digest as text": ("sign", {"digest": {"alg": "sha256", "value": "0" * 64}}, {}),
    "digest of md5": ("sign", {"digest": {"alg": "md5", "value": bytes(16)}}, {}),
    "digest with more": ("sign", {"digest": {**SHA, "x": 1}}, {}),
    "reuse unknown": ("sign", {"digest": SHA, "reuse": "always"}, {}),
    "progress as a number": ("sign", {"digest": SHA, "progress": 1}, {}),
    "name empty": ("sign", {"digest": SHA, "name": ""}, {}),
    "name with a newline": ("sign", {"digest": SHA, "name": "a\nb"}, {}),
    "name with an escape": ("sign", {"digest": SHA, "name": "a\x9b31m"}, {}),
    "name that turns around": ("sign", {"digest": SHA, "name": "a\u202eb"}, {}),
    "name too long": ("sign", {"digest": SHA, "name": "a" * 1025}, {}),
    "key too long": ("sign", {"digest": SHA, "idempotency_key": "a" * 129}, {}),
    "where unknown": ("sign", {"digest": SHA, "where": {"proxy": "x"}}, {}),
    "where by text": ("sign", {"digest": SHA, "where": {"trusted_root": "x" * 32}}, {}),
    "file without its hash": ("sign", {"digest": SHA}, {"trusted_root": 1}),
    "subjects missing": ("sign_batch", {}, {}),
    "nothing to attest": ("attest", {}, {}),
    "two things to attest": (
        "attest",
        {"predicate_type": "p", "subjects": [SUBJECT]},
        {"statement": 1, "predicate": 1},
    ),
    "predicate without type": ("attest", {"subjects": [SUBJECT]}, {"predicate": 1}),
    "predicate without subjects": ("attest", {"predicate_type": "p"}, {"predicate": 1}),
    "predicate of no subjects": (
        "attest",
        {"predicate_type": "p", "subjects": []},
        {"predicate": 1},
    ),
    "predicate of too many": (
        "attest",
        {"predicate_type": "p", "subjects": [SUBJECT] * 65},
        {"predicate": 1},
    ),
    "statement with a type": ("attest", {"predicate_type": "p"}, {"statement": 1}),
    "subject of wrong length": (
        "attest",
        {"predicate_type": "p", "subjects": [{**SUBJECT, "value": HASH}]},
        {"predicate": 1},
    ),
    "no bundle": ("verify", VERIFY, {}),
    "no digest": ("verify", {**VERIFY, "digests": {}}, {"bundle": 1}),
    "digest unknown": ("verify", {**VERIFY, "digests": {"md5": bytes(16)}}, {"bundle": 1}),
    "digest wrong": ("verify", {**VERIFY, "digests": {"sha512": HASH}}, {"bundle": 1}),
    "nobody accepted": ("verify", {"digests": {"sha256": HASH}}, {"bundle": 1}),
    "an empty list accepted": ("verify", {**VERIFY, "accepted": []}, {"bundle": 1}),
    "anybody accepted": ("verify", {**VERIFY, "accepted": [{}]}, {"bundle": 1}),
    "key and signer": ("verify", VERIFY, {"bundle": 1, "key": 1}),
    "identity twice": (
        "verify",
        {**VERIFY, "accepted": [{**SIGNER, "identity_regexp": "x"}]},
        {"bundle": 1},
    ),
    "issuer twice": (
        "verify",
        {**VERIFY, "accepted": [{**SIGNER, "issuer_regexp": "x"}]},
        {"bundle": 1},
    ),
    "extension not text": (
        "verify",
        {**VERIFY, "accepted": [{**SIGNER, "extensions": {"a": 1}}]},
        {"bundle": 1},
    ),
    "threshold zero": ("verify", {**VERIFY, "options": {"time_threshold": 0}}, {"bundle": 1}),
    "threshold below zero": (
        "verify",
        {**VERIFY, "options": {"tlog_threshold": -1}},
        {"bundle": 1},
    ),
    "certificate alone": ("verify", VERIFY, {"certificate": 1}),
    "explain as a number": ("verify", {**VERIFY, "explain": 1}, {"bundle": 1}),
    "nothing to inspect": ("inspect", {}, {"certificate": 1}),
    "inspect by a trust root": ("inspect", {}, {"bundle": 1, "trusted_root": 1}),
    "threshold true": ("verify", {**VERIFY, "options": {"sct_threshold": True}}, {"bundle": 1}),
    "option unknown": ("verify", {**VERIFY, "options": {"insecure": True}}, {"bundle": 1}),
    "a grant without its secret": (
        "sign",
        {"digest": SHA, "ambient": {"kind": "github", "url": "https://x"}},
        {},
    ),
    "a secret without its grant": ("whoami", {}, {"ambient_token": 3}),
    "a secret in the head": (
        "sign",
        {"digest": SHA, "ambient": {"kind": "github", "token": "x"}},
        {"ambient_token": 3},
    ),
    "an environment nobody knows": (
        "sign",
        {"digest": SHA, "ambient": {"kind": "jenkins"}},
        {"ambient_token": 3},
    ),
    "a flow nobody knows": ("login", {"flow": "password"}, {}),
    "a code in the head": ("login_code", {"login": "x", "code": "y"}, {}),
    "a login of nothing": ("login_code", {}, {"code": 3}),
    "a passphrase in the head": ("lock", {"passphrase": "x"}, {}),
    "an unlock with nothing": ("unlock", {}, {}),
    "a logout of all by a number": ("logout", {"all": 1}, {}),
    "ledger of nothing": ("ledger", {"limit": 0}, {}),
    "ledger of all": ("ledger", {"limit": 10**9}, {}),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name):
    assert isinstance(request_problem(*BAD[name]), str)


def test_a_reply_may_tell_more_than_is_known_here():
    body = {"records": 1, "since": 5, "more": {"a": [1, None, "x", b"y", True]}}
    assert reply_problem("ledger", body, {"records": 4}) is None


@pytest.mark.parametrize(
    "extra", [1.5, 2**63, {"a": 1.5}, ["x" * 9000], [[[[[[[[1]]]]]]]], object()]
)
def test_what_more_it_tells_must_fit_a_head(extra):
    assert reply_problem("ledger", {"records": 1, "more": extra}, {"records": 4}) is not None

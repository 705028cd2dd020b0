"""A browser's answer: each thing that makes a request none, alone."""

from __future__ import annotations

import pytest

from keylessd.identity.login.answer import Asked, Code, Refusal, Stray, read_answer
from keylessd.secret import Secret

STATE = "s" * 32
ISSUER = "https://issuer.example/auth"
ASKED = Asked(4711, Secret(STATE), ISSUER, names_itself=True)
SILENT = Asked(4711, Secret(STATE), ISSUER, names_itself=False)
HOST = ("host", "localhost:4711")
GOOD = {"code": "c-1", "state": STATE, "iss": ISSUER}


def ask(*pairs: tuple[str, str], asked: Asked = ASKED, **parts: object):
    from urllib.parse import urlencode

    query = urlencode(pairs or list(GOOD.items()))
    method = parts.get("method", "GET")
    target = parts.get("target", f"/auth/callback?{query}")
    return read_answer(method, target, parts.get("headers", [HOST]), asked)  # type: ignore[arg-type]


def changed(**changes: str | None) -> list[tuple[str, str]]:
    return [(k, v) for k, v in {**GOOD, **changes}.items() if v is not None]


@pytest.mark.parametrize("host", ["localhost:4711", "127.0.0.1:4711", "[::1]:4711"])
def test_the_answer(host):
    assert ask(headers=[("host", host)]) == Code(Secret("c-1"))
    own = [("host", host), ("origin", f"http://{host}")]
    assert ask(headers=own) == Code(Secret("c-1"))


def test_an_answer_of_an_issuer_that_does_not_name_itself():
    assert ask(*changed(iss=None), asked=SILENT) == Code(Secret("c-1"))
    assert ask(asked=SILENT) == Code(Secret("c-1"))


HOSTS = {
    "none": [],
    "two": [HOST, HOST],
    "of another name": [("host", "evil.example:4711")],
    "of another port": [("host", "localhost:4712")],
    "without a port": [("host", "localhost")],
    "of a longer name": [("host", "localhost:4711.evil.example")],
    "in capitals": [("host", "LOCALHOST:4711")],
    "of another address": [("host", "127.0.0.2:4711")],
}


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_that_is_not_this_one(name):
    found = ask(headers=HOSTS[name])
    assert isinstance(found, Stray)
    assert found.status == 400


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost", "https://localhost:4711", ""]
)
def test_another_pages_request(origin):
    found = ask(headers=[HOST, ("origin", origin)])
    assert isinstance(found, Stray)
    assert found.status == 403


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "get"])
def test_another_method(method):
    found = ask(method=method)
    assert isinstance(found, Stray)
    assert found.status == 405


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/auth/callback/", "/auth/../auth/callback", "//auth/callback", "/Auth/callback"),
        "http://localhost:4711/auth/callback",
    ],
)
def test_another_path(path):
    found = ask(target=f"{path}?code=c-1&state={STATE}&iss={ISSUER}")
    assert isinstance(found, Stray)
    assert found.status == 404


STATES = [None, "", "s" * 31, "s" * 33, "S" * 32, "\u017f" * 32]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("more", [{}, {"code": None, "error": "access_denied"}])
def test_another_state(state, more):
    found = ask(*changed(state=state, **more))
    assert isinstance(found, Stray)
    assert (found.status, found.reason) == (400, "the request belongs to another sign-in")


@pytest.mark.parametrize("name", ["state", "code", "iss", "x"])
def test_something_said_twice(name):
    pairs = changed(x="1")
    assert isinstance(ask(*pairs), Code)
    assert isinstance(ask(*pairs, (name, dict(pairs)[name])), Stray)


@pytest.mark.parametrize("iss", [None, "", ISSUER + "/", "https://evil.example", ISSUER.upper()])
def test_another_issuer(iss):
    assert isinstance(ask(*changed(iss=iss)), Stray)
    denied = [("error", "access_denied"), ("state", STATE)]
    assert isinstance(ask(*denied, *([] if iss is None else [("iss", iss)])), Stray)
    if iss is not None:
        assert isinstance(ask(*changed(iss=iss), asked=SILENT), Stray)


@pytest.mark.parametrize("code", [None, ""])
def test_no_code(code):
    assert isinstance(ask(*changed(code=code)), Stray)


@pytest.mark.parametrize("query", ["&".join(["a=1"] * 40), "a=%ff%fe", "%ff=1"])
def test_a_query_that_cannot_be_read(query):
    good = f"code=c-1&state={STATE}&iss={ISSUER}"
    assert isinstance(ask(target=f"/auth/callback?{good}"), Code)
    assert isinstance(ask(target=f"/auth/callback?{good}&{query}"), Stray)


@pytest.mark.parametrize(
    ("error", "is_denial"),
    [
        *(("access_denied", True), ("consent_required", True), ("login_required", True)),
        *(("server_error", False), ("invalid_scope", False), ("", False)),
    ],
)
def test_an_error_of_the_issuer(error, is_denial):
    pairs = [
        ("error", error),
        ("error_description", "no\x1b[2J"),
        ("state", STATE),
        ("iss", ISSUER),
    ]
    found = ask(*pairs)
    assert isinstance(found, Refusal)
    assert found.is_denial is is_denial
    assert "\x1b" not in found.message
    # An error beside a code is an error.
    assert isinstance(ask(("code", "c"), *pairs), Refusal)

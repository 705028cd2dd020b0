"""The HTTP client: what it sends, what it refuses, when it tries again, what it shows."""

from __future__ import annotations

import random

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from keylessd.errors import (
    InvalidInputError,
    RateLimitedError,
    ServiceRefusedError,
    ServiceReplyError,
    ServiceUnavailableError,
)
from keylessd.services.http import (
    MAX_RETRY_AFTER,
    HttpClient,
    HttpReply,
    new_client,
    refusal,
    retry_after,
)
from keylessd.services.urls import (
    check_url,
    is_link_local,
    is_loopback,
    printable,
    shown_url,
    upstream_message,
)

URL = "https://user:secret@fulcio.example/api/v2/signingCert?token=abc#part"
SHOWN = "https://fulcio.example/api/v2/signingCert"


class NoJitter(random.Random):
    def uniform(self, a, b):
        return b


class Upstream:
    """Answers from a list; each is a response, an exception, or a function of the request."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.times = []

    async def __call__(self, request):
        self.requests.append(request)
        self.times.append(trio.current_time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return await answer(request)
        return answer


def client_of(upstream, **kwargs):
    client = new_client(transport=httpx.MockTransport(upstream))
    return HttpClient(client, rng=NoJitter(), user_agent="keylessd/1.0", **kwargs)


async def send(upstream, method="GET", url=URL, **kwargs):
    arguments = {"service": "fulcio", "deadline_seconds": 10.0, **kwargs}
    return await client_of(upstream).send(method, url, **arguments)


def ok(body=b"{}", **headers):
    return httpx.Response(200, content=body, headers=headers)


class Pieces(httpx.AsyncByteStream):
    def __init__(self, *pieces, pause=0.0, endless=False):
        self.pieces, self.pause, self.endless = list(pieces), pause, endless
        self.sent = 0
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.pieces:
            raise StopAsyncIteration
        await trio.sleep(self.pause)
        piece, *rest = self.pieces
        self.pieces = [*rest, piece] if self.endless else rest
        self.sent += len(piece)
        return piece

    async def aclose(self):
        self.closed = True


# --- what is sent --------------------------------------------------------------------------


async def test_request_carries_only_what_was_asked_for(autojump_clock):
    upstream = Upstream(ok(b"hello"))
    reply = await send(upstream, "POST", content=b"body", headers={"Content-Type": "text/plain"})
    request = upstream.requests[0]
    assert dict(request.headers) == {
        "host": "fulcio.example",
        "user-agent": "keylessd/1.0",
        "accept-encoding": "identity",
        "content-type": "text/plain",
        "content-length": "4",
        "authorization": "Basic dXNlcjpzZWNyZXQ=",  # of the URL's own user
    }
    assert request.content == b"body"
    assert (reply.status, reply.body, reply.url) == (200, b"hello", SHOWN)


async def test_environment_is_not_read(autojump_clock, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine fulcio.example login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    upstream = Upstream(ok())
    await send(upstream, url=SHOWN)
    assert "authorization" not in upstream.requests[0].headers
    client = new_client()
    assert not client.trust_env
    assert not client._mounts


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_answers(autojump_clock, status):
    upstream = Upstream(httpx.Response(status, headers={"Location": "https://evil.example/"}))
    reply = await send(upstream)
    assert reply.status == status
    assert len(upstream.requests) == 1


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip", "x\x01y"])
async def test_encoded_body_is_refused(autojump_clock, encoding):
    body = Pieces(b"x")
    answer = httpx.Response(200, headers={"Content-Encoding": encoding}, stream=body)
    with pytest.raises(ServiceReplyError) as caught:
        await send(Upstream(answer))
    assert caught.value.message.isprintable()
    assert body.sent == 0
    assert body.closed


async def test_identity_encoding_is_fine(autojump_clock):
    assert (await send(Upstream(ok(b"x", **{"Content-Encoding": "Identity"})))).body == b"x"


async def test_body_of_exactly_the_cap_passes(autojump_clock):
    answer = httpx.Response(200, stream=Pieces(b"x" * 60, b"y" * 40))
    assert len((await send(Upstream(answer), max_body=100)).body) == 100


async def test_endless_body_is_cut_at_the_cap(autojump_clock):
    body = Pieces(b"x" * 64, endless=True)
    with pytest.raises(ServiceReplyError, match="more than 1000 bytes") as caught:
        await send(Upstream(httpx.Response(200, stream=body)), max_body=1000)
    assert body.sent <= 1064
    assert body.closed
    assert caught.value.details["url"] == SHOWN


async def test_dripping_body_meets_the_deadline(autojump_clock):
    body = Pieces(b"x", pause=9, endless=True)
    with pytest.raises(ServiceUnavailableError, match="within 10 seconds"):
        await send(Upstream(httpx.Response(200, stream=body)))
    assert trio.current_time() == 10
    assert body.closed


async def test_silence_meets_the_deadline(autojump_clock):
    async def silence(request):
        await trio.sleep_forever()

    with pytest.raises(ServiceUnavailableError, match="within 10 seconds") as caught:
        await send(Upstream(silence), attempts=3)
    assert trio.current_time() == 10
    assert "secret" not in str(caught.value.details) + caught.value.message
    assert "abc" not in str(caught.value.details) + caught.value.message


async def test_caller_that_gives_up_is_not_answered_with_an_error(autojump_clock):
    async def silence(request):
        await trio.sleep_forever()

    with trio.move_on_after(3) as scope:
        await send(Upstream(silence))
    assert scope.cancelled_caught
    assert trio.current_time() == 3


@pytest.mark.parametrize(
    "url",
    [
        "http://fulcio.example/",
        "ftp://fulcio.example/",
        "fulcio.example",
        "https://",
        "/path",
        "",
        "file:///etc/passwd",
        "https://a\x00b/",
        "http://127.0.0.1.evil.example/",
        "http://localhost.evil.example/",
        "http://a.localhost/",
        "https://[::1",
        "https://host:99999/",
    ],
)
async def test_urls_that_are_not_asked(autojump_clock, url):
    upstream = Upstream(ok())
    with pytest.raises(InvalidInputError):
        await send(upstream, url=url)
    assert not upstream.requests


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8080/", "http://[::1]:1/", "http://localhost/"],
)
async def test_loopback_may_be_asked_in_clear(autojump_clock, url):
    assert (await send(Upstream(ok()), url=url)).status == 200


async def test_clear_text_hosts_are_named_one_by_one(autojump_clock):
    client = client_of(Upstream(ok()), cleartext_hosts=frozenset({"fulcio.lan"}))
    client.check("http://fulcio.lan/x")
    with pytest.raises(InvalidInputError, match="clear text"):
        client.check("http://rekor.lan/x")


async def test_clear_text_hosts_can_be_changed(autojump_clock):
    client = client_of(Upstream(ok()), cleartext_hosts=frozenset({"fulcio.lan"}))
    client.check("http://fulcio.lan/x")
    client.allow_cleartext(frozenset({"rekor.lan"}))
    client.check("http://rekor.lan/x")
    with pytest.raises(InvalidInputError, match="clear text"):
        client.check("http://fulcio.lan/x")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("169.254.169.254", True),
        ("fe80::1", True),
        ("fe80::1%eth0", True),
        ("::ffff:169.254.169.254", True),
        ("169.253.1.1", False),
        ("127.0.0.1", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("link-local.example", False),
        ("", False),
    ],
)
def test_link_local_addresses(host, expected):
    assert is_link_local(host) is expected


@pytest.mark.parametrize(
    "url", ["https://169.254.169.254/", "https://[fe80::1]/", "https://[::ffff:169.254.0.1]/x"]
)
def test_link_local_addresses_are_not_asked_unless_they_are_named(url):
    with pytest.raises(InvalidInputError, match="on the link"):
        check_url(url)
    host = httpx.URL(url).host
    assert check_url(url, cleartext_hosts=frozenset({host})).url.host == host


async def test_known_urls_are_bounded(autojump_clock):
    client = client_of(Upstream(ok()))
    for number in range(3000):
        client.check(f"https://host{number}.example/")
    assert len(client._targets) <= 1024


# --- attempts ------------------------------------------------------------------------------


async def test_unopened_connection_is_tried_again_for_a_post(autojump_clock):
    upstream = Upstream(httpx.ConnectError("refused"), httpx.ConnectTimeout("slow"), ok())
    assert (await send(upstream, "POST", attempts=3)).status == 200
    assert upstream.times == [0, pytest.approx(0.2), pytest.approx(0.6)]


async def test_broken_post_is_not_repeated(autojump_clock):
    upstream = Upstream(httpx.ReadError("reset"), ok())
    with pytest.raises(ServiceUnavailableError, match="cannot be reached: reset"):
        await send(upstream, "POST", attempts=3)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(("method", "idempotent"), [("GET", None), ("POST", True)])
async def test_broken_repeatable_request_is_repeated(autojump_clock, method, idempotent):
    upstream = Upstream(httpx.ReadError("reset"), httpx.RemoteProtocolError("cut"), ok())
    reply = await send(upstream, method, attempts=3, idempotent=idempotent)
    assert reply.status == 200


async def test_one_attempt_is_the_default(autojump_clock):
    upstream = Upstream(httpx.ConnectError("refused"), ok())
    with pytest.raises(ServiceUnavailableError, match="refused"):
        await send(upstream)


async def test_retry_statuses_are_tried_again_and_the_last_is_returned(autojump_clock):
    upstream = Upstream(httpx.Response(503))
    reply = await send(upstream, "POST", attempts=3, retry_statuses=frozenset({503}))
    assert reply.status == 503
    assert len(upstream.requests) == 3


async def test_other_statuses_are_not(autojump_clock):
    upstream = Upstream(httpx.Response(500), ok())
    reply = await send(upstream, attempts=3, retry_statuses=frozenset({503}))
    assert reply.status == 500


async def test_retry_after_is_waited_for(autojump_clock):
    upstream = Upstream(httpx.Response(429, headers={"Retry-After": "4"}), ok())
    await send(upstream, attempts=2, retry_statuses=frozenset({429}))
    assert upstream.times == [0, 4]


async def test_retry_after_beyond_the_deadline_is_not_waited_for(autojump_clock):
    upstream = Upstream(httpx.Response(429, headers={"Retry-After": "11"}), ok())
    reply = await send(upstream, attempts=2, retry_statuses=frozenset({429}))
    assert reply.status == 429
    assert trio.current_time() == 0


# --- answers -------------------------------------------------------------------------------


def reply_of(status=429, body=b"", **headers):
    return HttpReply(status, httpx.Headers(headers), body, SHOWN)


DATE = "Mon, 01 Jan 2029 00:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("3", None, 3.0),
        ("0", None, 0.0),
        (" 7 ", None, 7.0),
        ("999999999999", None, MAX_RETRY_AFTER),
        ("-1", None, None),
        ("1.5", None, None),
        ("", None, None),
        ("Mon, 01 Jan 2029 00:00:20 GMT", DATE, 20.0),
        ("Mon, 01 Jan 2029 10:00:20 GMT", DATE, MAX_RETRY_AFTER),
        ("Sun, 31 Dec 2028 00:00:00 GMT", DATE, 0.0),
        ("Mon, 01 Jan 2029 00:00:20 GMT", None, None),
        ("soon", DATE, None),
    ],
)
def test_retry_after(value, date, seconds):
    headers = {"retry-after": value} | ({} if date is None else {"date": date})
    assert retry_after(reply_of(**headers)) == seconds


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["", DATE, "9"]))
def test_retry_after_never_raises(value, date):
    headers = httpx.Headers({"retry-after": value.encode(), "date": date.encode()})
    seconds = retry_after(HttpReply(429, headers, b"", SHOWN))
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (429, RateLimitedError, "rate_limited"),
        (408, ServiceUnavailableError, "service_unavailable"),
        (425, ServiceUnavailableError, "service_unavailable"),
        (500, ServiceUnavailableError, "service_unavailable"),
        (503, ServiceUnavailableError, "service_unavailable"),
        (501, ServiceRefusedError, "service_refused"),
        (400, ServiceRefusedError, "service_refused"),
        (405, ServiceRefusedError, "service_refused"),
        (302, ServiceReplyError, "service_invalid_reply"),
        (204, ServiceReplyError, "service_invalid_reply"),
    ],
)
def test_what_a_status_means(status, kind, code):
    error = refusal(reply_of(status, b'{"message": "why not"}'), service="rekor")
    assert type(error) is kind
    assert error.code == code
    assert error.message == f"rekor at {SHOWN} answered {status}: why not"
    assert error.details == {"service": "rekor", "url": SHOWN, "status": status}


@pytest.mark.parametrize("status", [429, 503])
def test_refusal_says_when_to_come_again(status):
    error = refusal(reply_of(status, **{"retry-after": "9"}), service="rekor")
    assert error.retry_after_seconds == 9


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"code": 3, "message": "bad token"}', "bad token"),
        (b'{"error": "invalid_grant", "error_description": "expired"}', "expired"),
        (b'{"error": "invalid_grant"}', "invalid_grant"),
        (b'{"message": 7}', '{"message": 7}'),
        (b"plain words\n", "plain words"),
        (b"<html><body>no</body></html>", ""),
        (b"", ""),
        (b"\xff\xfe", "��"),
        (b"{" * 5000, "{" * 197 + "..."),
        (b"line\r\nother\x1b[31m", "line\\r\\nother\\x1b[31m"),
        ("turned \u202e round".encode(), "turned \\u202e round"),
        (b"x" * 500, "x" * 197 + "..."),
        (b"token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln is bad", "token (token) is bad"),
    ],
)
def test_what_a_service_says(body, text):
    assert upstream_message(body) == text


@given(st.binary(max_size=600))
def test_what_a_service_says_is_one_safe_line(body):
    text = upstream_message(body)
    assert text.isprintable()
    assert len(text) <= 200


@given(st.text())
def test_printable_is_printable(text):
    assert printable(text).isprintable()
    assert len(printable(text)) <= 200


@given(st.text())
def test_urls_never_surprise(url):
    assert shown_url(url).isprintable()
    try:
        target = check_url(url)
    except InvalidInputError:
        return
    assert target.url.scheme == "https" or is_loopback(target.url.host)


def test_shown_url_has_no_secret():
    assert shown_url(URL) == SHOWN
    assert shown_url("https://a\x00") == "(a URL that cannot be parsed)"

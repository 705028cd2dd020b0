"""The legal order of messages, from both ends and on every codec."""

import pytest

from keyless.errors import CODES
from keyless.wire import (
    CLIENT,
    NEED_DATA,
    SERVER,
    BadRequest,
    Cancel,
    Connection,
    ConnectionClosed,
    Event,
    Failure,
    Hello,
    LocalProtocolError,
    RemoteProtocolError,
    Reply,
    Request,
    Welcome,
    WireError,
    _codec,
)
from keyless.wire._framing import frame
from keyless.wire._limits import (
    MAX_ATTACHMENT_BYTES,
    MAX_ATTACHMENTS,
    MAX_HEAD,
    MAX_ID,
    MAX_OPEN_BYTES,
    PIPELINE_BEFORE_WELCOME,
)
from wirepair import ConnectionPair, events_of, feed

DIGEST = {"alg": "sha256", "value": bytes(32)}
SIGNED = {
    "identity": "a@example.com",
    "identity_kind": "email",
    "issuer": "https://issuer.example",
    "entries": [{"log": "log", "log_index": 7, "kind": "hashedrekord", "version": "0.0.2"}],
    "times": [{"time": 1_800_000_000, "source": "tsa", "authority": "tsa"}],
    "certificate": {"serial": "01", "not_before": 1, "not_after": 2, "reused": False},
    "instance": "public",
}


def sign(number, **attachments):
    return Request(number, "sign", {"digest": DIGEST}, attachments)


def raw(head, *attachments):
    return frame(_codec.pack(head), list(attachments))


HELLO = raw({"t": "hello", "v": [1], "agent": "x"})
WELCOME = raw({"t": "welcome", "v": 1, "agent": "x", "limits": {}})


@pytest.mark.parametrize("step", [None, 1, 7])
def test_a_conversation(codec, step):
    pair = ConnectionPair(codec=codec, step=step)
    request = sign(1, identity_token=b"token")
    status = Request(2, "reload", {})
    assert pair.from_client(Hello(agent="me"), request, status) == [
        Hello(agent="me"),
        request,
        status,
    ]
    progress = Event(1, "progress", {"step": "log", "index": 3})
    reply = Reply(1, SIGNED, {"bundle": b"{}" * 400})
    failure = Failure(
        2,
        WireError(
            "busy",
            "later",
            retryable=True,
            retry_after_ms=20,
            hint="wait",
            details={"n": 1, "s": "x"},
        ),
    )
    welcome = Welcome(agent="it", limits=pair.server.limits)
    sent = [welcome, failure, progress, reply]  # out of order, as they come
    assert pair.from_server(*sent) == sent
    assert pair.client.in_flight == pair.server.in_flight == ()


@pytest.mark.parametrize("cut", range(0, 200, 3))
def test_a_truncated_stream_gives_no_message_and_an_unclean_end(codec, cut):
    client, server = Connection(CLIENT, codec=codec), Connection(SERVER, codec=codec)
    hello = client.send(Hello())
    feed(server, hello)
    data = client.send(sign(1, identity_token=b"t" * 100))
    server.receive_data(data[:cut])
    server.receive_data(b"")
    assert cut < len(data)
    assert events_of(server) == [ConnectionClosed(clean=cut == 0)]
    assert server.next_event() == ConnectionClosed()


def test_the_end_between_frames_is_clean():
    server = Connection(SERVER)
    server.receive_data(HELLO)
    server.receive_data(b"")
    assert events_of(server)[1] == ConnectionClosed(clean=True)


# --- what a hostile client may try ----------------------------------------------------------

REQUEST = {"t": "request", "id": 1, "op": "status", "body": {}}
HOSTILE_CLIENTS = {
    "request before hello": (raw(REQUEST), "bad_frame"),
    "cancel before hello": (raw({"t": "cancel", "id": 1}), "bad_frame"),
    "hello twice": (HELLO * 2, "bad_frame"),
    "server words": (HELLO + raw({"t": "reply", "id": 1, "body": {}}), "bad_frame"),
    "welcome": (WELCOME, "bad_frame"),
    "error": (
        HELLO + raw({"t": "error", "error": {"code": "x", "message": "", "retryable": False}}),
        "bad_frame",
    ),
    "event": (HELLO + raw({"t": "event", "id": 1, "name": "progress", "body": {}}), "bad_frame"),
    "no type": (raw({"id": 1}), "bad_frame"),
    "type unknown": (raw({"t": "helo"}), "bad_frame"),
    "type is a list": (raw({"t": ["hello"]}), "bad_frame"),
    "head is a list": (raw(["hello"]), "bad_frame"),
    "head is nil": (raw(None), "bad_frame"),
    "head is empty": (frame(b"", []), "bad_frame"),
    "head too long": ((MAX_HEAD + 1).to_bytes(4, "big"), "too_large"),
    "length of 4 G": (b"\xff\xff\xff\xff", "too_large"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "too_large"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01", "too_large"),
    "no versions": (raw({"t": "hello", "v": [], "agent": "x"}), "bad_frame"),
    "version is text": (raw({"t": "hello", "v": ["1"], "agent": "x"}), "bad_frame"),
    "version is true": (raw({"t": "hello", "v": [True], "agent": "x"}), "bad_frame"),
    "versions of the future": (
        raw({"t": "hello", "v": [2, 3], "agent": "x"}),
        "unsupported_version",
    ),
    "agent is a number": (raw({"t": "hello", "v": [1], "agent": 1}), "bad_frame"),
    "hello without agent": (raw({"t": "hello", "v": [1]}), "bad_frame"),
    "id zero": (HELLO + raw({**REQUEST, "id": 0}), "bad_frame"),
    "id negative": (HELLO + raw({**REQUEST, "id": -1}), "bad_frame"),
    "id too large": (HELLO + raw({**REQUEST, "id": MAX_ID + 1}), "bad_frame"),
    "id nil": (HELLO + raw({**REQUEST, "id": None}), "bad_frame"),
    "id true": (HELLO + raw({**REQUEST, "id": True}), "bad_frame"),
    "id missing": (HELLO + raw({"t": "request", "op": "status", "body": {}}), "bad_frame"),
    "id in use": (HELLO + raw(REQUEST) * 2, "bad_frame"),
    "op missing": (HELLO + raw({"t": "request", "id": 1, "body": {}}), "bad_frame"),
    "op is a number": (HELLO + raw({**REQUEST, "op": 1}), "bad_frame"),
    "body missing": (HELLO + raw({"t": "request", "id": 1, "op": "status"}), "bad_frame"),
    "body is a list": (HELLO + raw({**REQUEST, "body": []}), "bad_frame"),
    "field unknown": (HELLO + raw({**REQUEST, "priority": 9}), "bad_frame"),
    "cancel with a body": (HELLO + raw({"t": "cancel", "id": 1, "body": {}}), "bad_frame"),
    "att is a map": (HELLO + raw({**REQUEST, "att": {}}), "bad_frame"),
    "att of triples": (HELLO + raw({**REQUEST, "att": [["a", 1, 2]]}), "bad_frame"),
    "att name empty": (HELLO + raw({**REQUEST, "att": [["", 1]]}), "bad_frame"),
    "att name twice": (HELLO + raw({**REQUEST, "att": [["a", 1], ["a", 1]]}), "bad_frame"),
    "att length negative": (HELLO + raw({**REQUEST, "att": [["a", -1]]}), "bad_frame"),
    "att length true": (HELLO + raw({**REQUEST, "att": [["a", True]]}), "bad_frame"),
    "att too many": (
        HELLO + raw({**REQUEST, "att": [[str(i), 0] for i in range(MAX_ATTACHMENTS + 1)]}),
        "too_large",
    ),
    "att too long": (
        HELLO + raw({**REQUEST, "att": [["a", MAX_ATTACHMENT_BYTES + 1]]}),
        "too_large",
    ),
    "att too long in sum": (
        HELLO + raw({**REQUEST, "att": [["a", MAX_ATTACHMENT_BYTES], ["b", 1]]}),
        "too_large",
    ),
    "att of exabytes": (HELLO + raw({**REQUEST, "att": [["a", 2**62]]}), "too_large"),
}


@pytest.mark.parametrize("name", HOSTILE_CLIENTS)
@pytest.mark.parametrize("step", [None, 1])
def test_hostile_client(codec, name, step):
    data, code = HOSTILE_CLIENTS[name]
    server = Connection(SERVER, codec=codec)
    with pytest.raises(RemoteProtocolError) as caught:
        feed(server, data, step=step)
    assert caught.value.code == code
    assert code in CODES
    assert server.buffered == 0
    # It stays broken, takes no more, and can still say why.
    server.receive_data(HELLO * 1000)
    assert server.buffered == 0
    with pytest.raises(RemoteProtocolError) as again:
        server.next_event()
    assert (again.value.code, again.value.message) == (code, caught.value.message)
    assert server.send(Failure(None, WireError(code, caught.value.message)))


HOSTILE_SERVERS = {
    "reply before welcome": raw({"t": "reply", "id": 1, "body": {}}),
    "reply for nothing": WELCOME + raw({"t": "reply", "id": 2, "body": {}}),
    "reply twice": WELCOME + raw({"t": "reply", "id": 1, "body": {}}) * 2,
    "event for nothing": WELCOME + raw({"t": "event", "id": 2, "name": "progress", "body": {}}),
    "event after the reply": WELCOME
    + raw({"t": "reply", "id": 1, "body": {}})
    + raw({"t": "event", "id": 1, "name": "progress", "body": {}}),
    "error for nothing": WELCOME
    + raw({"t": "error", "id": 2, "error": {"code": "busy", "message": "", "retryable": True}}),
    "welcome twice": WELCOME * 2,
    "client words": WELCOME + raw(REQUEST),
    "hello": HELLO,
    "reply with an attachment nobody expects": WELCOME
    + raw({"t": "reply", "id": 1, "body": {}, "att": [["x", 0]]}),
    "error without a code": WELCOME
    + raw({"t": "error", "error": {"message": "", "retryable": True}}),
    "error with a list in it": WELCOME
    + raw(
        {
            "t": "error",
            "error": {"code": "a", "message": "", "retryable": True, "details": {"a": []}},
        }
    ),
    "error that asks to wait backwards": WELCOME
    + raw(
        {
            "t": "error",
            "error": {"code": "a", "message": "", "retryable": True, "retry_after_ms": -1},
        }
    ),
    "limit below zero": raw({"t": "welcome", "v": 1, "agent": "x", "limits": {"head": -1}}),
    "limit is text": raw({"t": "welcome", "v": 1, "agent": "x", "limits": {"head": "1"}}),
    "version 2": raw({"t": "welcome", "v": 2, "agent": "x", "limits": {}}),
    "version true": raw({"t": "welcome", "v": True, "agent": "x", "limits": {}}),
}


@pytest.mark.parametrize("name", HOSTILE_SERVERS)
@pytest.mark.parametrize("step", [None, 1])
def test_hostile_server(codec, name, step):
    client = Connection(CLIENT, codec=codec)
    client.send(Hello())
    client.send(Request(1, "reload", {}))
    with pytest.raises(RemoteProtocolError) as caught:
        feed(client, HOSTILE_SERVERS[name], step=step)
    assert caught.value.code == (
        "unsupported_version" if name.startswith("version") else "bad_frame"
    )


# --- requests that are refused, one by one ---------------------------------------------------


@pytest.mark.parametrize("step", [None, 1])
def test_a_bad_request_leaves_the_connection_usable(codec, step):
    server = Connection(SERVER, codec=codec)
    bad = raw({**REQUEST, "op": "sign", "att": [["bundle", 3000]]}, b"x" * 3000)
    good = raw({**REQUEST, "id": 2})
    events = feed(server, HELLO + bad + good, step=step)
    assert isinstance(events[1], BadRequest)
    assert (events[1].id, events[1].op, events[1].error.code) == (1, "sign", "bad_request")
    assert events[2] == Request(2, "status", {})
    server.send(Welcome())
    with pytest.raises(LocalProtocolError):
        server.send(Reply(1, {}))
    server.send(Failure(1, events[1].error))
    assert server.in_flight == (2,)


def test_an_unknown_operation_is_refused_by_name():
    server = Connection(SERVER)
    events = feed(server, HELLO + raw({**REQUEST, "op": "log\x1b[2Jout"}))
    assert events[1].error.code == "unknown_operation"
    assert events[1].op == "log\\u001b[2Jout"


def test_refused_attachments_are_not_held():
    server = Connection(SERVER)
    feed(server, HELLO + raw({**REQUEST, "op": "no", "att": [["a", 1_000_000]]}))
    for _ in range(10):
        assert feed(server, bytes(99_999)) == []
        assert server.buffered == 0
        assert server.partial
    assert isinstance(feed(server, bytes(10))[0], BadRequest)
    assert not server.partial


def test_more_requests_than_allowed_are_busy_and_far_more_end_it():
    server = Connection(SERVER, max_in_flight=2)
    events = feed(server, HELLO + b"".join(raw({**REQUEST, "id": i}) for i in range(1, 5)))
    kinds = [type(event) for event in events]
    assert kinds == [Hello, Request, Request, BadRequest, BadRequest]
    assert (events[3].error.code, events[3].error.retryable) == ("busy", True)
    with pytest.raises(RemoteProtocolError) as caught:
        feed(server, raw({**REQUEST, "id": 5}))
    assert caught.value.code == "busy"


def test_unanswered_attachments_are_bounded():
    server = Connection(SERVER)
    size = MAX_ATTACHMENT_BYTES
    head = {**REQUEST, "op": "attest", "att": [["statement", size]]}
    data = bytes(size)
    events = feed(server, HELLO)
    for number in range(1, MAX_OPEN_BYTES // size + 1):
        events += feed(server, raw({**head, "id": number}, data))
    events += feed(server, raw({**head, "id": 9, "att": [["statement", 1]]}, b"x"))
    assert [type(event) for event in events] == [Hello, Request, Request, BadRequest]
    assert events[-1].error.code == "busy"
    server.send(Welcome())
    server.send(Failure(1, WireError("internal", "x")))
    assert isinstance(
        feed(server, raw({**head, "id": 10, "att": [["statement", 1]]}, b"x"))[0], Request
    )


# --- cancel, goodbye -------------------------------------------------------------------------


def test_cancel_and_its_answer(codec):
    pair = ConnectionPair(codec=codec).greet()
    pair.from_client(sign(4))
    assert pair.from_client(Cancel(4)) == [Cancel(4)]
    answer = Failure(4, WireError("cancelled", "cancelled"))
    assert pair.from_server(answer) == [answer]


def test_a_cancel_that_crosses_the_answer_is_passed_over():
    pair = ConnectionPair().greet()
    pair.from_client(sign(4))
    late = pair.client.send(Cancel(4))
    pair.from_server(Failure(4, WireError("internal", "x")))
    assert feed(pair.server, late) == []


def test_goodbye_closes_for_good():
    pair = ConnectionPair().greet()
    pair.from_client(sign(1))
    goodbye = Failure(None, WireError("shutting_down", "the daemon is stopping", retryable=True))
    assert pair.from_server(goodbye) == [goodbye, ConnectionClosed()]
    with pytest.raises(LocalProtocolError):
        pair.server.send(Failure(None, WireError("internal", "x")))


def test_goodbye_may_come_instead_of_welcome():
    pair = ConnectionPair()
    goodbye = Failure(None, WireError("busy", "too many connections", retryable=True))
    assert pair.from_server(goodbye)[0] == goodbye


# --- what our own side may not do ------------------------------------------------------------


def _fresh_client():
    return Connection(CLIENT)


def _greeted_client():
    return ConnectionPair().greet().client


def _server_with_sign():
    pair = ConnectionPair().greet()
    pair.from_client(sign(1))
    return pair.server


LOCAL = {
    "request before hello": (_fresh_client, sign(1)),
    "server word": (_greeted_client, Reply(1, {})),
    "hello twice": (_greeted_client, Hello()),
    "id zero": (_greeted_client, sign(0)),
    "id true": (_greeted_client, Request(True, "status", {})),
    "operation unknown": (_greeted_client, Request(1, "export_key", {})),
    "body wrong": (_greeted_client, Request(1, "sign", {})),
    "attachment unknown": (_greeted_client, sign(1, bundle=b"")),
    "attachments too large": (
        _greeted_client,
        sign(1, identity_token=bytes(MAX_ATTACHMENT_BYTES + 1)),
    ),
    "cancel of nothing": (_greeted_client, Cancel(1)),
    "welcome before hello": (lambda: Connection(SERVER), Welcome()),
    "reply to nothing": (_server_with_sign, Reply(2, SIGNED, {"bundle": b""})),
    "reply without its attachment": (_server_with_sign, Reply(1, SIGNED)),
    "reply without a field": (_server_with_sign, Reply(1, {}, {"bundle": b""})),
    "reply with a float": (_server_with_sign, Reply(1, {**SIGNED, "x": 1.5}, {"bundle": b""})),
    "reply with a surrogate": (
        _server_with_sign,
        Reply(1, {**SIGNED, "issuer": "\ud800"}, {"bundle": b""}),
    ),
    "reply with a head too long": (
        _server_with_sign,
        Reply(1, {**SIGNED, **{f"x{i}": "y" * 8000 for i in range(9)}}, {"bundle": b""}),
    ),
    "event for nothing": (_server_with_sign, Event(2, "progress", {"step": "x"})),
    "event without a step": (_server_with_sign, Event(1, "progress", {})),
    "error without a code": (_server_with_sign, Failure(1, WireError("", "x"))),
    "error with a float": (_server_with_sign, Failure(1, WireError("x", "x", details={"a": 1.5}))),
}


@pytest.mark.parametrize("name", LOCAL)
def test_local_mistake_sends_nothing_and_changes_nothing(name):
    make, message = LOCAL[name]
    connection = make()
    before = connection.in_flight
    with pytest.raises(LocalProtocolError):
        connection.send(message)
    assert connection.in_flight == before


def test_an_id_in_use_is_refused_locally():
    client = _greeted_client()
    client.send(sign(1))
    with pytest.raises(LocalProtocolError):
        client.send(sign(1))


def test_room_follows_the_welcome():
    pair = ConnectionPair(max_in_flight=20)
    assert pair.client.room == PIPELINE_BEFORE_WELCOME
    pair.greet()
    assert pair.client.room == 20
    pair.client.send(sign(1, identity_token=b"12345"))
    assert pair.client.room == 19
    assert pair.client.open_bytes_room == MAX_ATTACHMENT_BYTES


# --- what is shown ---------------------------------------------------------------------------


def test_repr_shows_no_secret():
    request = sign(1, identity_token=b"eyJsecret")
    assert "eyJsecret" not in repr(request)
    assert "9 bytes" in repr(request)
    assert "bundlebytes" not in repr(Reply(1, SIGNED, {"bundle": b"bundlebytes"}))


def test_errors_hold_nothing_of_the_payload(codec):
    server = Connection(SERVER, codec=codec)
    token = "eyJsecret"
    server.receive_data(HELLO + raw({**REQUEST, token: 1, "body": {token: token}}))
    server.next_event()
    with pytest.raises(RemoteProtocolError) as caught:
        server.next_event()
    assert token not in str(caught.value)
    assert caught.value.__context__ is None
    bad = feed(Connection(SERVER, codec=codec), HELLO + raw({**REQUEST, "body": {token: token}}))[1]
    assert token not in bad.error.message


def test_error_texts_are_made_fit_to_be_shown():
    error = WireError("x", "a\x1b[31m\nb\u202e" + "c" * 9999, hint="\x07", details={"k\n": "\x00"})
    assert error.message.startswith("a\\u001b[31m\\u000ab\\u202ec")
    assert len(error.message) <= 2048
    assert error.hint == "\\u0007"
    assert error.details == {"k\\u000a": "\\u0000"}


def test_need_data_is_not_a_message():
    assert Connection(CLIENT).next_event() is NEED_DATA
    assert repr(NEED_DATA)

"""Speaks the protocol from its text alone, and holds the text to the code.

The first part is a client as a stranger would write it: a socket, a page of code, nothing of
keyless. The second compares what the text lists with what the code has.
"""

import re
import socket
import threading
from pathlib import Path

import pytest

from fakedaemon import answer, fake_daemon, with_events
from keyless import errors
from keyless.wire import (
    CLIENT,
    OPERATIONS,
    SERVER,
    BadRequest,
    Cancel,
    Connection,
    Failure,
    Hello,
    Request,
    Welcome,
    WireError,
    _limits,
)
from wirepair import feed

TEXT = (Path(__file__).parents[2] / "clientlib" / "doc" / "protocol.md").read_text("utf-8")


# --- a client from the text alone: sections 2, 4 and 5 ---------------------------------------


def pack(value):
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return b"\xd3" + value.to_bytes(8, "big", signed=True)
    if isinstance(value, str):
        return b"\xdb" + len(value.encode()).to_bytes(4, "big") + value.encode()
    if isinstance(value, bytes):
        return b"\xc6" + len(value).to_bytes(4, "big") + value
    if isinstance(value, list):
        return b"\xdd" + len(value).to_bytes(4, "big") + b"".join(map(pack, value))
    inner = b"".join(pack(key) + pack(item) for key, item in value.items())
    return b"\xdf" + len(value).to_bytes(4, "big") + inner


def unpack(data):  # noqa: PLR0911  # one for each kind
    tag = data.pop(0)

    def take(size):
        taken = bytes(data[:size])
        del data[:size]
        return taken

    def number(size, signed=False):
        return int.from_bytes(take(size), "big", signed=signed)

    if tag < 0x80 or tag >= 0xE0:
        return tag if tag < 0x80 else tag - 256
    if tag in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[tag]
    if 0xCC <= tag <= 0xD3:
        return number(1 << (tag & 3), signed=tag >= 0xD0)
    if 0xA0 <= tag < 0xC0 or 0xD9 <= tag <= 0xDB:
        return take(tag & 31 if tag < 0xC0 else number(1 << (tag - 0xD9))).decode()
    if 0xC4 <= tag <= 0xC6:
        return take(number(1 << (tag - 0xC4)))
    if 0x90 <= tag < 0xA0 or tag in (0xDC, 0xDD):
        return [unpack(data) for _ in range(tag & 15 if tag < 0xA0 else number(2 << (tag - 0xDC)))]
    assert 0x80 <= tag < 0x90 or tag in (0xDE, 0xDF), hex(tag)
    size = tag & 15 if tag < 0x90 else number(2 << (tag - 0xDE))
    return {unpack(data): unpack(data) for _ in range(size)}


class Stranger:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        self.send({"t": "hello", "v": [1], "agent": "stranger"})

    def send(self, head, **attachments):
        if attachments:
            head = {**head, "att": [[name, len(data)] for name, data in attachments.items()]}
        raw = pack(head)
        self.socket.sendall(len(raw).to_bytes(4, "big") + raw + b"".join(attachments.values()))

    def receive(self):
        size = int.from_bytes(self.file.read(4), "big")
        head = unpack(bytearray(self.file.read(size)))
        return head, {name: self.file.read(length) for name, length in head.get("att", [])}

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def stranger(tmp_path):
    path = str(tmp_path / "s")
    with fake_daemon(path, lambda r: with_events(r) if r.body.get("progress") else answer(r)):
        client = Stranger(path)
        yield client
        client.close()


SHA = {"alg": "sha256", "value": bytes(range(32))}


def test_requests_behind_hello(stranger):
    stranger.send({"t": "request", "id": 9, "op": "reload", "body": {}})
    stranger.send(
        {"t": "request", "id": 7, "op": "sign", "body": {"digest": SHA, "progress": True}},
        identity_token=b"tok",
    )
    welcome, _ = stranger.receive()
    assert (welcome["t"], welcome["v"], welcome["limits"]["head"]) == ("welcome", 1, 65536)
    assert stranger.receive() == ({"t": "reply", "id": 9, "body": {}}, {})
    first, second = stranger.receive()[0], stranger.receive()[0]
    assert (first["t"], first["id"], first["name"]) == ("event", 7, "progress")
    assert (first["body"]["step"], second["body"]["step"]) == ("certificate", "log")
    reply, attachments = stranger.receive()
    assert (reply["t"], reply["id"], reply["body"]["identity"]) == ("reply", 7, "dev@example.com")
    assert SHA["value"].hex().encode() in attachments["bundle"]


def test_errors_of_a_request_and_of_a_connection(stranger):
    stranger.receive()
    stranger.send({"t": "request", "id": 1, "op": "sign", "body": {"digest": SHA, "force": True}})
    stranger.send({"t": "request", "id": 2, "op": "make_coffee", "body": {}}, milk=b"x" * 100_000)
    stranger.send({"t": "request", "id": 3, "op": "status", "body": {}})
    heads = [stranger.receive()[0] for _ in range(3)]
    assert [(h["id"], h["error"]["code"]) for h in heads] == [
        (1, "bad_request"),
        (2, "unknown_operation"),
        (3, "internal"),
    ]
    assert all(type(h["error"]["retryable"]) is bool for h in heads)


def test_a_cancelled_request_is_answered(tmp_path):
    path = str(tmp_path / "s")
    with fake_daemon(path, lambda _: None):
        client = Stranger(path)
        client.receive()
        client.send({"t": "request", "id": 1, "op": "reload", "body": {}})
        client.send({"t": "cancel", "id": 5})
        client.send({"t": "cancel", "id": 1})
        head, _ = client.receive()
        client.close()
    assert (head["id"], head["error"]["code"]) == (1, "cancelled")


def test_a_violation_is_named_before_the_end():
    ours, theirs = socket.socketpair()
    server = Connection(SERVER)

    def serve():
        server.receive_data(theirs.recv(100))
        with pytest.raises(Exception, match=r"request is not expected") as caught:
            server.next_event()
        theirs.sendall(server.send(Failure(None, WireError(caught.value.code, "no"))))
        theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    raw = pack({"t": "request", "id": 1, "op": "status", "body": {}})
    ours.sendall(len(raw).to_bytes(4, "big") + raw)
    with ours, ours.makefile("rb") as file:
        size = int.from_bytes(file.read(4), "big")
        head = unpack(bytearray(file.read(size)))
        assert file.read() == b""
    thread.join()
    assert (head["t"], head["error"]["code"]) == ("error", "bad_frame")
    assert head.get("id") is None


# --- the text and the code -------------------------------------------------------------------

FRAMES = {
    name: bytes.fromhex(body)
    for name, body in re.findall(r"<!-- frame: (\w+) -->\n```\n([0-9a-f \n]+)```", TEXT)
}


def test_the_examples_are_what_the_code_writes_and_reads():
    client, server = Connection(CLIENT), Connection(SERVER)
    hello = Hello(agent="example/1")
    assert client.send(hello) == FRAMES["hello"]
    assert feed(server, FRAMES["hello"]) == [hello]
    welcome = Welcome(agent="keylessd/0.1.0", limits={"head": 65536, "in_flight": 64})
    assert feed(client, FRAMES["welcome"]) == [welcome]
    digest = bytes.fromhex("2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")
    body = {"digest": {"alg": "sha256", "value": digest}}
    sign = Request(1, "sign", body, {"identity_token": b"eyJ..."})
    assert client.send(sign) == FRAMES["sign"]
    assert feed(server, FRAMES["sign"]) == [sign]
    error = WireError("login_required", "there is no identity to sign as", hint="keyless login")
    assert feed(client, FRAMES["error"]) == [Failure(1, error)]
    client.send(Request(2, "reload", {}))
    assert client.send(Cancel(2)) == FRAMES["cancel"]


def test_every_code_is_listed_with_its_meaning():
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", TEXT.split("\n## 8. ")[0], re.MULTILINE))
    ours = {"daemon_unreachable", "daemon_failed", "file_error", "usage"}
    for code, meaning in errors.CODES.items():
        if code in ours:
            assert f"`{code}`" in TEXT
        else:
            assert listed[code].startswith(meaning)


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("bytes of a head", _limits.MAX_HEAD),
        ("attachments of a frame", _limits.MAX_ATTACHMENTS),
        ("bytes of all attachments of a frame", _limits.MAX_ATTACHMENT_BYTES),
        ("unanswered requests of a connection", _limits.MAX_IN_FLIGHT),
        ("bytes of attachments of all unanswered requests", _limits.MAX_OPEN_BYTES),
        ("nested containers in a head", _limits.MAX_DEPTH),
        ("values in a head", _limits.MAX_NODES),
        ("elements of an array", _limits.MAX_ARRAY),
        ("entries of a map", _limits.MAX_MAP),
        ("bytes of a string", _limits.MAX_STR),
        ("bytes of a binary", _limits.MAX_BIN),
        ("integers", f"{_limits.MIN_INT} to {_limits.MAX_INT}"),
    ],
)
def test_every_limit_is_listed(limit, value):
    assert f"\n| {limit} | {value} |" in TEXT


def test_the_names_of_the_limits_in_welcome():
    for name in Connection(SERVER).limits:
        assert f"| `{name}` |" in TEXT


def fields_of(shape, found):
    """Collect the names of all fields of a shape."""
    if isinstance(shape, dict):
        found |= {name.removesuffix("?") for name in shape}
        for inner in shape.values():
            fields_of(inner, found)
    elif isinstance(shape, tuple):
        for inner in shape:
            fields_of(inner, found)
    return found


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_field_and_attachment_is_named(name):
    operation = OPERATIONS[name]
    words = set(re.findall(r"`\"?(\w+)\"?`", TEXT.split("\n## 8. ")[1].split("\n## 9. ")[0]))
    named = fields_of(operation.request, fields_of(operation.reply, {name}))
    assert named | set(operation.takes) | set(operation.gives) <= words


def test_a_daemon_says_which_requests_it_refuses():
    # Section 5: the three refusals that leave the connection as it is.
    server = Connection(SERVER, max_in_flight=1)
    client = Connection(CLIENT)
    data = (
        client.send(Hello())
        + client.send(Request(1, "status", {}))
        + client.send(Request(2, "status", {}))
    )
    assert isinstance(feed(server, data)[-1], BadRequest)

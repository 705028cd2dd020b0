"""The strict subset of msgpack: what is refused, and that three implementations agree."""

import os
import subprocess
import sys

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyless.wire import _codec, _msgpack
from keyless.wire._codec import CodecError
from keyless.wire._limits import MAX_ARRAY, MAX_BIN, MAX_DEPTH, MAX_HEAD, MAX_MAP, MAX_STR
from wirepair import CODECS

SECRET = b"eyJhbGciOi.secret"

REFUSED = {
    "empty": b"",
    "reserved tag": b"\xc1",
    "float 32": b"\xca\x3f\x80\x00\x00",
    "float 64": b"\xcb" + bytes(8),
    "not a number": msgpack.packb(float("nan")),
    "fixext 1": b"\xd4\x05\x00",
    "timestamp 32": b"\xd6\xff" + bytes(4),
    "timestamp 64": b"\xd7\xff" + bytes(8),
    "timestamp 96": b"\xc7\x0c\xff" + bytes(12),
    "ext 8 of nothing": b"\xc7\x00\x05",
    "ext 32": b"\xc9\x00\x00\x00\x01\x05\x00",
    "unsigned above 63 bits": b"\xcf" + b"\xff" * 8,
    "bytes to spare": b"\x01\x01",
    "duplicate key": b"\x82\xa1a\x01\xa1a\x02",
    "binary key": b"\x81\xc4\x01a\x01",
    "integer key": b"\x81\x01\x01",
    "nil key": b"\x81\xc0\x01",
    "array key": b"\x81\x90\x01",
    "map key": b"\x81\x80\x01",
    "binary key that reads like another": b"\x82\xa2op\x01\xc4\x02op\x01",
    "bad UTF-8": b"\xa2\xff\xfe",
    "surrogate in UTF-8": b"\xa3\xed\xa0\x80",
    "overlong UTF-8": b"\xa2\xc0\x80",
    "array of 4 G": b"\xdd\xff\xff\xff\xff",
    "map of 4 G": b"\xdf\xff\xff\xff\xff",
    "string of 4 G": b"\xdb\xff\xff\xff\xff",
    "binary of 4 G": b"\xc6\xff\xff\xff\xff",
    "array too long": msgpack.packb([0] * (MAX_ARRAY + 1)),
    "map too long": msgpack.packb({str(i): 0 for i in range(MAX_MAP + 1)}),
    "string too long": msgpack.packb("x" * (MAX_STR + 1)),
    "string too long in bytes": msgpack.packb("é" * (MAX_STR // 2 + 1)),
    "binary too long": msgpack.packb(b"x" * (MAX_BIN + 1)),
    "too deep": b"\x91" * (MAX_DEPTH + 1) + b"\x01",
    "too deep by an empty map": b"\x91" * MAX_DEPTH + b"\x80",
    "deep beyond any stack": b"\x91" * 60_000,
    "deep maps": b"\x81\xa1a" * 20_000,
    "empty maps only": b"\xdc\x01\x00" + (b"\xdc\x00\xff" + b"\x80" * 255) * 256,
    "integers only": b"\xdc\x01\x00" + (b"\xdc\x00\xff" + b"\x01" * 255) * 256,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(codec, name):
    with pytest.raises(CodecError):
        codec.unpack(REFUSED[name])


ADMITTED = {
    "limits": [
        "x" * MAX_STR,
        b"x" * MAX_BIN,
        2**63 - 1,
        -(2**63),
        None,
        True,
        False,
        {str(i): i for i in range(MAX_MAP)},
    ],
    "long array": list(range(MAX_ARRAY)),
    "deep": [[[[[1]]]]],
    "empty": {"": "", "a": [], "b": {}},
}


@pytest.mark.parametrize("name", ADMITTED)
def test_admitted(codec, name):
    assert codec.unpack(codec.pack(ADMITTED[name])) == ADMITTED[name]


def test_longer_forms_are_read(codec):
    raw = b"\xdf\x00\x00\x00\x01\xdb\x00\x00\x00\x01a\xcf" + bytes(7) + b"\x05"
    assert codec.unpack(raw) == {"a": 5}


def test_every_truncation_is_refused(codec):
    raw = codec.pack(
        {"t": "request", "id": 70_000, "body": {"value": b"\x00" * 32, "n": [-1, -200]}}
    )
    for length in range(len(raw)):
        with pytest.raises(CodecError):
            codec.unpack(raw[:length])


@pytest.mark.parametrize("value", [1.5, 2**63, -(2**63) - 1, "\ud800", {1: 2}, {b"a": 1}, object()])
def test_own_pack_refuses(value):
    with pytest.raises(CodecError):
        _codec.pack(value)


@pytest.mark.parametrize("value", [2**64, "\ud800", object(), {"a": {"b": {1, 2}}}])
def test_msgpack_pack_refuses(value):
    with pytest.raises(CodecError):
        _msgpack.pack(value)


def test_errors_hold_nothing_of_the_payload(codec):
    for tail in (b"\xa2\xff\xfe", b"\xc1", b"\x81\xc4\x01a\x01", b""):
        raw = b"\x92" + msgpack.packb(SECRET.decode()) + tail
        with pytest.raises(CodecError) as caught:
            codec.unpack(raw)
        seen: BaseException | None = caught.value
        while seen is not None:
            assert "secret" not in str(seen) + repr(seen)
            # `raise ... from None` hides the cause from every printer of tracebacks.
            seen = None if seen.__suppress_context__ else (seen.__cause__ or seen.__context__)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=8), inner, max_size=20)
    ),
    max_leaves=30,
)


def _outcome(codec, raw):
    try:
        return "value", codec.unpack(raw)
    except CodecError:
        return "refused", None


def _agreed(raw):
    outcomes = {name: _outcome(codec, raw) for name, codec in CODECS.items()}
    first = outcomes["own"]
    for outcome in outcomes.values():
        assert outcome == first
        assert repr(outcome) == repr(first)  # True is not 1
    return first


@settings(deadline=None)
@given(VALUES)
def test_what_one_packs_all_read_the_same(value):
    packed = {codec.pack(value) for codec in CODECS.values()}
    assert len(packed) == 1
    kind, read = _agreed(packed.pop())
    assert kind == "refused" or repr(read) == repr(value)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_get_one_verdict(raw):
    _agreed(raw)


@settings(deadline=None)
@given(VALUES, st.data())
def test_damaged_values_get_one_verdict(value, data):
    raw = bytearray(_codec.pack(value))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    _agreed(bytes(raw))
    _agreed(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


@pytest.mark.parametrize("name", REFUSED)
def test_all_agree_on_what_is_refused(name):
    assert _agreed(REFUSED[name][:MAX_HEAD])[0] == "refused"


def test_the_daemon_runs_on_the_pure_python_msgpack():
    program = (
        "import msgpack\n"
        "from keyless.wire import *\n"
        "c, s = Connection(CLIENT), Connection(SERVER)\n"
        "s.receive_data(c.send(Hello()) + c.send(Request(1, 'status', {})))\n"
        "print(s.next_event().kind, s.next_event().op, msgpack.unpackb.__module__)\n"
    )
    environ = {**os.environ, "MSGPACK_PUREPYTHON": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["hello", "status", "msgpack.fallback"]

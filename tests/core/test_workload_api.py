"""FetchJWTSVID: the messages, their framing, and everything that is not quite them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylessd.core.workload_api import (
    MAX_MESSAGE,
    MAX_SVIDS,
    JwtSvid,
    WorkloadApiError,
    decode_response,
    encode_request,
    frame,
    unframe,
)

ID = "spiffe://example.org/builder"
TOKEN = "eyJh.eyJz.c2ln"


def field(number: int, value: bytes, kind: int = 2) -> bytes:
    return bytes([number << 3 | kind, len(value)]) + value


def svid(spiffe_id: str = ID, token: str = TOKEN, hint: str = "") -> bytes:
    fields = field(1, spiffe_id.encode()) + field(2, token.encode())
    return fields + (field(3, hint.encode()) if hint else b"")


def response(*svids: bytes) -> bytes:
    return frame(b"".join(field(1, one) for one in svids))


def test_request_is_as_the_specification_has_it() -> None:
    assert encode_request(["sigstore"]) == b"\0\0\0\0\x0a" + b"\x0a\x08sigstore"


def test_request_holds_every_audience_and_the_wanted_identity() -> None:
    assert encode_request(["a", "bc"], spiffe_id=ID) == frame(
        b"\x0a\x01a\x0a\x02bc\x12" + bytes([len(ID)]) + ID.encode()
    )


def test_a_long_audience_takes_a_length_of_two_bytes() -> None:
    assert encode_request(["x" * 300]) == frame(b"\x0a\xac\x02" + b"x" * 300)


@pytest.mark.parametrize("audiences", [[], [""], ["sigstore", ""]])
def test_request_without_audience(audiences: list[str]) -> None:
    with pytest.raises(ValueError, match="audience"):
        encode_request(audiences)


def test_response_keeps_the_agents_order() -> None:
    found = decode_response(response(svid(hint="ci"), svid("spiffe://example.org/b", "t2")))

    assert found == (JwtSvid(ID, TOKEN, "ci"), JwtSvid("spiffe://example.org/b", "t2", ""))


def test_unknown_fields_are_skipped() -> None:
    unknown = b"\x78\x96\x01" + b"\x79" + b"8" * 8 + b"\x7d" + b"4" * 4 + field(15, b"x")

    assert decode_response(frame(unknown + field(1, unknown + svid() + unknown))) == (
        JwtSvid(ID, TOKEN, ""),
    )


def test_the_last_of_a_repeated_field_counts() -> None:
    assert decode_response(response(svid() + field(1, b"spiffe://x/y")))[0].spiffe_id == (
        "spiffe://x/y"
    )


def test_token_is_not_in_the_repr() -> None:
    assert TOKEN not in repr(decode_response(response(svid())))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "begins with 5 bytes"),
        (b"\0\0\0\0", "begins with 5 bytes"),
        (b"\1" + response(svid())[1:], "compressed"),
        (response(svid())[:-1], "is announced"),
        (response(svid()) + b"\0", "is announced"),
        (response(svid()) * 2, "is announced"),
        (b"\0\xff\xff\xff\xff", "the limit is"),
        (b"\0" + (MAX_MESSAGE + 1).to_bytes(4, "big") + bytes(MAX_MESSAGE + 1), "the limit is"),
        (frame(b""), "no SVID"),
        (frame(field(2, svid())), "no SVID"),
        (frame(b"\x08\x01"), "wrong wire type"),
        (frame(b"\x0d\0\0\0\0"), "wrong wire type"),
        (frame(b"\x0b\x0c"), "wire type 3"),
        (frame(b"\x0e"), "wire type 6"),
        (frame(b"\x02\x01x"), "no field 0"),
        (frame(b"\x0a\x05abc"), "3 are left"),
        (frame(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "are left"),
        (frame(b"\x0a"), "ends within a number"),
        (frame(b"\x0a\x80"), "ends within a number"),
        (frame(b"\x0a" + b"\xff" * 11), "longer than 64 bits"),
        (frame(b"\x08" + b"\xff" * 9 + b"\x7f"), "longer than 64 bits"),
        (frame(b"\x79" + b"7" * 7), "7 are left"),
        (frame(b"\x7d" + b"3" * 3), "3 are left"),
        (response(field(1, ID.encode())), "no token"),
        (response(field(2, TOKEN.encode())), "no SPIFFE ID"),
        (response(b""), "no SPIFFE ID"),
        (response(svid(token="")), "no token"),
        (response(b"\x08\x01" + svid()), "field 1 of an SVID has the wrong wire type"),
        (response(field(1, b"\xff\xfe") + field(2, b"t")), "field 1 of an SVID is not UTF-8"),
        (response(svid() + field(3, b"\xc3")), "field 3 of an SVID is not UTF-8"),
        (response(svid()[:-1]), "are left"),
        (response(*[svid()] * (MAX_SVIDS + 1)), "more than"),
    ],
)
def test_damaged_response(body: bytes, words: str) -> None:
    with pytest.raises(WorkloadApiError, match=words) as found:
        decode_response(body)

    assert TOKEN not in str(found.value)


def test_as_many_svids_as_there_may_be() -> None:
    assert len(decode_response(response(*[svid()] * MAX_SVIDS))) == MAX_SVIDS


def test_truncated_at_each_length() -> None:
    whole = response(svid(hint="ci"), svid("spiffe://example.org/b", "t2", "x"))

    for length in range(len(whole)):
        with pytest.raises(WorkloadApiError):
            decode_response(whole[:length])


@given(st.binary(max_size=200), st.booleans())
def test_only_the_declared_error_escapes(noise: bytes, framed: bool) -> None:
    with suppress(WorkloadApiError):
        decode_response(frame(noise) if framed else noise)


@given(st.lists(st.tuples(*[st.text(min_size=1, max_size=30)] * 2), min_size=1, max_size=5))
def test_what_is_written_is_read(pairs: list[tuple[str, str]]) -> None:
    body = response(*(svid(name[:15], token[:15]) for name, token in pairs))

    found = [(one.spiffe_id, one.token) for one in decode_response(body)]
    assert found == [(name[:15], token[:15]) for name, token in pairs]


def test_unframe_gives_the_message() -> None:
    assert unframe(frame(b"message")) == b"message"

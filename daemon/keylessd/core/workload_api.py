"""The bytes of one call of the SPIFFE Workload API: JWT-SVIDs asked for and given. Pure.

Knows the three messages of ``FetchJWTSVID`` (SPIFFE Workload API, section 6), as much of the
protobuf encoding as they need, and gRPC's framing of one message. Fields it does not know are
skipped, as protobuf has it; everything else that is not as it must be is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

PATH = "/SpiffeWorkloadAPI/FetchJWTSVID"
FRAME_HEAD = 5  # bytes: one says whether it is compressed, four how long the message is
MAX_MESSAGE = 256 << 10  # bytes; eight of the longest tokens
MAX_SVIDS = 64  # an agent gives one for each entry that matches the workload
_MAX_VARINT = 10  # bytes of 64 bits, seven in each
_MAX_FIELD = (1 << 29) - 1


class WireType(IntEnum):
    """The protobuf wire types that are in use; groups (3 and 4) are not."""

    VARINT = 0
    FIXED64 = 1
    LENGTH = 2
    FIXED32 = 5


class WorkloadApiError(ValueError):
    """The bytes are not what the Workload API promises. It never quotes them."""


@dataclass(frozen=True, slots=True)
class JwtSvid:
    """One identity document.

    Attributes:
        spiffe_id: Whom it is for, as the agent says.
        token: The JWT. Keep it out of texts; ``repr`` does.
        hint: The operator's word for how it is to be used; empty if there is none.
    """

    spiffe_id: str
    token: str
    hint: str

    def __repr__(self) -> str:
        return f"JwtSvid(spiffe_id={self.spiffe_id!r}, hint={self.hint!r})"


# --- what is asked -------------------------------------------------------------------------


def encode_request(audiences: Sequence[str], *, spiffe_id: str | None = None) -> bytes:
    """Return the framed ``JWTSVIDRequest``.

    Args:
        audiences: At least one.
        spiffe_id: The only identity that is wanted, or None for all.

    Raises:
        ValueError: There is no audience, or an empty one.
    """
    if not audiences or not all(audiences):
        raise ValueError("a JWT-SVID is asked for with at least one audience, and none is empty")
    fields = [_text_field(1, audience) for audience in audiences]
    if spiffe_id is not None:
        fields.append(_text_field(2, spiffe_id))
    return frame(b"".join(fields))


def frame(message: bytes) -> bytes:
    """Return *message* as gRPC sends it, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _text_field(number: int, text: str) -> bytes:
    raw = text.encode()
    return _varint(number << 3 | WireType.LENGTH) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004  # seven bits in a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# --- what is given -------------------------------------------------------------------------


def decode_response(body: bytes) -> tuple[JwtSvid, ...]:
    """Return the SVIDs of a framed ``JWTSVIDResponse``, in the agent's order.

    Args:
        body: The whole body of the answer: one frame and nothing after it.

    Raises:
        WorkloadApiError: It is cut, too long, compressed, or not that message; or it holds no
            SVID, or one without identity or token.
    """
    svids: list[JwtSvid] = []
    for number, value in _fields(unframe(body)):
        if number != 1:
            continue
        if not isinstance(value, bytes):
            raise WorkloadApiError("the list of SVIDs has the wrong wire type")
        if len(svids) == MAX_SVIDS:
            raise WorkloadApiError(f"there are more than {MAX_SVIDS} SVIDs")
        svids.append(_svid(value))
    if not svids:
        raise WorkloadApiError("there is no SVID in the answer")
    return tuple(svids)


def unframe(body: bytes) -> bytes:
    """Return the one message of a gRPC answer.

    Raises:
        WorkloadApiError: It is cut, too long, compressed, or followed by something.
    """
    if len(body) < FRAME_HEAD:
        raise WorkloadApiError(f"a frame begins with {FRAME_HEAD} bytes; there are {len(body)}")
    if body[0] != 0:
        raise WorkloadApiError("the message is compressed, and compression was not offered")
    announced = int.from_bytes(body[1:FRAME_HEAD], "big")
    if announced > MAX_MESSAGE:
        raise WorkloadApiError(f"a message of {announced} bytes; the limit is {MAX_MESSAGE}")
    message = body[FRAME_HEAD:]
    if len(message) != announced:
        raise WorkloadApiError(f"a message of {announced} bytes is announced, {len(message)} came")
    return message


def _svid(message: bytes) -> JwtSvid:
    texts = {1: "", 2: "", 3: ""}
    for number, value in _fields(message):
        if number not in texts:
            continue
        if not isinstance(value, bytes):
            raise WorkloadApiError(f"field {number} of an SVID has the wrong wire type")
        try:
            # Of a field that comes twice, the last one counts.
            texts[number] = value.decode()
        except UnicodeDecodeError:
            raise WorkloadApiError(f"field {number} of an SVID is not UTF-8") from None
    spiffe_id, token, hint = texts.values()
    if not spiffe_id or not token:
        raise WorkloadApiError("an SVID has no " + ("token" if spiffe_id else "SPIFFE ID"))
    return JwtSvid(spiffe_id, token, hint)


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield (number, value) of each field: bytes, or a number where the encoding is one."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if not 1 <= number <= _MAX_FIELD:
            raise WorkloadApiError(f"there is no field {number}")
        match kind:
            case WireType.VARINT:
                value, at = _read_varint(message, at)
                yield number, value
            case WireType.LENGTH:
                length, at = _read_varint(message, at)
                yield number, _slice(message, at, length)
                at += length
            case WireType.FIXED64 | WireType.FIXED32:
                length = 8 if kind == WireType.FIXED64 else 4
                yield number, int.from_bytes(_slice(message, at, length), "little")
                at += length
            case _:
                raise WorkloadApiError(f"field {number} has wire type {kind}")


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at *at*, below 2**64, and where it ends."""
    value = 0
    for index in range(_MAX_VARINT):
        if at + index >= len(message):
            raise WorkloadApiError("the message ends within a number")
        byte = message[at + index]
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            if value >> 64:
                break
            return value, at + index + 1
    raise WorkloadApiError("a number is longer than 64 bits")


def _slice(message: bytes, at: int, length: int) -> bytes:
    if length > len(message) - at:
        raise WorkloadApiError(
            f"a field of {length} bytes is announced, {len(message) - at} are left"
        )
    return message[at : at + length]

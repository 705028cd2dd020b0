"""One request and its whole answer on an open HTTP/1.1 connection. Opens, keeps and closes none.

Nearly every answer comes in one usual form: its whole head at once, with a plain length and nothing
about transfer or connection. That form is read here, strictly. Every other one, whether legal or
not, is left to h11 from its first byte on, which then has the only say.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import h11
import httpx

Receive = Callable[[], Awaitable[bytes]]

MAX_USUAL_HEAD = 16384  # bytes; h11 allows as many
_NO_BODY = frozenset({204, 304})
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_USUAL_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) [\t -~]*\r\n((?:" + _TOKEN + rb":[\t -~]*\r\n)*)\r\n"
)
_USUAL_LENGTH = re.compile(r"[0-9]{1,9}")
# What decides how a message is delimited, or what becomes of its connection (RFC 9112, 6 and 9).
_UNUSUAL = frozenset({"transfer-encoding", "upgrade", "trailer"})
_VALUE = re.compile(rb"[\t -~]*")
_WORD = re.compile(rb"[!-~]+")
_NAME = re.compile(_TOKEN)
# Headers that are mostly those of the request before, and that hold no secret: lines to be kept.
_USUAL = frozenset(
    {b"Host", b"User-Agent", b"Accept-Encoding", b"Content-Type", b"Accept", b"Content-Length"}
)
MAX_LINES = 256


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        method: Upper case.
        target: Path and query as they are sent.
        headers: Names and values, ``Host`` first; without what says how long the body is.
        body: The whole body; empty means that there is none.
    """

    method: bytes
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    def framed(self) -> list[tuple[bytes, bytes]]:
        """Return the headers with the length, which requests that may have a body always say."""
        length = b"%d" % len(self.body)
        has_body = self.body or self.method not in (b"GET", b"HEAD")
        return [*self.headers, (b"Content-Length", length)] if has_body else list(self.headers)

    def encode(self) -> bytes:
        """Return the request as it is sent.

        Raises:
            httpx.LocalProtocolError: A part holds what would end it early.
        """
        if not _NAME.fullmatch(self.method) or not _WORD.fullmatch(self.target):
            raise _unsendable()
        lines = [b"%b %b HTTP/1.1\r\n" % (self.method, self.target)]
        lines += [
            _usual_line(name, value) if name in _USUAL else _line(name, value)
            for name, value in self.framed()
        ]
        return b"".join([*lines, b"\r\n", self.body])


def _line(name: bytes, value: bytes) -> bytes:
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise _unsendable()
    return b"%b: %b\r\n" % (name, value)


_usual_line = lru_cache(maxsize=MAX_LINES)(_line)


def _unsendable() -> httpx.LocalProtocolError:
    return httpx.LocalProtocolError("a part of the request cannot be sent")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    Attributes:
        status: Its HTTP status.
        headers: Values by lower-case name; those of one name joined by ``", "``.
        body: All of it.
        may_go_on: Whether another request may be sent on the same connection.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    may_go_on: bool


class UnwantedBodyError(Exception):
    """The answer's body is too long, or encoded; it was not read.

    Attributes:
        status: HTTP status of the answer.
        encoding: Its content encoding, or None if it was too long.
    """

    def __init__(self, status: int, encoding: str | None) -> None:
        super().__init__(status, encoding)
        self.status = status
        self.encoding = encoding


async def read_answer(asked: Asked, receive: Receive, *, max_body: int) -> Answer:
    """Read the answer to a request that was sent.

    Args:
        asked: The request.
        receive: Returns the next bytes, ``b""`` when the server has closed.
        max_body: Most bytes of body.

    Raises:
        httpx.RemoteProtocolError: It is not HTTP/1.1, or was cut off.
        UnwantedBodyError: Its body is not read.
    """
    first = await receive()
    end = first.find(b"\r\n\r\n", 0, MAX_USUAL_HEAD) + 4
    head = _usual_head(asked.method, first[:end]) if end > 3 else None  # noqa: PLR2004
    if head is None:
        return await _read_unusual(asked, first, receive, max_body=max_body)
    status, headers, length = head
    _check_body(status, headers, length, max_body=max_body)
    body = first[end:]
    if len(body) < length:
        body = await _rest(body, length, receive)
    # Bytes after the answer belong to nothing that was asked.
    return Answer(status, headers, body[:length], may_go_on=len(body) == length)


def _usual_head(method: bytes, head: bytes) -> tuple[int, dict[str, str], int] | None:
    """Return status, headers and length of a head in the usual form, None for any other."""
    match = _USUAL_HEAD.fullmatch(head)
    if match is None or method == b"HEAD":
        return None
    headers: dict[str, str] = {}
    for line in match[2].decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name = name.lower()
        value = value.strip(" \t")
        if name in headers:
            if name in ("content-length", "connection"):
                return None
            value = f"{headers[name]}, {value}"
        headers[name] = value
    length = headers.get("content-length", "")
    if (
        _USUAL_LENGTH.fullmatch(length) is None
        or headers.get("connection", "keep-alive").lower() != "keep-alive"
        or not _UNUSUAL.isdisjoint(headers)
    ):
        return None
    status = int(match[1])
    return None if status in _NO_BODY else (status, headers, int(length))


async def _rest(body: bytes, length: int, receive: Receive) -> bytes:
    pieces, size = [body], len(body)
    while size < length:
        piece = await receive()
        if not piece:
            raise httpx.RemoteProtocolError(
                f"the server closed after {size} of {length} bytes of its answer"
            )
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _check_body(status: int, headers: Mapping[str, str], size: int, *, max_body: int) -> None:
    encoding = headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in {"", "identity"}:
        raise UnwantedBodyError(status, encoding)
    if size > max_body:
        raise UnwantedBodyError(status, None)


# --- everything else -------------------------------------------------------------------------


async def _read_unusual(asked: Asked, first: bytes, receive: Receive, *, max_body: int) -> Answer:
    """Let h11 read the answer, of which *first* has come so far."""
    try:
        connection = h11.Connection(h11.CLIENT)
        # What it would send has been sent; this tells it what the answer is an answer to.
        connection.send(
            h11.Request(method=asked.method, target=asked.target, headers=asked.framed())
        )
        if asked.body:
            connection.send(h11.Data(data=asked.body))
        connection.send(h11.EndOfMessage())
    except h11.LocalProtocolError as exc:
        raise httpx.LocalProtocolError(str(exc)) from exc
    try:
        _feed(connection, first)
        return await _events(connection, receive, max_body=max_body)
    except h11.RemoteProtocolError as exc:
        raise httpx.RemoteProtocolError(str(exc)) from exc


async def _events(connection: h11.Connection, receive: Receive, *, max_body: int) -> Answer:
    status = 0
    headers: dict[str, str] = {}
    pieces: list[bytes] = []
    size = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            _feed(connection, await receive())
        elif isinstance(event, h11.Response):
            status = event.status_code
            for name, value in event.headers:
                key, text = name.decode("ascii"), value.decode("latin-1")
                headers[key] = f"{headers[key]}, {text}" if key in headers else text
            _check_body(status, headers, 0, max_body=max_body)
        elif isinstance(event, h11.Data):
            size += len(event.data)
            _check_body(status, headers, size, max_body=max_body)
            pieces.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, headers, b"".join(pieces), may_go_on=_may_go_on(connection))
        elif not isinstance(event, h11.InformationalResponse):
            raise httpx.RemoteProtocolError("the server closed without an answer")


def _feed(connection: h11.Connection, data: bytes) -> None:
    if not data and connection.their_state is h11.SEND_RESPONSE:
        raise httpx.RemoteProtocolError("the server closed without an answer")
    connection.receive_data(data)


def _may_go_on(connection: h11.Connection) -> bool:
    try:
        connection.start_next_cycle()
    except h11.ProtocolError:
        return False
    return not connection.trailing_data[0]

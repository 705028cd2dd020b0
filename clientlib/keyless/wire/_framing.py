"""Splits a byte stream into heads and attachments, and the reverse. Pure: no sockets, no clock.

A frame is a 4-byte big-endian length N, then N bytes of msgpack (the head), then the raw bytes
of the attachments that the head declares. See clientlib/doc/protocol.md, section 2. What a head
says is not this module's business: the caller reads it and asks for the attachments.
"""

from keyless.wire._limits import LENGTH_BYTES, MAX_HEAD


class FrameTooLongError(ValueError):
    """The peer announced a head longer than MAX_HEAD. The stream is unusable."""


class FrameBuffer:
    """Holds received bytes until they make up a whole head or attachment.

    One bytearray: appending is amortised, and CPython deletes from its front without moving the
    rest, so neither many small pieces nor one huge attachment costs more than its length.
    """

    __slots__ = ("_data", "_skip")

    def __init__(self) -> None:
        self._data = bytearray()
        self._skip = 0

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: "bytes | bytearray | memoryview") -> None:
        """Append bytes as they arrived; any split is fine."""
        self._data += data
        if self._skip:
            self._drop()

    def skip(self, length: int) -> None:
        """Throw the next *length* bytes away, as they come, without keeping them."""
        self._skip += length
        self._drop()

    def _drop(self) -> None:
        gone = min(self._skip, len(self._data))
        del self._data[:gone]
        self._skip -= gone

    @property
    def skipping(self) -> bool:
        """Whether bytes to be thrown away are still to come."""
        return self._skip > 0

    def next_head(self) -> "bytes | None":
        """Return the bytes of the next head and drop them, or None when more input is needed.

        Raises:
            FrameTooLongError: as soon as the length can be read, before the head is buffered.
        """
        if self._skip or len(self._data) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._data[:LENGTH_BYTES], "big")
        if length > MAX_HEAD:
            raise FrameTooLongError(f"a head of {length} bytes; the limit is {MAX_HEAD}")
        end = LENGTH_BYTES + length
        if len(self._data) < end:
            return None
        head = bytes(self._data[LENGTH_BYTES:end])
        del self._data[:end]
        return head

    def take(self, length: int) -> "bytes | None":
        """Return the next *length* bytes and drop them, or None when more input is needed."""
        if len(self._data) < length:
            return None
        with memoryview(self._data) as view:
            taken = bytes(view[:length])
        del self._data[:length]
        return taken


def frame(head: bytes, attachments: "list[bytes]") -> bytes:
    """Return the bytes of one frame.

    Raises:
        FrameTooLongError: the head is longer than MAX_HEAD.
    """
    if len(head) > MAX_HEAD:
        raise FrameTooLongError(f"a head of {len(head)} bytes; the limit is {MAX_HEAD}")
    return b"".join((len(head).to_bytes(LENGTH_BYTES, "big"), head, *attachments))

"""Bytes to frames: any split, any truncation, limits before memory."""

import pytest

from keyless.wire._framing import FrameBuffer, FrameTooLongError, frame
from keyless.wire._limits import MAX_HEAD

STREAM = frame(b"one", [b"att", b""]) + frame(b"", []) + frame(b"x" * MAX_HEAD, [b"y" * 9])


def _read(buffer, parts):
    """Take the parts of STREAM as far as they are there."""
    while parts:
        kind = parts[0]
        got = buffer.next_head() if kind == "head" else buffer.take(kind)
        if got is None:
            return
        yield got
        parts.pop(0)


@pytest.mark.parametrize("step", [1, 2, 3, 1000, len(STREAM)])
def test_any_split_gives_the_same_parts(step):
    buffer, parts, got = FrameBuffer(), ["head", 3, 0, "head", "head", 9], []
    for at in range(0, len(STREAM), step):
        buffer.feed(STREAM[at : at + step])
        got += _read(buffer, parts)
    assert got == [b"one", b"att", b"", b"", b"x" * MAX_HEAD, b"y" * 9]
    assert len(buffer) == 0


@pytest.mark.parametrize("length", range(7))
def test_a_truncated_head_never_comes_out(length):
    buffer = FrameBuffer()
    buffer.feed(frame(b"one", [])[:length])
    assert buffer.next_head() is None


def test_a_head_over_the_limit_is_refused_by_its_length_alone():
    buffer = FrameBuffer()
    buffer.feed((MAX_HEAD + 1).to_bytes(4, "big"))
    with pytest.raises(FrameTooLongError):
        buffer.next_head()


def test_a_head_over_the_limit_is_not_made():
    with pytest.raises(FrameTooLongError):
        frame(bytes(MAX_HEAD + 1), [])


def test_skipped_bytes_are_never_held():
    buffer = FrameBuffer()
    buffer.feed(b"abc")
    buffer.skip(3 + 1_000_001)
    for _ in range(1000):
        buffer.feed(bytes(1000))
        assert len(buffer) == 0
        assert buffer.skipping
        assert buffer.next_head() is None
    buffer.feed(b"x" + frame(b"next", []))
    assert not buffer.skipping
    assert buffer.next_head() == b"next"


def test_after_skipping_the_next_head_follows():
    buffer = FrameBuffer()
    buffer.skip(5)
    buffer.feed(b"12345" + frame(b"next", []))
    assert buffer.next_head() == b"next"


def test_a_large_attachment_in_small_pieces_is_put_together():
    # 16,384 pieces: were each piece to copy what is there, this would move 128 GiB.
    buffer, piece = FrameBuffer(), bytes(range(256)) * 4
    for _ in range(16_384):
        assert buffer.take(16 << 20) is None
        buffer.feed(piece)
    assert buffer.take(16 << 20) == piece * 16_384

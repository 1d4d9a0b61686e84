"""Frames with length prefixes in a stream."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.process import framing
from svcdns.process.framing import MAX_FRAME, Deframer, FrameTooLargeError, framed, read_framed


@given(st.lists(st.binary(max_size=60), max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_contents_are_read_complete_and_in_order(sent: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(map(framed, sent))
    out: list[bytes] = []
    reader, at, turn = Deframer(), 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        reader.feed(stream[at : at + size])
        out += reader.contents()
        at, turn = at + size, turn + 1
    assert out == sent


def test_contents_that_are_not_consumed_are_kept() -> None:
    reader = Deframer()
    reader.feed(framed(b"a") + framed(b"bc"))
    assert next(reader.contents()) == b"a"
    assert list(reader.contents()) == [b"bc"]


def test_a_length_beyond_the_bound_is_an_error() -> None:
    """The error is raised before the content arrives. Earlier frames are read."""
    reader = Deframer()
    reader.feed(framed(b"a") + (MAX_FRAME + 1).to_bytes(4, "big"))
    contents = reader.contents()
    assert next(contents) == b"a"
    with pytest.raises(
        FrameTooLargeError, match=f"^a frame of {MAX_FRAME + 1} octets; at most {MAX_FRAME} are allowed$"
    ):
        next(contents)


def test_a_content_beyond_the_bound_is_an_error_for_its_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_FRAME", 10)
    assert len(framed(b"x" * 10)) == 14
    with pytest.raises(FrameTooLargeError):
        framed(b"x" * 11)


def test_a_file_of_frames() -> None:
    """A length above the limit is an error, and ends the reading."""
    file = io.BytesIO(framed(b"a") + framed(b"") + (MAX_FRAME + 1).to_bytes(4, "big"))
    assert (read_framed(file), read_framed(file)) == (b"a", b"")
    with pytest.raises(FrameTooLargeError):
        read_framed(file)
    assert read_framed(file) == b""

"""The frames of HTTP/2: GOAWAY, and limits."""

from __future__ import annotations

import pytest

from svcdns.wire.errors import FormError
from svcdns.wire.http2_frames import MAX_FRAME, FrameFilter, GoAway, goaway

DATA = b"\0\0\3\0\1\0\0\0\1abc"
PING = b"\0\0\x08\6\0\0\0\0\0" + bytes(8)


@pytest.mark.parametrize("size", [1, 2, 5, 9, 100])
def test_goaway_is_taken_out(size: int) -> None:
    """The pieces may end anywhere."""
    octets = b"preface" + DATA + goaway(5, 2) + PING + DATA
    found = FrameFilter(100, 9, len(b"preface"))
    out = b"".join(found.feed(octets[at : at + size]) for at in range(0, len(octets), size))
    assert out == b"preface" + DATA + PING + DATA
    assert (found.goaway, found.control) == (GoAway(5, 2), 2)


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(PING * 10, id="control frames"),
        pytest.param((MAX_FRAME + 1).to_bytes(3, "big") + b"\0\0\0\0\0\1", id="long frame"),
        pytest.param(b"\0\0\1\7\0\0\0\0\0\0", id="short GOAWAY"),
        pytest.param(b"\0\0\x65\1\4\0\0\0\1", id="long header"),
        pytest.param(b"\0\0\x33\1\0\0\0\0\1" + bytes(51) + b"\0\0\x33\x09\0\0\0\0\1", id="long header in two frames"),
    ],
)
def test_wrong_frames(octets: bytes) -> None:
    """A frame is refused by its header, before its payload has arrived."""
    with pytest.raises(FormError):
        FrameFilter(100, 9).feed(octets)


def test_empty_data_frames_are_control_frames() -> None:
    """An empty DATA frame asks nothing, unless it ends the request."""
    found = FrameFilter(100, 9)
    found.feed(b"\0\0\0\0\0\0\0\0\1" + b"\0\0\0\0\1\0\0\0\1")
    assert found.control == 1

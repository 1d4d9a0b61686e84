"""Reading HTTP bodies with chunked encoding while their octets arrive."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.sources.api.chunks import MAX_LINE, ChunkError, ChunkReader


def content(reader: ChunkReader, *pieces: bytes) -> bytes:
    """Feeds the pieces of a body, and returns the content that the reader has found."""
    found = b""
    for piece in pieces:
        reader.feed(piece)
        while part := reader.next():
            found += part
    return found


@pytest.mark.parametrize(
    "body",
    [b"3\r\nabc\r\n0\r\n\r\n", b'3;x="y"\r\nabc\r\n000\r\nT: 1\r\nU: 2\r\n\r\n', b"03 \nabc\r\n0\n\n"],
    ids=["plain", "extension and trailer", "line feeds"],
)
def test_a_body_is_read_to_its_end(body: bytes) -> None:
    """The content is that of the chunks. Extensions and trailers are left out."""
    reader = ChunkReader()
    assert content(reader, body) == b"abc"
    assert reader.ended


@given(parts=st.lists(st.binary(min_size=1, max_size=40), max_size=6), cuts=st.lists(st.integers(0, 400)))
def test_pieces_of_any_size_give_the_same_content(parts: list[bytes], cuts: list[int]) -> None:
    """The content does not depend on where the body is cut. h11 reads the same content."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    reader = ChunkReader()
    pieces = [body[first:last] for first, last in itertools.pairwise(places)]
    assert content(reader, *pieces) == b"".join(parts) == by_h11(body)
    assert reader.ended


def by_h11(body: bytes) -> bytes:
    """Returns the content of a chunked body. h11 reads the body."""
    other = h11.Connection(h11.CLIENT)
    other.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    other.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    found = b""
    while not isinstance(event := other.next_event(), h11.EndOfMessage):
        found += bytes(event.data) if isinstance(event, h11.Data) else b""
    return found


@pytest.mark.parametrize(
    "body",
    [b"x\r\n", b"\r\n", b"-1\r\n", b"1_0\r\n", b"3\r\nabcd\r\n", b"1" * 17 + b"\r\n", b"1" * MAX_LINE],
    ids=["no number", "empty", "negative", "underscore", "no end of line", "too many digits", "a line without an end"],
)
def test_other_octets_are_an_error(body: bytes) -> None:
    with pytest.raises(ChunkError):
        content(ChunkReader(), body)

"""Frames between control and workers."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from svcdns.cluster.changes import Complete, Gone, Kind, Put, Serials
from svcdns.cluster.objects import Endpoint, EndpointSlice, Port, Service
from svcdns.corefile.parser import parse
from svcdns.feed.frames import (
    Changed,
    Configure,
    Configured,
    Data,
    Epoch,
    FrameReader,
    SourceKinds,
    Swap,
    ToControl,
    ToWorker,
    frame,
    put_frame,
)

SLICE = EndpointSlice("d", "x", "s", (Port("http", "TCP", 80),), (Endpoint("10.0.0.1", "h"),))
FRAMES = [
    Epoch(7),
    Configure(1, parse("a {\n log\n}\n", "F", environ={}), (("",),), (SourceKinds(1, b"w", (Kind.SERVICE,)),), ("10.0.0.1",)),
    Swap(1),
    Changed(1, Put(SLICE)),
    Changed(1, Gone(Kind.SERVICE, "d", "x")),
    Changed(1, Complete(Kind.POD)),
    Changed(1, Serials(1, 2, 3)),
    Data("file", "k", b"\0\1"),
]


@given(st.lists(st.sampled_from(FRAMES), max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_frames_come_out_whole_and_in_order(sent: list[ToWorker], sizes: list[int]) -> None:
    """However the stream is cut."""
    stream = b"".join(frame(one) for one in sent)
    reader, out, at, turn = FrameReader(ToWorker), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        reader.feed(stream[at : at + size])
        out += reader.frames()
        at, turn = at + size, turn + 1
    assert out == sent


def test_an_encoded_object_is_sent_as_it_is() -> None:
    """The frame is that of a Put."""
    service = Service("d", "x", ("10.0.0.1",))
    assert put_frame(3, msgspec.msgpack.encode(service)) == frame(Changed(3, Put(service)))


def test_frames_that_are_not_taken_stay() -> None:
    """For the next time."""
    reader = FrameReader(ToControl)
    reader.feed(frame(Configured(1)) + frame(Configured(2, "no")))
    assert next(reader.frames()) == Configured(1)
    assert list(reader.frames()) == [Configured(2, "no")]

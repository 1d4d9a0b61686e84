"""Frames that control sends to workers."""

from __future__ import annotations

import msgspec
import pytest

from svcdns.cluster.changes import Begin, Complete, Confirmed, EncodedPut, Gone, Kind, Put, Serials
from svcdns.cluster.objects import Endpoint, EndpointSlice, Port, Service
from svcdns.corefile.parser import parse
from svcdns.feed.frames import (
    Allow,
    Changed,
    Configure,
    Configured,
    Data,
    EncodedChanged,
    Epoch,
    FrameReader,
    FromControl,
    SourceKinds,
    Swap,
    ToControl,
    ToWorker,
    frame,
    put_frame,
)

SLICE = EndpointSlice("d", "x", "s", (Port("http", "TCP", 80),), (Endpoint("10.0.0.1", "h"),))
FRAMES: list[ToWorker] = [
    Epoch(7),
    Configure(
        1, parse("a {\n log\n}\n", "F", environ={}), (("",),), (SourceKinds(1, b"w", (Kind.SERVICE,)),), ("10.0.0.1",)
    ),
    Swap(1),
    Changed(1, Put(SLICE)),
    Changed(1, Gone(Kind.SERVICE, "d", "x")),
    Changed(1, Complete(Kind.POD)),
    Changed(1, Serials(1, 2, 3)),
    Changed(1, Begin(Kind.SERVICE)),
    Changed(1, Confirmed(3.5)),
    Allow(0.5),
    Data("file", "k", b"\0\1"),
]


def test_frames_are_read_as_they_were_sent() -> None:
    reader = FrameReader[ToWorker](ToWorker)
    for one in FRAMES:
        reader.feed(frame(one))
    assert list(reader.frames()) == FRAMES


@pytest.mark.parametrize(
    "sent", FRAMES, ids=lambda one: f"{type(one).__name__} {type(getattr(one, 'change', None)).__name__}"
)
def test_a_worker_leaves_objects_encoded(sent: ToWorker) -> None:
    reader = FrameReader[FromControl](FromControl)
    reader.feed(frame(sent))
    (got,) = reader.frames()
    assert msgspec.msgpack.encode(got) == msgspec.msgpack.encode(sent)
    if isinstance(sent, Changed) and isinstance(sent.change, Put):
        assert isinstance(got, EncodedChanged)
        assert isinstance(got.change, EncodedPut)
        assert msgspec.msgpack.decode(got.change.object, type=EndpointSlice) == sent.change.object


def test_an_encoded_object_is_sent_as_it_is() -> None:
    service = Service("d", "x", ("10.0.0.1",))
    assert put_frame(3, msgspec.msgpack.encode(service)) == frame(Changed(3, Put(service)))


def test_frames_that_are_not_consumed_are_kept() -> None:
    reader = FrameReader[ToControl](ToControl)
    reader.feed(frame(Configured(1)) + frame(Configured(2, "no")))
    assert next(reader.frames()) == Configured(1)
    assert list(reader.frames()) == [Configured(2, "no")]

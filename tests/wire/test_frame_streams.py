"""Frame Streams. The octets are written by hand from the description of the protocol."""

from __future__ import annotations

import pytest

from svcdns.wire.frame_streams import (
    Control,
    ControlType,
    Frames,
    FrameStreamError,
    ReaderHandshake,
    WriterHandshake,
    control,
    data,
)

TYPE_FIELD = bytes.fromhex("00000001 00000016") + b"protobuf:dnstap.Dnstap"
READY = bytes.fromhex("00000000 00000022 00000004") + TYPE_FIELD
ACCEPT = bytes.fromhex("00000000 00000022 00000001") + TYPE_FIELD
START = bytes.fromhex("00000000 00000022 00000002") + TYPE_FIELD
STOP = bytes.fromhex("00000000 00000004 00000003")
FINISH = bytes.fromhex("00000000 00000004 00000005")
ABC = bytes.fromhex("00000003") + b"abc"


def test_frames_are_encoded() -> None:
    dnstap = (b"protobuf:dnstap.Dnstap",)
    assert [control(kind, dnstap) for kind in (ControlType.READY, ControlType.ACCEPT, ControlType.START)] == [
        READY,
        ACCEPT,
        START,
    ]
    assert (control(ControlType.STOP), control(ControlType.FINISH), data(b"abc")) == (STOP, FINISH, ABC)


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_frames_are_decoded_from_any_portions(step: int) -> None:
    octets, frames = START + ABC + ABC + STOP, Frames()
    found = [one for at in range(0, len(octets), step) for one in frames.feed(octets[at : at + step])]
    assert found == [Control(2, (b"protobuf:dnstap.Dnstap",)), b"abc", b"abc", Control(3)]


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(bytes.fromhex("00000000 00000201"), id="a control frame that is too long"),
        pytest.param(bytes.fromhex("00000000 00000003"), id="a control frame without a type"),
        pytest.param(bytes.fromhex("00100001"), id="a data frame that is too long"),
        pytest.param(bytes.fromhex("00000000 0000000d 00000002 00000001 00000002 61"), id="a field that is cut off"),
    ],
)
def test_malformed_frames(octets: bytes) -> None:
    with pytest.raises(FrameStreamError):
        list(Frames().feed(octets))


def test_the_handshake_of_a_writer() -> None:
    writer = WriterHandshake()
    assert (writer.first, writer.last) == (READY, STOP)
    assert not writer.receive(ACCEPT[:5])
    assert not writer.started
    assert writer.receive(ACCEPT[5:]) == START
    assert writer.started
    assert not writer.finished
    assert not writer.receive(FINISH)
    assert writer.finished


@pytest.mark.parametrize(
    "octets",
    [ABC, STOP, ACCEPT + ACCEPT, control(ControlType.ACCEPT, (b"other",))],
    ids=["data", "stop", "two", "type"],
)
def test_a_reader_that_breaks_the_handshake(octets: bytes) -> None:
    with pytest.raises(FrameStreamError):
        WriterHandshake().receive(octets)


def test_the_handshake_of_a_reader() -> None:
    reader = ReaderHandshake()
    assert reader.receive(READY) == ([], ACCEPT)
    assert reader.receive(START + ABC) == ([b"abc"], b"")
    assert reader.receive(ABC + STOP) == ([b"abc"], FINISH)
    assert reader.finished


def test_a_writer_in_one_direction() -> None:
    """Such a writer waits for no reply, and gets none."""
    reader = ReaderHandshake()
    assert reader.receive(START + ABC + STOP) == ([b"abc"], b"")
    assert reader.finished


@pytest.mark.parametrize("octets", [ABC, STOP, FINISH, READY + READY, control(ControlType.START, (b"other",))])
def test_a_writer_that_breaks_the_handshake(octets: bytes) -> None:
    with pytest.raises(FrameStreamError):
        ReaderHandshake().receive(octets)

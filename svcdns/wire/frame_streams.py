"""Frame Streams, which carry dnstap messages over a connection: the frames, and the two ends of the handshake.

Source: the description of the protocol at https://farsightsec.github.io/fstrm/. This module has no access to sockets.
The writer sends READY, the reader ACCEPT, and the writer START and data. At the end, the writer sends STOP and the
reader FINISH. A reader also accepts the unidirectional form, which has only START and STOP.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from svcdns.errors import SvcdnsError

DNSTAP: Final = b"protobuf:dnstap.Dnstap"
"""The content type of dnstap messages."""
MAX_CONTROL: Final = 512
"""The most octets of a control frame."""
MAX_DATA: Final = 1 << 20
"""The most octets of a data frame that a reader accepts."""
_CONTENT_TYPE: Final = 1
"""The type of the only field of control frames."""


class ControlType(IntEnum):
    """The type of a control frame."""

    ACCEPT = 1
    START = 2
    STOP = 3
    READY = 4
    FINISH = 5


class Control(NamedTuple):
    """A control frame. `kind` is a number of ControlType, or an unknown number."""

    kind: int
    content_types: tuple[bytes, ...] = ()


class FrameStreamError(SvcdnsError):
    """Raised if octets are no Frame Streams, or if the other end breaks the order of the handshake."""


def data(payload: bytes) -> bytes:
    """Returns the data frame of `payload`."""
    return len(payload).to_bytes(4, "big") + payload


def control(kind: ControlType, content_types: Sequence[bytes] = ()) -> bytes:
    """Returns a control frame, which begins with a length of 0 as the escape."""
    body = kind.to_bytes(4, "big")
    for one in content_types:
        body += _CONTENT_TYPE.to_bytes(4, "big") + len(one).to_bytes(4, "big") + one
    return bytes(4) + len(body).to_bytes(4, "big") + body


class Frames:
    """Splits the octets of a connection into frames."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, octets: bytes) -> Iterator[Control | bytes]:
        """Adds octets, and yields the frames that are complete. Raises FrameStreamError."""
        received, at = self._received, 0
        received += octets
        try:
            while len(received) - at >= 4:
                size = int.from_bytes(received[at : at + 4], "big")
                if size:
                    if size > MAX_DATA:
                        raise FrameStreamError(f"a data frame has {size} octets")
                    if len(received) - at - 4 < size:
                        break
                    at += 4 + size
                    yield bytes(received[at - size : at])
                    continue
                if len(received) - at < 8:
                    break
                size = int.from_bytes(received[at + 4 : at + 8], "big")
                if not 4 <= size <= MAX_CONTROL:
                    raise FrameStreamError(f"a control frame has {size} octets")
                if len(received) - at - 8 < size:
                    break
                at += 8 + size
                yield _control(bytes(received[at - size : at]))
        finally:
            del received[:at]


def _control(body: bytes) -> Control:
    kind, at = int.from_bytes(body[:4], "big"), 4
    content_types: list[bytes] = []
    while at < len(body):
        size = int.from_bytes(body[at + 4 : at + 8], "big")
        if len(body) - at < 8 or len(body) - at - 8 < size:
            raise FrameStreamError("a field of a control frame is cut off")
        if int.from_bytes(body[at : at + 4], "big") == _CONTENT_TYPE:
            content_types.append(body[at + 8 : at + 8 + size])
        at += 8 + size
    return Control(kind, tuple(content_types))


class WriterHandshake:
    """The handshake of a writer.

    Send `first` when the connection is open, and `last` after the last data frame. Then wait until `finished` is true.
    """

    first: Final = control(ControlType.READY, (DNSTAP,))
    last: Final = control(ControlType.STOP)

    def __init__(self) -> None:
        self.started = self.finished = False
        """`started` is True if data may be sent. `finished` is True if the reader has received all data."""
        self._frames = Frames()

    def receive(self, octets: bytes) -> bytes:
        """Takes octets of the reader, and returns octets to send. Raises FrameStreamError."""
        out = b""
        for frame in self._frames.feed(octets):
            if not isinstance(frame, Control):
                raise FrameStreamError("the reader sent data")
            if frame.kind == ControlType.ACCEPT and not self.started:
                if frame.content_types and DNSTAP not in frame.content_types:
                    raise FrameStreamError("the reader does not accept dnstap messages")
                self.started = True
                out += control(ControlType.START, (DNSTAP,))
            elif frame.kind == ControlType.FINISH:
                self.finished = True
            else:
                raise FrameStreamError(f"the reader sent a control frame of type {frame.kind}")
        return out


class ReaderHandshake:
    """The handshake of a reader, with the data of the writer."""

    def __init__(self) -> None:
        self.finished = False
        """True if the writer has sent STOP: send the octets of `receive`, and close the connection."""
        self._frames = Frames()
        self._ready = self._started = False

    def receive(self, octets: bytes) -> tuple[list[bytes], bytes]:
        """Takes octets of the writer. Returns the payloads of data frames, and octets to send.

        Raises FrameStreamError.
        """
        payloads: list[bytes] = []
        out = b""
        for frame in self._frames.feed(octets):
            if not isinstance(frame, Control):
                if not self._started:
                    raise FrameStreamError("the writer sent data before START")
                payloads.append(frame)
            elif frame.kind == ControlType.READY and not self._ready:
                self._check(frame)
                self._ready = True
                out += control(ControlType.ACCEPT, (DNSTAP,))
            elif frame.kind == ControlType.START and not self._started:
                self._check(frame)
                self._started = True
            elif frame.kind == ControlType.STOP and self._started:
                self.finished = True
                out += control(ControlType.FINISH) if self._ready else b""
            else:
                raise FrameStreamError(f"the writer sent a control frame of type {frame.kind}")
        return payloads, out

    @staticmethod
    def _check(frame: Control) -> None:
        if frame.content_types and DNSTAP not in frame.content_types:
            raise FrameStreamError("the writer sends no dnstap messages")

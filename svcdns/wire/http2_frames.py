"""The frames of HTTP/2 (RFC 9113 §4.1), as far as the library h2 needs help with them.

- h2 keeps the octets of a frame until it is complete, and then checks its length. `FrameFilter` checks the
  length when the header of the frame arrives.
- h2 treats GOAWAY as the end of a connection, although earlier streams are still answered. So this module makes GOAWAY
  frames, and takes received GOAWAY frames out of the octets before h2 gets them.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from svcdns.wire.errors import FormError

MAX_FRAME: Final = 1 << 14
"""The most octets of a frame's payload: the initial value of SETTINGS_MAX_FRAME_SIZE."""
_HEADER: Final = 9
_DATA: Final = 0
_HEADERS: Final = 1
_GOAWAY: Final = 7
_CONTINUATION: Final = 9
_END_STREAM: Final = 1
_END_HEADERS: Final = 4
_FRAME: Final = struct.Struct("!II")
_STREAM: Final = 0x7FFFFFFF


class GoAway(NamedTuple):
    """The last stream that the sender of the frame answers, and its error code (RFC 9113 §7)."""

    last_stream: int
    error: int


def goaway(last_stream: int, error: int) -> bytes:
    """Returns a GOAWAY frame."""
    payload = _FRAME.pack(last_stream & _STREAM, error)
    return len(payload).to_bytes(3, "big") + bytes((_GOAWAY, 0)) + bytes(4) + payload


class FrameFilter:
    """Checks the frames in the octets of a connection, and takes the GOAWAY frames out."""

    __slots__ = ("_fields", "_left", "_most", "_most_control", "_waiting", "control", "goaway")

    def __init__(self, most_fields: int, most_control: int, preface: int = 0) -> None:
        """`most_fields` is the most octets of the encoded header fields of a message.

        `most_control` is the greatest value of `control`. `preface` is the number of octets before the first frame.
        """
        self._most, self._most_control = most_fields, most_control
        self._fields = 0
        """The octets of an incomplete header."""
        self._waiting = b""
        """The octets of an incomplete frame header, or of an incomplete GOAWAY frame."""
        self._left = preface
        """The octets of the present frame that have not arrived."""
        self.control = 0
        """The number of frames without a part of a message, such as SETTINGS, PING and empty DATA frames.

        The owner of the object sets it to 0 after each message.
        """
        self.goaway: GoAway | None = None

    def feed(self, data: bytes) -> bytes:
        """Returns the octets in `data` of all frames but GOAWAY. Raises FormError."""
        if self._left >= len(data) and not self._waiting:
            self._left -= len(data)
            return data
        data, self._waiting = self._waiting + data, b""
        out, at = bytearray(data[: self._left]), self._left
        self._left = 0
        while at < len(data):
            if len(data) < at + _HEADER:
                self._waiting = data[at:]
                break
            length = int.from_bytes(data[at : at + 3], "big")
            end = at + _HEADER + length
            self._check(data[at + 3], data[at + 4], length)
            if data[at + 3] != _GOAWAY:
                out += data[at:end]
                self._left = max(0, end - len(data))
            elif len(data) < end:
                self._waiting = data[at:]
                break
            else:
                last, error = _FRAME.unpack_from(data, at + _HEADER)
                self.goaway = GoAway(last & _STREAM, error)
                self._count_control()
            at = end
        return bytes(out)

    def _check(self, kind: int, flags: int, length: int) -> None:
        """Checks the header of a frame. Raises FormError."""
        if length > MAX_FRAME or (kind == _GOAWAY and length < _FRAME.size):
            raise FormError("a frame of HTTP/2 with a wrong length")
        if kind in (_HEADERS, _CONTINUATION):
            self._fields += length
            if self._fields > self._most:
                raise FormError("too many header fields")
            if flags & _END_HEADERS:
                self._fields = 0
        elif kind not in (_DATA, _GOAWAY) or (kind == _DATA and not (length or flags & _END_STREAM)):
            self._count_control()

    def _count_control(self) -> None:
        self.control += 1
        if self.control > self._most_control:
            raise FormError("too many frames of HTTP/2 without a message")

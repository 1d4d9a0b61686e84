"""Frames in a stream of octets: each frame has its length, four octets in network order, and its content.

Rule: a frame has at most MAX_FRAME octets. Writers and readers check this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from svcdns.errors import SvcdnsError

LENGTH: Final = 4
"""Octets of the length field."""
MAX_FRAME: Final = 1 << 28
"""The most octets of content in one frame."""


class FrameTooLargeError(SvcdnsError):
    """Raised if a frame has more than MAX_FRAME octets."""

    def __init__(self, size: int) -> None:
        """`size` is the number of octets in the frame's content."""
        super().__init__(f"a frame of {size} octets; at most {MAX_FRAME} are allowed")


def framed(content: bytes) -> bytes:
    """Returns a frame: the length of `content`, and `content`. Raises FrameTooLargeError."""
    size = len(content)
    if size > MAX_FRAME:
        raise FrameTooLargeError(size)
    return size.to_bytes(LENGTH, "big") + content


def read_framed(file: BinaryIO) -> bytes:
    """Reads one frame of a file, and returns its content. Raises FrameTooLargeError.

    If the file ends within the frame, the content is incomplete. At the end of the file, it is empty.
    """
    size = int.from_bytes(file.read(LENGTH), "big")
    if size > MAX_FRAME:
        raise FrameTooLargeError(size)
    return file.read(size)


class Deframer:
    """Splits a stream into the contents of its frames.

    `feed` adds received octets, and `contents` returns the contents of the complete frames.
    """

    def __init__(self) -> None:
        """Starts at the beginning of a stream."""
        self._buffer = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Adds the next octets of the stream."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def contents(self) -> Iterator[bytes]:
        """Yields the contents of the complete frames. If the caller stops early, the next call yields the remaining
        ones.

        Raises FrameTooLargeError.
        """
        buffer = self._buffer
        while True:
            start = self._at + LENGTH
            if len(buffer) < start:
                return
            size = int.from_bytes(buffer[self._at : start], "big")
            if size > MAX_FRAME:
                raise FrameTooLargeError(size)
            end = start + size
            if len(buffer) < end:
                return
            self._at = end
            yield bytes(buffer[start:end])

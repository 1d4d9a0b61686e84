"""Frames in a stream of octets: each is its length, four octets in network order, and then its content.

The feed between control and workers, the kept state that a worker passes to its successor, and snapshot files consist
of frames. Rule: a frame has at most MAX_FRAME octets, for writers and readers. So a reader notices a stream of another
kind before it has collected gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from svcdns.errors import SvcdnsError

LENGTH: Final = 4
"""Octets of the length."""
MAX_FRAME: Final = 1 << 28
"""Octets of content."""


class FrameTooLargeError(SvcdnsError):
    """A frame has more than MAX_FRAME octets."""

    def __init__(self, size: int) -> None:
        """`size` is the number of octets of its content."""
        super().__init__(f"a frame of {size} octets; at most {MAX_FRAME} are allowed")


def framed(content: bytes) -> bytes:
    """The content with its length before it. Raises FrameTooLargeError."""
    size = len(content)
    if size > MAX_FRAME:
        raise FrameTooLargeError(size)
    return size.to_bytes(LENGTH, "big") + content


def read_framed(file: BinaryIO) -> bytes:
    """The content of the next frame of a file, cut off where the file ends; empty at its end. Raises
    FrameTooLargeError.
    """
    size = int.from_bytes(file.read(LENGTH), "big")
    if size > MAX_FRAME:
        raise FrameTooLargeError(size)
    return file.read(size)


class Deframer:
    """Cuts a stream into the contents of its frames. `feed` takes octets as they come, `contents` gives what is
    complete, one by one.
    """

    def __init__(self) -> None:
        """At the start of a stream."""
        self._buffer = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Takes octets in."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def contents(self) -> Iterator[bytes]:
        """The contents of complete frames; those not taken stay for the next call. Raises FrameTooLargeError."""
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

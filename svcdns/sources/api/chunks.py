"""Reads a chunked body (RFC 9112 §7.1) whose octets arrive in pieces.

The module reads the bodies of watches, because it is faster than h11. Extensions of chunks, and trailers, are ignored.
"""

from __future__ import annotations

from typing import Final

MAX_LINE: Final = 1 << 16
"""The most octets of a line with the size of a chunk, and of a trailer field."""
MAX_SIZE_DIGITS: Final = 16
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class ChunkError(Exception):
    """Raised if the body is not chunked by the rules of RFC 9112."""


class ChunkReader:
    """Returns the content of the chunks in the octets that were fed to it."""

    __slots__ = ("_buffer", "_in_trailer", "_left", "ended")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0
        """The octets of the present chunk that are missing, with the CR LF after it; 0 before the line with a size."""
        self._in_trailer = False
        self.ended = False
        """True after the last chunk and the trailer."""

    def feed(self, octets: bytes) -> None:
        """Adds octets of the body."""
        self._buffer += octets

    def next(self) -> bytes:
        """Returns more octets of the content.

        Returns none if more of the body must be fed, or at its end. Raises ChunkError.
        """
        while not self.ended:
            if self._left:
                return self._content()
            line = self._line()
            if line is None:
                return b""
            if self._in_trailer:
                self.ended = not line
                continue
            digits = line.partition(b";")[0].strip(b" \t")
            if not digits or len(digits) > MAX_SIZE_DIGITS or not _HEX.issuperset(digits):
                raise ChunkError(f"no size of a chunk: {bytes(digits[:40])!r}")
            size = int(digits, 16)
            self._in_trailer = not size
            self._left = size + 2 if size else 0
        return b""

    def _content(self) -> bytes:
        """Returns the octets of the present chunk that have arrived."""
        buffer, left = self._buffer, self._left
        if len(buffer) >= left:
            if bytes(buffer[left - 2 : left]) != b"\r\n":
                raise ChunkError("no end of line after a chunk")
            found = bytes(buffer[: left - 2])
            del buffer[:left]
            self._left = 0
            return found or self.next()
        found = bytes(buffer[: left - 2])
        del buffer[: len(found)]
        self._left -= len(found)
        return found

    def _line(self) -> bytes | None:
        """Removes a line and returns it without its end. Returns None if its end has not arrived."""
        end = self._buffer.find(b"\n", 0, MAX_LINE)
        if end < 0:
            if len(self._buffer) >= MAX_LINE:
                raise ChunkError("a line of a chunked body is too long")
            return None
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return line

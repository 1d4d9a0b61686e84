"""The channel between the supervisor and each of its children: JSON messages, with file descriptors.

A message is one line of JSON. The descriptors of a message are sent together with its octets (SCM_RIGHTS, unix(7)), and
the field `fds` has their number. The end of the stream means that the supervisor has ended. Rule: after a
ChannelBrokenError, nothing more is read.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

Message = dict[str, Any]

MAX_MESSAGE: Final = 1 << 20
"""The longest message that a receiver accepts, in octets."""
MAX_FDS: Final = 250
"""The most descriptors with one message; the kernel's limit is 253."""
_CHUNK: Final = 65536
_ANCILLARY: Final = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


class ChannelClosedError(Exception):
    """Raised if the other end of the channel has been closed."""


class ChannelBrokenError(ChannelClosedError):
    """Raised if the received octets are not a message, or if descriptors are missing."""


def encoded(message: Message, fds: list[int]) -> tuple[bytes, list[tuple[int, int, array.array[int]]]]:
    """Returns a message as a line of JSON, and its descriptors as ancillary data to send with the first octet."""
    line = json.dumps({**message, "fds": len(fds)}, separators=(",", ":")).encode() + b"\n"
    return line, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []


class Channel:
    """One end of a channel, on a stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        """Takes ownership of a stream socket, which stays in blocking mode."""
        self.sock = sock
        self._buffer = b""
        self._fds: deque[int] = deque()

    def fileno(self) -> int:
        """Returns the descriptor of the socket, so that a selector accepts a Channel."""
        return self.sock.fileno()

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Sends a message, and descriptors with it. Raises ChannelClosedError."""
        line, ancillary = encoded(message, fds or [])
        try:
            sent = self.sock.sendmsg([line], ancillary)
            if sent < len(line):
                self.sock.sendall(line[sent:])
        except OSError as error:
            raise ChannelClosedError from error

    def receive(self) -> list[Message]:
        """Reads once, and returns the messages that are complete now, each with its descriptors under `fds`.

        Raises ChannelClosedError at the end of the channel, and ChannelBrokenError.
        """
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(_CHUNK, _ANCILLARY)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            raise ChannelClosedError from error
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self._fds.extend(fds)
        if (
            flags & socket.MSG_CTRUNC
        ):  # the kernel has closed descriptors that exceeded the buffer or this process's limit
            raise self._broken("descriptors of a message are missing: more than this process may have open")
        if not data:
            raise ChannelClosedError
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_MESSAGE:
            raise self._broken(f"a message of more than {MAX_MESSAGE} octets")
        messages: list[Message] = []
        try:
            messages += map(self._message, lines)
        except ChannelBrokenError:
            for message in messages:
                _close(message["fds"])
            raise
        return messages

    @property
    def whole(self) -> bool:
        """Returns True if no incomplete message has arrived."""
        return not self._buffer and not self._fds

    def close(self) -> None:
        """Closes this end of the channel, and the descriptors of a message that has not arrived completely."""
        self.sock.close()
        self._close_descriptors()

    def _message(self, line: bytes) -> Message:
        try:
            message: Message = json.loads(line)
            message["fds"] = self._take_descriptors(message.get("fds", 0))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise self._broken(f"not a message: {line[:80]!r}") from error
        return message

    def _take_descriptors(self, count: int) -> list[int]:
        if count > len(self._fds):
            raise ValueError(f"{len(self._fds)} descriptors; {count} were expected")
        return [self._fds.popleft() for _ in range(count)]

    def _broken(self, reason: str) -> ChannelBrokenError:
        self._close_descriptors()
        return ChannelBrokenError(reason)

    def _close_descriptors(self) -> None:
        _close(self._fds)
        self._fds.clear()


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)

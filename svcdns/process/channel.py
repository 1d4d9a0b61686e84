"""The channel between the supervisor and each of its children: small JSON messages, and file descriptors with them.

A message is one line of JSON; descriptors travel beside the bytes (SCM_RIGHTS, unix(7)), and a message says under `fds` how many of
them are its own. The channel is also the child's lifeline: only the supervisor holds the other end, so its end of file means that the
supervisor is gone. Standard library only."""

from __future__ import annotations

import array
import json
import socket
from collections import deque
from typing import Any, Final

Message = dict[str, Any]

MAX_MESSAGE: Final = 1 << 20
MAX_FDS: Final = 250
"""Descriptors that one message may carry; the kernel's own bound is 253."""


class ChannelClosedError(Exception):
    """The other side is gone."""


def encoded(message: Message, fds: list[int]) -> tuple[bytes, list[tuple[int, int, array.array[int]]]]:
    """A message's line, and its descriptors as ancillary data, which go with the first octet."""
    line = json.dumps({**message, "fds": len(fds)}, separators=(",", ":")).encode() + b"\n"
    return line, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []


class Channel:
    """One end of a channel, on a stream socket.

    `receive` reads what is there and gives the whole messages, each with its descriptors under `fds`.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Takes the socket over; it stays blocking for sends, which are small."""
        self.sock = sock
        self._buffer = b""
        self._fds: deque[int] = deque()

    def fileno(self) -> int:
        """For selectors."""
        return self.sock.fileno()

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Sends a message with descriptors. Raises ChannelClosedError."""
        line, ancillary = encoded(message, fds or [])
        try:
            sent = self.sock.sendmsg([line], ancillary)
            if sent < len(line):
                self.sock.sendall(line[sent:])
        except OSError as error:
            raise ChannelClosedError from error

    def receive(self) -> list[Message]:
        """The messages that have come, none if none is whole yet. Raises ChannelClosedError at the end of the channel."""
        size = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self.sock.recvmsg(65536, size)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            raise ChannelClosedError from error
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self._fds.extend(fds)
        if not data or len(self._buffer) > MAX_MESSAGE:
            raise ChannelClosedError
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [self._message(line) for line in lines]

    @property
    def whole(self) -> bool:
        """Whether no half message has been received."""
        return not self._buffer and not self._fds

    def close(self) -> None:
        """Closes this end."""
        self.sock.close()

    def _message(self, line: bytes) -> Message:
        message: Message = json.loads(line)
        message["fds"] = [self._fds.popleft() for _ in range(message.get("fds", 0))]
        return message

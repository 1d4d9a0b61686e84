"""The channel between the supervisor and each of its children: small JSON messages, and file descriptors with them.

A message is one line of JSON. Descriptors travel beside the octets (SCM_RIGHTS, unix(7)); a message says under `fds`
how many of them are its own. Only the supervisor holds the other end of a child's channel, so its end of file means
that the supervisor is gone. Standard library only: the supervisor imports it.

Rule: after a ChannelBrokenError nothing more is read, as it is not known to which message the next descriptor belongs.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections import deque
from typing import Any, Final

Message = dict[str, Any]

MAX_MESSAGE: Final = 1 << 20
"""Octets of a message that are collected at most."""
MAX_FDS: Final = 250
"""Descriptors that one message may carry; the kernel's own bound is 253."""
_CHUNK: Final = 65536
_ANCILLARY: Final = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


class ChannelClosedError(Exception):
    """The other side is gone."""


class ChannelBrokenError(ChannelClosedError):
    """What has come is no message, or a message without its descriptors; the text says which."""


def encoded(message: Message, fds: list[int]) -> tuple[bytes, list[tuple[int, int, array.array[int]]]]:
    """A message's line, and its descriptors as ancillary data, which go with the first octet."""
    line = json.dumps({**message, "fds": len(fds)}, separators=(",", ":")).encode() + b"\n"
    return line, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []


class Channel:
    """One end of a channel, on a stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        """Takes ownership of the socket; it stays blocking for sends, which are small."""
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
        """Reads once: the messages that are complete now, each with its descriptors under `fds`; none if nothing has
        come.

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
        ):  # the kernel has closed those that did not fit, into the buffer or into the limit of this process
            raise self._broken("descriptors of a message are missing: more than this process may have open")
        if not data:
            raise ChannelClosedError
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_MESSAGE:
            raise self._broken(f"a message of more than {MAX_MESSAGE} octets")
        return [self._message(line) for line in lines]

    @property
    def whole(self) -> bool:
        """Whether no part of a message waits for its rest."""
        return not self._buffer and not self._fds

    def close(self) -> None:
        """Closes this end."""
        self.sock.close()

    def _message(self, line: bytes) -> Message:
        try:
            message: Message = json.loads(line)
            message["fds"] = [self._fds.popleft() for _ in range(message.get("fds", 0))]
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            raise self._broken(f"not a message: {line[:80]!r}") from error
        return message

    def _broken(self, reason: str) -> ChannelBrokenError:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        return ChannelBrokenError(reason)

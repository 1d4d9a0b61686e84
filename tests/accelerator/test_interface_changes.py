"""The socket that reports changes of the interfaces of a network namespace."""

from __future__ import annotations

import errno
import os
import socket
from typing import cast

import pytest

from svcdns.accelerator.interface_changes import open_changes, read_changes


class Messages:
    """A socket with messages and errors. It is empty afterwards."""

    def __init__(self, *found: bytes | int) -> None:
        self.found = list(found)

    def recv(self, size: int) -> bytes:
        """Returns the next message, or raises the next error."""
        assert size >= 4096
        one = self.found.pop(0) if self.found else errno.EAGAIN
        if isinstance(one, bytes):
            return one
        raise OSError(one, os.strerror(one))


def test_the_socket_is_empty_before_a_change() -> None:
    with open_changes() as sock:
        assert sock.family == socket.AF_NETLINK
        read_changes(sock)
        with pytest.raises(BlockingIOError):
            sock.recv(4096)


def test_all_messages_are_read_also_after_a_loss() -> None:
    messages = Messages(b"one", errno.ENOBUFS, b"two")
    read_changes(cast("socket.socket", messages))
    assert messages.found == []


def test_another_error_is_raised() -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        read_changes(cast("socket.socket", Messages(errno.EBADF)))

"""The channel: messages with descriptors, and the end of it."""

from __future__ import annotations

import os
import socket

import pytest

from svcdns.process.channel import Channel, ChannelClosedError


def pair() -> tuple[Channel, Channel]:
    """Both ends."""
    left, right = socket.socketpair()
    right.setblocking(False)
    return Channel(left), Channel(right)


def test_messages_come_whole_and_in_order() -> None:
    """Also when several are sent before one is read."""
    left, right = pair()
    left.send({"op": "a"})
    left.send({"op": "b", "n": 1})
    assert right.receive() == [{"op": "a", "fds": []}, {"op": "b", "n": 1, "fds": []}]
    assert right.receive() == []
    left.close()
    right.close()


def test_descriptors_belong_to_their_message() -> None:
    """A descriptor that arrives is open and another number for the same file."""
    left, right = pair()
    read, write = os.pipe()
    left.send({"op": "none"})
    left.send({"op": "one"}, [write])
    os.close(write)
    messages = []
    while len(messages) < 2:
        messages += right.receive()
    os.write(messages[1]["fds"][0], b"x")
    assert os.read(read, 1) == b"x"
    for fd in (read, messages[1]["fds"][0]):
        os.close(fd)
    left.close()
    right.close()


def test_the_end_is_an_error() -> None:
    """For both sides."""
    left, right = pair()
    left.close()
    with pytest.raises(ChannelClosedError):
        right.receive()
    with pytest.raises(ChannelClosedError):
        right.send({"op": "x"})
    right.close()

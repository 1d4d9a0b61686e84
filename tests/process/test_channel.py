"""The channel between the supervisor and its children: messages, descriptors and errors."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from svcdns.process.channel import MAX_MESSAGE, Channel, ChannelBrokenError, ChannelClosedError, encoded


def pair() -> tuple[Channel, Channel]:
    """Returns the two ends of a channel."""
    left, right = socket.socketpair()
    right.setblocking(False)
    return Channel(left), Channel(right)


def test_messages_are_received_complete_and_in_order() -> None:
    left, right = pair()
    left.send({"op": "a"})
    left.send({"op": "b", "n": 1})
    assert right.receive() == [{"op": "a", "fds": []}, {"op": "b", "n": 1, "fds": []}]
    assert right.receive() == []
    left.close()
    right.close()


def test_descriptors_belong_to_their_message() -> None:
    """A received descriptor is a new number for the same open file."""
    left, right = pair()
    read, write = os.pipe()
    left.send({"op": "none"})
    left.send({"op": "one"}, [write])
    os.close(write)
    messages: list[Any] = []
    while len(messages) < 2:
        messages += right.receive()
    os.write(messages[1]["fds"][0], b"x")
    assert os.read(read, 1) == b"x"
    for fd in (read, messages[1]["fds"][0]):
        os.close(fd)
    left.close()
    right.close()


def test_a_closed_peer_is_an_error() -> None:
    left, right = pair()
    left.close()
    with pytest.raises(ChannelClosedError):
        right.receive()
    with pytest.raises(ChannelClosedError):
        right.send({"op": "x"})
    right.close()


@pytest.mark.usefixtures("_only_own_descriptors")
def test_missing_descriptors_break_the_channel() -> None:
    """If the process may not open all descriptors, it drops the message and closes the received ones."""
    left, right = pair()
    read, write = os.pipe()
    before = {one.name for one in Path("/dev/fd").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    left.send({"op": "two"}, [read, write])
    resource.setrlimit(resource.RLIMIT_NOFILE, (write + 2, hard))
    try:
        with pytest.raises(ChannelBrokenError, match="descriptors of a message are missing"):
            right.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {one.name for one in Path("/dev/fd").iterdir()} == before
    for fd in (read, write):
        os.close(fd)
    left.close()
    right.close()


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        pytest.param(b"{\n", "not a message", id="no JSON"),
        pytest.param(b"[1]\n", "not a message", id="no object"),
        pytest.param(b'{"a":' + b"[" * 50_000 + b"\n", "not a message", id="nested too deeply"),
        pytest.param(b'{"op":"x","fds":1}\n', "not a message", id="no descriptor"),
        pytest.param(b'{"op":"x","fds":"a"}\n', "not a message", id="no number of descriptors"),
        pytest.param(b"x" * (MAX_MESSAGE + 1), "a message of more than", id="too long"),
    ],
)
def test_octets_that_are_no_message_break_the_channel(octets: bytes, reason: str) -> None:
    left, right = pair()
    parts = [octets[at : at + 65536] for at in range(0, len(octets), 65536)]
    for part in parts[:-1]:
        left.sock.sendall(part)
        assert right.receive() == []
    left.sock.sendall(parts[-1])
    with pytest.raises(ChannelBrokenError, match=reason):
        right.receive()
    left.close()
    right.close()


@pytest.mark.usefixtures("_only_own_descriptors")
@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b'{"op":"x","fds":1}', id="cut off"),
        pytest.param(b'{"op":"x","fds":1}\n{\n', id="broken"),
        pytest.param(b'{"op":"x","fds":2}\n', id="another is missing"),
    ],
)
def test_no_descriptor_of_an_unread_message_stays_open(octets: bytes) -> None:
    left, right = pair()
    before = {one.name for one in Path("/dev/fd").iterdir()}
    left.sock.sendmsg([octets], encoded({}, [0])[1])
    with pytest.raises(ChannelBrokenError) if octets.endswith(b"\n") else nullcontext():
        assert right.receive() == []
    right.close()
    assert {one.name for one in Path("/dev/fd").iterdir()} < before
    left.close()

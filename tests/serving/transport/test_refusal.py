"""Listening sockets that refuse new clients."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

import pytest

from svcdns.serving.transport.refusal import refuse_connections, refuse_datagrams


def client_of(family: int, port: int) -> socket.socket:
    """Returns a datagram socket that is connected to this port on loopback."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(10)
    sock.connect(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
    return sock


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_refused_datagrams(host: str) -> None:
    """Every process with the socket refuses new datagrams. A datagram that arrived before can be read and answered."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        listening.bind((host, 0))
        listening.settimeout(10)
        port = listening.getsockname()[1]
        before, after = (stack.enter_context(client_of(family, port)) for _ in range(2))
        before.send(b"before")
        other = stack.enter_context(socket.socket(fileno=os.dup(listening.fileno())))
        refuse_datagrams(other)
        after.send(b"after")
        with pytest.raises(ConnectionRefusedError):
            after.recv(10)
        data, sender = listening.recvfrom(10)
        assert data == b"before"
        listening.sendto(b"reply", sender)
        assert before.recv(10) == b"reply"


def test_refused_connections() -> None:
    """The kernel refuses new clients, even if another process has the same socket. A second call changes nothing."""
    with socket.socket() as listening, socket.socket(fileno=os.dup(listening.fileno())) as other:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = listening.getsockname()
        socket.create_connection(address, 10).close()
        for _ in range(2):
            refuse_connections(other)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, 10)

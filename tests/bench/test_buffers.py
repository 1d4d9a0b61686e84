"""Making the receive buffers of another process smaller."""

from __future__ import annotations

import os
import socket

from bench.buffers import ORDINARY, shrink


def test_only_udp_receive_buffers_shrink() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, socket.socket() as stream:
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * ORDINARY)
        before = stream.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert shrink(os.getpid()) >= 1
        assert datagrams.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == ORDINARY
        assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before

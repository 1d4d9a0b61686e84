"""Sockets on a port that the kernel chooses."""

from __future__ import annotations

import socket


def udp_and_tcp(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """Returns a UDP socket and a TCP socket that have the same port. The TCP socket listens.

    The kernel chooses the port for TCP. Another program may have this port for UDP, so that several ports are tried.
    """
    while True:
        tcp = socket.create_server((host, 0), backlog=100)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp

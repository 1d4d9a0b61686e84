"""Makes the kernel refuse new clients of a listening socket, while the worker still answers earlier ones.

For the end of the server: both functions change the socket in every process that holds it, and cannot be undone.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress


def refuse_datagrams(sock: socket.socket) -> None:
    """Makes the kernel refuse new datagrams with an ICMP error (port unreachable, RFC 1122 §4.1.3.1).

    Waiting datagrams can still be read, and replies can still be sent. On systems other than Linux, this function does
    nothing.
    """
    if sys.platform == "linux":
        # A socket that is connected to its own address gets datagrams from that address alone (connect(2)).
        host, port, *rest = sock.getsockname()
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        with suppress(OSError):
            sock.connect((own, port, *rest))


def refuse_connections(sock: socket.socket) -> None:
    """Makes the kernel refuse new connections.

    Before this call, accept the connections that wait in the socket: the kernel resets all others.
    """
    with suppress(OSError):  # another worker that holds the socket has stopped listening already
        sock.shutdown(socket.SHUT_RDWR)

"""Makes the kernel refuse new clients of a listening socket, while the worker still answers earlier ones.

Both functions change the socket itself, not only this process's descriptor. So they have the same effect in every
process that holds the socket, and cannot be undone. They are for the end of the server.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress


def refuse_datagrams(sock: socket.socket) -> None:
    """Has the kernel refuse new datagrams with an ICMP error (port unreachable, RFC 1122 §4.1.3.1).

    Datagrams that wait in the socket can still be read, and replies to any client can still be sent. This works on
    Linux only: elsewhere, a connected socket sends to its peer alone, so this function does nothing.
    """
    if sys.platform == "linux":
        # A socket that is connected to its own address gets datagrams from that address alone (connect(2)).
        host, port, *rest = sock.getsockname()
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        with suppress(OSError):
            sock.connect((own, port, *rest))


def refuse_connections(sock: socket.socket) -> None:
    """Stops listening, so that new connections are refused.

    Accept the connections that already wait in the socket before this call, because the kernel resets them now.
    """
    with suppress(OSError):  # another worker that holds the socket has stopped listening already
        sock.shutdown(socket.SHUT_RDWR)

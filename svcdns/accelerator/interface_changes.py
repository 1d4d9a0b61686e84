"""Reports that an interface of this network namespace, or an address of one, has changed (rtnetlink(7))."""

from __future__ import annotations

import errno
import socket
from typing import Final

_LINK, _IPV4_ADDRESS, _IPV6_ADDRESS = 0x1, 0x10, 0x100
"""Groups of messages (linux/rtnetlink.h)."""
_MESSAGE_MAX: Final = 65536


def open_changes() -> socket.socket:
    """Returns a socket that becomes readable at each change. Raises OSError."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    try:
        sock.bind((0, _LINK | _IPV4_ADDRESS | _IPV6_ADDRESS))
    except OSError:
        sock.close()
        raise
    return sock


def read_changes(sock: socket.socket) -> None:
    """Reads all messages that have arrived, and ignores what they say. Raises OSError."""
    while True:
        try:
            sock.recv(_MESSAGE_MAX)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # messages were lost, which is a change too
                raise

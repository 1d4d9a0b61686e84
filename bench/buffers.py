"""Reduces the receive buffers of a running server to the kernel's default size.

A server without CAP_NET_ADMIN has buffers of this size.
"""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

from bench.dnsperf import BrokenError

ORDINARY = 212_992
"""The kernel's default, in octets: 256 small packets."""
_PIDFD_GETFD = 438


def shrink(pid: int) -> int:
    """Sets the receive buffers of all UDP sockets of a process to ORDINARY octets, and returns the number of sockets.

    Processes that share a socket share its buffer. Raises BrokenError if a socket of the process cannot be accessed.
    """
    pidfd = os.pidfd_open(pid)
    call = ctypes.CDLL(None, use_errno=True).syscall
    shrunk = 0
    try:
        for link in list(Path(f"/proc/{pid}/fd").iterdir()):
            if not link.is_socket():
                continue
            fd = call(_PIDFD_GETFD, pidfd, int(link.name), 0)
            if fd < 0:
                raise BrokenError(f"cannot access the sockets of process {pid}: {os.strerror(ctypes.get_errno())}")
            with socket.socket(fileno=fd) as sock:
                if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_DGRAM:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ORDINARY // 2)  # the kernel doubles it
                    shrunk += 1
    finally:
        os.close(pidfd)
    return shrunk

"""Listening sockets for the HTTP pages of control.

Control opens these sockets before it serves the pages, so clients wait and are not refused. Ports are shared
(SO_REUSEPORT, as in CoreDNS): in a rolling replacement, two control processes listen at the same time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from svcdns.control.unix_sockets import UnixListener, path_of
from svcdns.errors import SvcdnsError
from svcdns.log_line import LogLine

Address = tuple[str, int]
"""A host name or an IP address, and a port. An empty host means all addresses of the machine.

A host may also stand for a Unix socket (`svcdns.plugin_api.settings.UNIX`).
"""
PageSockets = dict[Address, list[socket.socket]]
"""The listening sockets of each address."""
BACKLOG = 128
Optional = Mapping[Address, str]
"""The addresses that the server can do without, each with the text that is logged if the address cannot be bound."""
NONE_OPTIONAL: Final[Optional] = MappingProxyType({})

log = logging.getLogger("svcdns")


class HttpListenError(SvcdnsError):
    """Raised if the address of an HTTP page cannot be bound."""


async def listen_all(addresses: Iterable[Address], optional: Optional = NONE_OPTIONAL) -> PageSockets:
    """Returns listening sockets for all addresses. Logs a warning for each port on which another process listens.

    An optional address that cannot be bound has no sockets. If another address cannot be bound, closes all sockets and
    raises HttpListenError.
    """
    out: PageSockets = {}
    try:
        for address in addresses:
            if address not in out:
                out[address] = await listen(address, optional, warns=True)
    except HttpListenError:
        close_all(out)
        raise
    return out


async def listen(address: Address, optional: Optional = NONE_OPTIONAL, *, warns: bool = False) -> list[socket.socket]:
    """Returns one listening socket for each IP address of the host. Raises HttpListenError.

    All sockets have the same port. For port 0, the kernel chooses the port. If an optional address cannot be bound,
    logs an error and returns no sockets. A Unix socket has no port. If `warns` is true, logs a warning if another
    process listens on the port.
    """
    host, port = address
    out: list[socket.socket] = []
    path = path_of(host)
    try:
        if path is not None:
            return [UnixListener(path)]
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, where in dict.fromkeys((one[0], one[4]) for one in found):
            if family == socket.AF_INET6 and len(found) > 1 and not socket.has_dualstack_ipv6():
                continue  # the machine has no IPv6
            sock = socket.socket(family, socket.SOCK_STREAM)
            out.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            target = (where[0], port, *where[2:])
            shared = warns and port > 0 and _is_taken(family, target)
            sock.bind(target)
            sock.listen(BACKLOG)
            port = sock.getsockname()[1]
            if shared:
                shown = f"tcp {host}:{port}"
                log.warning(
                    LogLine("another process listens on the same port: each gets a part of the requests", listen=shown)
                )
                warns = False
    except OSError as error:
        for sock in out:
            sock.close()
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        place = f"tcp {host}:{address[1]}" if path is None else f"unix {path}"
        text = f"listen {place}: bind: {reason.lower()}"
        if address not in optional:
            raise HttpListenError(text) from error
        if path is None:
            log.error("%s: %s", optional[address], text)
        else:
            log.error(LogLine("a Unix socket is not open", user=optional[address], error=text))
        return []
    return out


def _is_taken(family: int, target: tuple[str | int, ...]) -> bool:
    """Returns True if a socket listens at the address, also if that socket has SO_REUSEPORT."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind(target)
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def close_all(sockets: PageSockets) -> None:
    """Closes the sockets of all addresses."""
    for group in sockets.values():
        for sock in group:
            sock.close()

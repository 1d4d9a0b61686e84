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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
WILDCARDS: Final = ("0.0.0.0", "::")
Optional = Mapping[Address, str]
"""The addresses that the server can do without, each with the text that is logged if the address cannot be bound."""
NONE_OPTIONAL: Final[Optional] = MappingProxyType({})

log = logging.getLogger("svcdns")


class HttpListenError(SvcdnsError):
    """Raised if the address of an HTTP page cannot be bound."""


@dataclass(slots=True)
class Watch:
    """The warnings about ports on which something else listens. Pass one object to all calls of `listen` of a change.

    `kept` has the sockets of pages that this process keeps or has opened. `closing` has those that it closes later.
    """

    kept: list[socket.socket] = field(default_factory=list)
    closing: Sequence[socket.socket] = ()

    def note(self, sockets: Sequence[socket.socket], taken: Sequence[bool], shown: str) -> None:
        """Notes the sockets of an address, and logs at most one warning. `taken` says whose ports were taken before."""
        found = [sock for sock, is_taken in zip(sockets, taken, strict=True) if is_taken and not self._closes(sock)]
        if found:
            own = next((other for sock in found for other in self.kept if _overlap(sock, other)), None)
            if own is None:
                log.warning(
                    LogLine("another socket listens on the same port: each gets a part of the requests", listen=shown)
                )
            else:
                other = "tcp {}:{}".format(*own.getsockname()[:2])
                log.warning(
                    LogLine(
                        "pages have the same port and different addresses: a request reaches only one of them",
                        listen=shown,
                        other=other,
                    )
                )
        self.kept += sockets

    def _closes(self, sock: socket.socket) -> bool:
        return any(_overlap(sock, other) for other in self.closing)


def _overlap(one: socket.socket, other: socket.socket) -> bool:
    """Returns True if a connection can reach both sockets."""
    if one is other or one.family != other.family or one.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    (host, port), (other_host, other_port) = one.getsockname()[:2], other.getsockname()[:2]
    return port == other_port and (host == other_host or not {host, other_host}.isdisjoint(WILDCARDS))


async def listen_all(addresses: Iterable[Address], optional: Optional = NONE_OPTIONAL) -> PageSockets:
    """Returns listening sockets for all addresses. Logs a warning for each port on which another socket listens.

    An optional address that cannot be bound has no sockets. If another address cannot be bound, closes all sockets and
    raises HttpListenError.
    """
    out: PageSockets = {}
    watch = Watch()
    try:
        for address in addresses:
            if address not in out:
                out[address] = await listen(address, optional, watch)
    except HttpListenError:
        close_all(out)
        raise
    return out


async def listen(
    address: Address, optional: Optional = NONE_OPTIONAL, watch: Watch | None = None
) -> list[socket.socket]:
    """Returns one listening socket for each IP address of the host. Raises HttpListenError.

    All sockets have the same port. For port 0, the kernel chooses the port. If an optional address cannot be bound,
    logs an error and returns no sockets. A Unix socket has no port. With `watch`, logs a warning if something else
    listens on the port.
    """
    host, port = address
    out: list[socket.socket] = []
    taken: list[bool] = []
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
            taken.append(watch is not None and port > 0 and _is_taken(family, target))
            sock.bind(target)
            sock.listen(BACKLOG)
            port = sock.getsockname()[1]
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
    if watch is not None:
        watch.note(out, taken, f"tcp {host}:{port}")
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

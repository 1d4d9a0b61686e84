"""The listening sockets: the supervisor binds them and keeps them open, and every worker holds them.

There is one set of sockets for each worker slot, with SO_REUSEPORT: the kernel distributes clients over the sets.
Queries that wait in a socket survive the worker that reads it. An empty host means every address: there is a socket for
0.0.0.0 and one for [::].
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

RECEIVE_BUFFER: Final = 4 << 20
"""Octets of receive buffer to request.

The kernel's default holds 256 small packets, which is 13 ms at 20,000 queries a second.
"""
BACKLOG: Final = 1024

SO_RCVBUFFORCE: Final = 33
MTU_DISCOVER: Final = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
"""Level and number of Linux's options IP_MTU_DISCOVER and IPV6_MTU_DISCOVER, by address family."""
PMTUDISC_OMIT: Final = 5
IP_PKTINFO: Final = getattr(socket, "IP_PKTINFO", 8)
IPV6_RECVPKTINFO: Final = getattr(socket, "IPV6_RECVPKTINFO", 49)

Address = tuple[str, int, str]
"""Host (empty for all addresses), port, and `udp` or `tcp`."""


class ListenError(Exception):
    """Raised if a socket cannot be bound. The text of the error has the address and the reason."""


class Listening(NamedTuple):
    """A bound socket, with the fields that describe it to a worker."""

    id: int
    slot: int
    host: str
    port: int
    proto: str
    family: int
    wildcard: bool
    sock: socket.socket

    def fields(self) -> dict[str, Any]:
        """Returns the fields that a worker gets together with the socket's descriptor."""
        return {name: getattr(self, name) for name in ("id", "slot", "host", "port", "proto", "family", "wildcard")}


class Sockets:
    """All listening sockets, by worker number (slot) and address."""

    def __init__(self, log: Callable[[str], None]) -> None:
        """`log` writes one line to the log."""
        self._log = log
        self._next = 0
        self._held: dict[tuple[int, Address], list[Listening]] = {}
        self._without_ipv6 = False

    @property
    def all(self) -> list[Listening]:
        """Returns every listening socket."""
        return [one for group in self._held.values() for one in group]

    def restore(self, described: Iterable[dict[str, Any]]) -> None:
        """Takes over sockets that the program before an upgrade has opened.

        Each item of `described` has the fields of a `Listening`, and the descriptor of its socket under the key `fd`.
        """
        for fields in described:
            os.set_inheritable(fields["fd"], False)
            rest = {name: value for name, value in fields.items() if name != "fd"}
            one = Listening(**rest, sock=socket.socket(fileno=fields["fd"]))
            self._held.setdefault((one.slot, (one.host, one.port, one.proto)), []).append(one)
            self._next = max(self._next, one.id)

    def change(self, addresses: Iterable[Address], slots: int) -> tuple[list[Listening], list[Listening]]:
        """Binds a socket for each of `slots` workers on each address in `addresses`.

        Returns the new sockets, and the open sockets that are not needed any more; close these with `close`. If a
        socket cannot be bound, raises ListenError and changes nothing.
        """
        wanted = [(slot, address) for slot in range(slots) for address in dict.fromkeys(addresses)]
        new: dict[tuple[int, Address], list[Listening]] = {}
        shared = self._shared_with_others({address for _, address in wanted})
        try:
            for slot, address in wanted:
                if (slot, address) not in self._held:
                    new[slot, address] = self._bind(slot, address)
        except ListenError:
            for group in new.values():
                for one in group:
                    one.sock.close()
            raise
        for line in shared:
            self._log(line)
        unwanted = [key for key in self._held if key not in set(wanted)]
        removed = [one for key in unwanted for one in self._held.pop(key)]
        self._held.update(new)
        return [one for group in new.values() for one in group], removed

    def _shared_with_others(self, addresses: set[Address]) -> list[str]:
        """Returns a log line for each UDP port that another process has bound with SO_REUSEPORT.

        Call it before this process binds the ports. Both processes would get queries.
        """
        ours = {port for _, (_, port, proto) in self._held if proto == "udp"}
        lines = []
        for host, port, proto in sorted(addresses):
            if port not in ours and is_taken((host, port, proto)):
                shown = f"[{host}]" if ":" in host else host
                lines.append(
                    f"[WARNING] listen udp {shown}:{port}: another process listens there; each gets a part of the queries"
                )
        return lines

    @staticmethod
    def close(sockets: Iterable[Listening]) -> None:
        """Closes sockets that `change` has returned as not needed."""
        for one in sockets:
            one.sock.close()

    def _bind(self, slot: int, address: Address) -> list[Listening]:
        host, port, _ = address
        out: list[Listening] = []
        try:
            for family, bound in self._families(host):
                out += self._open(slot, address, family, bound)
        except ListenError:
            for one in out:
                one.sock.close()
            raise
        if not out:
            raise ListenError(f"listen {host}:{port}: no address family of this kernel")
        return out

    @staticmethod
    def _families(host: str) -> list[tuple[socket.AddressFamily, str]]:
        if not host:
            return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
        return [(socket.AF_INET6 if ":" in host else socket.AF_INET, host)]

    def _open(self, slot: int, address: Address, family: socket.AddressFamily, bound: str) -> list[Listening]:
        host, port, proto = address
        kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
        try:
            sock = socket.socket(family, kind)
        except OSError as error:
            return self._no_family(host, family, error)
        try:
            _prepare(sock, family, kind, wildcard=not host)
            target = socket.getaddrinfo(bound, port, family, kind, flags=socket.AI_NUMERICHOST)[0][4]
            sock.bind(target)
            if kind == socket.SOCK_STREAM:
                sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            if not host and family == socket.AF_INET6 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                return self._no_family(host, family, error)
            shown = f"[{bound}]" if ":" in bound else bound
            reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
            raise ListenError(f"listen {proto} {shown}:{port}: bind: {reason}") from error
        self._next += 1
        number = 6 if family == socket.AF_INET6 else 4
        return [Listening(self._next, slot, host, port, proto, number, not host, sock)]

    def _no_family(self, host: str, family: socket.AddressFamily, error: OSError) -> list[Listening]:
        if host or family != socket.AF_INET6:
            raise ListenError(f"listen {host}: {error.strerror}") from error
        if not self._without_ipv6:
            self._without_ipv6 = True
            self._log("[INFO] This kernel has no IPv6: listening on IPv4 alone")
        return []


def is_taken(address: Address) -> bool:
    """Returns True if the address is a UDP port to which a socket is bound, even with SO_REUSEPORT."""
    host, port, proto = address
    if proto != "udp" or not port:
        return False
    family, bound = (socket.AF_INET6, host) if ":" in host else (socket.AF_INET, host or "0.0.0.0")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(socket.getaddrinfo(bound, port, family, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0][4])
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def _prepare(sock: socket.socket, family: socket.AddressFamily, kind: socket.SocketKind, *, wildcard: bool) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if kind == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if kind == socket.SOCK_DGRAM:
        _ignore_path_mtu(sock, family)
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if wildcard and family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        elif wildcard:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)


def _ignore_path_mtu(sock: socket.socket, family: socket.AddressFamily) -> None:
    """Makes the kernel ignore the path MTU in ICMP messages, because anybody can forge them.

    Does nothing on systems other than Linux.
    """
    if sys.platform == "linux":
        level, option = MTU_DISCOVER[family]
        with contextlib.suppress(OSError):  # old kernels do not have the option
            sock.setsockopt(level, option, PMTUDISC_OMIT)

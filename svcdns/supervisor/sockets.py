"""The listening sockets: the supervisor binds them and keeps them open, and every worker holds them.

There is one set of sockets for each worker slot, with SO_REUSEPORT: the kernel distributes clients over the sets.
Queries that wait in a socket survive the worker that reads it. An empty host means every address: there is a socket for
0.0.0.0 and one for [::].
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from svcdns.log_line import LogLine
from svcdns.process.shared_memory import ENCRYPTED_SLOT
from svcdns.supervisor.early_sockets import Address, EarlySocket, families, is_taken, open_port


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

    def adopt(self, early: Iterable[EarlySocket]) -> list[Listening]:
        """Takes over the first worker's sockets that were bound at the beginning of the start, and returns them."""
        out = []
        for host, port, proto, family, descriptor in early:
            self._next += 1
            sock = socket.socket(fileno=descriptor)
            sock.setblocking(False)
            out.append(Listening(self._next, 0, host, port, proto, family, not host, sock))
            self._held.setdefault((0, (host, port, proto)), []).append(out[-1])
        return out

    def change(
        self, addresses: Iterable[Address], slots: int, encrypted: Iterable[Address] = ()
    ) -> tuple[list[Listening], list[Listening]]:
        """Binds a socket for each of `slots` workers on each address in `addresses`.

        The addresses `encrypted` get one socket, for the worker for encrypted transports.

        Returns the new sockets, and the open sockets that are not needed any more; close these with `close`. If a
        socket cannot be bound, raises ListenError and changes nothing.
        """
        wanted = [(slot, address) for slot in range(slots) for address in dict.fromkeys(addresses)]
        wanted += [(ENCRYPTED_SLOT, address) for address in dict.fromkeys(encrypted)]
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
        lines: list[str] = []
        for host, port, proto in sorted(addresses):
            if port not in ours and is_taken((host, port, proto)):
                shown = f"[{host}]" if ":" in host else host
                lines.append(
                    LogLine(
                        "[WARNING] another process listens on the same port: each gets a part of the queries",
                        listen=f"udp {shown}:{port}",
                    )
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
            for family, bound in families(host):
                out += self._open(slot, address, family, bound)
        except ListenError:
            for one in out:
                one.sock.close()
            raise
        if not out:
            raise ListenError(f"listen {host}:{port}: no address family of this kernel")
        return out

    def _open(self, slot: int, address: Address, family: int, bound: str) -> list[Listening]:
        host, port, proto = address
        kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
        try:
            sock = socket.socket(family, kind)
        except OSError as error:
            return self._no_family(host, family, error)
        try:
            target = socket.getaddrinfo(bound, port, family, kind, flags=socket.AI_NUMERICHOST)[0][4]
            open_port(sock, target, wildcard=not host)
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

    def _no_family(self, host: str, family: int, error: OSError) -> list[Listening]:
        if host or family != socket.AF_INET6:
            raise ListenError(f"listen {host}: {error.strerror}") from error
        if not self._without_ipv6:
            self._without_ipv6 = True
            self._log("[INFO] This kernel has no IPv6: listening on IPv4 alone")
        return []

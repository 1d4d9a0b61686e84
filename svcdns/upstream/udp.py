"""Queries to one server over UDP; each has a socket and a random source port of its own (RFC 5452 §9.2).

The socket is connected. So the kernel picks the port, at random over its ephemeral range and from its own generator
(Linux `udp_lib_get_port`), drops packets from other addresses and ports, and reports a closed port at once. A port
serves one query, for an attacker who has found it out must not use it against the next query. On Linux the socket
itself is reused, because making one costs more than sending a query: after the reply it is disconnected, which gives up
the port (udp(7), connect(2) with AF_UNSPEC), and the next query connects it again, to another port. Only a socket that
received nothing but its reply is reused.

Packets that do not match the query are dropped and counted. After MAX_FOREIGN of them on one port, an attacker is taken
to know the port: the query fails with SpoofedError, and the caller must repeat it over TCP.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import sys
from collections.abc import Callable
from typing import Final

from svcdns.eventloop.loop import add_drain, remove_drain
from svcdns.upstream.query import (
    MAX_DATAGRAM,
    Address,
    Completed,
    ExchangeError,
    UpstreamQuery,
    address_text,
    deliver,
    random_id,
    report,
    system_error,
    timeout_error,
)
from svcdns.wire.message import Message

MAX_FOREIGN: Final = 64
"""Foreign packets that one query takes. With so many, a guess of the message ID succeeds once in 1024 times."""
MAX_SPARE: Final = 256
"""Disconnected sockets of a server that are kept for its next queries."""
_NONBLOCK: Final = int(getattr(socket, "SOCK_NONBLOCK", 0))
_REUSE: Final = sys.platform == "linux"
_disconnect: Final = ctypes.PyDLL(None).connect
_UNSPEC_SIZE: Final = 16
_UNSPEC: Final = ctypes.c_char_p(bytes(_UNSPEC_SIZE))
"""A `struct sockaddr` of the family AF_UNSPEC."""


class SpoofedError(ExchangeError):
    """Too many foreign packets came: somebody outside knows the port of the query."""


class UdpSocket:
    """A socket for one query at a time; `completed` is None while it has none."""

    __slots__ = ("_ident", "_query", "_sockets", "completed", "foreign", "sock")

    def __init__(self, sockets: UdpSockets, sock: socket.SocketType) -> None:
        self._sockets, self.sock = sockets, sock
        self._query: UpstreamQuery | None = None
        self._ident = self.foreign = 0
        self.completed: Completed | None = None

    def send(self, query: UpstreamQuery, server: Address, completed: Completed) -> None:
        """Sends the query. Raises OSError."""
        self._query, self._ident = query, random_id()
        self.sock.connect(server)
        self.sock.send(query.packet(self._ident))
        self.completed = completed

    def read(self) -> None:
        """Reads one packet, so that the sockets of other queries get their turn.

        Never raises: the selector calls this.
        """
        completed, query, sockets = self.completed, self._query, self._sockets
        if completed is None or query is None:
            sockets.discard(self)
            return
        try:
            packet = self.sock.recv(MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError as error:
            sockets.cancel(self)
            deliver(completed, system_error(sockets.server, error))
            return
        if query.matches(self._ident, packet):
            sockets.release(self)
            try:
                completed(packet)
            except Exception as error:  # noqa: BLE001 - as in `deliver`, without a call for each reply
                report(error)
            return
        sockets.count_foreign()
        self.foreign += 1
        if self.foreign >= MAX_FOREIGN:
            sockets.cancel(self)
            deliver(completed, SpoofedError(f"{address_text(sockets.server)}: too many foreign replies"))


class UdpSockets:
    """The sockets of all open queries to one server."""

    def __init__(self, server: Address, source: str = "", count_foreign: Callable[[], None] = lambda: None) -> None:
        """`source` is the local address, "" for the kernel's choice.

        `count_foreign` is called for each foreign packet.
        """
        self.server, self.count_foreign, self._source = server, count_foreign, source
        self._family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._in_use: set[UdpSocket] = set()
        self._spare: list[UdpSocket] = []
        self._single_use = bool(source) or not _REUSE
        """True if no socket is reused."""

    def __len__(self) -> int:
        """The number of open queries."""
        return len(self._in_use)

    def send(self, query: UpstreamQuery, completed: Completed) -> UdpSocket:
        """Sends a query; `completed` is never called within. Raises ExchangeError."""
        used = None
        try:
            used = self._spare.pop() if self._spare else self._open()
            used.send(query, self.server, completed)
        except OSError as error:
            if used is not None:
                self._close(used)
            raise system_error(self.server, error) from error
        self._in_use.add(used)
        return used

    def _open(self) -> UdpSocket:
        sock = socket.SocketType(self._family, socket.SOCK_DGRAM | _NONBLOCK)  # half the cost of a socket.socket
        try:
            if not _NONBLOCK:
                sock.setblocking(False)
            if self._source:
                sock.bind((self._source, 0))
        except OSError:
            sock.close()
            raise
        opened = UdpSocket(self, sock)
        add_drain(asyncio.get_running_loop(), sock, opened.read)
        return opened

    def cancel(self, used: UdpSocket) -> None:
        """Ends the wait for a reply, and closes the socket."""
        if used.completed is not None:
            used.completed = None
            self._in_use.discard(used)
            self._close(used)

    def release(self, used: UdpSocket) -> None:
        """Gives up the port of an answered query, and keeps the socket if it may be reused."""
        if (
            self._single_use
            or used.foreign
            or len(self._spare) >= MAX_SPARE
            or _disconnect(used.sock.fileno(), _UNSPEC, _UNSPEC_SIZE)
        ):
            self.cancel(used)
            return
        used.completed = None
        self._in_use.discard(used)
        self._spare.append(used)

    def discard(self, spare: UdpSocket) -> None:
        """Closes a spare socket that received a packet, most likely a second reply."""
        self.count_foreign()
        if spare in self._spare:
            self._spare.remove(spare)
            self._close(spare)

    def stop(self) -> None:
        """Closes the spare sockets, and keeps none from now on. Open queries go on."""
        self._single_use = True
        while self._spare:
            self._close(self._spare.pop())

    @staticmethod
    def _close(closed: UdpSocket) -> None:
        remove_drain(asyncio.get_running_loop(), closed.sock)
        closed.sock.close()


async def exchange_over_udp(query: UpstreamQuery, server: Address, timeout: float, source: str = "") -> Message:
    """The server's reply, within `timeout` seconds. Raises ExchangeError."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes | ExchangeError] = loop.create_future()
    sockets = UdpSockets(server, source)

    def completed(outcome: bytes | ExchangeError) -> None:
        if not done.done():
            done.set_result(outcome)

    used = sockets.send(query, completed)
    timer = loop.call_later(timeout, completed, timeout_error(server))
    try:
        outcome = await done
    finally:
        timer.cancel()
        sockets.cancel(used)
        sockets.stop()
    if isinstance(outcome, ExchangeError):
        raise outcome
    return query.decode(outcome)

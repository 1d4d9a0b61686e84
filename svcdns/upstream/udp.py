"""Sends queries to one server over UDP, each from a random source port (RFC 5452 §9.2).

The kernel chooses the port when a socket is connected, and drops packets from other addresses. Rules:

1. A port is used for one query only. On Linux, the socket is then disconnected and used again with another port.
2. A packet that is not the reply is dropped and counted. After MAX_DROPPED such packets on one port, the query fails
   with SpoofedError.
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
    Dropped,
    ExchangeError,
    Received,
    UpstreamQuery,
    as_message,
    deliver,
    lying_error,
    random_id,
    report,
    system_error,
    timeout_error,
)
from svcdns.wire.message import Message

MAX_DROPPED: Final = 16
"""The most packets that are dropped for one query.

An attacker who guesses this many message IDs of one query succeeds with a probability of 1/4096.
"""
MAX_SPARE: Final = 256
"""The most disconnected sockets that are kept for the next queries to a server."""
_NONBLOCK: Final = int(getattr(socket, "SOCK_NONBLOCK", 0))
_REUSE: Final = sys.platform == "linux"
_disconnect: Final = ctypes.PyDLL(None).connect
_UNSPEC_SIZE: Final = 16
_UNSPEC: Final = ctypes.c_char_p(bytes(_UNSPEC_SIZE))
"""A `struct sockaddr` of the family AF_UNSPEC; a connect(2) with it disconnects a socket."""


class UdpSocket:
    """A socket for one query at a time.

    `completed` is None while the socket has no query. `dropped` is the number of packets that were dropped for the
    query.
    """

    __slots__ = ("_query", "_sockets", "completed", "dropped", "ident", "sock")

    def __init__(self, sockets: UdpSockets, sock: socket.SocketType) -> None:
        self._sockets, self.sock = sockets, sock
        self._query: UpstreamQuery | None = None
        self.ident = self.dropped = 0
        self.completed: Completed | None = None

    def begin(self, query: UpstreamQuery, ident: int, completed: Completed) -> None:
        """Waits for the reply to a query that was sent with the message ID `ident`."""
        self._query, self.ident, self.completed = query, ident, completed

    @property
    def local_address(self) -> tuple[str, int]:
        """Returns the address and port from which the query was sent."""
        host, port = self.sock.getsockname()[:2]
        return host, port

    def read(self) -> None:
        """Reads one packet.

        Never raises an exception, because the event loop's selector calls this method.
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
        received = query.read(self.ident, packet)
        if not isinstance(received, Dropped):
            sockets.release(self)
            try:
                completed(received)
            except Exception as error:  # noqa: BLE001 - as in `deliver`, without a call for each reply
                report(error)
            return
        self.dropped += 1
        sockets.dropped(received, self)
        if self.dropped >= MAX_DROPPED:
            self.fail(received)

    def fail(self, reason: Dropped) -> None:
        """Ends the query with a SpoofedError, if it is still open. `reason` states why a packet was dropped."""
        completed = self.completed
        if completed is not None:
            self._sockets.cancel(self)
            deliver(completed, lying_error(self._sockets.server, reason))


def _ignore(_reason: Dropped, _used: UdpSocket | None) -> None:
    """Does nothing with a packet that was dropped."""


class UdpSockets:
    """The sockets of all open queries to one server."""

    def __init__(
        self, server: Address, source: str = "", dropped: Callable[[Dropped, UdpSocket | None], None] = _ignore
    ) -> None:
        """`source` is the local address. If it is empty, the kernel chooses one.

        `dropped` is called for each dropped packet, with the reason and the socket. The socket is None if it has no
        query any more.
        """
        self.server, self.dropped, self._source = server, dropped, source
        self._family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._in_use: set[UdpSocket] = set()
        self._spare: list[UdpSocket] = []
        self._single_use = bool(source) or not _REUSE
        """True if each socket is closed after one query; False if sockets are used again."""

    def __len__(self) -> int:
        """Returns the number of open queries."""
        return len(self._in_use)

    def send(self, query: UpstreamQuery, completed: Completed) -> UdpSocket:
        """Sends a query. Raises ExchangeError. `completed` is called only after this method has returned."""
        used, server = None, self.server
        try:
            used = self._spare.pop() if self._spare else self._open()
            sock, ident = used.sock, random_id()
            sock.connect(server)
            sock.send(ident.to_bytes(2, "big") + query.wire)
            used.begin(query, ident, completed)
        except OSError as error:
            if used is not None:
                self._close(used)
            raise system_error(self.server, error) from error
        self._in_use.add(used)
        return used

    def _open(self) -> UdpSocket:
        sock = socket.SocketType(self._family, socket.SOCK_DGRAM | _NONBLOCK)  # costs half of what socket.socket costs
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
        """Cancels the query of a socket, and closes the socket."""
        if used.completed is not None:
            used.completed = None
            self._in_use.discard(used)
            self._close(used)

    def release(self, used: UdpSocket) -> None:
        """Disconnects the socket of an answered query, which releases its port. The socket may be used again."""
        if (
            self._single_use
            or used.dropped
            or len(self._spare) >= MAX_SPARE
            or _disconnect(used.sock.fileno(), _UNSPEC, _UNSPEC_SIZE)
        ):
            self.cancel(used)
            return
        used.completed = None
        self._in_use.discard(used)
        self._spare.append(used)

    def discard(self, spare: UdpSocket) -> None:
        """Closes a disconnected socket that received a packet."""
        self.dropped(Dropped.LATE, None)
        if spare in self._spare:
            self._spare.remove(spare)
            self._close(spare)

    def stop(self) -> None:
        """Closes the disconnected sockets. The other sockets are closed after the reply to their query."""
        self._single_use = True
        while self._spare:
            self._close(self._spare.pop())

    @staticmethod
    def _close(closed: UdpSocket) -> None:
        remove_drain(asyncio.get_running_loop(), closed.sock)
        closed.sock.close()


async def exchange_over_udp(query: UpstreamQuery, server: Address, timeout: float, source: str = "") -> Message:
    """Sends a query, and returns the server's reply. `timeout` is in seconds. Raises ExchangeError."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Received | ExchangeError] = loop.create_future()
    sockets = UdpSockets(server, source)

    def completed(outcome: Received | ExchangeError) -> None:
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
    return as_message(outcome)

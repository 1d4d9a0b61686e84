"""Sends queries to one server over persistent TCP or TLS connections (RFC 7766 §6.2.1).

A `Connector` opens the connections. A connection has several open queries, and replies arrive in any order. Rules:

1. If a connection ends before a reply, its query is sent again over another connection, at most MAX_RESENDS times. If
   the connection had no reply at all, the limit is MAX_RESENDS_UNANSWERED.
2. If a server closes connections while queries are open, each later connection has one open query at a time.
3. If a query times out, and no reply has arrived on its connection since it was sent, the connection is closed.
4. A message that is not a reply to an open query is dropped and counted. After MAX_DROPPED such messages, the
   connection is closed, and its queries fail with SpoofedError.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from svcdns.eventloop.clock import Clock
from svcdns.eventloop.stream import SocketTransport
from svcdns.upstream.query import (
    Address,
    Completed,
    Dropped,
    ExchangeError,
    UpstreamQuery,
    address_text,
    deliver,
    lying_error,
    random_id,
    system_error,
    timeout_error,
)
from svcdns.wire.tcp_framing import framed, take_message

MAX_PIPELINED: Final = 64
"""The most open queries on a connection. A further query opens another connection."""
MAX_CONNECTIONS: Final = 8
"""The most connections to one server. When all of them are open, a query uses the one with the fewest open queries."""
MAX_RESENDS: Final = 2
MAX_RESENDS_UNANSWERED: Final = 1
MAX_DROPPED: Final = 16
"""The most messages of a connection that are dropped."""
MAX_CANCELLED: Final = 256
"""The most cancelled queries on a connection whose message IDs stay reserved, because their replies may still come."""
CHUNK: Final = 4096
"""The most octets of one read if the event loop's selector reads the connection's socket."""
LARGE_CHUNK: Final = 65536
"""As CHUNK, while a part of a message waits in the buffer: so a large message takes few reads."""
EXPIRY_SLACK: Final = 0.1
"""Seconds after its expiry at which an idle connection is closed."""

Connector = Callable[["Callable[[], Connection]"], Awaitable[object]]
"""A function that opens a connection to the server. Its argument is a factory of the protocol. Raises OSError."""


class ConnectionOptions(msgspec.Struct, frozen=True):
    """How long connections are kept. Times are in seconds.

    A connection may be idle for `expire`, and exist for `max_age` (0 for no limit). `max_idle` is the greatest number
    of idle connections (0 for no limit). `connect_timeout` limits the time for opening a connection.
    """

    expire: float = 10.0
    max_age: float = 0.0
    max_idle: int = 0
    connect_timeout: float = 2.0


class TcpQuery:
    """An open query on a connection."""

    __slots__ = ("completed", "connection", "dropped", "ident", "query", "resent", "sent_at")

    def __init__(self, query: UpstreamQuery, completed: Completed, sent_at: float) -> None:
        self.query, self.completed, self.sent_at, self.resent = query, completed, sent_at, 0
        self.connection: Connection | None = None
        self.ident, self.dropped = -1, 0

    @property
    def local_address(self) -> tuple[str, int] | None:
        """Returns the address and port of the connection, or None if they are not known."""
        return None if self.connection is None else self.connection.local_address

    def fail(self, reason: Dropped) -> None:
        """Ends the query with a SpoofedError, if it is still open. `reason` states why a message was dropped."""
        if self.connection is not None and self.connection.open_queries.get(self.ident) is self:
            self.connection.connections.fail(self, reason)


class Connection(asyncio.Protocol):
    """One connection to the server, open or being opened."""

    def __init__(self, connections: UpstreamConnections, now: float) -> None:
        self.connections, self.opened_at, self.idle_since, self.last_received = connections, now, now, now
        self.open_queries: dict[int, TcpQuery] = {}
        self.cancelled: set[int] = set()
        self.answered = self.dropped = 0
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._unsent = bytearray()
        self._received = bytearray()
        self._fd = -1
        """The socket's descriptor if this object reads the socket itself; -1 for a TLS connection."""
        self._read_error: OSError | None = None

    @property
    def connected(self) -> bool:
        """Returns True if the connection is open."""
        return self._transport is not None

    @property
    def local_address(self) -> tuple[str, int] | None:
        """Returns the address and port of this end, or None if they are not known."""
        name = None if self._transport is None else self._transport.get_extra_info("sockname")
        return name[:2] if isinstance(name, tuple) else None

    def send(self, sent: TcpQuery) -> None:
        """Sends a query, or stores it until the connection is open."""
        while sent.ident < 0 or sent.ident in self.open_queries or sent.ident in self.cancelled:
            sent.ident = random_id()
        sent.connection = self
        self.open_queries[sent.ident] = sent
        packet = framed(sent.query.packet(sent.ident))
        if self._transport is None:
            self._unsent += packet
        else:
            self._transport.write(packet)

    def close(self) -> None:
        """Closes the connection."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def drop_query(self, sent: TcpQuery) -> None:
        """Notes that nobody waits for the reply to a query any more."""
        self.cancelled.add(sent.ident)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the queries that wait."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self.closed:
            transport.abort()
            return
        self.opened_at = self.last_received = self.connections.clock()
        if isinstance(transport, SocketTransport):
            self._fd = transport.fd
            transport.resume_reading()
        if self._unsent:
            transport.write(bytes(self._unsent))
            self._unsent.clear()

    def readable(self) -> None:
        """Reads the socket of a connection without TLS. Never raises an exception, as `UdpSocket.read`."""
        transport = self._transport
        assert transport is not None
        try:
            data = os.read(self._fd, LARGE_CHUNK if self._received else CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._read_error = error
            transport.abort()
            return
        if data:
            self.data_received(data)
        else:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Reads the octets of replies."""
        self.last_received = self.connections.clock()
        if not self._received and len(data) == 2 + int.from_bytes(data[:2], "big") and not self.closed:
            self._message(data[2:])  # the usual case: one whole message
            return
        self._received += data
        while not self.closed and (packet := take_message(self._received)) is not None:
            self._message(packet)

    def _message(self, packet: bytes) -> None:
        ident = int.from_bytes(packet[:2], "big")
        sent = self.open_queries.get(ident) if len(packet) > 1 else None
        if sent is None:
            if ident in self.cancelled and len(packet) > 1:
                self.cancelled.discard(ident)
            else:
                only = next(iter(self.open_queries.values())) if len(self.open_queries) == 1 else None
                self._drop(Dropped.ID if len(packet) > 1 else Dropped.MALFORMED, only)
            return
        received = sent.query.read(ident, packet)
        if isinstance(received, Dropped):
            self._drop(received, sent)
            return
        del self.open_queries[ident]
        self.answered += 1
        self.connections.query_ended(self)
        deliver(sent.completed, received)

    def _drop(self, reason: Dropped, sent: TcpQuery | None) -> None:
        self.dropped += 1
        if sent is not None:
            sent.dropped += 1
        self.connections.dropped(reason, sent)
        if self.dropped >= MAX_DROPPED:
            self.connections.give_up(self, reason)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection has ended."""
        self.closed = True
        self.connections.connection_ended(self, exc or self._read_error)


def _ignore(_reason: Dropped, _sent: TcpQuery | None) -> None:
    """Does nothing with a message that was dropped."""


class UpstreamConnections:
    """The connections to one server."""

    def __init__(
        self,
        server: Address,
        options: ConnectionOptions,
        clock: Clock,
        connector: Connector,
        dropped: Callable[[Dropped, TcpQuery | None], None] = _ignore,
        connection: Callable[[UpstreamConnections, float], Connection] = Connection,
    ) -> None:
        """`connection(self, now)` returns a new connection.

        `dropped(reason, query)` is called for each dropped message. `query` is the open query that the message belongs
        to, or None if that is not known.
        """
        self.server, self._options, self.clock, self._connector = server, options, clock, connector
        self.dropped, self._make = dropped, connection
        self._open: list[Connection] = []
        self._max_pipelined = MAX_PIPELINED
        self._opening: set[asyncio.Task[None]] = set()
        self._expiry: asyncio.TimerHandle | None = None
        """Calls `_expire`. It runs while a connection is idle."""

    def __len__(self) -> int:
        """Returns the number of connections that are open or being opened."""
        return len(self._open)

    def send(self, query: UpstreamQuery, completed: Completed) -> tuple[TcpQuery, bool]:
        """Sends a query. `completed` is called only after this method has returned.

        Returns the open query, and whether an existing connection was used.
        """
        sent = TcpQuery(query, completed, self.clock())
        return sent, self._send(sent)

    def cancel(self, sent: TcpQuery, *, timed_out: bool) -> None:
        """Cancels the open query `sent`.

        If `timed_out` is true, and nothing has arrived on the connection since the query was sent, closes the
        connection.
        """
        connection = sent.connection
        if connection is None or connection.open_queries.pop(sent.ident, None) is None:
            return
        connection.drop_query(sent)
        if (timed_out and connection.last_received <= sent.sent_at) or len(connection.cancelled) > MAX_CANCELLED:
            connection.close()
        else:
            self.query_ended(connection)

    def fail(self, sent: TcpQuery, reason: Dropped) -> None:
        """Ends the open query `sent` with a SpoofedError. `reason` states why a message was dropped."""
        self.cancel(sent, timed_out=False)
        deliver(sent.completed, lying_error(self.server, reason))

    def give_up(self, connection: Connection, reason: Dropped) -> None:
        """Closes a connection on which too many messages were dropped.

        The connection's open queries end with SpoofedError.
        """
        open_queries = self._remove(connection)
        connection.close()
        for sent in open_queries:
            deliver(sent.completed, lying_error(self.server, reason))

    def resend(self, sent: TcpQuery, connection: Connection, reason: str) -> None:
        """Sends a query again over another connection, or ends it if it has been sent too often.

        `connection` is the connection that has not answered the query, for `reason`.
        """
        if sent.resent < (MAX_RESENDS if connection.answered else MAX_RESENDS_UNANSWERED):
            sent.resent += 1
            sent.ident = -1
            self._send(sent)
        else:
            deliver(sent.completed, ExchangeError(f"{address_text(self.server)}: {reason}"))

    def retire(self, connection: Connection) -> None:
        """Sends no more queries over a connection, which stays open while it has open queries."""
        if connection in self._open:
            self._open.remove(connection)

    def limit_open_queries(self, most: int) -> None:
        """Has at most `most` open queries on each connection, because the server permits no more."""
        self._max_pipelined = max(1, min(self._max_pipelined, most))

    def stop(self) -> None:
        """Closes each connection when it has no open query."""
        self._options = msgspec.structs.replace(self._options, expire=0.0)
        for connection in tuple(self._open):
            self.query_ended(connection)

    def query_ended(self, connection: Connection) -> None:
        """Called when a query on the connection has ended.

        Closes an idle connection if there are more idle connections than the options allow.
        """
        if connection.open_queries:
            return
        if connection not in self._open:
            connection.close()
            return
        connection.idle_since = self.clock()
        options = self._options
        if options.expire <= 0 or (options.max_idle and self._idle > options.max_idle):
            self._close(connection)
        elif self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(options.expire + EXPIRY_SLACK, self._expire)

    @property
    def _idle(self) -> int:
        return sum(not one.open_queries for one in self._open)

    def connection_ended(self, connection: Connection, reason: Exception | None) -> None:
        """Called when a connection has ended. Sends its open queries again over another connection."""
        text = f"connection ended: {reason}" if reason is not None else "connection ended"
        open_queries = self._remove(connection)
        if open_queries and connection.answered:
            self._max_pipelined = 1
        for sent in open_queries:
            self.resend(sent, connection, text)

    def _remove(self, connection: Connection) -> tuple[TcpQuery, ...]:
        """Removes a connection, and returns its open queries."""
        if connection in self._open:
            self._open.remove(connection)
        open_queries = tuple(connection.open_queries.values())
        connection.open_queries.clear()
        return open_queries

    def _send(self, sent: TcpQuery) -> bool:
        connection = self._choose()
        existing = connection is not None
        if connection is None:
            connection = self._make(self, self.clock())
            self._open.append(connection)
            task = asyncio.ensure_future(self._connect(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        connection.send(sent)
        return existing

    def _choose(self) -> Connection | None:
        """Returns the connection with the fewest open queries, or None if another connection should be opened.

        Of several idle connections, returns the one that has been idle longest.
        """
        options = self._options
        if len(self._open) == 1 and not options.max_age:  # as below, with fewer calls
            only = self._open[0]
            waiting = len(only.open_queries)
            if not only.closed and (waiting or only.idle_since >= self.clock() - options.expire):
                return only if waiting < self._max_pipelined else None
        self._close_expired()
        usable = [one for one in self._open if not self._is_too_old(one)]
        if not usable:
            return None
        best = min(usable, key=lambda one: (len(one.open_queries), one.idle_since))
        return best if len(best.open_queries) < self._max_pipelined or len(self._open) >= MAX_CONNECTIONS else None

    async def _connect(self, connection: Connection) -> None:
        reason: ExchangeError
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                await self._connector(lambda: connection)
        except TimeoutError:
            reason = timeout_error(self.server)
        except OSError as error:
            reason = system_error(self.server, error)
        else:
            return
        connection.closed = True
        for sent in self._remove(connection):
            deliver(sent.completed, reason)

    def _close_expired(self) -> None:
        latest = self.clock() - self._options.expire
        for connection in tuple(self._open):
            idle = not connection.open_queries
            if connection.closed or (idle and (connection.idle_since < latest or self._is_too_old(connection))):
                self._close(connection)

    def _expire(self) -> None:
        """Closes expired connections. Starts the timer again for the idle connection that expires next.

        One timer for all queries: a timer for each query would end the selector's wait, and fill the loop's heap.
        """
        self._expiry = None
        self._close_expired()
        idle = [one.idle_since for one in self._open if not one.open_queries]
        if idle:
            wait = min(idle) + self._options.expire + EXPIRY_SLACK - self.clock()
            self._expiry = asyncio.get_running_loop().call_later(wait, self._expire)

    def _is_too_old(self, connection: Connection) -> bool:
        return 0 < self._options.max_age < self.clock() - connection.opened_at

    def _close(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.remove(connection)
        connection.close()


def tcp_connector(server: Address, source: str = "") -> Connector:
    """Returns a function that opens unencrypted TCP connections. `source` is the local address, or empty for any.

    The event loop's selector reads the sockets, because asyncio's own transports take more CPU time.
    """
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET

    async def connect(factory: Callable[[], Connection]) -> object:
        loop = asyncio.get_running_loop()
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source:
                sock.bind((source, 0))
            await loop.sock_connect(sock, server)
        except BaseException:
            sock.close()
            raise
        return SocketTransport(loop, sock, factory())

    return connect

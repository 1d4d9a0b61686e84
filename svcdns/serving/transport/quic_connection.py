"""One QUIC connection of a client, without sockets and without its application protocol (`quic`, `https3`)."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from svcdns.eventloop.timer_wheel import Timer, TimerWheel, cancel
from svcdns.plugin_api.query import Client
from svcdns.quic.connection import BoundedConnection
from svcdns.serving.metrics import ShedReason
from svcdns.serving.transport.encrypted import Endpoint
from svcdns.serving.transport.udp_batch import Sender

MAX_UNREAD: Final = 512 << 10
"""The octets of replies that a client may leave unacknowledged before its connection is closed."""
MAX_RESETS: Final = 100
"""A client may cancel this many more queries than it lets finish."""
MAX_WAITING: Final = 64 << 10
"""The unacknowledged octets of a reply of several messages, after which its next message waits."""


class Server(Protocol):
    """The methods of `quic_server.QuicServer` that a connection of its listener calls."""

    endpoint: Endpoint
    kind: Kind
    timers: TimerWheel

    @property
    def is_finishing(self) -> bool:
        """Returns True if each connection is closed when its queries are answered."""
        ...

    def answer(self, connection: ServerConnection, stream: int, packet: bytes) -> None:
        """Calls `connection.pass_on` for a query, at once or when fewer queries are open."""
        ...

    def answered(self) -> None:
        """Counts a query as answered."""
        ...

    def add_id(self, number: bytes, connection: ServerConnection) -> None:
        """Lets datagrams with the connection ID `number` go to `connection`."""
        ...

    def remove_id(self, number: bytes, connection: ServerConnection) -> None:
        """Lets datagrams with the connection ID `number` be dropped."""
        ...

    def established(self, connection: ServerConnection) -> None:
        """Counts the handshake of a connection as complete."""
        ...

    def uncount(self, connection: ServerConnection) -> None:
        """Leaves a connection out of the limits, because it is about to be closed."""
        ...

    def remove(self, connection: ServerConnection) -> None:
        """Removes a connection that has ended."""
        ...

    def failed(self, error: Exception) -> None:
        """Logs an error that a datagram has caused in aioquic."""
        ...

    def count_shed(self, reason: ShedReason) -> None:
        """Counts, in a metric, a connection that was closed because of a limit."""
        ...

    def note_change(self, connection: ServerConnection) -> None:
        """Sends the connection's datagrams soon."""
        ...


class Kind(Protocol):
    """An application protocol over QUIC: its name, its error codes, and the default limits of CoreDNS."""

    alpn: str
    no_error: int
    internal_error: int
    excessive_load: int
    default_connections: int
    default_streams: int
    max_uni_streams: int
    default_pool: int
    """The default of `worker_pool_size`, or 0 for no limit."""

    def connection(self, server: Server, client: Client, key: bytes, sender: Sender) -> ServerConnection:
        """Returns the object for a new connection."""
        ...


class ServerConnection:
    """A client's connection. Derived classes override `handle`, `dispatch` and `started`."""

    def __init__(self, server: Server, client: Client, key: bytes, sender: Sender) -> None:
        """`key` is the `client_key` of the client. `sender` is the source of its datagrams."""
        self.server, self.client, self.key, self.sender = server, client, key, sender
        self.ids: set[bytes] = set()
        self.established = self.ended = False
        self.waiting: set[int] = set()
        """The streams whose queries are not answered yet."""
        self._partial: dict[int, float] = {}
        """The streams with a part of a query, and the times at which they expire, the earliest first."""
        self._finishing = False
        self._resets = self._unread = 0
        """An upper bound of the octets that the client has not acknowledged."""
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self.acknowledged: list[asyncio.Future[None]] = []
        """Futures that replies of several messages wait for. They are completed after each datagram of the client."""

    def begin(self, configuration: QuicConfiguration, original: bytes, retried: bytes | None, now: float) -> None:
        """Prepares for the first datagram. `original` and `retried` are IDs as in RFC 9000 §7.3."""
        kind = self.server.kind
        streams = self.server.endpoint.limits.max_streams or kind.default_streams
        self.quic = BoundedConnection(
            configuration,
            max_streams=streams,
            max_uni_streams=kind.max_uni_streams,
            original_destination_connection_id=original,
            retry_source_connection_id=retried,
        )
        self._handshake_ends = now + self.server.endpoint.timeouts.read
        self.server.add_id(self.quic.host_cid, self)

    # -- overridden

    def started(self) -> None:
        """Called when the handshake is complete."""

    def handle(self, event: QuicEvent) -> None:
        """Handles an event of a stream."""
        raise NotImplementedError

    # -- datagrams and timers

    def receive(self, packet: bytes, now: float) -> None:
        """Handles a datagram of the client."""
        if self.ended:
            return
        try:
            self.quic.receive_datagram(packet, self.sender, now)
            if not self.quic.is_started:
                self.end()
                return
            self._events()
        except Exception as error:  # noqa: BLE001 - aioquic raises what a crafted packet leads to
            self.server.failed(error)
            self.end()
            return
        if self.acknowledged:
            self._resume()
        self.server.note_change(self)

    def _events(self) -> None:
        while not self.ended and (event := self.quic.next_event()) is not None:
            if isinstance(event, ConnectionIdIssued):
                self.server.add_id(event.connection_id, self)
            elif isinstance(event, ConnectionIdRetired):
                self.server.remove_id(event.connection_id, self)
            elif isinstance(event, HandshakeCompleted):
                self.established = True
                self.server.established(self)
                self.started()
            elif isinstance(event, ConnectionTerminated):
                self.end()
            elif not self.quic.is_closing:
                self.handle(event)

    def datagrams(self, now: float) -> list[tuple[bytes, Sender]]:
        """Returns the datagrams to send now, and sets the timer."""
        if self.ended:
            return []
        try:
            datagrams = self.quic.datagrams_to_send(monotonic())
            if self._finishing and self.is_idle and not self.quic.is_closing:
                self._close(self.server.kind.no_error)
                datagrams += self.quic.datagrams_to_send(now)
            self._events()
            if self.quic.is_closing:
                self.end()  # the rest of the closing state (RFC 9000 §10.2) is not kept
            else:
                self._set_timer(now)
        except Exception as error:  # noqa: BLE001 - as in `receive`
            self.server.failed(error)
            self.end()
            return []
        return datagrams

    def _set_timer(self, now: float) -> None:
        at = self.quic.get_timer() or now
        if not self.established:
            at = min(at, self._handshake_ends)
        elif self._partial:
            at = min(at, next(iter(self._partial.values())))
        if self._timer is not None:
            if self._timer_at <= at:
                return  # `_expired` looks at the present times
            cancel(self._timer)
        self._timer_at = at
        self._timer = self.server.timers.at(at, self._expired)

    def _expired(self) -> None:
        self._timer = None
        if self.ended:
            return
        now = monotonic()
        if not self.established and now >= self._handshake_ends:
            self.end()
            return
        if self._partial and now >= next(iter(self._partial.values())):
            self.shed(ShedReason.SLOW_QUERY)
            return
        at = self.quic.get_timer()
        try:
            if at is not None and now >= at:
                self.quic.handle_timer(now)
                self._events()
        except Exception as error:  # noqa: BLE001 - as in `receive`
            self.server.failed(error)
            self.end()
            return
        if not self.ended:
            self.server.note_change(self)

    # -- queries

    def note_partial(self, stream: int) -> None:
        """Starts the read timeout of a stream on which only a part of a query has arrived."""
        self._partial.setdefault(stream, monotonic() + self.server.endpoint.timeouts.read)

    def forget(self, stream: int) -> None:
        """Drops the query of a stream: the client no longer wants its reply."""
        self._partial.pop(stream, None)
        self.waiting.discard(stream)

    def ask(self, stream: int, packet: bytes) -> None:
        """Passes the query of a stream to the responder. `reply` is called with its reply."""
        self._partial.pop(stream, None)
        self.waiting.add(stream)
        self.server.answer(self, stream, packet)

    def pass_on(self, stream: int, packet: bytes) -> None:
        """Passes a query to the responder, unless the client has gone away. Called by `Server.answer`."""
        if self.ended or stream not in self.waiting:
            self.server.answered()
            return
        self.dispatch(stream, packet)

    def dispatch(self, stream: int, packet: bytes) -> None:
        """Passes a query to the responder, and the reply to the client. Calls `completed` when the reply has come."""
        raise NotImplementedError

    def completed(self, stream: int) -> bool:
        """Counts a query as answered. Returns False if the client no longer wants the reply."""
        self.server.answered()
        if stream not in self.waiting:
            return False
        self.waiting.discard(stream)
        return not self.ended and not self.quic.is_closing and self.quic.has_stream(stream)

    def replied(self) -> None:
        """Called when a reply was written. Soon sends it, and closes the connection if the server is about to end."""
        self._resets = max(0, self._resets - 1)
        if self.server.is_finishing:
            self.finish()
        else:
            self.server.note_change(self)

    def give_up(self, stream: int) -> None:
        """Ends a query that did not reach the plugin chain, because too many queries wait."""
        if stream in self.waiting:
            self.waiting.discard(stream)
            if not self.ended and self.quic.has_stream(stream):
                self.server.count_shed(ShedReason.QUEUE)
                self.quic.reset_stream(stream, self.server.kind.excessive_load)
                self.server.note_change(self)

    def more(self, stream: int, wire: bytes) -> None:
        """Sends a message that is not the last one of its reply."""
        raise NotImplementedError

    def note_written(self, octets: int) -> None:
        """Counts octets of replies. Closes the connection if the client has not acknowledged MAX_UNREAD octets."""
        self._unread += octets
        if self._unread > MAX_UNREAD:
            self._unread = self.quic.unacknowledged
            if self._unread > MAX_UNREAD:
                self.shed(ShedReason.UNREAD)

    def note_reset(self) -> None:
        """Counts a query that the client has cancelled. Closes the connection if there are too many of them."""
        self._resets += 1
        if self._resets > MAX_RESETS:
            self.shed(ShedReason.MISUSE)

    # -- the end

    @property
    def is_idle(self) -> bool:
        """Returns True if no query is open and the client has acknowledged all replies."""
        return not self.waiting and not self._partial and not self.quic.unacknowledged

    def finish(self) -> None:
        """Closes the connection when its queries are answered and the replies are acknowledged."""
        if not self._finishing:
            self._finishing = True
            self.go_away()
        self.server.note_change(self)

    def go_away(self) -> None:
        """Tells the client to open no more streams, if the protocol has such a message."""

    def close(self, code: int, reason: str = "") -> None:
        """Closes the connection with an application error code, or with CONNECTION_REFUSED before the handshake."""
        self._close(code, reason)
        self.server.note_change(self)

    def _close(self, code: int, reason: str = "") -> None:
        if self.established:
            self.quic.close(code, None, reason)
        else:
            self.quic.close(QuicErrorCode.CONNECTION_REFUSED, QuicFrameType.PADDING, reason)

    def shed(self, reason: ShedReason) -> None:
        """Closes the connection because of a limit, and counts it in a metric by `reason`."""
        self.server.count_shed(reason)
        self.close(self.server.kind.excessive_load)
        self.server.uncount(self)

    def end(self) -> None:
        """Removes the connection without a message to the client."""
        self.ended = True
        if self._timer is not None:
            cancel(self._timer)
            self._timer = None
        self.waiting.clear()
        self._partial.clear()
        self.server.remove(self)
        self._resume()

    def _resume(self) -> None:
        waiting, self.acknowledged = self.acknowledged, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Outlet:
    """Sends the messages of a reply on a stream, no faster than the client acknowledges them."""

    def __init__(self, connection: ServerConnection, stream: int) -> None:
        self._connection, self._stream = connection, stream

    async def more(self, wire: bytes) -> None:
        """Sends a message that is not the last one of its reply. Waits while the client does not acknowledge.

        Raises ConnectionError if the client has gone away.
        """
        connection = self._connection
        self._check()
        connection.more(self._stream, wire)
        connection.server.note_change(connection)
        while connection.quic.unacknowledged > MAX_WAITING:
            acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            connection.acknowledged.append(acknowledged)
            await acknowledged
            self._check()

    def _check(self) -> None:
        connection = self._connection
        if connection.ended or connection.quic.is_closing or not connection.quic.has_stream(self._stream):
            raise ConnectionResetError

    def abort(self) -> None:
        """Ends the stream in the middle of a reply."""
        connection = self._connection
        if not connection.ended and connection.quic.has_stream(self._stream):
            connection.quic.reset_stream(self._stream, connection.server.kind.internal_error)
            connection.server.note_change(connection)

"""DNS over TCP (RFC 7766): several queries on a connection, answered in the order in which they arrived.

Only one query of a connection is in the plugin chain at a time. While a client does not read its replies, its queries
are not read. TLS connections (`tls`) work in the same way. The timeouts are those of
docs/behaviour/server.md#listeners.

The states of a connection are in `connection_states`.
"""

from __future__ import annotations

import asyncio
import math
import os
from time import monotonic, perf_counter
from typing import Any, Final

from svcdns.eventloop.deadline import Deadline
from svcdns.eventloop.stream import SocketTransport
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.serving.metrics import SHED, ShedReason
from svcdns.serving.responder import Responder
from svcdns.serving.transport.connection_states import (
    BLOCKED_AT,
    NOT_TAKEN,
    REPLIED_AT,
    UNBLOCKED_AT,
    WITH_CHAIN,
    ClientState,
    ReplyState,
)
from svcdns.serving.transport.connections import READ_AHEAD, Detached, TcpConnections, client_key
from svcdns.tls.transport import TlsTransport
from svcdns.wire.tcp_framing import framed, has_message, take_message

BUFFER: Final = 2 * 65537
"""The octets that may wait in a connection's buffer before the server stops reading its socket.

While a query is answered, these are READ_AHEAD octets.
"""
WRITE_BUFFER: Final = 16 << 10
"""The octets of replies that wait until the kernel takes them, after which no further query is answered."""
TURN: Final = 0.0001
"""The seconds for which the queries of a connection are answered before those of other connections."""
_LENGTH: Final = 2
_MIN_QUERY: Final = _LENGTH + 12
"""The octets of the shortest query, with its length field."""
IDLE_CLOSE: Final = 0.02
"""The seconds without a query after which a connection with pipelined queries is closed at a stop or an upgrade.

Another connection is closed together with its reply: its client sends the next query after the reply at the earliest.
"""
CHUNK: Final = 4096
"""The most octets of one read if the selector reads the connection's socket."""
LARGE_CHUNK: Final = 65536
"""As CHUNK, while a part of a message waits in the buffer: so a large message takes few reads."""


_OPEN: Final = ClientState.OPEN
_IDLE: Final = ReplyState.IDLE


class TcpConnection(asyncio.Protocol):
    """A TCP or TLS connection of one client, with its buffer, timeouts and state."""

    def __init__(
        self,
        responder: Responder,
        connections: TcpConnections,
        timeouts: Timeouts,
        detached: Detached | None = None,
        proxied: Client | None = None,
    ) -> None:
        """`responder` answers the queries.

        The new object adds itself to `connections`. `detached` is the state of a connection that another worker has
        handed over, otherwise None. `proxied` is the client that a proxy has named in a PROXY header, or None.
        """
        self.responder, self._proxied = responder, proxied
        self._connections, self._timeouts, self._detached = connections, timeouts, detached
        self._loop = connections.loop
        self._received = bytearray(b"" if detached is None else detached.buffer)
        self._client_state, self._reply_state = ClientState.OPEN, ReplyState.IDLE
        self._queries_left = timeouts.queries if detached is None else detached.queries
        self._deadline = Deadline(self._loop, self._expired)
        self._last_reply = 0.0
        """The time of the last reply on the loop's clock; 0 if there was none since connections are being closed."""
        self._idle_close: asyncio.TimerHandle | None = None
        self._pipelined = False
        """True if the client has sent a query before the reply to an earlier one (RFC 7766 §6.2.1.1)."""
        self._taken: asyncio.Future[None] | None = None
        """What a reply of several messages waits for while the client takes no replies; None if no reply waits."""
        self._fd = -1
        """The socket's descriptor; -1 for a TLS connection."""
        self._waits_for_turn = False
        self.client = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts to serve the connection.

        If too many connections are open, closes this one, or one of a client that has more connections.
        """
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer:  # the client has closed the connection already
            transport.abort()
            return
        self._client = self._proxied or Client(
            peer[0], peer[1], _without_zone(local[0]), local[1], "tcp", 2 if ":" in peer[0] else 1
        )
        self.client = client_key(self._client.address)
        if self._detached is None and not self._connections.admit(self.client):
            self._count(ShedReason.CONNECTIONS)
            transport.abort()
            return
        self._connections.open.add(self, self.client)
        plain = isinstance(transport, SocketTransport)
        self._secure = not plain and transport.get_extra_info("ssl_object") is not None
        self._stays = self._secure or self._proxied is not None
        """True if no other worker can take over the connection: TLS, or a client that a header has named."""
        if not isinstance(transport, SocketTransport) or self._detached is not None:
            self._deadline.set(self._timeouts.read if self._detached is None else self._detached.timeout)
        if isinstance(transport, SocketTransport):
            transport.set_write_buffer_limits(WRITE_BUFFER)
            self._fd = transport.fd
            if self._detached is None:
                self._deadline.at = monotonic() + self._timeouts.read
                self.readable()  # the first query has often arrived by now
                self._connections.settle_later(self)
            else:
                transport.resume_reading()

    def settle(self) -> None:
        """Reads the socket of a new connection again. Registers the socket and the deadline if nothing has arrived.

        Many clients have read the reply to their only query by now, and have closed the connection.
        """
        transport = self._transport
        if transport.is_closing() or self._client_state is ClientState.DETACHED:
            return
        if self._client_state is _OPEN and self.readable():
            self._connections.settle_later(self)
            return
        if not transport.is_closing():
            self._deadline.start()
            if self._client_state is _OPEN:
                transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Removes the connection. A reply that arrives later is dropped."""
        self._client_state = ClientState.FINISHED
        self._connections.remove(self)
        self._resume_stream()
        if self._idle_close is not None:
            self._idle_close.cancel()
        self._deadline.end()

    # -- reading

    def readable(self) -> bool:
        """Reads the socket of a connection without TLS. Returns False if no octets have arrived.

        If the connection is idle and the data are one query that the answer table can answer, writes the reply to the
        socket. All other data are added to the buffer.
        """
        started = perf_counter()
        if started > self._connections.poll_at:
            self._connections.poll()
        try:
            data = os.read(self._fd, CHUNK if not self._received else LARGE_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            self._transport.abort()
            return False
        if not data:
            self._transport.pause_reading()
            if not self.eof_received():
                self._transport.close()
            return False
        if not self._answer_alone(data, started):
            self._add(data)
        return True

    def data_received(self, data: bytes) -> None:
        """Called with decrypted octets of a TLS connection. Answers as `readable` does."""
        started = perf_counter()
        if started > self._connections.poll_at:
            self._connections.poll()
        if not self._answer_alone(data, started):
            self._add(data)

    def _answer_alone(self, data: bytes, started: float) -> bool:
        """Answers data that are one query with an entry in the answer table.

        Returns False for all other data, and if the connection is not idle.
        """
        if (
            self._reply_state is not _IDLE
            or self._client_state is not _OPEN
            or self._received
            or len(data) < _MIN_QUERY
            or data[0] << 8 | data[1] != len(data) - _LENGTH
            or self._transport.get_write_buffer_size()
        ):
            return False
        wire = self.responder.lookup_entry(data[_LENGTH:], self._client, started)
        if not wire:
            return False
        self._deadline.at = monotonic() + self._timeouts.idle  # `monotonic` is the loop's clock
        self._transport.write(len(wire).to_bytes(_LENGTH, "big") + wire)  # `framed` would cost a call
        if self._queries_left > 0 or self._connections.closing_tls:
            self._queries_left -= self._queries_left > 0
            self._note_reply()
            self._next()
        return True

    def _add(self, data: bytes) -> None:
        """Adds octets to the buffer, and answers the complete queries in it."""
        self._received += data
        self._pipelined = self._pipelined or self._reply_state is not _IDLE
        if len(self._received) > READ_AHEAD:
            self._connections.note_large(self)
            waits = self._reply_state is not _IDLE or self._waits_for_turn
            if waits or len(self._received) > BUFFER:
                self._transport.pause_reading()
                if self._client_state is _OPEN:
                    self._client_state = ClientState.HELD
        self._next()

    def eof_received(self) -> bool:
        """Called when the client has closed its sending side. The queries that have arrived are still answered."""
        if self._reply_state in WITH_CHAIN or has_message(self._received):
            self._client_state = ClientState.FINISHED
            return True
        return False

    def _next(self) -> None:
        """Answers the queries in the buffer, now or when it is the client's turn."""
        if self._waits_for_turn:
            return
        if self._connections.turns.clients and self._reply_state is _IDLE and has_message(self._received):
            self._wait_for_turn()
        else:
            self._answer()

    def _wait_for_turn(self) -> None:
        self._waits_for_turn = True
        self._connections.turns.add(self.client, self._take_turn)

    def _take_turn(self) -> None:
        if self._waits_for_turn:
            self._waits_for_turn = False
            self._answer()

    def _answer(self, turn: float = TURN) -> None:
        """Answers queries in the buffer for at most `turn` seconds. Then the connection waits for its next turn.

        Closes the connection if the client sends no more queries and all replies have been written.
        """
        ends = 0.0
        while self._queries_left and self._reply_state is _IDLE and not self._transport.is_closing():
            started = perf_counter()
            if ends and started > ends and has_message(self._received):
                self._wait_for_turn()
                return
            packet = take_message(self._received)
            if packet is None:
                break
            ends = ends or started + turn
            if self._received:
                self._pipelined = True
            wire = self.responder.lookup(packet, self._client, started)
            if wire:
                self._queries_left -= self._queries_left > 0
                self._write(wire)
            else:
                self._ask(packet, started)
        if self._reply_state in WITH_CHAIN:
            return
        if not self._queries_left or (self._client_state is ClientState.FINISHED and not has_message(self._received)):
            self._transport.close()
        elif self._last_reply and not self._received:
            if self._connections.hurrying or not self._pipelined:
                self.finish()
            elif self._idle_close is None:
                self._idle_close = self._loop.call_later(IDLE_CLOSE, self._close_if_idle)
        elif (
            self._client_state is ClientState.HELD
            and len(self._received) <= BUFFER
            and not self._transport.is_closing()
        ):
            self._client_state = ClientState.OPEN
            self._transport.resume_reading()

    # -- replies

    def _ask(self, packet: bytes, started: float) -> None:
        """Passes one query to the plugin chain."""
        self._queries_left -= self._queries_left > 0
        self._reply_state = ReplyState.ANSWERING
        self.responder.answer(packet, self._client, self._reply, started, self)

    def _reply(self, wire: bytes) -> None:
        """Sends the plugin chain's reply, or the last of its messages. Sends nothing if `wire` is empty."""
        self._reply_state = REPLIED_AT.get(self._reply_state, self._reply_state)
        if not self._transport.is_closing():
            if wire:
                self._write(wire)
            self._loop.call_soon(self._next)

    async def more(self, wire: bytes) -> None:
        """Sends a message that is not the last one of its reply. Waits while the client does not read.

        Raises ConnectionError if the connection is closed.
        """
        self._write(wire)
        if self._reply_state is ReplyState.STALLED:
            self._taken = self._loop.create_future()
            await self._taken
        if self._transport.is_closing():
            raise ConnectionResetError

    def abort(self) -> None:
        """Closes the connection, even in the middle of a reply."""
        self._reply_state = _IDLE
        self._transport.abort()

    def pause_writing(self) -> None:
        """Called when the client does not read its replies. Stops answering, and starts the write timeout."""
        self._reply_state = BLOCKED_AT.get(self._reply_state, self._reply_state)
        self._deadline.set(self._timeouts.write)
        self._connections.note_large(self)

    def resume_writing(self) -> None:
        """Called when the client reads its replies again."""
        self._reply_state = UNBLOCKED_AT.get(self._reply_state, self._reply_state)
        self._resume_stream()
        self._deadline.set(self._timeouts.idle)
        self._next()

    def _resume_stream(self) -> None:
        if self._taken is not None:
            self._taken.set_result(None)
            self._taken = None

    def _write(self, wire: bytes) -> None:
        self._transport.write(framed(wire))
        self._note_reply()
        if self._reply_state not in NOT_TAKEN:
            self._deadline.set(self._timeouts.idle)

    # -- the end

    def finish(self) -> None:
        """Closes the connection when all queries that have arrived, also those in the kernel's buffer, are answered."""
        detached, self._client_state = self._client_state is ClientState.DETACHED, ClientState.FINISHED
        if self._reply_state is _IDLE and not detached and not self._transport.is_closing():
            if self._fd >= 0:
                self.readable()
            elif isinstance(self._transport, TlsTransport):
                self._transport.read_waiting()
        if self._waits_for_turn:
            self._waits_for_turn = False
            self._answer(math.inf)
        if self._reply_state not in WITH_CHAIN and not self._transport.is_closing():
            self._transport.close()

    def _expired(self) -> None:
        """Called when the client did not send a query, or did not read a reply, within the connection's timeout."""
        if self._reply_state is ReplyState.ANSWERING or self._waits_for_turn:
            self._deadline.set(self._timeouts.idle)
        else:  # many connections may expire together, and it takes some time to close one
            self._connections.turns.add(self.client, self._close_expired)

    def _close_expired(self) -> None:
        """Closes the connection, unless its client has sent a query or read a reply since the timeout."""
        if self._deadline.at > self._loop.time() or self._client_state is ClientState.DETACHED:
            return
        if self._reply_state in NOT_TAKEN:
            self.shed(ShedReason.UNREAD)
        else:
            if self._received:
                self._count(ShedReason.SLOW_QUERY)
            self._transport.close()

    def shed(self, reason: ShedReason) -> None:
        """Closes the connection, and counts it in a metric by `reason`."""
        self._count(reason)
        self.abort()

    def _count(self, reason: ShedReason) -> None:
        responder = self.responder
        responder.metrics.counters.count(SHED, responder.listener.server, reason)

    @property
    def deadline(self) -> float:
        """Returns the time at which the connection expires, on the loop's clock."""
        return self._deadline.at

    @property
    def buffered(self) -> int:
        """Returns the number of received octets that are not answered, plus the sent octets that the client has not
        read.
        """
        return len(self._received) + self._transport.get_write_buffer_size()

    @property
    def closing(self) -> bool:
        """Returns True if the connection will be closed after a reply, because the server stops or is upgraded."""
        return self._connections.is_closing(self, secure=self._stays)

    @property
    def waits_for_query(self) -> bool:
        """Returns True if no query or reply is in progress, and no octet of the next query has arrived."""
        return self._reply_state is _IDLE and self._client_state is _OPEN and not self._received

    def _note_reply(self) -> None:
        if self._connections.closing_tls and self.closing:
            self._last_reply = self._loop.time()

    def _close_if_idle(self) -> None:
        """Closes the connection if its client has sent nothing for IDLE_CLOSE seconds."""
        self._idle_close = None
        if self._reply_state in WITH_CHAIN or self._received or self._transport.is_closing():
            return
        left = self._last_reply + IDLE_CLOSE - self._loop.time()
        if left > 0:
            self._idle_close = self._loop.call_later(left, self._close_if_idle)
        elif self._client_state is not ClientState.DETACHED:
            self.finish()

    # -- to another worker

    def detach(self) -> Detached | None:
        """Stops serving the connection, and returns it for another worker.

        Returns None for a TLS connection, for a client behind a proxy, or while a query or reply is in progress.
        Otherwise call `close_detached` or `resume` afterwards.
        """
        if (
            self._stays
            or self._reply_state is not _IDLE
            or self._client_state is not _OPEN
            or has_message(self._received)
            or self._transport.is_closing()
            or self._transport.get_write_buffer_size()
        ):
            return None
        self._client_state = ClientState.DETACHED
        self._transport.pause_reading()
        self._deadline.cancel()
        listener, family = self.responder.listener, 4 if self._client.family == 1 else 6
        fd = self._transport.get_extra_info("socket").fileno()
        left = max(0.0, self._deadline.at - self._loop.time())
        return Detached(fd, listener.host, listener.port, family, left, bytes(self._received), self._queries_left)

    def close_detached(self) -> None:
        """Closes this process's descriptor of a connection that another worker has taken over.

        The client does not notice.
        """
        self._transport.abort()

    def resume(self) -> None:
        """Serves a detached connection in this process again."""
        if self._transport.is_closing():
            return
        self._client_state = ClientState.OPEN
        self._deadline.set(self._timeouts.idle)
        self._transport.resume_reading()


def _without_zone(address: Any) -> str:
    """Returns the address without its IPv6 zone id."""
    return str(address).partition("%")[0]

"""DNS over TCP (RFC 7766): several messages on a connection, answered in the order in which they came.

One query of a connection is in the chain at a time. What a client sends meanwhile waits in the connection's buffer,
which is bounded: a client that does not read its replies is not read either. The timeouts are those of
docs/behaviour/server.md#listeners, or of the plugin `timeouts`. Over TLS (`tls`) all is the same, except that nothing
bypasses the transport.

A connection has a state for each side, as the client may finish while a reply is made:

client side   OPEN      --too many octets wait-->           HELD      --fewer wait-->            OPEN
              OPEN      --detach: another worker's-->       DETACHED  --resume: it stays here--> OPEN
              any       --end of the stream, finish-->      FINISHED  (it closes behind its last reply)
our side      IDLE      --a query goes to the chain-->      ANSWERING --its reply-->             IDLE
              IDLE      --the client takes no reply-->      BLOCKED   --it takes replies-->      IDLE
              ANSWERING --the client takes no reply-->      STALLED   --it takes replies-->      ANSWERING
              STALLED   --the reply's last message-->       BLOCKED
"""

from __future__ import annotations

import asyncio
import os
from enum import Enum
from time import monotonic, perf_counter
from typing import Any, Final, NamedTuple

from svcdns.eventloop.deadline import Deadline
from svcdns.eventloop.loop import DrainingLoop, DrainingSelector
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.serving.responder import Responder
from svcdns.wire.tcp_framing import framed, has_message, take_message

MAX_CONNECTIONS: Final = 4096
"""Connections of one worker; further ones are closed at once."""
BUFFER: Final = 2 * 65537
"""Octets of a connection that may wait in its buffer before the socket is not read any more."""
_LENGTH: Final = 2
_MIN_QUERY: Final = _LENGTH + 12
"""Octets of the shortest query with its length."""
IDLE_CLOSE: Final = 0.02
"""Lame duck: seconds without a query after a reply, after which the connection is closed."""
CHUNK: Final = 4096
"""Octets read at once where the selector drains the connection."""


class ClientState(Enum):
    """The client's side of a connection."""

    OPEN = 0
    HELD = 1
    FINISHED = 2
    DETACHED = 3


class ReplyState(Enum):
    """Our side of a connection."""

    IDLE = 0
    ANSWERING = 1
    BLOCKED = 2
    STALLED = 3


_OPEN: Final = ClientState.OPEN
_IDLE: Final = ReplyState.IDLE
_BLOCKED_AT: Final = {ReplyState.IDLE: ReplyState.BLOCKED, ReplyState.ANSWERING: ReplyState.STALLED}
_UNBLOCKED_AT: Final = {ReplyState.BLOCKED: ReplyState.IDLE, ReplyState.STALLED: ReplyState.ANSWERING}
_REPLIED_AT: Final = {ReplyState.ANSWERING: ReplyState.IDLE, ReplyState.STALLED: ReplyState.BLOCKED}
_WITH_CHAIN: Final = (ReplyState.ANSWERING, ReplyState.STALLED)
_NOT_TAKEN: Final = (ReplyState.BLOCKED, ReplyState.STALLED)


class Detached(NamedTuple):
    """A connection on its way from one worker to another.

    `fd` is its descriptor; `host`, `port` and `family` (4 or 6) say to which listener it belongs. `timeout` is the time
    in seconds that it has left, `buffer` what has come of its next query, `queries` how many it may still send, -1 for
    any number.
    """

    fd: int
    host: str
    port: int
    family: int
    timeout: float
    buffer: bytes
    queries: int = -1


class TcpConnections:
    """The open connections of one worker. Their number is bounded."""

    def __init__(self, most: int = MAX_CONNECTIONS) -> None:
        """`most` is how many may be open at once."""
        self.most = most
        self.open: set[TcpConnection] = set()
        self.handshaking: set[asyncio.Transport] = set()
        """TLS connections whose handshake is not done."""
        self.lame_duck = False
        """Whether the worker stops soon: connections are closed once idle for IDLE_CLOSE after a reply."""

    @property
    def full(self) -> bool:
        """Whether no further connection is accepted."""
        return len(self.open) + len(self.handshaking) >= self.most

    @property
    def none(self) -> bool:
        """Whether there is no connection."""
        return not (self.open or self.handshaking)

    def start_lame_duck(self) -> None:
        """Closes each connection once idle for IDLE_CLOSE after a reply, so that no client writes to a closed one."""
        self.lame_duck = True

    def drain(self) -> None:
        """Closes every connection as soon as its queries are answered."""
        for connection in tuple(self.open):
            connection.finish()
        for transport in tuple(self.handshaking):
            transport.abort()


class _TransportReads:
    """Reading by the transport, as asyncio does it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.pause, self.resume = transport.pause_reading, transport.resume_reading


class _SelectorReads:
    """Reading inside the selector, past the transport."""

    def __init__(self, selector: DrainingSelector, fd: int, connection: TcpConnection) -> None:
        self._selector, self._fd, self._connection = selector, fd, connection

    def pause(self) -> None:
        self._selector.remove(self._fd)

    def resume(self) -> None:
        self._selector.add(self._fd, self._connection.drain)


class TcpConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(
        self, responder: Responder, connections: TcpConnections, timeouts: Timeouts, detached: Detached | None = None
    ) -> None:
        """Replies come from `responder`; `connections` gets the connection, which may come from another worker."""
        self.responder = responder
        self._connections, self._timeouts, self._detached = connections, timeouts, detached
        self._loop = asyncio.get_running_loop()
        self._received = bytearray(b"" if detached is None else detached.buffer)
        self._client_state, self._reply_state = ClientState.OPEN, ReplyState.IDLE
        self._queries_left = timeouts.queries if detached is None else detached.queries
        self._deadline = Deadline(self._loop, self._expired)
        self._last_reply = 0.0
        """On the loop's clock, 0 before the first reply since `lame_duck`."""
        self._idle_close: asyncio.TimerHandle | None = None
        self._taken: asyncio.Future[None] | None = None
        """Set while a reply of several messages waits until the client takes replies again."""
        self._fd = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serves the connection, or closes it where too many are open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        full = self._connections.full and self._detached is None
        if full or not peer:  # without a peer the client has closed it already
            transport.abort()
            return
        self._connections.open.add(self)
        self._client = Client(peer[0], peer[1], _without_zone(local[0]), local[1], "tcp", 2 if ":" in peer[0] else 1)
        self._deadline.set(self._timeouts.read if self._detached is None else self._detached.timeout)
        self._secure = transport.get_extra_info("ssl_object") is not None
        self._reads: _TransportReads | _SelectorReads = _TransportReads(transport)
        if isinstance(self._loop, DrainingLoop) and not self._secure:
            self._reads.pause()
            self._fd = transport.get_extra_info("socket").fileno()
            self._reads = _SelectorReads(self._loop.selector, self._fd, self)
            self._reads.resume()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Frees the connection; a reply that comes later is dropped."""
        self._client_state = ClientState.FINISHED
        self._connections.open.discard(self)
        self._resume_stream()
        self._deadline.cancel()
        if self._idle_close is not None:
            self._idle_close.cancel()

    # -- reading

    def drain(self) -> None:
        """Reads the socket. Answers one whole query on an idle connection past the transport, if the table can."""
        started = perf_counter()
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._transport.abort()
            return
        if not data:
            self._reads.pause()
            if not self.eof_received():
                self._transport.close()
            return
        if (
            self._reply_state is not _IDLE
            or self._client_state is not _OPEN
            or self._received
            or len(data) < _MIN_QUERY
            or data[0] << 8 | data[1] != len(data) - _LENGTH
            or self._transport.get_write_buffer_size()
        ):
            self.data_received(data)
            return
        wire = self.responder.lookup_entry(data[_LENGTH:], self._client, started)
        if not wire:
            self.data_received(data)
            return
        self._deadline.at = monotonic() + self._timeouts.idle  # the loop's clock
        self._write_at_once(len(wire).to_bytes(_LENGTH, "big") + wire)  # `framed` without its call
        if self._queries_left > 0 or self._connections.lame_duck:
            self._queries_left -= self._queries_left > 0
            self._note_reply()
            self._next()

    def data_received(self, data: bytes) -> None:
        """Collects octets and answers whole messages."""
        self._received += data
        if len(self._received) > BUFFER:
            self._reads.pause()
            if self._client_state is _OPEN:
                self._client_state = ClientState.HELD
        self._next()

    def eof_received(self) -> bool:
        """The client sends no more; the queries that have arrived are still answered."""
        if self._reply_state in _WITH_CHAIN or has_message(self._received):
            self._client_state = ClientState.FINISHED
            return True
        return False

    def _next(self) -> None:
        """Answers the queries that have arrived, as far as possible now."""
        while self._queries_left and self._reply_state is _IDLE and not self._transport.is_closing():
            packet = take_message(self._received)
            if packet is None:
                break
            started = perf_counter()
            wire = self.responder.lookup(packet, self._client, started)
            if wire:
                self._queries_left -= self._queries_left > 0
                self._write(wire)
            else:
                self._ask(packet, started)
        if self._reply_state in _WITH_CHAIN:
            return
        if not self._queries_left or (self._client_state is ClientState.FINISHED and not has_message(self._received)):
            self._transport.close()
        elif self._last_reply and not self._received:
            if self._idle_close is None:
                self._idle_close = self._loop.call_later(IDLE_CLOSE, self._close_if_idle)
        elif (
            self._client_state is ClientState.HELD
            and len(self._received) <= BUFFER
            and not self._transport.is_closing()
        ):
            self._client_state = ClientState.OPEN
            self._reads.resume()

    # -- replies

    def _ask(self, packet: bytes, started: float) -> None:
        """Has the chain answer one query."""
        self._queries_left -= self._queries_left > 0
        self._reply_state = ReplyState.ANSWERING
        self.responder.answer(packet, self._client, self._reply, started, self)

    def _reply(self, wire: bytes) -> None:
        """Sends the chain's reply, or its last message; nothing if it is empty."""
        self._reply_state = _REPLIED_AT.get(self._reply_state, self._reply_state)
        if not self._transport.is_closing():
            if wire:
                self._write(wire)
            self._loop.call_soon(self._next)

    async def more(self, wire: bytes) -> None:
        """Sends a message of a reply that has further ones, and waits while the client takes no replies.

        Raises ConnectionError when the connection is closed.
        """
        self._write(wire)
        if self._reply_state is ReplyState.STALLED:
            self._taken = self._loop.create_future()
            await self._taken
        if self._transport.is_closing():
            raise ConnectionResetError

    def abort(self) -> None:
        """Ends the connection: the client has half a reply."""
        self._reply_state = _IDLE
        self._transport.abort()

    def pause_writing(self) -> None:
        """The client takes no replies: no further query is answered, and the write timeout begins."""
        self._reply_state = _BLOCKED_AT.get(self._reply_state, self._reply_state)
        self._deadline.set(self._timeouts.write)

    def resume_writing(self) -> None:
        """The client takes replies again."""
        self._reply_state = _UNBLOCKED_AT.get(self._reply_state, self._reply_state)
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
        if self._reply_state not in _NOT_TAKEN:
            self._deadline.set(self._timeouts.idle)

    def _write_at_once(self, message: bytes) -> None:
        """Writes past the idle transport, which gets the octets that the kernel does not take."""
        try:
            written = os.write(self._fd, message)
        except BlockingIOError:
            written = 0
        except OSError:
            self._transport.abort()
            return
        if written < len(message):
            self._transport.write(message[written:])

    # -- the end

    def finish(self) -> None:
        """Closes the connection once the queries that have arrived are answered, those that wait in the kernel too."""
        readable = self._fd >= 0 and self._client_state is not ClientState.DETACHED
        if readable and self._reply_state is _IDLE and not self._transport.is_closing():
            self.drain()
        self._client_state = ClientState.FINISHED
        if self._reply_state not in _WITH_CHAIN and not self._transport.is_closing():
            self._transport.close()

    def _expired(self) -> None:
        """A timeout: for the next query, or for the client to take its replies. A query in the chain has its own."""
        if self._reply_state is ReplyState.ANSWERING:
            self._deadline.set(self._timeouts.idle)
        elif self._reply_state in _NOT_TAKEN:
            self._transport.abort()
        else:
            self._transport.close()

    def _note_reply(self) -> None:
        if self._connections.lame_duck:
            self._last_reply = self._loop.time()

    def _close_if_idle(self) -> None:
        """Lame duck: closes the connection unless its client has sent more."""
        self._idle_close = None
        if self._reply_state in _WITH_CHAIN or self._received or self._transport.is_closing():
            return
        left = self._last_reply + IDLE_CLOSE - self._loop.time()
        if left > 0:
            self._idle_close = self._loop.call_later(left, self._close_if_idle)
        elif self._client_state is not ClientState.DETACHED:
            self.finish()

    # -- to another worker

    def detach(self) -> Detached | None:
        """The connection, for another worker to take over; None while a query or a reply of it is under way, and for
        one over TLS.

        The connection does nothing until `close_detached` or `resume` is called.
        """
        if (
            self._secure
            or self._reply_state is not _IDLE
            or self._client_state is not _OPEN
            or has_message(self._received)
            or self._transport.is_closing()
            or self._transport.get_write_buffer_size()
        ):
            return None
        self._client_state = ClientState.DETACHED
        self._reads.pause()
        self._deadline.cancel()
        listener, family = self.responder.listener, 4 if self._client.family == 1 else 6
        fd = self._transport.get_extra_info("socket").fileno()
        left = max(0.0, self._deadline.at - self._loop.time())
        return Detached(fd, listener.host, listener.port, family, left, bytes(self._received), self._queries_left)

    def close_detached(self) -> None:
        """Another worker has it: closes this process's descriptor, which the client does not notice."""
        self._transport.abort()

    def resume(self) -> None:
        """No other worker has taken it over: it is served here again."""
        if self._transport.is_closing():
            return
        self._client_state = ClientState.OPEN
        self._deadline.set(self._timeouts.idle)
        self._reads.resume()


def _without_zone(address: Any) -> str:
    """The address without an IPv6 zone id."""
    return str(address).partition("%")[0]

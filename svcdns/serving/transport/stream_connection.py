"""The part of a connection that all encrypted transports over TCP have in common: admission, time limits, and the end.

Rules:

1. The octets of a client are decoded in pieces of at most PIECE octets. The clients take turns.
2. While more than WRITE_BUFFER octets of replies wait, the server reads nothing from the connection.
3. In a stop, a lame duck time or an upgrade, the connection is closed after a reply. `go_away` tells the client first.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

from svcdns.eventloop.deadline import Deadline
from svcdns.eventloop.stream import SocketTransport
from svcdns.log_line import LogLine
from svcdns.plugin_api.query import Client
from svcdns.serving.metrics import SHED, ShedReason
from svcdns.serving.transport.connections import READ_AHEAD, Detached, client_key
from svcdns.serving.transport.encrypted import Endpoint
from svcdns.telemetry.logging import LineLimit

log = logging.getLogger("svcdns")
_limit = LineLimit()
PIECE: Final = 1024
"""The most octets that are decoded before other clients get their turn."""
CHUNK: Final = 16384
"""The most octets of one read from a socket without TLS."""
WRITE_BUFFER: Final = 16 << 10
"""While more octets of replies wait for the kernel, nothing is read from the client."""


class StreamConnection(asyncio.Protocol):
    """A connection of one client. A transport overrides `decode`, `go_away` and `unfinished`."""

    linger = 0.0
    """The seconds from the last reply to the close, in which a client that has not read `go_away` may send a query."""

    def __init__(self, endpoint: Endpoint, proxied: Client | None) -> None:
        """`proxied` is the client that a proxy has named in a PROXY header, or None."""
        self.endpoint, self.responder, self._proxied = endpoint, endpoint.responder, proxied
        self.client = b""
        self.peer = proxied
        """The client that sends the queries; None before the connection is made."""
        self.in_flight = 0
        """The number of queries whose reply has not been written."""
        self.finishing = False
        """True if the client has been told that the connection ends: no new query is accepted."""
        self._received = bytearray()
        self._waits_for_turn = self._reading_paused = self._blocked = self._ended = False
        self._closing_soon: asyncio.TimerHandle | None = None
        self._timeouts = endpoint.timeouts
        self._deadline = Deadline(asyncio.get_running_loop(), self._expired)
        self._transport: asyncio.Transport

    # -- what a transport defines

    def decode(self, data: bytes) -> None:
        """Decodes octets of the client, and passes complete queries to `ask`."""
        raise NotImplementedError

    def go_away(self) -> None:
        """Tells the client that the server accepts no more queries on this connection."""

    @property
    def unfinished(self) -> bool:
        """Returns True if a query of the client has arrived in part."""
        return False

    @property
    def kept(self) -> int:
        """Returns the octets of queries that have arrived in part."""
        return 0

    # -- what a transport calls

    def write(self, data: bytes) -> None:
        """Sends octets to the client."""
        if data:
            self._transport.write(data)

    def started(self) -> None:
        """Notes that a query has been passed to the responder."""
        self.in_flight += 1

    def replied(self) -> None:
        """Notes that the reply to a query has been written, or that it needs none any more."""
        self.in_flight -= 1
        if not self._blocked:
            self._set_deadline()
        if self.closing and not self.finishing:
            self._finish()
        elif self.finishing:
            self._close_if_done()

    def _finish(self) -> None:
        """Accepts no more queries, and closes the connection when all of them are answered."""
        if not self.finishing:
            self.finishing = True
            self.go_away()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self.in_flight or self.pending or self._transport.is_closing():
            return
        if not self.linger:
            self._transport.close()
        elif self._closing_soon is None:
            self._closing_soon = asyncio.get_running_loop().call_later(self.linger, self._transport.close)

    @property
    def pending(self) -> int:
        """Returns the octets of replies that the client's flow control holds back."""
        return 0

    # -- asyncio's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts to serve the connection, unless too many are open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer:
            transport.abort()
            return
        self.peer = self._proxied or self.endpoint.client(peer, local, "tcp")
        self.client = client_key(self.peer.address)
        if not self.endpoint.connections.admit(self.client):
            self._count(ShedReason.CONNECTIONS)
            transport.abort()
            return
        self.endpoint.connections.open.add(self, self.client)
        self._deadline.set(self._timeouts.read)
        transport.set_write_buffer_limits(WRITE_BUFFER)
        self.begin()
        if isinstance(transport, SocketTransport):
            transport.resume_reading()

    def begin(self) -> None:
        """Called when the connection has been admitted."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Removes the connection. Replies that come later are dropped."""
        self._ended = True
        self._received.clear()
        if self._closing_soon is not None:
            self._closing_soon.cancel()
        self.endpoint.connections.remove(self)
        self._deadline.end()
        self.lost()

    def lost(self) -> None:
        """Called when the connection has ended."""

    @property
    def ended(self) -> bool:
        """Returns True if nothing can be sent any more."""
        return self._ended or self._transport.is_closing()

    def readable(self) -> None:
        """Reads a socket without TLS."""
        transport = self._transport
        assert isinstance(transport, SocketTransport)
        try:
            data = os.read(transport.fd, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            transport.abort()
            return
        if data:
            self.data_received(data)
            return
        transport.pause_reading()
        if not self.eof_received():
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Decodes a piece of the octets. The rest waits for the client's next turn."""
        turns = self.endpoint.connections.turns
        if len(data) <= PIECE and not self._received and not turns.clients:
            self._decode(data)
            return
        self._received += data
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()
        if not self._waits_for_turn:
            self._waits_for_turn = True
            turns.add(self.client, self._take_turn)

    def _take_turn(self) -> None:
        self._waits_for_turn = False
        if self.ended or self._blocked:
            return
        piece = bytes(self._received[:PIECE])
        del self._received[:PIECE]
        if piece:
            self._decode(piece)
        self._continue_reading()

    def _continue_reading(self) -> None:
        if self.ended:
            return
        if self._received:
            self._waits_for_turn = True
            self.endpoint.connections.turns.add(self.client, self._take_turn)
        elif self._reading_paused and not self._blocked:
            self._reading_paused = False
            self._transport.resume_reading()

    def _decode(self, data: bytes) -> None:
        unfinished = self.unfinished
        try:
            self.decode(data)
        except Exception as error:  # noqa: BLE001 - a mistake in a library: only this connection ends
            line = LogLine("a connection is closed", server=self.endpoint.server)
            _limit.log(log, logging.ERROR, line, error=error)
            self._transport.abort()
            return
        if self.unfinished and not unfinished and not self._blocked:
            self._deadline.set(self._timeouts.read)
        if not self.ended and self.buffered > READ_AHEAD:
            self.endpoint.connections.note_large(self)

    def eof_received(self) -> bool:
        """Called when the client sends no more. The queries in flight are still answered."""
        if self._received or self.in_flight:
            self.finishing = True
            return True
        return False

    def pause_writing(self) -> None:
        """Called when the client does not read its replies."""
        self._blocked = True
        self._deadline.set(self._timeouts.write)
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Called when the client reads its replies again."""
        self._blocked = False
        self._set_deadline()
        if not self._waits_for_turn:
            self._take_turn()

    def _set_deadline(self) -> None:
        if not self.unfinished:
            self._deadline.set(self._timeouts.write if self.pending else self._timeouts.idle)

    # -- the end

    def _expired(self) -> None:
        if self._blocked or self.pending:
            self.shed(ShedReason.UNREAD)
        elif self.unfinished:
            self.shed(ShedReason.SLOW_QUERY)
        elif self.in_flight or self._waits_for_turn:
            self._deadline.set(self._timeouts.idle)
        else:
            self._finish()

    def finish(self) -> None:
        """Closes the connection when all queries that have arrived are answered."""
        if not self.ended:
            self._finish()

    def shed(self, reason: ShedReason) -> None:
        """Closes the connection, and counts it in a metric by `reason`."""
        self._count(reason)
        self._transport.abort()

    def _count(self, reason: ShedReason) -> None:
        self.endpoint.counters.count(SHED, self.endpoint.server, reason)

    @property
    def closing(self) -> bool:
        """Returns True if the connection will be closed after a reply."""
        return self.endpoint.connections.is_closing(self, secure=True)

    @property
    def waits_for_query(self) -> bool:
        """Returns True if no query or reply is in progress, and no octet of the next query has arrived."""
        return not (self.in_flight or self._received or self.unfinished or self.pending)

    @property
    def deadline(self) -> float:
        """Returns the time at which the connection expires, on the loop's clock."""
        return self._deadline.at

    @property
    def buffered(self) -> int:
        """Returns the octets that wait in this connection."""
        return len(self._received) + self.kept + self.pending + self._transport.get_write_buffer_size()

    def settle(self) -> None:
        """Does nothing: the connection is registered in the selector from its beginning."""

    # -- an encrypted connection cannot move to another worker

    def detach(self) -> Detached | None:
        """Returns None: another worker cannot take over the connection."""
        return None

    def close_detached(self) -> None:
        """Does nothing."""

    def resume(self) -> None:
        """Does nothing."""

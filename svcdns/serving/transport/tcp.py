"""DNS over TCP, RFC 7766: length-prefixed messages, several on a connection, answered in the order they came.

One question of a connection is in the chain at a time; what a client pipelines waits in the connection's buffer, which is bounded: a client
that does not read its answers is not read either. First message within 3 s, then 10 s of idleness, 5 s to take a reply
(docs/behaviour/server.md#listeners), or what
`timeouts` says. Over TLS it is the same, but for what goes past the transport to the socket itself. Before a stop a connection is closed
when its client is quiet behind an answer.
"""

from __future__ import annotations

import asyncio
import os
from time import perf_counter
from typing import Any, Final, NamedTuple

from svcdns.eventloop.loop import DrainingLoop, DrainingSelector
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.serving.responder import Responder

MAX_CONNECTIONS: Final = 4096
"""Connections of one worker; further ones are closed at once."""
BUFFER: Final = 2 * 65537
"""Octets of a connection that may wait unread before the socket is left alone."""
_LEAST: Final = 2 + 12
"""Octets of the shortest question with its length."""
QUIET: Final = 0.02
"""Seconds without a question behind an answer after which a connection is closed before a stop."""
CHUNK: Final = 4096
"""Octets read at once where the selector drains the connection."""


class Parted(NamedTuple):
    """A connection that goes from one worker to another: its descriptor, the listener it belongs to (address family 4 or 6), the seconds it
    has left, what has come of its next question, and how many questions it may still bring."""

    fd: int
    host: str
    port: int
    family: int
    patience: float
    buffer: bytes
    left: int = -1


class TcpConnections:
    """The open connections of one worker: their number is bounded, and a stop drains them."""

    def __init__(self, most: int = MAX_CONNECTIONS) -> None:
        """`most` is how many may be open at once."""
        self.most = most
        self.open: set[TcpConnection] = set()
        self.greeting: set[asyncio.Transport] = set()
        """Those whose TLS handshake is not done."""
        self.ending = False
        """Whether each is closed when its client is quiet behind an answer: a stop is near, and who asks again is better off elsewhere."""

    @property
    def full(self) -> bool:
        """Whether there may be no more."""
        return len(self.open) + len(self.greeting) >= self.most

    @property
    def none(self) -> bool:
        """Whether nobody is connected."""
        return not (self.open or self.greeting)

    def end_behind_answers(self) -> None:
        """From now on each connection is closed when it is quiet behind an answer, so that no question meets a closed one."""
        self.ending = True
        for connection in self.open:
            connection.bounded = True

    def drain(self) -> None:
        """Closes every connection as soon as nothing of it is in flight."""
        for connection in tuple(self.open):
            connection.finish()
        for transport in tuple(self.greeting):
            transport.abort()


class TcpConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, responder: Responder, connections: TcpConnections, timeouts: Timeouts, parted: Parted | None = None) -> None:
        """Replies come from `responder`; the connection registers itself with `connections`. `parted` is what another worker knew of it."""
        self._responder, self._connections, self._timeouts, self._parted = responder, connections, timeouts, parted
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(parted.buffer if parted is not None else b"")
        self._busy = self._closing = self._paused = self._held = False
        self._left = timeouts.queries if parted is None else parted.left
        self.bounded = self._left > 0 or connections.ending
        """Whether the connection may have to be closed behind an answer."""
        self._replied = False
        """Whether it has got a reply since connections end behind answers."""
        self._answered_at = 0.0
        self._ending: asyncio.TimerHandle | None = None
        self._draining: DrainingSelector | None = None
        self._taken: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._fd = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection on, or closes it where too many are open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        full = self._connections.full and self._parted is None
        if full or not peer:  # without a peer it has been cut already
            transport.abort()
            return
        self._connections.open.add(self)
        self._client = Client(peer[0], peer[1], _plain(local[0]), local[1], "tcp", 2 if ":" in peer[0] else 1)
        self._expect(self._timeouts.read if self._parted is None else self._parted.patience)
        self._secure = transport.get_extra_info("ssl_object") is not None
        if isinstance(self._loop, DrainingLoop) and not self._secure:
            transport.pause_reading()
            self._fd = transport.get_extra_info("socket").fileno()
            self._draining = self._loop.selector
            self._draining.add(self._fd, self._drain)

    def _drain(self) -> None:
        """The short way of a connection that has nothing in flight: a whole question whose answer is compiled, read and answered at once.

        Whatever else arrives takes the way of any connection.
        """
        started = perf_counter()
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._transport.abort()
            return
        if not data:
            self._hold()
            if not self.eof_received():
                self._transport.close()
            return
        if self._buffer or self._busy or self._paused or self._closing or len(data) < _LEAST or data[0] << 8 | data[1] != len(data) - 2:
            self.data_received(data)
            return
        responder = self._responder
        table, now = responder.table, responder.table.now()
        entry = table.young.get(data[4:] if responder.listener.classes is None else responder.key(data[2:], self._client))
        if entry is None or entry.deadline <= now or entry.seen is not None or self._transport.get_write_buffer_size():
            self.data_received(data)
            return
        self._deadline = now + self._timeouts.idle
        reply = table.use(entry)
        self._write_at_once((len(reply) + 2).to_bytes(2, "big") + data[2:4] + reply)
        if self.bounded:
            self._left -= self._left > 0
            self._replied = self._connections.ending
            self._next()
        responder.durations.observe(perf_counter() - started, 1)

    def _write_at_once(self, message: bytes) -> None:
        """Writes past the transport, which has nothing to write; what the kernel does not take goes through it."""
        try:
            written = os.write(self._fd, message)
        except BlockingIOError:
            written = 0
        except OSError:
            self._transport.abort()
            return
        if written < len(message):
            self._transport.write(message[written:])

    def _hold(self) -> None:
        """Reads no more for now."""
        if self._draining is not None:
            self._draining.remove(self._fd)
        else:
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Reads again."""
        if self._draining is not None:
            self._draining.add(self._fd, self._drain)
        else:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Forgets the connection; an answer still in flight goes nowhere."""
        self._closing = True
        self._connections.open.discard(self)
        self._unblock()
        for timer in (self._timer, self._ending):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Collects octets and answers whole messages."""
        self._buffer += data
        if len(self._buffer) > BUFFER:
            self._held = True
            self._hold()
        self._next()

    def eof_received(self) -> bool:
        """The client sends no more; what it has asked is still answered."""
        if self._busy or self._whole_message():
            self._closing = True
            return True
        return False

    def pause_writing(self) -> None:
        """The client does not take its replies: nothing further is answered, and it has the write time to change that."""
        self._paused = True
        self._expect(self._timeouts.write)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused = False
        self._unblock()
        self._expect(self._timeouts.idle)
        self._next()

    def _end_if_quiet(self) -> None:
        """Closes the connection unless its client goes on asking: then a question would meet a closed one."""
        self._ending = None
        if self._busy or self._buffer or self._transport.is_closing():
            return
        left = self._answered_at + QUIET - self._loop.time()
        if left > 0:
            self._ending = self._loop.call_later(left, self._end_if_quiet)
        else:
            self.finish()

    def finish(self) -> None:
        """Closes the connection once what it has asked is answered, that which waits in the kernel too."""
        if self._draining is not None and not (self._busy or self._paused or self._transport.is_closing()):
            self._drain()
        self._closing = True
        if not self._busy and not self._transport.is_closing():
            self._transport.close()

    @property
    def responder(self) -> Responder:
        """Where its replies come from."""
        return self._responder

    # -- to another worker

    def part(self) -> Parted | None:
        """What another worker has to know to take the connection over; None while something of it is in flight.

        Then it does nothing more, until `leave` or `stay` is called. One over TLS cannot go.
        """
        if self._secure or self._busy or self._paused or self._closing or self._whole_message() or self._transport.is_closing():
            return None
        if self._transport.get_write_buffer_size():
            return None
        self._hold()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        listener, family = self._responder.listener, 4 if self._client.family == 1 else 6
        fd = self._transport.get_extra_info("socket").fileno()
        patience = max(0.0, self._deadline - self._loop.time())
        return Parted(fd, listener.host, listener.port, family, patience, bytes(self._buffer), self._left)

    def leave(self) -> None:
        """The other worker has it: this one's descriptor is closed, which the client does not see."""
        self._transport.abort()

    def stay(self) -> None:
        """Nobody has taken it over: it goes on here."""
        self._expect(self._timeouts.idle)
        self._go_on()

    async def more(self, wire: bytes) -> None:
        """Sends a message of a reply that has further ones, and waits while the client does not read.

        Raises ConnectionError when it is gone.
        """
        self._write(wire)
        if self._paused:
            self._taken = self._loop.create_future()
            await self._taken
        if self._transport.is_closing():
            raise ConnectionResetError

    def abort(self) -> None:
        """Cuts the connection: what was sent is half a reply."""
        self._busy = False
        self._transport.abort()

    def _unblock(self) -> None:
        if self._taken is not None:
            self._taken.set_result(None)
            self._taken = None

    def _whole_message(self) -> bool:
        return len(self._buffer) >= 2 and len(self._buffer) >= 2 + int.from_bytes(self._buffer[:2], "big")

    def _next(self) -> None:
        while self._left and not (self._busy or self._paused or self._transport.is_closing()) and self._whole_message():
            self._left -= self._left > 0
            size = int.from_bytes(self._buffer[:2], "big")
            packet = bytes(self._buffer[2 : 2 + size])
            del self._buffer[: 2 + size]
            self._answer(packet)
        if not self._busy and (not self._left or (self._closing and not self._whole_message())):
            self._transport.close()
        elif self._replied and not (self._busy or self._buffer):
            self._answered_at = self._loop.time()
            if self._ending is None:
                self._ending = self._loop.call_later(QUIET, self._end_if_quiet)
        elif self._held and len(self._buffer) <= BUFFER and not self._transport.is_closing():
            self._held = False
            self._go_on()

    def _answer(self, packet: bytes) -> None:
        started = perf_counter()
        responder, table = self._responder, self._responder.table
        entry = table.find(responder.key(packet, self._client), table.now())
        if entry is not None:
            wire = packet[:2] + table.use(entry)
            self._write(wire)
            responder.durations.observe(perf_counter() - started, 1)
            if entry.seen is not None:
                responder.hit(entry, packet, self._client, len(wire), started)
            return
        negative = responder.answer_negative(packet[2:]) if responder.listener.classes is None else b""
        if negative:
            self._write(packet[:2] + negative)
            responder.durations.observe(perf_counter() - started, 1)
            return
        self._busy = True
        responder.answer(packet, self._client, self._reply, started, self)

    def _reply(self, wire: bytes) -> None:
        self._busy = False
        if not self._transport.is_closing():
            if wire:
                self._write(wire)
            self._loop.call_soon(self._next)

    def _write(self, wire: bytes) -> None:
        self._transport.write(len(wire).to_bytes(2, "big") + wire)
        self._replied = self._connections.ending
        if not self._paused:
            self._expect(self._timeouts.idle)

    def _expect(self, seconds: float) -> None:
        """Ends the connection in so many seconds, unless something else is expected before. A timer set for earlier stays, and looks."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._expired)

    def _expired(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline:
            self._set_timer()
        elif self._busy and not self._paused:
            self._expect(self._timeouts.idle)
        else:
            self._transport.abort() if self._paused else self._transport.close()


def _plain(address: Any) -> str:
    """The address without an IPv6 zone id."""
    return str(address).partition("%")[0]

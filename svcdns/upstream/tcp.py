"""Questions to one server over connections that are kept: several at once on each, replies in any order (RFC 7766 §6.2.1.1).

What a connection is made of is behind one seam, `Connector`. Rules: a question that was under way when its connection ended is asked
again on another one, RESENDS times; a server that ends a connection with questions open after it has answered others takes one at a time,
and is asked so from then on; a connection that a question ran out of time on, and that nothing has come by since, is of no more use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from svcdns.eventloop.clock import Clock
from svcdns.upstream.query import Address, ExchangeError, Question, failure, random_ident, shown, timed_out
from svcdns.upstream.udp import Take

WIDTH: Final = 64
"""Questions at once on a connection before there is another one."""
MOST: Final = 8
"""Connections to a server; beyond, questions go to the one with the fewest."""
RESENDS: Final = 2
MAX_LATE: Final = 256
"""Ids on a connection that nobody waits for any longer but may still be answered."""

Connector = Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]
"""Opens a connection to the server with a protocol from this factory. Raises OSError."""


class Keeping(msgspec.Struct, frozen=True):
    """How long connections are kept, in seconds: unused (`expire`), in all (`max_age`, 0 for ever); `max_idle` of them unused, 0 for any
    number; and how long opening one may take.
    """

    expire: float = 10.0
    max_age: float = 0.0
    max_idle: int = 0
    connect_timeout: float = 2.0


class Streamed:
    """One question under way."""

    __slots__ = ("began", "ident", "question", "resent", "stream", "take")

    def __init__(self, question: Question, take: Take, began: float) -> None:
        self.question, self.take, self.began, self.resent = question, take, began, 0
        self.stream: _Stream | None = None
        self.ident = -1


class _Stream(asyncio.Protocol):
    """One connection, open or being opened."""

    def __init__(self, streams: Streams, now: float) -> None:
        self.streams, self.opened, self.idle_since, self.heard = streams, now, now, now
        self.waiting: dict[int, Streamed] = {}
        self.late: set[int] = set()
        self.answered = 0
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._unsent = bytearray()
        self._unread = bytearray()

    @property
    def connected(self) -> bool:
        """Whether it is open."""
        return self._transport is not None

    def ask(self, asked: Streamed) -> None:
        """Sends a question, as soon as the connection is there."""
        while asked.ident < 0 or asked.ident in self.waiting or asked.ident in self.late:
            asked.ident = random_ident()
        asked.stream = self
        self.waiting[asked.ident] = asked
        packet = asked.question.packet(asked.ident)
        framed = len(packet).to_bytes(2, "big") + packet
        if self._transport is None:
            self._unsent += framed
        else:
            self._transport.write(framed)

    def close(self) -> None:
        """Ends it."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self.closed:
            transport.abort()
            return
        self.opened = self.heard = self.streams.clock()
        if self._unsent:
            transport.write(bytes(self._unsent))
            self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        self.heard = self.streams.clock()
        unread = self._unread
        unread += data
        at = 0
        while len(unread) - at >= 2 and not self.closed:
            end = at + 2 + int.from_bytes(unread[at : at + 2], "big")
            if len(unread) < end:
                break
            self._message(bytes(unread[at + 2 : end]))
            at = end
        del unread[:at]

    def _message(self, packet: bytes) -> None:
        ident = int.from_bytes(packet[:2], "big")
        asked = self.waiting.get(ident)
        if asked is None or not asked.question.admits(ident, packet):
            if ident in self.late:
                self.late.discard(ident)
            else:
                self.streams.foreign()
            return
        del self.waiting[ident]
        self.answered += 1
        self.streams.freed(self)
        asked.take(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.streams.lost(self, exc)


class Streams:
    """The connections to one server."""

    def __init__(
        self, server: Address, keeping: Keeping, clock: Clock, connector: Connector, foreign: Callable[[], None] = lambda: None
    ) -> None:
        """`foreign` is called for each message that belongs to no question."""
        self._server, self._keeping, self.clock, self._connector, self.foreign = server, keeping, clock, connector, foreign
        self._open: list[_Stream] = []
        self._width = WIDTH
        self._opening: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many are open or being opened."""
        return len(self._open)

    def ask(self, question: Question, take: Take) -> tuple[Streamed, bool]:
        """Sends a question, and whether over a connection that was there; `take` is never called within."""
        asked = Streamed(question, take, self.clock())
        return asked, self._send(asked)

    def drop(self, asked: Streamed, *, expired: bool) -> None:
        """Waits for this one no longer; with `expired` its connection is looked at too."""
        stream = asked.stream
        if stream is None or stream.waiting.pop(asked.ident, None) is None:
            return
        stream.late.add(asked.ident)
        if (expired and stream.heard <= asked.began) or len(stream.late) > MAX_LATE:
            stream.close()
        else:
            self.freed(stream)

    def stop(self) -> None:
        """Ends each connection as soon as nothing is under way on it."""
        self._keeping = msgspec.structs.replace(self._keeping, expire=0.0)
        for stream in tuple(self._open):
            self.freed(stream)

    def freed(self, stream: _Stream) -> None:
        """A connection has one question less."""
        if stream.waiting:
            return
        stream.idle_since = self.clock()
        keeping = self._keeping
        idle = sum(not one.waiting for one in self._open)
        if keeping.expire <= 0 or (keeping.max_idle and idle > keeping.max_idle):
            self._close(stream)
        else:
            asyncio.get_running_loop().call_later(keeping.expire + 0.1, self._close_expired)

    def lost(self, stream: _Stream, reason: Exception | None) -> None:
        """A connection has ended: what was under way on it goes elsewhere."""
        if stream in self._open:
            self._open.remove(stream)
        waiting = tuple(stream.waiting.values())
        stream.waiting.clear()
        if waiting and stream.answered:
            self._width = 1
        text = f"connection ended: {reason}" if reason is not None else "connection ended"
        for asked in waiting:
            if asked.resent < RESENDS:
                asked.resent += 1
                asked.ident = -1
                self._send(asked)
            else:
                asked.take(ExchangeError(f"{shown(self._server)}: {text}"))

    def _send(self, asked: Streamed) -> bool:
        stream = self._choose()
        known = stream is not None
        if stream is None:
            stream = _Stream(self, self.clock())
            self._open.append(stream)
            task = asyncio.ensure_future(self._connect(stream))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        stream.ask(asked)
        return known

    def _choose(self) -> _Stream | None:
        """The one that has been unused longest; else one with room; None for another one."""
        self._close_expired()
        young = [one for one in self._open if not self._is_old(one)]
        if not young:
            return None
        best = min(young, key=lambda one: (len(one.waiting), one.idle_since))
        return best if len(best.waiting) < self._width or len(self._open) >= MOST else None

    async def _connect(self, stream: _Stream) -> None:
        reason: ExchangeError
        try:
            async with asyncio.timeout(self._keeping.connect_timeout):
                await self._connector(lambda: stream)
        except TimeoutError:
            reason = timed_out(self._server)
        except OSError as error:
            reason = failure(self._server, error)
        else:
            return
        stream.closed = True
        if stream in self._open:
            self._open.remove(stream)
        waiting = tuple(stream.waiting.values())
        stream.waiting.clear()
        for asked in waiting:
            asked.take(reason)

    def _close_expired(self) -> None:
        latest = self.clock() - self._keeping.expire
        for stream in tuple(self._open):
            if stream.closed or (not stream.waiting and (stream.idle_since < latest or self._is_old(stream))):
                self._close(stream)

    def _is_old(self, stream: _Stream) -> bool:
        return 0 < self._keeping.max_age < self.clock() - stream.opened

    def _close(self, stream: _Stream) -> None:
        if stream in self._open:
            self._open.remove(stream)
        stream.close()


def plain(server: Address, source: str = "") -> Connector:
    """Opens TCP connections, from that local address."""

    async def connect(factory: Callable[[], asyncio.Protocol]) -> object:
        local = (source, 0) if source else None
        return await asyncio.get_running_loop().create_connection(factory, *server, local_addr=local)

    return connect

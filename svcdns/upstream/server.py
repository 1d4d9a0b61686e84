"""One upstream server: its kept TCP connections, whether it is up, and its metrics.

A server that failed is probed until it answers; it is down while more probes than `max_fails` have failed in a row. Source of the
rules: spec C-forward."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import msgspec

from svcdns.telemetry.clock import Clock
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.upstream.exchange import Address, ExchangeError, Question, TcpConnection, over_udp, shown
from svcdns.wire.codes import RD, Class, Type, rcode_text
from svcdns.wire.message import Message
from svcdns.wire.names import ROOT

PROBE_TIMEOUT: Final = 1.0
DURATIONS: Final = tuple(0.00025 * 2**i for i in range(16))

REQUEST_DURATION: Final = Family(
    "coredns_proxy_request_duration_seconds",
    MetricKind.HISTOGRAM,
    "Seconds that requests to an upstream took.",
    ("proxy_name", "to", "rcode"),
    DURATIONS,
)
PROBE_FAILURES: Final = Family(
    "coredns_proxy_healthcheck_failures_total", MetricKind.COUNTER, "Health checks of an upstream that failed.", ("proxy_name", "to")
)
KEPT_HITS: Final = Family(
    "coredns_proxy_conn_cache_hits_total",
    MetricKind.COUNTER,
    "Requests that went over a kept connection.",
    ("proxy_name", "to", "proto"),
)
KEPT_MISSES: Final = Family(
    "coredns_proxy_conn_cache_misses_total",
    MetricKind.COUNTER,
    "Requests that needed a new connection or socket.",
    ("proxy_name", "to", "proto"),
)


class Manner(msgspec.Struct, frozen=True):
    """How a server is to be treated; times in seconds."""

    read_timeout: float = 2.0
    connect_timeout: float = 2.0
    expire: float = 10.0
    max_age: float = 0.0
    max_idle: int = 0
    max_fails: int = 2
    probe_interval: float = 0.5
    probe_name: bytes = ROOT
    probe_recursion: bool = True
    probe_tcp: bool = False
    source: str = ""


class _Kept(msgspec.Struct):
    connection: TcpConnection
    opened: float
    idle_since: float


class Server:
    """A server by its address."""

    def __init__(self, address: Address, manner: Manner, counters: Counters, clock: Clock, proxy_name: str = "forward") -> None:
        """`proxy_name` labels the metrics."""
        self.address, self.manner = address, manner
        self._counters, self._clock, self._labels = counters, clock, (proxy_name, shown(address))
        self._fails = 0
        self._probing: asyncio.Task[None] | None = None
        self._idle: deque[_Kept] = deque()
        self._cells: dict[int, int] = {}
        counters.cell(PROBE_FAILURES, *self._labels)

    @property
    def down(self) -> bool:
        """Whether more probes in a row have failed than are allowed."""
        return 0 < self.manner.max_fails < self._fails

    async def ask(self, question: Question, *, tcp: bool) -> Message:
        """The server's reply. Raises ExchangeError."""
        began = self._clock()
        message = await (self._over_tcp(question) if tcp else self._over_udp(question))
        rcode = message.flags & 15
        cell = self._cells.get(rcode)
        if cell is None:
            cell = self._cells[rcode] = self._counters.cell(REQUEST_DURATION, *self._labels, rcode_text(rcode))
        self._counters.observe(REQUEST_DURATION, cell, self._clock() - began)
        return message

    def failed(self) -> None:
        """A question came to nothing: probe until the server answers again."""
        if self.manner.max_fails > 0 and self.manner.probe_interval > 0 and (self._probing is None or self._probing.done()):
            self._probing = asyncio.ensure_future(self._probe())

    def stop(self) -> None:
        """Ends probes and kept connections."""
        if self._probing is not None:
            self._probing.cancel()
        while self._idle:
            self._idle.popleft().connection.close()

    async def _over_udp(self, question: Question) -> Message:
        self._counters.count(KEPT_MISSES, *self._labels, "udp")
        return await over_udp(question, self.address, self.manner.read_timeout, self.manner.source)

    async def _over_tcp(self, question: Question) -> Message:
        manner = self.manner
        while (kept := self._take_idle()) is not None:
            self._counters.count(KEPT_HITS, *self._labels, "tcp")
            try:
                message = await kept.connection.ask(question, manner.read_timeout)
            except ExchangeError as error:
                if "connection ended" in str(error):  # the server closed it meanwhile: not a failure of the server
                    continue
                raise
            self._keep(kept)
            return message
        self._counters.count(KEPT_MISSES, *self._labels, "tcp")
        connection = await TcpConnection.connect(self.address, manner.connect_timeout, manner.source)
        message = await connection.ask(question, manner.read_timeout)
        now = self._clock()
        self._keep(_Kept(connection, now, now))
        return message

    def _take_idle(self) -> _Kept | None:
        now, manner = self._clock(), self.manner
        while self._idle:
            kept = self._idle.popleft()
            old = manner.max_age > 0 and now - kept.opened > manner.max_age
            if not (kept.connection.closed or old or now - kept.idle_since > manner.expire):
                return kept
            kept.connection.close()
        return None

    def _keep(self, kept: _Kept) -> None:
        limit = self.manner.max_idle
        if self.manner.expire <= 0 or (limit and len(self._idle) >= limit):
            kept.connection.close()
            return
        kept.idle_since = self._clock()
        self._idle.append(kept)
        asyncio.get_running_loop().call_later(self.manner.expire + 0.1, self._close_expired)

    def _close_expired(self) -> None:
        now = self._clock()
        while self._idle and now - self._idle[0].idle_since > self.manner.expire:
            self._idle.popleft().connection.close()

    async def _probe(self) -> None:
        manner = self.manner
        question = Question(manner.probe_name, Type.NS, Class.IN, RD if manner.probe_recursion else 0)
        while True:
            try:
                await self._probe_once(question)
            except ExchangeError:
                self._fails += 1
                self._counters.count(PROBE_FAILURES, *self._labels)
            else:
                self._fails = 0
                return
            await asyncio.sleep(manner.probe_interval)

    async def _probe_once(self, question: Question) -> None:
        if not self.manner.probe_tcp:
            await over_udp(question, self.address, PROBE_TIMEOUT, self.manner.source)
            return
        connection = await TcpConnection.connect(self.address, PROBE_TIMEOUT, self.manner.source)
        try:
            await connection.ask(question, PROBE_TIMEOUT)
        finally:
            connection.close()

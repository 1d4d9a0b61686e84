"""One upstream server: its queries, its health checks, and its metrics.

After a failed query, the server gets health checks until it replies, as in CoreDNS's *forward*. An abandoned query
stays open until SILENCE seconds have passed, so that a silent server is noticed.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from svcdns.eventloop.timer_wheel import Timer, TimerWheel, cancel
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.upstream.health import SILENCE, Health
from svcdns.upstream.query import (
    Address,
    Completed,
    Dropped,
    ExchangeError,
    Received,
    SpoofedError,
    UpstreamQuery,
    address_text,
    timeout_error,
)
from svcdns.upstream.tcp import Connection, ConnectionOptions, Connector, TcpQuery, UpstreamConnections, tcp_connector
from svcdns.upstream.udp import UdpSocket, UdpSockets
from svcdns.wire.codes import RD, Class, Type, rcode_label
from svcdns.wire.names import ROOT

PROBE_TIMEOUT: Final = 1.0
"""Seconds to wait for the reply to a health check."""
BACK_OFF: Final = 0.1
"""Seconds that an upstream has to send the right reply after a packet that was dropped."""
DURATIONS: Final = tuple(0.00025 * 2**i for i in range(16))

REQUEST_DURATION: Final = Family(
    "coredns_proxy_request_duration_seconds",
    MetricKind.HISTOGRAM,
    "Seconds that requests to an upstream took.",
    ("proxy_name", "to", "rcode"),
    DURATIONS,
)
PROBE_FAILURES: Final = Family(
    "coredns_proxy_healthcheck_failures_total",
    MetricKind.COUNTER,
    "Health checks of an upstream that failed.",
    ("proxy_name", "to"),
)
CONNECTION_HITS: Final = Family(
    "coredns_proxy_conn_cache_hits_total",
    MetricKind.COUNTER,
    "Requests that used an existing connection.",
    ("proxy_name", "to", "proto"),
)
CONNECTION_MISSES: Final = Family(
    "coredns_proxy_conn_cache_misses_total",
    MetricKind.COUNTER,
    "Requests that needed a new connection or socket.",
    ("proxy_name", "to", "proto"),
)
FOREIGN: Final = Family(
    "svcdns_forward_foreign_replies_total",
    MetricKind.COUNTER,
    "Packets from an upstream's address that are not the reply to a query; they are dropped.",
    ("to", "reason"),
)
CIRCUIT_OPEN: Final = Family(
    "svcdns_forward_circuit_open",
    MetricKind.GAUGE,
    "1 while an upstream gets no queries because it does not reply.",
    ("to",),
    uniform=True,
)


class ServerOptions(msgspec.Struct, frozen=True):
    """How to query and check a server. Times are in seconds."""

    read_timeout: float = 2.0
    connections: ConnectionOptions = ConnectionOptions()
    max_fails: int = 2
    probe_interval: float = 0.5
    probe_name: bytes = ROOT
    probe_recursion: bool = True
    probe_tcp: bool = False
    source: str = ""


AttemptCompleted = Callable[["Attempt", Received | ExchangeError], None]
"""Callback of an attempt. It is called with the attempt, and with the reply or the error."""


class Attempt(msgspec.Struct, eq=False):
    """One query to one server.

    `_completed` is called once: after `start` has returned, and not after `abandon`. `started_at` is the time on the
    server's clock, and `_timeout` is in seconds.
    """

    server: Server
    _query: UpstreamQuery
    _completed: AttemptCompleted
    started_at: float
    _timeout: float
    _silence_checked: bool = False
    tcp: bool = False
    _sent: UdpSocket | TcpQuery | None = None
    _timer: Timer | None = None

    @property
    def _deadline(self) -> float:
        return self.started_at + self._timeout

    @property
    def silent(self) -> bool:
        """Returns True if the server has sent no reply to any query since this query was sent."""
        return self.server.health.silent(self.started_at)

    @property
    def open_query(self) -> UdpSocket | TcpQuery | None:
        """Returns the open query, or None if the query has ended or could not be sent."""
        return self._sent

    def start(self, *, tcp: bool) -> None:
        """Sends the query over TCP if `tcp` is true, and otherwise over UDP.

        A server that is configured for TLS gets the query over TLS.
        """
        server = self.server
        self.tcp = tcp or server.secure
        try:
            self._sent = server.send(self._query, self._outcome, tcp=self.tcp)
        except ExchangeError as error:
            asyncio.get_running_loop().call_soon(self._outcome, error)
            return
        if self._timeout > SILENCE:
            self._timer = server.timer_wheel.at(self.started_at + SILENCE, self._check_silence)
        else:
            self._timer = server.timer_wheel.at(self._deadline, self._expire)

    def abandon(self) -> None:
        """Stops waiting for the reply: `completed` is not called any more.

        The query stays open until SILENCE seconds have passed, so that a silent server is noticed.
        """
        self._completed = _ignore
        if self._silence_checked:
            self._cancel()

    def _outcome(self, outcome: Received | ExchangeError) -> None:
        self._sent = None
        if self._timer is not None:
            cancel(self._timer)
        if not isinstance(outcome, ExchangeError):
            self.server.answered(self.started_at, outcome.rcode)
        elif self.tcp or self._completed is _ignore or not isinstance(outcome, SpoofedError):
            self._record_failure(outcome)
        completed, self._completed = self._completed, _ignore
        completed(self, outcome)

    def _check_silence(self) -> None:
        if self._completed is _ignore:
            self._expire()
            return
        self._silence_checked = True
        if self.silent:
            self.server.query_failed()
        self._timer = self.server.timer_wheel.at(self._deadline, self._expire)

    def _expire(self) -> None:
        self._cancel()
        self._outcome(timeout_error(self.server.address))

    def _record_failure(self, error: ExchangeError) -> None:
        if error.local:
            return
        if error.timed_out and (self._silence_checked or not self.silent):
            self.server.start_checks()
        else:
            self.server.query_failed()

    def _cancel(self) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            self.server.cancel(sent, timed_out=self._completed is not _ignore)


def _ignore(_attempt: Attempt, _outcome: Received | ExchangeError) -> None:
    """Does nothing. Used as the callback of an abandoned query."""


class Server:
    """An upstream server, identified by its address."""

    def __init__(
        self,
        address: Address,
        options: ServerOptions,
        counters: Counters,
        timer_wheel: TimerWheel,
        proxy_name: str = "forward",
        connector: Connector | None = None,
        connection: Callable[[UpstreamConnections, float], Connection] = Connection,
        proto: str = "tcp-tls",
    ) -> None:
        """`proxy_name` is a label of the metrics.

        If `connector` is given, every query is sent over a TLS connection that `connector` opens. `connection` makes
        the protocol of a connection, and `proto` is its label in the metrics.
        """
        self.address, self.options, self.timer_wheel, self.clock = address, options, timer_wheel, timer_wheel.clock
        self.label = address_text(address)
        """The server's `host:port`, as a label of the metrics."""
        self._counters, self._labels = counters, (proxy_name, self.label)
        self.secure, self._proto = connector is not None, proto if connector is not None else "tcp"
        self.health = Health(options.max_fails, checked=options.probe_interval > 0)
        self._sockets = UdpSockets(address, options.source, self._dropped)
        connector = connector or tcp_connector(address, options.source)
        self._connections = UpstreamConnections(
            address, options.connections, self.clock, connector, self._dropped, connection
        )
        self._stopped = False
        self._runs = self._current_run = 0
        """Two numbers: how many series of health checks were started, and which of them is running (0 if none is)."""
        self._cells: dict[int, int] = {}
        self._udp_cell = counters.cell(CONNECTION_MISSES, *self._labels, "udp")
        self._connection_cells: dict[bool, int] = {}
        """The cells that count queries over TCP or TLS. The key: whether an existing connection was used."""
        self._circuit_cell = counters.cell(CIRCUIT_OPEN, self._labels[1])
        counters.cell(PROBE_FAILURES, *self._labels)

    def transport(self, *, tcp: bool) -> str:
        """Returns how queries are sent: `udp`, `tcp`, `tls`, `https` or `quic`."""
        return self._proto.removeprefix("tcp-") if tcp else "udp"

    def send(self, query: UpstreamQuery, completed: Completed, *, tcp: bool) -> UdpSocket | TcpQuery:
        """Sends a query over UDP, or over a connection if `tcp` is true. Raises ExchangeError.

        Returns the open query, for `cancel`.
        """
        if not tcp:
            self._counters.values[self._udp_cell] += 1
            return self._sockets.send(query, completed)
        sent, existing = self._connections.send(query, completed)
        cell = self._connection_cells.get(existing)
        if cell is None:
            family = CONNECTION_HITS if existing else CONNECTION_MISSES
            cell = self._connection_cells[existing] = self._counters.cell(family, *self._labels, self._proto)
        self._counters.values[cell] += 1
        return sent

    def cancel(self, sent: UdpSocket | TcpQuery, *, timed_out: bool) -> None:
        """Cancels the open query `sent`. `timed_out` is true if the reply did not arrive in time."""
        if isinstance(sent, UdpSocket):
            self._sockets.cancel(sent)
        else:
            self._connections.cancel(sent, timed_out=timed_out)

    def _dropped(self, reason: Dropped, sent: UdpSocket | TcpQuery | None) -> None:
        """Counts a dropped packet. At the first one for the query `sent`, schedules the query's end after BACK_OFF
        seconds.

        `sent` is None if the packet belongs to no open query.
        """
        self._counters.count(FOREIGN, self._labels[1], reason.value)
        if sent is not None and sent.dropped == 1:
            self.timer_wheel.at(self.clock() + BACK_OFF, partial(sent.fail, reason))

    def answered(self, sent_at: float, rcode: int) -> None:
        """Records a reply with the response code `rcode` to a query that was sent at the time `sent_at`."""
        now = self.clock()
        seconds = now - sent_at
        if self.health.query_answered(now, seconds):
            self._recovered()
        cell = self._cells.get(rcode)
        if cell is None:
            cell = self._cells[rcode] = self._counters.cell(REQUEST_DURATION, *self._labels, rcode_label(rcode))
        values = self._counters.values  # as `Counters.observe` does, without a call for each reply
        values[cell + bisect_left(DURATIONS, seconds)] += 1
        values[cell + len(DURATIONS) + 1] += seconds

    def query_failed(self) -> None:
        """Records a failed query, and starts health checks. The checks end when the server replies."""
        self.health.query_failed()
        if self.health.circuit_open:
            self._counters.set(self._circuit_cell, 1.0)
        self.start_checks()

    def start_checks(self) -> None:
        """Starts a series of health checks, unless one is running. The series ends when the server replies."""
        options = self.options
        if options.max_fails > 0 and options.probe_interval > 0 and not self._current_run and not self._stopped:
            self._runs += 1
            self._current_run = self._runs
            self._check(self._current_run)

    def pause(self) -> None:
        """Ends the health checks. Call it if the server gets no queries for now."""
        self._current_run = 0
        self._counters.set(self._circuit_cell, 0.0)

    def stop(self) -> None:
        """Ends the health checks. Closes each socket and connection when it has no open query."""
        self._stopped = True
        self.pause()
        self._sockets.stop()
        self._connections.stop()

    def _reply_received(self, now: float) -> None:
        if self.health.reply_received(now):
            self._recovered()

    def _recovered(self) -> None:
        self._current_run = 0
        self._counters.set(self._circuit_cell, 0.0)

    def _check(self, run: int) -> None:
        """Sends a health check, and schedules the next one.

        Does nothing if the series of checks with the number `run` has ended.
        """
        if run != self._current_run:
            return
        options, now = self.options, self.clock()
        query = UpstreamQuery(options.probe_name, Type.NS, Class.IN, RD if options.probe_recursion else 0)
        self.timer_wheel.at(now + options.probe_interval, lambda: self._check(run))
        over = False

        def completed(outcome: Received | ExchangeError) -> None:
            nonlocal over
            over = True
            if not isinstance(outcome, ExchangeError):
                self._reply_received(self.clock())
            elif run == self._current_run:
                self.health.failed_checks += 1
                self._counters.count(PROBE_FAILURES, *self._labels)

        def expire() -> None:
            if not over:
                self.cancel(sent, timed_out=True)
                completed(timeout_error(self.address))

        try:
            over_tcp = options.probe_tcp or self.secure
            sent = self._connections.send(query, completed)[0] if over_tcp else self._sockets.send(query, completed)
        except ExchangeError as error:
            completed(error)
            return
        self.timer_wheel.at(now + PROBE_TIMEOUT, expire)

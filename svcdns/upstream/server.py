"""One upstream server: questions to it, whether it is well, and its metrics.

A server that failed is probed until it answers (docs/behaviour/plugins.md#forward). A question that somebody gave up on
is still listened for until it is
clear whether the server is silent: what is learnt of it holds for those that come after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from svcdns.eventloop.timer_wheel import Timer, TimerWheel, cancel
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.upstream.health import SILENCE, Health
from svcdns.upstream.query import Address, ExchangeError, Question, shown, timed_out
from svcdns.upstream.tcp import Connector, Keeping, Streamed, Streams, plain
from svcdns.upstream.udp import Datagrams, FloodedError, Port, Take
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
FOREIGN: Final = Family(
    "svcdns_forward_foreign_replies_total", MetricKind.COUNTER, "Replies of an upstream that belong to no question, dropped.", ("to",)
)
CIRCUIT_OPEN: Final = Family(
    "svcdns_forward_circuit_open", MetricKind.GAUGE, "1 while an upstream is left out because it does not answer.", ("to",), uniform=True
)


class Manner(msgspec.Struct, frozen=True):
    """How a server is to be treated; times in seconds."""

    read_timeout: float = 2.0
    keeping: Keeping = Keeping()
    max_fails: int = 2
    probe_interval: float = 0.5
    probe_name: bytes = ROOT
    probe_recursion: bool = True
    probe_tcp: bool = False
    source: str = ""


TakeFrom = Callable[["Attempt", bytes | ExchangeError], None]
"""Gets the outcome of an attempt."""


class Attempt:
    """One question to one server. `take` is called once, never within `start`, and not at all after `abandon`."""

    __slots__ = ("_alarm", "_carrier", "_ends", "_judged", "_question", "_server", "_take", "began", "tcp")

    def __init__(self, server: Server, question: Question, take: TakeFrom, began: float, timeout: float) -> None:
        """`began` is now, `timeout` in seconds."""
        self._server, self._question, self._take, self.began = server, question, take, began
        self._ends = began + timeout
        self._judged = self.tcp = False
        self._carrier: Port | Streamed | None = None
        self._alarm: Timer | None = None

    @property
    def server(self) -> Server:
        """Who is asked."""
        return self._server

    @property
    def silent(self) -> bool:
        """Whether the server has said nothing at all since it was asked."""
        return self._server.health.silent(self.began)

    def start(self, *, tcp: bool) -> None:
        """Sends the question."""
        server = self._server
        self.tcp = tcp or server.secure
        try:
            self._carrier = server.carry(self._question, self._came, tcp=self.tcp)
        except ExchangeError as error:
            asyncio.get_running_loop().call_soon(self._came, error)
            return
        judged = self.began + SILENCE
        self._alarm = server.timer_wheel.at(judged, self._judge) if judged < self._ends else server.timer_wheel.at(self._ends, self._expire)

    def abandon(self) -> None:
        """Nobody waits for the reply any longer; what it says of the server is still of interest for a while."""
        self._take = _nobody
        if self._judged:
            self._drop()

    def _came(self, outcome: bytes | ExchangeError) -> None:
        self._carrier = None
        if self._alarm is not None:
            cancel(self._alarm)
        if isinstance(outcome, bytes):
            self._server.answered(self.began, outcome[3] & 15)
        elif isinstance(outcome, FloodedError):
            self.start(tcp=True)
            return
        else:
            self._blame(outcome)
        take, self._take = self._take, _nobody
        take(self, outcome)

    def _judge(self) -> None:
        if self._take is _nobody:
            self._expire()
            return
        self._judged = True
        if self.silent:
            self._server.failed()
        self._alarm = self._server.timer_wheel.at(self._ends, self._expire)

    def _expire(self) -> None:
        self._drop()
        self._came(timed_out(self._server.address))

    def _blame(self, error: ExchangeError) -> None:
        if error.ours:
            return
        if error.silent and (self._judged or not self.silent):
            self._server.probe()
        else:
            self._server.failed()

    def _drop(self) -> None:
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            self._server.drop(carrier, expired=self._take is not _nobody)


def _nobody(_attempt: Attempt, _outcome: bytes | ExchangeError) -> None:
    pass


class Server:
    """A server by its address."""

    def __init__(
        self,
        address: Address,
        manner: Manner,
        counters: Counters,
        timer_wheel: TimerWheel,
        proxy_name: str = "forward",
        connector: Connector | None = None,
    ) -> None:
        """`proxy_name` labels the metrics; with `connector`, which opens connections over TLS, nothing ever goes another way."""
        self.address, self.manner, self.timer_wheel, self.clock = address, manner, timer_wheel, timer_wheel.clock
        self.label = shown(address)
        """`host:port`, as metrics have it."""
        self._counters, self._labels = counters, (proxy_name, self.label)
        self.secure = connector is not None
        self.health = Health(manner.max_fails, checked=manner.probe_interval > 0)
        foreign = counters.cell(FOREIGN, self._labels[1])
        self._datagrams = Datagrams(address, manner.source, lambda: counters.add(foreign))
        self._streams = Streams(
            address, manner.keeping, self.clock, connector or plain(address, manner.source), lambda: counters.add(foreign)
        )
        self._stopped = False
        self._runs = self._checks = 0
        """Runs of health checks so far, and the number of the one under way, 0 for none."""
        self._cells: dict[int, int] = {}
        self._sockets = counters.cell(KEPT_MISSES, *self._labels, "udp")
        self._circuit = counters.cell(CIRCUIT_OPEN, self._labels[1])
        counters.cell(PROBE_FAILURES, *self._labels)

    def ask(self, question: Question, take: TakeFrom, *, tcp: bool, timeout: float = 0.0) -> Attempt:
        """Asks; the reply, or why there is none, comes to `take` within `timeout` seconds, the manner's if 0."""
        attempt = Attempt(self, question, take, self.clock(), timeout or self.manner.read_timeout)
        attempt.start(tcp=tcp)
        return attempt

    async def answer(self, question: Question, *, tcp: bool) -> Message:
        """The same for who is a coroutine. Raises ExchangeError."""
        done: asyncio.Future[bytes | ExchangeError] = asyncio.get_running_loop().create_future()
        attempt = self.ask(question, lambda _, outcome: done.set_result(outcome), tcp=tcp)
        try:
            outcome = await done
        finally:
            attempt.abandon()
        if isinstance(outcome, ExchangeError):
            raise outcome
        return question.opened(outcome)

    def carry(self, question: Question, take: Take, *, tcp: bool) -> Port | Streamed:
        """Puts a question on its way. Raises ExchangeError."""
        if not tcp:
            self._counters.values[self._sockets] += 1
            return self._datagrams.ask(question, take)
        asked, kept = self._streams.ask(question, take)
        self._counters.count(KEPT_HITS if kept else KEPT_MISSES, *self._labels, "tcp-tls" if self.secure else "tcp")
        return asked

    def drop(self, carrier: Port | Streamed, *, expired: bool) -> None:
        """Waits for this reply no longer; `expired` is whether its time is over."""
        if isinstance(carrier, Port):
            self._datagrams.drop(carrier)
        else:
            self._streams.drop(carrier, expired=expired)

    def answered(self, began: float, rcode: int) -> None:
        """A reply has come to a question that was sent at `began`."""
        now = self.clock()
        seconds = now - began
        self.health.answered_within(seconds)
        self._heard(now)
        cell = self._cells.get(rcode)
        if cell is None:
            cell = self._cells[rcode] = self._counters.cell(REQUEST_DURATION, *self._labels, rcode_text(rcode))
        self._counters.observe(REQUEST_DURATION, cell, seconds)

    def failed(self) -> None:
        """A question has come to nothing: probe until the server answers again."""
        self.health.failed()
        if self.health.open:
            self._counters.set(self._circuit, 1.0)
        self.probe()

    def probe(self) -> None:
        """Checks the server until it answers, unless that goes on already."""
        manner = self.manner
        if manner.max_fails > 0 and manner.probe_interval > 0 and not self._checks and not self._stopped:
            self._runs += 1
            self._checks = self._runs
            self._check(self._checks)

    def rest(self) -> None:
        """Nobody is going to ask for a while: ends checks. It may be asked again."""
        self._checks = 0
        self._counters.set(self._circuit, 0.0)

    def stop(self) -> None:
        """Ends checks, and what is kept open, as soon as nothing is under way."""
        self._stopped = True
        self.rest()
        self._datagrams.stop()
        self._streams.stop()

    def _heard(self, now: float) -> None:
        if self.health.heard_of(now):
            self._checks = 0
            self._counters.set(self._circuit, 0.0)

    def _check(self, run: int) -> None:
        """One health check now, and the next one after the interval, until somebody says that the run is over."""
        if run != self._checks:
            return
        manner, now = self.manner, self.clock()
        question = Question(manner.probe_name, Type.NS, Class.IN, RD if manner.probe_recursion else 0)
        self.timer_wheel.at(now + manner.probe_interval, lambda: self._check(run))
        over = False

        def came(outcome: bytes | ExchangeError) -> None:
            nonlocal over
            over = True
            if not isinstance(outcome, ExchangeError):
                self._heard(self.clock())
            elif run == self._checks:
                self.health.fails += 1
                self._counters.count(PROBE_FAILURES, *self._labels)

        def expire() -> None:
            if not over:
                self.drop(carrier, expired=True)
                came(timed_out(self.address))

        try:
            carrier = self._streams.ask(question, came)[0] if manner.probe_tcp or self.secure else self._datagrams.ask(question, came)
        except ExchangeError as error:
            came(error)
            return
        self.timer_wheel.at(now + PROBE_TIMEOUT, expire)

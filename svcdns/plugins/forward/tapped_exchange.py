"""Exchanges that pass their queries and replies to taps, as CoreDNS's *forward* does for the plugin *dnstap*.

A block without *dnstap* and without *trace* does not import this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import msgspec

from svcdns.plugin_api.fast_path import FastPathQuery
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.tap import UpstreamExchange, UpstreamTap
from svcdns.plugins.forward.exchange import Exchange, ExchangeKey
from svcdns.plugins.forward.single_flight import SingleFlight, upstream_query
from svcdns.upstream.query import Dropped, ExchangeError, Received, UpstreamQuery, report
from svcdns.upstream.server import Attempt, Server
from svcdns.upstream.tcp import TcpQuery
from svcdns.upstream.udp import UdpSocket


def tap(single_flight: SingleFlight, taps: Sequence[UpstreamTap], zone: bytes) -> None:
    """Passes the exchanges of a rule to `taps`. `zone` is the zone of the rule, in wire format."""

    def make_query(query: Query | FastPathQuery, key: ExchangeKey) -> UpstreamQuery:
        made = upstream_query(query, key)
        origin = _Origin(tuple(taps), zone, query)
        return TappedQuery(made.name, made.rtype, made.rclass, made.flags, made.edns, made.wire, origin)

    single_flight.make_exchange, single_flight.make_query = TappedExchange, make_query


@dataclass(frozen=True, slots=True)
class _Origin:
    """The taps of a rule, its zone, and the query of the first client."""

    taps: tuple[UpstreamTap, ...]
    zone: bytes
    asked: Query | FastPathQuery


class _Sent(msgspec.Struct):
    """A query that was sent. `local` is the address and port from which it was sent, if it is known already."""

    query: TappedQuery
    open_query: UdpSocket | TcpQuery | None
    local: tuple[str, int] | None
    at: float


class TappedQuery(UpstreamQuery):
    """A query to an upstream that keeps the packet of its last valid reply. `sent` has its attempts."""

    origin: _Origin | None = None
    reply: bytes = b""
    sent: dict[Attempt, _Sent] = msgspec.field(default_factory=dict)

    def without_opt(self) -> TappedQuery:
        """Returns the query without its OPT record."""
        bare = super().without_opt()
        return TappedQuery(bare.name, bare.rtype, bare.rclass, bare.flags, None, bare.wire, self.origin, sent=self.sent)

    def read(self, ident: int, packet: bytes) -> Received | Dropped:
        """Reads a packet as a query without taps does, and keeps the packet of a valid reply."""
        received = super().read(ident, packet)
        if not isinstance(received, Dropped):
            self.reply = packet
        return received

    def note_sent(self, attempt: Attempt, at: float) -> None:
        """Notes that an attempt has sent the query, at the time `at`."""
        sent = attempt.open_query
        local = sent.local_address if isinstance(sent, UdpSocket) else None
        self.sent[attempt] = _Sent(self, sent, local, at)

    def note_end(self, attempt: Attempt, *, has_reply: bool) -> None:
        """Passes the query of an attempt to the taps, with the reply if there is one."""
        sent, origin = self.sent.pop(attempt, None), self.origin
        if sent is None or origin is None:
            return
        query, open_query, server = sent.query, sent.open_query, attempt.server
        reply = query.reply if has_reply else b""
        ident = int.from_bytes(reply[:2], "big") if reply else max(0, getattr(open_query, "ident", 0))
        exchange = UpstreamExchange(
            query.packet(ident),
            reply,
            sent.local or (open_query.local_address if isinstance(open_query, TcpQuery) else None),
            server.address,
            server.transport(tcp=attempt.tcp),
            sent.at,
            perf_counter(),
            origin.zone,
            server.label,
            origin.asked,
        )
        for one in origin.taps:
            try:
                one.forwarded(exchange)
            except Exception as error:  # noqa: BLE001 - the clients get their reply
                report(error)


class TappedExchange(Exchange, eq=False):
    """An exchange whose query may have taps."""

    def _send(self, server: Server, now: float, timeout: float, *, tcp: bool = False) -> None:
        at, query = perf_counter(), self._query
        super()._send(server, now, timeout, tcp=tcp)
        if isinstance(query, TappedQuery):
            query.note_sent(self._attempts[-1], at)

    def _attempt_completed(self, attempt: Attempt, outcome: Received | ExchangeError) -> None:
        if isinstance(self._query, TappedQuery):
            self._query.note_end(attempt, has_reply=not isinstance(outcome, ExchangeError))
        super()._attempt_completed(attempt, outcome)

    def _finish(self, reply: Reply | None = None) -> None:
        if isinstance(self._query, TappedQuery):
            for attempt in self._attempts:
                self._query.note_end(attempt, has_reply=False)
        super()._finish(reply)

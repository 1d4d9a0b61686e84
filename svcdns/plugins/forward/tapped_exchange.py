"""Exchanges that pass their queries and replies to taps, as CoreDNS's *forward* does for the plugin *dnstap*.

A block without *dnstap* does not import this module.
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
    listening = _Listening(tuple(taps), zone)

    def make_query(query: Query | FastPathQuery, key: ExchangeKey) -> UpstreamQuery:
        made = upstream_query(query, key)
        return _TappedQuery(made.name, made.rtype, made.rclass, made.flags, made.edns, made.wire, listening, query)

    single_flight.make_exchange, single_flight.make_query = _TappedExchange, make_query


@dataclass(frozen=True, slots=True)
class _Listening:
    taps: tuple[UpstreamTap, ...]
    zone: bytes


class _TappedQuery(UpstreamQuery):
    """A query to an upstream that keeps the packet of its last valid reply."""

    listening: _Listening | None = None
    asked: Query | FastPathQuery | None = None
    reply: bytes = b""

    def read(self, ident: int, packet: bytes) -> Received | Dropped:
        received = super().read(ident, packet)
        if not isinstance(received, Dropped):
            self.reply = packet
        return received


class _Sent(msgspec.Struct):
    """A query that was sent. `local` is the address and port from which it was sent, if it is known already."""

    query: _TappedQuery
    open_query: UdpSocket | TcpQuery | None
    local: tuple[str, int] | None
    at: float


class _TappedExchange(Exchange, eq=False):
    _sent: dict[Attempt, _Sent] = msgspec.field(default_factory=dict)
    _tapped: _TappedQuery | None = None

    def _send(self, server: Server, now: float, timeout: float, *, tcp: bool = False) -> None:
        query = self._query
        if isinstance(query, _TappedQuery):
            self._tapped = query
        elif self._tapped is not None:  # the exchange has removed the OPT record
            self._query = query = msgspec.structs.replace(
                self._tapped, wire=query.wire, edns=query.edns, flags=query.flags
            )
        at = perf_counter()
        super()._send(server, now, timeout, tcp=tcp)
        assert isinstance(query, _TappedQuery)
        attempt = self._attempts[-1]
        sent = attempt.open_query
        local = sent.local_address if isinstance(sent, UdpSocket) else None
        self._sent[attempt] = _Sent(query, sent, local, at)

    def _attempt_completed(self, attempt: Attempt, outcome: Received | ExchangeError) -> None:
        self._note(attempt, has_reply=not isinstance(outcome, ExchangeError))
        super()._attempt_completed(attempt, outcome)

    def _finish(self, reply: Reply | None = None) -> None:
        for attempt in self._attempts:
            self._note(attempt, has_reply=False)
        super()._finish(reply)

    def _note(self, attempt: Attempt, *, has_reply: bool) -> None:
        """Passes a query to the taps, with its reply if there is one."""
        sent = self._sent.pop(attempt, None)
        if sent is None:
            return
        query, open_query, server = sent.query, sent.open_query, attempt.server
        listening, asked = query.listening, query.asked
        assert listening is not None
        assert asked is not None
        reply = query.reply if has_reply else b""
        ident = int.from_bytes(reply[:2], "big") if reply else getattr(open_query, "ident", 0)
        exchange = UpstreamExchange(
            query.packet(ident & 0xFFFF),
            reply,
            sent.local or (open_query.local_address if isinstance(open_query, TcpQuery) else None),
            server.address,
            server.transport(tcp=attempt.tcp),
            sent.at,
            perf_counter(),
            listening.zone,
            server.label,
            asked,
        )
        for one in listening.taps:
            try:
                one.forwarded(exchange)
            except Exception as error:  # noqa: BLE001 - the clients get their reply
                report(error)

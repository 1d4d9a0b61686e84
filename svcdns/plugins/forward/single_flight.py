"""Single flight: identical concurrent queries share one exchange with the upstreams. Bounds how many queries wait.

An exchange goes on after its clients are gone, so that the cache gets the reply. A waiter that raises is reported to
the event loop, and the other waiters of the exchange get their reply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from svcdns.plugin_api.fast_path import FastPathQuery, UpstreamReply
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.forward.exchange import Exchange, ExchangeKey, servfail
from svcdns.plugins.forward.metrics import Cells
from svcdns.plugins.forward.upstream_group import UpstreamGroup
from svcdns.upstream.query import UpstreamQuery, report
from svcdns.wire.codes import Rcode

MAX_EXCHANGES: Final = 4096
"""Exchanges of one rule at a time, whatever `max_concurrent` says, so that memory is bounded."""
MAX_WAITERS: Final = 1024
"""Queries that wait for one exchange."""
MAX_OF_CLIENT: Final = 2048
"""Queries of one client address that wait: half of all exchanges are left to other clients."""


class SingleFlight:
    """The exchanges of one rule that are under way, and the queries that wait for them."""

    def __init__(self, max_concurrent: int, cells: Cells) -> None:
        """`max_concurrent` bounds the waiting queries; 0 is for no bound."""
        self._max_concurrent, self._cells = max_concurrent, cells
        self._exchanges: dict[ExchangeKey, Exchange] = {}
        self._waiting = 0
        self._clients: dict[str, int] = {}

    def join(
        self,
        group: UpstreamGroup,
        key: ExchangeKey,
        query: Query | FastPathQuery,
        client: str,
        completed: Callable[[UpstreamReply], None],
    ) -> Reply | None:
        """Waits for the exchange with this key, a new one if there is none.

        Returns a reply at once if a limit is met, and waits not.
        """
        limit = self._max_concurrent
        if limit and self._waiting >= limit:
            return self._refused("concurrent queries", limit)
        waiting = self._clients.get(client, 0)
        if waiting >= MAX_OF_CLIENT:
            return self._refused("concurrent queries of one client", MAX_OF_CLIENT)
        exchange = self._exchanges.get(key)
        if exchange is None:
            _, _, _, _, _, tcp, avoid = key
            if avoid and group.has_only(avoid):
                return rcode_only(Rcode.SERVFAIL, "no other upstream")
            if len(self._exchanges) >= MAX_EXCHANGES:
                return self._refused("concurrent queries", MAX_EXCHANGES)
            exchange = Exchange(group, _upstream_query(query, key), key, self._completed, tcp=tcp, avoid=avoid)
            if not exchange.start():
                return servfail(None)
            self._exchanges[key] = exchange
        elif len(exchange.waiters) >= MAX_WAITERS:
            return self._refused("concurrent queries for one name", MAX_WAITERS)
        exchange.waiters.append((client, completed))
        self._clients[client] = waiting + 1
        self._waiting += 1
        return None

    def _refused(self, what: str, limit: int) -> Reply:
        self._cells.rejected()
        return rcode_only(Rcode.REFUSED, f"{what} exceeded maximum {limit}")

    def _completed(self, exchange: Exchange) -> None:
        del self._exchanges[exchange.key]
        clients = self._clients
        self._waiting -= len(exchange.waiters)
        for client, completed in exchange.waiters:
            left = clients[client] - 1
            if left:
                clients[client] = left
            else:
                del clients[client]
            try:
                completed(exchange)
            except Exception as error:  # noqa: BLE001 - the other waiters get their reply
                report(error)


def _upstream_query(query: Query | FastPathQuery, key: ExchangeKey) -> UpstreamQuery:
    """The query to the upstreams, with the name as the first client spelled it."""
    name, rtype, rclass, flags, edns, _, _ = key
    if isinstance(query, Query):
        return UpstreamQuery(query.name, rtype, rclass, flags, edns)
    wire = query.wire
    return UpstreamQuery(wire[10 : 10 + len(name)], rtype, rclass, flags, edns, wire)

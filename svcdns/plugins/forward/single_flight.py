"""Single flight: identical queries that arrive at the same time share one exchange with the upstreams.

This module also limits how many queries may wait. An exchange goes on even if its clients no longer wait, so that the
reply is cached. If the callback of a waiting query raises an exception, the exception is reported to the event loop,
and the other queries get their reply.
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
"""The most exchanges of one rule at a time, whatever `max_concurrent` states. This limit bounds the memory."""
MAX_WAITERS: Final = 1024
"""The most queries that wait for one exchange."""
MAX_OF_CLIENT: Final = 2048
"""The most waiting queries of one client address. It is half of MAX_EXCHANGES; the rest is for other clients."""


class SingleFlight:
    """The exchanges of one rule that are running, and the queries that wait for them."""

    def __init__(self, max_concurrent: int, cells: Cells) -> None:
        """`max_concurrent` limits the number of waiting queries; 0 means no limit."""
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
        """Adds a query to the running exchange with this key, or starts a new exchange.

        Returns None, and calls `completed` with the reply later. If a limit is reached or no upstream may be queried,
        returns an error reply and never calls `completed`.
        """
        limit = self._max_concurrent
        if limit and self._waiting >= limit:
            return self._refused("concurrent queries", limit)
        waiting = self._clients.get(client, 0)
        if waiting >= MAX_OF_CLIENT:
            return self._refused("concurrent queries of one client", MAX_OF_CLIENT)
        exchange = self._exchanges.get(key)
        if exchange is None:
            tcp, avoid = key[5], key[6]
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
    """Returns the query for the upstreams, with the name in the letter case of the first client."""
    name, rtype, rclass, flags, edns, *_ = key
    if isinstance(query, Query):
        return UpstreamQuery(query.name, rtype, rclass, flags, edns)
    wire = query.wire
    return UpstreamQuery(wire[10 : 10 + len(name)], rtype, rclass, flags, edns, wire)

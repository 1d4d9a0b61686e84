"""Single flight: identical queries that arrive at the same time share one exchange with the upstreams.

Rules: the number of waiting queries is limited. At the limit, the client with the most waiting queries loses its newest
query. An exchange goes on when its clients no longer wait, so that the reply is cached. An exception in one callback
does not affect the other waiting queries.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import islice
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
MAX_SEARCHED: Final = 64
"""The most exchanges that are looked at to find the newest one of a client."""
MAX_OF_CLIENT: Final = 2048
"""The most waiting queries of one client address. It is half of MAX_EXCHANGES; the rest is for other clients."""


class SingleFlight:
    """The queries of one rule that wait for upstreams. Identical queries share one exchange with the upstreams."""

    def __init__(self, max_concurrent: int, cells: Cells) -> None:
        """`max_concurrent` limits the number of waiting queries; 0 means no limit."""
        self._max_concurrent, self._cells = max_concurrent, cells
        self.make_exchange: type[Exchange] = Exchange
        self.make_query: Callable[[Query | FastPathQuery, ExchangeKey], UpstreamQuery] = upstream_query
        """The functions that make an exchange and its query. `tapped_exchange` replaces them."""
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
        make: Callable[..., Exchange] | None = None,
    ) -> Reply | None:
        """Adds a query to the running exchange for this key, or starts a new exchange.

        `make` makes a new exchange, in place of `make_exchange`. Returns None, and calls `completed` when the reply
        arrives. If a limit is reached or no upstream may be queried, returns an error reply instead, and never calls
        `completed`.
        """
        if ":" in client:
            client = _network(client)
        limit = self._max_concurrent
        waiting = self._clients.get(client, 0)
        if limit and self._waiting >= limit and not self._make_room(waiting, limit):
            return self._refused("concurrent queries", limit)
        if waiting >= MAX_OF_CLIENT:
            return self._refused("concurrent queries of one client", MAX_OF_CLIENT)
        exchange = self._exchanges.get(key)
        if exchange is None:
            tcp, avoid = key[5], key[6]
            if avoid and group.has_only(avoid):
                return rcode_only(Rcode.SERVFAIL, "no other upstream")
            if len(self._exchanges) >= MAX_EXCHANGES and not self._make_room(waiting, MAX_EXCHANGES):
                return self._refused("concurrent queries", MAX_EXCHANGES)
            made = self.make_query(query, key)
            exchange = (make or self.make_exchange)(group, made, key, self._completed, tcp, avoid)
            if not exchange.start():
                return servfail(None)
            self._exchanges[key] = exchange
        elif len(exchange.waiters) >= MAX_WAITERS:
            return self._refused("concurrent queries for one name", MAX_WAITERS)
        exchange.waiters.append((client, completed))
        self._clients[client] = waiting + 1
        self._waiting += 1
        return None

    def _make_room(self, waiting: int, limit: int) -> bool:
        """Ends the newest exchange of the client with the most waiting queries, and returns True.

        Returns False, and ends nothing, if no client has at least two more waiting queries than `waiting`.
        """
        clients = self._clients
        if (waiting + 1) * len(clients) >= self._waiting:  # not below the average: the usual case in a flood
            return False
        client = max(clients, key=clients.__getitem__)
        if clients[client] <= waiting + 1:
            return False
        for exchange in islice(reversed(self._exchanges.values()), MAX_SEARCHED):
            if exchange.waiters and all(one == client for one, _ in exchange.waiters):
                self._cells.shed(len(exchange.waiters))
                exchange.stop(rcode_only(Rcode.REFUSED, f"concurrent queries exceeded maximum {limit}"))
                return True
        return False

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


def _network(address: str) -> str:
    """Returns an IPv4 address unchanged, and an IPv6 address as its /64 network."""
    return socket.inet_ntop(
        socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8] + bytes(8)
    )


def upstream_query(query: Query | FastPathQuery, key: ExchangeKey) -> UpstreamQuery:
    """Returns the query for the upstreams, with the name in the letter case of the first client."""
    name, rtype, rclass, flags, edns, *_ = key
    if isinstance(query, Query):
        return UpstreamQuery(query.name, rtype, rclass, flags, edns)
    wire = query.wire
    return UpstreamQuery(wire[10 : 10 + len(name)], rtype, rclass, flags, edns, wire)

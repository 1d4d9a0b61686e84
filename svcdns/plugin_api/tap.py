"""The contract of taps: objects that get the packets of queries and replies, such as those of the plugin *dnstap*.

A block without a tap has no cost for taps. Times are seconds on `perf_counter`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from svcdns.plugin_api.fast_path import FastPathQuery
from svcdns.plugin_api.query import Client, Query
from svcdns.plugin_api.reply import Reply


class Tap(Protocol):
    """Gets the queries and replies of one zone of a server block.

    `started` is the time at which the query was read. `query` is None if no query object was made.
    """

    @property
    def needs_query(self) -> bool:
        """Returns True if the tap needs a query object and a reply object for each query.

        Then the block has no fast path and no cold path.
        """
        ...

    def arrived(self, packet: bytes, client: Client, started: float, query: Query | None) -> None:
        """Called with the packet of a query before the plugin chain answers the query."""
        ...

    def answered(self, packet: bytes, wire: bytes, client: Client, started: float) -> None:
        """Called with a query and the packet of a reply, after `arrived`. Not called for a query without a reply."""
        ...

    def exchanged(self, packet: bytes, wire: bytes, client: Client, started: float, query: Query | None) -> None:
        """Called in place of `arrived` and `answered`, for a reply that was made without the plugin chain."""
        ...

    def observed(self, query: Query, reply: Reply, size: int, seconds: float) -> None:
        """Called after `answered` or `exchanged` if the tap `needs_query`, as `Plugin.observe` is."""
        ...


class UpstreamExchange(NamedTuple):
    """One query to an upstream, with its reply.

    `query` and `reply` are packets; `reply` is empty if no valid reply arrived. `local` and `upstream` are addresses
    and ports; `local` is None if it is not known. `transport` is `udp`, `tcp`, `tls`, `https` or `quic`. `sent` and
    `received` are times. `zone` is the zone that is forwarded, in wire format, and `source` the upstream as text.
    `asked` is the query of the first client that waits.
    """

    query: bytes
    reply: bytes
    local: tuple[str, int] | None
    upstream: tuple[str, int]
    transport: str
    sent: float
    received: float
    zone: bytes
    source: str
    asked: Query | FastPathQuery


class UpstreamTap(Protocol):
    """Gets the queries to upstreams. The plugin *forward* calls it."""

    def forwarded(self, exchange: UpstreamExchange) -> None:
        """Called when a query to an upstream has ended."""
        ...

"""Passes the query and the replies of one packet that goes through the plugin chain to the taps of its block."""

from __future__ import annotations

from svcdns.chain.routing import Route
from svcdns.plugin_api.query import Query
from svcdns.serving.pending_reply import Send
from svcdns.serving.zone_stream import Outlet


class Tapping:
    """The taps of the block that answers a packet."""

    __slots__ = ("_packet", "_query", "_route", "_started")

    def __init__(self, route: Route, query: Query, packet: bytes, started: float) -> None:
        """`packet` is the whole packet of `query`."""
        self._route, self._query, self._packet, self._started = route, query, packet, started

    def begin(self, send: Send, outlet: Outlet | None) -> tuple[Send, Outlet | None]:
        """Passes the query to the taps. Returns a function and an outlet that also pass replies to the taps.

        A query that comes from the fast path was passed to the taps before.
        """
        route, query = self._route, self._query
        if query.upstream_reply is None:
            if route.providers is not None:
                route.collect(query)
            for tap in route.taps:
                tap.arrived(self._packet, query.requestor, self._started, query)

        def send_tapped(wire: bytes) -> None:
            send(wire)
            self.answered(wire)

        return send_tapped, None if outlet is None else _TappedOutlet(outlet, self)

    def answered(self, wire: bytes) -> None:
        """Passes a reply to the taps. Empty octets are no reply."""
        if wire:
            for tap in self._route.taps:
                tap.answered(self._packet, wire, self._query.requestor, self._started)


class _TappedOutlet:
    def __init__(self, outlet: Outlet, tapping: Tapping) -> None:
        self._outlet, self._tapping = outlet, tapping

    async def more(self, wire: bytes) -> None:
        await self._outlet.more(wire)
        self._tapping.answered(wire)

    def abort(self) -> None:
        self._outlet.abort()

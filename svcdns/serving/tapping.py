"""Passes the query and the replies of one packet that goes through the plugin chain to the taps of its block."""

from __future__ import annotations

from svcdns.chain.routing import Route
from svcdns.plugin_api.query import Client, Query
from svcdns.serving.pending_reply import Send
from svcdns.serving.zone_stream import Outlet


class Tapping:
    """The taps of the block that answers a packet."""

    __slots__ = ("_client", "_packet", "_query", "_route", "_started")

    def __init__(self, route: Route, query: Query, packet: bytes, client: Client, started: float) -> None:
        """`packet` is the whole packet of `query`."""
        self._route, self._query, self._packet, self._client, self._started = route, query, packet, client, started

    def arrived(self) -> None:
        """Passes the query to the taps."""
        if self._route.providers is not None:
            self._route.collect(self._query)
        for tap in self._route.taps:
            tap.arrived(self._packet, self._client, self._started, self._query)

    def answered(self, wire: bytes) -> None:
        """Passes a reply to the taps. Empty octets are no reply."""
        if wire:
            for tap in self._route.taps:
                tap.answered(self._packet, wire, self._client, self._started)

    def sending(self, send: Send) -> Send:
        """Returns a function that sends a reply, and then passes the reply to the taps."""

        def send_tapped(wire: bytes) -> None:
            send(wire)
            self.answered(wire)

        return send_tapped

    def outlet(self, outlet: Outlet | None) -> Outlet | None:
        """Returns an outlet that passes the messages of a long reply to the taps."""
        return None if outlet is None else _TappedOutlet(outlet, self)


class _TappedOutlet:
    def __init__(self, outlet: Outlet, tapping: Tapping) -> None:
        self._outlet, self._tapping = outlet, tapping

    async def more(self, wire: bytes) -> None:
        await self._outlet.more(wire)
        self._tapping.answered(wire)

    def abort(self) -> None:
        self._outlet.abort()

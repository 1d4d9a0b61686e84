"""Finds the queries of a listener that are traced (plugin *trace*). Only listeners with the plugin have a `Sampling`.

A traced query is counted before the answer table is used, and then goes through the plugin chain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from svcdns.chain.routing import Listener
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.tracing import HeaderFields, Sampler
from svcdns.wire.errors import FormError
from svcdns.wire.names import ROOT
from svcdns.wire.request import read_query_name

Wire = TypeVar("Wire", bytes, "bytes | None")
Lookup = Callable[[bytes, Client, float], Wire]


class SampledPacket(bytes):
    """The packet of a query that is to be traced, while it waits for its turn."""

    sampler: Sampler


class Sampling:
    """Counts the queries of one listener, over one protocol and address family."""

    __slots__ = ("_latest", "_listener", "_only", "headers")

    def __init__(self, listener: Listener) -> None:
        """`listener` has at least one block with a sampler."""
        self._listener = listener
        samplers = {id(route.sampler): route.sampler for route in listener.all_routes}
        self._only = next(iter(samplers.values())) if len(samplers) == 1 and ROOT in listener.routes else None
        """The sampler of all queries, or None if the name of each query decides which sampler counts the query."""
        self._latest: Sampler | None = None
        self.headers: HeaderFields = ()
        """The header fields that belong to a trace, from the HTTP request with the next query."""

    def skip(self, count: int) -> bool:
        """Counts `count` queries, and returns True, if none of them is to be traced.

        Counts nothing, and returns False, if the queries must be looked at one by one.
        """
        only = self._only
        if only is None or only.left <= count:
            return False
        only.left -= count
        return True

    def choose(self, packet: bytes) -> bool:
        """Counts a query. Returns True if it is to be traced: then pass it to the plugin chain next."""
        headers, self.headers, self._latest = self.headers, (), None
        sampler = self._only or self._find(packet)
        if sampler is None or not sampler.take():
            return False
        sampler.chosen, sampler.headers, self._latest = True, headers, sampler
        return True

    def marked(self, packet: bytes) -> bytes:
        """Returns the packet that was counted last, with a mark if it is to be traced.

        A marked packet may wait for its turn, while other packets are counted.
        """
        sampler, self._latest = self._latest, None
        if sampler is None:
            return packet
        sampler.chosen = False
        marked = SampledPacket(packet)
        marked.sampler = sampler
        return marked

    def _find(self, packet: bytes) -> Sampler | None:
        try:
            name, end = read_query_name(packet)
        except FormError:
            return None
        route = self._listener.find(name.lower(), int.from_bytes(packet[end : end + 2], "big"))
        return None if route is None or route.sampler is None or route.sampler.in_chain else route.sampler


def sampled(sampling: Sampling, lookup: Lookup[Wire]) -> Lookup[Wire]:
    """Returns `lookup` for a listener with samplers: a query that is to be traced is not looked up."""

    def choose(packet: bytes, client: Client, started: float) -> Wire:
        return b"" if sampling.choose(packet) else lookup(packet, client, started)

    return choose

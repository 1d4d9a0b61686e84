"""Which chain answers a question: the zones of one listener, longest match first.

A listener is a port on an address, or on all of them; only the blocks that are served on it take part. There is no fall-back from one
block to a shorter zone when a plugin fails. Questions that no block takes are REFUSED here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from svcdns.chain.client_classes import Classes
from svcdns.plugin_api.closest_encloser import FindEncloser
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import MAX_DEPTH, Answer, Observer, Query
from svcdns.plugin_api.reply import rcode_only
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.wire.codes import Class, Rcode, Type
from svcdns.wire.edns import ECHOED_OPTIONS
from svcdns.wire.names import ROOT, is_within


@dataclass(frozen=True, slots=True)
class Route:
    """One zone of a server block on a listener.

    `entry` is the head of the block's chain, None where it has no handler. `counted` says that the block has `prometheus`, and
    `writer` is the plugin label that its responses are counted with: the plugin behind `prometheus` in the chain.
    `closest_encloser` is there where a
    plugin knows what its zones lack, and all before it treat the names of these zones alike. `fast_path` is
    there where outside names have a short way.
    """

    zone: bytes
    zone_text: str
    entry: Following | None
    counted: bool = False
    writer: str = ""
    view: str = ""
    observers: tuple[Observer, ...] = ()
    closest_encloser: FindEncloser | None = None
    fast_path: FastPath | None = None


DROPPED = Route(ROOT, "dropped", None)
"""Stands for what was refused before any chain: metrics label its zone so."""


@dataclass(slots=True)
class Listener:
    """The zones served at one host and port; an empty host is every address.

    `transport` is `dns` for UDP and TCP, `tls` for DNS over TLS alone (RFC 7858); the latter has the key of its certificate in `security`.
    """

    host: str
    port: int
    transport: str = "dns"
    timeouts: Timeouts = field(default_factory=Timeouts)
    security: str = ""
    routes: dict[bytes, Route] = field(default_factory=dict)
    any_class: bool = False
    counted: bool = False
    observed: bool = False
    echoed: frozenset[int] = ECHOED_OPTIONS
    """Codes of EDNS options that clients get back as they sent them: those of the core, and what plugins add."""
    inner: tuple[bytes, ...] = ()
    """Names that end like one of these, lowered, are nothing for the short way of any block."""
    handlers: list[Plugin] = field(default_factory=list)
    classes: Classes | None = None
    """The audience classes of the listener's clients, None where no plugin of its blocks looks at who asks."""

    @property
    def server(self) -> str:
        """The server label of metrics: `dns://:53`, `dns://127.0.0.1:53`, `tls://[::1]:853`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}://{host}:{self.port}"

    def find(self, key: bytes, rtype: int) -> Route | None:
        """The route of a name, lowered, or None.

        A DS question belongs to a zone above; it is given to the highest that this listener serves below the root, as by CoreDNS.
        """
        at, routes = 0, self.routes
        above = None
        while key[at]:
            route = routes.get(key[at:])
            if route is not None:
                if rtype != Type.DS or route.entry is None:
                    return route
                above = route
            at += 1 + key[at]
        return above or routes.get(ROOT)

    def is_divided(self, key: bytes) -> bool:
        """Whether names below this one, lowered, have other routes than it has."""
        return any(zone != key and is_within(zone, key) for zone in self.routes)

    def route(self, query: Query) -> Route:
        """The route that answers, DROPPED where the question is to be refused before any chain."""
        if query.rclass != Class.IN and not self.any_class:
            return DROPPED
        found = self.find(query.key, query.rtype)
        return DROPPED if found is None or found.entry is None else found

    def ask(self, query: Query) -> Answer:
        """Answers a question of our own through the whole server."""
        if query.depth > MAX_DEPTH:
            return rcode_only(Rcode.SERVFAIL, "too many levels of self-queries")
        return self.answer(query, self.route(query))

    def answer(self, query: Query, route: Route) -> Answer:
        """Puts the question into the route's chain."""
        if route.entry is None:
            return rcode_only(Rcode.REFUSED)
        query.zone = route.zone
        query.listener = self.server
        query.view = route.view
        query.ask_server = self.ask
        return route.entry(query)

"""Stored replies after a reload: which ones are found, and what else they still refer to."""

from __future__ import annotations

import gc
import weakref

import dns.message

from svcdns.chain.kept_routes import KeptRoute, KeptRoutes
from svcdns.chain.routing import Listener, Route
from svcdns.plugin_api.query import Answer, Query
from svcdns.serving.metrics import MAX_LIMITED_ORIGINS, Origin
from svcdns.serving.metrics_flush import flush
from tests.support.responder import REPLY, ResponderSetup
from tests.support.world import CLIENT, counted

NAMES = ("a.b.", "a.c.", "a.b.c.")
C, B_C = b"\1c\0", b"\1b\1c\0"


class Chain:
    """A plugin chain. The test checks when it is freed."""

    def __call__(self, _query: Query) -> Answer:
        return REPLY


class Place(ResponderSetup):
    """A responder with a stored reply for each name of NAMES."""

    def __init__(self) -> None:
        super().__init__("udp")
        self.listener.routes[b"\0"] = Route(b"\0", ".", Chain(), counted=True)
        for name in NAMES:
            packet = dns.message.make_query(name, "A", id=7).to_wire()
            for _ in range(2):
                self.responder.answer(packet, CLIENT, lambda _wire: None, 0.0)

    def reload(
        self, *further: bytes, zones: tuple[bytes, ...] | None = None, all_stay: bool = False, change: bool = False
    ) -> None:
        """Replaces the route of the root zone, and adds routes. Stored replies stay in `zones`."""
        before = self.listener.routes[b"\0"]
        listener = Listener("127.0.0.1", 53)
        listener.routes = {zone: Route(zone, ".", Chain(), counted=True) for zone in (b"\0", *further)}
        kept = {} if change else {id(before): KeptRoute(listener.routes[b"\0"], zones)}
        self.listener = listener
        self.responder.serve(listener, KeptRoutes(kept, all_stay=all_stay))

    def found(self) -> list[str]:
        """Returns the names whose stored replies are used."""
        packets = {name: dns.message.make_query(name, "A", id=7).to_wire() for name in NAMES}
        return [name for name, packet in packets.items() if self.responder.lookup(packet, CLIENT, 0.0)]


def test_replies_of_an_equal_route_stay() -> None:
    for all_stay in (True, False):
        place = Place()
        place.reload(all_stay=all_stay)
        assert place.found() == [*NAMES]


def test_replies_of_names_that_another_route_has_taken_do_not_stay() -> None:
    place = Place()
    place.reload(C)
    assert place.found() == ["a.b."]
    place.reload()
    assert place.found() == ["a.b."], "dropped replies never come back"


def test_replies_stay_only_in_the_zones_of_the_kept_route() -> None:
    """The zones of two reloads apply together. Replies that are stored later are not limited to the zones."""
    place = Place()
    place.reload(zones=(C, B_C))
    place.reload(zones=(B_C,))
    assert place.found() == ["a.b.c."]
    for _ in range(2):
        place.responder.answer(dns.message.make_query("a.b.", "A", id=7).to_wire(), CLIENT, lambda _wire: None, 0.0)
    place.reload()
    assert place.found() == ["a.b.", "a.b.c."]


def test_replies_of_a_changed_route_never_stay() -> None:
    place = Place()
    place.reload(change=True)
    place.reload(all_stay=True)
    assert place.found() == []


def test_a_change_of_the_cluster_drops_kept_replies() -> None:
    for all_stay in (True, False):
        place = Place()
        place.reload(all_stay=all_stay)
        place.table.invalidate(REPLY.dependencies)
        assert place.found() == []


def test_kept_replies_do_not_keep_the_chain_before() -> None:
    """Uses before and after the reload are counted once."""
    place = Place()
    before = weakref.ref(place.listener.routes[b"\0"].entry)
    place.found()
    place.reload(C)
    place.found()
    list(flush(place.responder))
    gc.collect()
    assert before() is None
    label = "coredns_dns_responses_total", "dns://127.0.0.1:53", ".", "", "NOERROR", ""
    assert counted(place.counters)[label] == 2 * len(NAMES) + len(NAMES) + 1


def test_the_number_of_limited_origins_is_bounded() -> None:
    """Of more origins, the oldest have no valid reply any more."""
    place = Place()
    limited: list[Origin] = []
    for _ in range(MAX_LIMITED_ORIGINS + 1):
        limited.append(place.metrics.origin(place.listener.routes[b"\0"]))
        place.reload(zones=(C,))
    assert [origin.zones for origin in limited] == [(), *[(C,)] * MAX_LIMITED_ORIGINS]
    assert limited[0].route.entry is None

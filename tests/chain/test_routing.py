"""Choice of the zone of a listener that answers a query."""

from __future__ import annotations

from dataclasses import replace

import pytest

from svcdns.chain.routing import DROPPED, Listener, Route, ZoneLabels
from svcdns.plugin_api.query import MAX_DEPTH, Query
from svcdns.plugin_api.reply import Reply
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type
from tests.support import world


def listener(*zones: str, host: str = "") -> Listener:
    made = Listener(host, 53)
    for zone in zones:
        wire = names.from_text(zone)
        made.routes[wire] = Route(wire, zone, lambda _query: Reply())
    return made


@pytest.mark.parametrize(
    ("name", "rtype", "zone"),
    [
        pytest.param("x.b.c.", "A", "b.c.", id="longest match"),
        pytest.param("X.B.C.", "A", "b.c.", id="case"),
        pytest.param("b.c.", "A", "b.c.", id="apex"),
        pytest.param("xb.c.", "A", "c.", id="whole labels only"),
        pytest.param("b.c.", "DS", "c.", id="DS belongs to the parent"),
        pytest.param("x.b.c.", "DS", "c.", id="DS inside the zone goes up all the same"),
        pytest.param("c.", "DS", "c.", id="DS where there is no parent"),
        pytest.param("d.", "A", None, id="nobody's"),
    ],
)
def test_finds_the_zone(name: str, rtype: str, zone: str | None) -> None:
    """The longest matching zone answers. Queries for DS go to the parent zone."""
    found = listener("c.", "b.c.").find(names.from_text(name).lower(), Type[rtype])
    assert (None if found is None else found.zone_text) == zone


def test_the_root_takes_the_rest() -> None:
    """A query for the DS record of another zone goes to that zone if its only parent is the root."""
    found = listener(".", "b.c.").find(names.from_text("d."), Type.A)
    assert found is not None
    assert found.zone_text == "."
    below = listener(".", "b.c.").find(names.from_text("b.c."), Type.DS)
    assert below is not None
    assert below.zone_text == "b.c."


def test_zones_with_their_own_label() -> None:
    """The label is the longest zone in `labels` that contains the name. The route stays that of the server block."""
    made, zones = listener("org."), [names.from_text("a.org."), names.from_text("b.a.org.")]
    made.routes[b"\3org\0"] = replace(made.routes[b"\3org\0"], labels=ZoneLabels(lambda: zones))

    def label(name: str) -> str:
        route = made.route(world.query(name))
        assert route.zone == b"\3org\0"
        assert made.route(world.query(name)) is route, "hit counters need the same object each time"
        return route.zone_text

    assert [label(name) for name in ("x.org.", "org.", "x.a.org.", "x.b.a.org.")] == [
        "org.",
        "org.",
        "a.org.",
        "b.a.org.",
    ]
    zones.clear()
    assert label("x.a.org.") == "org."


def test_refused_before_any_chain() -> None:
    one = listener("b.c.")
    assert one.route(world.query("d.")) is DROPPED
    assert one.route(world.query("b.c.", rclass=3)) is DROPPED
    one.any_class = True
    assert one.route(world.query("b.c.", rclass=3)) is DROPPED
    one.routes[names.from_text("b.c.")] = replace(one.routes[names.from_text("b.c.")], any_class=True)
    assert one.route(world.query("b.c.", rclass=3)) is not DROPPED


def test_self_queries_have_a_maximum_depth() -> None:
    """A query that a chain sends to its own server gets SERVFAIL at a depth of eight."""
    one = Listener("", 53)

    def again(query: Query) -> object:
        return query.ask(query.name, query.rtype)

    one.routes[names.ROOT] = Route(names.ROOT, ".", again)  # type: ignore[arg-type]
    reply = world.now(one.ask(world.query("a.")))
    assert (reply.rcode, reply.error) == (Rcode.SERVFAIL, "too many levels of self-queries")
    assert MAX_DEPTH == 8


@pytest.mark.parametrize(
    ("host", "label"), [("", "dns://:53"), ("10.0.0.1", "dns://10.0.0.1:53"), ("::1", "dns://[::1]:53")]
)
def test_server_label(host: str, label: str) -> None:
    assert listener(host=host).server == label

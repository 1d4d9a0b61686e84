"""Answers of *auto* from the zones that control sends (docs/behaviour/plugins.md#auto)."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from svcdns.chain.build import chain
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.auto import Auto
from svcdns.plugins.auto.zone_list import ListedZone, content_key, encode
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type
from svcdns.wire.zone_text import read
from svcdns.zones import content
from svcdns.zones.metrics import REFUSED
from tests.support import world

KEY = "/z db\\.(.*) ${1}"
NEXT_PLUGIN = Reply(rcode=Rcode.NOTIMP)


class Server:
    """The plugin with the zones of one folder. The test changes the zones. `notified` has the zones of
    NOTIFY messages.
    """

    def __init__(self, text: str = "auto org {\n directory /z\n}", *, last: bool = False, **fields: Any) -> None:
        """Creates the plugin. With `last`, no plugin follows in the chain."""
        self.data: dict[str, bytes] = {}
        self.calls: dict[str, Callable[[bytes], None]] = {}
        self.invalidated: list[Any] = []
        self.notified: list[str] = []
        transfer = SimpleNamespace(notify=lambda zone: self.notified.append(names.to_text(zone)))
        self._environment = world.environment(
            data=lambda _plugin, key: self.data.get(key),
            on_data=lambda _plugin, key, call: self.calls.update({key: call}),
            invalidate=self.invalidated.extend,
            peers=lambda name: (transfer,) if name == "transfer" else (self.plugin,) if last else (self.plugin, None),
            **fields,
        )
        self.counters = self._environment.counters
        self._text = text
        self.make()

    def make(self) -> None:
        """Makes the plugin, as at a start or a reload."""
        self.plugin: Auto = Auto(world.options("auto", self._text), self._environment)

    def take(self, key: str, payload: bytes) -> None:
        """Takes data from control."""
        self.data[key] = payload
        if key in self.calls:
            self.calls[key](payload)

    def put(self, zone: str, address: str) -> None:
        """Takes the content of a zone."""
        apex = names.from_text(zone)
        found = read(f"$TTL 60\n@ IN SOA ns root 1 2 3 4 5\nwww IN A {address}\n", apex, "z")
        soa = next(record for record in found if record.rtype == Type.SOA)
        self.take(content_key(KEY, zone), content.encode(soa, found, 0))

    def relist(self, *zones: str, refused: str = "") -> None:
        """Takes the list of zones."""
        listed = [ListedZone(zone, f"/z/db.{zone}", is_loaded=True, is_refused=zone == refused) for zone in zones]
        self.take(KEY, encode(listed))

    def ask(self, name: str, rtype: str = "A") -> list[str]:
        """Returns the rcode and the answer section."""
        reply = world.now(world.handled(self.plugin, world.query(name, rtype), world.following(NEXT_PLUGIN)))
        return world.summary(reply)[: 1 + len(reply.answer)]


def test_zones_come_change_and_go() -> None:
    """A zone is served when both its content and the list of zones have arrived, in any order."""
    server = Server()
    server.put("a.org.", "10.0.0.1")
    server.relist("a.org.", "b.org.")
    assert server.ask("www.a.org.") == ["NOERROR", "www.a.org. 60 IN A 10.0.0.1"]
    assert server.ask("www.b.org.") == ["NOTIMP"], "its content has not arrived"
    server.put("b.org.", "10.0.0.2")
    assert server.ask("www.b.org.") == ["NOERROR", "www.b.org. 60 IN A 10.0.0.2"]
    server.put("a.org.", "10.0.0.3")
    assert server.ask("www.a.org.") == ["NOERROR", "www.a.org. 60 IN A 10.0.0.3"]
    server.take(content_key(KEY, "a.org."), b"")
    server.relist("b.org.")
    assert server.ask("www.a.org.") == ["NOTIMP"]
    server.put("a.org.", "10.0.0.4")
    assert server.ask("www.a.org.") == ["NOTIMP"], "it is not listed"
    server.relist("a.org.", "b.org.")
    assert server.ask("www.a.org.") == ["NOERROR", "www.a.org. 60 IN A 10.0.0.4"]
    server.make()
    assert server.ask("www.b.org.") == ["NOERROR", "www.b.org. 60 IN A 10.0.0.2"], "also after a reload"


def test_the_wildcard_that_answers_is_metadata() -> None:
    server = Server()
    server.put("a.org.", "10.0.0.1\n*.wild IN A 10.0.0.2")
    server.relist("a.org.")
    assert server.plugin.metadata(world.query("x.wild.a.org."), "zone/wildcard") == "*.wild.a.org."
    assert server.plugin.metadata(world.query("x.wild.b.org."), "zone/wildcard") == ""


def test_stored_replies_are_dropped_with_the_change_that_affects_them() -> None:
    """A reply depends on its zone and on the list. A reply of the next plugin depends on the list."""
    server = Server()
    server.put("a.org.", "10.0.0.1")
    server.relist("a.org.")

    def dependencies(name: str) -> tuple[Any, ...]:
        return world.now(world.handled(server.plugin, world.query(name), world.following(NEXT_PLUGIN))).dependencies

    the_list, zone = ("auto", KEY), ("auto", content_key(KEY, "a.org."))
    assert dependencies("www.a.org.") == (the_list, zone)
    assert dependencies("www.b.org.") == (the_list,)
    assert dependencies("www.a.com.") == ()
    server.invalidated.clear()
    server.put("a.org.", "10.0.0.2")
    assert server.invalidated == [zone]
    server.invalidated.clear()
    server.relist("a.org.", "b.org.")
    server.put("b.org.", "10.0.0.2")
    assert server.invalidated == [the_list, the_list]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("www.a.org.", "NOERROR", id="a zone"),
        pytest.param("www.sub.a.org.", "NOERROR", id="the longest zone"),
        pytest.param("x.a.org.", "NXDOMAIN", id="no such name"),
        pytest.param("b.org.", "REFUSED", id="no zone, and no next plugin"),
        pytest.param("www.a.com.", "SERVFAIL", id="a zone outside of the zones of the directive"),
    ],
)
def test_the_end_of_a_chain(name: str, expected: str) -> None:
    """As in CoreDNS, a name in no zone is REFUSED if no plugin follows. Names outside the directive's zones go to the
    next plugin.
    """
    server = Server(last=True)
    for zone in ("a.org.", "sub.a.org.", "a.com."):
        server.put(zone, "10.0.0.1")
    server.relist("a.org.", "sub.a.org.", "a.com.")
    entry = chain([server.plugin])
    assert entry is not None
    assert world.summary(world.now(entry(world.query(name))))[0] == expected


def test_transfers_and_notifications() -> None:
    """Each loaded zone can be transferred. Its secondaries are notified at the start and after a change."""
    server = Server()
    server.put("a.org.", "10.0.0.1")
    server.relist("a.org.")
    server.plugin.start()
    server.put("a.org.", "10.0.0.2")
    assert server.notified == ["a.org."]
    server.plugin.tick()
    server.plugin.tick()
    assert server.notified == ["a.org.", "a.org."]
    offer = server.plugin.transfer(names.from_text("a.org."), 0)
    assert offer is not None
    assert offer.records is not None
    assert len([record for portion in offer.records for record in portion]) == 3
    assert server.plugin.transfer(names.from_text("b.org."), 0) is None
    assert server.ask("a.org.", "AXFR") == ["REFUSED"]


def test_only_one_worker_notifies() -> None:
    server = Server(first=False)
    server.put("a.org.", "10.0.0.1")
    server.relist("a.org.")
    server.plugin.start()
    assert server.notified == []


def test_the_metric_of_files_that_cannot_be_used() -> None:
    """The metric is 1 while the file of a zone cannot be used, and 0 after the plugin was stopped."""
    server = Server()
    server.relist("a.org.", "b.org.", refused="b.org.")
    server.plugin.tick()
    assert world.counted(server.counters) == {(REFUSED.name, "/z/db.b.org.", "b.org."): 1.0}
    server.relist("a.org.")
    server.plugin.tick()
    assert world.counted(server.counters) == {}
    server.relist("b.org.", refused="b.org.")
    server.plugin.tick()
    server.plugin.stop()
    assert world.counted(server.counters) == {}


def test_several_directives() -> None:
    """Each directive has its own folder and zones. The longest zone of all directives is used."""
    server = Server("auto org {\n directory /z\n}\nauto a.org {\n directory /y\n}")
    server.put("sub.a.org.", "10.0.0.1")
    server.relist("sub.a.org.")
    assert server.ask("www.sub.a.org.") == ["NOERROR", "www.sub.a.org. 60 IN A 10.0.0.1"]
    assert [names.to_text(zone) for zone in server.plugin.counted_zones] == ["sub.a.org."]

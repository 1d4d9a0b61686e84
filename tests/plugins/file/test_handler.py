"""The plugin *file*: answers from a zone file (docs/behaviour/plugins.md#file, RFC 1034 §4.3.2)."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugin_api.zone_transfer import UnavailableError
from svcdns.plugins.file import File
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from svcdns.wire.zone_text import read
from svcdns.zones.content import PORTION, encode
from svcdns.zones.metrics import REFUSED
from tests.support import world
from tests.support.file_plugin import GLUE, NS, SOA, ZONE, Server


def test_the_earlier_content_of_a_large_zone_is_freed_in_steps() -> None:
    """Queries are read between the steps. They get the new content, as the answer tables have been told already."""
    text = ZONE + "".join(f"h{number} IN A 10.0.0.1\n" for number in range(1000))
    polls: list[int] = []
    invalidated: list[Any] = []
    server = Server(text=text, poll_sockets=lambda: polls.append(len(invalidated)))
    invalidated = server.invalidated
    polls.clear()
    server.change(ZONE.replace("www", "web"))
    after = [count for count in polls if count]
    assert len(after) >= 3 * 1000 // PORTION
    polls.clear()
    server.change(ZONE)
    assert len([count for count in polls if count == 2]) < 5


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param("www.example.org.", "A", ["NOERROR", "www.example.org. 60 IN A 10.0.0.3", NS], id="positive"),
        pytest.param("WWW.example.ORG.", "A", ["NOERROR", "WWW.example.ORG. 60 IN A 10.0.0.3", NS], id="spelling"),
        pytest.param("example.org.", "NS", ["NOERROR", NS.removeprefix("auth "), GLUE], id="apex NS"),
        pytest.param("www.example.org.", "TXT", ["NOERROR", SOA], id="no such type"),
        pytest.param("nothing.example.org.", "A", ["NXDOMAIN", SOA], id="no such name"),
        pytest.param("b.c.example.org.", "A", ["NOERROR", SOA], id="empty non-terminal"),
        pytest.param(
            "alias.example.org.",
            "A",
            ["NOERROR", "alias.example.org. 60 IN CNAME www.example.org.", "www.example.org. 60 IN A 10.0.0.3", NS],
            id="alias",
        ),
        pytest.param(
            "alias.example.org.",
            "CNAME",
            ["NOERROR", "alias.example.org. 60 IN CNAME www.example.org.", NS],
            id="CNAME",
        ),
        pytest.param(
            "x.wild.example.org.", "A", ["NOERROR", "x.wild.example.org. 60 IN A 10.0.0.4", NS], id="wildcard"
        ),
        pytest.param(
            "x.y.wild.example.org.",
            "A",
            ["NOERROR", "x.y.wild.example.org. 60 IN A 10.0.0.4", NS],
            id="wildcard, deeper",
        ),
        pytest.param("x.wild.example.org.", "TXT", ["NOERROR", SOA], id="wildcard without that type"),
        pytest.param(
            "x.wildc.example.org.",
            "A",
            ["NOERROR", "x.wildc.example.org. 60 IN CNAME www.example.org.", "www.example.org. 60 IN A 10.0.0.3", NS],
            id="wildcard alias",
        ),
        pytest.param(
            "example.org.",
            "MX",
            ["NOERROR", "example.org. 60 IN MX 10 mail.example.org.", NS, "add mail.example.org. 60 IN A 10.0.0.2"],
            id="MX with its address",
        ),
        pytest.param(
            "_s._tcp.example.org.",
            "SRV",
            [
                "NOERROR",
                "_s._tcp.example.org. 60 IN SRV 0 0 80 www.example.org.",
                NS,
                "add www.example.org. 60 IN A 10.0.0.3",
                "add www.example.org. 60 IN AAAA 2001:db8::3",
            ],
            id="SRV with its addresses",
        ),
        pytest.param(
            "x.sub.example.org.",
            "A",
            [
                "NOERROR",
                "auth sub.example.org. 60 IN NS ns.sub.example.org.",
                "add ns.sub.example.org. 60 IN A 10.0.0.5",
            ],
            id="delegation",
        ),
        pytest.param("x.moved.example.org.", "A", None, id="DNAME"),
        pytest.param("example.net.", "A", ["REFUSED"], id="outside"),
        pytest.param("example.org.", "AXFR", ["REFUSED"], id="zone transfer"),
    ],
)
def test_answers(name: str, rtype: str, expected: list[str] | None) -> None:
    """The rules are in RFC 1034 §4.3.2: answer, NODATA, NXDOMAIN, alias, wildcard, referral."""
    found = world.summary(Server().ask(name, rtype))
    if expected is None:
        expected = [
            "NXDOMAIN",
            "moved.example.org. 60 IN DNAME www.example.org.",
            "x.moved.example.org. 60 IN CNAME x.www.example.org.",
            SOA,
        ]
    assert found == expected


def test_aa_and_lifetime() -> None:
    """AA is set, except in a referral. The reply is valid until the zone changes."""
    server = Server()
    assert server.ask("www.example.org.").flags & AA
    assert not server.ask("x.sub.example.org.").flags & AA
    reply = server.ask("nothing.example.org.")
    assert (reply.lifetime, reply.dependencies) == (UNTIL_CHANGED, (("file", "example.org."),))


def test_the_server_resolves_a_target_outside_the_zone() -> None:
    """The target of the CNAME record is queried. The reply gets the reuse terms of the answer."""
    outside = Reply(answer=world.records("host.example.net. 9 IN A 192.0.2.9"), lifetime=9.0)
    reply = Server().ask("out.example.org.", elsewhere=outside)
    assert world.summary(reply)[:3] == [
        "NOERROR",
        "out.example.org. 60 IN CNAME host.example.net.",
        "host.example.net. 9 IN A 192.0.2.9",
    ]
    assert reply.lifetime == 9.0


def test_a_zone_of_soa_and_ns_records() -> None:
    """A query for A at the name of the zone gets NODATA."""
    text = "@ 60 IN SOA ns root 7 2 3 4 30\n@ 60 IN NS ns\n"
    assert world.summary(Server(text=text).ask("example.org.")) == ["NOERROR", SOA]


def test_a_zone_without_ns_records() -> None:
    """A query for NS at the name of the zone gets NODATA."""
    text = "@ 60 IN SOA ns root 7 2 3 4 30\n"
    assert world.summary(Server(text=text).ask("example.org.", "NS")) == ["NOERROR", SOA]


def test_the_options_of_one_directive_are_its_own() -> None:
    """The `fallthrough` of one *file* directive does not apply to other directives."""
    soa = {zone: world.records(f"{zone} 9 IN SOA a. b. 1 2 3 4 5") for zone in ("a.test.", "b.test.")}
    data = {f"{zone[0]} {zone}": encode(found[0], found, 0) for zone, found in soa.items()}
    options = world.options("file", "file a a.test {\n fallthrough\n}\nfile b b.test")
    plugin = File(options, world.environment(data=lambda _plugin, key: data.get(key)))
    found = {
        zone: world.now(
            world.handled(plugin, world.query(f"x.{zone}"), world.following(Reply(rcode=Rcode.REFUSED)))
        ).rcode
        for zone in soa
    }
    assert found == {"a.test.": Rcode.REFUSED, "b.test.": Rcode.NXDOMAIN}


def test_a_name_outside_the_zones_goes_to_the_next_plugin() -> None:
    """Without a next plugin, the reply is REFUSED."""
    server: Server = Server(peers=lambda _: (server.plugin,))
    assert server.ask("example.net.").rcode == Rcode.REFUSED
    assert not server.ask("example.net.").has_message
    other: Server = Server(peers=lambda _: (other.plugin, server.plugin))
    assert other.ask("example.net.").has_message


def test_an_soa_record_of_another_owner_is_served_as_it_stands() -> None:
    """CoreDNS serves the record, too."""
    soa, address = world.records("other.test. 60 IN SOA ns. root. 7 2 3 4 30", "ns.example.org. 60 IN A 10.0.0.1")
    server = Server(text=None)
    server.calls["z example.org."](encode(soa, [address], 0))
    assert world.shown(server.ask("example.org.", "SOA").answer) == world.shown([soa])
    assert server.ask("ns.example.org.").rcode == Rcode.NOERROR


def test_a_refused_file_is_a_metric() -> None:
    """The metric stays 1 until the file is valid or the chain stops."""
    counters = Counters()
    server = Server(counters=counters)
    cell = counters.cell(REFUSED, "z", "example.org.")
    for reason, value in ((b"z:1:1: wrong", 1.0), (b"", 0.0), (b"z:2:2: wrong", 1.0)):
        server.calls["error z example.org."](reason)
        server.plugin.tick()
        assert counters.values[cell] == value
    server.plugin.stop()
    assert counters.values[cell] == 0.0


def test_a_reply_that_fell_through_depends_on_the_zone() -> None:
    """The zone may get the name later."""
    server = Server("fallthrough")
    dependency = ("file", "example.org.")
    assert server.ask("x.example.org.").dependencies == server.ask("www.example.org.").dependencies == (dependency,)
    server.change(ZONE)
    assert server.invalidated == [(dependency,)]


def test_fallthrough() -> None:
    """NXDOMAIN and empty non-terminals fall through, if the name is in a zone of the option."""
    server = Server("fallthrough lower.example.org")
    assert world.summary(server.ask("x.lower.example.org.")) == ["REFUSED"]
    assert server.ask("x.example.org.").rcode == Rcode.NXDOMAIN
    assert Server("fallthrough").ask("x.example.org.").rcode == Rcode.REFUSED
    assert Server("fallthrough").ask("b.c.example.org.").rcode == Rcode.REFUSED
    assert Server("fallthrough").ask("www.example.org.", "TXT").rcode == Rcode.NOERROR
    assert Server("fallthrough").ask("dangling.example.org.").answer


def test_a_zone_that_has_not_been_read_is_servfail() -> None:
    server = Server(text=None)
    assert server.ask("www.example.org.").rcode == Rcode.SERVFAIL
    server.change(ZONE)
    assert server.ask("www.example.org.").rcode == Rcode.NOERROR


def test_a_changed_zone_is_served_immediately() -> None:
    server = Server()
    server.change(ZONE.replace("10.0.0.3", "10.0.0.33"))
    assert world.shown(server.ask("www.example.org.").answer) == ["www.example.org. 60 IN A 10.0.0.33"]
    assert server.invalidated == [(("file", "example.org."),)]


def test_whole_zone() -> None:
    """A transfer has each record once, between two SOA records. The query name must be that of the zone."""
    plugin = Server().plugin
    offer = plugin.transfer(names.from_text("example.org."), 0)
    assert offer is not None
    assert offer.records is not None
    first, *found, last = world.shown(record for portion in offer.records for record in portion)
    expected = world.shown(r for r in read(ZONE, names.from_text("example.org."), "z") if r.rtype != Type.SOA)
    assert sorted(found) == sorted(expected)
    assert (first, last) == (world.shown([offer.soa])[0],) * 2
    assert plugin.transfer(names.from_text("www.example.org."), 0) is None


def test_a_client_with_the_current_serial_gets_only_the_soa_record() -> None:
    plugin = Server().plugin
    zone = names.from_text("example.org.")
    current, other = plugin.transfer(zone, 7), plugin.transfer(zone, 8)
    assert current is not None
    assert current.records is None
    assert other is not None
    assert other.records is not None


def test_a_zone_that_is_not_loaded_is_not_transferred() -> None:
    with pytest.raises(UnavailableError, match=r"zone example\.org\. is not loaded"):
        Server(text=None).plugin.transfer(names.from_text("example.org."), 0)


@pytest.mark.parametrize(
    ("first", "expected"),
    [pytest.param(True, ["example.org."] * 2, id="the first worker"), pytest.param(False, [], id="no other worker")],
)
def test_secondaries_are_notified(*, first: bool, expected: list[str]) -> None:
    """Only the first worker sends NOTIFY: at the start and after each change of the zone."""
    notified: list[str] = []

    class Transfer:
        """Records the notifications."""

        def notify(self, zone: bytes) -> None:
            notified.append(names.to_text(zone))

    server = Server(first=first, peers=lambda _: (Transfer(),))
    server.change(ZONE)
    assert notified == []
    server.plugin.start()
    server.change(ZONE)
    assert notified == expected


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param("x.wild.example.org.", "A", "*.wild.example.org.", id="wildcard"),
        pytest.param("x.wild.example.org.", "TXT", "*.wild.example.org.", id="wildcard without the type"),
        pytest.param("www.example.org.", "A", "", id="a name with records"),
        pytest.param("b.c.example.org.", "A", "", id="an empty non-terminal"),
        pytest.param("no.example.org.", "A", "", id="no such name"),
        pytest.param("x.sub.example.org.", "A", "", id="a delegated name"),
        pytest.param("x.example.net.", "A", "", id="in no zone"),
    ],
)
def test_the_wildcard_that_answers_is_metadata(name: str, rtype: str, expected: str) -> None:
    plugin = Server().plugin
    assert plugin.metadata(world.query(name, rtype), "zone/wildcard") == expected
    assert plugin.metadata(world.query(name, rtype), "file/wildcard") == ""
    assert Server(text=None).plugin.metadata(world.query(name, rtype), "zone/wildcard") == ""

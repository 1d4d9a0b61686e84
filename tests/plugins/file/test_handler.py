"""The plugin `file`: answers from a zone file (docs/behaviour/plugins.md#file, RFC 1034 §4.3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugin_api.zone_transfer import UnavailableError
from svcdns.plugins.file import File
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from svcdns.wire.zone_text import read
from tests.support import world

ZONE = """\
$TTL 60
@        IN SOA ns root 7 2 3 4 30
         IN NS  ns
         IN MX  10 mail
ns       IN A   10.0.0.1
mail     IN A   10.0.0.2
www      IN A   10.0.0.3
www      IN AAAA 2001:db8::3
alias    IN CNAME www
out      IN CNAME host.example.net.
dangling IN CNAME nothing
loop     IN CNAME loop
*.wild   IN A   10.0.0.4
*.wildc  IN CNAME www
a.b.c    IN TXT "deep"
sub      IN NS  ns.sub
ns.sub   IN A   10.0.0.5
_s._tcp  IN SRV 0 0 80 www
moved    IN DNAME www
"""
SOA = "auth example.org. 30 IN SOA ns.example.org. root.example.org. SERIAL 2 3 4 30"
NS = "auth example.org. 60 IN NS ns.example.org."
GLUE = "add ns.example.org. 60 IN A 10.0.0.1"


class Server:
    """The plugin with one zone, whose content can change."""

    def __init__(self, body: str = "", text: str | None = ZONE, **surroundings: Any) -> None:
        """`body` is that of the directive. Without `text` the zone has not been read yet."""
        self.calls: dict[str, Callable[[bytes], None]] = {}
        self.invalidated: list[Any] = []
        self.content = self._encoded(text) if text is not None else None
        self.plugin = File(
            world.options("file", f"file z example.org {{\n{body}\n}}"),
            world.environment(
                data=lambda _plugin, _key: self.content,
                on_data=lambda _plugin, key, call: self.calls.update({key: call}),
                invalidate=self.invalidated.append,
                **surroundings,
            ),
        )

    @staticmethod
    def _encoded(text: str) -> bytes:
        return msgspec.msgpack.encode(read(text, names.from_text("example.org."), "z"))

    def change(self, text: str) -> None:
        """Control has read the file again, with this content."""
        self.calls["z example.org."](self._encoded(text))

    def ask(self, name: str, rtype: str = "A", *, elsewhere: Reply | None = None) -> Reply:
        """The answer. `elsewhere` is the server's reply for names outside the zone."""

        def server(_query: Query) -> Answer:
            return elsewhere or Reply(rcode=Rcode.NXDOMAIN)

        query = world.query(name, rtype, ask=server)
        return world.now(world.handled(self.plugin, query, world.following(Reply(rcode=Rcode.REFUSED))))


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param(
            "www.example.org.", "A", ["NOERROR", "www.example.org. 60 IN A 10.0.0.3", NS, GLUE], id="positive"
        ),
        pytest.param(
            "WWW.example.ORG.", "A", ["NOERROR", "WWW.example.ORG. 60 IN A 10.0.0.3", NS, GLUE], id="spelling"
        ),
        pytest.param("example.org.", "NS", ["NOERROR", NS.removeprefix("auth "), GLUE], id="apex NS"),
        pytest.param("www.example.org.", "TXT", ["NOERROR", SOA], id="no such type"),
        pytest.param("nothing.example.org.", "A", ["NXDOMAIN", SOA], id="no such name"),
        pytest.param("b.c.example.org.", "A", ["NOERROR", SOA], id="empty non-terminal"),
        pytest.param(
            "alias.example.org.",
            "A",
            [
                "NOERROR",
                "alias.example.org. 60 IN CNAME www.example.org.",
                "www.example.org. 60 IN A 10.0.0.3",
                NS,
                GLUE,
            ],
            id="alias",
        ),
        pytest.param(
            "alias.example.org.",
            "CNAME",
            ["NOERROR", "alias.example.org. 60 IN CNAME www.example.org.", NS, GLUE],
            id="CNAME",
        ),
        pytest.param(
            "x.wild.example.org.", "A", ["NOERROR", "x.wild.example.org. 60 IN A 10.0.0.4", NS, GLUE], id="wildcard"
        ),
        pytest.param(
            "x.y.wild.example.org.",
            "A",
            ["NOERROR", "x.y.wild.example.org. 60 IN A 10.0.0.4", NS, GLUE],
            id="wildcard, deeper",
        ),
        pytest.param("x.wild.example.org.", "TXT", ["NOERROR", SOA], id="wildcard without that type"),
        pytest.param(
            "x.wildc.example.org.",
            "A",
            [
                "NOERROR",
                "x.wildc.example.org. 60 IN CNAME www.example.org.",
                "www.example.org. 60 IN A 10.0.0.3",
                NS,
                GLUE,
            ],
            id="wildcard alias",
        ),
        pytest.param(
            "example.org.",
            "MX",
            [
                "NOERROR",
                "example.org. 60 IN MX 10 mail.example.org.",
                NS,
                "add mail.example.org. 60 IN A 10.0.0.2",
                GLUE,
            ],
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
                GLUE,
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
    """Each end of the algorithm of RFC 1034 §4.3.2."""
    found = world.summary(Server().ask(name, rtype))
    if expected is None:
        expected = [
            "NOERROR",
            "moved.example.org. 60 IN DNAME www.example.org.",
            "x.moved.example.org. 60 IN CNAME x.www.example.org.",
            SOA,
        ]
    assert found == expected


def test_aa_and_lifetime() -> None:
    """AA is set except in a delegation. The reply lives until the zone changes."""
    server = Server()
    assert server.ask("www.example.org.").flags & AA
    assert not server.ask("x.sub.example.org.").flags & AA
    reply = server.ask("nothing.example.org.")
    assert (reply.lifetime, reply.dependencies) == (UNTIL_CHANGED, (("file", "example.org."),))


def test_the_server_resolves_a_target_outside_the_zone() -> None:
    """The reply has the reuse terms of the server's answer."""
    outside = Reply(answer=world.records("host.example.net. 9 IN A 192.0.2.9"), lifetime=9.0)
    reply = Server().ask("out.example.org.", elsewhere=outside)
    assert world.summary(reply)[:3] == [
        "NOERROR",
        "out.example.org. 60 IN CNAME host.example.net.",
        "host.example.net. 9 IN A 192.0.2.9",
    ]
    assert reply.lifetime == 9.0


def test_an_alias_loop_ends() -> None:
    """After a bounded number of steps."""
    reply = Server().ask("loop.example.org.")
    assert reply.rcode == Rcode.NOERROR
    assert len(reply.answer) <= 10


def test_a_reply_that_fell_through_depends_on_the_zone() -> None:
    """When the zone gets the name, the reply of the next plugin must go."""
    server = Server("fallthrough")
    dependency = ("file", "example.org.")
    assert server.ask("x.example.org.").dependencies == server.ask("www.example.org.").dependencies == (dependency,)
    server.change(ZONE)
    assert server.invalidated == [(dependency,)]


def test_fallthrough() -> None:
    """Only NXDOMAIN falls through, and only below the named zones."""
    server = Server("fallthrough lower.example.org")
    assert world.summary(server.ask("x.lower.example.org.")) == ["REFUSED"]
    assert server.ask("x.example.org.").rcode == Rcode.NXDOMAIN
    assert Server("fallthrough").ask("x.example.org.").rcode == Rcode.REFUSED
    assert Server("fallthrough").ask("www.example.org.", "TXT").rcode == Rcode.NOERROR


def test_a_zone_that_has_not_been_read_is_servfail() -> None:
    """Until it is read."""
    server = Server(text=None)
    assert server.ask("www.example.org.").rcode == Rcode.SERVFAIL
    server.change(ZONE)
    assert server.ask("www.example.org.").rcode == Rcode.NOERROR


def test_a_changed_zone_is_served_at_once() -> None:
    """Replies that depend on the old zone are invalidated."""
    server = Server()
    server.change(ZONE.replace("10.0.0.3", "10.0.0.33"))
    assert world.shown(server.ask("www.example.org.").answer) == ["www.example.org. 60 IN A 10.0.0.33"]
    assert server.invalidated == [(("file", "example.org."),)]


def test_whole_zone() -> None:
    """From SOA record to SOA record, each other record once. Only the zone's own name has a transfer."""
    plugin = Server().plugin
    offer = plugin.transfer(names.from_text("example.org."), 0)
    assert offer is not None
    assert offer.records is not None
    first, *found, last = world.shown(record for portion in offer.records for record in portion)
    expected = world.shown(r for r in read(ZONE, names.from_text("example.org."), "z") if r.rtype != Type.SOA)
    assert sorted(found) == sorted(expected)
    assert (first, last) == (world.shown([offer.soa])[0],) * 2
    assert plugin.transfer(names.from_text("www.example.org."), 0) is None


def test_a_client_with_the_current_serial_gets_the_soa_alone() -> None:
    """Any other serial gets the whole zone."""
    plugin = Server().plugin
    zone = names.from_text("example.org.")
    current, other = plugin.transfer(zone, 7), plugin.transfer(zone, 8)
    assert current is not None
    assert current.records is None
    assert other is not None
    assert other.records is not None


def test_a_zone_that_is_not_loaded_is_not_transferred() -> None:
    """The plugin has the zone, but not its records yet."""
    with pytest.raises(UnavailableError, match=r"zone example\.org\. is not loaded"):
        Server(text=None).plugin.transfer(names.from_text("example.org."), 0)


@pytest.mark.parametrize(
    ("first", "expected"),
    [pytest.param(True, ["example.org."] * 2, id="the first worker"), pytest.param(False, [], id="no other worker")],
)
def test_secondaries_are_notified(*, first: bool, expected: list[str]) -> None:
    """At the start, and after each read of a changed zone. No notification is sent before the start."""
    notified: list[str] = []

    class Transfer:
        """Records the notifications."""

        def notify(self, zone: bytes) -> None:
            """Records one."""
            notified.append(names.to_text(zone))

    server = Server(first=first, peers=lambda _: (Transfer(),))
    server.change(ZONE)
    assert notified == []
    server.plugin.start()
    server.change(ZONE)
    assert notified == expected

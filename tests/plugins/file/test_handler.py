"""The plugin *file*: answers from a zone file (docs/behaviour/plugins.md#file, RFC 1034 §4.3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from svcdns.plugin_api.query import MAX_DEPTH, Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply, rcode_only
from svcdns.plugin_api.zone_transfer import UnavailableError
from svcdns.plugins.file import File
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from svcdns.wire.zone_text import read
from svcdns.zones.content import PORTION, encode
from svcdns.zones.metrics import REFUSED
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
    """The plugin *file* with one zone. The test can change the zone's content."""

    def __init__(self, body: str = "", text: str | None = ZONE, **surroundings: Any) -> None:
        """Creates the plugin. `body` is the body of the directive. If `text` is None, the zone file has not been read
        yet.
        """
        self.calls: dict[str, Callable[[bytes], None]] = {}
        self.invalidated: list[Any] = []
        self.content = self._encoded(text) if text is not None else None
        self.plugin = File(
            world.options("file", f"file z example.org {{\n{body}\n}}"),
            world.environment(
                data=lambda _plugin, key: None if key.startswith("error ") else self.content,
                on_data=lambda _plugin, key, call: self.calls.update({key: call}),
                invalidate=self.invalidated.append,
                **surroundings,
            ),
        )

    @staticmethod
    def _encoded(text: str) -> bytes:
        records = read(text, names.from_text("example.org."), "z")
        return encode(next(record for record in records if record.rtype == Type.SOA), records, 0)

    def change(self, text: str) -> None:
        """Passes new zone content to the plugin, as control does after reading the file."""
        self.calls["z example.org."](self._encoded(text))

    def ask(
        self, name: str, rtype: str = "A", *, elsewhere: Reply | None = None, dnssec: bool = False, depth: int = 0
    ) -> Reply:
        """Returns the reply to a query. `elsewhere` is the server's reply for names outside the zone.

        If the plugin sends a query for a name in the zone, the plugin itself answers it.
        """

        def server(query: Query) -> Answer:
            if query.depth > MAX_DEPTH:
                return rcode_only(Rcode.SERVFAIL)
            if not names.is_within(query.key, names.from_text("example.org.")):
                return elsewhere or rcode_only(Rcode.REFUSED)
            return world.handled(self.plugin, query, world.following(Reply(rcode=Rcode.REFUSED)))

        query = world.query(name, rtype, ask=server, depth=depth, edns=world.edns(dnssec_ok=True) if dnssec else None)
        return world.now(world.handled(self.plugin, query, world.following(Reply(rcode=Rcode.REFUSED))))


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


CHAIN = (
    "$TTL 60\n@ IN SOA ns root 7 2 3 4 30\n"
    + "".join(f"c{n} IN CNAME c{n + 1}\n" for n in range(1, 12))
    + "c12 IN A 10.0.0.1\n"
)


@pytest.mark.parametrize(
    ("first", "aliases", "ends"),
    [
        pytest.param("c3", 9, True, id="nine"),
        pytest.param("c2", 10, False, id="ten"),
        pytest.param("c1", 10, False, id="eleven"),
    ],
)
def test_the_length_of_a_chain(first: str, aliases: int, *, ends: bool) -> None:
    """As in CoreDNS, up to nine CNAME records are followed to the address. For a longer chain, the reply has ten CNAME
    records.
    """
    reply = Server(text=CHAIN).ask(f"{first}.example.org.")
    assert (reply.rcode, [r.rtype for r in reply.answer]) == (Rcode.NOERROR, [Type.CNAME] * aliases + [Type.A] * ends)


@pytest.mark.parametrize(
    ("first", "aliases", "rcode"),
    [
        pytest.param("c4", 8, Rcode.NOERROR, id="eight"),
        pytest.param("c3", 9, Rcode.SERVFAIL, id="nine"),
        pytest.param("c1", 9, Rcode.SERVFAIL, id="eleven"),
    ],
)
def test_the_length_of_a_chain_for_name_servers(first: str, aliases: int, rcode: int) -> None:
    """As in CoreDNS, a query for NS records is SERVFAIL after the ninth CNAME record."""
    reply = Server(text=CHAIN).ask(f"{first}.example.org.", "NS")
    assert (reply.rcode, [r.rtype for r in reply.answer]) == (rcode, [Type.CNAME] * aliases)


@pytest.mark.parametrize(
    "records",
    [
        pytest.param("x IN CNAME x", id="one"),
        pytest.param("x IN CNAME y\ny IN CNAME x", id="two"),
        pytest.param("*.w IN CNAME b.w\nx IN CNAME a.w", id="wildcard"),
        pytest.param("d IN DNAME d\nx IN CNAME a.d", id="DNAME onto itself"),
        pytest.param("d IN DNAME b.d\nx IN CNAME a.d", id="DNAME below itself"),
    ],
)
def test_loops_are_servfail(records: str) -> None:
    """RFC 1034 §3.6.2 calls a CNAME loop an error. A query for the CNAME record itself is answered."""
    server = Server(text=f"@ 60 IN SOA ns root 7 2 3 4 30\n{records}\n")
    assert server.ask("x.example.org.").rcode == Rcode.SERVFAIL
    assert server.ask("x.example.org.", "CNAME").rcode == Rcode.NOERROR


MORE = """\
$TTL 60
@        IN SOA ns root 7 2 3 4 30
         IN NS  ns
ns       IN A   10.0.0.1
gone     IN CNAME nothing
*.gone   IN CNAME nothing
ent      IN CNAME b.c
nodata   IN CNAME ns
a.b.c    IN TXT "deep"
f.*.e    IN A   10.0.0.4
t.e      IN A   10.0.0.5
d        IN DNAME t
below.d  IN A   10.0.0.66
x.t      IN A   10.0.0.9
sub      IN NS  ns.sub
sub      IN NS  ns
sub      IN DS  1 13 1 0000000000000000000000000000000000000000
ns.sub   IN A   10.0.0.7
into     IN CNAME x.sub
into2    IN CNAME into
two   90 IN A   10.0.0.2
two   30 IN A   10.0.0.3
two      IN A   10.0.0.2
out      IN CNAME host.example.net.
"""


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param(
            "gone.example.org.",
            "A",
            ["NXDOMAIN", "gone.example.org. 60 IN CNAME nothing.example.org.", SOA],
            id="CNAME to nothing",
        ),
        pytest.param(
            "gone.example.org.",
            "ANY",
            ["NXDOMAIN", "gone.example.org. 60 IN CNAME nothing.example.org.", SOA],
            id="CNAME and ANY",
        ),
        pytest.param(
            "x.gone.example.org.",
            "A",
            ["NXDOMAIN", "x.gone.example.org. 60 IN CNAME nothing.example.org.", SOA],
            id="wildcard CNAME to nothing",
        ),
        pytest.param(
            "ent.example.org.",
            "A",
            ["NOERROR", "ent.example.org. 60 IN CNAME b.c.example.org.", SOA],
            id="CNAME to ENT",
        ),
        pytest.param(
            "nodata.example.org.",
            "AAAA",
            ["NOERROR", "nodata.example.org. 60 IN CNAME ns.example.org.", SOA],
            id="CNAME to NODATA",
        ),
        pytest.param("ns.example.org.", "ANY", ["NOERROR", SOA], id="ANY"),
        pytest.param("none.example.org.", "ANY", ["NXDOMAIN", SOA], id="ANY for no name"),
        pytest.param("some.e.example.org.", "A", ["NOERROR", SOA], id="a wildcard that is an ENT"),
        pytest.param("a.b.e.example.org.", "A", ["NOERROR", SOA], id="a wildcard that is an ENT, deeper"),
        pytest.param("*.e.example.org.", "A", ["NOERROR", SOA], id="the wildcard itself"),
        pytest.param("x.t.e.example.org.", "A", ["NXDOMAIN", SOA], id="below a name beside the wildcard"),
        pytest.param(
            "x.d.example.org.",
            "A",
            [
                "NOERROR",
                "d.example.org. 60 IN DNAME t.example.org.",
                "x.d.example.org. 60 IN CNAME x.t.example.org.",
                "x.t.example.org. 60 IN A 10.0.0.9",
                NS,
            ],
            id="DNAME",
        ),
        pytest.param(
            "below.d.example.org.",
            "A",
            [
                "NXDOMAIN",
                "d.example.org. 60 IN DNAME t.example.org.",
                "below.d.example.org. 60 IN CNAME below.t.example.org.",
                SOA,
            ],
            id="a record below a DNAME is occluded",
        ),
        pytest.param(
            "x.d.example.org.",
            "CNAME",
            [
                "NOERROR",
                "d.example.org. 60 IN DNAME t.example.org.",
                "x.d.example.org. 60 IN CNAME x.t.example.org.",
                NS,
            ],
            id="the CNAME of a DNAME",
        ),
        pytest.param(
            "d.example.org.",
            "DNAME",
            ["NOERROR", "d.example.org. 60 IN DNAME t.example.org.", NS],
            id="the DNAME itself",
        ),
        pytest.param(
            "x.sub.example.org.",
            "A",
            [
                "NOERROR",
                "auth sub.example.org. 60 IN NS ns.sub.example.org.",
                "auth sub.example.org. 60 IN NS ns.example.org.",
                "add ns.sub.example.org. 60 IN A 10.0.0.7",
            ],
            id="glue below the cut alone",
        ),
        pytest.param(
            "sub.example.org.",
            "DS",
            ["NOERROR", f"sub.example.org. 60 IN DS 1 13 1 {'0' * 40}", NS],
            id="DS at the cut is the parent's",
        ),
        pytest.param(
            "into.example.org.",
            "A",
            [
                "NOERROR",
                "into.example.org. 60 IN CNAME x.sub.example.org.",
                "auth sub.example.org. 60 IN NS ns.sub.example.org.",
                "auth sub.example.org. 60 IN NS ns.example.org.",
                "add ns.sub.example.org. 60 IN A 10.0.0.7",
            ],
            id="CNAME into a delegation",
        ),
        pytest.param(
            "into2.example.org.",
            "NS",
            [
                "NOERROR",
                "into2.example.org. 60 IN CNAME into.example.org.",
                "into.example.org. 60 IN CNAME x.sub.example.org.",
                "auth sub.example.org. 60 IN NS ns.sub.example.org.",
                "auth sub.example.org. 60 IN NS ns.example.org.",
                "add ns.sub.example.org. 60 IN A 10.0.0.7",
            ],
            id="NS of an alias of an alias into a delegation",
        ),
        pytest.param(
            "two.example.org.",
            "A",
            ["NOERROR", "two.example.org. 30 IN A 10.0.0.2", "two.example.org. 30 IN A 10.0.0.3", NS],
            id="one TTL",
        ),
    ],
)
def test_more_answers(name: str, rtype: str, expected: list[str]) -> None:
    """The rules for CNAME, wildcards, DNAME and ANY are in RFC 6604, RFC 4592, RFC 6672 and RFC 8482."""
    assert world.summary(Server(text=MORE).ask(name, rtype)) == expected


APEX_ALIAS = """\
$TTL 60
@  IN SOA ns root 7 2 3 4 30
   IN NS  ns
   IN CNAME www
ns IN A   10.0.0.1
up IN CNAME @
d  IN DNAME d
*.w IN A 10.0.0.4
a.e.w IN A 10.0.0.5
"""


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param("example.org.", "NS", ["NOERROR", NS.removeprefix("auth "), GLUE], id="NS beside an alias"),
        pytest.param(
            "example.org.",
            "SOA",
            ["NOERROR", SOA.removeprefix("auth ").replace(" 30 IN", " 60 IN"), NS],
            id="SOA beside an alias",
        ),
        pytest.param(
            "up.example.org.",
            "NS",
            ["NOERROR", "up.example.org. 60 IN CNAME example.org.", NS.removeprefix("auth "), NS],
            id="alias of the zone's name",
        ),
        pytest.param("x.d.example.org.", "A", ["SERVFAIL"], id="a DNAME record that changes nothing"),
        pytest.param("e.w.example.org.", "A", ["NOERROR", SOA], id="an empty non-terminal beside a wildcard"),
    ],
)
def test_names_that_a_zone_should_not_have(name: str, rtype: str, expected: list[str]) -> None:
    """The zone's own SOA and NS records can be queried. A wildcard covers no existing name (RFC 4592 §2.2.2)."""
    reply = Server(text=APEX_ALIAS).ask(name, rtype)
    assert world.summary(reply) == expected
    assert bool(reply.flags & AA) is bool(reply.answer or reply.authority)


def test_aa_is_about_the_first_owner() -> None:
    """A CNAME record that points into a delegation has AA, because its own owner is in the zone."""
    assert Server(text=MORE).ask("into.example.org.").flags & AA


def test_a_name_that_would_be_too_long_is_yxdomain() -> None:
    """A DNAME record would make the name too long (RFC 6672 §2.2)."""
    long = ".".join(["x" * 60] * 3)
    server = Server(text=f"@ 60 IN SOA ns root 7 2 3 4 30\nd IN DNAME {long}\n")
    assert server.ask(f"{'y' * 60}.d.example.org.").rcode == Rcode.YXDOMAIN


@pytest.mark.parametrize(
    ("elsewhere", "expected"),
    [
        pytest.param(Reply(rcode=Rcode.NXDOMAIN), ["NXDOMAIN", "CNAME", SOA], id="NXDOMAIN without a SOA record"),
        pytest.param(rcode_only(Rcode.SERVFAIL), ["SERVFAIL", "CNAME", NS], id="SERVFAIL"),
        pytest.param(rcode_only(Rcode.REFUSED), ["NOERROR", "CNAME", NS], id="REFUSED: nobody serves the name"),
        pytest.param(Reply(dropped=True), ["NOERROR", "CNAME", NS], id="no reply"),
        pytest.param(Reply(), ["NOERROR", "CNAME", SOA], id="NODATA without a SOA record"),
        pytest.param(
            Reply(rcode=Rcode.NXDOMAIN, authority=world.records("example.net. 9 IN SOA a. b. 1 2 3 4 5")),
            ["NXDOMAIN", "CNAME", "auth example.net. 9 IN SOA a. b. SERIAL 2 3 4 5"],
            id="NXDOMAIN of another zone",
        ),
        pytest.param(
            Reply(
                authority=world.records("example.net. 9 IN NS ns.example.net."),
                additional=world.records("ns.example.net. 9 IN A 192.0.2.1"),
            ),
            ["NOERROR", "CNAME", "auth example.net. 9 IN NS ns.example.net.", "add ns.example.net. 9 IN A 192.0.2.1"],
            id="a referral of another zone",
        ),
        pytest.param(
            Reply(answer=world.records("host.example.net. 9 IN A 192.0.2.9")),
            ["NOERROR", "CNAME", "host.example.net. 9 IN A 192.0.2.9", NS],
            id="an address",
        ),
    ],
)
def test_the_end_of_a_chain_outside_the_zone(elsewhere: Reply, expected: list[str]) -> None:
    """The reply has the records and the rcode of the target (RFC 6604 §3)."""
    found = world.summary(Server(text=MORE).ask("out.example.org.", elsewhere=elsewhere))
    assert found == [line if line != "CNAME" else "out.example.org. 60 IN CNAME host.example.net." for line in expected]


def test_a_nearer_zone_answers_for_a_target() -> None:
    """The child zone answers for the target of a CNAME record, even if the parent zone has records of that name."""
    parent = world.records(
        "example.org. 9 IN SOA a. b. 1 2 3 4 5",
        "x.example.org. 9 IN CNAME w.c.example.org.",
        "w.c.example.org. 9 IN A 192.0.2.1",
    )
    child = world.records("c.example.org. 9 IN SOA a. b. 1 2 3 4 5", "w.c.example.org. 9 IN A 192.0.2.2")
    data = {"p example.org.": encode(parent[0], parent, 0), "c c.example.org.": encode(child[0], child, 0)}
    options = world.options("file", "file p example.org\nfile c c.example.org")
    plugin = File(options, world.environment(data=lambda _plugin, key: data.get(key)))

    def ask(name: str, rtype: str = "A") -> Reply:
        def server(query: Query) -> Answer:
            return world.handled(plugin, query, world.following(Reply(rcode=Rcode.REFUSED)))

        return world.now(
            world.handled(plugin, world.query(name, rtype, ask=server), world.following(Reply(rcode=Rcode.REFUSED)))
        )

    assert world.shown(ask("x.example.org.").answer) == [
        "x.example.org. 9 IN CNAME w.c.example.org.",
        "w.c.example.org. 9 IN A 192.0.2.2",
    ]
    # The parent zone does not delegate the child zone, which exists all the same.
    denial = ask("c.example.org.", "DS")
    assert (denial.rcode, [record.owner for record in denial.authority]) == (Rcode.NOERROR, [parent[0].owner])


SIGNED = """\
$TTL 60
@        IN SOA ns root 7 2 3 4 30
         IN RRSIG SOA 13 2 60 20301231000000 20201231000000 1 example.org. AQID
         IN NS  ns
         IN RRSIG NS 13 2 60 20301231000000 20201231000000 1 example.org. AQID
         IN NSEC *.w NS SOA RRSIG NSEC
         IN RRSIG NSEC 13 2 60 20301231000000 20201231000000 1 example.org. AQID
ns       IN A   10.0.0.1
         IN RRSIG A 13 3 60 20301231000000 20201231000000 1 example.org. AQID
         IN NSEC s A RRSIG NSEC
s        IN NS  ns.s
         IN NSEC z NS RRSIG NSEC
ns.s     IN A   10.0.0.2
z        IN NS  ns.s
         IN DS  1 13 1 0000000000000000000000000000000000000000
         IN RRSIG DS 13 3 60 20301231000000 20201231000000 1 example.org. AQID
         IN NSEC @ NS DS RRSIG NSEC
*.w      IN A   10.0.0.4
         IN RRSIG A 13 3 60 20301231000000 20201231000000 1 example.org. AQID
         IN NSEC ns A RRSIG NSEC
g        IN CNAME nt
d        IN DNAME ns
         IN RRSIG DNAME 13 3 60 20301231000000 20201231000000 1 example.org. AQID
"""


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param("ns", "A", ["ns A", "ns RRSIG", "auth @ NS", "auth @ RRSIG"], id="positive"),
        pytest.param("@", "SOA", ["@ SOA", "@ RRSIG", "auth @ NS", "auth @ RRSIG"], id="SOA"),
        pytest.param("@", "NS", ["@ NS", "@ RRSIG", "add ns A", "add ns RRSIG"], id="NS with addresses"),
        pytest.param("ns", "TXT", ["auth @ SOA", "auth @ RRSIG", "auth ns NSEC"], id="NODATA"),
        pytest.param(
            "x.w",
            "A",
            ["x.w A", "x.w RRSIG", "auth @ NS", "auth @ RRSIG", "auth *.w NSEC"],
            id="wildcard, and that the name is not there",
        ),
        pytest.param("x.w", "TXT", ["auth @ SOA", "auth @ RRSIG", "auth *.w NSEC"], id="wildcard without the type"),
        pytest.param(
            "nt", "A", ["auth @ SOA", "auth @ RRSIG", "auth ns NSEC", "auth @ NSEC", "auth @ RRSIG"], id="NXDOMAIN"
        ),
        pytest.param("w", "A", ["auth @ SOA", "auth @ RRSIG", "auth s NSEC"], id="empty non-terminal"),
        pytest.param("a.z", "A", ["auth z NS", "auth z DS", "auth z RRSIG"], id="a signed child"),
        pytest.param("a.s", "A", ["auth s NS", "auth s NSEC", "add ns.s A"], id="an unsigned child"),
        pytest.param(
            "g",
            "A",
            ["g CNAME", "auth @ SOA", "auth @ RRSIG", "auth ns NSEC", "auth @ NSEC", "auth @ RRSIG"],
            id="alias of a name that does not exist",
        ),
        pytest.param("@", "RRSIG", ["@ RRSIG"] * 3 + ["auth @ NS", "auth @ RRSIG"], id="signatures of the zone's name"),
        pytest.param("ns", "RRSIG", ["ns RRSIG", "auth @ NS", "auth @ RRSIG"], id="signatures themselves"),
        pytest.param("ns", "NSEC", ["ns NSEC", "auth @ NS", "auth @ RRSIG"], id="NSEC itself"),
        pytest.param("x.d", "CNAME", ["d DNAME", "d RRSIG", "x.d CNAME", "auth @ NS", "auth @ RRSIG"], id="DNAME"),
    ],
)
def test_a_signed_zone(name: str, rtype: str, expected: list[str]) -> None:
    """Clients with DO get the signatures and denials that are in the zone file (RFC 4035 §3.1)."""
    wire = name if name != "@" else ""
    server = Server(text=SIGNED)
    reply = server.ask(f"{wire}.example.org.".lstrip("."), rtype, dnssec=True)

    def short(line: str) -> str:
        section, rest = (
            ("", line) if line.count(" ") < 4 or not line.startswith(("auth", "add")) else line.split(" ", 1)
        )
        owner, _, _, kind, *_ = rest.split()
        return f"{section} {owner.removesuffix('example.org.').removesuffix('.') or '@'} {kind}".strip()

    assert [short(line) for line in world.summary(reply)[1:]] == expected
    plain = server.ask(f"{wire}.example.org.".lstrip("."), rtype)
    kinds = {record.rtype for section in (plain.answer, plain.authority, plain.additional) for record in section}
    assert kinds.isdisjoint({Type.RRSIG, Type.NSEC, Type.DS} - {int(Type[rtype])})


ALIASES = """\
$TTL 60
@        IN SOA ns root 7 2 3 4 30
         IN NS  ns
         IN NSEC al NS SOA NSEC
al       IN CNAME ns
         IN RRSIG CNAME 13 3 60 20301231000000 20201231000000 1 example.org. AQID
         IN NSEC *.c CNAME RRSIG NSEC
*.c      IN CNAME ns
         IN NSEC m.c CNAME NSEC
m.c      IN TXT "m"
         IN NSEC ns TXT NSEC
ns       IN A   10.0.0.1
         IN NSEC *.w A NSEC
*.w      IN A   10.0.0.4
         IN NSEC m.w A NSEC
m.w      IN A   10.0.0.5
         IN NSEC @ A NSEC
"""


@pytest.mark.parametrize(
    ("name", "rtype", "denials"),
    [
        pytest.param("x.c", "A", ["m.c"], id="alias"),
        pytest.param("x.w", "TXT", ["*.w", "m.w"], id="no record of the type"),
    ],
)
def test_the_name_of_a_wildcard_is_denied(name: str, rtype: str, denials: list[str]) -> None:
    """An NSEC record proves that the queried name does not exist (RFC 4035 §3.1.3.3, §3.1.3.4)."""
    reply = Server(text=ALIASES).ask(f"{name}.example.org.", rtype, dnssec=True)
    owners = [names.to_text(record.owner) for record in reply.authority if record.rtype == Type.NSEC]
    assert sorted(owners) == [f"{owner}.example.org." for owner in denials]


@pytest.mark.parametrize("rtype", ["NSEC", "RRSIG"])
def test_an_alias_has_records_of_its_own(rtype: str) -> None:
    """An alias may have NSEC and RRSIG records (RFC 4035 §2.5). A query for these types does not follow the alias."""
    reply = Server(text=ALIASES).ask("al.example.org.", rtype)
    assert [(names.to_text(record.owner), record.rtype) for record in reply.answer] == [
        ("al.example.org.", Type[rtype])
    ]


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

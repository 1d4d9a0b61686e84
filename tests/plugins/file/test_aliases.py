"""Answers of *file* with CNAME and DNAME records and wildcards (RFC 4592, RFC 6604, RFC 6672)."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.file import File
from svcdns.wire.codes import AA, Rcode, Type
from svcdns.zones.content import encode
from tests.support import world
from tests.support.file_plugin import GLUE, NS, SOA, Server

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

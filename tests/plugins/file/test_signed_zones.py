"""Answers of *file* from a zone with signatures (RFC 4035 §3.1)."""

from __future__ import annotations

import pytest

from svcdns.wire import names
from svcdns.wire.codes import Type
from tests.support import world
from tests.support.file_plugin import Server

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
aw       IN CNAME x.w
"""


@pytest.mark.parametrize(
    ("name", "rtype", "denials"),
    [
        pytest.param("x.c", "A", ["m.c"], id="alias"),
        pytest.param("x.w", "TXT", ["*.w", "m.w"], id="no record of the type"),
        pytest.param("aw", "A", ["m.w"], id="target of an alias"),
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

"""Queries of the conformance suite as packets, as text and as `dig` commands."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.opcode
import pytest

from svcdns.conformance.queries import Octets, Opt, Query
from svcdns.wire.codes import CD, QR, Class, Type


@pytest.mark.parametrize(
    ("query", "words"),
    [
        pytest.param(Query("a.b."), "a.b. IN A", id="plain"),
        pytest.param(Query("a.b.", Type.SRV, tcp=True), "a.b. IN SRV [TCP]", id="tcp"),
        pytest.param(Query("a.b.", 1000, Class.CH, flags=0), "a.b. CH TYPE1000 [flags 0x0000]", id="type-and-class"),
        pytest.param(
            Query("a.", opts=(Opt(512, 1, 0x8000, ((100, b"x"),)),)),
            "a. IN A [EDNS 1 size 512 flags 0x8000 options 100]",
            id="edns",
        ),
    ],
)
def test_dnspython_reads_the_packet(query: Query, words: str) -> None:
    read = dns.message.from_wire(query.packet(77))
    assert read.id == 77
    assert read.question[0].name.to_text() == query.name
    assert (read.question[0].rdtype, read.question[0].rdclass) == (query.rtype, query.rclass)
    assert read.flags == query.flags
    assert str(query) == words
    if query.opts:
        opt = query.opts[0]
        assert (read.edns, read.payload, read.ednsflags & 0xFFFF) == (opt.version, opt.size, opt.flags)
        assert [int(option.otype) for option in read.options] == [code for code, _ in opt.options]


def test_unusual_packets() -> None:
    """A query can have another opcode, no question, two questions, or random octets."""
    assert dns.message.from_wire(Query("a.", opcode=4).packet(1)).opcode() == dns.opcode.NOTIFY
    assert Query("a.", repeat=0).packet(1)[4:] == bytes(8)
    assert Query("a.", repeat=2).packet(1)[4:6] == b"\0\2"
    assert Query("a.", repeat=2).packet(1)[12:] == Query("a.").section * 2
    assert Octets("short", b"abc").packet(0x4142) == b"ABc"
    assert Octets("nothing", b"").packet(1) == b""


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        pytest.param(Query("a.b."), ["dig @h -p 5 ", "+recurse", "+notcp", "+noedns", "-t A -q 'a.b.'"], id="plain"),
        pytest.param(
            Query("a.", Type.TXT, Class.CH, flags=CD, tcp=True),
            ["+tcp", "+cdflag", "+norecurse", "-c CH", "-t TXT"],
            id="flags",
        ),
        pytest.param(
            Query("a.", opts=(Opt(512, 1, 0x8080, ((100, b"\1"),)),)),
            ["+edns=1", "+noednsneg", "+bufsize=512", "+dnssec", "+ednsflags=0x80", "+ednsopt=100:01", "+nocookie"],
            id="edns",
        ),
        pytest.param(Query("a.", opcode=15, repeat=0), ["+opcode=15", "+header-only"], id="header"),
        pytest.param(Query("a.", flags=QR), ["echo ", "xxd -r -p | nc -u"], id="what-dig-cannot"),
        pytest.param(Query("a.", opts=(Opt(), Opt())), ["echo ", "nc -u -w 2 h 5"], id="two-opt"),
    ],
)
def test_the_dig_command(query: Query, parts: list[str]) -> None:
    """The command sends the same query. If `dig` cannot send the query, another command sends its octets."""
    line = query.dig("h", 5)
    for part in parts:
        assert part in line

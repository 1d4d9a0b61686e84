"""Questions as packets, as words and as lines for dig."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.opcode
import pytest

from svcdns.conformance.questions import Octets, Opt, Question
from svcdns.wire.codes import CD, QR, Class, Type


@pytest.mark.parametrize(
    ("question", "words"),
    [
        pytest.param(Question("a.b."), "a.b. IN A", id="plain"),
        pytest.param(Question("a.b.", Type.SRV, tcp=True), "a.b. IN SRV [TCP]", id="tcp"),
        pytest.param(Question("a.b.", 1000, Class.CH, flags=0), "a.b. CH TYPE1000 [flags 0x0000]", id="type-and-class"),
        pytest.param(
            Question("a.", opts=(Opt(512, 1, 0x8000, ((100, b"x"),)),)), "a. IN A [EDNS 1 size 512 flags 0x8000 options 100]", id="edns"
        ),
    ],
)
def test_a_packet_is_what_dnspython_reads(question: Question, words: str) -> None:
    """Name, type, class, flags, EDNS."""
    read = dns.message.from_wire(question.packet(77))
    assert read.id == 77
    assert read.question[0].name.to_text() == question.name
    assert (read.question[0].rdtype, read.question[0].rdclass) == (question.rtype, question.rclass)
    assert read.flags == question.flags
    assert str(question) == words
    if question.opts:
        opt = question.opts[0]
        assert (read.edns, read.payload, read.ednsflags & 0xFFFF) == (opt.version, opt.size, opt.flags)
        assert [int(option.otype) for option in read.options] == [code for code, _ in opt.options]


def test_odd_packets() -> None:
    """Opcode, and a question that is there twice or not at all."""
    assert dns.message.from_wire(Question("a.", opcode=4).packet(1)).opcode() == dns.opcode.NOTIFY
    assert Question("a.", repeat=0).packet(1)[4:] == bytes(8)
    assert Question("a.", repeat=2).packet(1)[4:6] == b"\0\2"
    assert Question("a.", repeat=2).packet(1)[12:] == Question("a.").section * 2
    assert Octets("short", b"abc").packet(0x4142) == b"ABc"
    assert Octets("nothing", b"").packet(1) == b""


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        pytest.param(Question("a.b."), ["dig @h -p 5 ", "+recurse", "+notcp", "+noedns", "-t A -q 'a.b.'"], id="plain"),
        pytest.param(
            Question("a.", Type.TXT, Class.CH, flags=CD, tcp=True), ["+tcp", "+cdflag", "+norecurse", "-c CH", "-t TXT"], id="flags"
        ),
        pytest.param(
            Question("a.", opts=(Opt(512, 1, 0x8080, ((100, b"\1"),)),)),
            ["+edns=1", "+noednsneg", "+bufsize=512", "+dnssec", "+ednsflags=0x80", "+ednsopt=100:01", "+nocookie"],
            id="edns",
        ),
        pytest.param(Question("a.", opcode=15, repeat=0), ["+opcode=15", "+header-only"], id="header"),
        pytest.param(Question("a.", flags=QR), ["echo ", "xxd -r -p | nc -u"], id="what-dig-cannot"),
        pytest.param(Question("a.", opts=(Opt(), Opt())), ["echo ", "nc -u -w 2 h 5"], id="two-opt"),
    ],
)
def test_the_line_for_dig(question: Question, parts: list[str]) -> None:
    """Asks the same; for what dig cannot ask, the octets are sent."""
    line = question.dig("h", 5)
    for part in parts:
        assert part in line

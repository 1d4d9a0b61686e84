"""Strict reading of replies. Malformed messages are errors."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.conformance.replies import read_reply
from svcdns.wire.codes import AA, Type
from svcdns.wire.errors import FormError

LINES = (
    "a.b. 5 IN A 10.0.0.1",
    "a.b. 5 IN AAAA fd00::1",
    "a.b. 5 IN CNAME c.b.",
    "a.b. 5 IN PTR C.b.",
    "a.b. 5 IN SRV 0 100 80 c.b.",
    'a.b. 5 IN TXT "x y" "z"',
    "a.b. 5 IN SOA n.b. h.b. 1 2 3 4 5",
    "a.b. 5 IN TYPE1000 \\# 2 0102",
)


def reply(*lines: str) -> dns.message.Message:
    """Returns a reply with these records in its answer."""
    out = dns.message.make_response(dns.message.make_query("a.b.", "A", use_edns=0, payload=1232))
    out.id = 7
    for line in lines:
        name, ttl, rclass, rtype, *rest = line.split()
        out.answer.append(dns.rrset.from_text(name, int(ttl), rclass, rtype, " ".join(rest)))
    return out


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split()[3])
def test_records_in_presentation_format(line: str) -> None:
    found = read_reply(reply(line).to_wire())
    assert [str(one) for one in found.answer] == [line]


def test_header_question_and_opt() -> None:
    message = reply(LINES[0])
    message.flags |= dns.flags.AA
    message.set_rcode(dns.rcode.BADVERS)
    found = read_reply(message.to_wire())
    assert (found.ident, found.rcode, found.opcode) == (7, 16, 0)
    assert found.has(AA)
    assert found.questions == (b"\1a\1b\0\0\1\0\1",)
    assert found.opt is not None
    assert (found.opt.version, found.opt.flags) == (0, 0)
    assert found.data(Type.A) == ["10.0.0.1"]
    assert str(found).splitlines()[1] == "answer: a.b. 5 IN A 10.0.0.1"


def test_long_sections_are_shortened() -> None:
    """At most six records of a section are shown, and then the number of further records."""
    found = read_reply(reply(*(f"a.b. 5 IN A 10.0.0.{n}" for n in range(9))).to_wire())
    assert str(found).splitlines()[-1] == "answer: 3 more"


WIRE = reply(LINES[0]).to_wire()
OPT = WIRE[-11:]


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        pytest.param(WIRE[:5], "a header has 12", id="short"),
        pytest.param(WIRE[:-3], "truncated", id="cut"),
        pytest.param(WIRE + b"x", "1 octets after the last record", id="longer"),
        pytest.param(WIRE[:10] + b"\0\2" + WIRE[12:] + OPT, "OPT record besides", id="two-opt"),
        pytest.param(WIRE[:6] + b"\0\2" + WIRE[8:10] + b"\0\0" + WIRE[12:], "OPT record besides", id="opt-in-answer"),
        pytest.param(WIRE[:14] + b"\xc0\x20" + WIRE[16:], "does not point back", id="pointer-forward"),
    ],
)
def test_malformed_messages(packet: bytes, text: str) -> None:
    """FormError is raised with the cause."""
    with pytest.raises(FormError, match=text):
        read_reply(packet)


@given(st.binary(max_size=80), st.integers(0, 80))
def test_random_octets_raise_only_form_errors(noise: bytes, at: int) -> None:
    for packet in (noise, WIRE[:at] + noise, WIRE[:at] + noise + WIRE[at + len(noise) :]):
        try:
            str(read_reply(packet))
        except FormError:
            continue

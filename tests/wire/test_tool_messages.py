"""Messages that svcdns's own tools send and read, compared with dnspython."""

from __future__ import annotations

import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire import names
from svcdns.wire.codes import AA, RD, Class, Type
from svcdns.wire.errors import FormError
from svcdns.wire.tool_messages import OptRecord, Question, answer, data_text, query, question

ASKED = Question(names.from_text("A\\.b.example."), Type.SRV, Class.CH)


def test_a_query() -> None:
    found = dns.message.from_wire(query(7, RD | AA, [ASKED], [OptRecord(1232, 1 << 16 | 0x8000, ((65001, b"ab"),))]))
    assert (found.id, int(found.flags), found.edns, found.payload) == (7, RD | AA, 1, 1232)
    assert (found.ednsflags & 0xFFFF, [(int(one.otype), one.to_wire()) for one in found.options]) == (
        0x8000,
        [(65001, b"ab")],
    )
    (asked,) = found.question
    assert (asked.name, asked.rdtype, asked.rdclass) == (dns.name.from_text("A\\.b.example."), Type.SRV, Class.CH)


def test_names_are_not_compressed() -> None:
    assert query(1, 0, [ASKED, ASKED])[12:] == question(ASKED) * 2
    assert query(1, 0, []) == b"\0\1" + bytes(10)


LINES = (
    "a.b. 5 IN A 10.0.0.1",
    "a.b. 5 IN AAAA fd00::1",
    "a.b. 5 IN CNAME c.b.",
    "a.b. 5 IN PTR C.b.",
    "a.b. 5 IN NS ns.b.",
    "a.b. 5 IN MX 10 m.b.",
    "a.b. 5 IN SRV 0 100 80 c.b.",
    'a.b. 5 IN TXT "x y" "z"',
    "a.b. 5 IN SOA n.b. h.b. 1 2 3 4 5",
    "a.b. 5 IN TYPE1000 \\# 2 0a0b",
    'a.b. 5 CH TXT "x"',
)


@pytest.mark.parametrize("line", LINES)
def test_an_answer_as_lines_of_a_zone_file(line: str) -> None:
    reply = dns.message.make_response(dns.message.make_query("a.b.", "A"))
    name, ttl, rclass, rtype, *rest = line.split()
    reply.answer.append(dns.rrset.from_text(name, int(ttl), rclass, rtype, " ".join(rest)))
    assert answer(reply.to_wire()) == (0, [line])


@pytest.mark.parametrize(
    ("rtype", "data"),
    [
        pytest.param(Type.A, bytes(5), id="long address"),
        pytest.param(Type.AAAA, bytes(4), id="short address"),
        pytest.param(Type.SRV, bytes(6), id="no target"),
        pytest.param(Type.CNAME, b"\1a\0\0", id="octets behind the name"),
        pytest.param(Type.TXT, b"\5ab", id="short string"),
    ],
)
def test_data_of_the_wrong_length(rtype: int, data: bytes) -> None:
    with pytest.raises(FormError):
        data_text(bytes(12) + data, 12, 12 + len(data), rtype)


@given(st.binary(max_size=60), st.sampled_from([Type.A, Type.AAAA, Type.SRV, Type.SOA, Type.TXT, Type.MX, Type.NULL]))
def test_data_text_raises_only_form_errors(noise: bytes, rtype: int) -> None:
    for read in (lambda: data_text(noise, 0, len(noise), rtype), lambda: answer(noise)):
        try:
            read()
        except FormError:
            continue

"""Encoding, parsing and truncation of messages, compared with dnspython."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.plugin_api.reply import Reply
from svcdns.wire import names
from svcdns.wire.codes import AA, RD, TC, Rcode, Type
from svcdns.wire.errors import FormError
from svcdns.wire.message import encode_query, encode_reply, parse_message, rotations, udp_limit
from svcdns.wire.record import Edns
from svcdns.wire.request import Request, accept
from tests.support import plain_replies as made
from tests.support.world import records, shown

ZONE = records(
    "www.example.org. 5 IN A 192.0.2.1",
    "www.example.org. 5 IN AAAA 2001:db8::1",
    "x.example.org. 7 IN CNAME www.example.org.",
    "example.org. 60 IN MX 10 mail.example.org.",
    "example.org. 60 IN SOA ns.example.org. host.example.org. 1 2 3 4 5",
    "_s._tcp.example.org. 9 IN SRV 0 5 80 www.example.org.",
    "example.org. 60 IN NS ns.example.org.",
    'example.org. 60 IN TXT "hello" "world"',
    "4.3.2.1.in-addr.arpa. 60 IN PTR www.example.org.",
)


def request(name: str = "www.example.org.", rtype: str = "A", **options: object) -> Request:
    found = accept(dns.message.make_query(name, rtype, **options).to_wire())  # type: ignore[arg-type]
    assert isinstance(found, Request)
    return found


@given(st.lists(st.sampled_from(ZONE), max_size=12), st.lists(st.sampled_from(ZONE), max_size=5), st.sampled_from(ZONE))
def test_encoding_and_parsing_round_trip(answer: list, additional: list, question: object) -> None:  # type: ignore[type-arg]
    asked = request(names.to_text(question.owner))  # type: ignore[attr-defined]
    wire = encode_reply(asked, Reply(flags=AA | RD, answer=tuple(answer), additional=tuple(additional)), 65535)
    parsed = parse_message(wire)
    assert parsed.answer == tuple(answer)
    assert parsed.additional == tuple(additional)
    theirs = dns.message.from_wire(wire, one_rr_per_rrset=True)
    assert [rrset.to_text() for rrset in theirs.answer] == shown(answer)


@given(st.integers(min_value=512, max_value=4000), st.integers(min_value=1, max_value=200))
def test_truncates_to_the_limit(limit: int, count: int) -> None:
    answer = records(*(f"www.example.org. 5 IN A 10.0.{n // 250}.{n % 250}" for n in range(count)))
    wire = encode_reply(request(use_edns=0, payload=limit), Reply(answer=answer), limit)
    parsed = parse_message(wire)
    assert len(wire) <= limit
    assert parsed.answer == answer[: len(parsed.answer)]
    assert bool(parsed.flags & TC) == (len(parsed.answer) < count)
    assert parsed.edns == Edns(1232)


ADDRESSES = records(
    *[f"www.example.org. 5 IN A 192.0.2.{number}" for number in range(40)], "www.example.org. 5 IN AAAA 2001:db8::1"
)


@given(
    st.lists(st.sampled_from(ADDRESSES[:40]), unique=True, max_size=40),
    st.booleans(),
    st.integers(0, 3),
    st.integers(1, 9),
)
def test_each_rotation_equals_a_separate_encoding(answer: list, foreign: bool, size: int, count: int) -> None:  # type: ignore[type-arg]
    """A rotation is an encoded reply in which the address records have another order. Truncated replies have no
    rotations.
    """
    asked, limit = request(use_edns=0 if size else -1), 512 << size
    reply = Reply(answer=(*(ZONE[1:3] if foreign else ()), *answer), additional=tuple(ZONE[2:5]), flags=AA)
    wire = encode_reply(asked, reply, limit)
    made = rotations(asked, reply, wire, count)
    if foreign or not answer or wire[2] & TC >> 8:
        assert made == []
        return
    assert len(made) == count
    for number, one in enumerate(made):
        cut = number * len(answer) // count
        again = Reply(answer=(*answer[cut:], *answer[:cut]), additional=reply.additional, flags=AA)
        assert one == encode_reply(asked, again, limit)


def test_additional_records_are_dropped_first() -> None:
    answer = records("www.example.org. 5 IN A 10.0.0.1")
    extra = records(*(f"a{n}.example.org. 5 IN A 10.0.0.{n}" for n in range(60)))
    parsed = parse_message(encode_reply(request(), Reply(answer=answer, additional=extra), 512))
    assert parsed.answer == answer
    assert 0 < len(parsed.additional) < 60
    assert parsed.flags & TC


@pytest.mark.parametrize(
    ("asked", "made", "expected"),
    [
        pytest.param(None, None, None, id="none asked, none sent"),
        pytest.param(Edns(4096), None, Edns(1232), id="the server's size"),
        pytest.param(Edns(100, True), None, Edns(1232, True), id="small size and DO"),
        pytest.param(Edns(1232, False, 0, ((3, b""), (65001, b"x"))), None, Edns(1232), id="no option echoed"),
        pytest.param(
            Edns(1232),
            Edns(4096, True, 0, ((15, b"\0\x16"), (10, b"12345678"))),
            Edns(1232, False, 0, ((15, b"\0\x16"),)),
            id="options of a plugin or an upstream, without its cookie and DO",
        ),
        pytest.param(None, Edns(4096), None, id="never without one in the query"),
    ],
)
def test_opt_of_a_reply(asked: Edns | None, made: Edns | None, expected: Edns | None) -> None:
    """The rules are in docs/behaviour/server.md#edns."""
    base = request()
    base.edns = asked
    assert parse_message(encode_reply(base, Reply(edns=made), 512)).edns == expected


def test_extended_rcode_needs_opt() -> None:
    """The upper bits of BADVERS are sent in the OPT record. A client without EDNS gets SERVFAIL instead."""
    wire = encode_reply(request(use_edns=0), Reply(rcode=Rcode.BADVERS), 512)
    assert dns.message.from_wire(wire).rcode() == dns.rcode.BADVERS
    wire = encode_reply(request(), Reply(rcode=Rcode.BADVERS, edns=Edns(0)), 512)
    assert dns.message.from_wire(wire).rcode() == dns.rcode.SERVFAIL


def test_udp_limit_is_at_least_512() -> None:
    """The limit is 512 octets even if the client's OPT record states less (RFC 6891 §6.2.3)."""
    assert [udp_limit(None), udp_limit(Edns(100)), udp_limit(Edns(4096))] == [512, 512, 4096]


def test_dnspython_reads_a_query() -> None:
    wire = encode_query(9, RD, names.from_text("a.b."), Type.AAAA, 1, Edns(1232, dnssec_ok=True))
    message = dns.message.from_wire(wire)
    assert (message.id, message.flags, message.question[0].to_text()) == (9, dns.flags.RD, "a.b. IN AAAA")
    assert (message.payload, message.ednsflags) == (1232, dns.flags.DO)


def test_names_in_rdata_are_decompressed() -> None:
    """A parsed record can be used in another message, where its compression pointers would be wrong."""
    message = dns.message.make_response(dns.message.make_query("example.org.", "NAPTR"))
    message.answer.append(dns.rrset.from_text("example.org.", 60, "IN", "NAPTR", '1 2 "s" "x" "" www.example.org.'))
    parsed = parse_message(message.to_wire())
    assert shown(parsed.answer) == ['example.org. 60 IN NAPTR 1 2 "s" "x" "" www.example.org.']


@pytest.mark.parametrize("rclass", [0, 1, 3, 254])
def test_names_in_rdata_of_other_classes_are_decompressed(rclass: int) -> None:
    """The type alone decides (RFC 3597 §4)."""
    rdata = b"\0\1\0\2\1s\1x\0\3www"
    record = b"\xc0\x0c\0\x23" + rclass.to_bytes(2, "big") + bytes(5) + bytes((len(rdata) + 2,)) + rdata + b"\xc0\x0c"
    head = bytes.fromhex("0001 8180 0001 0001 0000 0000") + b"\1a\0\0\1\0\1"
    (parsed,) = parse_message(head + record).answer
    assert parsed.rdata == rdata + b"\1a\0"


@pytest.mark.parametrize("rclass", [0, 1, 3, 254, 255])
@pytest.mark.parametrize("rtype", ["CNAME", "MX", "SOA", "NAPTR"])
def test_rdata_without_its_name_is_malformed_in_every_class(rclass: int, rtype: str) -> None:
    head = bytes.fromhex("0001 8180 0001 0001 0000 0000") + b"\1a\0\0\1\0\1"
    record = b"\xc0\x0c" + int(Type[rtype]).to_bytes(2, "big") + rclass.to_bytes(2, "big") + bytes(6)
    with pytest.raises(FormError):
        parse_message(head + record)


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_form_errors(data: bytes) -> None:
    try:
        parse_message(data)
    except FormError:
        return
    assert len(data) >= 12


@pytest.mark.parametrize(("count", "good"), [(15, True), (80, False), (500, False)])
def test_decompressed_names_are_bounded(count: int, good: bool) -> None:
    """Compression pointers must not make the names much longer than the message."""
    long = b"\1a" * 120 + b"\0"
    pointed = made.record(made.pointer(made.START + 12), Type.NULL, b"")
    packet = made.reply(made.record(made.OWNER, Type.CNAME, long), *[pointed] * count)
    if good:
        assert [record.owner for record in parse_message(packet).answer[1:]] == [long] * count
    else:
        with pytest.raises(FormError):
            parse_message(packet)

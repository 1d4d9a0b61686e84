"""Recognizing simple replies, and reading values from their octets. A simple reply has only CNAME and address records,
or is a plain denial.
"""

from __future__ import annotations

import pytest
from hypothesis import given

from svcdns.wire.codes import TC, Class, Rcode, Type
from svcdns.wire.errors import FormError
from svcdns.wire.message import parse_message
from svcdns.wire.simple_reply import scan, with_ttl
from tests.support import plain_replies as made
from tests.support.plain_replies import (
    FLAGS,
    FULL,
    NAME,
    NXDOMAIN,
    OWNER,
    PLAIN,
    START,
    ZONE,
    address,
    aliased,
    aliases,
    opt,
    record,
    reply,
    soa,
)

A, AAAA = int(Type.A), int(Type.AAAA)
EDGE = b"\4edge" + ZONE
LONG = 1 << 31

every_plain_reply = pytest.mark.parametrize("packet", [pytest.param(packet, id=name) for name, packet in PLAIN.items()])


@every_plain_reply
def test_offsets_and_values_agree_with_the_parsed_message(packet: bytes) -> None:
    plain, message = scan(packet, START, made.rtype_of(packet)), parse_message(packet)
    assert plain is not None
    records = (*message.answer, *message.authority)
    assert (plain.packet, plain.start, plain.rcode) == (packet, START, message.flags & 15)
    assert plain.ttl == min(record.ttl for record in records)
    assert [int.from_bytes(packet[at : at + 4], "big") for at in plain.ttls] == [record.ttl for record in records]
    assert plain.is_denial == (not message.answer)
    addresses = [record for record in message.answer if record.rtype != Type.CNAME]
    assert plain.size == (0 if plain.is_denial else 12 + len(addresses[0].rdata))
    assert plain.is_denial or plain.addresses == plain.end - plain.size * len(addresses)
    assert plain.end == len(packet) or packet[plain.end : plain.end + 3] == b"\0\0\x29"


@every_plain_reply
@pytest.mark.parametrize("ttl", [0, 30, LONG - 1])
def test_with_ttl_replaces_every_ttl(packet: bytes, ttl: int) -> None:
    """`with_ttl` changes the TTLs, leaves out the OPT record, and keeps everything else."""
    plain = scan(packet, START, made.rtype_of(packet))
    assert plain is not None
    before = parse_message(packet)
    after = parse_message(packet[:10] + b"\0\0" + packet[12:START] + with_ttl(plain, ttl))
    for section in ("answer", "authority"):
        found = [(record.owner, record.rtype, record.rdata, record.rclass) for record in getattr(before, section)]
        assert [
            (record.owner, record.rtype, record.rdata, record.rclass) for record in getattr(after, section)
        ] == found
    assert {record.ttl for record in (*after.answer, *after.authority)} == {ttl}
    assert (after.additional, after.edns) == ((), None)


@every_plain_reply
def test_truncated_packets_and_trailing_octets_are_not_simple(packet: bytes) -> None:
    rtype = made.rtype_of(packet)
    assert [size for size in range(len(packet)) if scan(packet[:size], START, rtype) is not None] == []
    assert [octet for octet in range(256) if scan(packet + bytes((octet,)), START, rtype) is not None] == []


def cname_reply(*targets: bytes, more: bytes = b"") -> bytes:
    """Returns a reply with CNAME records and an address record for the last target, with `more` before the address
    record.
    """
    records, owner = aliases(*targets)
    return reply(*records, *([more] if more else []), address(owner))


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(reply(address(), flags=FLAGS | TC), id="truncated"),
        pytest.param(reply(address(), flags=FLAGS | 0x2000), id="another opcode"),
        *[pytest.param(reply(address(), flags=FLAGS | rcode), id=f"an address with rcode {rcode}") for rcode in (1, 2, 3, 4, 5, 15)],
        *[pytest.param(reply(authority=[soa()], flags=FLAGS | rcode), id=f"a SOA with rcode {rcode}") for rcode in (1, 2, 4, 5, 6, 15)],
        pytest.param(reply(), id="nothing at all"),
        pytest.param(reply(flags=NXDOMAIN), id="NXDOMAIN without a SOA"),
        pytest.param(reply(additional=[opt()]), id="an OPT alone"),
        pytest.param(reply(address(), authority=[soa()]), id="a SOA beside an answer"),
        pytest.param(reply(address(), authority=[record(ZONE, Type.NS, b"\2ns" + ZONE)]), id="NS beside an answer"),
        pytest.param(reply(authority=[record(ZONE, Type.NS, b"\2ns" + ZONE)]), id="a referral"),
        pytest.param(reply(authority=[soa(), soa()]), id="two SOAs"),
        pytest.param(reply(authority=[soa(), record(ZONE, 47, b"\1a" + ZONE + b"\0\1\x40")]), id="a proof beside the SOA"),
        pytest.param(reply(soa()), id="the SOA in the answer"),
        pytest.param(reply(authority=[address()]), id="an address for a SOA"),
    ],
)  # fmt: skip
def test_other_headers_and_sections_are_not_simple(packet: bytes) -> None:
    assert scan(packet, START, A) is None


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(reply(address(), additional=[address()]), id="an address"),
        pytest.param(reply(address(), additional=[opt(), opt()]), id="two OPTs"),
        pytest.param(reply(address(), additional=[opt(), address()]), id="an address behind the OPT"),
        pytest.param(reply(address(), additional=[opt(flags=1 << 24)]), id="an extended rcode"),
        pytest.param(reply(address(), additional=[opt(flags=0xFF000000)]), id="all of it"),
        pytest.param(reply(address(), additional=[opt(owner=OWNER)]), id="an OPT with a name"),
        pytest.param(reply(address(), additional=[opt(size=1)]), id="an OPT that says it has more"),
        pytest.param(reply(address(), additional=[opt(b"\0", size=0)]), id="an OPT that says it has less"),
        pytest.param(reply(address(), additional=[opt(b"\0")]), id="an option without its head"),
        pytest.param(reply(address(), additional=[opt(b"\0\x0a\0\x08" + bytes(7))]), id="an option that is cut off"),
        pytest.param(reply(address(), additional=[opt(b"\0\x0f\0\1\0")]), id="an extended error that is none"),
        pytest.param(reply(authority=[soa()], additional=[opt(b"\0\x08\0\0")]), id="a client subnet that is none"),
        pytest.param(reply(opt()), id="an OPT for an answer"),
        pytest.param(reply(address(), opt()), id="an OPT behind the answer"),
        pytest.param(reply(authority=[opt()]), id="an OPT for a SOA"),
    ],
)
def test_other_additional_records_are_not_simple(packet: bytes) -> None:
    assert scan(packet, START, A) is None


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(reply(record(OWNER, A, made.V4, rclass=Class.CH)), id="another class"),
        pytest.param(reply(record(OWNER, AAAA, made.V6)), id="another type"),
        pytest.param(reply(address(), record(OWNER, AAAA, made.V6)), id="another type beside it"),
        pytest.param(reply(address(), record(OWNER, 46, bytes(20))), id="a signature beside it"),
        pytest.param(reply(record(OWNER, Type.TXT, b"\3abc")), id="no address"),
        pytest.param(reply(address(NAME)), id="its owner in full"),
        pytest.param(reply(address(FULL)), id="of a foreign name"),
        pytest.param(reply(address(ZONE)), id="of a name above"),
        pytest.param(reply(address(), address(FULL)), id="of a foreign name beside it"),
        pytest.param(reply(address(made.pointer(13))), id="of a name inside a label"),
        pytest.param(reply(address(ttl=LONG)), id="a TTL that is none"),
        pytest.param(reply(address(), address(ttl=0xFFFFFFFF)), id="a TTL that is none beside one that is"),
        *[pytest.param(reply(record(OWNER, A, bytes(size))), id=f"of {size} octets") for size in (0, 3, 5, 16)],
        *[
            pytest.param(reply(record(OWNER, A, made.V4, size=size)), id=f"that says it has {size} octets")
            for size in (0, 3, 5, 16, 65535)
        ],
    ],
)
def test_other_address_records_are_not_simple(packet: bytes) -> None:
    assert scan(packet, START, A) is None


def test_other_query_types_are_not_simple() -> None:
    for rtype in (AAAA, Type.CNAME, Type.TXT, Type.ANY, 0):
        assert scan(reply(address(), rtype=rtype), START, rtype) is None
    assert scan(reply(record(OWNER, AAAA, made.V4), rtype=AAAA), START, AAAA) is None
    assert scan(reply(*aliases(EDGE)[0], rtype=Type.CNAME), START, Type.CNAME) is None


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(reply(*aliases(EDGE)[0]), id="to nothing"),
        pytest.param(reply(*aliases(EDGE)[0], authority=[soa()]), id="to a denial"),
        pytest.param(cname_reply(OWNER), id="to itself"),
        pytest.param(cname_reply(NAME), id="to itself in full"),
        pytest.param(cname_reply(NAME.upper()), id="to itself in capitals"),
        pytest.param(cname_reply(EDGE, OWNER), id="in a circle"),
        pytest.param(cname_reply(EDGE, FULL, b"\4EDGE" + ZONE), id="in a circle further on"),
        pytest.param(cname_reply(EDGE, more=record(OWNER, Type.CNAME, FULL)), id="two of one name"),
        pytest.param(cname_reply(EDGE, more=record(OWNER, Type.CNAME, EDGE)), id="the same twice"),
        pytest.param(cname_reply(EDGE, more=address()), id="an address beside its alias"),
        pytest.param(reply(address(), *aliases(EDGE)[0]), id="behind an address"),
        pytest.param(reply(*aliases(EDGE)[0], address()), id="with the address of the question's name"),
        pytest.param(
            reply(*aliases(EDGE)[0], address(made.pointer(START + 17))), id="with the address of a name above"
        ),
        pytest.param(reply(*aliases(FULL)[0], address(FULL)), id="with the address of its target in full"),
        pytest.param(
            cname_reply(EDGE, more=record(made.pointer(START + 12), AAAA, made.V6)), id="with another type at its end"
        ),
        pytest.param(reply(record(OWNER, 39, FULL), address()), id="a DNAME"),
        pytest.param(
            reply(record(OWNER, Type.CNAME, FULL, rclass=Class.CH), address(made.pointer(START + 12))),
            id="of another class",
        ),
        pytest.param(aliased(FULL, ttl=LONG), id="a TTL that is none"),
        pytest.param(
            reply(record(OWNER, Type.CNAME, FULL + b"\0"), address(made.pointer(START + 12))),
            id="with an octet behind it",
        ),
        pytest.param(
            reply(record(OWNER, Type.CNAME, FULL, size=len(FULL) - 1), address(made.pointer(START + 12))), id="cut off"
        ),
        pytest.param(
            reply(record(OWNER, Type.CNAME, b"", size=0), address(made.pointer(START + 12))), id="without a target"
        ),
        pytest.param(cname_reply(made.pointer(START + 12)), id="a pointer to itself"),
        pytest.param(cname_reply(made.pointer(0x3FFF)), id="a pointer to what comes"),
        pytest.param(cname_reply(b"\x40" + FULL), id="of a label type that there is not"),
    ],
)
def test_other_cname_chains_are_not_simple(packet: bytes) -> None:
    assert scan(packet, START, A) is None


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(reply(authority=[soa(FULL)]), id="of a foreign zone"),
        pytest.param(reply(authority=[soa(b"\7example\3org\0")]), id="its owner in full"),
        pytest.param(reply(authority=[soa(b"\3sub" + OWNER)]), id="of a zone below"),
        pytest.param(reply(authority=[soa(made.pointer(START + 12))]), id="of a name behind"),
        pytest.param(reply(authority=[soa(b"\0")]), id="the root in full"),
        *[
            pytest.param(reply(authority=[soa(made.pointer(at))]), id=f"owner at {at}")
            for at in (0, 4, 11, 13, 15, 17, 23, 25, 29, 30, 32, 33)
        ],
        pytest.param(reply(authority=[soa(rclass=Class.CH)]), id="another class"),
        pytest.param(reply(authority=[soa(ttl=LONG)]), id="a TTL that is none"),
        pytest.param(reply(authority=[soa(rdata=made.SOA_DATA + b"\0")]), id="more than five numbers"),
        pytest.param(reply(authority=[soa(rdata=made.SOA_DATA[:-1])]), id="less than five numbers"),
        pytest.param(reply(authority=[soa(rdata=made.NUMBERS)]), id="numbers alone"),
        pytest.param(
            reply(authority=[soa(rdata=b"\2ns" + made.pointer(0x3FFF) + b"\0" + made.NUMBERS)]),
            id="a pointer to what comes",
        ),
        pytest.param(reply(authority=[record(ZONE, Type.SOA, made.SOA_DATA, size=65535)]), id="that says it has more"),
        pytest.param(reply(authority=[record(ZONE, Type.SOA, made.SOA_DATA, size=20)]), id="that says it has less"),
    ],
)
def test_other_denials_are_not_simple(packet: bytes) -> None:
    """The SOA record of a simple denial is valid, and its owner is a compression pointer to an ancestor of the query
    name.
    """
    for flags in (0, Rcode.NXDOMAIN):
        assert scan(packet[:3] + bytes((packet[3] | flags,)) + packet[4:], START, A) is None


def test_a_cname_beyond_the_reach_of_a_pointer_is_not_simple() -> None:
    """A compression pointer has 14 bits (RFC 1035 §4.1.4). If an offset is larger, its lower 14 bits lead to another
    name.
    """
    far, at, targets = 0x4000 + 12, START, list[bytes]()
    while at + 12 < far:
        targets.append(_name(min(200, far - at - 24), len(targets)))
        at += 12 + len(targets[-1])
    records, _ = aliases(*targets, FULL)
    packet = reply(*records, address(OWNER))
    assert packet.index(FULL) == far
    assert parse_message(packet).answer[-1].owner == NAME
    assert scan(packet, START, A) is None


def _name(size: int, number: int) -> bytes:
    out, left = b"\4%04d" % number, size - 6
    while left:
        octets = min(64, left) - (left == 65)
        out += bytes((octets - 1,)) + b"x" * (octets - 1)
        left -= octets
    return out + b"\0"


def test_names_with_octets_that_change_are_not_simple() -> None:
    """A name must not contain octets that change in a copy of the reply, such as those of a TTL."""
    last_of_ttl, size = made.pointer(START + 9), made.pointer(START + 11)
    rest = b"\4host" + ZONE + made.NUMBERS
    for packet in (
        reply(authority=[soa(rdata=last_of_ttl + rest, ttl=0)]),
        reply(authority=[soa(rdata=b"\2ns" + last_of_ttl + rest, ttl=0)]),
        reply(authority=[soa(rdata=b"\2ns" + ZONE + b"\4host" + last_of_ttl + made.NUMBERS, ttl=0)]),
        reply(record(OWNER, Type.CNAME, b"\4edge" + last_of_ttl, ttl=0), address(made.pointer(START + 12))),
    ):
        parse_message(packet)
        assert scan(packet, START, A) is None
    packet = reply(authority=[soa(rdata=size + rest)], additional=[opt()])
    assert scan(packet, START, A) is None
    with pytest.raises(FormError):
        parse_message(packet)


@given(made.MUTATIONS)
def test_scan_and_parse_message_agree(packet: bytes) -> None:
    plain = scan(packet, START, made.rtype_of(packet))
    if plain is None:
        return
    message = parse_message(packet)
    records = (*message.answer, *message.authority)
    assert not message.flags & TC
    assert plain.rcode == message.flags & 15
    assert plain.ttl == min(record.ttl for record in records)
    assert len(plain.ttls) == len(records)
    assert plain.is_denial == (not message.answer)
    assert message.additional == ()
    assert (plain.end < len(packet)) == (message.edns is not None)
    again = parse_message(packet[:10] + b"\0\0" + packet[12:START] + with_ttl(plain, 77))
    assert [(record.owner, record.rdata) for record in (*again.answer, *again.authority)] == [
        (record.owner, record.rdata) for record in records
    ]
    if plain.is_denial:
        assert [record.rtype for record in records] == [Type.SOA]
        return
    answers = [record.rtype for record in message.answer]
    count = (plain.end - plain.addresses) // plain.size
    assert answers == [*[int(Type.CNAME)] * (len(answers) - count), *[made.rtype_of(packet)] * count]
    assert count > 0

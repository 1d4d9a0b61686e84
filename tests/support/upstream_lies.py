"""Wrong replies ("lies") of an upstream to a query for the A records of www.example.org, without EDNS, with the ID
0x1234.

The packets in `DROPPED` do not match the query. The replies in `STRIPPED` have unrelated records. The replies in
`PASSED` are unusual, but are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from svcdns.wire import names
from svcdns.wire.codes import Class, Opcode, Rcode, Type
from tests.support import plain_replies as made
from tests.support.plain_replies import (
    FLAGS,
    FULL,
    NAME,
    NXDOMAIN,
    OWNER,
    START,
    ZONE,
    address,
    opt,
    pointer,
    record,
    reply,
    soa,
)

TRUE = reply(address())
ADDRESS = "www.example.org. A 192.0.2.1"
EVIL = names.from_text("bank.example.com.")
BELOW = b"\3ftp" + ZONE
TXT = record(OWNER, Type.TXT, b"\3abc")
SOA_TEXT = "example.org. SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60"


def numbered(packet: bytes, ident: bytes) -> bytes:
    """Returns the packet with the query's message ID if its ID is 0x1234, otherwise with a wrong ID."""
    if packet[:2] == b"\x12\x34":
        return ident + packet[2:]
    return bytes((ident[0] ^ 1,)) + ident[1:] + packet[2:] if len(packet) > 1 else packet


def flags(value: int, packet: bytes = TRUE) -> bytes:
    """Returns a packet with other header flags."""
    return packet[:2] + value.to_bytes(2, "big") + packet[4:]


def counts(*values: int, packet: bytes = TRUE) -> bytes:
    """Returns a packet whose header has these counts of questions, answers, authority and additional records."""
    return packet[:4] + b"".join(value.to_bytes(2, "big") for value in values) + packet[12:]


def beside(*records: bytes) -> bytes:
    """Returns the true answer with further records in the answer section."""
    return reply(address(), *records)


def pointers(number: int) -> bytes:
    """Returns a reply. In it, `number` compression pointers in a row form the name of the second record."""
    text = record(OWNER, Type.NULL, b"".join([OWNER, *(pointer(START + 12 + 2 * at) for at in range(number - 1))]))
    return reply(text, address(pointer(START + 12 + 2 * (number - 1))))


def bomb() -> bytes:
    """Returns a reply with thousands of names. Each name expands to 255 octets."""
    long = (b"\1a" * 110) + b"\0"
    return reply(record(OWNER, Type.CNAME, long), *[record(pointer(START + 12), Type.NULL, b"")] * 4_000)


DROPPED = {
    "another ID": (b"\0\0" + TRUE[2:], "id"),
    "another ID and a header alone": (b"\0\0" + flags(FLAGS | Rcode.REFUSED)[2:4] + bytes(8), "id"),
    "not a reply": (flags(0x0100), "query"),
    **{f"opcode {number}": (flags(FLAGS | number << 11), "opcode") for number in (1, 2, Opcode.NOTIFY, Opcode.UPDATE, 15)},
    "another name": (reply(address(), name=names.from_text("www.example.com.")), "question"),
    "a name of another length": (reply(address(), name=names.from_text("www2.example.org.")), "question"),
    "the name above": (reply(address(), name=names.from_text("example.org.")), "question"),
    "the name below": (reply(address(), name=names.from_text("a.www.example.org.")), "question"),
    "another type": (reply(record(OWNER, Type.AAAA, made.V6), rtype=Type.AAAA), "question"),
    "another class": (TRUE[: START - 1] + b"\3" + TRUE[START:], "question"),
    "no question": (counts(0, 1, 0, 0, packet=TRUE[:12] + TRUE[START:]), "question"),
    "NXDOMAIN without a question": (flags(NXDOMAIN, counts(0, 0, 0, 0, packet=TRUE[:12])), "question"),
    "NOERROR, a header alone": (counts(0, 0, 0, 0, packet=TRUE[:12]), "question"),
    "two questions": (counts(2, 1, 0, 0, packet=TRUE[:START] + TRUE[12:]), "question"),
    "a question that is cut": (TRUE[: START - 3], "question"),
    "a header that promises a question": (TRUE[:12], "question"),
    "an answer after no question": (flags(FLAGS | Rcode.REFUSED, counts(0, 1, 0, 0)), "question"),
    "nothing": (b"", "malformed"),
    "one octet": (b"\x12", "malformed"),
    "a header that is cut": (TRUE[:11], "malformed"),
    "an answer too many": (counts(1, 2, 0, 0), "malformed"),
    "an authority record too many": (counts(1, 1, 1, 0), "malformed"),
    "an additional record too many": (counts(1, 1, 0, 1), "malformed"),
    "65,535 records": (counts(1, 65535, 65535, 65535), "malformed"),
    "an answer too few": (counts(1, 1, 0, 0, packet=beside(address(last=2))), "malformed"),
    "an answer that is not counted": (counts(1, 0, 0, 0), "malformed"),
    "cut in the address": (TRUE[:-1], "malformed"),
    "cut in the head of a record": (TRUE[: START + 5], "malformed"),
    "cut before the answer": (TRUE[:START], "malformed"),
    **{f"an address of {size} octets": (reply(record(OWNER, Type.A, bytes(size))), "malformed") for size in (0, 3, 5, 16)},
    "RDATA beyond the end": (reply(record(OWNER, Type.A, made.V4, size=600)), "malformed"),
    "RDATA that ends within the address": (reply(record(OWNER, Type.A, made.V4, size=3)), "malformed"),
    "a pointer to itself": (reply(address(pointer(START))), "malformed"),
    "a pointer forward": (reply(address(pointer(START + 12))), "malformed"),
    "a pointer into the header": (reply(address(pointer(2))), "malformed"),
    "two pointers in a circle": (reply(record(pointer(START + 2), Type.CNAME, pointer(START))), "malformed"),
    "many pointers": (pointers(60), "malformed"),
    "names that expand without end": (bomb(), "malformed"),
    "an unknown type of label": (beside(address(b"\x40" + NAME)), "malformed"),
    "a name of 300 octets": (beside(address((b"\x3f" + b"x" * 63) * 5 + b"\0")), "malformed"),
    "an alias with octets behind it": (beside(record(OWNER, Type.CNAME, FULL + b"\0")), "malformed"),
    "an alias to nothing": (reply(record(OWNER, Type.CNAME, b"")), "malformed"),
    "a SOA that is cut": (reply(authority=[soa(rdata=made.SOA_DATA[:-1])], flags=NXDOMAIN), "malformed"),
    "a SOA that is too long": (reply(authority=[soa(rdata=made.SOA_DATA + b"\0")], flags=NXDOMAIN), "malformed"),
    "a text that is cut": (beside(record(OWNER, Type.TXT, b"\4abc")), "malformed"),
    "a text of nothing": (beside(record(OWNER, Type.TXT, b"")), "malformed"),
    "MX of one octet": (beside(record(OWNER, Type.MX, b"\0")), "malformed"),
    "SRV without a target": (beside(record(OWNER, Type.SRV, bytes(6))), "malformed"),
    "NAPTR that is cut": (beside(record(OWNER, Type.NAPTR, b"\0\1\0\1\1a\1b\5c\0")), "malformed"),
    "a signature without a signer": (beside(record(OWNER, Type.RRSIG, bytes(18))), "malformed"),
    "a proof with a bad bitmap": (reply(authority=[soa(), record(OWNER, Type.NSEC, NAME + b"\0\x21" + bytes(33))]), "malformed"),
    "HTTPS with a parameter that is cut": (beside(record(OWNER, Type.HTTPS, b"\0\1\0\0\4\0\4\xc0")), "malformed"),
    "CAA without a tag": (beside(record(OWNER, Type.CAA, b"\0")), "malformed"),
    "DS of four octets": (beside(record(OWNER, Type.DS, bytes(4))), "malformed"),
    "OPT in the answer": (beside(opt()), "malformed"),
    "OPT in the authority section": (reply(address(), authority=[opt()]), "malformed"),
    "two OPT records": (reply(address(), additional=[opt(), opt()]), "malformed"),
    "OPT with a name": (reply(address(), additional=[opt(owner=OWNER)]), "malformed"),
    "an option that is cut": (reply(address(), additional=[opt(b"\0\x0a\0\x08")]), "malformed"),
    "BADVERS without EDNS in the query": (reply(additional=[opt(flags=1 << 24)]), "malformed"),
}  # fmt: skip
"""Packets that are not the reply, and the reason for which they are counted."""


class Stripped(NamedTuple):
    """A reply with unrelated records, and the part of it that is kept."""

    packet: bytes
    answer: Sequence[str] = ()
    authority: Sequence[str] = ()
    additional: Sequence[str] = ()
    rcode: int = 0
    cached: bool = True
    owner: int = 0
    rclass: int = 0
    denial: int = 0
    others: int = 0
    """The numbers of records that are counted as stripped: `others` are authority and additional records."""


ALIAS = record(OWNER, Type.CNAME, FULL)
ALIAS_TEXT = "www.example.org. CNAME edge.example.net."
EDGE = pointer(START + 12)
DNAME = record(ZONE, Type.DNAME, names.from_text("example.net."))
DNAME_TEXT = "example.org. DNAME example.net."
SYNTHESIZED = record(OWNER, Type.CNAME, names.from_text("www.example.net."))
NET_SOA = soa(pointer(START + 17))
"""The SOA record of example.net, after ALIAS."""
STRIPPED = {
    "a foreign address after the answer": Stripped(beside(address(EVIL)), [ADDRESS], owner=1),
    "a foreign address before the answer": Stripped(reply(address(EVIL), address()), [ADDRESS], owner=1),
    "a foreign address alone": Stripped(reply(address(EVIL)), owner=1),
    "the address of the zone": Stripped(beside(address(ZONE)), [ADDRESS], owner=1),
    "the address of a sibling": Stripped(beside(address(BELOW)), [ADDRESS], owner=1),
    "a foreign name server in the answer": Stripped(beside(record(b"\3com\0", Type.NS, EVIL)), [ADDRESS], owner=1),
    "a foreign alias": Stripped(beside(record(EVIL, Type.CNAME, OWNER)), [ADDRESS], owner=1),
    "a foreign alias after an alias": Stripped(
        reply(ALIAS, address(EDGE), record(EVIL, Type.CNAME, EDGE)), [ALIAS_TEXT, "edge.example.net. A 192.0.2.1"], owner=1
    ),
    "an address after an alias that leads elsewhere": Stripped(reply(ALIAS, address(EVIL)), [ALIAS_TEXT], owner=1, cached=False),
    "two aliases of one name": Stripped(
        reply(ALIAS, record(OWNER, Type.CNAME, EVIL), address(EDGE), address(EVIL)),
        [ALIAS_TEXT, "www.example.org. CNAME bank.example.com.", "edge.example.net. A 192.0.2.1"], owner=1, cached=False,
    ),
    "a DNAME elsewhere": Stripped(beside(record(EVIL, Type.DNAME, FULL)), [ADDRESS], owner=1),
    "a DNAME above, and a foreign address": Stripped(
        reply(DNAME, SYNTHESIZED, address(names.from_text("www.example.net.")), address(EVIL)),
        [DNAME_TEXT, "www.example.org. CNAME www.example.net.", "www.example.net. A 192.0.2.1"], owner=1,
    ),
    "another class beside the answer": Stripped(beside(record(OWNER, Type.A, made.V4, rclass=Class.CH)), [ADDRESS], rclass=1),
    "another class alone": Stripped(reply(record(OWNER, Type.A, made.V4, rclass=Class.CH)), rclass=1),
    "class ANY": Stripped(beside(record(OWNER, Type.A, made.V4, rclass=Class.ANY)), [ADDRESS], rclass=1),
    "another class in each section": Stripped(
        reply(
            address(), authority=[soa(rclass=Class.HS)], additional=[record(OWNER, Type.TXT, b"\1a", rclass=Class.CH)]
        ),
        [ADDRESS], rclass=2,
    ),
    "foreign name servers": Stripped(reply(address(), authority=[record(EVIL, Type.NS, OWNER)]), [ADDRESS], others=1),
    "name servers below": Stripped(reply(authority=[record(BELOW, Type.NS, EVIL)]), others=1),
    "a foreign address in the authority section": Stripped(reply(address(), authority=[address(EVIL)]), [ADDRESS], others=1),
    "an address in the authority section": Stripped(reply(address(), authority=[address()]), [ADDRESS], others=1),
    "a foreign denial": Stripped(reply(authority=[soa(EVIL)], flags=NXDOMAIN), rcode=3, others=1, cached=False),
    "a foreign SOA beside the answer": Stripped(reply(address(), authority=[soa(EVIL)]), [ADDRESS], others=1),
    "a foreign SOA beside a denial": Stripped(
        reply(authority=[soa(EVIL), soa()], flags=NXDOMAIN), authority=[SOA_TEXT], rcode=3, others=1
    ),
    "the denial of a sibling": Stripped(reply(authority=[soa(BELOW)], flags=NXDOMAIN), rcode=3, others=1, cached=False),
    "the SOA of the first zone after an alias": Stripped(reply(ALIAS, authority=[soa()]), [ALIAS_TEXT], others=1, cached=False),
    "a proof without its zone": Stripped(
        reply(address(), authority=[record(EVIL, Type.NSEC, EVIL + b"\0\1\x40")]), [ADDRESS], others=1
    ),
    "a foreign address in the additional section": Stripped(reply(address(), additional=[address(EVIL)]), [ADDRESS], others=1),
    "the address of a foreign name server": Stripped(
        reply(address(), authority=[record(b"\3com\0", Type.NS, EVIL)], additional=[address(EVIL)]), [ADDRESS], others=2
    ),
    "an address of the name itself in the additional section": Stripped(
        reply(address(), additional=[address(last=2)]), [ADDRESS], others=1
    ),
    "a foreign alias in the additional section": Stripped(
        reply(address(), additional=[record(EVIL, Type.CNAME, OWNER), address(EVIL)]), [ADDRESS], others=2
    ),
    "a signed foreign record": Stripped(
        reply(address(), additional=[record(EVIL, Type.RRSIG, b"\0\1" + bytes(16) + EVIL + b"x")]), [ADDRESS], others=1
    ),
    "NXDOMAIN with an address": Stripped(reply(address(), authority=[soa()], flags=NXDOMAIN), authority=[SOA_TEXT], rcode=3, denial=1),
    "NXDOMAIN with a foreign address": Stripped(
        reply(address(EVIL), authority=[soa()], flags=NXDOMAIN), authority=[SOA_TEXT], rcode=3, owner=1
    ),
    "NXDOMAIN with a text": Stripped(reply(TXT, authority=[soa()], flags=NXDOMAIN), authority=[SOA_TEXT], rcode=3, denial=1),
    "NXDOMAIN with an alias and an address": Stripped(
        reply(ALIAS, address(EDGE), authority=[NET_SOA], flags=NXDOMAIN),
        [ALIAS_TEXT], ["example.net. SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60"], rcode=3, denial=1, cached=False,
    ),
}  # fmt: skip


TC_FLAG = 0x0200
PASSED = {
    "truncated": (flags(FLAGS | TC_FLAG), 0, [ADDRESS], TC_FLAG, {}),
    "truncated within a record": (flags(FLAGS | TC_FLAG, TRUE[:-2]), 0, [], TC_FLAG, {}),
    "octets after the reply": (TRUE + b"junk", 0, [ADDRESS], 0, {("trailing_octets_total",): 1}),
    "zero octets after the reply": (TRUE + bytes(22), 0, [ADDRESS], 0, {("trailing_octets_total",): 1}),
    "OPT that nobody asked for": (reply(address(), additional=[opt(made.OPTIONS)]), 0, [ADDRESS], 0, {}),
    "reserved bit": (flags(FLAGS | 0x40), 0, [ADDRESS], 0, {}),
    "the question in other letters": (TRUE[:13] + b"WwW" + TRUE[16:], 0, [ADDRESS.replace("www", "WwW")], 0, {}),
    "a TTL that is none": (reply(address(ttl=0x80000000)), 0, [ADDRESS], 0, {}),
    "another type of the name": (beside(TXT), 0, [ADDRESS, 'www.example.org. TXT "abc"'], 0, {}),
    "NOTIMP, a header alone": (TRUE[:2] + b"\x81\x84" + bytes(8), 4, [], 0, {}),
    "an alias to itself": (reply(record(OWNER, Type.CNAME, OWNER)), 0, ["www.example.org. CNAME www.example.org."], 0, {}),
    "an authority without an answer": (reply(authority=[record(ZONE, Type.NS, EVIL)]), 0, [], 0, {}),
}  # fmt: skip
"""Replies that are used. For each: the packet, the response code, the answer, TC, and what is counted."""

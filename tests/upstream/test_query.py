"""Queries to upstreams, and the replies that match them."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import dns.message
import pytest

from svcdns.upstream.query import Dropped, UpstreamQuery, address_text, as_message, random_id
from svcdns.wire import names
from svcdns.wire.codes import AA, RD, TC, Opcode, Rcode
from svcdns.wire.message import Message
from svcdns.wire.record import Edns
from tests.support.scripted_upstream import answer
from tests.support.statistics import chi_square_bound, chi_square_of

NAME = "a.example.org."
QUERY = UpstreamQuery(names.from_text(NAME), 1, 1, RD)
IDENT = 0x1234
A = answer(f"{NAME} 60 IN A 192.0.2.1")


def matching(name: str = NAME, rtype: str = "A", ident: int = IDENT, rclass: str = "IN") -> bytes:
    query = dns.message.make_query(name, rtype, rdclass=rclass, id=ident)
    packet = A(query, "udp")
    assert isinstance(packet, bytes)
    return packet


END = 16 + len(QUERY.name)
"""The offset at which the question section ends."""
OPT = b"\0\0\x29\x10\0\0\0\0\0\0\0"


def header(rcode: int, *, ident: int = IDENT, flags: int = 0x8180, answers: int = 0, additional: int = 0) -> bytes:
    """Returns the header of a reply without a question section."""
    return struct.pack("!6H", ident, flags | rcode, 0, answers, 0, additional)


def with_flags(packet: bytes, flags: int) -> bytes:
    """Returns the packet with these additional header flags."""
    return packet[:2] + (int.from_bytes(packet[2:4], "big") | flags).to_bytes(2, "big") + packet[4:]


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        pytest.param(matching(), "", id="the reply"),
        pytest.param(matching("A.eXample.ORG."), "", id="other case of letters"),
        pytest.param(matching(ident=IDENT ^ 1), "id", id="id"),
        pytest.param(matching("b.example.org."), "question", id="name"),
        pytest.param(matching("a.example.org.x."), "question", id="longer name"),
        pytest.param(matching("a.example."), "question", id="shorter name"),
        pytest.param(matching(rtype="AAAA"), "question", id="type"),
        pytest.param(matching(rtype="HTTPS"), "question", id="type that is A with a bit for lower case"),
        pytest.param(matching(rclass="CH"), "question", id="class"),
        pytest.param(QUERY.packet(IDENT), "query", id="the query itself"),
        pytest.param(matching()[:4] + b"\0\0" + matching()[6:], "question", id="no question"),
        pytest.param(matching()[:4] + b"\0\2" + matching()[6:], "question", id="two questions"),
        pytest.param(matching()[:12], "question", id="header that promises a question"),
        pytest.param(header(Rcode.FORMERR), "", id="FORMERR, header alone"),
        pytest.param(header(Rcode.SERVFAIL), "", id="SERVFAIL, header alone"),
        pytest.param(header(Rcode.NOTIMP), "", id="NOTIMP, header alone"),
        pytest.param(header(Rcode.REFUSED), "", id="REFUSED, header alone"),
        pytest.param(header(Rcode.FORMERR, additional=1) + OPT, "", id="FORMERR, no question, but OPT"),
        pytest.param(header(Rcode.NOERROR), "question", id="NOERROR, header alone"),
        pytest.param(header(Rcode.NXDOMAIN), "question", id="NXDOMAIN, header alone: of which name?"),
        pytest.param(header(Rcode.REFUSED, ident=IDENT ^ 1), "id", id="REFUSED, header alone, with another id"),
        pytest.param(header(Rcode.REFUSED, flags=0), "query", id="REFUSED, header alone, that is no reply"),
        pytest.param(header(Rcode.REFUSED, answers=1), "question", id="REFUSED, no question, but an answer"),
        pytest.param(header(Rcode.REFUSED)[:11], "malformed", id="REFUSED, header cut off"),
        pytest.param(with_flags(matching(), Opcode.UPDATE << 11), "opcode", id="another opcode"),
        pytest.param(
            with_flags(header(Rcode.NOTIMP), Opcode.STATUS << 11),
            "opcode",
            id="NOTIMP, header alone, with another opcode",
        ),
        *[pytest.param(matching()[:-cut], "malformed", id=f"cut by {cut} octets") for cut in (1, 3, 15)],
        *[
            pytest.param(with_flags(matching()[:-cut], TC), "", id=f"truncated, cut by {cut} octets")
            for cut in (1, 3, 15)
        ],
        pytest.param(matching() + b"junk", "", id="octets after it"),
        pytest.param(matching() + bytes(11), "", id="zero octets after it"),
        pytest.param(matching() + matching()[END:], "malformed", id="a record that is not counted"),
        pytest.param(matching()[:7] + b"\2" + matching()[8:], "malformed", id="a record too few"),
        pytest.param(
            matching()[:7] + b"\0\0\0\0\1" + matching()[12:END] + b"\x05extra" + OPT[1:],
            "malformed",
            id="OPT with a name",
        ),
        pytest.param(
            matching()[:11] + b"\1" + matching()[12:] + OPT[:5] + b"\1" + OPT[6:],
            "malformed",
            id="BADVERS to a query without EDNS",
        ),
        pytest.param(b"", "malformed", id="empty"),
        pytest.param(b"\x12", "malformed", id="one octet"),
    ],
)
def test_which_packet_is_the_reply(packet: bytes, reason: str) -> None:
    """A reply has the query's ID, opcode and question, and is well-formed. An error reply may lack the question. Other
    packets are dropped, with a reason.
    """
    found = QUERY.read(IDENT, packet)
    assert (found.value if isinstance(found, Dropped) else "") == reason


def test_an_error_without_a_question_has_the_question_of_the_query() -> None:
    """If the error counted as truncated, a query over TCP would follow."""
    message = QUERY.read(IDENT, header(Rcode.FORMERR))
    assert isinstance(message, Message)
    assert (message.rcode, message.flags & TC, message.name, message.rtype) == (
        Rcode.FORMERR,
        0,
        QUERY.name,
        QUERY.rtype,
    )


def test_a_truncated_reply_that_is_cut_has_no_records() -> None:
    """Some servers cut a reply within a record and set TC. The reply is used without its records (RFC 2181 §9)."""
    message = QUERY.read(IDENT, with_flags(matching()[:-3], TC))
    assert isinstance(message, Message)
    assert (message.flags & TC, message.answer) == (TC, ())


def test_an_extended_response_code() -> None:
    """The OPT record of the reply has the upper bits of the response code."""
    query = UpstreamQuery(QUERY.name, 1, 1, RD, Edns())
    message = query.read(IDENT, matching()[:11] + b"\1" + matching()[12:] + OPT[:5] + b"\1" + OPT[6:])
    assert isinstance(message, Message)
    assert message.rcode == Rcode.BADVERS


def test_the_reply_to_a_notification_has_its_opcode() -> None:
    """The reply to a NOTIFY has the opcode NOTIFY (RFC 1996 §3.6)."""
    query = UpstreamQuery(QUERY.name, 6, 1, Opcode.NOTIFY << 11 | AA)
    reply = matching(rtype="SOA")[:END]
    reply = reply[:6] + bytes(6) + reply[12:]
    assert query.read(IDENT, reply) is Dropped.OPCODE
    assert isinstance(query.read(IDENT, with_flags(reply, Opcode.NOTIFY << 11)), Message)


def test_garbage_after_the_question_is_dropped() -> None:
    """The garbage consists of random octets. By chance, the octets may form a record that the header announces."""
    at = len(QUERY.packet(0))
    chosen = random.Random(1)
    for _ in range(2_000):
        found = QUERY.read(IDENT, matching()[:at] + chosen.randbytes(chosen.randrange(60)))
        assert found is Dropped.MALFORMED or len(as_message(found).answer) == 1  # type: ignore[arg-type]


def forgeries(count: int) -> Iterator[bytes]:
    """Yields replies with a wrong ID, a wrong question, or both."""
    chosen = random.Random(7)
    good = matching()
    others = [matching(f"{label}.example.org.", rtype) for label in ("b", "aa", "www.a") for rtype in ("A", "AAAA")]
    others += [matching(rtype="AAAA"), matching(rclass="CH"), matching("a.example.net.")]
    for number in range(count):
        ident = chosen.randrange(1, 1 << 16)
        kind = number % 3
        body = good if kind == 0 else others[number % len(others)]
        wrong = IDENT ^ ident if kind != 1 else IDENT
        yield wrong.to_bytes(2, "big") + body[2:]


def test_a_million_forged_replies() -> None:
    """No forged reply matches the query. The genuine reply after them does."""
    assert all(isinstance(QUERY.read(IDENT, packet), Dropped) for packet in forgeries(1_000_000))
    found = QUERY.read(IDENT, matching())
    assert not isinstance(found, Dropped)
    assert len(as_message(found).answer) == 1


def test_ids_are_random() -> None:
    """A chi-square test of the message IDs. By chance, it fails once in a million runs."""
    drawn = [random_id() for _ in range(200_000)]
    for bits in (slice(0, 8), slice(8, 16)):
        counts = Counter(f"{ident:016b}"[bits] for ident in drawn)
        assert chi_square_of(counts, 256, len(drawn)) < chi_square_bound(255)
    steps = Counter((b - a) % 65536 // 256 for a, b in pairwise(drawn))
    assert chi_square_of(steps, 256, len(drawn) - 1) < chi_square_bound(255)


def test_address_text() -> None:
    """An IPv6 address is in brackets, before the port."""
    assert (address_text(("192.0.2.1", 53)), address_text(("::1", 5353))) == ("192.0.2.1:53", "[::1]:5353")

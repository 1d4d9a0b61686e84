"""Queries to upstreams, and the replies that match them."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import dns.message
import pytest

from svcdns.upstream.query import UpstreamQuery, address_text, random_id
from svcdns.wire import names
from svcdns.wire.codes import RD, TC, Rcode
from tests.support.scripted_upstream import answer
from tests.support.statistics import chi_square_bound, chi_square_of

NAME = "a.example.org."
QUERY = UpstreamQuery(names.from_text(NAME), 1, 1, RD)
IDENT = 0x1234
A = answer(f"{NAME} 60 IN A 192.0.2.1")


def matching(name: str = NAME, rtype: str = "A", ident: int = IDENT, rclass: str = "IN") -> bytes:
    """A reply that matches the query."""
    query = dns.message.make_query(name, rtype, rdclass=rclass, id=ident)
    packet = A(query, "udp")
    assert isinstance(packet, bytes)
    return packet


OPT = b"\0\0\x29\x10\0\0\0\0\0\0\0"


def header(rcode: int, *, ident: int = IDENT, flags: int = 0x8180, answers: int = 0, additional: int = 0) -> bytes:
    """The header of a reply without a question section."""
    return struct.pack("!6H", ident, flags | rcode, 0, answers, 0, additional)


@pytest.mark.parametrize(
    ("packet", "counts"),
    [
        pytest.param(matching(), True, id="the reply"),
        pytest.param(matching("A.eXample.ORG."), True, id="other case of letters"),
        pytest.param(matching(ident=IDENT ^ 1), False, id="id"),
        pytest.param(matching("b.example.org."), False, id="name"),
        pytest.param(matching("a.example.org.x."), False, id="longer name"),
        pytest.param(matching("a.example."), False, id="shorter name"),
        pytest.param(matching(rtype="AAAA"), False, id="type"),
        pytest.param(matching(rtype="HTTPS"), False, id="type that is A with a bit for lower case"),
        pytest.param(matching(rclass="CH"), False, id="class"),
        pytest.param(QUERY.packet(IDENT), False, id="the query itself"),
        pytest.param(matching()[:4] + b"\0\0" + matching()[6:], False, id="no question"),
        pytest.param(matching()[:4] + b"\0\2" + matching()[6:], False, id="two questions"),
        pytest.param(matching()[:12], False, id="header that promises a question"),
        pytest.param(header(Rcode.FORMERR), True, id="FORMERR, header alone"),
        pytest.param(header(Rcode.SERVFAIL), True, id="SERVFAIL, header alone"),
        pytest.param(header(Rcode.NOTIMP), True, id="NOTIMP, header alone"),
        pytest.param(header(Rcode.REFUSED), True, id="REFUSED, header alone"),
        pytest.param(header(Rcode.FORMERR, additional=1) + OPT, True, id="FORMERR, no question, but OPT"),
        pytest.param(header(Rcode.NOERROR), False, id="NOERROR, header alone"),
        pytest.param(header(Rcode.NXDOMAIN), False, id="NXDOMAIN, header alone: of which name?"),
        pytest.param(header(Rcode.REFUSED, ident=IDENT ^ 1), False, id="REFUSED, header alone, with another id"),
        pytest.param(header(Rcode.REFUSED, flags=0), False, id="REFUSED, header alone, that is no reply"),
        pytest.param(header(Rcode.REFUSED, answers=1), False, id="REFUSED, no question, but an answer"),
        pytest.param(header(Rcode.REFUSED)[:11], False, id="REFUSED, header cut off"),
        pytest.param(b"", False, id="empty"),
        pytest.param(b"\x12", False, id="one octet"),
    ],
)
def test_which_reply_matches(packet: bytes, counts: bool) -> None:
    """A reply matches if it has the query's ID and question. An error reply may lack the question."""
    assert QUERY.matches(IDENT, packet) is counts


@pytest.mark.parametrize("cut", [1, 3, 15], ids=str)
def test_a_malformed_reply_counts_as_truncated(cut: int) -> None:
    """A malformed reply with a matching header and question counts as a truncated one."""
    assert QUERY.matches(IDENT, matching()[:-cut])
    message = QUERY.decode(matching()[:-cut])
    assert message.flags & TC
    assert message.answer == ()


def test_an_error_without_a_question_has_the_question_of_the_query() -> None:
    """An error reply without a question is not taken for a truncated one, so that no query over TCP follows."""
    message = QUERY.decode(header(Rcode.FORMERR))
    assert (message.flags & 15, message.flags & TC, message.name, message.rtype) == (
        Rcode.FORMERR,
        0,
        QUERY.name,
        QUERY.rtype,
    )


def test_garbage_after_the_question_counts_as_truncated() -> None:
    """Random octets after the question are not used: the reply has TC, or at most one record."""
    at = len(QUERY.packet(0))
    chosen = random.Random(1)
    for _ in range(2_000):
        packet = matching()[:at] + chosen.randbytes(chosen.randrange(60))
        assert QUERY.matches(IDENT, packet)
        message = QUERY.decode(packet)
        assert message.flags & TC or len(message.answer) <= 1


def forgeries(count: int) -> Iterator[bytes]:
    """Replies with a wrong ID, a wrong question, or both."""
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
    """None of a million forged replies matches the query, and the genuine reply after them does."""
    assert not any(QUERY.matches(IDENT, packet) for packet in forgeries(1_000_000))
    assert QUERY.matches(IDENT, matching())
    assert len(QUERY.decode(matching()).answer) == 1


def test_ids_are_random() -> None:
    """All values are equally likely, and none can be predicted from the previous one.

    A chi-square test: it fails by chance once in a million runs.
    """
    drawn = [random_id() for _ in range(200_000)]
    for bits in (slice(0, 8), slice(8, 16)):
        counts = Counter(f"{ident:016b}"[bits] for ident in drawn)
        assert chi_square_of(counts, 256, len(drawn)) < chi_square_bound(255)
    steps = Counter((b - a) % 65536 // 256 for a, b in pairwise(drawn))
    assert chi_square_of(steps, 256, len(drawn) - 1) < chi_square_bound(255)


def test_address_text() -> None:
    """`address_text` puts an IPv6 address into brackets before the port."""
    assert (address_text(("192.0.2.1", 53)), address_text(("::1", 5353))) == ("192.0.2.1:53", "[::1]:5353")

"""Which records of a reply belong to the query. tests/hostile/test_upstream_lies.py has records that do not belong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given

from svcdns.upstream.relevance import MAX_PROOFS, MAX_STEPS, Stripped, alias_chain, remove_unrelated_records
from svcdns.wire import names
from svcdns.wire.codes import Class, Rcode, Type
from svcdns.wire.message import Message, parse_message
from svcdns.wire.record import Record
from svcdns.wire.simple_reply import MAX_ALIASES, scan
from tests.support import plain_replies as made
from tests.support import world
from tests.support.record_lines import record_lines

NAME = names.from_text("a.example.org.")
A = "a.example.org. 60 IN A 192.0.2.1"
ALIAS = "a.example.org. 60 IN CNAME b.example.net."
SOA = "example.org. 60 IN SOA ns. root. 1 2 3 4 90"
NET_SOA = "example.net. 60 IN SOA ns. root. 1 2 3 4 90"
NS = "example.org. 60 IN NS ns.example.com."
GLUE = "ns.example.com. 60 IN A 192.0.2.53"
DNAME = "example.org. 60 IN DNAME example.net."


def signature(owner: str, covered: str, signer: str) -> Record:
    """Returns an RRSIG record with an arbitrary signature."""
    rdata = int(Type[covered]).to_bytes(2, "big") + bytes(16) + names.from_text(signer) + b"signature"
    return Record(names.from_text(owner), Type.RRSIG, 60, rdata)


def records(lines: Sequence[str | Record]) -> tuple[Record, ...]:
    """Returns the records of zone-file lines. An argument that is a record is returned unchanged."""
    return tuple(line if isinstance(line, Record) else world.records(line)[0] for line in lines)


def reply(
    answer: Sequence[str | Record] = (),
    authority: Sequence[str | Record] = (),
    additional: Sequence[str | Record] = (),
    rtype: int = Type.A,
    rcode: int = 0,
) -> Message:
    """Returns a reply to a query for a.example.org."""
    return Message(1, 0x8180 | rcode, NAME, rtype, Class.IN, records(answer), records(authority), records(additional))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(reply([A]), id="an address"),
        pytest.param(reply([A.upper()]), id="other letters"),
        pytest.param(reply(["b.example.net. 60 IN A 192.0.2.2", ALIAS]), id="an alias after its address"),
        pytest.param(reply([ALIAS, "b.example.net. 60 IN A 192.0.2.2"], [], [], Type.CNAME), id="more than the alias"),
        pytest.param(reply([A, "a.example.org. 60 IN MX 1 b.", ALIAS], [], [], Type.ANY), id="ANY"),
        pytest.param(reply([A], [NS], [GLUE]), id="the name servers of the zone, and their addresses"),
        pytest.param(reply([A], [". 60 IN NS ns.example.com."], [GLUE]), id="the name servers of the root"),
        pytest.param(reply([], [NS], [GLUE]), id="a referral"),
        pytest.param(
            reply([], [NS, "example.org. 60 IN DS 1 8 2 00", signature("example.org.", "DS", "org.")], [GLUE]),
            id="a signed referral",
        ),
        pytest.param(
            reply([], [NS, "example.org. 60 IN NSEC z.org. NS", signature("example.org.", "NSEC", "org.")]),
            id="a referral that is proved to be unsigned",
        ),
        pytest.param(reply([], [SOA], rcode=Rcode.NXDOMAIN), id="a denial"),
        pytest.param(
            reply(
                [],
                [
                    SOA,
                    signature("example.org.", "SOA", "example.org."),
                    "example.org. 60 IN NSEC b.example.org. A",
                    signature("example.org.", "NSEC", "example.org."),
                    "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example.org. 60 IN NSEC3 1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr A",
                ],
                rcode=Rcode.NXDOMAIN,
            ),
            id="a signed denial",
        ),
        pytest.param(reply([ALIAS], [NET_SOA]), id="an alias and the denial of its target"),
        pytest.param(reply([ALIAS], [NET_SOA], rcode=Rcode.NXDOMAIN), id="an alias to no name"),
        pytest.param(
            reply(
                [ALIAS, signature("a.example.org.", "CNAME", "example.org.")],
                [NET_SOA, "*.example.org. 60 IN NSEC z.example.org. A", signature("*.example.org.", "NSEC", "example.org.")],
            ),
            id="an alias of a wildcard with its proof",
        ),
        pytest.param(
            reply([DNAME, signature("example.org.", "DNAME", "example.org."), "a.example.org. 0 IN CNAME a.example.net."]),
            id="a signed DNAME",
        ),
        pytest.param(reply([DNAME, "a.example.net. 60 IN A 192.0.2.2"]), id="a DNAME without the alias"),
        pytest.param(reply([DNAME, "a.example.org. 0 IN CNAME a.example.net."], rcode=Rcode.NXDOMAIN), id="to no name"),
        pytest.param(
            reply(
                ["a.example.org. 60 IN SRV 0 0 80 c.example.net."],
                [],
                [
                    "c.example.net. 60 IN CNAME d.example.net.",
                    "d.example.net. 60 IN AAAA ::1",
                    signature("d.example.net.", "AAAA", "example.net."),
                ],
                Type.SRV,
            ),
            id="addresses that the answer leads to",
        ),
        pytest.param(
            reply(["a.example.org. 60 IN SOA ns. root. 1 2 3 4 90", "b.a.example.org. 60 IN A 192.0.2.2"], [], [], Type.AXFR),
            id="a transfer",
        ),
    ],
)  # fmt: skip
def test_all_records_of_a_correct_reply_are_kept(message: Message) -> None:
    before = (message.answer, message.authority, message.additional)
    assert remove_unrelated_records(message, NAME) == {}
    assert (message.answer, message.authority, message.additional) == before


@pytest.mark.parametrize(
    ("message", "kept", "reasons"),
    [
        pytest.param(
            reply([A], ["example.com. 60 IN NSEC c.example.com. A", signature("example.com.", "NSEC", "example.com.")]),
            ([A], [], []),
            {Stripped.AUTHORITY: 2},
            id="a foreign proof",
        ),
        pytest.param(
            reply([A], ["b.example.org. 60 IN NSEC c.example.org. A"]), ([A], [], []), {Stripped.AUTHORITY: 1}, id="unsigned"
        ),
        pytest.param(
            reply([DNAME, signature("example.org.", "A", "example.org.")]),
            ([DNAME], [], []),
            {Stripped.OWNER: 1},
            id="another signature of the owner of a DNAME",
        ),
        pytest.param(
            reply([SOA, "b.example.org. 60 IN A 192.0.2.2"], [], [], Type.AXFR),
            ([], [], []),
            {Stripped.OWNER: 2},
            id="a transfer of another zone",
        ),
        pytest.param(
            reply(["a.example.org. 60 IN MX 1 m.", "b.a.example.org. 60 IN MX 1 n."], [], ["n. 60 IN A 192.0.2.1"], Type.MX),
            (["a.example.org. 60 IN MX 1 m."], [], []),
            {Stripped.OWNER: 1, Stripped.ADDITIONAL: 1},
            id="the address for a record that was removed",
        ),
    ],
)  # fmt: skip
def test_unrelated_records_are_removed(
    message: Message, kept: tuple[list[str], ...], reasons: dict[Stripped, int]
) -> None:
    assert remove_unrelated_records(message, NAME) == reasons
    assert (message.answer, message.authority, message.additional) == tuple(map(records, kept))


def test_a_signature_without_a_signer_raises_no_error() -> None:
    message = reply([A, Record(NAME, Type.RRSIG, 60, b"\0\1\0")], ["b.example.org. 60 IN NSEC c.example.org. A"])
    assert remove_unrelated_records(message, NAME) == {Stripped.AUTHORITY: 1}


def test_class_any() -> None:
    """A query of class ANY may get records of every class."""
    message = Message(1, 0x8180, NAME, Type.A, Class.ANY, (Record(NAME, Type.A, 60, b"\0" * 4, Class.CH),))
    assert remove_unrelated_records(message, NAME) == {}


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
def test_the_records_that_lead_to_each_other_are_bounded(*, backwards: bool) -> None:
    """At most MAX_STEPS additional records may lead from one to the next, whatever their order is."""
    lines = [f"n{step}.example.org. 60 IN CNAME n{step + 1}.example.org." for step in range(MAX_STEPS + 3)]
    message = reply(["a.example.org. 60 IN MX 1 n0.example.org."], [], lines[:: -1 if backwards else 1], Type.MX)
    assert remove_unrelated_records(message, NAME) == {Stripped.ADDITIONAL: 2}
    assert set(message.additional) == set(records(lines[: MAX_STEPS + 1]))


def test_alias_chain() -> None:
    """The chain of CNAME and DNAME records ends before a loop, and before a name that is too long."""
    b, c = names.from_text("b.example.net."), names.from_text("a.b.example.net.")
    assert alias_chain(records([ALIAS]), NAME) == [NAME, b]
    assert alias_chain(records(["example.org. 60 IN DNAME b.example.net."]), NAME) == [NAME, c]
    assert alias_chain(records([ALIAS, "b.example.net. 60 IN CNAME A.example.org."]), NAME) == [NAME, b]
    long = names.from_labels([b"x" * 63] * 3 + [b"x" * 58])
    assert alias_chain([Record(names.from_text("org."), Type.DNAME, 60, long)], NAME) == [NAME]


@pytest.mark.parametrize("rtype", ["CNAME", "DNAME"])
def test_a_chain_has_at_most_64_aliases(rtype: str) -> None:
    """Further aliases are removed as unrelated records, without further steps."""
    lines = [f"n{step}. 60 IN {rtype} n{step + 1}." for step in range(MAX_ALIASES + 10)]
    message = Message(
        1, 0x8180, names.from_text("a.n0." if rtype == "DNAME" else "n0."), Type.A, Class.IN, records(lines)
    )
    assert len(alias_chain(message.answer, message.name)) == MAX_ALIASES + 1
    assert remove_unrelated_records(message, message.name)[Stripped.OWNER] in (9, 10)


def test_a_reply_has_at_most_64_proofs() -> None:
    """Further NSEC and NSEC3 records are removed, together with their signatures."""
    proofs = [f"n{number}.example.org. 60 IN NSEC z.example.org. A" for number in range(MAX_PROOFS + 3)]
    message = reply([], [SOA, *proofs], rcode=Rcode.NXDOMAIN)
    assert remove_unrelated_records(message, NAME) == {Stripped.AUTHORITY: 3}
    assert message.authority == records([SOA, *proofs[:MAX_PROOFS]])


LINES = record_lines(
    "A 10.0.0.1", "CNAME a.example.net.", "CNAME b.example.org.", "NS c.example.net.", "DNAME b.example.net."
)


@given(answer=LINES, authority=LINES, additional=LINES)
def test_a_second_removal_changes_nothing(answer: list[str], authority: list[str], additional: list[str]) -> None:
    message = reply(answer, authority, additional)
    stripped = remove_unrelated_records(message, NAME)
    kept = (message.answer, message.authority, message.additional)
    assert sum(map(len, kept)) + stripped.total() == len(answer) + len(authority) + len(additional)
    assert remove_unrelated_records(message, NAME) == {}
    assert kept == (message.answer, message.authority, message.additional)
    chain = alias_chain(message.answer, NAME)
    assert all(record.owner.lower() in chain or record.rtype == Type.DNAME for record in message.answer)


@given(made.MUTATIONS)
def test_simple_replies_have_nothing_to_remove(packet: bytes) -> None:
    """If the fast path accepts a reply as simple, no record of the reply is removed."""
    simple = scan(packet, made.START, made.rtype_of(packet))
    if simple is not None:
        message = parse_message(packet)
        aliases = [record.rdata.lower() for record in message.answer if record.rtype == Type.CNAME]
        assert list(simple.aliases) == aliases
        assert remove_unrelated_records(message, message.name.lower()) == {}
        assert message.trailing == 0

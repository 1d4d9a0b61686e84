"""Which records of a reply are cached (RFC 2181 §5.4.1, RFC 5452 §6)."""

from __future__ import annotations

import dns.rdata
import pytest
from hypothesis import given

from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugins.cache.cacheability import has_answer, without_unrelated_records
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record
from tests.support import world
from tests.support.record_lines import record_lines

A = "a.example.org. 60 IN A 10.0.0.1"
EVIL = "bank.example.com. 60 IN A 203.0.113.66"
ALIAS = "a.example.org. 60 IN CNAME b.example.net."
TARGET = "b.example.net. 60 IN A 10.0.0.2"
SOA = "example.org. 60 IN SOA ns. root. 1 2 3 4 90"
FOREIGN_SOA = "example.com. 60 IN SOA ns. root. 1 2 3 4 90"
NSEC = "a.example.org. 60 IN NSEC c.example.org. A"
FOREIGN_NSEC = "a.example.com. 60 IN NSEC c.example.com. A"


def signature(owner: str, covered: str, signer: str) -> Record:
    """Returns an RRSIG record with an arbitrary signature."""
    rdata = int(Type[covered]).to_bytes(2, "big") + bytes(16) + names.from_text(signer) + b"signature"
    return Record(names.from_text(owner), Type.RRSIG, 60, rdata)


def sections(reply: Reply) -> tuple[list[str], list[str], list[str]]:
    return world.shown(reply.answer), world.shown(reply.authority), world.shown(reply.additional)


@pytest.mark.parametrize(
    ("rtype", "answer", "kept"),
    [
        pytest.param("A", [A, EVIL], [A], id="a foreign name beside the answer"),
        pytest.param("A", [EVIL, A], [A], id="before it"),
        pytest.param(
            "A", ["A.Example.ORG. 60 IN A 10.0.0.1"], ["A.Example.ORG. 60 IN A 10.0.0.1"], id="another spelling"
        ),
        pytest.param("A", [A, "a.example.org. 60 IN AAAA 2001:db8::1"], [A], id="another type"),
        pytest.param("A", [ALIAS, TARGET, EVIL], [ALIAS, TARGET], id="beside a chain"),
        pytest.param("A", [TARGET, ALIAS], [TARGET, ALIAS], id="a chain in any order"),
        pytest.param(
            "A",
            [ALIAS, TARGET, "a.example.org. 60 IN A 10.0.0.9"],
            [ALIAS, TARGET, "a.example.org. 60 IN A 10.0.0.9"],
            id="an address beside its alias",
        ),
        pytest.param(
            "AAAA",
            [ALIAS, "b.example.net. 60 IN AAAA 2001:db8::1", A],
            [ALIAS, "b.example.net. 60 IN AAAA 2001:db8::1"],
            id="an address of the other family beside its alias",
        ),
        pytest.param(
            "A",
            [ALIAS, "c.example.net. 60 IN CNAME b.example.net.", TARGET],
            [ALIAS, TARGET],
            id="an alias that leads in",
        ),
        pytest.param("CNAME", [ALIAS, TARGET], [ALIAS], id="a query for the alias itself"),
        pytest.param("ANY", [A, ALIAS, TARGET, EVIL], [A, ALIAS], id="everything at the name"),
        pytest.param("A", [EVIL], [], id="nothing that belongs"),
        pytest.param(
            "A",
            [
                "example.org. 60 IN DNAME example.net.",
                "a.example.org. 60 IN CNAME a.example.net.",
                "a.example.net. 60 IN A 10.0.0.2",
            ],
            [
                "example.org. 60 IN DNAME example.net.",
                "a.example.org. 60 IN CNAME a.example.net.",
                "a.example.net. 60 IN A 10.0.0.2",
            ],
            id="the DNAME above",
        ),
        pytest.param("A", [A, "example.com. 60 IN DNAME example.net."], [A], id="a DNAME elsewhere"),
    ],
)
def test_answer_section(rtype: str, answer: list[str], kept: list[str]) -> None:
    """The CNAME records that start at the query name are kept, and the records of the queried type at their end."""
    reply = without_unrelated_records(world.query("a.example.org.", rtype), Reply(answer=world.records(*answer)))
    assert world.shown(reply.answer) == kept


@pytest.mark.parametrize(
    ("answer", "authority", "kept"),
    [
        pytest.param([], [SOA], [SOA], id="the SOA of a denial"),
        pytest.param([], [FOREIGN_SOA], [], id="a SOA of elsewhere"),
        pytest.param([], [SOA, FOREIGN_SOA, NSEC, FOREIGN_NSEC], [SOA, NSEC], id="proofs of its zone"),
        pytest.param(
            [], ["example.org. 60 IN NS ns.example.org."], ["example.org. 60 IN NS ns.example.org."], id="a referral"
        ),
        pytest.param([], ["example.com. 60 IN NS ns.example.org."], [], id="a referral for elsewhere"),
        pytest.param([A], ["example.org. 60 IN NS ns.example.com."], [], id="servers beside an answer"),
        pytest.param(
            [ALIAS],
            ["example.net. 60 IN SOA ns. root. 1 2 3 4 90"],
            ["example.net. 60 IN SOA ns. root. 1 2 3 4 90"],
            id="alias",
        ),
        pytest.param([A], [NSEC], [], id="a proof without a signer"),
    ],
)
def test_authority_section(answer: list[str], authority: list[str], kept: list[str]) -> None:
    """SOA, NSEC and NS records are kept if they are of a zone above the name. With an answer, no authority record is
    kept.
    """
    reply = Reply(answer=world.records(*answer) if answer else (), authority=world.records(*authority))
    assert world.shown(without_unrelated_records(world.query("a.example.org."), reply).authority) == kept


def test_signatures_are_kept_with_the_records_they_cover() -> None:
    """Without the covered records, RRSIG records are dropped."""
    last_answer, bad = (
        signature("a.example.org.", "A", "example.org."),
        signature("a.example.org.", "MX", "example.org."),
    )
    proof = (*world.records(NSEC), signature("a.example.org.", "NSEC", "example.org."))
    foreign = (*world.records(FOREIGN_NSEC), signature("a.example.com.", "NSEC", "example.com."))
    reply = Reply(answer=(*world.records(A), last_answer, bad), authority=(*proof, *foreign))
    kept = without_unrelated_records(world.query("a.example.org."), reply)
    assert kept.answer == (*world.records(A), last_answer)
    assert kept.authority == proof
    assert without_unrelated_records(
        world.query("a.example.org.", "RRSIG"), Reply(answer=(last_answer, bad))
    ).answer == (last_answer, bad)


def test_a_malformed_signature_proves_nothing() -> None:
    """No error is raised. No NSEC records are kept for a malformed RRSIG record."""
    short = Record(names.from_text("a.example.org."), Type.RRSIG, 60, b"\0\1\0")
    reply = Reply(answer=(*world.records(A), short), authority=world.records(NSEC))
    assert without_unrelated_records(world.query("a.example.org."), reply).authority == ()


T4, T6 = "t.example.com. 60 IN A 192.0.2.1", "T.Example.COM. 60 IN AAAA 2001:db8::1"


@pytest.mark.parametrize(
    ("rtype", "rdata"),
    [
        pytest.param("SRV", "0 0 80 t.example.com.", id="SRV"),
        pytest.param("SRV", "0 0 80 T.EXAMPLE.com.", id="SRV, other case of letters"),
        pytest.param("MX", "10 t.example.com.", id="MX"),
        pytest.param("NS", "t.example.com.", id="NS"),
        pytest.param("AFSDB", "1 t.example.com.", id="AFSDB"),
        pytest.param("CNAME", "t.example.com.", id="CNAME"),
        pytest.param("KX", "1 t.example.com.", id="KX"),
        pytest.param("SVCB", "1 t.example.com.", id="SVCB"),
        pytest.param("HTTPS", "1 t.example.com. alpn=h2", id="HTTPS"),
        pytest.param("NAPTR", '100 10 "a" "x-s" "" t.example.com.', id="NAPTR"),
    ],
)
def test_addresses_of_names_in_the_answer_are_kept(rtype: str, rdata: str) -> None:
    """The addresses are kept with their signatures. Other additional records are removed."""
    made = dns.rdata.from_text("IN", rtype, rdata).to_generic().data
    answer = (Record(names.from_text("a.example.org."), int(Type[rtype]), 60, made),)
    signed = signature("t.example.com.", "A", "example.com.")
    reply = Reply(
        answer=answer,
        additional=(*world.records(T4, T6, EVIL, "t.example.com. 60 IN TXT x"), signed),
    )
    kept = without_unrelated_records(world.query("a.example.org.", rtype), reply)
    assert kept.answer == answer
    assert kept.additional == (*world.records(T4, T6), signed)


def test_records_that_lead_to_the_addresses_are_kept() -> None:
    """Aliases, and the SRV records of a NAPTR replacement (RFC 3403 §4.1), are kept. A loop of records is followed
    once.
    """
    made = dns.rdata.from_text("IN", "NAPTR", '1 1 "s" "x" "" s.example.com.').to_generic().data
    answer = (Record(names.from_text("a.example.org."), int(Type.NAPTR), 60, made),)
    leading = (
        "s.example.com. 60 IN SRV 0 0 80 c.example.com.",
        "c.example.com. 60 IN CNAME t.example.com.",
        T4,
        "t.example.com. 60 IN HTTPS 1 s.example.com.",
    )
    reply = Reply(answer=answer, additional=world.records(*leading, EVIL, "evil.example.net. 60 IN SRV 0 0 80 b."))
    kept = without_unrelated_records(world.query("a.example.org.", "NAPTR"), reply)
    assert kept.additional == world.records(*leading)


def test_addresses_of_a_service_binding_at_its_own_name() -> None:
    """The target `.` stands for the owner of the record (RFC 9460 §2.5)."""
    made = dns.rdata.from_text("IN", "HTTPS", "1 . alpn=h2").to_generic().data
    answer = (Record(names.from_text("a.example.org."), int(Type.HTTPS), 60, made),)
    reply = Reply(answer=answer, additional=world.records(A, EVIL))
    assert world.shown(without_unrelated_records(world.query("a.example.org.", "HTTPS"), reply).additional) == [A]


def test_addresses_of_the_name_servers_in_a_referral_are_kept() -> None:
    """Each name server must be in an NS record that is kept."""
    additional = world.records(T4, EVIL)
    for owner, kept in (("example.org.", [T4]), ("example.net.", [])):
        reply = Reply(authority=world.records(f"{owner} 60 IN NS t.example.com."), additional=additional)
        assert world.shown(without_unrelated_records(world.query("a.example.org."), reply).additional) == kept


def test_additional_records_of_cluster_data_are_kept() -> None:
    of_cluster = Reply(
        answer=world.records("a.example.org. 60 IN MX 10 bank.example.com."),
        additional=world.records(T4),
        dependencies=(("service", "d", "web"),),
    )
    assert without_unrelated_records(world.query("a.example.org.", "MX"), of_cluster) is of_cluster


@pytest.mark.parametrize(
    ("rtype", "rdata"), [("SRV", b"\0\0"), ("NAPTR", b"\0\0\0\0\x05"), ("MX", b"\0\0\xc0\x0c"), ("NAPTR", b"")]
)
def test_malformed_rdata_names_nothing(rtype: str, rdata: bytes) -> None:
    """No error is raised. No additional records are kept for malformed RDATA."""
    answer = (Record(names.from_text("a.example.org."), int(Type[rtype]), 60, rdata),)
    reply = Reply(answer=answer, additional=world.records(T4))
    assert without_unrelated_records(world.query("a.example.org.", rtype), reply).additional == ()


def test_replies_of_plugins_are_kept_whole() -> None:
    reply = Reply(answer=world.records(A, EVIL), additional=world.records(EVIL), lifetime=UNTIL_CHANGED)
    assert without_unrelated_records(world.query("a.example.org."), reply) is reply


LINES = record_lines("A 10.0.0.1", "AAAA ::1", "CNAME a.example.net.", "CNAME b.example.org.", "NS c.example.net.")


@given(answer=LINES, authority=LINES, additional=LINES)
def test_the_kept_records_give_the_same_answer(answer: list[str], authority: list[str], additional: list[str]) -> None:
    query = world.query("a.example.org.")
    records = [world.records(*lines) if lines else () for lines in (answer, authority, additional)]
    whole = Reply(answer=records[0], authority=records[1], additional=records[2])
    kept = without_unrelated_records(query, whole)
    for part, of in zip(sections(kept), sections(whole), strict=True):
        assert [line for line in of if line in part] == part
    aliases = {record.rdata for record in kept.answer if record.rtype == Type.CNAME}
    assert all(record.owner == query.name or record.owner in aliases for record in kept.answer)
    assert (
        has_answer(query, kept) == has_answer(query, whole)
        or len({r.rdata for r in whole.answer if r.rtype == Type.CNAME}) > 1
    )
    assert without_unrelated_records(query, kept) is kept

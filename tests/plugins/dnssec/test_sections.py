"""Which records of a reply are signed, by the rules of CoreDNS."""

from __future__ import annotations

from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import Rcode
from svcdns.wire.record import Record
from tests.support import world
from tests.support.zone_keys import KSK, ZSK, plugin, validate

SOA = "example.org. 30 IN SOA ns.example.org. root.example.org. 1 2 3 4 5"


def reply(name: str, rtype: str, reply: Reply, keys: str = ZSK) -> Reply:
    """The reply of the plugin to a query with DO set, when `reply` is the reply of the following plugins."""
    query = world.query(name, rtype, edns=world.edns(dnssec_ok=True))
    return world.now(plugin(f"key file {keys}").handle(query, world.following(reply)))


def kinds(section: tuple[Record, ...]) -> list[str]:
    """Owner, type and, for signatures, the covered type and the signer."""
    return [" ".join([*line.split()[0:1], *line.split()[3:5]]) for line in world.shown(section)]


def test_an_answer_with_all_sections() -> None:
    found = reply(
        "www.example.org.",
        "A",
        Reply(
            answer=world.records("www.example.org. 60 IN A 10.0.0.1", "www.example.org. 60 IN A 10.0.0.2"),
            authority=world.records("example.org. 50 IN NS ns.example.org."),
            additional=world.records("ns.example.org. 40 IN A 10.0.0.3", "ns.example.net. 40 IN A 10.0.0.3"),
        ),
    )
    validate(found.answer, ZSK)
    validate(found.authority, ZSK)
    assert [record.rtype for record in found.answer] == [1, 1, 46]
    assert kinds(found.additional)[2:] == ["ns.example.org. RRSIG A"]
    assert [section[-1].ttl for section in (found.answer, found.authority, found.additional)] == [60, 50, 40]


def test_the_end_of_an_alias_outside_the_zone_is_unsigned() -> None:
    records = world.records("alias.example.org. 60 IN CNAME x.example.net.", "x.example.net. 60 IN A 10.0.0.1")
    found = reply("alias.example.org.", "A", Reply(answer=records))
    assert kinds(found.answer[2:]) == ["alias.example.org. RRSIG CNAME"]


def test_a_signature_that_is_there_is_not_repeated() -> None:
    once = reply("www.example.org.", "A", Reply(answer=world.records("www.example.org. 60 IN A 10.0.0.1")))
    query = world.query("alias.example.org.", "A", edns=world.edns(dnssec_ok=True))
    signs = plugin(f"key file {ZSK}")
    first = world.now(signs.handle(query, world.following(Reply(answer=once.answer[:1]))))
    again = world.now(signs.handle(query, world.following(Reply(answer=first.answer))))
    assert again.answer == first.answer


def test_a_denied_name_exists_without_the_type() -> None:
    denial = Reply(rcode=Rcode.NXDOMAIN, authority=world.records(SOA))
    found = reply("no.example.org.", "A", denial)
    assert found.rcode == Rcode.NOERROR
    assert kinds(found.authority) == [
        "example.org. SOA ns.example.org.",
        "example.org. RRSIG SOA",
        "no.example.org. RRSIG NSEC",
        "no.example.org. NSEC \\000.no.example.org.",
    ]
    validate(found.authority, ZSK)
    assert {record.ttl for record in found.authority} == {30}


def test_a_query_for_nsec() -> None:
    found = reply("no.example.org.", "NSEC", Reply(rcode=Rcode.NXDOMAIN, authority=world.records(SOA)))
    assert (found.rcode, found.authority) == (Rcode.NOERROR, ())
    assert kinds(found.answer) == ["no.example.org. RRSIG NSEC", "no.example.org. NSEC \\000.no.example.org."]


def test_a_denial_without_a_single_soa_record_is_unsigned() -> None:
    for authority in ((), world.records(SOA, "example.org. 50 IN NS ns.example.org.")):
        denial = Reply(rcode=Rcode.NXDOMAIN, authority=authority)
        assert reply("no.example.org.", "A", denial) is denial


def test_an_unsigned_delegation() -> None:
    found = reply(
        "a.sub.example.org.", "A", Reply(authority=world.records("sub.example.org. 50 IN NS ns.sub.example.org."))
    )
    assert kinds(found.authority) == [
        "sub.example.org. NS ns.sub.example.org.",
        "a.sub.example.org. RRSIG NSEC",
        "a.sub.example.org. NSEC a\\000.sub.example.org.",
    ]
    validate(found.authority[1:], ZSK)


def test_a_signed_delegation() -> None:
    records = world.records(
        "sub.example.org. 50 IN NS ns.sub.example.org.", "sub.example.org. 50 IN DS 1 13 2 " + "AB" * 32
    )
    found = reply("a.sub.example.org.", "A", Reply(authority=records))
    assert kinds(found.authority[2:]) == ["sub.example.org. RRSIG DS"]
    validate(found.authority[1:], ZSK)


def test_errors_have_nothing_to_sign() -> None:
    error = Reply(rcode=Rcode.SERVFAIL)
    assert reply("www.example.org.", "A", error) == error


def test_all_keys_sign_a_denial() -> None:
    """Without the split, each of two keys signs, also the NSEC record alone."""
    found = reply("no.example.org.", "NSEC", Reply(authority=world.records(SOA)), f"{KSK} {KSK}")
    assert kinds(found.answer)[:-1] == ["no.example.org. RRSIG NSEC"] * 2


def test_without_keys() -> None:
    query = world.query("no.example.org.", "NSEC", edns=world.edns(dnssec_ok=True))
    found = world.now(plugin().handle(query, world.following(Reply(authority=world.records(SOA)))))
    assert kinds(found.answer) == ["no.example.org. NSEC \\000.no.example.org."]

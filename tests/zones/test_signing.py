"""Signed zones: the NSEC chain, and which records are signed."""

from __future__ import annotations

from pathlib import Path

import dns.dnssec
import dns.rrset
import pytest

from svcdns.dnssec.keys import SigningKey, load_key
from svcdns.wire import names
from svcdns.wire.codes import Type, type_text
from svcdns.wire.record import Record
from svcdns.wire.record_text import line
from svcdns.wire.signatures import covered_type
from svcdns.wire.zone_text import read
from svcdns.zones.signing import Period, UnsignableError, signed_zone

APEX = names.from_text("example.org.")
PERIOD = Period(1_600_000_000, 2_000_000_000)
KEY = load_key(Path(__file__).parents[1] / "dnssec" / "keys" / "Kexample.org.+013+41819")
ZONE = """\
$TTL 300
@ 3600 IN SOA ns root 7 7200 3600 1209600 60
@      NS  ns
@      MX  10 mail
ns     A   192.0.2.1
Mail   A   192.0.2.2
mail   60 A 192.0.2.3
mail   A   192.0.2.3
alias  CNAME www.example.net.
*.wild A   192.0.2.5
a.b.c  TXT "below empty non-terminals"
sub    NS  ns.sub
sub    A   192.0.2.6
ns.sub A   192.0.2.6
safe   NS  ns.sub
safe   DS  1 13 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF
moved  DNAME example.net.
x.moved A  192.0.2.7
outside.example.net. A 192.0.2.8
"""


SIGNED = 22
"""The number of signed RRsets in ZONE."""


def signed(text: str = ZONE, *keys: SigningKey) -> list[Record]:
    records = read(text, APEX, "zone")
    return [one for name in signed_zone(records, APEX, keys or (KEY,), PERIOD, 99) for one in name]


def owner(record: Record) -> str:
    return names.to_text(record.owner).removesuffix("example.org.").removesuffix(".") or "@"


def chain(records: list[Record]) -> list[str]:
    return [
        f"{owner(one)} -> {line(one).split()[4].removesuffix('example.org.') or '@'} {' '.join(line(one).split()[5:])}"
        for one in records
        if one.rtype == Type.NSEC
    ]


def test_the_chain_has_all_authoritative_names_in_canonical_order() -> None:
    """Names below a zone cut or a DNAME record, and names without records, are not in it."""
    assert chain(signed()) == [
        "@ -> alias. NS SOA MX RRSIG NSEC DNSKEY CDS CDNSKEY",
        "alias -> a.b.c. CNAME RRSIG NSEC",
        "a.b.c -> mail. TXT RRSIG NSEC",
        "mail -> moved. A RRSIG NSEC",
        "moved -> ns. DNAME RRSIG NSEC",
        "ns -> safe. A RRSIG NSEC",
        "safe -> sub. NS DS RRSIG NSEC",
        "sub -> *.wild. NS RRSIG NSEC",
        "*.wild -> @ A RRSIG NSEC",
    ]


def test_what_is_signed() -> None:
    """Neither NS records at a zone cut nor addresses of the child zone are signed (RFC 4035 §2.2)."""
    found = {f"{owner(one)} {type_text(covered_type(one))}" for one in signed() if one.rtype == Type.RRSIG}
    assert {one for one in found if not one.endswith(" NSEC")} == {
        "@ SOA", "@ NS", "@ MX", "@ DNSKEY", "@ CDS", "@ CDNSKEY", "alias CNAME", "a.b.c TXT", "mail A", "moved DNAME",
        "ns A", "safe DS", "*.wild A",
    }  # fmt: skip


def test_all_records_are_kept_except_those_outside_the_zone() -> None:
    """Equal records become one record, and an RRset gets its lowest TTL."""
    lines = [line(one) for one in signed() if one.rtype in (Type.A, Type.SOA)]
    assert lines == [
        "example.org.\t3600\tIN\tSOA\tns.example.org. root.example.org. 99 7200 3600 1209600 60",
        "mail.example.org.\t60\tIN\tA\t192.0.2.2",
        "mail.example.org.\t60\tIN\tA\t192.0.2.3",
        "x.moved.example.org.\t300\tIN\tA\t192.0.2.7",
        "ns.example.org.\t300\tIN\tA\t192.0.2.1",
        "sub.example.org.\t300\tIN\tA\t192.0.2.6",
        "ns.sub.example.org.\t300\tIN\tA\t192.0.2.6",
        "*.wild.example.org.\t300\tIN\tA\t192.0.2.5",
    ]


def test_ttls_and_times() -> None:
    """NSEC records have the minimum of the SOA record, records of keys the TTL of the SOA record, as in CoreDNS."""
    found = {(owner(one), type_text(covered_type(one))): one.ttl for one in signed() if one.rtype == Type.RRSIG}
    assert {found["@", kind] for kind in ("SOA", "DNSKEY", "CDS", "CDNSKEY")} == {3600}
    assert (found["@", "NS"], found["@", "NSEC"], found["mail", "A"]) == (300, 60, 60)
    signature = next(one for one in signed() if one.rtype == Type.RRSIG)
    assert (signature.rdata[8:12], signature.rdata[12:16]) == (
        PERIOD.expiration.to_bytes(4, "big"), PERIOD.inception.to_bytes(4, "big"),
    )  # fmt: skip


def test_signatures_are_valid() -> None:
    """dnspython validates every signature."""
    lines: dict[tuple[bytes, int, int], list[str]] = {}
    for one in signed():
        lines.setdefault((one.owner, one.rtype, covered_type(one)), []).append(line(one))
    rrsets = {
        key: dns.rrset.from_text_list(
            found[0].split("\t")[0], int(found[0].split("\t")[1]), "IN", type_text(key[1]), [one.split("\t")[4] for one in found]
        )
        for key, found in lines.items()
    }  # fmt: skip
    dnskey = rrsets[APEX, Type.DNSKEY, Type.DNSKEY]
    signatures = [(name, kind) for name, rtype, kind in rrsets if rtype == Type.RRSIG]
    assert len(signatures) == SIGNED
    for name, kind in signatures:
        dns.dnssec.validate(
            rrsets[name, kind, kind], rrsets[name, Type.RRSIG, kind], {dnskey.name: dnskey}, now=1_700_000_000
        )


def test_dnssec_records_of_the_file_are_replaced() -> None:
    again = "\n".join(line(one) for one in signed())
    assert [(one.owner, one.rtype) for one in signed(again)] == [(one.owner, one.rtype) for one in signed()]


def test_two_keys_sign_each_rrset() -> None:
    other = load_key(Path(__file__).parents[1] / "dnssec" / "keys" / "Kexample.org.+013+37031")
    found = signed(ZONE, KEY, other)
    counts = {kind: sum(one.rtype == kind for one in found) for kind in (Type.DNSKEY, Type.CDNSKEY, Type.CDS)}
    assert counts == {Type.DNSKEY: 2, Type.CDNSKEY: 2, Type.CDS: 4}
    assert sum(one.rtype == Type.RRSIG for one in found) == 2 * SIGNED


@pytest.mark.parametrize("text", ["$TTL 5\nns A 192.0.2.1\n", "$TTL 5\nsub SOA ns root 1 2 3 4 5\n"])
def test_a_zone_needs_a_soa_record(text: str) -> None:
    with pytest.raises(UnsignableError, match=r"no SOA record for example\.org\."):
        signed(text)

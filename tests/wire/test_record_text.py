"""Records as lines of a zone file."""

from __future__ import annotations

import pytest

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record
from svcdns.wire.record_text import line
from svcdns.wire.zone_text import read

LINES = [
    "A\t1.2.3.4",
    "AAAA\t2001:db8::1",
    "NS\tns.example.org.",
    "CNAME\ta\\.b.example.org.",
    "SOA\tns. root. 4294967295 1 2 3 4",
    "MX\t10 .",
    "SRV\t1 2 3 s.example.org.",
    'TXT\t"a b;\\"c\\\\" "" "\\200\\009"',
    'CAA\t0 issue "ca.example.net"',
    'HINFO\t"x y" "z"',
    'SVCB\t1 . alpn="h2,h3" port="53"',
    "TLSA\t3 1 1 00FF",
    "SSHFP\t1 1 00FF",
    "DS\t1 13 2 00FF",
    "DNSKEY\t257 3 13 AAAA",
    "RRSIG\tA 13 2 60 20301231000000 20201231000000 1 example.org. AQID",
    "RRSIG\tTYPE65280 13 2 60 20301231000000 20201231000000 1 example.org. AQID",
    "NSEC\tb.example.org. A TXT TYPE65280",
    'NAPTR\t100 50 "s" "http+I2L" "" _http._tcp.example.org.',
    "LOC\t52 22 23.000 N 4 53 32.000 E -2.00m",
    "MB\t\\# 3 016d00",
    "TYPE65280\t\\# 2 0001",
    "TYPE65280\t\\# 0 ",
]


@pytest.mark.parametrize("text", LINES)
def test_a_line_is_read_back(text: str) -> None:
    (record,) = read(f"a\\032b.Example.org. 60 IN {text}", names.ROOT, "zone")
    assert line(record) == f"a\\032b.Example.org.\t60\tIN\t{text}"


@pytest.mark.parametrize(
    "rtype", [Type.A, Type.NS, Type.SOA, Type.TXT, Type.DS, Type.RRSIG, Type.NSEC, Type.SSHFP, Type.DNSKEY, Type.CAA]
)
def test_invalid_rdata_is_written_in_hexadecimal_digits(rtype: int) -> None:
    assert line(Record(names.ROOT, rtype, 5, b"\xc0")).split("\t")[4] == "\\# 1 c0"

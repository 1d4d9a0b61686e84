"""Zone files (RFC 1035 §5)."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import dns.rdataclass
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire import names
from svcdns.wire.codes import Class, Type
from svcdns.wire.record import Record
from svcdns.wire.zone_text import ZoneFileError, read, read_record
from tests.support import world

ORIGIN = names.from_text("example.org.")


def lines(text: str, path: str = "zone") -> list[str]:
    """The records as lines."""
    return world.shown(read(text, ORIGIN, path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("www A 10.0.0.1", ["www.example.org. 3600 IN A 10.0.0.1"], id="relative owner"),
        pytest.param("www.example.net. 5 IN A 10.0.0.1", ["www.example.net. 5 IN A 10.0.0.1"], id="absolute owner"),
        pytest.param("@ IN 1h30m NS ns", ["example.org. 5400 IN NS ns.example.org."], id="apex, TTL behind the class"),
        pytest.param("@ A 10.0.0.1\n  A 10.0.0.2", ["example.org. 3600 IN A 10.0.0.1", "example.org. 3600 IN A 10.0.0.2"], id="blank"),
        pytest.param("$TTL 9\n$ORIGIN sub\nw A 10.0.0.1", ["w.sub.example.org. 9 IN A 10.0.0.1"], id="directives"),
        pytest.param("@ MX ( 1 ; first\n m )\n", ["example.org. 3600 IN MX 1 m.example.org."], id="parentheses"),
        pytest.param("@ AAAA ::ffff:10.0.0.1", ["example.org. 3600 IN AAAA ::ffff:10.0.0.1"], id="AAAA with IPv4 in it"),
        pytest.param('a TXT "one; two" three "q\\"q" "\\065"', ['a.example.org. 3600 IN TXT "one; two" "three" "q\\"q" "A"'], id="strings"),
        pytest.param("a AAAA 2001:db8::1", ["a.example.org. 3600 IN AAAA 2001:db8::1"], id="AAAA"),
        pytest.param("_s._tcp SRV 1 2 3 t", ["_s._tcp.example.org. 3600 IN SRV 1 2 3 t.example.org."], id="SRV"),
        pytest.param("a TYPE731 \\# 3 abcdef", ["a.example.org. 3600 IN TYPE731 \\# 3 abcdef"], id="unknown type"),
        pytest.param('a CAA 0 issue "ca.example"', ['a.example.org. 3600 IN CAA 0 issue "ca.example"'], id="CAA"),
        pytest.param('a HINFO "PC" Linux', ['a.example.org. 3600 IN HINFO "PC" "Linux"'], id="HINFO"),
        pytest.param('a URI 1 2 "https://x/"', ['a.example.org. 3600 IN URI 1 2 "https://x/"'], id="URI"),
        pytest.param("a\\.b A 10.0.0.1", ["a\\.b.example.org. 3600 IN A 10.0.0.1"], id="escaped dot"),
        pytest.param("; nothing\n\n   \n", [], id="comments and blank lines"),
    ],
)  # fmt: skip
def test_reads(text: str, expected: list[str]) -> None:
    """Each form of an entry."""
    assert lines(text) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("a A 10.0.0.1\nb A 10.0.0", "zone:2: A data is wrong", id="address"),
        pytest.param("a NOTHING x", "zone:1: unknown type NOTHING", id="type"),
        pytest.param("a CH TXT x", "zone:1: class CH; IN was expected", id="class"),
        pytest.param("  A 10.0.0.1", "zone:1: the first record has no owner name", id="owner"),
        pytest.param("a TXT (x", "zone:1: '(' without ')'", id="parenthesis"),
        pytest.param("a TXT x)", "zone:1: ')' without '('", id="other parenthesis"),
        pytest.param('a TXT "x', "zone:1: a quote or escape without its end", id="quote"),
        pytest.param("$GENERATE 1-2 a A 10.0.0.$", "zone:1: unknown directive $GENERATE", id="directive"),
        pytest.param("$TTL x", "zone:1: 'x' is not a TTL", id="TTL"),
        pytest.param("a 99999999999 A 10.0.0.1", "zone:1: TTL 99999999999 is above", id="long TTL"),
        pytest.param("a A", "zone:1: A without data", id="no data"),
        pytest.param("a SRV 1 2 t", "zone:1: SRV data is wrong", id="too few words"),
        pytest.param("a MX 99999 t", "zone:1: MX data is wrong", id="number"),
        pytest.param("a TYPE731 \\# 4 abcdef", "zone:1: \\# says 4 octets, 3 follow", id="length"),
        pytest.param(f"{'a' * 64} A 10.0.0.1", "zone:1: ", id="long label"),
        pytest.param(f"a TXT {'x' * 256}", "zone:1: string of 256 octets", id="long string"),
        pytest.param("a A 10.0.0.1\n$INCLUDE none", "zone:2: cannot include none", id="include"),
    ],
)
def test_errors_name_file_and_line(text: str, error: str) -> None:
    """And the expected text."""
    with pytest.raises(ZoneFileError, match=re.escape(error)):
        lines(text)


def test_include(tmp_path: Path) -> None:
    """The path is relative to the including file; the origin may differ; errors name the included file; loops end."""
    (tmp_path / "inner").write_text("w A 10.0.0.1\n")
    (tmp_path / "self").write_text("$INCLUDE self\n")
    (tmp_path / "bad").write_text("\nw A x\n")
    path = str(tmp_path / "outer")
    assert lines("$INCLUDE inner sub\nv A 10.0.0.2", path) == [
        "w.sub.example.org. 3600 IN A 10.0.0.1",
        "v.example.org. 3600 IN A 10.0.0.2",
    ]
    with pytest.raises(ZoneFileError, match="deeper than 8 files"):
        lines("$INCLUDE self", path)
    with pytest.raises(ZoneFileError, match=r"bad:2: A data is wrong"):
        lines("$INCLUDE bad", path)


_LABEL = st.text("abcdefghij-0123456789", min_size=1, max_size=10).filter(lambda text: text.strip("-") == text)


@given(st.lists(st.tuples(_LABEL, st.integers(0, 2**31 - 1), st.ip_addresses()), min_size=1, max_size=8))
def test_reads_a_zone_that_dnspython_wrote(found: list[tuple[str, int, IPv4Address | IPv6Address]]) -> None:
    """The records are the same."""
    text = "@ 60 IN SOA ns root 1 2 3 4 5\n@ 60 IN NS ns\n"
    text += "".join(f"{label} 60 IN {'A' if ip.version == 4 else 'AAAA'} {ip}\n" for label, _, ip in found)
    other = dns.zone.from_text(text, "example.org.", relativize=False, check_origin=False)
    ours = {
        (names.to_text(r.owner), r.rtype, r.rdata) for r in read(other.to_text(relativize=False), names.ROOT, "zone")
    }
    theirs = {
        (name.to_text(), rdata.rdtype, rdata.to_wire())
        for name, rdataset in other.iterate_rdatasets()
        for rdata in rdataset
        if rdataset.rdclass == dns.rdataclass.IN
    }
    assert ours == theirs


def test_one_record() -> None:
    """The first record of a text, of any class, relative to the root; no file is read."""
    assert read_record("a.b 60 CH A 192.0.2.1\nc 60 A 192.0.2.2") == Record(
        b"\1a\1b\0", Type.A, 60, bytes((192, 0, 2, 1)), Class.CH
    )
    assert read_record("a A 192.0.2.1").ttl == 3600
    for text in ("", "; a", "$INCLUDE x", "a XX A 192.0.2.1"):
        with pytest.raises(ZoneFileError):
            read_record(text)

"""Reading of zone files (RFC 1035 §5)."""

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
from svcdns.wire.zone_text import ZoneFileError, first_soa, read, read_record
from tests.support import world, zone_records

ORIGIN = names.from_text("example.org.")


def lines(text: str, path: str = "zone") -> list[str]:
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
def test_reads_entries(text: str, expected: list[str]) -> None:
    assert lines(text) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("a A 10.0.0.1\nb A 10.0.0", "zone:2:5: A data is wrong", id="address"),
        pytest.param("a NOTHING x", "zone:1:3: unknown type NOTHING", id="type"),
        pytest.param("a TXT (x", "zone:1:7: '(' without ')'", id="parenthesis"),
        pytest.param("a TXT x)", "zone:1:8: ')' without '('", id="other parenthesis"),
        pytest.param(
            "a TXT x\\\nb A 10.0.0.1", "zone:1:8: a quote or escape without its end", id="escaped end of line"
        ),
        pytest.param('a TXT "x', "zone:1:7: a quote or escape without its end", id="quote"),
        pytest.param("$TTL x", "zone:1:6: 'x' is not a TTL", id="TTL"),
        pytest.param("$TTL", "zone:1:1: $TTL needs a value", id="no TTL"),
        pytest.param("a 99999999999 A 10.0.0.1", "zone:1:3: TTL 99999999999 is above", id="long TTL"),
        pytest.param("a 5 5 A 10.0.0.1", "zone:1:5: unknown type 5", id="two TTLs"),
        pytest.param("a IN", "zone:1:3: a type was expected", id="no type"),
        pytest.param("a " + "9" * 5000 + "x", "zone:1:3: unknown type 999", id="thousands of digits and a letter"),
        pytest.param("a " + "9" * 5000 + " A 10.0.0.1", "zone:1:3: '999", id="a TTL of thousands of digits"),
        pytest.param("a LOC 1 N 1 E " + "9" * 5000 + "m", "zone:1:7: LOC data is wrong", id="an altitude without end"),
        pytest.param("a \x1b[2J\x07\xff", "zone:1:3: unknown type \\x1b[2J\\x07", id="control characters"),
        pytest.param("a " + "x" * 500, "zone:1:3: unknown type " + "x" * 147 + "...", id="a long word"),
        pytest.param('$INCLUDE "a\0b"', "zone:1:10: cannot include a\\x00b", id="a file name with a zero octet"),
        pytest.param("a CLASSY A 10.0.0.1", "zone:1:3: unknown type CLASSY", id="no class"),
        pytest.param("a IN ANY x", "zone:1:6: unknown type ANY", id="a type of queries"),
        pytest.param("a A 10.0.0.1 10.0.0.2", "zone:1:5: A data is wrong", id="too many words"),
        pytest.param("a SRV 1 2 3", "zone:1:7: SRV data is wrong: a word is missing", id="too few words"),
        pytest.param("a MX 99999 t", "zone:1:6: MX data is wrong", id="number"),
        pytest.param(
            "a TYPE731 \\# 4 abcdef", "zone:1:11: TYPE731 data is wrong: \\# says 4 octets, 3 follow", id="length"
        ),
        pytest.param(
            "a TYPE731 abc", "zone:1:11: TYPE731 data is wrong: generic rdata does not start", id="no generic form"
        ),
        pytest.param("a MX \\# 3 000a04", "zone:1:6: MX data is wrong", id="generic form of wrong data"),
        pytest.param(f"{'a' * 64} A 10.0.0.1", "zone:1:1: ", id="long label"),
        pytest.param("a A 10.0.0.1\n$INCLUDE none", "zone:2:10: cannot include none", id="include"),
        pytest.param("$GENERATE 1 a A 10.0.0.$", "zone:1:11: '1' is not a range", id="no range"),
        pytest.param("$GENERATE 2-1 a A 10.0.0.$", "zone:1:11: '2-1' is not a range", id="backward range"),
        pytest.param("$GENERATE 1-2/0 a A 10.0.0.$", "zone:1:11: '1-2/0' is not a range", id="no step"),
        pytest.param("$GENERATE 0-65536 a$ A 10.0.0.1", "zone:1:11: $GENERATE of 65537 records", id="large range"),
        pytest.param("$GENERATE 1-2 a", "zone:1:1: $GENERATE needs", id="short template"),
        pytest.param("$GENERATE 1-2 a${x} A 10.0.0.1", "zone:1:15: 'x' is not OFFSET", id="modifier"),
        pytest.param("$GENERATE 1-2 a${1 A 10.0.0.1", "zone:1:15: '${' without '}'", id="open modifier"),
        pytest.param(
            "$GENERATE 1-2 a${-2} A 10.0.0.1", "zone:1:15: '-2' makes a number below zero", id="negative number"
        ),
    ],
)
def test_errors_name_file_and_line(text: str, error: str) -> None:
    with pytest.raises(ZoneFileError, match=re.escape(error)):
        lines(text)


def test_include(tmp_path: Path) -> None:
    """Paths are relative to the including file. An error has the name of the included file."""
    (tmp_path / "inner").write_text("w A 10.0.0.1\n")
    (tmp_path / "\xe4").write_text("$INCLUDE inner")
    assert lines("$INCLUDE \xe4", str(tmp_path / "outer")) == ["w.example.org. 3600 IN A 10.0.0.1"]
    (tmp_path / "self").write_text("$INCLUDE self\n")
    (tmp_path / "bad").write_text("\nw A x\n")
    path = str(tmp_path / "outer")
    assert lines("$INCLUDE inner sub\nv A 10.0.0.2", path) == [
        "w.sub.example.org. 3600 IN A 10.0.0.1",
        "v.example.org. 3600 IN A 10.0.0.2",
    ]
    with pytest.raises(ZoneFileError, match=r"self:1:1: .* deeper than 8 files"):
        lines("$INCLUDE self", path)
    with pytest.raises(ZoneFileError, match=r"bad:2:5: A data is wrong"):
        lines("$INCLUDE bad", path)


def warnings(data: bytes | str, path: str = "zone") -> list[str]:
    """Returns the warnings that reading the zone text causes."""
    found: list[str] = []
    read(data, ORIGIN, path, found.append)
    return found


@pytest.mark.parametrize(
    ("text", "expected", "warning"),
    [
        pytest.param(
            " A 10.0.0.1",
            ["example.org. 3600 IN A 10.0.0.1"],
            "zone:1:2: the first record has no owner name",
            id="no owner at the start",
        ),
        pytest.param(
            "a CH TXT x\nb A 10.0.0.1",
            ["b.example.org. 3600 IN A 10.0.0.1"],
            "zone:1:3: class CH is not served",
            id="class",
        ),
        pytest.param("a HINFO", ['a.example.org. 3600 IN HINFO "" ""'], "zone:1:3: no character string", id="no HINFO"),
        pytest.param("a TXT", ['a.example.org. 3600 IN TXT ""'], "zone:1:3: no character string", id="no string"),
        pytest.param(
            'a NAPTR 1 2 "u" "s" "!a!\\1!" .',
            ['a.example.org. 3600 IN NAPTR 1 2 "u" "s" "!a!1!" .'],
            "zone:1:21: wrong escape",
            id="an escape of one digit",
        ),
        pytest.param(
            "a TXT \\321", ['a.example.org. 3600 IN TXT "A"'], "zone:1:7: wrong escape", id="an escape above 255"
        ),
        pytest.param(
            "a\\1 A 10.0.0.1", ["a1.example.org. 3600 IN A 10.0.0.1"], "zone:1:1: wrong escape", id="in an owner"
        ),
        pytest.param(
            "w.example.net. A 10.0.0.1",
            ["w.example.net. 3600 IN A 10.0.0.1"],
            "zone:1:1: w.example.net. is outside the zone",
            id="outside",
        ),
        pytest.param(
            "a TYPE255 \\# 0", [], "zone:1:3: ANY cannot be the type of a record", id="a type of queries, by number"
        ),
        pytest.param("a TYPE41 \\# 0", [], "zone:1:3: OPT cannot be", id="a type of messages, by number"),
        pytest.param("a DNSKEY 257 3 13 A", [], "zone:1:10: DNSKEY data is wrong, the record is left out", id="base64"),
        pytest.param(
            "a OPENPGPKEY AA==.", [], "zone:1:14: OPENPGPKEY data is wrong, the record is left out", id="padding"
        ),
        pytest.param("a A", [], "zone:1:3: A data is wrong, the record is left out: a word is missing", id="no data"),
        pytest.param(
            f"a CAA 0 {'x' * 256} ca", [], "zone:1:7: CAA data is wrong, the record is left out", id="a long CAA tag"
        ),
        pytest.param(
            "a LOC 1 N 1 E 42849673m", [], "zone:1:7: LOC data is wrong, the record is left out", id="a high altitude"
        ),
        pytest.param(
            "a LOC 1 N 1 E -100001m", [], "zone:1:7: LOC data is wrong, the record is left out", id="a low altitude"
        ),
        pytest.param(
            "a LOC 1 N 1 E 2m ) 5m",
            ["a.example.org. 3600 IN LOC 1 0 0.000 N 1 0 0.000 E 2.00m"],
            "zone:1:18: ')' without '('; the rest of the line is ignored",
            id="a parenthesis in a LOC record",
        ),
        pytest.param(
            "a TYPE9999 \\# 1 0-", [], "zone:1:12: TYPE9999 data is wrong, the record is left out", id="generic"
        ),
        pytest.param(
            "a SVCB 1 b alpn=h2 alpn=h3", [], "zone:1:8: SVCB data is wrong, the record is left out", id="twice"
        ),
        pytest.param(
            "a HTTPS 1 . mandatory=x", [], "zone:1:9: HTTPS data is wrong, the record is left out", id="mandatory"
        ),
        pytest.param(
            "a AMTRELAY 1 0 9 .", [], "zone:1:12: AMTRELAY data is wrong, the record is left out", id="unchecked"
        ),
        pytest.param("a DS 1 8 2 xyz", [], "zone:1:6: DS data is wrong, the record is left out", id="hexadecimal"),
        pytest.param(
            "sub 9 SOA a b 1 2 3 4 5",
            ["sub.example.org. 9 IN SOA a.example.org. b.example.org. 1 2 3 4 5"],
            "zone:1:1: SOA record of sub.example.org., which is not the zone's name",
            id="SOA of another name",
        ),
        pytest.param(
            "@ 9 SOA a b 1 2 3 4 5\n@ 9 SOA a b 2 2 3 4 5",
            [f"example.org. 9 IN SOA a.example.org. b.example.org. {serial} 2 3 4 5" for serial in (1, 2)],
            "zone:2:1: another SOA record",
            id="two SOA records",
        ),
    ],
)
def test_warnings_name_file_line_and_column(text: str, expected: list[str], warning: str) -> None:
    """CoreDNS drops or misreads these lines. svcdns reads them in the intended meaning, with a warning."""
    assert lines(text) == expected
    (found,) = warnings(text)
    assert found.startswith(warning)


def test_a_zone_with_nsec3_gets_one_warning() -> None:
    record = "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom NSEC3 1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX RRSIG"
    (found,) = warnings(f"{record}\n{record}\n")
    assert found.startswith("zone:1:1: the zone is signed with NSEC3")


@pytest.mark.parametrize(
    ("text", "ttls"),
    [
        pytest.param("$TTL 300\nx 5 A 10.0.0.1\ny A 10.0.0.1\n$TTL 20m\nz A 10.0.0.1", [5, 300, 1200], id="$TTL stays"),
        pytest.param(
            "@ 40 SOA a b 1 2 3 4 9\nx A 10.0.0.1\ny 5 A 10.0.0.1\nz A 10.0.0.1",
            [40, 40, 5, 5],
            id="the last one stated",
        ),
        pytest.param(
            "x A 10.0.0.1\n@ SOA a b 1 2 3 4 77\ny A 10.0.0.1",
            [77, 77, 77],
            id="the minimum, for records before it too",
        ),
        pytest.param("x A 10.0.0.1", [3600], id="none at all"),
        pytest.param(
            "x 2147483648 A 10.0.0.1\ny 4294967295 A 10.0.0.1\nz 2147483647 A 10.0.0.1", [0, 0, 2**31 - 1], id="top bit"
        ),
        pytest.param("x IN 1W2D3H4M5S A 10.0.0.1\ny 90 IN A 10.0.0.1", [788645, 90], id="units, and either order"),
        pytest.param("x CLASS1 7 A 10.0.0.1", [7], id="generic class"),
        pytest.param("$TTL 9\n$GENERATE 1-2 h$ A 10.0.0.$", [9, 9], id="records of $GENERATE"),
    ],
)
def test_ttls(text: str, ttls: list[int]) -> None:
    """RFC 1035 §5.1, RFC 2308 §4 and RFC 2181 §8 have the rules for TTLs."""
    assert [record.ttl for record in read(text, ORIGIN, "zone")] == ttls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "$GENERATE 1-3/2 h$ A 10.0.0.$",
            ["h1.example.org. 3600 IN A 10.0.0.1", "h3.example.org. 3600 IN A 10.0.0.3"],
            id="step",
        ),
        pytest.param("$GENERATE 7-7 h$ 120 IN A 10.0.0.$", ["h7.example.org. 120 IN A 10.0.0.7"], id="TTL and class"),
        pytest.param("$TTL 9\n$GENERATE 1-1 @ NS ns$", ["example.org. 9 IN NS ns1.example.org."], id="$TTL and origin"),
        pytest.param(
            "$GENERATE 10-10 h${-3,3} CNAME x${5}",
            ["h007.example.org. 3600 IN CNAME x15.example.org."],
            id="offset and width",
        ),
        pytest.param(
            "$GENERATE 31-31 h${0,4,x} CNAME ${0,0,X}",
            ["h001f.example.org. 3600 IN CNAME 1F.example.org."],
            id="hexadecimal",
        ),
        pytest.param("$GENERATE 8-8 h${0,0,o} CNAME x", ["h10.example.org. 3600 IN CNAME x.example.org."], id="octal"),
        pytest.param(
            "$GENERATE 18-18 ${0,5,n} PTR h$", ["2.1.0.example.org. 3600 IN PTR h18.example.org."], id="nibbles"
        ),
        pytest.param(
            "$GENERATE 2-2 m$ MX $ mail-$", ["m2.example.org. 3600 IN MX 2 mail-2.example.org."], id="several words"
        ),
        pytest.param(
            "$GENERATE 1-1 _s$ SRV 0 $ 80$ t$", ["_s1.example.org. 3600 IN SRV 0 1 801 t1.example.org."], id="SRV"
        ),
        pytest.param(
            '$GENERATE 1-1 t TXT "a $ b" \\$$', ['t.example.org. 3600 IN TXT "a 1 b" "$1"'], id="strings, and a dollar"
        ),
        pytest.param("$GENERATE 1-1 t$$ A 10.0.0.1", ["t\\$.example.org. 3600 IN A 10.0.0.1"], id="two dollars"),
    ],
)
def test_generate(text: str, expected: list[str]) -> None:
    """`$GENERATE` is read as in BIND."""
    assert lines(text) == expected


def test_octets_beyond_ascii() -> None:
    """Octets above 127 are kept in names and strings, and ignored in comments."""
    data = b'; B\xe4cker\na A 10.0.0.1 ; caf\xe9\nt TXT "\xe4\xc3\xa4" \xa0\xe4\n\xe4 A 10.0.0.2\nc CNAME \xe4\n'
    found = read(data, ORIGIN, "zone")
    assert [record.rdata for record in found[1:2]] == [b"\3\xe4\xc3\xa4\2\xa0\xe4"]
    assert (found[2].owner, found[3].rdata) == (b"\1\xe4" + ORIGIN, b"\1\xe4" + ORIGIN)


def test_lines_end_with_a_carriage_return() -> None:
    """Carriage returns and tabs are white space. A quoted string may contain line ends."""
    assert lines("a\tIN\tA\t10.0.0.1\r\nb A 10.0.0.2\r\n\r\n") == [
        "a.example.org. 3600 IN A 10.0.0.1",
        "b.example.org. 3600 IN A 10.0.0.2",
    ]
    assert lines('a TXT "x\ny"\nb A 10.0.0.1') == [
        'a.example.org. 3600 IN TXT "x\\010y"',
        "b.example.org. 3600 IN A 10.0.0.1",
    ]


def test_words_that_begin_with_a_dollar_are_owners() -> None:
    assert lines("$DATE A 10.0.0.1") == ["\\$DATE.example.org. 3600 IN A 10.0.0.1"]


def test_the_first_soa_record(tmp_path: Path) -> None:
    (tmp_path / "inner").write_text("@ 9 SOA a b 7 2 3 4 5\n")
    path = str(tmp_path / "outer")
    for text in (b"x A 10.0.0.1\n@ 9 SOA a b 7 2 3 4 5\nnonsense", b"$INCLUDE inner\nnonsense"):
        found = first_soa(text, ORIGIN, path)
        assert found is not None
        assert found.rdata[-20:-16] == bytes((0, 0, 0, 7))
    assert first_soa(b"x A 10.0.0.1", ORIGIN, path) is None


_LINES = zone_records.zone().encode().splitlines()


@given(st.sampled_from(_LINES), st.integers(0, 80), st.integers(0, 6), st.binary(max_size=6))
def test_random_changes_of_a_line_raise_only_zone_file_errors(line: bytes, at: int, cut: int, noise: bytes) -> None:
    text = line[:at] + noise + line[at + cut :] + b"\nz A 10.0.0.1\n"
    try:
        found = read(text, ORIGIN, "zone")
    except ZoneFileError:
        return
    assert all(len(record.owner) <= names.MAX_NAME for record in found)


_LABEL = st.text("abcdefghij-0123456789", min_size=1, max_size=10).filter(lambda text: text.strip("-") == text)


@given(st.lists(st.tuples(_LABEL, st.integers(0, 2**31 - 1), st.ip_addresses()), min_size=1, max_size=8))
def test_reads_a_zone_that_dnspython_wrote(found: list[tuple[str, int, IPv4Address | IPv6Address]]) -> None:
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


def test_read_record_reads_the_first_record() -> None:
    assert read_record("a.b 60 CH A 192.0.2.1\nc 60 A 192.0.2.2") == Record(
        b"\1a\1b\0", Type.A, 60, bytes((192, 0, 2, 1)), Class.CH
    )
    assert read_record("a A 192.0.2.1").ttl == 3600
    for text in ("", "; a", "$INCLUDE x", "a XX A 192.0.2.1"):
        with pytest.raises(ZoneFileError):
            read_record(text)

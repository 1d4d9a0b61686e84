"""Reading RDATA from text, compared with dnspython."""

from __future__ import annotations

import struct

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.zone
import pytest

from svcdns.wire import names
from svcdns.wire.codes import Type, type_text
from svcdns.wire.plain_rdata import META_TYPES, RdataTextError
from svcdns.wire.rdata_text import to_wire
from svcdns.wire.zone_text import read
from svcdns.wire.zone_words import Attached, Quoted
from tests.support import zone_records

ORIGIN = names.from_text("mill.test.")
UNREADABLE = frozenset({Type.WKS, Type.ATMA, Type.UNSPEC, Type.DSYNC, Type.HHIT, Type.BRID})
"""Types that the table lacks: nobody has records of them."""


def wire(kind: str, *words: str) -> tuple[bytes, list[str]]:
    warnings: list[str] = []
    return to_wire(int(Type[kind]), list(words), ORIGIN, warnings.append), warnings


def test_every_type_as_dnspython_reads_it() -> None:
    text = zone_records.zone()
    zone = dns.zone.from_text(text, "mill.test.", relativize=False, check_origin=False)
    theirs = {
        (name.to_text(), type_text(rdataset.rdtype), rdata.to_wire())
        for name, rdataset in zone.iterate_rdatasets()
        for rdata in rdataset
    }
    ours = {
        (names.to_text(record.owner), type_text(record.rtype), record.rdata) for record in read(text, ORIGIN, "zone")
    }
    assert ours == theirs


def test_the_table_has_every_type() -> None:
    kinds = {record.rtype for record in read(zone_records.zone(), ORIGIN, "zone")}
    assert set(Type) - kinds - META_TYPES - UNREADABLE == set()


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        pytest.param("MB", ["m"], b"\1m" + ORIGIN, id="MB"),
        pytest.param("MINFO", ["a", "b."], b"\1a" + ORIGIN + b"\1b\0", id="MINFO"),
        pytest.param("NXT", ["n.", "A", "TYPE127"], b"\1n\0" + b"\x40" + bytes(14) + b"\x01", id="NXT"),
        pytest.param("RKEY", ["1", "2", "3", "AQ", "ID"], b"\0\1\2\3\1\2\3", id="RKEY"),
        pytest.param("UINFO", ["a b", "c"], b"\3a b", id="UINFO: the first string alone"),
        pytest.param("UID", ["4294967295"], b"\xff\xff\xff\xff", id="UID"),
        pytest.param("EID", ["0a", "0b"], b"\x0a\x0b", id="EID"),
        pytest.param("TA", ["1", "8", "1", "00" * 20], b"\0\1\x08\1" + bytes(20), id="TA"),
        pytest.param("A", ["\\#", "4", "0a00", "0001"], b"\x0a\0\0\1", id="generic form"),
        pytest.param(
            "SVCB",
            ["1", "@", "port=1", "alpn=", Attached("a")],
            b"\0\1" + ORIGIN + b"\0\1\0\2\1a\0\3\0\2\0\1",
            id="sorted keys",
        ),
        pytest.param("HINFO", [Quoted("PC Linux")], b"\2PC\5Linux", id="HINFO in one word"),
        pytest.param("HINFO", ["PC"], b"\2PC\0", id="HINFO without a system"),
        pytest.param("HINFO", ["PC", "Linux", "6"], b"\2PC\7Linux 6", id="HINFO in three words"),
        pytest.param("DS", ["1", "rsasha1", "1", "00" * 20], b"\0\1\5\1" + bytes(20), id="a mnemonic in lower case"),
        pytest.param("TXT", ["x" * 255], b"\xff" + b"x" * 255, id="255 octets"),
        pytest.param(
            "TXT", ["x" * 300, "y"], b"\xff" + b"x" * 255 + b"\x2d" + b"x" * 45 + b"\1y", id="over 255 octets"
        ),
        pytest.param("TXT", ["\\120" * 200], b"\xc8" + b"x" * 200, id="escapes count once"),
    ],
)
def test_data_that_coredns_accepts(kind: str, words: list[str], expected: bytes) -> None:
    assert wire(kind, *words) == (expected, [])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(
            "42 n 71 w -24", (0x80000000 + 42 * 3600000, 0x80000000 - 71 * 3600000, 9997600), id="letters in lower case"
        ),
        pytest.param("1 N 1 E 0.29m", (0x80000000 + 3600000, 0x80000000 + 3600000, 10000029), id="centimetres"),
        pytest.param("1 N 1 E -1.13m", (0x80000000 + 3600000, 0x80000000 + 3600000, 9999887), id="below zero"),
        pytest.param("0 0 1.5555 N 0 0 2. E 1M", (0x80000000 + 1555, 0x80000000 + 2000, 10000100), id="fractions"),
    ],
)
def test_locations(words: str, expected: tuple[int, int, int]) -> None:
    """LOC records have the form of RFC 1876 §3, or one of the further forms that CoreDNS accepts."""
    data, _ = wire("LOC", *words.split())
    assert struct.unpack("!III", data[4:]) == expected


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        pytest.param("DS", ["1", "8", "2", "abcd"], "000108 02 abcd", id="short digest"),
        pytest.param("SSHFP", ["1", "1", "abcd"], "0101 abcd", id="short fingerprint"),
        pytest.param("TLSA", ["3", "1", "1", "ab", "cd"], "030101 abcd", id="short TLSA"),
        pytest.param("ZONEMD", ["1", "1", "1", "abcd"], "000000010101 abcd", id="short digest of a zone"),
        pytest.param("URI", ["1", "2", Quoted("")], "00010002", id="no target"),
        pytest.param("CAA", ["0", "a-b", "x"], "00 03 612d62 78", id="a tag with a hyphen"),
        pytest.param("DNSKEY", ["257", "3", "8"], "0101 03 08", id="no key"),
        pytest.param("OPENPGPKEY", [], "", id="nothing at all"),
        pytest.param("SOA", [".", ".", "7", "8"], "0000 00000007 00000008" + 12 * "00", id="missing numbers"),
        pytest.param("DS", ["1", "RSASHA1", "2", "abcd"], "000105 02 abcd", id="algorithm by name"),
        pytest.param("IPSECKEY", ["10", "0", "0", "."], "0a 00 00", id="neither gateway nor key"),
        pytest.param("SVCB", ["0", ".", "port=53"], "0000 00 0003 0002 0035", id="parameters in alias mode"),
        pytest.param("HTTPS", ["1", ".", "no-default-alpn"], "0001 00 0002 0000", id="no-default-alpn alone"),
        pytest.param(
            "HTTPS",
            ["1", ".", "mandatory=port,alpn"],
            "0001 00 0000 0004 0001 0003",
            id="mandatory keys that are not there",
        ),
        pytest.param("HTTPS", ["1", ".", "ech=", Attached("AQID")], "0001 00 0005 0003 010203", id="ech that is none"),
        pytest.param(
            "HTTPS",
            ["0", ".", "alpn=", Attached("h2,h3"), "ipv4hint=192.0.2.1"],
            "0000 00 0001 0006 02683202 6833 0004 0004 c0000201",
            id="values",
        ),
    ],
)
def test_data_that_dnspython_refuses(kind: str, words: list[str], expected: str) -> None:
    """As in CoreDNS, the data is served unchanged. svcdns writes a warning."""
    data, warnings = wire(kind, *words)
    assert data == bytes.fromhex(expected)
    assert [text.startswith(f"{kind} data is taken as it stands") for text in warnings] == [True]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        pytest.param("HTTPS", ["1", ".", "port=1", "port=2"], id="a parameter twice"),
        pytest.param("HTTPS", ["1", ".", "prot=1"], id="an unknown parameter"),
        pytest.param("SVCB", ["1", ".", "key4=192.0.2.1"], id="octets that are no value of the parameter ipv4hint"),
        pytest.param("HTTPS", ["0", ".", "ohttp=1"], id="a value where there is none"),
        pytest.param("DS", ["1", "8", "2", "xyz"], id="digits"),
        pytest.param("WKS", ["192.0.2.1"], id="too short"),
        pytest.param("ATMA", ["x"], id="a type without a text form"),
        pytest.param("NXT", ["n.", "URI"], id="a type above 127 in NXT"),
        pytest.param("A", ["\\#", "3", "0a0000"], id="generic form of the wrong length"),
        pytest.param("MX", ["\\#", "5", "000001c002"], id="a compressed name"),
        pytest.param("MX", [Quoted("\\#"), "0"], id="a quoted sign of the generic form"),
    ],
)
def test_errors(kind: str, words: list[str]) -> None:
    """CoreDNS refuses these texts too, or reads them wrongly."""
    with pytest.raises(RdataTextError):
        wire(kind, *words)


def test_types_in_any_order() -> None:
    """An NSEC record states its types in ascending order (RFC 4034 §4.1.2), whatever their order in the text."""
    assert wire("NSEC", "a.", "MX", "A", "CAA", "NSEC") == wire("NSEC", "a.", "A", "MX", "NSEC", "CAA")


def test_the_types_of_nsec_records() -> None:
    """The same words are converted once; the name is relative to the origin."""
    for name in ("a", "B.example.", "a\\.b"):
        words = [name, "TXT", "A", "TYPE65280"]
        origin = names.from_text("mill.test.")
        again = to_wire(Type.NSEC, words, origin, pytest.fail)
        rdata = dns.rdata.from_text("IN", "NSEC", " ".join(words), dns.name.from_text("mill.test."), relativize=False)
        assert again == rdata.to_wire()


def test_types_added_to_dnspython_are_read_back() -> None:
    rdata = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.MB, b"\1m\0", 0, 3)
    assert rdata.to_text() == "\\# 3 016d00"

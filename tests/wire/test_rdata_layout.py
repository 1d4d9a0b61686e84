"""Checks of the RDATA layout of received records. The examples are encoded by dnspython."""

from __future__ import annotations

from contextlib import suppress

import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire.codes import Type
from svcdns.wire.errors import FormError
from svcdns.wire.rdata_layout import check

GOOD = [
    ("TXT", '"a" "" "b"'), ("SPF", '"v=spf1"'), ("HINFO", '"a" "b"'), ("X25", '"123"'), ("GPOS", "1 2 3"),
    ("LOC", "60 9 0.000 N 24 39 0.000 E 10.00m 20.00m 2000.00m 20.00m"), ("EUI48", "00-00-5e-00-53-2a"),
    ("EUI64", "00-00-5e-ef-10-00-00-2a"), ("NID", "10 0014:4fff:ff20:ee64"), ("L64", "10 2001:0DB8:1140:1000"),
    ("L32", "10 10.1.2.0"), ("LP", "10 l64.example.com."), ("CDS", "0 0 0 00"), ("CDNSKEY", "0 3 0 AA=="),
    ("DS", "60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118"), ("DNSKEY", "256 3 5 AQPSKmynfzW4kyBv015MUG2DeIQ3"),
    ("RRSIG", "A 5 3 86400 20030322173103 20030220173103 2642 example.com. oJB1W6WNGv+ldvQ3WDG0MQkg5IEhjRip8WTr"),
    ("NSEC", "host.example.com. A MX RRSIG NSEC TYPE1234"), ("NSEC", "host.example.com."),
    ("NSEC3", "1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX DNSKEY NS SOA NSEC3PARAM RRSIG"),
    ("NSEC3PARAM", "1 0 12 aabbccdd"), ("NSEC3PARAM", "1 0 12 -"), ("TLSA", "3 1 0 aabb"),
    ("SSHFP", "2 1 123456789abcdef67890123456789abcdef67890"),
    ("CERT", "65534 65535 254 aabb"), ("URI", '10 1 "ftp://ftp1.example.com/public"'), ("CAA", '0 issue "ca.example.net"'),
    ("CSYNC", "66 3 A NS AAAA"), ("APL", "1:192.168.32.0/21 !1:192.168.38.0/28"), ("SVCB", "0 foo.example.com."),
    ("HTTPS", "1 . alpn=h2,h3 port=53 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1"),
    ("ZONEMD", "2018031900 1 1 " + "aa" * 48),
]  # fmt: skip
CUT_TO_ANY = ("CAA", "URI", "DNSKEY", "CDNSKEY", "DS", "RRSIG", "TLSA", "SSHFP", "CERT", "ZONEMD", "CDS")
"""Types whose last field may be of any length."""


def encoded(rtype: str, text: str) -> bytes:
    return dns.rdata.from_text("IN", rtype, text).to_generic().data


@pytest.mark.parametrize(("rtype", "text"), GOOD)
def test_valid_rdata_is_accepted(rtype: str, text: str) -> None:
    """Valid RDATA without its last octet is refused, unless its last field has a variable length."""
    rdata = encoded(rtype, text)
    check(Type[rtype], rdata)
    if rtype not in (*CUT_TO_ANY, "APL") and len(rdata) > 1:
        with pytest.raises(FormError):
            check(Type[rtype], rdata[:-1])


@pytest.mark.parametrize("rtype", sorted({rtype for rtype, _ in GOOD} - {"APL"}))
def test_only_apl_may_have_empty_rdata(rtype: str) -> None:
    with pytest.raises(FormError):
        check(Type[rtype], b"")


@pytest.mark.parametrize(
    ("rtype", "rdata"),
    [
        pytest.param("LOC", bytes(17), id="an octet too many"),
        pytest.param("LP", b"\0\1\xc0\x0c", id="a compressed name"),
        pytest.param("NSEC", b"\0\0\x21" + bytes(33), id="a bitmap that is too long"),
        pytest.param("NSEC", b"\0\1\1\x40\0\1\x40", id="bitmaps that do not ascend"),
        pytest.param("NSEC", b"\0\0\0", id="an empty bitmap"),
        pytest.param("NSEC", (b"\1a" * 127) + b"\1a\0", id="a name of 257 octets"),
        pytest.param("SVCB", b"\0\1\0\0\4\0\0\0\3\0\0", id="parameters that do not ascend"),
        pytest.param("SVCB", b"\0\1\0\0\4\0\4\1", id="a parameter that is cut"),
        pytest.param("APL", b"\0\1\x18\3\xc0", id="a prefix that is cut"),
    ],
)
def test_malformed_rdata_is_refused(rtype: str, rdata: bytes) -> None:
    with pytest.raises(FormError):
        check(Type[rtype], rdata)


def test_rdata_of_unknown_types_is_accepted() -> None:
    """A server must not interpret RDATA of unknown types (RFC 3597 §3)."""
    check(65280, b"")
    check(Type.NULL, b"anything")


@given(st.sampled_from(list(Type)), st.binary(max_size=60))
def test_random_octets_raise_only_form_errors(rtype: int, rdata: bytes) -> None:
    with suppress(FormError):
        check(rtype, rdata)

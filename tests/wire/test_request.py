"""Requests: what is answered at once, what is dropped, what reaches a chain (docs/behaviour/server.md#requests)."""

from __future__ import annotations

import struct

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire.record import Edns
from svcdns.wire.request import Request, accept


def packet(
    flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0), body: bytes = b"\1a\0\0\1\0\1"
) -> bytes:
    """A packet by hand."""
    return struct.pack("!HHHHHH", 7, flags, *counts) + body


def test_reads_a_question() -> None:
    """A query is parsed into name, type, class and flags, and the octets of its question are kept."""
    assert accept(packet(body=b"\1A\0\0\x1c\0\1")) == Request(7, 0x0100, b"\1A\0", 28, 1, b"\1A\0\0\x1c\0\1")


def test_reads_edns() -> None:
    """Size, DO bit and options are read from the OPT record."""
    query = dns.message.make_query(
        "a.", "A", use_edns=0, payload=1400, want_dnssec=True, options=[dns.edns.CookieOption(b"12345678", b"")]
    )
    request = accept(query.to_wire())
    assert isinstance(request, Request)
    assert request.edns == Edns(1400, True, 0, ((10, b"12345678"),))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(11), id="short"),
        pytest.param(packet(flags=0x8100), id="a response"),
    ],
)
def test_packets_that_are_no_query_get_no_reply(data: bytes) -> None:
    """A packet that is a response, or too short for a header, gets no reply."""
    assert accept(data) is None


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        pytest.param(packet(flags=0x2900), 0xA904, id="UPDATE: NOTIMP, opcode kept"),
        pytest.param(packet(flags=0x1500), 0x9104, id="STATUS: NOTIMP, AA cleared"),
        pytest.param(packet(counts=(0, 0, 0, 0)), 0x8101, id="no question: FORMERR"),
        pytest.param(packet(counts=(2, 0, 0, 0)), 0x8101, id="two questions: FORMERR"),
        pytest.param(packet(counts=(1, 2, 0, 0)), 0x8101, id="two answers: FORMERR"),
        pytest.param(packet(counts=(1, 0, 0, 3)), 0x8101, id="three additional: FORMERR"),
        pytest.param(
            packet(flags=0x2100, counts=(0, 0, 0, 0)), 0xA104 & ~0x7804 | 0x2004, id="NOTIFY is a question like others"
        ),
        pytest.param(packet(body=b"\5a"), 0x8101, id="cut name: FORMERR"),
        pytest.param(packet(body=b"\xc0\x0c\0\1\0\1"), 0x8101, id="compressed question: FORMERR"),
    ],
)
def test_malformed_headers_get_a_header(data: bytes, flags: int) -> None:
    """A malformed query gets a header with the error's rcode and no question section."""
    reply = accept(data)
    assert isinstance(reply, bytes)
    if (data[2] >> 3 & 15) == 4:
        flags = 0x8101
    assert reply == struct.pack("!HHHHHH", 7, flags, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [pytest.param(0x01B0, 0x8112, id="RD and CD come back"), pytest.param(0x2110, 0xA002, id="neither for NOTIFY")],
)
def test_a_header_alone(flags: int, expected: int) -> None:
    """A query of only a header, which counts a question, gets SERVFAIL without a question section."""
    assert accept(packet(flags=flags, body=b"")) == struct.pack("!HHHHHH", 7, expected, 0, 0, 0, 0)


@pytest.mark.parametrize("counts", [(1, 0, 0, 2), (1, 1, 1, 0), (1, 0, 1, 1)])
def test_missing_records_are_ignored(counts: tuple[int, int, int, int]) -> None:
    """Records that the header counts, but that are missing at the end of the packet, are ignored."""
    request = accept(packet(counts=counts, body=b"\1a\0\0\1\0\1"))
    assert isinstance(request, Request)
    assert (request.name, request.edns) == (b"\1a\0", None)


@pytest.mark.parametrize(("body", "rtype"), [(b"\1a\0", 0), (b"\1a\0\0\x1c", 28)])
def test_a_question_without_type_or_class_is_accepted(body: bytes, rtype: int) -> None:
    """A missing type or class is 0, in the reply too. A type or class of one octet only is a format error."""
    request = accept(packet(body=body))
    assert isinstance(request, Request)
    assert (request.rtype, request.rclass, request.question) == (
        rtype,
        0,
        b"\1a\0" + rtype.to_bytes(2, "big") + b"\0\0",
    )
    assert accept(packet(body=body + b"\0")) == struct.pack("!HHHHHH", 7, 0x8101, 0, 0, 0, 0)


def test_an_invalid_option_is_a_format_error() -> None:
    """An invalid EDNS option gets FORMERR, in whatever section the OPT record is, and whatever the EDNS version is."""
    opt = b"\0\0\x29\4\xd0\0\1\0\0\0\5\0\x0b\0\1a"
    for counts in ((1, 0, 0, 1), (1, 1, 0, 0)):
        assert accept(packet(counts=counts, body=b"\1a\0\0\1\0\1" + opt)) == packet(flags=0x8101, body=b"\1a\0\0\1\0\1")


def test_a_format_error_behind_the_question_has_the_question() -> None:
    """FORMERR for an error after the question section has the question."""
    assert accept(packet(counts=(1, 0, 0, 1), body=b"\1a\0\0\1\0\1\0\0")) == packet(flags=0x8101)


@pytest.mark.parametrize(
    ("rtype", "authority", "serial"),
    [
        pytest.param("IXFR", "a. 5 IN SOA ns.a. host.a. 77 2 3 4 5", 77, id="IXFR with the client's serial"),
        pytest.param("IXFR", "a. 5 IN NS ns.a.", None, id="IXFR without SOA"),
        pytest.param("IXFR", "", None, id="IXFR without anything"),
        pytest.param("AXFR", "a. 5 IN SOA ns.a. host.a. 77 2 3 4 5", None, id="AXFR has no serial"),
    ],
)
def test_reads_the_serial_of_ixfr(rtype: str, authority: str, serial: int | None) -> None:
    """The serial in an IXFR query is read (RFC 1995 §3), also with an OPT record and compressed names."""
    query = dns.message.make_query("a.", rtype, use_edns=0)
    if authority:
        owner, ttl, *rest = authority.split(" ", 4)
        query.authority.append(dns.rrset.from_text(owner, int(ttl), *rest))
    request = accept(query.to_wire())
    assert isinstance(request, Request)
    assert request.serial == serial
    assert request.edns is not None


def test_an_ixfr_with_a_truncated_soa_is_a_format_error() -> None:
    """A truncated SOA record in an IXFR query gets FORMERR with the question."""
    broken = packet(counts=(1, 0, 1, 0), body=b"\1a\0\0\xfb\0\1" + b"\0\0\6\0\1\0\0\0\0\0\2\0\0")
    assert accept(broken) == packet(flags=0x8101, body=b"\1a\0\0\xfb\0\1")


@given(st.binary(max_size=100))
def test_no_packet_raises(data: bytes) -> None:
    """No octets make `accept` raise an exception."""
    accept(data)
    accept(packet(body=data))
    accept(packet(counts=(1, 0, 0, 1), body=b"\1a\0\0\1\0\1" + data))
    accept(packet(counts=(1, 1, 1, 0), body=b"\1a\0\0\xfb\0\1" + data))

"""Parsing of packets from clients: which packets become queries, get an error or are dropped
(docs/behaviour/server.md#requests).
"""

from __future__ import annotations

import struct

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire.record import Edns
from svcdns.wire.request import REASONS, Rejected, Request, accept


def packet(
    flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0), body: bytes = b"\1a\0\0\1\0\1"
) -> bytes:
    """Returns a packet whose header may contradict its content."""
    return struct.pack("!HHHHHH", 7, flags, *counts) + body


def test_reads_a_question() -> None:
    assert accept(packet(body=b"\1A\0\0\x1c\0\1")) == Request(7, 0x0100, b"\1A\0", 28, 1, b"\1A\0\0\x1c\0\1")


def test_reads_edns() -> None:
    query = dns.message.make_query(
        "a.", "A", use_edns=0, payload=1400, want_dnssec=True, options=[dns.edns.CookieOption(b"12345678", b"")]
    )
    request = accept(query.to_wire())
    assert isinstance(request, Request)
    assert request.edns == Edns(1400, True, 0, ((10, b"12345678"),))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "short", id="empty"),
        pytest.param(bytes(11), "short", id="short"),
        pytest.param(packet(flags=0x8100), "response", id="a response"),
    ],
)
def test_packets_that_are_no_query_get_no_reply(data: bytes, reason: str) -> None:
    assert accept(data) == Rejected(reason)


QUESTION = b"\1a\0\0\1\0\1"
OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
RECORD = b"\0\1\0\1\0\0\0\5\0\4\xc0\0\2\1"
"""A record without its owner."""


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        pytest.param(packet(0x2400, (1, 0, 0, 1), QUESTION + OPT), 0xA004, id="NOTIFY"),
        pytest.param(packet(0x2400, (1, 1, 0, 1), QUESTION + b"\xc0\x0c" + RECORD + OPT), 0xA004, id="NOTIFY with SOA"),
        pytest.param(packet(0x2800, (1, 1, 2, 1), QUESTION + (b"\1a\0" + RECORD) * 3 + OPT), 0xA804, id="UPDATE"),
        pytest.param(packet(0x1000, (0, 0, 0, 1), OPT), 0x9004, id="STATUS"),
        pytest.param(packet(0x0800, (0, 1, 0, 1), b"\0" + RECORD + OPT), 0x8804, id="IQUERY"),
        pytest.param(packet(0x7800, (1, 0, 0, 2), QUESTION + OPT + b"\0" + RECORD), 0xF804, id="OPT before another"),
        pytest.param(packet(counts=(2, 0, 0, 1), body=QUESTION * 2 + OPT), 0x8101, id="two questions"),
        pytest.param(packet(counts=(0, 0, 0, 1), body=OPT), 0x8101, id="no question"),
        pytest.param(packet(counts=(1, 2, 0, 1), body=QUESTION + (b"\0" + RECORD) * 2 + OPT), 0x8101, id="two answers"),
    ],
)
@pytest.mark.parametrize("dnssec_ok", [False, True])
def test_a_reply_without_a_question_has_an_opt_record(data: bytes, flags: int, dnssec_ok: bool) -> None:
    """The packet has an OPT record, but is refused before its question is read (RFC 6891 §6.1.1)."""
    do = b"\x80" if dnssec_ok else b"\0"
    own = OPT[:7] + do + OPT[8:]
    rejected = accept(data.replace(OPT, own))
    assert isinstance(rejected, Rejected)
    assert rejected.wire == struct.pack("!HHHHHH", 7, flags, 0, 0, 0, 1) + own


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(packet(0x2400, (1, 0, 0, 1), QUESTION + OPT[:-1]), id="cut off"),
        pytest.param(packet(0x2400, (1, 0, 0, 1), QUESTION + OPT[:-1] + b"\1"), id="options cut off"),
        pytest.param(packet(0x2400, (1, 0, 0, 1), QUESTION + b"\1a" + OPT), id="not owned by the root"),
        pytest.param(packet(0x2400, (1, 1, 0, 1), QUESTION + OPT), id="in the answer section"),
        pytest.param(packet(0x2400, (1, 0, 0, 1), QUESTION + b"\0" + RECORD), id="another record"),
        pytest.param(packet(0x2400, (1, 0, 0, 1), (b"\x3f" + bytes(63)) * 4 + OPT), id="a long name"),
        pytest.param(packet(0x2800, (1, 0, 63, 1), QUESTION + (b"\0" + RECORD) * 63 + OPT), id="too many records"),
        pytest.param(packet(0x3000, (0, 0, 0, 0), b"\0\1\0\x08" + bytes(8)), id="DSO"),
    ],
)
def test_a_reply_without_a_question_is_a_header(data: bytes) -> None:
    """A message without an OPT record, or whose OPT record cannot be found, gets only a header."""
    rejected = accept(data)
    assert isinstance(rejected, Rejected)
    assert len(rejected.wire) == 12


@pytest.mark.parametrize(
    ("data", "flags", "reason"),
    [
        pytest.param(packet(flags=0x2900), 0xA904, "opcode", id="UPDATE: NOTIMP, opcode kept"),
        pytest.param(packet(flags=0x1500), 0x9104, "opcode", id="STATUS: NOTIMP, AA cleared"),
        pytest.param(packet(flags=0x2400), 0xA004, "opcode", id="NOTIFY: NOTIMP"),
        pytest.param(packet(counts=(0, 0, 0, 0)), 0x8101, "counts", id="no question"),
        pytest.param(packet(counts=(2, 0, 0, 0)), 0x8101, "counts", id="two questions"),
        pytest.param(packet(counts=(1, 2, 0, 0)), 0x8101, "counts", id="two answers"),
        pytest.param(packet(counts=(1, 0, 0, 3)), 0x8101, "counts", id="three additional records"),
        pytest.param(packet(body=b""), 0x8101, "question", id="a header alone"),
        pytest.param(packet(flags=0x0130, body=b""), 0x8131, "question", id="AD and CD come back"),
        pytest.param(packet(body=b"\5a"), 0x8101, "question", id="name cut off"),
        pytest.param(packet(body=b"\1a\0"), 0x8101, "question", id="no type"),
        pytest.param(packet(body=b"\1a\0\0\x1c"), 0x8101, "question", id="no class"),
        pytest.param(packet(body=b"\xc0\x0c\0\1\0\1"), 0x8101, "question", id="a pointer in the question"),
        pytest.param(packet(body=b"\1a\xc0\x0c\0\1\0\1"), 0x8101, "question", id="a pointer after a label"),
    ],
)
def test_malformed_headers_and_questions_get_a_header(data: bytes, flags: int, reason: str) -> None:
    """An error in the header or question gets a reply that consists of a header only."""
    assert accept(data) == Rejected(reason, struct.pack("!HHHHHH", 7, flags, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("counts", "rest"),
    [
        pytest.param((1, 1, 0, 0), b"", id="answer missing"),
        pytest.param((1, 0, 1, 0), b"", id="authority missing"),
        pytest.param((1, 0, 0, 1), b"", id="additional missing"),
        pytest.param((1, 0, 0, 2), OPT, id="second additional missing"),
        pytest.param((1, 0, 0, 1), OPT[:-1], id="OPT cut off"),
        pytest.param((1, 0, 0, 2), OPT + OPT, id="two OPT records"),
        pytest.param((1, 1, 0, 0), OPT, id="OPT in the answer section"),
        pytest.param((1, 0, 1, 0), OPT, id="OPT in the authority section"),
        pytest.param((1, 0, 0, 1), b"\1a" + OPT, id="OPT below the root"),
        pytest.param((1, 0, 0, 1), b"\xc0\x0e" + OPT[1:], id="OPT with a pointer to the root"),
        pytest.param((1, 0, 0, 1), b"\xc0\x13" + OPT[1:], id="a pointer to itself"),
    ],
)
def test_malformed_records_are_a_format_error_with_the_question(counts: tuple[int, int, int, int], rest: bytes) -> None:
    assert accept(packet(counts=counts, body=QUESTION + rest)) == Rejected("records", packet(flags=0x8101))


@pytest.mark.parametrize("counts", [(1, 0, 0, 0), (1, 0, 0, 1)])
def test_octets_after_the_message_are_ignored(counts: tuple[int, int, int, int]) -> None:
    body = QUESTION + (OPT if counts[3] else b"")
    request = accept(packet(counts=counts, body=body + b"more"))
    assert isinstance(request, Request)
    assert request.trailing == 4
    request.trailing = 0
    assert request == accept(packet(counts=counts, body=body))


def test_a_request_for_a_server_cookie_has_no_question() -> None:
    """A client may ask for a server cookie with a message of an OPT record only (RFC 7873 §5.4)."""
    body = OPT[:-1] + b"\x0c\0\x0a\0\x08" + bytes(range(8))
    assert accept(packet(counts=(0, 0, 0, 1), body=body)) == Request(
        7, 0x0100, b"", 0, 0, b"", Edns(1232, options=((10, bytes(range(8))),))
    )
    for other in (body[:-1], b"", QUESTION):
        assert accept(packet(counts=(0, 0, 0, 1), body=other)) == Rejected(
            "counts", struct.pack("!HHHHHH", 7, 0x8101, 0, 0, 0, 0)
        )


def test_options_of_another_version_are_not_read() -> None:
    """The format of options in an unknown EDNS version is unknown, so options are not checked."""
    request = accept(packet(counts=(1, 0, 0, 1), body=QUESTION + OPT[:6] + b"\1" + OPT[7:-1] + b"\5\0\x0b\0\1a"))
    assert isinstance(request, Request)
    assert request.edns == Edns(1232, version=1)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(b"\0\5\0\x0b\0\1a", id="keepalive of one octet"),
        pytest.param(b"\0\4\0\x0a\0\0", id="an empty cookie"),
        pytest.param(b"\x08\4" + b"\xff\0\0\0" * 513, id="513 options"),
    ],
)
def test_an_invalid_option_is_a_format_error(options: bytes) -> None:
    """The FORMERR has an OPT record with the DO bit of the query (RFC 6891 §7)."""
    opt = b"\0\0\x29\4\xd0\0\0\x80\0" + options
    reply = packet(flags=0x8101, counts=(1, 0, 0, 1), body=QUESTION + b"\0\0\x29\4\xd0\0\0\x80\0\0\0")
    assert accept(packet(counts=(1, 0, 0, 1), body=QUESTION + opt)) == Rejected("records", reply)


def test_a_format_error_after_the_question_repeats_the_question() -> None:
    assert accept(packet(counts=(1, 0, 0, 1), body=QUESTION + b"\0\0")) == Rejected("records", packet(flags=0x8101))


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
    """An IXFR query states the client's serial in its authority section (RFC 1995 §3)."""
    query = dns.message.make_query("a.", rtype, use_edns=0)
    if authority:
        owner, ttl, *rest = authority.split(" ", 4)
        query.authority.append(dns.rrset.from_text(owner, int(ttl), *rest))
    request = accept(query.to_wire())
    assert isinstance(request, Request)
    assert request.serial == serial
    assert request.edns is not None


def test_an_ixfr_with_a_truncated_soa_is_a_format_error() -> None:
    broken = packet(counts=(1, 0, 1, 0), body=b"\1a\0\0\xfb\0\1" + b"\0\0\6\0\1\0\0\0\0\0\2\0\0")
    assert accept(broken) == Rejected("records", packet(flags=0x8101, body=b"\1a\0\0\xfb\0\1"))


@given(st.binary(max_size=100))
def test_random_packets_raise_no_exception(data: bytes) -> None:
    for body, counts in (
        (data, (1, 0, 0, 0)),
        (QUESTION + data, (1, 0, 0, 1)),
        (b"\1a\0\0\xfb\0\1" + data, (1, 1, 1, 0)),
    ):
        found = accept(packet(counts=counts, body=body))
        assert isinstance(found, Request) or found.reason in REASONS
    found = accept(data)
    assert isinstance(found, Request) or found.reason in REASONS

"""Malformed, unusual and hostile packets, each with the response code that the RFCs require, or none if no reply is
expected.

The server has the zone `example.test.` with the SOA record, `www` (A) and `big` (TXT). No block has *chaos* or
*forward*. Each row has its own name. The sender replaces the first two octets of a packet with a message ID.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from svcdns.conformance.replies import Reply

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
SILENCE = -1
ALL = ("udp", "tcp", "tls")
STREAMS = ("tcp", "tls")

IN, CH, HS, NONE, ANY_CLASS = 1, 3, 4, 254, 255
A, NS, SOA, NULL, TXT, SIG, NXT, OPT, RRSIG, TKEY, TSIG, IXFR, AXFR, MAILB, MAILA, ANY = (
    1, 2, 6, 10, 16, 24, 30, 41, 46, 249, 250, 251, 252, 253, 254, 255,
)  # fmt: skip
DO = 0x8000

Check = Callable[[Reply], bool]


@dataclass(frozen=True)
class Row:
    """A packet, the response code of the expected reply or SILENCE, and further conditions for the reply."""

    name: str
    packet: bytes
    rcode: int
    check: Check = lambda _: True
    over: tuple[str, ...] = ALL


def name(text: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in text.split(".") if label) + b"\0"


WWW = name("www.example.test")


def question(qname: bytes = WWW, rtype: int = A, rclass: int = IN) -> bytes:
    return qname + struct.pack("!HH", rtype, rclass)


def message(*parts: bytes, flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    return struct.pack("!6H", 0, flags, *counts) + b"".join(parts)


def option(code: int, data: bytes = b"") -> bytes:
    return struct.pack("!HH", code, len(data)) + data


def opt(*options: bytes, size: int = 1232, version: int = 0, flags: int = 0, owner: bytes = b"\0") -> bytes:
    rdata = b"".join(options)
    return owner + struct.pack("!HHBBHH", OPT, size, 0, version, flags, len(rdata)) + rdata


def record(rtype: int = A, rdata: bytes = b"\x7f\0\0\1", owner: bytes = WWW, rclass: int = IN) -> bytes:
    return owner + struct.pack("!HHIH", rtype, rclass, 0, len(rdata)) + rdata


def edns(*options: bytes, size: int = 1232, version: int = 0, flags: int = 0, rtype: int = A) -> bytes:
    """Returns a query with an OPT record."""
    return message(question(rtype=rtype), opt(*options, size=size, version=version, flags=flags), counts=(1, 0, 0, 1))


def query_for(rtype: int, rclass: int = IN, qname: bytes = WWW) -> bytes:
    """Returns a query for another type or class."""
    return message(question(qname, rtype, rclass))


def _header_only(reply: Reply) -> bool:
    return reply.size == 12


def _with_question(reply: Reply) -> bool:
    return len(reply.questions) == 1 and not reply.answer


def _option_error(reply: Reply) -> bool:
    return not reply.answer and reply.opt is not None and (reply.opt.size, reply.opt.options) == (1232, ())


def _header_and_opt(reply: Reply) -> bool:
    return not (reply.questions or reply.answer) and reply.opt is not None and reply.opt.size == 1232


def _answered(reply: Reply) -> bool:
    return len(reply.answer) == 1 and reply.opt is None


def _with_opt(reply: Reply) -> bool:
    return len(reply.answer) == 1 and reply.opt is not None and (reply.opt.size, reply.opt.version) == (1232, 0)


def _no_options(reply: Reply) -> bool:
    return _with_opt(reply) and reply.opt is not None and not reply.opt.options


def _cookie(reply: Reply) -> bool:
    return _with_opt(reply) and reply.opt is not None and [(c, len(d)) for c, d in reply.opt.options] == [(10, 24)]


def _bad_version(reply: Reply) -> bool:
    return reply.opt is not None and reply.opt.version == 0 and not reply.answer and reply.opt.size == 1232


def _bad_version_with_do(reply: Reply) -> bool:
    return _bad_version(reply) and reply.opt is not None and reply.opt.flags == DO


def _empty(reply: Reply) -> bool:
    return not reply.answer


def _opcode(number: int) -> Check:
    return lambda reply: reply.opcode == number and _header_only(reply)


PLAIN = message(question())
LONG = b"".join(b"\x3f" + b"a" * 63 for _ in range(3))
"""Three labels, 192 octets."""
COOKIE = bytes(range(8))
DEEP = b"".join(b"\1a" for _ in range(127)) + b"\0"
"""A name of 127 labels, the most that a name can have."""

ROWS: tuple[Row, ...] = (
    # packets that are no messages, and replies (RFC 1035 §4.1.1, §7.3)
    *[Row(f"{size} octets", PLAIN[:size], SILENCE, over=ALL if size else STREAMS) for size in (0, 1, 2, 3, 5, 8, 11)],
    Row("a reply", message(question(), flags=0x8180), SILENCE),
    Row("a reply with an answer", message(question(), record(), flags=0x8180, counts=(1, 1, 0, 0)), SILENCE),
    Row("a reply to NOTIFY", message(question(), flags=0xA400), SILENCE),
    Row("a reply with FORMERR", message(flags=0x8001, counts=(0, 0, 0, 0)), SILENCE),
    Row("a header of ones", b"\xff" * 12, SILENCE),
    # opcodes (RFC 8906 §3.1.4; RFC 3425; RFC 2136; RFC 1996; RFC 8490)
    *[
        Row(f"opcode {number}", message(question(), flags=number << 11), NOTIMP, _opcode(number))
        for number in range(1, 16)
    ],
    Row("NOTIFY of a zone", message(question(name("example.test"), SOA), flags=0x2400), NOTIMP, _opcode(4)),
    Row("NOTIFY of class ANY", message(question(name("example.test"), SOA, 255), flags=0x2400), NOTIMP, _opcode(4)),
    Row("UPDATE with records", message(question(), record(), flags=0x2800, counts=(1, 0, 1, 0)), NOTIMP, _opcode(5)),
    Row("DSO keepalive", message(b"\0\1\0\x08" + bytes(8), flags=0x3000, counts=(0, 0, 0, 0)), NOTIMP, _opcode(6)),
    Row("IQUERY", message(record(), flags=0x0800, counts=(0, 1, 0, 0)), NOTIMP, _opcode(1)),
    Row("unknown opcode and no question", message(flags=0x7800, counts=(0, 0, 0, 0)), NOTIMP, _opcode(15)),
    # counts (RFC 9619 §4, RFC 1035 §4.1.1)
    Row("no question", message(counts=(0, 0, 0, 0)), FORMERR, _header_only),
    Row("no question, with EDNS", message(opt(), counts=(0, 0, 0, 1)), FORMERR, _header_and_opt),
    Row(
        "two questions, with EDNS",
        message(question(), question(), opt(), counts=(2, 0, 0, 1)),
        FORMERR,
        _header_and_opt,
    ),
    *[
        Row(
            f"opcode {number}, with EDNS",
            message(question(), opt(), flags=number << 11, counts=(1, 0, 0, 1)),
            NOTIMP,
            _header_and_opt,
        )
        for number in (1, 2, 4, 5, 15)
    ],
    Row(
        "no question, with a cookie",
        message(opt(option(10, COOKIE)), counts=(0, 0, 0, 1)),
        NOERROR,
        lambda r: not r.questions and r.opt is not None and [len(d) for _, d in r.opt.options] == [24],
    ),
    Row("no question, with a bad cookie", message(opt(option(10, b"a")), counts=(0, 0, 0, 1)), FORMERR, _option_error),
    Row("two questions", message(question(), question(), counts=(2, 0, 0, 0)), FORMERR, _header_only),
    Row("65535 questions", message(question(), counts=(65535, 0, 0, 0)), FORMERR, _header_only),
    Row("65535 answers", message(question(), counts=(1, 65535, 0, 0)), FORMERR, _header_only),
    Row("65535 authority records", message(question(), counts=(1, 0, 65535, 0)), FORMERR, _header_only),
    Row("65535 additional records", message(question(), counts=(1, 0, 0, 65535)), FORMERR, _header_only),
    Row("three additional records", message(question(), opt(), counts=(1, 0, 0, 3)), FORMERR, _header_and_opt),
    # the question (RFC 1035 §4.1.2, §4.1.4, §2.3.4; RFC 6891 §5)
    *[Row(f"cut at octet {end}", PLAIN[:end], FORMERR, _header_only) for end in range(12, len(PLAIN))],
    Row("a pointer to itself", message(question(b"\xc0\x0c")), FORMERR, _header_only),
    Row("a pointer into the header", message(question(b"\xc0\x00")), FORMERR, _header_only),
    Row("a pointer forward", message(question(b"\xc0\x20")), FORMERR, _header_only),
    Row("a label and a pointer", message(question(b"\3www\xc0\x0c")), FORMERR, _header_only),
    Row("half a pointer", message(b"\3www\xc0"), FORMERR, _header_only),
    Row("a label of type 01", message(question(b"\x41a" + bytes(70))), FORMERR, _header_only),
    Row("a label of type 10", message(question(b"\x81a" + bytes(70))), FORMERR, _header_only),
    Row("a label of 64 octets", message(question(b"\x40" + b"a" * 64 + b"\0")), FORMERR, _header_only),
    Row("a name of 256 octets", message(question(LONG + b"\x3e" + b"b" * 62 + b"\0")), FORMERR, _header_only),
    Row("a name of 257 octets", message(question(LONG + b"\x3f" + b"b" * 63 + b"\0")), FORMERR, _header_only),
    Row("a name of 255 octets", message(question(LONG + b"\x3d" + b"b" * 61 + b"\0")), REFUSED, _empty),
    Row("a name of 127 labels", message(question(DEEP)), REFUSED, _empty),
    Row("octets 0 in labels", message(question(b"\3\0\0\0" + name("example.test"))), NXDOMAIN, _empty),
    Row("dots in a label", message(question(b"\3a.b" + name("example.test"))), NXDOMAIN, _empty),
    Row("octets 255 in labels", message(question(b"\3\xff\xff\xff" + name("example.test"))), NXDOMAIN, _empty),
    # records (RFC 1035 §4.1.3, RFC 6891 §6.1.1)
    Row("ANCOUNT 1 and no record", message(question(), counts=(1, 1, 0, 0)), FORMERR, _with_question),
    Row("NSCOUNT 1 and no record", message(question(), counts=(1, 0, 1, 0)), FORMERR, _with_question),
    Row("ARCOUNT 1 and no record", message(question(), counts=(1, 0, 0, 1)), FORMERR, _with_question),
    Row("ARCOUNT 2 and one record", message(question(), opt(), counts=(1, 0, 0, 2)), FORMERR, _with_question),
    *[
        Row(f"OPT cut at octet {end}", message(question(), opt()[:end], counts=(1, 0, 0, 1)), FORMERR, _with_question)
        for end in range(1, 11)
    ],
    Row("RDLENGTH over the end", message(question(), opt()[:-2] + b"\0\1", counts=(1, 0, 0, 1)), FORMERR),
    Row("RDLENGTH 65535", message(question(), opt()[:-2] + b"\xff\xff", counts=(1, 0, 0, 1)), FORMERR),
    Row("two OPT records", message(question(), opt(), opt(), counts=(1, 0, 0, 2)), FORMERR, _with_question),
    Row("an OPT record in the answer", message(question(), opt(), counts=(1, 1, 0, 0)), FORMERR, _with_question),
    Row("an OPT record in the authority", message(question(), opt(), counts=(1, 0, 1, 0)), FORMERR, _with_question),
    Row("OPT in answer and additional", message(question(), opt(), opt(), counts=(1, 1, 0, 1)), FORMERR),
    Row("an OPT record of a name", message(question(), opt(owner=WWW), counts=(1, 0, 0, 1)), FORMERR, _with_question),
    Row("an OPT record of a pointer", message(question(), opt(owner=b"\xc0\x1d"), counts=(1, 0, 0, 1)), FORMERR),
    Row("a record that points to itself", message(question(), record(owner=b"\xc0\x22"), counts=(1, 0, 0, 1)), FORMERR),
    Row("a record that points forward", message(question(), record(owner=b"\xc1\x22"), counts=(1, 0, 0, 1)), FORMERR),
    Row("a record of a label of type 01", message(question(), record(owner=b"\x41a\0"), counts=(1, 0, 0, 1)), FORMERR),
    Row("a record of a long name", message(question(), record(owner=LONG * 2 + b"\0"), counts=(1, 0, 0, 1)), FORMERR),
    Row(
        "an additional record", message(question(), record(owner=b"\xc0\x0c"), counts=(1, 0, 0, 1)), NOERROR, _answered
    ),
    Row("an answer record", message(question(), record(), counts=(1, 1, 0, 0)), NOERROR, _answered),
    Row("an authority record", message(question(), record(), counts=(1, 0, 1, 0)), NOERROR, _answered),
    Row("another record and OPT", message(question(), record(), opt(), counts=(1, 0, 0, 2)), NOERROR, _with_opt),
    Row("OPT and another record", message(question(), opt(), record(), counts=(1, 0, 0, 2)), NOERROR, _with_opt),
    Row("a TSIG record", message(question(), record(TSIG, bytes(30)), counts=(1, 0, 0, 1)), NOERROR, _answered),
    Row("IXFR with half an SOA", message(question(rtype=IXFR), record(SOA, bytes(3)), counts=(1, 0, 1, 0)), FORMERR),
    # octets after the message
    Row("one octet after the message", PLAIN + b"\0", NOERROR, _answered),
    Row("100 octets after the message", PLAIN + b"\xff" * 100, NOERROR, _answered),
    Row("a second message after the message", PLAIN + PLAIN, NOERROR, _answered),
    Row("OPT after a message that counts none", message(question(), opt()), NOERROR, _answered),
    Row("one octet after OPT", edns() + b"\0", NOERROR, _with_opt),
    # EDNS (RFC 6891 §6.1, RFC 8906 §8.2)
    Row("EDNS", edns(), NOERROR, _no_options),
    Row("DO", edns(flags=DO), NOERROR, lambda r: _with_opt(r) and r.opt is not None and r.opt.flags == DO),
    Row("EDNS flags", edns(flags=0x7FFF), NOERROR, lambda r: _with_opt(r) and r.opt is not None and r.opt.flags == 0),
    Row("size 0", edns(size=0), NOERROR, _no_options),
    Row("size 511", edns(size=511), NOERROR, _no_options),
    Row("size 65535", edns(size=65535), NOERROR, _no_options),
    Row("version 1", edns(version=1), BADVERS, _bad_version),
    Row("version 255", edns(version=255), BADVERS, _bad_version),
    Row("version 1 with DO", edns(version=1, flags=DO), BADVERS, _bad_version_with_do),
    Row("version 1 with an unknown option", edns(option(100), version=1), BADVERS, _bad_version),
    Row("version 1 with a cut option", edns(b"\0\x0a\0\x09a", version=1), BADVERS, _bad_version),
    Row("version 1 with a bad cookie", edns(option(10, b"a"), version=1), BADVERS, _bad_version),
    # options (RFC 6891 §6.1.2)
    Row("an unknown option", edns(option(65001, b"abc")), NOERROR, _no_options),
    Row("100 unknown options", edns(*[option(65001)] * 100), NOERROR, _no_options),
    Row("512 options", edns(*[option(65001)] * 512), NOERROR, _no_options),
    Row("513 options", edns(*[option(65001)] * 513), FORMERR, _option_error),
    Row("16000 options", edns(*[option(65001)] * 16000), FORMERR, _option_error, STREAMS),
    Row("an option of 60000 octets", edns(option(65001, bytes(60000))), NOERROR, _no_options, STREAMS),
    Row("an option of code 0", edns(option(0, b"a")), NOERROR, _no_options),
    Row("an option of code 65535", edns(option(65535, b"a")), NOERROR, _no_options),
    Row("one octet of an option", edns(b"\0"), FORMERR, _option_error),
    Row("three octets of an option", edns(b"\0\x03\0"), FORMERR, _option_error),
    Row("an option that is cut off", edns(b"\0\x03\0\5abcd"), FORMERR, _option_error),
    Row("an option of length 65535", edns(b"\xfd\xe9\xff\xff"), FORMERR, _option_error),
    Row("NSID", edns(option(3)), NOERROR, _no_options),
    Row("NSID with data", edns(option(3, b"me")), NOERROR, _no_options),
    Row("EXPIRE", edns(option(9)), NOERROR, _no_options),
    Row("padding", edns(option(12, bytes(64))), NOERROR, _with_opt),
    Row("padding without octets", edns(option(12)), NOERROR, _with_opt),
    Row("a chain query", edns(option(13, b"\0")), NOERROR, _no_options),
    Row("key tags", edns(option(14, b"\x4a\x5c")), NOERROR, _no_options),
    Row("keepalive", edns(option(11)), NOERROR, _with_opt),
    Row("keepalive with a timeout", edns(option(11, b"\0\x0a")), NOERROR, _with_opt),
    Row("keepalive of one octet", edns(option(11, b"\0")), FORMERR, _option_error),
    Row("client subnet", edns(option(8, b"\0\1\x18\0\xc0\0\2")), NOERROR, _no_options),
    Row("client subnet of family 0", edns(option(8, b"\0\0\0\0")), NOERROR, _no_options),
    Row("client subnet of 3 octets", edns(option(8, b"\0\1\0")), FORMERR, _option_error),
    Row("client subnet of 33 bits", edns(option(8, b"\0\1\x21\0" + bytes(5))), FORMERR, _option_error),
    Row("client subnet of an unknown family", edns(option(8, b"\0\3\0\0")), FORMERR, _option_error),
    # cookies (RFC 7873 §5.2)
    Row("a client cookie", edns(option(10, COOKIE)), NOERROR, _cookie),
    Row("a client cookie of zeros", edns(option(10, bytes(8))), NOERROR, _cookie),
    Row("a cookie of 16 octets", edns(option(10, COOKIE * 2)), NOERROR, _cookie),
    Row("a cookie of 24 octets that is not ours", edns(option(10, COOKIE * 3)), NOERROR, _cookie),
    Row("a cookie of 40 octets", edns(option(10, COOKIE * 5)), NOERROR, _cookie),
    Row("two cookies", edns(option(10, COOKIE), option(10, bytes(8))), NOERROR, _cookie),
    Row("a cookie and an unknown option", edns(option(10, COOKIE), option(65001, b"x")), NOERROR, _cookie),
    *[
        Row(f"a cookie of {size} octets", edns(option(10, bytes(size))), FORMERR, _option_error)
        for size in (0, 1, 7, 9, 15, 41, 100)
    ],
    Row("a good and a bad cookie", edns(option(10, COOKIE), option(10, b"a")), FORMERR, _option_error),
    # sizes of queries (RFC 6891 §6.2.3)
    Row("a query of 600 octets", edns(option(12, bytes(550))), NOERROR, _with_opt),
    Row("a query of 1232 octets", edns(option(12, bytes(1183))), NOERROR, _with_opt),
    Row("a query of 4096 octets", edns(option(65001, bytes(4047))), NOERROR, _no_options),
    Row("a query of 65535 octets", edns(option(12, bytes(65486))), NOERROR, _with_opt, STREAMS),
    # header bits (RFC 1035 §4.1.1, RFC 8906 §8.1.3)
    *[
        Row(f"flags {flags:#06x}", message(question(), flags=flags), NOERROR, _answered)
        for flags in (0x0000, 0x0010, 0x0020, 0x0040, 0x0080, 0x0200, 0x0400, 0x0001, 0x0005, 0x000F, 0x07FF)
    ],
    # classes (RFC 1035 §3.2.4)
    *[
        Row(f"class {rclass}", query_for(A, rclass), REFUSED, _empty)
        for rclass in (0, 2, CH, HS, 5, NONE, ANY_CLASS, 4096, 65535)
    ],
    Row("class CH, version.bind", query_for(TXT, CH, name("version.bind")), REFUSED, _empty),
    # types (RFC 8906 §8.1.2, RFC 6895 §3.1, RFC 5936 §4.2, RFC 8482)
    *[Row(f"type {rtype}", query_for(rtype), NOERROR, _empty) for rtype in (NULL, SIG, NXT, RRSIG, 1000, 65280, 65535)],
    Row("ANY", query_for(ANY), NOERROR),
    Row("AXFR without transfer", query_for(AXFR, qname=name("example.test")), REFUSED, _empty),
    Row("IXFR without transfer", query_for(IXFR, qname=name("example.test")), REFUSED, _empty),
    Row("MAILA", query_for(MAILA), NOERROR, _empty),
    Row("MAILB", query_for(MAILB), NOERROR, _empty),
    Row("TKEY", query_for(TKEY), NOERROR, _empty),
    Row("type 0", query_for(0), NOERROR, _empty),
    Row("type OPT", query_for(OPT), NOERROR, _empty),
    Row("type TSIG", query_for(TSIG), NOERROR, _empty),
    # names that are nothing to this server
    Row("the root", query_for(SOA, qname=b"\0"), REFUSED, _empty),
    Row("another zone", query_for(A, qname=name("www.example.com")), REFUSED, _empty),
    Row("no such name", query_for(A, qname=name("none.example.test")), NXDOMAIN, _empty),
)

"""The checks of ISC's DNS compliance test, and the checks of RFC 8906 §8 that have the same queries.

All of them query the zone, without RD unless the check is about RD. The queries are those of ISC's program `genreport`.
Each check is a row of TESTS: a query, and the rules for its reply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from svcdns.conformance.check import Check
from svcdns.conformance.examiner import Answer, Examiner
from svcdns.conformance.outcome import Severity
from svcdns.conformance.queries import Opt, Query
from svcdns.conformance.replies import Reply
from svcdns.wire.codes import AA, AD, CD, RA, RD, TC, OptionCode, Rcode, Type, Z

GROUP: Final = "isc"
REQUIRED, RECOMMENDED = Severity.REQUIRED, Severity.RECOMMENDED
DO: Final = 0x8000
SIZE: Final = 4096
UNKNOWN_OPTION: Final = (100, b"")
UNKNOWN_TYPE: Final = 666
UNKNOWN_OPCODE: Final = 15
CLIENT_COOKIE: Final = bytes(range(1, 9))
NSID: Final = (int(OptionCode.NSID), b"")
SUBNET: Final = (int(OptionCode.CLIENT_SUBNET), b"\0\1\0\0")
EXPIRE: Final = (int(OptionCode.EXPIRE), b"")
COOKIE: Final = (int(OptionCode.COOKIE), CLIENT_COOKIE)

Rule = tuple[Callable[[Reply], object], str]
"""What must hold for a reply: the function returns a true value if it does. The text says what was expected."""


@dataclass(frozen=True, slots=True)
class Test:
    """A query for the zone, the response code, and the rules for the reply."""

    name: str
    severity: Severity
    source: str
    explains: str
    query: Query
    rcode: int
    rules: tuple[Rule, ...]

    def asked(self, zone: str) -> Query:
        """Returns the query for this zone."""
        return replace(self.query, name=zone)


def _options(reply: Reply) -> dict[int, bytes]:
    return dict(reply.opt.options) if reply.opt else {}


def _is_cookie(data: bytes | None) -> bool:
    return data is None or (data.startswith(CLIENT_COOKIE) and 16 <= len(data) <= 40)


_SOA: Final[Rule] = (lambda r: r.data(Type.SOA), "the zone's SOA record in the answer")
_NO_ANSWER: Final[Rule] = (lambda r: not r.answer, "no answer records")
_NO_OPT: Final[Rule] = (lambda r: r.opt is None, "no OPT record, as none was sent")
_AA: Final[Rule] = (lambda r: r.has(AA), "AA set")
_CLEAR: Final[Rule] = (lambda r: not r.has(TC | Z | AD), "TC, AD and the reserved bit clear")
_VERSION: Final[Rule] = (lambda r: r.opt is not None and r.opt.version == 0, "an OPT record of EDNS version 0")
_FLAGS: Final[Rule] = (lambda r: r.opt and not r.opt.flags & 0x7FFF, "the reserved EDNS flags clear")
_DO: Final[Rule] = (lambda r: r.opt and r.opt.flags & DO, "DO set")
_NO_DO: Final[Rule] = (lambda r: r.opt and not r.opt.flags & DO, "DO clear")
_NO_OPTIONS: Final[Rule] = (lambda r: not _options(r), "no EDNS option")
_UNKNOWN: Final[Rule] = (lambda r: UNKNOWN_OPTION[0] not in _options(r), "no option 100 in the reply")
_COOKIE: Final[Rule] = (
    lambda r: _is_cookie(_options(r).get(OptionCode.COOKIE)),
    "no cookie, or the client's cookie followed by a server cookie",
)
_EXPIRE: Final[Rule] = (
    lambda r: len(_options(r).get(OptionCode.EXPIRE, bytes(4))) == 4,
    "no EXPIRE option, or one of 4 octets",
)
_SUBNET: Final[Rule] = (
    lambda r: _options(r).get(OptionCode.CLIENT_SUBNET, SUBNET[1])[:3] == SUBNET[1][:3],
    "no client subnet, or the client's",
)
_SMALL: Final[Rule] = (lambda r: r.size <= 512, "at most 512 octets")
_OPCODE: Final[Rule] = (lambda r: r.opcode == UNKNOWN_OPCODE, f"opcode {UNKNOWN_OPCODE}")
_NO_AA: Final[Rule] = (lambda r: not r.has(AA), "AA clear")
_EMPTY: Final[Rule] = (lambda r: not (r.answer or r.authority or r.additional), "empty sections")
_PLAIN: Final = (_SOA, _AA, _CLEAR, _NO_OPT)
_EDNS: Final = (_SOA, _VERSION, _FLAGS)
_BAD_VERSION: Final = (_NO_ANSWER, _VERSION, _FLAGS, _NO_OPTIONS)


def _header(name: str, flags: int, explains: str, section: str, severity: Severity = RECOMMENDED) -> Test:
    return Test(name, severity, f"ISC, {name}; {section}", explains, Query("", Type.SOA, flags=flags), 0, _PLAIN)


def _edns(
    name: str,
    section: str,
    explains: str,
    *more: Rule,
    options: tuple[tuple[int, bytes], ...] = (),
    edns_flags: int = 0,
    flags: int = 0,
    severity: Severity = REQUIRED,
) -> Test:
    query = Query("", Type.SOA, flags=flags, opts=(Opt(SIZE, 0, edns_flags, options),))
    return Test(name, severity, f"ISC, {name}; {section}", explains, query, 0, (*_EDNS, *more))


def _edns1(
    name: str,
    section: str,
    explains: str,
    *more: Rule,
    options: tuple[tuple[int, bytes], ...] = (),
    edns_flags: int = 0,
    severity: Severity = REQUIRED,
) -> Test:
    query = Query("", Type.SOA, flags=0, opts=(Opt(SIZE, 1, edns_flags, options),))
    return Test(name, severity, f"ISC, {name}; {section}", explains, query, Rcode.BADVERS, (*_BAD_VERSION, *more))


_DNSKEY: Final = Query("", Type.DNSKEY, flags=0, opts=(Opt(512, 0, DO),))

TESTS: Final = (
    _header(
        "dns", 0, "A query without EDNS gets the zone's SOA record, and no OPT record.", "RFC 8906 §8.1.1", REQUIRED
    ),
    _header("aa", AA, "AA in a query is ignored.", "RFC 1035 §4.1.1"),
    _header("ad", AD, "AD in a query does not change the answer.", "RFC 8906 §8.1.3"),
    _header("cd", CD, "CD in a query does not change the answer.", "RFC 8906 §8.1.3"),
    _header("ra", RA, "RA in a query is ignored.", "RFC 1035 §4.1.1"),
    _header("rd", RD, "RD in a query does not change the answer.", "RFC 8906 §8.1.3"),
    _header("tc", TC, "TC in a query is ignored.", "RFC 1035 §4.1.1"),
    _header("zflag", Z, "The reserved header bit in a query is ignored, and clear in the reply.", "RFC 8906 §8.1.3"),
    Test(
        "opcode", RECOMMENDED, "ISC, opcode; RFC 8906 §8.1.4", "A header with an unknown opcode gets NOTIMP.",
        Query("", 0, flags=0, opcode=UNKNOWN_OPCODE, repeat=0), Rcode.NOTIMP, (_OPCODE, _EMPTY, _NO_AA),
    ),
    Test(
        "opcodeflg", RECOMMENDED, "ISC, opcodeflg; RFC 8906 §8.1.4",
        "A header with an unknown opcode and all header bits gets NOTIMP, with AA and the reserved bit clear.",
        Query("", 0, flags=AA | TC | RD | RA | Z | AD | CD, opcode=UNKNOWN_OPCODE, repeat=0), Rcode.NOTIMP,
        (_OPCODE, _EMPTY, _NO_AA, (lambda r: not r.has(Z), "the reserved bit clear")),
    ),
    Test(
        "type666", RECOMMENDED, "ISC, type666; RFC 8906 §8.1.2", "A query for an unknown type gets NODATA.",
        Query("", UNKNOWN_TYPE, flags=0), 0, (_NO_ANSWER, _AA, _CLEAR, _NO_OPT),
    ),
    Test(
        "tcp", REQUIRED, "ISC, tcp; RFC 8906 §8.1.5", "A query over TCP gets the zone's SOA record.",
        Query("", Type.SOA, flags=0, tcp=True), 0, _PLAIN,
    ),
    _edns(
        "edns", "RFC 8906 §8.2.1", "A query with EDNS version 0 gets the SOA record, and an OPT record of version 0.",
        _NO_OPTIONS, _NO_DO,
    ),
    _edns1(
        "edns1", "RFC 8906 §8.2.2", "An unknown EDNS version gets BADVERS, with an OPT record of version 0 and no SOA."
    ),
    Test(
        "edns@512", REQUIRED, "ISC, edns@512; RFC 8906 §8.2.7",
        "A query for DNSKEY with DO and a size of 512 gets NOERROR, an OPT record of version 0, and at most 512 octets.",
        _DNSKEY, 0, (_VERSION, _SMALL),
    ),
    _edns(
        "ednsopt", "RFC 8906 §8.2.3", "An unknown option is ignored and is not in the reply.", _UNKNOWN,
        options=(UNKNOWN_OPTION,),
    ),
    _edns1(
        "edns1opt", "RFC 8906 §8.2.6", "An unknown version with an unknown option gets BADVERS, without the option.",
        options=(UNKNOWN_OPTION,),
    ),
    _edns("do", "RFC 8906 §8.2.8", "DO is copied into the reply.", _DO, edns_flags=DO, severity=RECOMMENDED),
    _edns(
        "docd", "RFC 8906 §8.2.8", "DO is copied into the reply to a query with CD.", _DO, edns_flags=DO, flags=CD,
        severity=RECOMMENDED,
    ),
    _edns1("edns1do", "RFC 8906 §8.2.9", "DO is copied into BADVERS.", _DO, edns_flags=DO, severity=RECOMMENDED),
    _edns(
        "ednsflags", "RFC 8906 §8.2.4", "Unknown EDNS flags are ignored, and clear in the reply.", edns_flags=0x80
    ),
    _edns1(
        "edns1flags", "RFC 8906 §8.2.5", "An unknown version with unknown flags gets BADVERS, with the flags clear.",
        edns_flags=0x80,
    ),
    _edns(
        "optlist", "RFC 8906 §8.2.10", "Several options at once do not change the answer.",
        _COOKIE, _EXPIRE, _SUBNET, options=(NSID, SUBNET, EXPIRE, COOKIE), severity=RECOMMENDED,
    ),
    _edns("ednsnsid", "RFC 5001 §2.2", "NSID does not change the answer.", options=(NSID,)),
    _edns(
        "ednscookie", "RFC 7873 §5.2", "A client cookie is ignored, or returned with a server cookie.", _COOKIE,
        options=(COOKIE,), severity=RECOMMENDED,
    ),
    _edns(
        "ednsexpire", "RFC 7314 §3.1", "EXPIRE is ignored, or answered with 4 octets.", _EXPIRE, options=(EXPIRE,), severity=RECOMMENDED
    ),
    _edns(
        "ednssubnet", "RFC 7871 §7.2", "A client subnet is ignored, or returned with a scope.", _SUBNET,
        options=(SUBNET,),
    ),
    _edns1("edns1nsid", "RFC 8906 §8.2.6", "An unknown version with NSID gets BADVERS.", options=(NSID,)),
    _edns1("edns1cookie", "RFC 8906 §8.2.6", "An unknown version with a cookie gets BADVERS.", options=(COOKIE,)),
    _edns1("edns1expire", "RFC 8906 §8.2.6", "An unknown version with EXPIRE gets BADVERS.", options=(EXPIRE,)),
    _edns1("edns1subnet", "RFC 8906 §8.2.6", "An unknown version with a client subnet gets BADVERS.", options=(SUBNET,)),
    Test(
        "ednstcp", REQUIRED, "ISC, ednstcp; RFC 7766 §5", "A query for DNSKEY with EDNS is answered over TCP.",
        replace(_DNSKEY, tcp=True), 0, (_VERSION,),
    ),
    _edns(
        "bind11", "RFC 7873 §5.2", "The query of a resolver with DO and a cookie is answered.", _DO, _COOKIE,
        options=(COOKIE,), edns_flags=DO, severity=RECOMMENDED,
    ),
    _edns(
        "dig11", "RFC 7873 §5.2", "The query of dig with AD, RD and a cookie is answered.", _COOKIE,
        options=(COOKIE,), flags=AD | RD, severity=RECOMMENDED,
    ),
)  # fmt: skip


async def _run(test: Test, examiner: Examiner) -> None:
    answer: Answer = (await examiner.send(test.asked(examiner.zone))).rcode(test.rcode)
    for holds, expected in test.rules:
        answer.require(holds(answer.reply), expected)


CHECKS: Final[dict[str, Check]] = {
    f"isc-{test.name}": Check(f"isc-{test.name}", GROUP, test.severity, test.source, test.explains, partial(_run, test))
    for test in TESTS
}

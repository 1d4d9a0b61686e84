"""Checks of EDNS(0): the eight queries of ISC's EDNS compliance test, and rules of RFC 8906 §8.2 and RFC 6891.

ISC's queries and expected replies are at kb.isc.org/docs/edns-compatibility-dig-queries. All of them query the SOA
record of the zone, without RD.
"""

from __future__ import annotations

from typing import Final

from svcdns.conformance.check import Check, checker
from svcdns.conformance.examiner import Answer, Examiner
from svcdns.conformance.outcome import Severity
from svcdns.conformance.queries import Opt, Query
from svcdns.wire.codes import Type

CHECKS: Final[dict[str, Check]] = {}
check = checker("edns", CHECKS)
REQUIRED, RECOMMENDED, INFORMATIONAL = Severity.REQUIRED, Severity.RECOMMENDED, Severity.INFORMATIONAL
UNKNOWN_OPTION: Final = (100, b"")
NSID, SUBNET, EXPIRE, COOKIE, PADDING = 3, 8, 9, 10, 12
DO: Final = 0x8000


async def _apex(examiner: Examiner, opt: Opt | None, rtype: int = Type.SOA, *, tcp: bool = False) -> Answer:
    return await examiner.query(examiner.zone, rtype, opt=opt, flags=0, tcp=tcp)


def _soa(answer: Answer) -> Answer:
    return answer.rcode(0).require(answer.reply.data(Type.SOA), "the zone's SOA record in the answer")


def _version_zero(answer: Answer) -> Answer:
    return answer.require(
        answer.reply.opt is not None and answer.reply.opt.version == 0, "an OPT record of EDNS version 0"
    )


def _codes(answer: Answer) -> set[int]:
    return {code for code, _ in answer.reply.opt.options} if answer.reply.opt else set()


@check("isc-dns", REQUIRED, "ISC EDNS compliance, dns; RFC 6891 §7")
async def isc_dns(examiner: Examiner) -> None:
    """A query without EDNS gets the zone's SOA record, and no OPT record."""
    answer = _soa(await _apex(examiner, None))
    answer.require(answer.reply.opt is None, "no OPT record, as none was sent")


@check("isc-edns", REQUIRED, "ISC EDNS compliance, edns; RFC 6891 §6.1.1")
async def isc_edns(examiner: Examiner) -> None:
    """A query with EDNS version 0 gets the zone's SOA record, and an OPT record of version 0."""
    _version_zero(_soa(await _apex(examiner, Opt())))


@check("isc-edns1", REQUIRED, "ISC EDNS compliance, edns1; RFC 6891 §6.1.3")
async def isc_edns1(examiner: Examiner) -> None:
    """An unknown EDNS version gets BADVERS, with an OPT record of version 0 and no SOA."""
    answer = _version_zero((await _apex(examiner, Opt(version=1))).rcode(16))
    answer.require(not answer.reply.answer, "no answer records")


@check("isc-edns@512", REQUIRED, "ISC EDNS compliance, edns@512; RFC 6891 §6.2.3")
async def isc_edns_512(examiner: Examiner) -> None:
    """A query for DNSKEY with DO and a size of 512 gets NOERROR, an OPT record of version 0, and at most 512 octets."""
    answer = _version_zero((await _apex(examiner, Opt(size=512, flags=DO), Type.DNSKEY)).rcode(0))
    answer.require(answer.reply.size <= 512, "at most 512 octets")


@check("isc-ednsopt", REQUIRED, "ISC EDNS compliance, ednsopt; RFC 6891 §6.1.2")
async def isc_ednsopt(examiner: Examiner) -> None:
    """An unknown option is ignored and is not in the reply."""
    answer = _version_zero(_soa(await _apex(examiner, Opt(options=(UNKNOWN_OPTION,)))))
    answer.require(UNKNOWN_OPTION[0] not in _codes(answer), "no option 100 in the reply")


@check("isc-edns1opt", REQUIRED, "ISC EDNS compliance, edns1opt; RFC 6891 §6.1.3")
async def isc_edns1opt(examiner: Examiner) -> None:
    """An unknown version with an unknown option gets BADVERS, without the option."""
    answer = _version_zero((await _apex(examiner, Opt(version=1, options=(UNKNOWN_OPTION,)))).rcode(16))
    answer.require(not answer.reply.answer and not _codes(answer), "no answer records and no option")


@check("isc-do", RECOMMENDED, "ISC EDNS compliance, do; RFC 3225 §3")
async def isc_do(examiner: Examiner) -> None:
    """DO is copied into the reply."""
    answer = _version_zero(_soa(await _apex(examiner, Opt(flags=DO))))
    answer.require(answer.reply.opt and answer.reply.opt.flags & DO, "DO set")


@check("isc-ednsflags", REQUIRED, "ISC EDNS compliance, ednsflags; RFC 6891 §6.1.4")
async def isc_ednsflags(examiner: Examiner) -> None:
    """Unknown EDNS flags are ignored, and clear in the reply."""
    answer = _version_zero(_soa(await _apex(examiner, Opt(flags=0x80))))
    answer.require(answer.reply.opt and not answer.reply.opt.flags & 0x7FFF, "the reserved EDNS flags clear")


@check("edns-options", RECOMMENDED, "RFC 8906 §8.2.9")
async def edns_options(examiner: Examiner) -> None:
    """Several options at once (NSID, client subnet, EXPIRE, COOKIE) do not change the answer."""
    options = ((NSID, b""), (SUBNET, b"\0\1\0\0"), (EXPIRE, b""), (COOKIE, bytes.fromhex("0123456789abcdef")))
    _version_zero(_soa(await _apex(examiner, Opt(options=options))))


@check("edns-cookie", INFORMATIONAL, "RFC 7873 §5.2, §5.2.3")
async def edns_cookie(examiner: Examiner) -> None:
    """A client cookie is ignored, or returned with a server cookie of 8 to 32 octets appended; the client cookie alone
    is invalid.
    """
    cookie = bytes.fromhex("0123456789abcdef")
    answer = _soa(await _apex(examiner, Opt(options=((COOKIE, cookie),))))
    given = [data for code, data in (answer.reply.opt.options if answer.reply.opt else ()) if code == COOKIE]
    answer.require(
        all(data.startswith(cookie) and 16 <= len(data) <= 40 for data in given),
        "no cookie, or the client's cookie followed by a server cookie",
    )


@check("edns-tcp", REQUIRED, "RFC 8906 §8.2.8, RFC 7766 §5")
async def edns_tcp(examiner: Examiner) -> None:
    """A query with EDNS gets the same answer over TCP as over UDP."""
    _version_zero(_soa(await _apex(examiner, Opt(), tcp=True)))


@check("edns-small", RECOMMENDED, "RFC 6891 §6.2.3")
async def edns_small(examiner: Examiner) -> None:
    """A size below 512 counts as 512: an answer that fits 512 octets is not truncated."""
    answer = _soa(await _apex(examiner, Opt(size=50)))
    answer.require(not answer.reply.has(0x0200), "TC clear")


@check("edns-two", RECOMMENDED, "RFC 6891 §6.1.1")
async def edns_two(examiner: Examiner) -> None:
    """A query with two OPT records gets FORMERR."""
    answer = await examiner.send(Query(examiner.zone, Type.SOA, flags=0, opts=(Opt(), Opt())))
    answer.rcode(1)


@check("edns-large-query", INFORMATIONAL, "RFC 6891 §6.2.4, RFC 7830 §3")
async def edns_large_query(examiner: Examiner) -> None:
    """A padded query of more than 512 octets is answered: a server accepts the size that it advertises."""
    _soa(await _apex(examiner, Opt(options=((PADDING, bytes(600)),))))

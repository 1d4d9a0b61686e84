"""Checks of EDNS(0) (RFC 6891), in addition to those of ISC's set (`isc`). All of them query the zone, without RD."""

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
COOKIE, PADDING = 10, 12


async def _apex(examiner: Examiner, opt: Opt | None, rtype: int = Type.SOA, *, tcp: bool = False) -> Answer:
    return await examiner.query(examiner.zone, rtype, opt=opt, flags=0, tcp=tcp)


def _soa(answer: Answer) -> Answer:
    return answer.rcode(0).require(answer.reply.data(Type.SOA), "the zone's SOA record in the answer")


def _version_zero(answer: Answer) -> Answer:
    return answer.require(
        answer.reply.opt is not None and answer.reply.opt.version == 0, "an OPT record of EDNS version 0"
    )


@check("edns-size", RECOMMENDED, "RFC 6891 §6.2.3")
async def edns_size(examiner: Examiner) -> None:
    """The size in a reply is the server's own, at least 512, and the same for each size of the query."""
    sizes = []
    for size in (512, 1232, 4096):
        answer = _soa(await _apex(examiner, Opt(size=size)))
        sizes.append(answer.reply.opt.size if answer.reply.opt else 0)
    answer.require(len(set(sizes)) == 1 and sizes[0] >= 512, f"one size of at least 512 octets; the sizes are {sizes}")


@check("edns-bad-cookie", RECOMMENDED, "RFC 7873 §5.2.2")
async def edns_bad_cookie(examiner: Examiner) -> None:
    """A cookie of a wrong size gets FORMERR, or is ignored by a server without cookies; it is never sent back."""
    answer = await _apex(examiner, Opt(options=((COOKIE, b"bad"),)))
    answer.rcode(0, 1)
    given = [code for code, _ in (answer.reply.opt.options if answer.reply.opt else ())]
    answer.require(COOKIE not in given, "no cookie in the reply")


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

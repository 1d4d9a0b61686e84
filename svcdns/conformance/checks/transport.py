"""Checks of UDP and TCP: truncation, large answers, several queries on one connection."""

from __future__ import annotations

from typing import Final

from svcdns.conformance import expected
from svcdns.conformance.check import SPEC, Check, checker
from svcdns.conformance.cluster_model import Service
from svcdns.conformance.examiner import Answer, Examiner
from svcdns.conformance.outcome import Severity
from svcdns.conformance.queries import Opt, Query
from svcdns.wire.codes import TC, Type

CHECKS: Final[dict[str, Check]] = {}
check = checker("transport", CHECKS)
REQUIRED, RECOMMENDED, INFORMATIONAL = Severity.REQUIRED, Severity.RECOMMENDED, Severity.INFORMATIONAL
BIG: Final = 30
"""More A records than this do not fit into 512 octets: with name compression each takes 16 octets."""


def _big(examiner: Examiner, at_least: int = BIG) -> Service:
    """Returns the headless Service with the most endpoints.

    Raises Skipped if it does not have more than `at_least`.
    """
    sized = [s for s in examiner.cluster.services if s.headless and len(expected.addresses(s, 4)) > at_least]
    return max(
        examiner.sample(sized, f"no headless Service has more than {at_least} IPv4 endpoints"),
        key=lambda s: len(s.endpoints),
    )


def _sound(answer: Answer, service: Service, limit: int) -> None:
    """Raises Failed if the reply has more than `limit` octets, or an address that the Service does not have.

    TC must be set if an address is missing, and clear if none is missing.
    """
    wanted, found = expected.addresses(service, 4), set(answer.rcode(0).reply.data(Type.A))
    answer.require(answer.reply.size <= limit, f"at most {limit} octets")
    answer.require(found <= wanted, "no address but those of the endpoints")
    answer.require(
        found == wanted or answer.reply.has(TC), f"TC set: the answer has {len(found)} of {len(wanted)} addresses"
    )
    answer.require(found != wanted or not answer.reply.has(TC), "TC clear: the answer is complete")


@check("truncation-plain", REQUIRED, "RFC 1035 §4.2.1, RFC 2181 §9")
async def truncation_plain(examiner: Examiner) -> None:
    """Without EDNS a reply over UDP has at most 512 octets, and TC set if the answer is truncated."""
    service = _big(examiner)
    _sound(await examiner.query(expected.service_name(service, examiner.zone)), service, 512)


@check("truncation-edns", REQUIRED, "RFC 6891 §6.2.3, RFC 2181 §9")
async def truncation_edns(examiner: Examiner) -> None:
    """With EDNS a reply over UDP has at most the advertised size, and TC set if the answer is truncated."""
    service = _big(examiner)
    for size in (512, 700, 1232, 4096):
        _sound(await examiner.query(expected.service_name(service, examiner.zone), opt=Opt(size=size)), service, size)


@check("truncation-retry", REQUIRED, "RFC 7766 §5, RFC 2181 §9")
async def truncation_retry(examiner: Examiner) -> None:
    """After a truncated reply, the same query over TCP gets the whole RRset, with TC clear."""
    service = _big(examiner)
    name = expected.service_name(service, examiner.zone)
    first = await examiner.query(name)
    first.require(first.reply.has(TC), "TC set")
    answer = await examiner.query(name, tcp=True)
    answer.exactly(Type.A, expected.addresses(service, 4)).require(not answer.reply.has(TC), "TC clear")


@check("big-srv", REQUIRED, f"RFC 7766 §5; {SPEC} §2.4.2")
async def big_srv(examiner: Examiner) -> None:
    """Over TCP a large headless Service has all its SRV records, one for each endpoint."""
    service = _big(examiner)
    ports = examiner.sample(expected.named_ports(service), "the big headless Service has no named port")
    answer = await examiner.query(expected.port_name(ports[0], service, examiner.zone), Type.SRV, tcp=True)
    count = len(expected.headless_srv(service, ports[0], examiner.zone)) + expected.nameless_srv(service, ports[0])
    answer.rcode(0).require(len(answer.reply.data(Type.SRV)) == count, f"{count} SRV records")
    answer.require(not answer.reply.has(TC) or len(answer.reply.data(Type.SRV)) == count, "the complete answer")


def _queries(examiner: Examiner) -> list[Query]:
    """Returns several queries, some for names that exist and some for names that do not."""
    services = examiner.sample([s for s in examiner.cluster.services if s.cluster_ips], "no Service has a ClusterIP")[
        :4
    ]
    out = [Query(expected.service_name(s, examiner.zone), t, tcp=True) for s in services for t in (Type.A, Type.AAAA)]
    out.append(Query(examiner.under(examiner.nonexistent_label(), "svc"), tcp=True))
    return [*out, Query(examiner.under("dns-version"), Type.TXT, tcp=True)]


async def _compare(examiner: Examiner, answers: list[Answer]) -> None:
    """Sends each query again on its own connection. Raises Failed if an answer differs from that in `answers`."""
    for answer in answers:
        alone = await examiner.send(answer.query)
        same = (alone.reply.rcode, sorted(line.data for line in alone.reply.answer))
        answer.require(
            (answer.reply.rcode, sorted(line.data for line in answer.reply.answer)) == same,
            "the same answer as on a connection of its own",
        )


@check("tcp", REQUIRED, "RFC 7766 §5")
async def tcp(examiner: Examiner) -> None:
    """TCP is served, with the same answers as UDP."""
    for query in _queries(examiner):
        over_tcp = await examiner.send(query)
        over_udp = await examiner.query(query.name, query.rtype)
        same = (over_udp.reply.rcode, sorted(line.data for line in over_udp.reply.answer))
        over_tcp.require(
            (over_tcp.reply.rcode, sorted(line.data for line in over_tcp.reply.answer)) == same,
            "the same answer as over UDP",
        )


@check("tcp-reuse", REQUIRED, "RFC 7766 §6.2.1")
async def tcp_reuse(examiner: Examiner) -> None:
    """Several queries on one connection, one after another, are all answered."""
    await _compare(examiner, await examiner.in_turn(_queries(examiner)))


@check("tcp-pipelining", REQUIRED, "RFC 7766 §6.2.1.1, §7")
async def tcp_pipelining(examiner: Examiner) -> None:
    """Several queries sent at once on one connection are all answered, each with its id, in any order."""
    await _compare(examiner, await examiner.pipelined(_queries(examiner)))


@check("tcp-pieces", REQUIRED, "RFC 7766 §8")
async def tcp_pieces(examiner: Examiner) -> None:
    """A message that arrives in several segments, even with the length split, is reassembled."""

    def pieces(stream: bytes) -> list[bytes]:
        return [stream[:1], stream[1:2], stream[2:9], *(stream[i : i + 40] for i in range(9, len(stream), 40))]

    await _compare(examiner, await examiner.pipelined(_queries(examiner)[:3], pieces))


@check("udp-many", REQUIRED, "RFC 1035 §4.2.1")
async def udp_many(examiner: Examiner) -> None:
    """A burst of queries from one socket, as from a busy resolver, is answered completely."""
    queries = [Query(examiner.zone, Type.SOA) for _ in range(32)]
    for answer in await examiner.together(queries):
        answer.rcode(0)

"""Nonexistent names and types: NXDOMAIN, NODATA, and the SOA record that says how long resolvers may cache them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from svcdns.conformance import expected
from svcdns.conformance.check import SPEC, Check, checker
from svcdns.conformance.cluster_model import Service
from svcdns.conformance.examiner import Answer, Examiner
from svcdns.conformance.outcome import Severity
from svcdns.wire import names
from svcdns.wire.codes import Type, type_text

CHECKS: Final[dict[str, Check]] = {}
check = checker("existence", CHECKS)
REQUIRED, RECOMMENDED, INFORMATIONAL = Severity.REQUIRED, Severity.RECOMMENDED, Severity.INFORMATIONAL


def _one(examiner: Examiner) -> Service:
    """A Service with an IPv4 ClusterIP alone, or any with a ClusterIP. Raises Skipped."""
    found = [s for s in examiner.cluster.services if s.cluster_ips]
    found.sort(key=lambda s: (bool(s.of_family(6)), s.namespace, s.name))
    return examiner.some(found, "no Service has a ClusterIP")[0]


def _namespace(examiner: Examiner) -> str:
    return _one(examiner).namespace


@check("nxdomain-service", REQUIRED, "RFC 2308 §2.1, RFC 1035 §4.1.1")
async def nxdomain_service(examiner: Examiner) -> None:
    """A Service that does not exist, in a namespace that does, is NXDOMAIN for A and for AAAA."""
    name = examiner.under(examiner.nonexistent_label(), _namespace(examiner), "svc")
    for rtype in (Type.A, Type.AAAA):
        (await examiner.ask(name, rtype)).no_name()


@check("nxdomain-namespace", REQUIRED, "RFC 2308 §2.1")
async def nxdomain_namespace(examiner: Examiner) -> None:
    """A Service in a namespace that does not exist is NXDOMAIN, and so is the namespace."""
    namespace = examiner.nonexistent_label()
    (await examiner.ask(examiner.under("kubernetes", namespace, "svc"))).no_name()
    (await examiner.ask(examiner.under(namespace, "svc"))).no_name()


@check("nxdomain-zone", REQUIRED, "RFC 2308 §2.1")
async def nxdomain_zone(examiner: Examiner) -> None:
    """A name directly below the zone that is none of the schema's is NXDOMAIN."""
    (await examiner.ask(examiner.under(examiner.nonexistent_label()))).no_name()
    (await examiner.ask(examiner.under("www", examiner.nonexistent_label()))).no_name()


@check("nxdomain-endpoint", REQUIRED, f"{SPEC} §2.4.1, RFC 2308 §2.1")
async def nxdomain_endpoint(examiner: Examiner) -> None:
    """A hostname that no ready endpoint has is NXDOMAIN below a headless Service."""
    for service in examiner.some([s for s in examiner.cluster.services if s.headless], "no Service is headless")[:3]:
        (await examiner.ask(expected.endpoint_name(examiner.nonexistent_label(), service, examiner.zone))).no_name()


@check("nxdomain-port", REQUIRED, f"{SPEC} §2.3.2, RFC 2308 §2.1")
async def nxdomain_port(examiner: Examiner) -> None:
    """SRV for a port or a protocol that a Service does not have is NXDOMAIN."""
    name = expected.service_name(_one(examiner), examiner.zone)
    (await examiner.ask(f"_absent._tcp.{name}", Type.SRV)).no_name()
    for port in expected.named_ports(_one(examiner))[:1]:
        (await examiner.ask(f"_{port.name}._sctp.{name}", Type.SRV)).no_name()


@check("nxdomain-deep", RECOMMENDED, "RFC 2308 §2.1")
async def nxdomain_deep(examiner: Examiner) -> None:
    """Names further below a Service than the schema goes are NXDOMAIN."""
    (await examiner.ask(f"a.b.c.{expected.service_name(_one(examiner), examiner.zone)}")).no_name()


@check("wildcard-literal", RECOMMENDED, f"{SPEC} §3, RFC 4592 §2.3")
async def wildcard_literal(examiner: Examiner) -> None:
    """An asterisk in a query name is a label like any other: it matches no Service."""
    (await examiner.ask(examiner.under("*", _namespace(examiner), "svc"))).no_name()


@check("nodata-family", REQUIRED, "RFC 2308 §2.2, RFC 4074 §3")
async def nodata_family(examiner: Examiner) -> None:
    """AAAA for a Service with IPv4 alone, or A for one with IPv6 alone, is NODATA, never NXDOMAIN: resolvers would take the name for
    absent.
    """
    single = [
        (s, v)
        for s in examiner.cluster.services
        if s.cluster_ips or (s.headless and s.endpoints)
        for v in (4, 6)
        if not expected.addresses(s, v)
    ]
    for service, version in examiner.some(single, "every Service is dual-stack"):
        (await examiner.ask(expected.service_name(service, examiner.zone), Type.A if version == 4 else Type.AAAA)).no_data()


@check("nodata-type", REQUIRED, "RFC 2308 §2.2")
async def nodata_type(examiner: Examiner) -> None:
    """A type that a Service does not have (MX, TXT, NAPTR, HTTPS) is NODATA."""
    for rtype in (Type.MX, Type.TXT, Type.NAPTR, Type.HTTPS):
        (await examiner.ask(expected.service_name(_one(examiner), examiner.zone), rtype)).no_data()


@check("nodata-inner", RECOMMENDED, "RFC 8020 §2, RFC 4592 §2.2.2")
async def nodata_inner(examiner: Examiner) -> None:
    """The names between the zone and its Services (svc and each namespace below it) exist: NODATA."""
    for name in (examiner.under("svc"), examiner.under(_namespace(examiner), "svc")):
        (await examiner.ask(name)).no_data()


@check("nodata-protocol", RECOMMENDED, "RFC 8020 §2")
async def nodata_protocol(examiner: Examiner) -> None:
    """_tcp.<service> exists where a port is below it: NODATA. NXDOMAIN there lets caches deny the port too."""
    ports = [(s, p) for s in examiner.cluster.services if s.cluster_ips for p in expected.named_ports(s)]
    service, port = examiner.some(ports, "no Service has a named port")[0]
    (await examiner.ask(f"_{port.protocol}.{expected.service_name(service, examiner.zone)}")).no_data()


@check("nodata-reverse", RECOMMENDED, "RFC 8020 §2")
async def nodata_reverse(examiner: Examiner) -> None:
    """A reverse name above one that has a PTR record exists: NODATA, not NXDOMAIN."""
    service = examiner.some([s for s in examiner.cluster.services if s.of_family(4)], "no Service has an IPv4 ClusterIP")[0]
    name = expected.reverse_name(service.of_family(4)[0]).partition(".")[2]
    answer = await examiner.ask(name, Type.PTR)
    answer.need(answer.reply.rcode != 3, "NODATA: there are names below")


@check("reverse-absent", RECOMMENDED, f"{SPEC} §2.3.3")
async def reverse_absent(examiner: Examiner) -> None:
    """The reverse name of an address that nothing in the cluster has gives no name in the zone."""
    free = next(f"198.51.100.{n}" for n in range(1, 255) if not examiner.cluster.holders(f"198.51.100.{n}"))
    answer = await examiner.ask(expected.reverse_name(free), Type.PTR)
    inside = [target for target in answer.reply.data(Type.PTR) if target.endswith("." + examiner.zone)]
    answer.need(not inside, f"no PTR record with a name in {examiner.zone}")


@check("absent-any-type", RECOMMENDED, "RFC 2308 §2.1, RFC 8020 §2")
async def absent_any_type(examiner: Examiner) -> None:
    """A name that does not exist does not exist for any type: NXDOMAIN for A, TXT, SRV and SOA alike."""
    name = examiner.under(examiner.nonexistent_label(), _namespace(examiner), "svc")
    for rtype in (Type.A, Type.TXT, Type.SRV, Type.SOA):
        answer = await examiner.ask(name, rtype)
        answer.need(answer.reply.rcode == 3, f"NXDOMAIN for {type_text(rtype)}, as for A")


@check("present-any-type", RECOMMENDED, "RFC 2308 §2.2")
async def present_any_type(examiner: Examiner) -> None:
    """A name that exists does so for every type: a namespace and the zone itself are NODATA for TXT, as for A."""
    for name in (examiner.zone, examiner.under(_namespace(examiner), "svc")):
        for rtype in (Type.A, Type.TXT):
            answer = await examiner.ask(name, rtype)
            answer.need(answer.reply.rcode == 0, f"NOERROR for {type_text(rtype)}")


async def _negatives(examiner: Examiner) -> AsyncIterator[Answer]:
    yield (await examiner.ask(examiner.under(examiner.nonexistent_label(), _namespace(examiner), "svc"))).no_name()
    yield (await examiner.ask(expected.service_name(_one(examiner), examiner.zone), Type.MX)).no_data()


def _soa(answer: Answer) -> list[str]:
    """The fields of the SOA in the authority section, of which there is one, at the name asked or above it."""
    lines = [line for line in answer.reply.authority if line.rtype == Type.SOA]
    answer.need(len(lines) == 1, "one SOA record in the authority section")
    asked, owner = (names.from_text(name).lower() for name in (answer.query.name, lines[0].owner))
    answer.need(names.is_within(asked, owner), "an SOA record of the zone that the name is in")
    return [str(lines[0].ttl), *lines[0].data.split()]


@check("negative-soa", REQUIRED, "RFC 2308 §3")
async def negative_soa(examiner: Examiner) -> None:
    """NXDOMAIN and NODATA answers have the zone's SOA record in their authority section; without it no resolver may cache them."""
    async for answer in _negatives(examiner):
        _soa(answer)


@check("negative-ttl", RECOMMENDED, "RFC 2308 §3")
async def negative_ttl(examiner: Examiner) -> None:
    """The TTL of the SOA in a negative answer is not above the SOA's MINIMUM field."""
    async for answer in _negatives(examiner):
        fields = _soa(answer)
        answer.need(int(fields[0]) <= int(fields[-1]), f"an SOA record with a TTL of at most its MINIMUM, {fields[-1]}")


@check("apex-soa", RECOMMENDED, "RFC 1034 §4.2.1")
async def apex_soa(examiner: Examiner) -> None:
    """The zone has its SOA record at its apex, with the TTL and fields of a zone."""
    answer = await examiner.ask(examiner.zone, Type.SOA)
    found = [line for line in answer.rcode(0).reply.answer if line.rtype == Type.SOA]
    answer.need(len(found) == 1 and found[0].owner.lower() == examiner.zone, f"one SOA record at {examiner.zone}")


@check("authoritative", RECOMMENDED, "RFC 1035 §4.1.1")
async def authoritative(examiner: Examiner) -> None:
    """Answers about the zone, negative ones too, have AA set. A cache in between rightly clears it."""
    async for answer in _negatives(examiner):
        answer.need(answer.reply.has(0x0400), "AA set")
    answer = await examiner.ask(expected.service_name(_one(examiner), examiner.zone))
    answer.need(answer.reply.has(0x0400), "AA set")


@check("rrset", RECOMMENDED, "RFC 2181 §5.2, §5")
async def rrset(examiner: Examiner) -> None:
    """The records of a set have one TTL, and none of them is there twice."""
    services = [s for s in examiner.cluster.services if s.cluster_ips or (s.headless and s.endpoints)]
    for service in examiner.some(services, "no Service has an address"):
        answer = await examiner.ask(expected.service_name(service, examiner.zone), tcp=True)
        lines = [line for line in answer.reply.answer if line.rtype == Type.A]
        answer.need(len({line.ttl for line in lines}) <= 1, "A records with one TTL")
        answer.need(len({line.data for line in lines}) == len(lines), "no A record twice")


@check("case-insensitive", REQUIRED, f"{SPEC} §2.1, RFC 4343 §3")
async def case_insensitive(examiner: Examiner) -> None:
    """Upper and lower case find the same Service."""
    service = _one(examiner)
    version = 4 if service.of_family(4) else 6
    rtype = Type.A if version == 4 else Type.AAAA
    for name in (expected.service_name(service, examiner.zone).upper(), expected.service_name(service, examiner.zone).title()):
        answer = await examiner.ask(name, rtype)
        answer.rcode(0).need(set(answer.reply.data(rtype)) == expected.addresses(service, version), "the same addresses as in lower case")

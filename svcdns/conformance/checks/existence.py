"""Checks of nonexistent names and types: NXDOMAIN, NODATA, and the SOA record in such replies."""

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
    """Returns a Service whose only ClusterIP is IPv4.

    If there is none, returns any Service with a ClusterIP. Raises Skipped if no Service has a ClusterIP.
    """
    found = [s for s in examiner.cluster.services if s.cluster_ips]
    found.sort(key=lambda s: (bool(s.of_family(6)), s.namespace, s.name))
    return examiner.sample(found, "no Service has a ClusterIP")[0]


def _namespace(examiner: Examiner) -> str:
    return _one(examiner).namespace


@check("nxdomain-service", REQUIRED, "RFC 2308 §2.1, RFC 1035 §4.1.1")
async def nxdomain_service(examiner: Examiner) -> None:
    """A nonexistent Service in an existing namespace gets NXDOMAIN for A and for AAAA."""
    name = examiner.under(examiner.nonexistent_label(), _namespace(examiner), "svc")
    for rtype in (Type.A, Type.AAAA):
        (await examiner.query(name, rtype)).no_name()


@check("nxdomain-namespace", REQUIRED, "RFC 2308 §2.1")
async def nxdomain_namespace(examiner: Examiner) -> None:
    """A Service in a nonexistent namespace gets NXDOMAIN, and so does the namespace."""
    namespace = examiner.nonexistent_label()
    (await examiner.query(examiner.under("kubernetes", namespace, "svc"))).no_name()
    (await examiner.query(examiner.under(namespace, "svc"))).no_name()


@check("nxdomain-zone", REQUIRED, "RFC 2308 §2.1")
async def nxdomain_zone(examiner: Examiner) -> None:
    """A name directly below the zone that the schema does not define gets NXDOMAIN."""
    (await examiner.query(examiner.under(examiner.nonexistent_label()))).no_name()
    (await examiner.query(examiner.under("www", examiner.nonexistent_label()))).no_name()


@check("nxdomain-endpoint", REQUIRED, f"{SPEC} §2.4.1, RFC 2308 §2.1")
async def nxdomain_endpoint(examiner: Examiner) -> None:
    """A hostname that no ready endpoint has gets NXDOMAIN below a headless Service."""
    for service in examiner.sample([s for s in examiner.cluster.services if s.headless], "no Service is headless")[:3]:
        (await examiner.query(expected.endpoint_name(examiner.nonexistent_label(), service, examiner.zone))).no_name()


@check("nxdomain-port", REQUIRED, f"{SPEC} §2.3.2, RFC 2308 §2.1")
async def nxdomain_port(examiner: Examiner) -> None:
    """SRV for a port or a protocol that a Service does not have gets NXDOMAIN."""
    name = expected.service_name(_one(examiner), examiner.zone)
    (await examiner.query(f"_absent._tcp.{name}", Type.SRV)).no_name()
    for port in expected.named_ports(_one(examiner))[:1]:
        (await examiner.query(f"_{port.name}._sctp.{name}", Type.SRV)).no_name()


@check("nxdomain-deep", RECOMMENDED, "RFC 2308 §2.1")
async def nxdomain_deep(examiner: Examiner) -> None:
    """A name below a Service gets NXDOMAIN if it has more labels than the schema allows."""
    (await examiner.query(f"a.b.c.{expected.service_name(_one(examiner), examiner.zone)}")).no_name()


@check("wildcard-literal", RECOMMENDED, f"{SPEC} §3, RFC 4592 §2.3")
async def wildcard_literal(examiner: Examiner) -> None:
    """An asterisk in a query name is an ordinary label: it matches no Service."""
    (await examiner.query(examiner.under("*", _namespace(examiner), "svc"))).no_name()


@check("nodata-family", REQUIRED, "RFC 2308 §2.2, RFC 4074 §3")
async def nodata_family(examiner: Examiner) -> None:
    """AAAA for a Service with IPv4 only, or A for one with IPv6 only, gets NODATA: NXDOMAIN would deny the whole
    name.
    """
    single = [
        (s, v)
        for s in examiner.cluster.services
        if s.cluster_ips or (s.headless and s.endpoints)
        for v in (4, 6)
        if not expected.addresses(s, v)
    ]
    for service, version in examiner.sample(single, "every Service is dual-stack"):
        (
            await examiner.query(expected.service_name(service, examiner.zone), Type.A if version == 4 else Type.AAAA)
        ).no_data()


@check("nodata-type", REQUIRED, "RFC 2308 §2.2")
async def nodata_type(examiner: Examiner) -> None:
    """A type that a Service does not have (MX, TXT, NAPTR, HTTPS) gets NODATA."""
    for rtype in (Type.MX, Type.TXT, Type.NAPTR, Type.HTTPS):
        (await examiner.query(expected.service_name(_one(examiner), examiner.zone), rtype)).no_data()


@check("nodata-inner", RECOMMENDED, "RFC 8020 §2, RFC 4592 §2.2.2")
async def nodata_inner(examiner: Examiner) -> None:
    """The names between the zone and its Services (svc and each namespace below it) exist: they get NODATA."""
    for name in (examiner.under("svc"), examiner.under(_namespace(examiner), "svc")):
        (await examiner.query(name)).no_data()


@check("nodata-protocol", RECOMMENDED, "RFC 8020 §2")
async def nodata_protocol(examiner: Examiner) -> None:
    """_tcp.<service> gets NODATA if a name with a port exists below it: NXDOMAIN would deny that name, too."""
    ports = [(s, p) for s in examiner.cluster.services if s.cluster_ips for p in expected.named_ports(s)]
    service, port = examiner.sample(ports, "no Service has a named port")[0]
    (await examiner.query(f"_{port.protocol}.{expected.service_name(service, examiner.zone)}")).no_data()


@check("nodata-reverse", RECOMMENDED, "RFC 8020 §2")
async def nodata_reverse(examiner: Examiner) -> None:
    """A reverse name above one that has a PTR record exists: it gets NODATA, not NXDOMAIN."""
    service = examiner.sample(
        [s for s in examiner.cluster.services if s.of_family(4)], "no Service has an IPv4 ClusterIP"
    )[0]
    name = expected.reverse_name(service.of_family(4)[0]).partition(".")[2]
    answer = await examiner.query(name, Type.PTR)
    answer.require(answer.reply.rcode != 3, "NODATA: there are names below")


@check("reverse-nonexistent", RECOMMENDED, f"{SPEC} §2.3.3")
async def reverse_nonexistent(examiner: Examiner) -> None:
    """The reverse name of an address outside the cluster has no PTR record with a name in the zone."""
    free = next(f"198.51.100.{n}" for n in range(1, 255) if not examiner.cluster.services_with(f"198.51.100.{n}"))
    answer = await examiner.query(expected.reverse_name(free), Type.PTR)
    inside = [target for target in answer.reply.data(Type.PTR) if target.endswith("." + examiner.zone)]
    answer.require(not inside, f"no PTR record with a name in {examiner.zone}")


@check("nonexistent-any-type", RECOMMENDED, "RFC 2308 §2.1, RFC 8020 §2")
async def nonexistent_any_type(examiner: Examiner) -> None:
    """A nonexistent name does not exist for any type: it gets NXDOMAIN for A, TXT, SRV and SOA."""
    name = examiner.under(examiner.nonexistent_label(), _namespace(examiner), "svc")
    for rtype in (Type.A, Type.TXT, Type.SRV, Type.SOA):
        answer = await examiner.query(name, rtype)
        answer.require(answer.reply.rcode == 3, f"NXDOMAIN for {type_text(rtype)}, as for A")


@check("present-any-type", RECOMMENDED, "RFC 2308 §2.2")
async def present_any_type(examiner: Examiner) -> None:
    """A namespace and the zone itself exist for every type: TXT gets NODATA, as A does."""
    for name in (examiner.zone, examiner.under(_namespace(examiner), "svc")):
        for rtype in (Type.A, Type.TXT):
            answer = await examiner.query(name, rtype)
            answer.require(answer.reply.rcode == 0, f"NOERROR for {type_text(rtype)}")


async def _negatives(examiner: Examiner) -> AsyncIterator[Answer]:
    yield (await examiner.query(examiner.under(examiner.nonexistent_label(), _namespace(examiner), "svc"))).no_name()
    yield (await examiner.query(expected.service_name(_one(examiner), examiner.zone), Type.MX)).no_data()


def _soa(answer: Answer) -> list[str]:
    """Returns the fields of the only SOA record in the authority section. Raises Failed if there is not exactly one.

    The owner must be the QNAME or a name above it.
    """
    lines = [line for line in answer.reply.authority if line.rtype == Type.SOA]
    answer.require(len(lines) == 1, "one SOA record in the authority section")
    query_name, owner = (names.from_text(name).lower() for name in (answer.query.name, lines[0].owner))
    answer.require(names.is_within(query_name, owner), "an SOA record of the zone that the name is in")
    return [str(lines[0].ttl), *lines[0].data.split()]


@check("negative-soa", REQUIRED, "RFC 2308 §3")
async def negative_soa(examiner: Examiner) -> None:
    """NXDOMAIN and NODATA answers have the zone's SOA record in the authority section; without it no resolver may cache
    them.
    """
    async for answer in _negatives(examiner):
        _soa(answer)


@check("negative-ttl", RECOMMENDED, "RFC 2308 §3")
async def negative_ttl(examiner: Examiner) -> None:
    """The TTL of the SOA in a negative answer is at most the SOA's MINIMUM field."""
    async for answer in _negatives(examiner):
        fields = _soa(answer)
        answer.require(
            int(fields[0]) <= int(fields[-1]), f"an SOA record with a TTL of at most its MINIMUM, {fields[-1]}"
        )


@check("apex-soa", RECOMMENDED, "RFC 1034 §4.2.1")
async def apex_soa(examiner: Examiner) -> None:
    """The zone has an SOA record at its apex."""
    answer = await examiner.query(examiner.zone, Type.SOA)
    found = [line for line in answer.rcode(0).reply.answer if line.rtype == Type.SOA]
    answer.require(len(found) == 1 and found[0].owner.lower() == examiner.zone, f"one SOA record at {examiner.zone}")


@check("authoritative", RECOMMENDED, "RFC 1035 §4.1.1")
async def authoritative(examiner: Examiner) -> None:
    """Answers about the zone have AA set, also negative ones. A cache between client and server may clear AA."""
    async for answer in _negatives(examiner):
        answer.require(answer.reply.has(0x0400), "AA set")
    answer = await examiner.query(expected.service_name(_one(examiner), examiner.zone))
    answer.require(answer.reply.has(0x0400), "AA set")


@check("rrset", RECOMMENDED, "RFC 2181 §5.2, §5")
async def rrset(examiner: Examiner) -> None:
    """The records of an RRset have one TTL and no duplicates."""
    services = [s for s in examiner.cluster.services if s.cluster_ips or (s.headless and s.endpoints)]
    for service in examiner.sample(services, "no Service has an address"):
        answer = await examiner.query(expected.service_name(service, examiner.zone), tcp=True)
        lines = [line for line in answer.reply.answer if line.rtype == Type.A]
        answer.require(len({line.ttl for line in lines}) <= 1, "A records with one TTL")
        answer.require(len({line.data for line in lines}) == len(lines), "no A record twice")


@check("case-insensitive", REQUIRED, f"{SPEC} §2.1, RFC 4343 §3")
async def case_insensitive(examiner: Examiner) -> None:
    """Names in upper and lower case match the same Service."""
    service = _one(examiner)
    version = 4 if service.of_family(4) else 6
    rtype = Type.A if version == 4 else Type.AAAA
    for name in (
        expected.service_name(service, examiner.zone).upper(),
        expected.service_name(service, examiner.zone).title(),
    ):
        answer = await examiner.query(name, rtype)
        answer.rcode(0).require(
            set(answer.reply.data(rtype)) == expected.addresses(service, version), "the same addresses as in lower case"
        )

"""Checks of headless Services: the records at the Service's name and at the names of its endpoints."""

from __future__ import annotations

from typing import Final

from svcdns.conformance import expected
from svcdns.conformance.check import E2E, SPEC, Check, checker
from svcdns.conformance.checks.selection import addresses_at, few, spelled, srv_of, with_endpoints
from svcdns.conformance.cluster_model import Port, Service
from svcdns.conformance.examiner import Examiner
from svcdns.conformance.outcome import Severity
from svcdns.wire.codes import Type

CHECKS: Final[dict[str, Check]] = {}
check = checker("headless", CHECKS)
REQUIRED, RECOMMENDED, INFORMATIONAL = Severity.REQUIRED, Severity.RECOMMENDED, Severity.INFORMATIONAL


@check("headless-a", REQUIRED, f"{SPEC} §2.4.1")
async def headless_a(examiner: Examiner) -> None:
    """A headless Service has an A record for each ready endpoint, and no other."""
    await addresses_at(examiner, with_endpoints(examiner, 4), "no headless Service has a ready IPv4 endpoint", 4)


@check("headless-aaaa", REQUIRED, f"{SPEC} §2.4.1")
async def headless_aaaa(examiner: Examiner) -> None:
    """A headless Service has an AAAA record for each ready IPv6 endpoint, and no other."""
    await addresses_at(examiner, with_endpoints(examiner, 6), "no headless Service has a ready IPv6 endpoint", 6)


@check("headless-hostname", REQUIRED, f"{SPEC} §2.4.1; {E2E}, should provide DNS for pods for Hostname")
async def headless_hostname(examiner: Examiner) -> None:
    """<hostname>.<service> has all addresses of the endpoints with that hostname."""
    named = [(s, h) for s in with_endpoints(examiner) for h in few(e.hostname for e in s.endpoints if e.hostname)]
    for service, hostname in examiner.sample(named, "no endpoint of a headless Service has a hostname"):
        for version, rtype in ((4, Type.A), (6, Type.AAAA)):
            wanted = expected.hostname_addresses(service, hostname, version)
            if wanted:
                (await examiner.whole(expected.endpoint_name(hostname, service, examiner.zone), rtype)).exactly(
                    rtype, wanted
                )


@check("headless-srv", REQUIRED, f"{SPEC} §2.4.2")
async def headless_srv(examiner: Examiner) -> None:
    """Each ready endpoint has an SRV record for each named port. The target is the endpoint's own name."""
    ports = [(s, p) for s in with_endpoints(examiner) for p in expected.named_ports(s)]
    for service, port in examiner.sample(ports, "no headless Service has a named port and a ready endpoint"):
        answer = await examiner.whole(expected.port_name(port, service, examiner.zone), Type.SRV)
        found = srv_of(answer.rcode(0).reply.data(Type.SRV))
        wanted, nameless = expected.headless_srv(service, port, examiner.zone), expected.nameless_srv(service, port)
        text = f"{len(wanted) + nameless} SRV records, among them: {spelled(wanted) or 'any names below the Service'}"
        answer.require(wanted <= found and len(found) == len(wanted) + nameless, text)
        below = "." + expected.service_name(service, examiner.zone)
        answer.require(all(target.endswith(below) for _, target in found), f"targets that end in {below}")


@check("headless-srv-targets", REQUIRED, f"{SPEC} §2.1, §2.4.1")
async def headless_srv_targets(examiner: Examiner) -> None:
    """The targets of a headless Service's SRV records resolve to its endpoints, also if an endpoint has no hostname."""
    ports = [(s, p) for s in with_endpoints(examiner) for p in expected.named_ports(s) if len(s.endpoints) <= 16]
    for service, port in examiner.sample(ports, "no headless Service of at most 16 endpoints has a named port"):
        answer = await examiner.whole(expected.port_name(port, service, examiner.zone), Type.SRV)
        found: set[str] = set()
        for target in sorted({target for _, target in srv_of(answer.reply.data(Type.SRV))}):
            for rtype in (Type.A, Type.AAAA):
                found |= set((await examiner.query(target, rtype)).rcode(0).reply.data(rtype))
        wanted = {
            a for a in expected.addresses(service, 4) | expected.addresses(service, 6) if _has_port(service, a, port)
        }
        answer.require(
            found == wanted,
            f"targets that resolve to {', '.join(sorted(wanted))}; they resolve to {', '.join(sorted(found)) or 'nothing'}",
        )


def _has_port(service: Service, address: str, port: Port) -> bool:
    return any(e.address == address and expected.endpoint_ports(e, port) for e in service.endpoints)


@check("headless-ptr", REQUIRED, f"{SPEC} §2.4.3")
async def headless_ptr(examiner: Examiner) -> None:
    """The reverse name of a ready endpoint with a hostname has a PTR record with <hostname>.<service>."""
    cluster = examiner.cluster
    named = [
        (s, e)
        for s in with_endpoints(examiner)
        for e in few(e for e in s.endpoints if e.hostname)
        if not any(o is None for _, o in cluster.services_with(e.address))
    ]
    for service, endpoint in examiner.sample(named, "no endpoint of a headless Service has a hostname"):
        answer = await examiner.query(expected.reverse_name(endpoint.address), Type.PTR)
        wanted = expected.endpoint_name(endpoint.hostname, service, examiner.zone)
        answer.rcode(0).require(wanted in answer.reply.data(Type.PTR), f"a PTR record with {wanted}")


@check("headless-ptr-unnamed", REQUIRED, f"{SPEC} §2.1, §2.4.3")
async def headless_ptr_unnamed(examiner: Examiner) -> None:
    """For an endpoint without hostname, the reverse name has a PTR record.

    The target is a name below the Service's name, and resolves to the endpoint's address.
    """
    cluster = examiner.cluster
    unnamed = [
        (s, e)
        for s in with_endpoints(examiner)
        for e in few(e for e in s.endpoints if not e.hostname)
        if all(o is not None and not o.hostname for _, o in cluster.services_with(e.address))
    ]
    for service, endpoint in examiner.sample(unnamed, "every endpoint of a headless Service has a hostname"):
        answer = await examiner.query(expected.reverse_name(endpoint.address), Type.PTR)
        below = "." + expected.service_name(service, examiner.zone)
        found = [target for target in answer.rcode(0).reply.data(Type.PTR) if target.endswith(below)]
        answer.require(found, f"a PTR record with a name that ends in {below}")
        rtype = Type.AAAA if ":" in endpoint.address else Type.A
        (await examiner.query(found[0], rtype)).exactly(rtype, [endpoint.address])


@check("headless-empty", RECOMMENDED, f"{SPEC} §2.4.1")
async def headless_empty(examiner: Examiner) -> None:
    """The name of a headless Service without a ready endpoint gets NXDOMAIN."""
    empty = [s for s in examiner.cluster.services if s.headless and not s.endpoints and not s.by_name]
    for service in examiner.sample(empty, "every headless Service has a ready endpoint"):
        (await examiner.query(expected.service_name(service, examiner.zone))).no_name()


@check("endpoint-dashed", INFORMATIONAL, "CoreDNS plugin kubernetes")
async def endpoint_dashed(examiner: Examiner) -> None:
    """The name of an endpoint without hostname is its address with dashes, as in CoreDNS and kube-dns."""
    unnamed = [(s, e) for s in with_endpoints(examiner, 4) for e in s.endpoints if not e.hostname and "." in e.address]
    for service, endpoint in examiner.sample(unnamed, "every endpoint of a headless Service has a hostname"):
        name = expected.endpoint_name(endpoint.address.replace(".", "-"), service, examiner.zone)
        (await examiner.query(name)).exactly(Type.A, [endpoint.address])

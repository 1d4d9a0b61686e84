"""Checks of the records of Services with a ClusterIP, of ExternalNames, of Pods and of the zone itself.

The records must have exactly the data of the cluster.
"""

from __future__ import annotations

import re
from typing import Final

from svcdns.conformance import expected
from svcdns.conformance.check import E2E, SPEC, Check, checker
from svcdns.conformance.checks.selection import addresses_at, clustered, spelled, srv_of, with_endpoints
from svcdns.conformance.cluster_model import Service
from svcdns.conformance.examiner import Examiner
from svcdns.conformance.outcome import Severity, Skipped
from svcdns.conformance.queries import Query
from svcdns.wire.codes import Type

CHECKS: Final[dict[str, Check]] = {}
check = checker("records", CHECKS)
REQUIRED, RECOMMENDED, INFORMATIONAL = Severity.REQUIRED, Severity.RECOMMENDED, Severity.INFORMATIONAL
SEMVER: Final = re.compile(r'"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"')


@check("dns-version", REQUIRED, f"{SPEC} §2.2")
async def dns_version(examiner: Examiner) -> None:
    """dns-version.<zone> has a TXT record with the version of the schema, a semantic version."""
    answer = await examiner.query(examiner.under("dns-version"), Type.TXT)
    texts = answer.rcode(0).reply.data(Type.TXT)
    answer.require(
        len(texts) == 1 and SEMVER.fullmatch(texts[0]), 'one TXT record with a semantic version, such as "1.1.0"'
    )


@check("kubernetes-service", REQUIRED, f"{E2E}, should provide DNS for the cluster")
async def kubernetes_service(examiner: Examiner) -> None:
    """kubernetes.default.svc.<zone> has an address in every cluster."""
    if examiner.cluster.complete and examiner.cluster.service("default", "kubernetes") is None:
        raise Skipped("the cluster has no Service kubernetes in default")
    name = examiner.under("kubernetes", "default", "svc")
    answers = [await examiner.query(name, rtype) for rtype in (Type.A, Type.AAAA)]
    answers[0].require(
        any(a.reply.data(a.query.rtype) for a in answers), "an A record, or an AAAA record at the same name"
    )


@check("clusterip-a", REQUIRED, f"{SPEC} §2.3.1")
async def clusterip_a(examiner: Examiner) -> None:
    """A Service with an IPv4 ClusterIP has exactly one A record with that address."""
    await addresses_at(examiner, clustered(examiner, 4), "no Service has an IPv4 ClusterIP", 4)


@check("clusterip-aaaa", REQUIRED, f"{SPEC} §2.3.1")
async def clusterip_aaaa(examiner: Examiner) -> None:
    """A Service with an IPv6 ClusterIP has exactly one AAAA record with that address."""
    await addresses_at(examiner, clustered(examiner, 6), "no Service has an IPv6 ClusterIP", 6)


@check("dual-stack", REQUIRED, f"{SPEC} §2.3.1")
async def dual_stack(examiner: Examiner) -> None:
    """A dual-stack Service has an A and an AAAA record at one name, queried at the same time from one socket."""
    both = [s for s in clustered(examiner, 4) if s.of_family(6)]
    for service in examiner.sample(both, "no Service is dual-stack"):
        name = expected.service_name(service, examiner.zone)
        answers = await examiner.together([Query(name, Type.A), Query(name, Type.AAAA)])
        answers[0].exactly(Type.A, expected.addresses(service, 4))
        answers[1].exactly(Type.AAAA, expected.addresses(service, 6))


@check("nodeport-a", REQUIRED, f"{SPEC} §2.3")
async def nodeport_a(examiner: Examiner) -> None:
    """A Service of type NodePort has its ClusterIP as its address."""
    await addresses_at(examiner, clustered(examiner, 4, "NodePort"), "no Service is known to be of type NodePort", 4)


@check("loadbalancer-a", REQUIRED, f"{SPEC} §2.3")
async def loadbalancer_a(examiner: Examiner) -> None:
    """A Service of type LoadBalancer has its ClusterIP as its address, not that of the load balancer."""
    await addresses_at(
        examiner, clustered(examiner, 4, "LoadBalancer"), "no Service is known to be of type LoadBalancer", 4
    )


@check("clusterip-srv", REQUIRED, f"{SPEC} §2.3.2")
async def clusterip_srv(examiner: Examiner) -> None:
    """Each named port of a Service with ClusterIP has an SRV record with the port's number and the Service's name."""
    ports = [(s, p) for s in clustered(examiner) for p in expected.named_ports(s)]
    for service, port in examiner.sample(ports, "no Service with a ClusterIP has a named port"):
        answer = await examiner.whole(expected.port_name(port, service, examiner.zone), Type.SRV)
        answer.rcode(0)
        wanted = expected.cluster_srv(service, port, examiner.zone)
        answer.require(srv_of(answer.reply.data(Type.SRV)) == wanted, f"SRV records, exactly: {spelled(wanted)}")


@check("clusterip-ptr", REQUIRED, f"{SPEC} §2.3.3")
async def clusterip_ptr(examiner: Examiner) -> None:
    """The reverse name of an IPv4 ClusterIP has a PTR record with the Service's name."""
    await _cluster_ptr(examiner, 4)


@check("clusterip-ptr-ipv6", REQUIRED, f"{SPEC} §2.3.3")
async def clusterip_ptr_ipv6(examiner: Examiner) -> None:
    """The reverse name of an IPv6 ClusterIP has a PTR record with the Service's name."""
    await _cluster_ptr(examiner, 6)


async def _cluster_ptr(examiner: Examiner, version: int) -> None:
    ips = [ip for s in clustered(examiner) for ip in s.of_family(version)]
    for ip in examiner.sample(ips, f"no Service has an IPv{version} ClusterIP"):
        owners = {expected.service_name(s, examiner.zone) for s, e in examiner.cluster.services_with(ip) if e is None}
        answer = await examiner.query(expected.reverse_name(ip), Type.PTR)
        found = set(answer.rcode(0).reply.data(Type.PTR))
        answer.require(found and found <= owners, f"a PTR record with {' or '.join(sorted(owners))}")


@check("externalname-cname", REQUIRED, f"{SPEC} §2.5; {E2E}, should provide DNS for ExternalName services")
async def externalname_cname(examiner: Examiner) -> None:
    """An ExternalName Service has a CNAME record with its external name."""
    for service in examiner.sample(_external(examiner), "no Service is an ExternalName"):
        answer = await examiner.query(expected.service_name(service, examiner.zone), Type.CNAME)
        answer.exactly(Type.CNAME, [expected.absolute(service.external_name)])


@check("externalname-a", REQUIRED, f"{SPEC} §2.5, RFC 1034 §3.6.2")
async def externalname_a(examiner: Examiner) -> None:
    """A query for an address of an ExternalName is answered with the CNAME first, and with NOERROR or the target's
    response code.
    """
    for service in examiner.sample(_external(examiner), "no Service is an ExternalName"):
        answer = await examiner.query(expected.service_name(service, examiner.zone), Type.A)
        first = answer.rcode(0, 2, 3, 5).reply.answer[:1]
        wanted = expected.absolute(service.external_name)
        if not first and answer.reply.rcode == 0 and wanted.endswith("." + examiner.zone):
            continue  # a target in the zone without an address is NODATA, which stub resolvers handle
        holds = first and first[0].rtype == Type.CNAME and first[0].data.lower() == wanted
        answer.require(holds, f"an answer that begins with CNAME {wanted}")


def _external(examiner: Examiner) -> list[Service]:
    return [
        s for s in examiner.cluster.services if s.external_name and not re.fullmatch(r"[0-9.]+|.*:.*", s.external_name)
    ]


@check("pod-a", REQUIRED, f"{SPEC} §2.6 (deprecated)")
async def pod_a(examiner: Examiner) -> None:
    """If <a>-<b>-<c>-<d>.<ns>.pod.<zone> is served at all, it has the A record a.b.c.d."""
    pods = [
        (ns, address) for ns, address in examiner.cluster.pods if "." in address and ns in examiner.cluster.namespaces
    ]
    if not pods:
        pods = [(ns, "10.1.2.3") for ns in sorted(examiner.cluster.namespaces or {"default"})[:1]]
    served = False
    for namespace, address in examiner.sample(pods, "no Pod is known"):
        answer = await examiner.query(examiner.under(address.replace(".", "-"), namespace, "pod"))
        if answer.reply.rcode != 3:
            served = True
            answer.exactly(Type.A, [address])
    if not served:
        raise Skipped("the server does not serve names of Pods")


@check("srv-additional", INFORMATIONAL, f"{SPEC} §2.3.2, §2.4.2")
async def srv_additional(examiner: Examiner) -> None:
    """Address records of SRV targets in the additional section are correct. The section may be empty."""
    ports = [(s, p) for s in (*clustered(examiner), *with_endpoints(examiner)) for p in expected.named_ports(s)]
    for service, port in examiner.sample(ports, "no Service has a named port"):
        answer = await examiner.query(expected.port_name(port, service, examiner.zone), Type.SRV, tcp=True)
        known = expected.addresses(service, 4) | expected.addresses(service, 6)
        extra = {line.data for line in answer.reply.additional if line.rtype in (Type.A, Type.AAAA)}
        answer.require(extra <= known, f"no addresses in the additional section but {', '.join(sorted(known))}")


@check("srv-bare-name", INFORMATIONAL, f"{SPEC} §2.3.2, §3")
async def srv_bare_name(examiner: Examiner) -> None:
    """SRV at a Service's own name is beyond the specification.

    If it is answered, the ports are those of the Service.
    """
    for service in examiner.sample(clustered(examiner), "no Service has a ClusterIP"):
        answer = (await examiner.query(expected.service_name(service, examiner.zone), Type.SRV)).rcode(0)
        wanted = {(p.number, expected.service_name(service, examiner.zone)) for p in service.ports}
        answer.require(srv_of(answer.reply.data(Type.SRV)) <= wanted, f"NODATA, or of these: {spelled(wanted)}")

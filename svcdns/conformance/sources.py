"""Makes a model of the cluster from the objects of the API server, or from DNS queries.

A run of the suite that writes no objects uses this model."""

from __future__ import annotations

import asyncio

from svcdns.conformance import expected
from svcdns.conformance.api import KINDS, NAMESPACES, PODS, SERVICES, SLICES, Api, path_of
from svcdns.conformance.client import NoReply, Server
from svcdns.conformance.cluster_model import Cluster, Port, Service, from_objects
from svcdns.conformance.errors import ConformanceError
from svcdns.conformance.examiner import Examiner
from svcdns.conformance.outcome import Failed
from svcdns.conformance.queries import Query
from svcdns.wire.codes import Rcode, Type

USUAL = (
    ("default", "kubernetes", (Port("https", "tcp", 443),)),
    ("kube-system", "kube-dns", (Port("dns", "udp", 53), Port("dns-tcp", "tcp", 53), Port("metrics", "tcp", 9153))),
)
"""The Services that most clusters have, with their usual named ports."""
POLL = 0.2
"""Seconds between two queries while the suite waits for an answer."""


async def read_cluster(api: Api) -> Cluster:
    """Reads all Services, EndpointSlices and Namespaces from the API server. Raises ConformanceError.

    Also reads the Pods if the user has the permission.
    """
    listed = await asyncio.gather(
        *(
            api.listed(path, kind)
            for path, kind in (
                (path_of(SERVICES), KINDS[SERVICES]),
                (path_of(SLICES), KINDS[SLICES]),
                (NAMESPACES, "Namespace"),
            )
        )
    )
    try:
        pods = await api.listed(path_of(PODS), KINDS[PODS])
    except ConformanceError:
        pods = []
    return from_objects([item for part in (*listed, pods) for item in part])


async def discover(examiner: Examiner) -> Cluster:
    """Returns a model with the Services that nearly every cluster has (`USUAL`), if the server answers for them.

    The expected records come from the server itself, so checks can only compare the records with each other.
    """
    services, namespaces = [], {"default"}
    for namespace, name, ports in USUAL:
        found = Service(namespace, name, cluster_ips=await _addresses(examiner, examiner.under(name, namespace, "svc")))
        if found.cluster_ips:
            namespaces.add(namespace)
            here = [port for port in ports if await _has_port(examiner, found, port)]
            services.append(Service(namespace, name, cluster_ips=found.cluster_ips, ports=tuple(here)))
    return Cluster(tuple(services), frozenset(namespaces), complete=False)


async def _addresses(examiner: Examiner, name: str) -> tuple[str, ...]:
    found: list[str] = []
    for rtype in (Type.A, Type.AAAA):
        try:
            found += (await examiner.query(name, rtype)).reply.data(rtype)
        except Failed:
            continue  # a check will report this failure
    return tuple(found)


async def _has_port(examiner: Examiner, service: Service, port: Port) -> bool:
    try:
        answer = await examiner.query(expected.port_name(port, service, examiner.zone), Type.SRV)
    except Failed:
        return False
    return any(line.split()[2] == str(port.number) for line in answer.reply.data(Type.SRV))


async def until_answering(server: Server, zone: str, timeout: float) -> None:
    """Waits until the server answers a query for the zone with an rcode other than SERVFAIL.

    After `timeout` seconds, raises ConformanceError if the last query got no reply. If the last reply was SERVFAIL,
    returns.
    """
    packet = Query(zone, Type.SOA).packet(0x5356)
    clock = asyncio.get_running_loop().time
    end = clock() + timeout
    while True:
        error: NoReply | None = None
        try:
            reply, _ = await server.udp(packet, tries=1, wait=min(server.timeout, timeout))
            if reply[3:4] and reply[3] & 0xF != Rcode.SERVFAIL:
                return
        except NoReply as no_reply:
            error = no_reply
        if clock() >= end:
            if error is None:
                return
            raise ConformanceError(
                f"{server.host} port {server.port} does not answer within {timeout:g} s: {error}"
            ) from None
        await asyncio.sleep(min(POLL, timeout))


async def until_served(examiner: Examiner, timeout: float) -> None:
    """Waits until the server answers for all new Services.

    Raises ConformanceError if the first Service is not served after `timeout` seconds.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + timeout
    waited = [s for s in examiner.cluster.services if s.cluster_ips or s.endpoints]
    for service in waited:
        while True:
            found: set[str] = set()
            try:
                name = expected.service_name(service, examiner.zone)
                found = set((await examiner.query(name, tcp=True)).reply.data(Type.A))
                found |= set((await examiner.query(name, Type.AAAA, tcp=True)).reply.data(Type.AAAA))
            except Failed:
                pass
            if found == expected.addresses(service, 4) | expected.addresses(service, 6):
                break
            if clock() >= end:
                if service is not waited[0]:
                    return  # the server watches this cluster; checks will report missing records
                raise ConformanceError(
                    f"{expected.service_name(service, examiner.zone)} is not served {timeout:g} s after its creation: "
                    "does the server watch this API server, and serve this zone?"
                )
            await asyncio.sleep(POLL)

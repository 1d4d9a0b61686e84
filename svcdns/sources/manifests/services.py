"""Adds address families and ClusterIPs to Services, as the API server does.

The cluster is dual-stack with IPv4 first: a Service without settings gets one IPv4 address. A ClusterIP in a manifest
is kept.

Source: Kubernetes documentation, "IPv4/IPv6 dual-stack".
"""

from __future__ import annotations

from collections.abc import Sequence

from svcdns.cluster.objects import HEADLESS, PLACEHOLDER_PORTS, ObjectName, Port, Service
from svcdns.sources.manifests.address_pool import SERVICE_RANGE, SERVICE_RANGE_6, RangeFullError, assign
from svcdns.sources.manifests.errors import ManifestError
from svcdns.sources.manifests.kinds import ManifestObject
from svcdns.sources.manifests.schemas import ServiceObject, ServiceSpec
from svcdns.sources.manifests.validation import FAMILIES


def services(written: Sequence[tuple[ManifestObject, ServiceObject]], reserved: set[str]) -> list[Service]:
    """Returns the Services in the given order. A Service that needs a ClusterIP gets one that is not in `reserved`.

    Raises ManifestError if the address range is full.
    """
    every_family = [families(service.spec) for _, service in written]
    unassigned: list[ObjectName] = [
        (item.namespace, item.name)
        for (item, service), wanted in zip(written, every_family, strict=True)
        if _needs_address(service.spec, wanted)
    ]
    try:
        assigned = assign(unassigned, SERVICE_RANGE, SERVICE_RANGE_6, reserved)
    except RangeFullError:
        raise ManifestError(
            written[-1][0].position, f"expected no more Services than {SERVICE_RANGE} has addresses"
        ) from None
    return [
        _trimmed(item, service, wanted, assigned.get((item.namespace, item.name), ()))
        for (item, service), wanted in zip(written, every_family, strict=True)
    ]


def families(spec: ServiceSpec) -> tuple[str, ...]:
    """Returns the address families of a Service, `IPv4`, `IPv6` or both. The primary one is first."""
    written = (_family(address) for address in written_ips(spec))
    found = tuple(dict.fromkeys((*written, *spec.ipFamilies))) or FAMILIES[:1]
    if spec.ipFamilyPolicy == "SingleStack":
        return found[:1]
    if spec.ipFamilyPolicy:
        return (*found, *(family for family in FAMILIES if family not in found))
    return found


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def written_ips(spec: ServiceSpec) -> tuple[str, ...]:
    """Returns the ClusterIPs that the manifest sets."""
    return tuple(address for address in spec.clusterIPs or [spec.clusterIP] if address and address != HEADLESS)


def headless(spec: ServiceSpec) -> bool:
    """Returns True if the first ClusterIP is `None`."""
    return (spec.clusterIPs or [spec.clusterIP])[0] == HEADLESS


def _needs_address(spec: ServiceSpec, wanted: tuple[str, ...]) -> bool:
    return spec.type != "ExternalName" and not headless(spec) and len(written_ips(spec)) < len(wanted)


def _trimmed(item: ManifestObject, service: ServiceObject, wanted: tuple[str, ...], assigned: Sequence[str]) -> Service:
    spec = service.spec
    ingress = (entry.ip or entry.hostname for entry in service.status.loadBalancer.ingress or ())
    return Service(
        namespace=item.namespace,
        name=item.name,
        cluster_ips=_cluster_ips(spec, wanted, assigned),
        ports=tuple(Port(port.name, port.protocol, port.port) for port in spec.ports) or PLACEHOLDER_PORTS,
        external_name=spec.externalName if spec.type == "ExternalName" else None,
        external_ips=(*spec.externalIPs, *(address for address in ingress if address)),
    )


def _cluster_ips(spec: ServiceSpec, wanted: tuple[str, ...], assigned: Sequence[str]) -> tuple[str, ...]:
    if headless(spec) and spec.type != "ExternalName":
        return (HEADLESS,)
    if spec.type == "ExternalName":
        return ()
    by_family = {_family(address): address for address in (*assigned, *written_ips(spec))}
    return tuple(by_family[family] for family in wanted)

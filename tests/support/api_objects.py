"""Converts cluster objects to the JSON of the API server, the reverse of `sources.api.decoding`."""

from __future__ import annotations

from typing import Any

from svcdns.cluster.objects import (
    NO_PORT,
    PLACEHOLDER_PORTS,
    ClusterObject,
    Endpoint,
    EndpointSlice,
    ImportedSlice,
    Namespace,
    Pod,
    Port,
    Service,
    ServiceImport,
)

Object = dict[str, Any]
MULTICLUSTER = "multicluster.kubernetes.io"
NOT_READY = {"addresses": ["10.244.9.9"], "conditions": {"ready": False, "serving": True, "terminating": True}}


def api_object(item: ClusterObject) -> Object:
    """Returns the object in the form of the Kubernetes API."""
    match item:
        case Namespace():
            return _object("Namespace", item, status={"phase": "Active"})
        case Service():
            return _object("Service", item, spec=_service_spec(item))
        case EndpointSlice():
            labels = {"kubernetes.io/service-name": item.service} if item.service else {}
            return _object("EndpointSlice", item, labels, **_slice(item.ports, item.endpoints))
        case ImportedSlice():
            labels = {f"{MULTICLUSTER}/service-name": item.service}
            labels |= {f"{MULTICLUSTER}/source-cluster": item.cluster} if item.cluster else {}
            return _object("EndpointSlice", item, labels, **_slice(item.ports, item.endpoints))
        case Pod():
            return _object(
                "Pod",
                item,
                status={"phase": "Running", "podIP": item.ip, "podIPs": [{"ip": item.ip}] if item.ip else []},
            )
        case ServiceImport():
            spec = {
                "type": "Headless" if item.headless else "ClusterSetIP",
                "ips": list(item.ips),
                "ports": _ports(item.ports),
            }
            return _object("ServiceImport", item, spec=spec)


def _object(kind: str, item: ClusterObject, labels: dict[str, str] | None = None, **parts: Any) -> Object:
    metadata: Object = {"name": item.name, "labels": labels or {}}
    if item.namespace:
        metadata["namespace"] = item.namespace
    return {"kind": kind, "metadata": metadata, **parts}


def _service_spec(item: Service) -> Object:
    spec: Object = {"type": "ClusterIP", "ports": _ports(item.ports), "externalIPs": list(item.external_ips)}
    if item.external_name is not None:
        spec |= {"type": "ExternalName", "externalName": item.external_name}
    if any(item.cluster_ips):
        spec |= {"clusterIP": item.cluster_ips[0], "clusterIPs": list(item.cluster_ips)}
    return spec


def _slice(ports: tuple[Port, ...], endpoints: tuple[Endpoint, ...]) -> Object:
    return {"addressType": "IPv4", "ports": _ports(ports), "endpoints": [*map(_endpoint, endpoints), NOT_READY]}


def _endpoint(endpoint: Endpoint) -> Object:
    out: Object = {"addresses": [endpoint.address], "conditions": {"ready": True}}
    if endpoint.hostname:
        out["hostname"] = endpoint.hostname
    if endpoint.target:
        out["targetRef"] = {"kind": "Pod", "name": endpoint.target}
    if endpoint.zone:
        out["zone"] = endpoint.zone
    return out


def _ports(ports: tuple[Port, ...]) -> list[Object]:
    if ports == PLACEHOLDER_PORTS:
        return []
    number = ({} if port.number == NO_PORT else {"port": port.number} for port in ports)
    return [{"name": port.name, "protocol": port.protocol} | one for port, one in zip(ports, number, strict=True)]

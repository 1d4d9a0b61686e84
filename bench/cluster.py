"""The cluster of the benchmarks: any number of Services, and the names that are queried.

Each object is computed from its number. Every tenth Service is headless. Every fifth Service also has an IPv6 address.
The objects have managed fields, so that their size is realistic.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NAMESPACES = 50
ZONE = "cluster.local"
EXTERNAL_ZONE = "example"
EXTERNAL_NAMES = 500
"""Names outside the cluster that are queried."""

SERVICES, SLICES, NAMESPACE_LIST = "services", "endpointslices", "namespaces"

_V4 = int(ipaddress.IPv4Address("10.64.0.0"))
_V6 = int(ipaddress.IPv6Address("fd00:10:64::"))
_POD = int(ipaddress.IPv4Address("10.128.0.0"))
_MOVED = int(ipaddress.IPv4Address("11.0.0.0"))
_EXTERNAL_V4 = int(ipaddress.IPv4Address("203.0.113.0"))


@dataclass(frozen=True)
class Cluster:
    """A cluster with `services` Services, numbered from 0, and `endpoints` endpoints for each Service."""

    services: int
    endpoints: int = 1

    def fqdn(self, number: int) -> str:
        """Returns the domain name of a Service, without the final dot."""
        return f"service-{number}.{namespace(number)}.svc.{ZONE}"

    def pods(self, number: int) -> list[str]:
        """Returns the addresses of a Service's endpoints."""
        first = _POD + number * self.endpoints
        return [str(ipaddress.IPv4Address(first + k)) for k in range(self.endpoints)]

    def addresses(self, number: int) -> list[str]:
        """Returns the addresses that the A and AAAA records of a Service must have."""
        return self.pods(number) if headless(number) else cluster_ips(number)

    def headless(self) -> list[int]:
        """Returns the numbers of the headless Services."""
        return [number for number in range(self.services) if headless(number)]


def headless(number: int) -> bool:
    """Returns True if the Service with this number has no cluster IP."""
    return number % 10 == 0


def namespace(number: int) -> str:
    """Returns the name of the namespace of a Service."""
    return f"team-{number % NAMESPACES}"


def cluster_ips(number: int) -> list[str]:
    """Returns the cluster IPs of a Service. Call it only for a Service that is not headless."""
    found = [str(ipaddress.IPv4Address(_V4 + number))]
    return [*found, str(ipaddress.IPv6Address(_V6 + number))] if number % 5 == 1 else found


def moved(variant: int) -> str:
    """Returns the address of an endpoint after the simulated change with the number `variant`."""
    return str(ipaddress.IPv4Address(_MOVED + variant % 0xFFFFFF))


def external_name(number: int) -> str:
    """Returns the external domain name with this number, without the final dot."""
    return f"www.site-{number}.{EXTERNAL_ZONE}"


def external_address(number: int) -> str:
    """Returns the IPv4 address of the external name with this number."""
    return str(ipaddress.IPv4Address(_EXTERNAL_V4 + number % 256))


# -- objects of the API


def _managed(manager: str, operation: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "manager": manager,
            "operation": operation,
            "apiVersion": "v1",
            "time": "2025-06-01T12:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
    ]


_NAMESPACE_FIELDS = _managed(
    "kubectl-create", "Update", {"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}}
)
_SERVICE_FIELDS = _managed(
    "kubectl-client-side-apply",
    "Update",
    {
        "f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:app.kubernetes.io/managed-by": {}}},
        "f:spec": {
            "f:internalTrafficPolicy": {},
            "f:ports": {
                ".": {},
                'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}},
            },
            "f:selector": {},
            "f:sessionAffinity": {},
            "f:type": {},
        },
    },
)
_SLICE_FIELDS = _managed(
    "kube-controller-manager",
    "Update",
    {
        "f:addressType": {},
        "f:endpoints": {},
        "f:metadata": {
            "f:annotations": {".": {}, "f:endpoints.kubernetes.io/last-change-trigger-time": {}},
            "f:generateName": {},
            "f:labels": {".": {}, "f:endpointslice.kubernetes.io/managed-by": {}, "f:kubernetes.io/service-name": {}},
            "f:ownerReferences": {".": {}, "k:{}": {}},
        },
        "f:ports": {},
    },
)


def _uid(group: int, number: int) -> str:
    return f"{group:08x}-5a1e-4c3d-9f00-{number:012x}"


def namespace_object(number: int) -> dict[str, Any]:
    """Returns a Namespace as the API server encodes it in JSON."""
    name = namespace(number)
    return {
        "metadata": {
            "name": name,
            "uid": _uid(1, number),
            "creationTimestamp": "2025-06-01T12:00:00Z",
            "labels": {"kubernetes.io/metadata.name": name},
            "managedFields": _NAMESPACE_FIELDS,
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def service_object(number: int) -> dict[str, Any]:
    """Returns a Service as the API server encodes it in JSON."""
    name = f"service-{number}"
    ips = ["None"] if headless(number) else cluster_ips(number)
    families = ["IPv4", "IPv6"][: len(ips)]
    return {
        "metadata": {
            "name": name,
            "namespace": namespace(number),
            "uid": _uid(2, number),
            "creationTimestamp": "2025-06-01T12:00:00Z",
            "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "bench"},
            "managedFields": _SERVICE_FIELDS,
        },
        "spec": {
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
            "selector": {"app.kubernetes.io/name": name},
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": families,
            "ipFamilyPolicy": "RequireDualStack" if len(ips) > 1 else "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    }


def slice_object(cluster: Cluster, number: int, variant: int = 0) -> dict[str, Any]:
    """Returns the EndpointSlice of a Service, as the API server encodes it in JSON.

    If `variant` is not 0, the address of the first endpoint is replaced by `moved(variant)`, to simulate an update.
    """
    name, ns = f"service-{number}", namespace(number)
    pods = cluster.pods(number)
    if variant:
        pods[0] = moved(variant)
    return {
        "metadata": {
            "name": f"{name}-x7k2p",
            "generateName": f"{name}-",
            "namespace": ns,
            "uid": _uid(3, number),
            "generation": variant + 1,
            "creationTimestamp": "2025-06-01T12:00:00Z",
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": name,
            },
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2025-06-01T12:00:00Z"},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": name,
                    "uid": _uid(2, number),
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "managedFields": _SLICE_FIELDS,
        },
        "addressType": "IPv4",
        "endpoints": [_endpoint(number * cluster.endpoints + k, name, ns, pod) for k, pod in enumerate(pods)],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }


def _endpoint(number: int, name: str, ns: str, address: str) -> dict[str, Any]:
    target = {"kind": "Pod", "namespace": ns, "name": f"{name}-6d4cf56db6-{number:05x}", "uid": _uid(4, number)}
    return {
        "addresses": [address],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": f"node-{number % 200}",
        "targetRef": target,
        "zone": f"zone-{number % 3}",
    }


def objects(cluster: Cluster) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each object of the cluster with the plural name of its resource, such as `services`."""
    for number in range(NAMESPACES):
        yield NAMESPACE_LIST, namespace_object(number)
    for number in range(cluster.services):
        yield SERVICES, service_object(number)
        yield SLICES, slice_object(cluster, number)

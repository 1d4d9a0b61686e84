"""The Kubernetes objects from which answers are made, with only the needed fields.

Objects are frozen, and are sent between processes as msgpack. Names and addresses are text in the API server's
spelling. Source of the fields: core/v1 Service, Namespace and Pod; discovery.k8s.io/v1 EndpointSlice;
multicluster.x-k8s.io/v1alpha1 ServiceImport.
"""

from __future__ import annotations

from typing import Final

import msgspec

NO_PORT: Final = -1
"""The number of a port that has none, and of the placeholder port of an object without ports."""

ObjectName = tuple[str, str]
"""Namespace and name of an object."""

HEADLESS: Final = "None"
"""The value of clusterIP that makes a Service headless."""


class Port(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One port of a Service, an EndpointSlice or a ServiceImport. `number` is from 0 to 65535, or NO_PORT."""

    name: str = ""
    protocol: str = ""
    number: int = NO_PORT


PLACEHOLDER_PORTS: Final = (Port(),)
"""The ports of a Service or EndpointSlice that lists none, so that its addresses get records nevertheless."""


class Service(msgspec.Struct, frozen=True, array_like=True, tag="Service"):
    """A Service.

    `cluster_ips` has clusterIPs, or else the single clusterIP. `external_ips` has spec.externalIPs, and then the IP
    address or hostname of each status.loadBalancer.ingress.
    """

    namespace: str
    name: str
    cluster_ips: tuple[str, ...] = ()
    ports: tuple[Port, ...] = PLACEHOLDER_PORTS
    external_name: str | None = None
    external_ips: tuple[str, ...] = ()

    @property
    def headless(self) -> bool:
        """Returns True if the first ClusterIP is `None`."""
        return bool(self.cluster_ips) and self.cluster_ips[0] == HEADLESS


class Endpoint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One address of a ready endpoint.

    `target` is targetRef.name. `zone` is the topology zone, which is stored only with the option `zonal`.
    """

    address: str
    hostname: str = ""
    target: str = ""
    zone: str = ""


class EndpointSlice(msgspec.Struct, frozen=True, array_like=True, tag="EndpointSlice"):
    """An EndpointSlice with its ready endpoints.

    `service` is the label kubernetes.io/service-name, or empty if there is no such label.
    """

    namespace: str
    name: str
    service: str = ""
    ports: tuple[Port, ...] = PLACEHOLDER_PORTS
    endpoints: tuple[Endpoint, ...] = ()


class ImportedSlice(msgspec.Struct, frozen=True, array_like=True, tag="ImportedSlice"):
    """An EndpointSlice of a multi-cluster Service.

    `service` is the label multicluster.kubernetes.io/service-name. `cluster` is the label
    multicluster.kubernetes.io/source-cluster.
    """

    namespace: str
    name: str
    service: str = ""
    ports: tuple[Port, ...] = PLACEHOLDER_PORTS
    endpoints: tuple[Endpoint, ...] = ()
    cluster: str = ""


class Namespace(msgspec.Struct, frozen=True, array_like=True, tag="Namespace", gc=False):
    """A Namespace. `namespace` is always empty.

    `labels` has sorted pairs of key and value. Labels are stored only with the watch option `clients`.
    """

    name: str
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()


class Pod(msgspec.Struct, frozen=True, array_like=True, tag="Pod", gc=False):
    """A Pod with its primary address, status.podIP.

    `more_ips` has the other addresses of status.podIPs. If `host_network` is true, the Pod has the address of its node.
    These two fields are stored only with the watch option `clients`. `labels` has sorted pairs of key and value, for
    the keys in the watch option `pod_labels`.
    """

    namespace: str
    name: str
    ip: str = ""
    more_ips: tuple[str, ...] = ()
    host_network: bool = False
    labels: tuple[tuple[str, str], ...] = ()


class ServiceImport(msgspec.Struct, frozen=True, array_like=True, tag="ServiceImport"):
    """A ServiceImport. If it has no ports, `ports` is empty."""

    namespace: str
    name: str
    headless: bool = False
    ips: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()


ClusterObject = Service | EndpointSlice | ImportedSlice | Namespace | Pod | ServiceImport

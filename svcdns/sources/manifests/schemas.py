"""The API's objects as far as manifests are read, as msgspec structs that check the types of their fields.

Fields that are not here are not looked at, whatever they hold. EndpointSlice and ServiceImport have the shapes that
`decoding` gives them; Service, Pod and the workloads need more here, since this side also does what controllers do.

Source: core/v1, apps/v1, discovery.k8s.io/v1 and multicluster.x-k8s.io/v1alpha1.
"""

# ruff: noqa: N815  the attributes below are the API's own field names

from __future__ import annotations

import msgspec

from svcdns.sources.api.decoding import LoadBalancer, TargetRef


class OwnerReference(msgspec.Struct):
    """OwnerReference."""

    kind: str = ""
    name: str = ""
    controller: bool = False


class ObjectMeta(msgspec.Struct):
    """ObjectMeta."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    deletionTimestamp: str | None = None
    ownerReferences: list[OwnerReference] = []


class AnyObject(msgspec.Struct):
    """What every object has."""

    metadata: ObjectMeta


class ServicePort(msgspec.Struct):
    """ServicePort."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    targetPort: int | str | None = None


class ServiceSpec(msgspec.Struct):
    """ServiceSpec."""

    type: str = "ClusterIP"
    clusterIP: str = ""
    clusterIPs: list[str] = []
    ipFamilies: list[str] = []
    ipFamilyPolicy: str = ""
    externalName: str = ""
    externalIPs: list[str] = []
    selector: dict[str, str] = {}
    ports: list[ServicePort] = []
    publishNotReadyAddresses: bool = False


class ServiceStatus(msgspec.Struct):
    """ServiceStatus."""

    loadBalancer: LoadBalancer = msgspec.field(default_factory=LoadBalancer)


class ServiceObject(msgspec.Struct):
    """core/v1 Service."""

    metadata: ObjectMeta
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)


class EndpointAddress(msgspec.Struct):
    """EndpointAddress."""

    ip: str
    hostname: str = ""
    targetRef: TargetRef | None = None


class EndpointPort(msgspec.Struct):
    """EndpointPort."""

    port: int
    name: str = ""
    protocol: str = "TCP"


class EndpointSubset(msgspec.Struct):
    """EndpointSubset. Its notReadyAddresses have no place in an answer."""

    addresses: list[EndpointAddress] = []
    ports: list[EndpointPort] = []


class EndpointsObject(msgspec.Struct):
    """core/v1 Endpoints."""

    metadata: ObjectMeta
    subsets: list[EndpointSubset] = []


class ContainerPort(msgspec.Struct):
    """ContainerPort."""

    containerPort: int
    name: str = ""
    protocol: str = "TCP"


class Container(msgspec.Struct):
    """Container; `restartPolicy` Always makes an init container a sidecar."""

    ports: list[ContainerPort] = []
    restartPolicy: str = ""


class PodSpec(msgspec.Struct):
    """PodSpec."""

    hostname: str = ""
    subdomain: str = ""
    containers: list[Container] = []
    initContainers: list[Container] = []


class PodAddress(msgspec.Struct):
    """PodIP."""

    ip: str = ""


class PodCondition(msgspec.Struct):
    """PodCondition."""

    type: str
    status: str


class PodStatus(msgspec.Struct):
    """PodStatus."""

    phase: str = ""
    podIP: str = ""
    podIPs: list[PodAddress] = []
    conditions: list[PodCondition] = []


class PodObject(msgspec.Struct):
    """core/v1 Pod."""

    metadata: ObjectMeta
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class PodTemplate(msgspec.Struct):
    """PodTemplateSpec."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)


class Ordinals(msgspec.Struct):
    """StatefulSetOrdinals."""

    start: int = 0


class WorkloadSpec(msgspec.Struct):
    """The specs of Deployment, StatefulSet, ReplicaSet and DaemonSet, of which each uses what it has."""

    replicas: int = 1
    serviceName: str = ""
    ordinals: Ordinals = msgspec.field(default_factory=Ordinals)
    template: PodTemplate = msgspec.field(default_factory=PodTemplate)


class WorkloadObject(msgspec.Struct):
    """apps/v1 Deployment, StatefulSet, ReplicaSet or DaemonSet."""

    metadata: ObjectMeta
    spec: WorkloadSpec = msgspec.field(default_factory=WorkloadSpec)

"""The API's objects with the fields that are read from manifests, as msgspec structs that check the types of fields.

All other fields are ignored. Source: core/v1, apps/v1, batch/v1, discovery.k8s.io/v1 and
multicluster.x-k8s.io/v1alpha1.
"""

# ruff: noqa: N815  the attributes below are the API's own field names

from __future__ import annotations

import msgspec

from svcdns.sources.api.decoding import LoadBalancer, TargetRef


class OwnerReference(msgspec.Struct, gc=False):
    """The fields of meta/v1 OwnerReference that are used."""

    kind: str = ""
    name: str = ""
    controller: bool = False


class ObjectMeta(msgspec.Struct, gc=False):
    """The fields of meta/v1 ObjectMeta that are used."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    deletionTimestamp: str | None = None
    ownerReferences: list[OwnerReference] = []


class AnyObject(msgspec.Struct, gc=False):
    """The metadata of an object of any kind."""

    metadata: ObjectMeta


class ServicePort(msgspec.Struct, gc=False):
    """The fields of core/v1 ServicePort that are used."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    targetPort: int | str | None = None


class ServiceSpec(msgspec.Struct, gc=False):
    """The fields of core/v1 ServiceSpec that are used."""

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


class ServiceStatus(msgspec.Struct, gc=False):
    """The fields of core/v1 ServiceStatus that are used."""

    loadBalancer: LoadBalancer = msgspec.field(default_factory=LoadBalancer)


class ServiceObject(msgspec.Struct, gc=False):
    """The fields of core/v1 Service that are used."""

    metadata: ObjectMeta
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)


class EndpointAddress(msgspec.Struct, gc=False):
    """The fields of core/v1 EndpointAddress that are used."""

    ip: str
    hostname: str = ""
    targetRef: TargetRef | None = None


class EndpointPort(msgspec.Struct, gc=False):
    """The fields of core/v1 EndpointPort that are used."""

    port: int
    name: str = ""
    protocol: str = "TCP"


class EndpointSubset(msgspec.Struct, gc=False):
    """The fields of core/v1 EndpointSubset that are used."""

    addresses: list[EndpointAddress] = []
    ports: list[EndpointPort] = []


class EndpointsObject(msgspec.Struct, gc=False):
    """The fields of core/v1 Endpoints that are used."""

    metadata: ObjectMeta
    subsets: list[EndpointSubset] = []


class ContainerPort(msgspec.Struct, gc=False):
    """The fields of core/v1 ContainerPort that are used."""

    containerPort: int
    name: str = ""
    protocol: str = "TCP"


class Container(msgspec.Struct, gc=False):
    """The fields of core/v1 Container that are used.

    An init container whose `restartPolicy` is Always is a sidecar.
    """

    ports: list[ContainerPort] = []
    restartPolicy: str = ""


class PodSpec(msgspec.Struct, gc=False):
    """The fields of core/v1 PodSpec that are used."""

    hostname: str = ""
    subdomain: str = ""
    hostNetwork: bool = False
    containers: list[Container] = []
    initContainers: list[Container] = []


class PodAddress(msgspec.Struct, gc=False):
    """The fields of core/v1 PodIP that are used."""

    ip: str = ""


class PodCondition(msgspec.Struct, gc=False):
    """The fields of core/v1 PodCondition that are used."""

    type: str
    status: str


class PodStatus(msgspec.Struct, gc=False):
    """The fields of core/v1 PodStatus that are used."""

    phase: str = ""
    podIP: str = ""
    podIPs: list[PodAddress] = []
    conditions: list[PodCondition] = []


class PodObject(msgspec.Struct, gc=False):
    """The fields of core/v1 Pod that are used."""

    metadata: ObjectMeta
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class PodTemplate(msgspec.Struct, gc=False):
    """The fields of core/v1 PodTemplateSpec that are used."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)


class Ordinals(msgspec.Struct, gc=False):
    """The fields of apps/v1 StatefulSetOrdinals that are used."""

    start: int = 0


class WorkloadSpec(msgspec.Struct, gc=False):
    """The fields of the specs of workloads that are used. Each kind of workload has only some of them.

    The kinds are Deployment, StatefulSet, ReplicaSet, ReplicationController, DaemonSet and Job.
    """

    replicas: int = 1
    parallelism: int = 1
    completions: int | None = None
    completionMode: str = "NonIndexed"
    suspend: bool = False
    serviceName: str = ""
    ordinals: Ordinals = msgspec.field(default_factory=Ordinals)
    template: PodTemplate = msgspec.field(default_factory=PodTemplate)


class WorkloadStatus(msgspec.Struct, gc=False):
    """The status of a workload. The conditions of a Job show whether it has ended."""

    conditions: list[PodCondition] = []


class WorkloadObject(msgspec.Struct, gc=False):
    """A Deployment, StatefulSet, ReplicaSet or DaemonSet of apps/v1, a ReplicationController, or a Job."""

    metadata: ObjectMeta
    spec: WorkloadSpec = msgspec.field(default_factory=WorkloadSpec)
    status: WorkloadStatus = msgspec.field(default_factory=WorkloadStatus)

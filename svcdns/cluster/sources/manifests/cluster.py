"""The cluster that a set of manifests describes: what an API server and its controllers would make of them.

Services without a ClusterIP get one, Services with a selector get slices from matching Pods as the EndpointSlice controller builds them, Endpoints become
slices as the mirroring controller would. Namespaces need not be written out. Kinds that DNS does not know are counted and left out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from svcdns.cluster.changes import Kind
from svcdns.cluster.objects import (
    HEADLESS,
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
from svcdns.cluster.sources.label_selectors import selects
from svcdns.cluster.sources.manifests.addresses import PODS, SERVICES, assign, family
from svcdns.cluster.sources.manifests.pods import WORKLOADS, ZONE_LABEL, PodInfo, workload_pods, written_pod
from svcdns.cluster.sources.manifests.yaml_nodes import ManifestError, Node
from svcdns.cluster.sources.options import WatchOptions

SERVICE_LABEL: Final = "kubernetes.io/service-name"
IMPORTED_LABEL: Final = "multicluster.kubernetes.io/service-name"
SOURCE_CLUSTER_LABEL: Final = "multicluster.kubernetes.io/source-cluster"
ALWAYS_THERE: Final = ("default", "kube-system")
SLICE_SIZE: Final = 100
READ_KINDS: Final = ("Service", "EndpointSlice", "Endpoints", "Pod", "Namespace", "ServiceImport", *WORKLOADS)
_CLUSTER_WIDE: Final = ("Namespace",)

Objects = dict[tuple[Kind, str, str], ClusterObject]


class Manifest(NamedTuple):
    """One object of a manifest."""

    kind: str
    namespace: str
    name: str
    node: Node


def manifests(documents: Iterable[Node]) -> tuple[list[Manifest], set[str]]:
    """The objects of these documents, Lists taken apart, and the kinds that were left out. Raises ManifestError for duplicates."""
    found: dict[tuple[str, str, str], Manifest] = {}
    others: set[str] = set()
    for node in _objects(documents):
        kind = node.text_at("kind")
        if not kind:
            raise node.error("a Kubernetes object with `kind`")
        if kind not in READ_KINDS:
            others.add(kind)
            continue
        name = node.text_at("metadata", "name")
        if not name:
            raise node.error(f"a {kind} with metadata.name")
        namespace = "" if kind in _CLUSTER_WIDE else node.text_at("metadata", "namespace", default="default")
        key = (kind, namespace, name)
        if key in found:
            shown = f"{namespace}/{name}" if namespace else name
            raise ManifestError(f"{node.where}: {kind} {shown} is described already at {found[key].node.where}; one description was expected")
        found[key] = Manifest(kind, namespace, name, node)
    return list(found.values()), others


def _objects(documents: Iterable[Node]) -> Iterator[Node]:
    for node in documents:
        kind = node.text_at("kind")
        if kind.endswith("List") and node.get("items") is not None:
            yield from _objects(node.items_at("items"))
        else:
            yield node


def cluster(described: list[Manifest], options: WatchOptions) -> Objects:
    """Every object that answers need, by kind, namespace and name. Raises ManifestError."""
    return _Cluster(described, options).run()


class _Cluster:
    def __init__(self, described: list[Manifest], options: WatchOptions) -> None:
        self.described, self.options = described, options
        self.objects: Objects = {}

    def run(self) -> Objects:
        self._namespaces()
        pods = self._pods()
        for manifest in self.described:
            self._plain(manifest)
        self._services(pods)
        return self.objects

    def _of(self, *kinds: str) -> list[Manifest]:
        return [manifest for manifest in self.described if manifest.kind in kinds]

    def _add(self, kind: Kind, item: ClusterObject, labels: dict[str, str] | None = None) -> None:
        selector = self.options.namespace_labels if kind in (Kind.NAMESPACE, Kind.SERVICE_IMPORT) else self.options.labels
        if not selector or selects(selector, labels or {}):
            self.objects[kind, item.namespace, item.name] = item

    def _namespaces(self) -> None:
        written = {manifest.name: manifest.node.labels_at("metadata", "labels") for manifest in self._of("Namespace")}
        named = {manifest.namespace for manifest in self.described if manifest.namespace}
        for name in {*written, *named, *ALWAYS_THERE}:
            self._add(Kind.NAMESPACE, Namespace(name), {"kubernetes.io/metadata.name": name, **written.get(name, {})})

    def _pods(self) -> list[PodInfo]:
        pods = {pod.key: pod for m in self._of(*WORKLOADS) for pod in workload_pods(m.kind, m.node, m.namespace, m.name)}
        pods |= {pod.key: pod for m in self._of("Pod") for pod in (written_pod(m.node, m.namespace, m.name),)}
        taken = {address for pod in pods.values() for address in pod.addresses}
        nameless = [key for key, pod in pods.items() if not pod.addresses]
        made = [assign(nameless, PODS[version], taken) for version in (4, 6)]
        for key in nameless:
            pods[key].addresses = tuple(addresses[key] for addresses in made)
        if self.options.pods:
            for pod in pods.values():
                if not pod.terminating and not pod.finished:
                    self._add(Kind.POD, Pod(pod.namespace, pod.name, pod.addresses[0]), pod.labels)
        return sorted(pods.values(), key=lambda pod: (len(pod.name), pod.key))

    def _plain(self, manifest: Manifest) -> None:
        node, labels = manifest.node, manifest.node.labels_at("metadata", "labels")
        if manifest.kind == "EndpointSlice":
            self._written_slice(manifest, labels)
        elif manifest.kind == "Endpoints":
            self._mirrored(manifest, labels)
        elif manifest.kind == "ServiceImport" and self.options.multicluster:
            spec = node.get("spec") or node
            ports = tuple(_port(port) for port in spec.items_at("ports"))
            ips = tuple(spec.get("ips").texts()) if spec.get("ips") else ()  # type: ignore[union-attr]
            headless = spec.text_at("type") == "Headless"
            self._add(Kind.SERVICE_IMPORT, ServiceImport(manifest.namespace, manifest.name, headless, ips, ports), labels)

    # -- slices that are written out

    def _written_slice(self, manifest: Manifest, labels: dict[str, str]) -> None:
        node = manifest.node
        ports = tuple(_port(port) for port in node.items_at("ports")) or PLACEHOLDER_PORTS
        endpoints = tuple(endpoint for item in node.items_at("endpoints") for endpoint in self._endpoints(item))
        if self.options.endpoint_slices:
            service = labels.get(SERVICE_LABEL, "")
            self._add(Kind.ENDPOINT_SLICE, EndpointSlice(manifest.namespace, manifest.name, service, ports, endpoints), labels)
        if self.options.multicluster and IMPORTED_LABEL in labels:
            source = labels.get(SOURCE_CLUSTER_LABEL, "")
            imported = ImportedSlice(manifest.namespace, manifest.name, labels[IMPORTED_LABEL], ports, endpoints, source)
            self._add(Kind.IMPORTED_SLICE, imported, labels)

    def _endpoints(self, item: Node) -> Iterator[Endpoint]:
        if item.boolean_at("conditions", "ready", default=True):
            zone = item.text_at("zone") if self.options.zones else ""
            addresses = item.get("addresses")
            for address in addresses.texts() if addresses is not None else ():
                yield Endpoint(address, item.text_at("hostname"), item.text_at("targetRef", "name"), zone)

    def _mirrored(self, manifest: Manifest, labels: dict[str, str]) -> None:
        """Endpoints of a Service without selector, as the EndpointSliceMirroring controller copies them."""
        if not self.options.endpoint_slices:
            return
        for number, subset in enumerate(manifest.node.items_at("subsets")):
            ports = tuple(_port(port) for port in subset.items_at("ports")) or PLACEHOLDER_PORTS
            ready = [
                Endpoint(a.text_at("ip"), a.text_at("hostname"), a.text_at("targetRef", "name")) for a in subset.items_at("addresses")
            ]
            for version in (4, 6):
                mine = tuple(e for e in ready if family(e.address) == version)
                if mine:
                    name = f"{manifest.name}-mirrored-{number}-ipv{version}"
                    self._add(Kind.ENDPOINT_SLICE, EndpointSlice(manifest.namespace, name, manifest.name, ports, mine), labels)

    # -- Services

    def _services(self, pods: list[PodInfo]) -> None:
        services = self._of("Service")
        written = {f"{m.namespace}/{m.name}": _written_ips(m.node) for m in services}
        taken = {address for addresses in written.values() for address in addresses}
        missing = [m for m in services if not written[f"{m.namespace}/{m.name}"] and m.node.text_at("spec", "type") != "ExternalName"]
        made = {
            version: assign((f"{m.namespace}/{m.name}" for m in missing if version in _families(m.node, ())), SERVICES[version], taken)
            for version in (4, 6)
        }
        for manifest in services:
            key = f"{manifest.namespace}/{manifest.name}"
            addresses = written[key] or tuple(made[v][key] for v in _families(manifest.node, ()) if key in made[v])
            self._service(manifest, addresses, pods)

    def _service(self, manifest: Manifest, addresses: tuple[str, ...], pods: list[PodInfo]) -> None:
        node, labels = manifest.node, manifest.node.labels_at("metadata", "labels")
        spec = node.get("spec")
        if spec is None:
            raise node.error("a Service with spec")
        external = spec.text_at("externalName") if spec.text_at("type") == "ExternalName" else None
        ports = tuple(_port(port) for port in spec.items_at("ports"))
        ingress = [i.text_at("ip") or i.text_at("hostname") for i in node.items_at("status", "loadBalancer", "ingress")]
        outside = tuple(spec.get("externalIPs").texts()) if spec.get("externalIPs") else ()  # type: ignore[union-attr]
        self._add(
            Kind.SERVICE,
            Service(manifest.namespace, manifest.name, addresses, ports or PLACEHOLDER_PORTS, external, (*outside, *filter(None, ingress))),
            labels,
        )
        selector = spec.labels_at("selector")
        if selector and external is None and self.options.endpoint_slices:
            self._controlled_slices(manifest, spec, selector, addresses, pods, labels)

    def _controlled_slices(
        self, manifest: Manifest, spec: Node, selector: dict[str, str], addresses: tuple[str, ...], pods: list[PodInfo], labels: dict[str, str]
    ) -> None:
        """The slices of a Service with a selector, as the EndpointSlice controller builds them: by family and by ports."""
        unready = spec.boolean_at("publishNotReadyAddresses")
        groups: dict[tuple[int, tuple[Port, ...]], list[Endpoint]] = {}
        for pod in pods:
            if pod.namespace != manifest.namespace or not selector.items() <= pod.labels.items() or pod.finished:
                continue
            if not unready and (not pod.ready or pod.terminating):
                continue
            ports = tuple(port for port in (_target_port(port, pod) for port in spec.items_at("ports")) if port is not None)
            hostname = pod.hostname if pod.subdomain == manifest.name else ""
            zone = pod.labels.get(ZONE_LABEL, "") if self.options.zones else ""
            for version in _families(manifest.node, addresses):
                for address in pod.addresses:
                    if family(address) == version:
                        endpoint = Endpoint(address, hostname, pod.name, zone)
                        groups.setdefault((version, ports or PLACEHOLDER_PORTS), []).append(endpoint)
                        break
        for number, ((version, ports), endpoints) in enumerate(groups.items()):
            for start in range(0, len(endpoints), SLICE_SIZE):
                name = f"{manifest.name}-ipv{version}-{number}-{start // SLICE_SIZE}"
                part = tuple(endpoints[start : start + SLICE_SIZE])
                self._add(Kind.ENDPOINT_SLICE, EndpointSlice(manifest.namespace, name, manifest.name, ports, part), labels)


def _port(node: Node) -> Port:
    return Port(node.text_at("name"), node.text_at("protocol", default="TCP"), node.integer_at("port", default=-1))


def _target_port(node: Node, pod: PodInfo) -> Port | None:
    """The port of a Service as it is on a Pod; None where the Pod has no port of that name."""
    target = node.get("targetPort")
    if target is None:
        number: int | None = node.integer_at("port", default=-1)
    elif target.is_integer:
        number = target.integer()
    else:
        number = pod.ports.get(target.text())
    return None if number is None else Port(node.text_at("name"), node.text_at("protocol", default="TCP"), number)


def _written_ips(node: Node) -> tuple[str, ...]:
    """The ClusterIPs that the manifest spells out."""
    listed = node.at("spec", "clusterIPs")
    single = node.at("spec", "clusterIP")
    found = listed.items() if listed is not None else [single] if single is not None else []
    for item in found:
        if item.text() not in (HEADLESS, ""):
            try:
                ipaddress.ip_address(item.text())
            except ValueError:
                raise item.error("an IP address or None") from None
    return tuple(item.text() for item in found if item.text())


def _families(node: Node, addresses: tuple[str, ...]) -> tuple[int, ...]:
    """The address families of a Service: those of its ClusterIPs, else what its manifest asks for, else IPv4."""
    if addresses and addresses[0] != HEADLESS:
        return tuple(dict.fromkeys(family(address) for address in addresses))
    asked = tuple({"IPv4": 4, "IPv6": 6}.get(item.text(), 0) for item in node.items_at("spec", "ipFamilies"))
    if 0 in asked:
        raise (node.at("spec", "ipFamilies") or node).error("IPv4 and IPv6")
    both = node.text_at("spec", "ipFamilyPolicy") in ("PreferDualStack", "RequireDualStack")
    if both and len(asked) < 2:
        return (asked[0], 10 - asked[0]) if asked else (4, 6)
    return asked or (4,)

"""The Services that every cluster has: `kubernetes` in `default`, and `kube-dns` in `kube-system`.

A Service that a manifest contains is left out. The addresses are those of kubeadm, the first and the tenth of the
Services' range, if no manifest uses them.

Source: Kubernetes documentation, "Accessing the API from a Pod"; kubeadm's manifest of the cluster DNS.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from svcdns.sources.manifests.errors import FilePosition
from svcdns.sources.manifests.kinds import DEFAULT_NAMESPACE, ManifestObject
from svcdns.sources.manifests.schemas import ObjectMeta, ServiceObject, ServicePort, ServiceSpec
from svcdns.sources.manifests.services import written_ips


class _Implied(NamedTuple):
    namespace: str
    name: str
    address: str
    labels: dict[str, str]
    selector: dict[str, str]
    ports: tuple[tuple[str, str, int], ...]


_KUBE_DNS: Final = {"k8s-app": "kube-dns"}
_SERVICES: Final = (
    _Implied(
        DEFAULT_NAMESPACE,
        "kubernetes",
        "10.96.0.1",
        {"component": "apiserver", "provider": "kubernetes"},
        {},
        (("https", "TCP", 443),),
    ),
    _Implied(
        "kube-system",
        "kube-dns",
        "10.96.0.10",
        _KUBE_DNS,
        _KUBE_DNS,
        (("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("metrics", "TCP", 9153)),
    ),
)


def services(written: Sequence[ManifestObject]) -> Iterator[ManifestObject]:
    """Yields the Services that every cluster has, such as `kubernetes`, except those that a manifest contains."""
    wanted, addresses = {(one.namespace, one.name) for one in _SERVICES}, {one.address for one in _SERVICES}
    names: set[tuple[str, str]] = set()
    taken: set[str] = set()
    for item in written:
        if isinstance(item.body, ServiceObject):
            name = (item.namespace, item.name)
            if name in wanted:
                names.add(name)
            taken.update(address for address in written_ips(item.body.spec) if address in addresses)
    for implied in _SERVICES:
        if (implied.namespace, implied.name) not in names:
            yield _object(implied, taken)


def _object(implied: _Implied, taken: Collection[str]) -> ManifestObject:
    metadata = ObjectMeta(name=implied.name, namespace=implied.namespace, labels=implied.labels)
    spec = ServiceSpec(
        clusterIP="" if implied.address in taken else implied.address,
        selector=implied.selector,
        ports=[ServicePort(port, name, protocol) for name, protocol, port in implied.ports],
    )
    position = FilePosition("built in")
    return ManifestObject(position, "Service", implied.namespace, implied.name, metadata, ServiceObject(metadata, spec))

"""The Services that exist in every cluster: default/kubernetes and kube-system/kube-dns."""

from collections.abc import Callable

import pytest

from svcdns.cluster.changes import Kind
from svcdns.cluster.objects import EndpointSlice, Port, Service
from svcdns.sources.manifests.cluster import Cluster, ObjectKey

Say = Callable[..., Cluster]


def service(cluster: Cluster, namespace: str, name: str) -> Service:
    found = cluster.objects[ObjectKey(Kind.SERVICE, namespace, name)]
    assert isinstance(found, Service)
    return found


def manifest(namespace: str, name: str, spec: str) -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"


def test_implied_services_exist_without_a_manifest(say: Say) -> None:
    cluster = say("")
    api, dns = service(cluster, "default", "kubernetes"), service(cluster, "kube-system", "kube-dns")
    assert (api.cluster_ips, api.ports) == (("10.96.0.1",), (Port("https", "TCP", 443),))
    assert dns.cluster_ips == ("10.96.0.10",)
    assert dns.ports == (Port("dns", "UDP", 53), Port("dns-tcp", "TCP", 53), Port("metrics", "TCP", 9153))


@pytest.mark.parametrize(("namespace", "name"), [("default", "kubernetes"), ("kube-system", "kube-dns")])
def test_a_manifest_replaces_an_implied_service(say: Say, namespace: str, name: str) -> None:
    """The Service has only the addresses and ports of the manifest."""
    cluster = say(manifest(namespace, name, "clusterIP: 10.96.77.1, ports: [{port: 80}]"))
    found = service(cluster, namespace, name)
    assert (found.cluster_ips, found.ports) == (("10.96.77.1",), (Port("", "TCP", 80),))


def test_a_service_of_the_same_name_in_another_namespace(say: Say) -> None:
    cluster = say(manifest("shop", "kubernetes", "clusterIP: None"))
    assert service(cluster, "default", "kubernetes").cluster_ips == ("10.96.0.1",)
    assert service(cluster, "shop", "kubernetes").cluster_ips == ("None",)


def test_an_address_in_a_manifest_is_not_used_for_an_implied_service(say: Say) -> None:
    cluster = say(manifest("kube-system", "coredns", "clusterIP: 10.96.0.10, ports: [{port: 53}]"))
    assert service(cluster, "kube-system", "coredns").cluster_ips == ("10.96.0.10",)
    (other,) = service(cluster, "kube-system", "kube-dns").cluster_ips
    assert other.startswith("10.96.")
    assert other != "10.96.0.10"


def test_pods_of_the_cluster_dns(say: Say) -> None:
    """Pods of a Deployment with kubeadm's label are the endpoints of kube-dns."""
    cluster = say("""
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: coredns, namespace: kube-system}
        spec: {replicas: 2, template: {metadata: {labels: {k8s-app: kube-dns}}}}
        """)
    slices = [item for item in cluster.objects.values() if isinstance(item, EndpointSlice)]
    assert [(item.service, len(item.endpoints)) for item in slices] == [("kube-dns", 2)]

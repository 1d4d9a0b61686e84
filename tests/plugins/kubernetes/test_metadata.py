"""Metadata of *kubernetes* (docs/plugins/kubernetes.md)."""

from __future__ import annotations

import pytest

from svcdns.cluster.changes import Complete, Kind, Put
from svcdns.cluster.index import Index
from svcdns.cluster.objects import Pod
from svcdns.cluster.watch_options import ALL_LABELS, WatchOptions
from svcdns.plugins.kubernetes.handler import Kubernetes
from tests.support import world


def plugin(body: str = "pods verified") -> Kubernetes:
    """Returns the plugin, with one Pod that has the client's address."""
    index = Index(tuple(Kind))
    index.apply(Put(Pod("Tenant", "web-0", world.CLIENT.address, labels=(("app", "web"),))))
    for kind in Kind:
        index.apply(Complete(kind))
    options = world.options("kubernetes", f"kubernetes cluster.local multi.test {{\n{body}\n}}")
    return Kubernetes(options, world.environment(index))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "_dns._udp.web.d.svc.cluster.local.",
            {"port-name": "dns", "protocol": "udp", "service": "web", "namespace": "d", "kind": "svc"},
            id="port and protocol",
        ),
        pytest.param("e.web.d.svc.cluster.local.", {"endpoint": "e", "service": "web", "namespace": "d", "kind": "svc"}, id="endpoint"),
        pytest.param("1-2-3-4.d.pod.cluster.local.", {"service": "1-2-3-4", "namespace": "d", "kind": "pod"}, id="Pod"),
        pytest.param(
            "e.c.web.d.svc.multi.test.",
            {"endpoint": "e", "cluster": "c", "service": "web", "namespace": "d", "kind": "svc"},
            id="multi-cluster",
        ),
        pytest.param("web.d.nothing.cluster.local.", {"parse-error": "invalid query name"}, id="no such name"),
        pytest.param("example.org.", {}, id="outside of the cluster"),
    ],
)  # fmt: skip
def test_the_parts_of_a_name(name: str, expected: dict[str, str]) -> None:
    """Each part of a cluster name has a label; the others are empty."""
    handler = plugin("pods verified\nmulticluster multi.test")
    labels = ("port-name", "protocol", "endpoint", "cluster", "zone", "service", "namespace", "kind", "parse-error")
    found = {label: handler.metadata(world.query(name), f"kubernetes/{label}") for label in labels}
    assert {label: value for label, value in found.items() if value} == expected


def test_the_pod_of_the_client() -> None:
    """The client's Pod is known with `pods verified` only, as in CoreDNS."""
    query = world.query("example.org.")
    labels = {"client-namespace": "Tenant", "client-pod-name": "web-0", "client-label/app": "web", "client-label/x": ""}
    for label, value in labels.items():
        assert plugin().metadata(query, f"kubernetes/{label}") == value
        assert plugin().client_metadata(world.CLIENT.address, f"kubernetes/{label}") == value
        assert plugin().client_metadata("192.0.2.99", f"kubernetes/{label}") == ""
        assert plugin("pods insecure").metadata(query, f"kubernetes/{label}") == ""


@pytest.mark.parametrize(
    ("others", "keys"),
    [
        pytest.param("log . {/kubernetes/client-label/app}", (), id="without metadata"),
        pytest.param("metadata\nlog . {/kubernetes/client-pod-name}", (), id="no label"),
        pytest.param(
            "metadata\nlog . {/kubernetes/client-label/b.example/app-name}{/kubernetes/client-label/a_b}",
            ("a_b", "b.example/app-name"),
            id="log",
        ),
        pytest.param(
            "metadata\nview v {\n expr metadata('kubernetes/client-label/app') == 'x'\n}", ("app",), id="view"
        ),
        pytest.param('metadata\nlog . "a {/kubernetes/client-label/app} b"', ("app",), id="quoted"),
        pytest.param(
            "metadata\nview v {\n expr metadata('kubernetes/client-label/' + type()) == 'x'\n}",
            (ALL_LABELS,),
            id="a computed key",
        ),
    ],
)
def test_labels_that_the_block_uses_are_kept(others: str, keys: tuple[str, ...]) -> None:
    block = f"kubernetes cluster.local {{\n pods verified\n}}\n{others}"
    assert world.options("kubernetes", block).watch == WatchOptions(pods=True, pod_labels=keys)
    assert world.options("kubernetes", block.replace("verified", "insecure")).watch == WatchOptions()

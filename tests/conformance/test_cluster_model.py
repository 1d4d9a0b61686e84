"""The suite's model of a cluster, made from API objects and from manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.conformance import expected
from svcdns.conformance.cluster_model import Cluster, Endpoint, Port, Service, canonical, from_manifests, from_objects
from svcdns.conformance.lab import endpoint, endpoint_slice, objects, service
from svcdns.sources.manifests import ManifestError

ZONES = Path(__file__).parents[2] / "zones"


def lab() -> Cluster:
    """Returns the cluster model of the lab's objects, with addresses like those that an API server assigns."""
    items = []
    for number, item in enumerate(objects(7)):
        spec = item.get("spec", {})
        if item["kind"] == "Service" and "clusterIP" not in spec and spec.get("type") != "ExternalName":
            spec = {**spec, "clusterIP": f"10.0.0.{number}"}
        items.append({**item, "metadata": {**item["metadata"], "namespace": "n"}, "spec": spec})
    return from_objects([*items, {"kind": "Namespace", "metadata": {"name": "n"}}])


def test_a_model_of_api_objects() -> None:
    """The model has the namespaces, the types of the Services, and ready endpoints with their ports."""
    cluster = lab()
    assert cluster.namespaces == {"n"}
    headless = cluster.service("n", "headless")
    assert headless is not None
    assert headless.headless
    assert [e.hostname for e in headless.endpoints] == ["alpha", "beta", ""]
    assert headless.endpoints[0].ports == (Port("http", "tcp", 80), Port("admin", "tcp", 9100))
    external = cluster.service("n", "external")
    assert external is not None
    assert (external.type, external.external_name, external.cluster_ips) == (
        "ExternalName",
        "www.conformance.invalid",
        (),
    )
    nodeport = cluster.service("n", "nodeport")
    assert nodeport is not None
    assert (nodeport.type, nodeport.of_family(4), nodeport.of_family(6)) == ("NodePort", ("10.0.0.2",), ())
    assert cluster.services_with("10.0.0.2") == [(nodeport, None)]
    assert cluster.services_with("192.0.2.1") == []


def test_details_of_slices() -> None:
    """An endpoint in two slices is one endpoint. FQDN endpoints and finished Pods have no address."""
    ports = [{"port": 9}]
    items = [
        {**service("s", clusterIP="None"), "metadata": {"name": "s", "namespace": "n"}},
        endpoint_slice("a", "s", [endpoint("10.0.0.1")]),
        endpoint_slice("b", "s", [endpoint("10.0.0.1")], ports),
        {**endpoint_slice("c", "s", [endpoint("x.example.test")]), "addressType": "FQDN"},
        {
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n"},
            "status": {"podIP": "10.0.0.9", "phase": "Running"},
        },
        {
            "kind": "Pod",
            "metadata": {"name": "q", "namespace": "n"},
            "status": {"podIP": "10.0.0.8", "phase": "Succeeded"},
        },
        {"kind": "Pod", "metadata": {"name": "r", "namespace": "n"}},
    ]
    cluster = from_objects([{**item, "metadata": {"namespace": "n", **item["metadata"]}} for item in items])
    assert cluster.services[0].endpoints == (Endpoint("10.0.0.1", "", (Port("http", "tcp", 80), Port("", "tcp", 9))),)
    assert cluster.services[0].by_name
    assert cluster.pods == (("n", "10.0.0.9"),)


def test_canonical_addresses() -> None:
    """Equal addresses have the same text. Invalid addresses are left out."""
    assert list(canonical(["10.0.0.1", "FD00:0::1", "::ffff:10.0.0.2", "x", "10.0.0.01"])) == [
        "10.0.0.1",
        "fd00::1",
        "10.0.0.2",
    ]


def test_a_model_of_manifests() -> None:
    cluster = from_manifests([str(ZONES / "cluster.yaml")])
    types = {s.name: s.type for s in cluster.services}
    assert (types["nginx"], types["nginx-nodeport"], types["my-web-service"], types["shop"]) == (
        "ClusterIP", "NodePort", "LoadBalancer", "ExternalName",
    )  # fmt: skip
    workers = cluster.service("lab", "workers")
    assert workers is not None
    assert expected.addresses(workers, 4) == {"10.244.7.1", "10.244.7.2"}
    assert ("lab", "10.244.7.1") in cluster.pods
    with pytest.raises(ManifestError, match="nowhere"):
        from_manifests(["nowhere.yaml"])


def test_expected_records() -> None:
    """Names and data follow the Kubernetes DNS specification."""
    http = Port("HTTP", "tcp", 80)
    web = Service("d", "web", cluster_ips=("10.0.0.1", "fd00::1"), ports=(http, Port("", "udp", 53)))
    assert expected.service_name(web, "z.") == "web.d.svc.z."
    assert expected.addresses(web, 6) == {"fd00::1"}
    assert [p.name for p in expected.named_ports(web)] == ["HTTP"]
    assert expected.port_name(http, web, "z.") == "_http._tcp.web.d.svc.z."
    assert expected.cluster_srv(web, http, "z.") == {(80, "web.d.svc.z.")}
    db = Service(
        "d", "db", headless=True, endpoints=(Endpoint("10.0.0.2", "db-0", (http,)), Endpoint("10.0.0.3", "", (http,)))
    )
    assert expected.headless_srv(db, http, "z.") == {(80, "db-0.db.d.svc.z.")}
    assert expected.nameless_srv(db, http) == 1
    assert expected.hostname_addresses(db, "DB-0", 4) == {"10.0.0.2"}
    assert expected.reverse_name("10.0.0.2") == "2.0.0.10.in-addr.arpa."
    assert expected.absolute("A.example") == "a.example."

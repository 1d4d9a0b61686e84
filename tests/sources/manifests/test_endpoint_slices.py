"""EndpointSlices of Services, built as the controllers of Kubernetes do from Pods and Endpoints objects."""

from collections.abc import Callable
from typing import Any

import pytest

from svcdns.cluster.changes import Kind
from svcdns.cluster.objects import PLACEHOLDER_PORTS, Endpoint, EndpointSlice, Port
from svcdns.sources.manifests.cluster import Cluster

Say = Callable[..., Cluster]


def slices(cluster: Cluster) -> list[EndpointSlice]:
    return [item for item in cluster.objects.values() if isinstance(item, EndpointSlice)]


def service(spec: str, metadata: str = "name: web") -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata: {{{metadata}}}\nspec: {spec}\n---\n"


def pod(name: str, address: str, spec: str = "{}", metadata: str = "labels: {app: web}") -> str:
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, {metadata}}}\nspec: {spec}\nstatus: {{podIP: {address}}}\n---\n"


NAMED = "{containers: [{ports: [{name: http, containerPort: 8080}, {name: dns, protocol: UDP, containerPort: 5353}]}]}"
SIDECAR = """{
  containers: [{}],
  initContainers: [{ports: [{name: http, containerPort: 1}]}, {restartPolicy: Always, ports: [{name: http, containerPort: 2}]}],
}"""


@pytest.mark.parametrize(
    ("ports", "pod_spec", "expected"),
    [
        pytest.param("[{port: 80}]", "{}", (Port("", "TCP", 80),), id="no-target"),
        pytest.param("[{port: 80, targetPort: 8080}]", "{}", (Port("", "TCP", 8080),), id="number"),
        pytest.param("[{name: a, port: 80, targetPort: http}]", NAMED, (Port("a", "TCP", 8080),), id="name"),
        pytest.param(
            "[{name: a, port: 53, protocol: UDP, targetPort: dns}]", NAMED, (Port("a", "UDP", 5353),), id="name-udp"
        ),
        pytest.param("[{name: a, port: 53, targetPort: dns}]", NAMED, PLACEHOLDER_PORTS, id="name-of-another-protocol"),
        pytest.param(
            "[{name: a, port: 1}, {name: b, port: 2, targetPort: gone}]",
            NAMED,
            (Port("a", "TCP", 1),),
            id="unknown-name-left-out",
        ),
        pytest.param(
            "[{port: 80, targetPort: http}]", SIDECAR, (Port("", "TCP", 2),), id="sidecar-but-no-other-init-container"
        ),
        pytest.param("[]", NAMED, PLACEHOLDER_PORTS, id="no-ports"),
    ],
)
def test_ports(say: Say, ports: str, pod_spec: str, expected: tuple[Port, ...]) -> None:
    """The ports of a slice are the Service's ports. Their numbers are those of the Pod."""
    (found,) = slices(say(service(f"{{selector: {{app: web}}, ports: {ports}}}") + pod("a", "192.0.2.1", pod_spec)))
    assert found.ports == expected
    assert found.service == "web"
    assert found.name.startswith("web-")
    assert [end.address for end in found.endpoints] == ["192.0.2.1"]


def test_pods_with_other_ports_have_a_slice_of_their_own(say: Say) -> None:
    """If two Pods have different numbers for a named port, they cannot be in one slice."""
    text = service("{selector: {app: web}, ports: [{port: 80, targetPort: http}]}")
    text += pod("a", "192.0.2.1", "{containers: [{ports: [{name: http, containerPort: 1}]}]}")
    text += pod("b", "192.0.2.2", "{containers: [{ports: [{name: http, containerPort: 2}]}]}")
    assert {slice_.ports[0].number: [end.target for end in slice_.endpoints] for slice_ in slices(say(text))} == {
        1: ["a"],
        2: ["b"],
    }


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        pytest.param("{app: web}", ["a", "b"], id="one-label"),
        pytest.param("{app: web, tier: front}", ["a"], id="two-labels"),
        pytest.param("{tier: back}", [], id="none"),
        pytest.param("{}", [], id="empty-is-no-selector"),
    ],
)
def test_selector(say: Say, selector: str, found: list[str]) -> None:
    """All labels of the selector must match. The Pods are in the Service's namespace."""
    text = service(f"{{selector: {selector}}}")
    text += pod("a", "192.0.2.1", metadata="labels: {app: web, tier: front}") + pod("b", "192.0.2.2")
    text += pod("c", "192.0.2.3", metadata="namespace: other, labels: {app: web, tier: back}")
    assert [end.target for slice_ in slices(say(text)) for end in slice_.endpoints] == found


@pytest.mark.parametrize(
    ("spec", "hostname"),
    [
        pytest.param("{hostname: x, subdomain: web}", "x", id="both"),
        pytest.param("{hostname: x}", "", id="no-subdomain"),
        pytest.param("{subdomain: web}", "", id="no-hostname"),
        pytest.param("{hostname: x, subdomain: other}", "", id="subdomain-of-another-service"),
    ],
)
def test_hostname(say: Say, spec: str, hostname: str) -> None:
    """An endpoint has the Pod's hostname only if the Pod's subdomain is the Service."""
    (found,) = slices(say(service("{clusterIP: None, selector: {app: web}}") + pod("a", "192.0.2.1", spec)))
    assert found.endpoints == (Endpoint("192.0.2.1", hostname, "a"),)


@pytest.mark.parametrize(
    ("metadata", "status"),
    [
        pytest.param("name: a, labels: {app: web}", "{podIP: 192.0.2.1, phase: Pending}", id="pending"),
        pytest.param("name: a, labels: {app: web}, deletionTimestamp: x", "{podIP: 192.0.2.1}", id="being-deleted"),
    ],
)
@pytest.mark.parametrize("publish", [True, False])
def test_publish_not_ready_addresses(say: Say, metadata: str, status: str, publish: bool) -> None:
    """publishNotReadyAddresses includes Pods that are not ready or are being deleted."""
    text = service(f"{{selector: {{app: web}}, publishNotReadyAddresses: {str(publish).lower()}}}")
    text += f"apiVersion: v1\nkind: Pod\nmetadata: {{{metadata}}}\nstatus: {status}\n"
    assert bool(slices(say(text))) is publish


def test_publish_not_ready_addresses_of_a_pod_at_its_end(say: Say) -> None:
    text = service("{selector: {app: web}, publishNotReadyAddresses: true}")
    text += "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: web}}\nstatus: {podIP: 192.0.2.1, phase: Succeeded}\n"
    assert slices(say(text)) == []


@pytest.mark.parametrize(
    ("spec", "families"),
    [
        pytest.param("{}", [["192.0.2.1"]], id="ipv4"),
        pytest.param("{ipFamilies: [IPv6]}", [["2001:db8::1"]], id="ipv6"),
        pytest.param("{ipFamilyPolicy: PreferDualStack}", [["192.0.2.1"], ["2001:db8::1"]], id="dual"),
        pytest.param(
            "{clusterIP: None, ipFamilyPolicy: RequireDualStack}", [["192.0.2.1"], ["2001:db8::1"]], id="headless-dual"
        ),
        pytest.param("{type: ExternalName, externalName: a.example}", [], id="external-name"),
    ],
)
def test_families(say: Say, spec: str, families: list[list[str]]) -> None:
    """A Service has one EndpointSlice for each address family. An ExternalName Service has none."""
    text = service(spec.replace("}", ", selector: {app: web}}").replace("{,", "{"))
    text += "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: web}}\nstatus: {podIPs: [{ip: 192.0.2.1}, {ip: '2001:db8::1'}]}\n"
    assert [[end.address for end in slice_.endpoints] for slice_ in slices(say(text))] == families


def deployment(replicas: int) -> str:
    """Returns a Deployment whose Pods the Service selects."""
    spec = f"{{replicas: {replicas}, template: {{metadata: {{labels: {{app: web}}}}}}}}"
    return f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: {spec}\n---\n"


def test_at_most_100_endpoints(say: Say) -> None:
    """250 Pods need three slices. Each Pod is in one of them."""
    found = slices(say(service("{selector: {app: web}}") + deployment(250)))
    assert [len(slice_.endpoints) for slice_ in found] == [100, 100, 50]
    assert len({slice_.name for slice_ in found}) == 3
    assert len({end.target for slice_ in found for end in slice_.endpoints}) == 250


def test_scaling_does_not_change_full_slices(say: Say) -> None:
    text = service("{selector: {app: web}}")
    before, after = slices(say(text + deployment(250))), slices(say(text + deployment(210)))
    assert before[:2] == after[:2]
    assert before[2].endpoints[:10] == after[2].endpoints


@pytest.mark.parametrize("keep_zones", [True, False])
def test_zone(say: Say, keep_zones: bool) -> None:
    """The topology zone is a label of the Pod. The option includes it."""
    text = service("{selector: {app: web}}") + pod(
        "a", "192.0.2.1", metadata="labels: {app: web, topology.kubernetes.io/zone: z1}"
    )
    (found,) = slices(say(text, zones=keep_zones))
    assert found.endpoints[0].zone == ("z1" if keep_zones else "")


SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: hand, labels: {kubernetes.io/service-name: web%s}}
ports: [{port: 8080}, {}]
endpoints:
- {addresses: [192.0.2.1, 192.0.2.2], hostname: h, targetRef: {name: p}, zone: z}
- {addresses: [192.0.2.3], conditions: {ready: true, serving: false, terminating: true}}
- {addresses: [192.0.2.4], conditions: {}}
- {addresses: [192.0.2.5], conditions: {ready: false, serving: true}}
---
"""


def test_a_slice_in_a_manifest(say: Say) -> None:
    """An endpoint is ready unless its condition is false. A port's protocol defaults to TCP, and its number may be
    missing.
    """
    (found,) = slices(say(SLICE % "", zones=True))
    assert found == EndpointSlice(
        "default",
        "hand",
        "web",
        (Port("", "TCP", 8080), Port("", "TCP", -1)),
        (
            Endpoint("192.0.2.1", "h", "p", "z"),
            Endpoint("192.0.2.2", "h", "p", "z"),
            Endpoint("192.0.2.3"),
            Endpoint("192.0.2.4"),
        ),
    )


MANAGED = ", endpointslice.kubernetes.io/managed-by: {}-controller.k8s.io"


@pytest.mark.parametrize(
    ("label", "with_pod", "names"),
    [
        pytest.param("", True, {"built", "hand"}, id="hand-made-beside-built"),
        pytest.param(MANAGED.format("endpointslice"), True, {"built"}, id="the-controllers-own-is-built-anew"),
        pytest.param(MANAGED.format("endpointslice"), False, {"hand"}, id="the-controllers-own-without-its-pods"),
    ],
)
def test_a_slice_of_the_controller_is_built_again(say: Say, label: str, with_pod: bool, names: set[str]) -> None:
    """A dump of a cluster has the controller's slices and the Pods. Each endpoint must occur once."""
    text = service("{selector: {app: web}}") + SLICE % label + (pod("a", "192.0.2.1") if with_pod else "")
    assert {"hand" if slice_.name == "hand" else "built" for slice_ in slices(say(text))} == names


ENDPOINTS = """
apiVersion: v1
kind: Endpoints
metadata: {name: web%s}
subsets:
- addresses: [{ip: 192.0.2.1, hostname: h, targetRef: {name: p}}, {ip: '2001:db8::1'}]
  notReadyAddresses: [{ip: 192.0.2.9}]
  ports: [{name: http, port: 8080}]
- addresses: [{ip: 192.0.2.2}]
  ports: [{name: http, port: 8080}]
- addresses: [{ip: 192.0.2.3}]
---
"""


def test_endpoints_are_mirrored(say: Say) -> None:
    """Each address family and set of ports gets one slice. Addresses that are not ready are left out."""
    found = slices(say(service("{clusterIP: None}") + ENDPOINTS % ""))
    assert [(slice_.service, slice_.ports, slice_.endpoints) for slice_ in found] == [
        ("web", (Port("http", "TCP", 8080),), (Endpoint("192.0.2.1", "h", "p"), Endpoint("192.0.2.2"))),
        ("web", (Port("http", "TCP", 8080),), (Endpoint("2001:db8::1"),)),
        ("web", PLACEHOLDER_PORTS, (Endpoint("192.0.2.3"),)),
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param(ENDPOINTS % "", [], id="no-service"),
        pytest.param(service("{selector: {app: web}}") + ENDPOINTS % "", [], id="service-with-selector"),
        pytest.param(
            service("{}") + ENDPOINTS % ", labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}",
            [],
            id="label-skip-mirror",
        ),
        pytest.param(
            service("{}") + ENDPOINTS % "" + SLICE % MANAGED.format("endpointslicemirroring"),
            ["hand"],
            id="mirror-is-written-out",
        ),
    ],
)
def test_endpoints_that_are_not_mirrored(say: Say, text: str, names: list[Any]) -> None:
    """The Service must have no selector, and no manifest may have the mirrored slice."""
    assert [slice_.name for slice_ in slices(say(text))] == names


def test_more_than_1000_mirrored(say: Say) -> None:
    """A mirrored slice has up to 1000 endpoints."""
    addresses = ", ".join(f"{{ip: 192.0.{number // 256}.{number % 256}}}" for number in range(1001))
    text = f"apiVersion: v1\nkind: Endpoints\nmetadata: {{name: web}}\nsubsets: [{{addresses: [{addresses}]}}]\n---\n"
    assert [len(slice_.endpoints) for slice_ in slices(say(service("{}") + text))] == [1000, 1]


def test_keys_of_slices(say: Say) -> None:
    """The key of an object is its kind, namespace and name."""
    cluster = say(SLICE % "")
    assert (Kind.ENDPOINT_SLICE, "default", "hand") in cluster.objects

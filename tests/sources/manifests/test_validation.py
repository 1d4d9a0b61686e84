"""Fields that an API server would refuse. Each has a warning, and is served if CoreDNS would serve it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svcdns.cluster.changes import Kind
from svcdns.cluster.objects import PLACEHOLDER_PORTS, Port
from svcdns.sources.manifests.cluster import Reader
from svcdns.sources.manifests.errors import ManifestError
from svcdns.sources.manifests.files import find
from svcdns.sources.manifests.kinds import SHOWN_REFUSALS, FileContent, read

SERVICE = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n"
PORTS = SERVICE + "  ports: [{port: 80}]\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n"
SLICE = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web\n"
ENDPOINTS = "apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: web\n"
JOB = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: web\nspec:\n"
DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n"
V4_SLICE = SLICE + "addressType: IPv4\n"


def content(folder: Path, text: str) -> FileContent:
    (folder / "a.yaml").write_text(text)
    return read(str(folder / "a.yaml"))


@pytest.mark.parametrize(
    ("text", "line", "expected", "served"),
    [
        pytest.param(
            "apiVersion: v1\nkind: Pod\nmetadata: {}\n",
            3,
            "metadata.name: expected a DNS name (a-z, 0-9, -, .), found ''",
            False,
            id="no-name",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a.b\n",
            4,
            "metadata.name: expected a DNS label (a-z, 0-9, -), found 'a.b'",
            False,
            id="dot",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: A\n",
            5,
            "metadata.namespace: expected a DNS label (a-z, 0-9, -), found 'A'",
            False,
            id="namespace",
        ),
        pytest.param(
            SERVICE + "  ports:\n  - port: 70000\n",
            7,
            "spec.ports[0].port: expected a port number from 1 to 65535, found 70000; the port is left out",
            True,
            id="port",
        ),
        pytest.param(
            SERVICE + "  ports:\n  - port: 1\n    targetPort: 70000\n",
            8,
            "spec.ports[0].targetPort: expected a port number from 1 to 65535, found 70000",
            True,
            id="target-port",
        ),
        pytest.param(
            SERVICE + "  clusterIP: 10.0.0\n",
            6,
            "spec.clusterIP: expected an IPv4 or IPv6 address, found '10.0.0'",
            False,
            id="cluster-ip",
        ),
        pytest.param(
            SERVICE + "  clusterIPs:\n  - 10.0.0.1\n  - x\n",
            8,
            "spec.clusterIPs[1]: expected an IPv4 or IPv6 address, found 'x'",
            False,
            id="cluster-ips",
        ),
        pytest.param(
            SERVICE + "  type: Node\n",
            6,
            "spec.type: expected ClusterIP, NodePort, LoadBalancer or ExternalName, found 'Node'",
            True,
            id="type",
        ),
        pytest.param(
            SERVICE + "  ipFamilies: [IPv5]\n",
            6,
            "spec.ipFamilies[0]: expected IPv4 or IPv6, found 'IPv5'",
            True,
            id="family",
        ),
        pytest.param(
            SERVICE + "  ipFamilyPolicy: Dual\n",
            6,
            "spec.ipFamilyPolicy: expected SingleStack, PreferDualStack or RequireDualStack, found 'Dual'",
            True,
            id="policy",
        ),
        pytest.param(
            SERVICE + "  type: ExternalName\n",
            5,
            "spec.externalName: expected the name that a Service of type ExternalName points to",
            False,
            id="external-name",
        ),
        pytest.param(
            POD + "status:\n  podIP: x\n",
            6,
            "status.podIP: expected an IPv4 or IPv6 address, found 'x'; the address is left out",
            True,
            id="pod-ip",
        ),
        pytest.param(
            POD + "status:\n  podIPs:\n  - ip: x\n",
            7,
            "status.podIPs[0].ip: expected an IPv4 or IPv6 address, found 'x'; the address is left out",
            True,
            id="pod-ips",
        ),
        pytest.param(
            SLICE + "ports:\n- port: 0\n",
            6,
            "ports[0].port: expected a port number from 1 to 65535, found 0; the port is left out",
            True,
            id="slice-port",
        ),
        pytest.param(
            SLICE + "addressType: IPv4\nendpoints:\n- addresses:\n  - web.example\n",
            8,
            "endpoints[0].addresses[0]: expected an IPv4 or IPv6 address, found 'web.example'; the address is left out",
            True,
            id="slice-address",
        ),
        pytest.param(
            ENDPOINTS + "subsets:\n- addresses:\n  - ip: x\n",
            7,
            "subsets[0].addresses[0].ip: expected an IPv4 or IPv6 address, found 'x'; the address is left out",
            True,
            id="endpoint",
        ),
        pytest.param(
            DEPLOYMENT + "  replicas: -1\n",
            6,
            "spec.replicas: expected a number from 0 to 65534, found -1",
            True,
            id="negative",
        ),
        pytest.param(
            DEPLOYMENT + "  ordinals:\n    start: -1\n",
            7,
            "spec.ordinals.start: expected a number from 0, found -1",
            True,
            id="negative-ordinal",
        ),
        pytest.param(
            JOB + "  parallelism: -1\n",
            6,
            "spec.parallelism: expected a number from 0 to 65534, found -1",
            True,
            id="negative-parallelism",
        ),
        pytest.param(
            JOB + "  completionMode: Some\n",
            6,
            "spec.completionMode: expected NonIndexed or Indexed, found 'Some'",
            False,
            id="completion-mode",
        ),
        pytest.param(
            JOB + "  completionMode: Indexed\n",
            5,
            "spec: expected completions, which an Indexed Job needs",
            False,
            id="indexed-without-completions",
        ),
        pytest.param(
            SERVICE + "  type: ClusterIP\n", 5, "spec: expected ports, which are missing", True, id="no-ports"
        ),
        pytest.param(
            SERVICE + "  ports: [{port: 1}, {port: 2, name: b}]\n",
            6,
            "spec.ports[0]: expected name, as there are several ports",
            True,
            id="port-without-name",
        ),
        pytest.param(
            SERVICE + "  ports: [{port: 1, name: b}, {port: 2, name: b}]\n",
            6,
            "spec.ports[1].name: expected each name once, found 'b' again",
            True,
            id="port-name-twice",
        ),
        pytest.param(
            SERVICE + "  ports: [{port: 1, name: a}, {port: 1, name: b}]\n",
            6,
            "spec.ports[1]: expected each port once, found 1/TCP again",
            True,
            id="port-twice",
        ),
        pytest.param(
            SERVICE + "  ports: [{port: 1, name: a.b}]\n",
            6,
            "spec.ports[0].name: expected a DNS label (a-z, 0-9, -), found 'a.b'; the port is left out",
            True,
            id="port-name",
        ),
        pytest.param(
            SERVICE + "  ports: [{port: 1, protocol: tcp}]\n",
            6,
            "spec.ports[0].protocol: expected TCP, UDP or SCTP, found 'tcp'",
            True,
            id="protocol",
        ),
        pytest.param(
            SERVICE.replace("web", "web_1") + "  ports: [{port: 1}]\n",
            4,
            "metadata.name: expected a DNS label (a-z, 0-9, -), found 'web_1'",
            True,
            id="underscore",
        ),
        pytest.param(
            SERVICE + "  type: ExternalName\n  externalName: a_b.test\n",
            7,
            "spec.externalName: expected a DNS name (a-z, 0-9, -, .), found 'a_b.test'",
            True,
            id="external-name-underscore",
        ),
        pytest.param(
            SERVICE + "  type: ExternalName\n  externalName: https://a.test/\n",
            7,
            "spec.externalName: expected a DNS name (a-z, 0-9, -, .), found 'https://a.test/'",
            False,
            id="external-name-url",
        ),
        pytest.param(
            SERVICE + "  type: ExternalName\n  externalName: a.test\n  clusterIP: 10.0.0.1\n",
            8,
            "spec.clusterIP: expected no cluster IP for a Service of type ExternalName",
            True,
            id="external-name-with-ip",
        ),
        pytest.param(
            PORTS + "  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.2]\n",
            8,
            "spec.clusterIPs[0]: expected 10.0.0.1, as in spec.clusterIP, found 10.0.0.2",
            True,
            id="two-different-ips",
        ),
        pytest.param(
            PORTS + "  clusterIPs: [10.0.0.1, 10.0.0.2]\n",
            7,
            "spec.clusterIPs: expected at most one cluster IP of each address family",
            True,
            id="two-ips-of-a-family",
        ),
        pytest.param(
            PORTS + "  clusterIP: None\n  type: NodePort\n",
            8,
            "spec.type: expected type ClusterIP for a cluster IP of None, found NodePort",
            True,
            id="headless-node-port",
        ),
        pytest.param(
            PORTS + "  clusterIP: fd00::1\n  ipFamilies: [IPv4]\n",
            8,
            "spec.ipFamilies: expected IPv6, as the cluster IP, found IPv4",
            True,
            id="family-of-the-ip",
        ),
        pytest.param(
            PORTS + "  ipFamilies: [IPv4, IPv6]\n",
            7,
            "spec.ipFamilies: expected ipFamilyPolicy PreferDualStack or RequireDualStack for two address families",
            True,
            id="two-families",
        ),
        pytest.param(
            PORTS + "  ipFamilyPolicy: SingleStack\n  clusterIPs: [10.0.0.1, fd00::1]\n",
            7,
            "spec.ipFamilyPolicy: expected ipFamilyPolicy PreferDualStack or RequireDualStack for two address families",
            True,
            id="single-stack",
        ),
        pytest.param(
            PORTS + "  ipFamilies: [IPv4, IPv4]\n",
            7,
            "spec.ipFamilies: expected each address family once",
            True,
            id="family-twice",
        ),
        pytest.param(
            PORTS + "  externalIPs: [x]\n",
            7,
            "spec.externalIPs[0]: expected an IPv4 or IPv6 address, found 'x'; the address is left out",
            True,
            id="external-ip",
        ),
        pytest.param(
            PORTS + "  selector:\n    app: a b\n",
            8,
            "spec.selector.app: expected the value of a label (63 of a-z, A-Z, 0-9, -, _, .), found 'a b'",
            True,
            id="selector-value",
        ),
        pytest.param(
            PORTS.replace("spec:", "  labels:\n    -a: b\nspec:"),
            6,
            "metadata.labels.-a: expected the key of a label, found '-a'",
            True,
            id="label-key",
        ),
        pytest.param(
            SLICE + "endpoints: []\n",
            1,
            "addressType: expected IPv4, IPv6 or FQDN, found ''",
            True,
            id="no-address-type",
        ),
        pytest.param(
            V4_SLICE + "endpoints:\n- addresses: [fd00::1]\n",
            7,
            "endpoints[0].addresses[0]: expected an address of the addressType IPv4, found fd00::1",
            True,
            id="address-type",
        ),
        pytest.param(
            V4_SLICE + "endpoints:\n- addresses: []\n",
            7,
            "endpoints[0].addresses: expected 1 to 100 addresses, found 0",
            True,
            id="no-addresses",
        ),
        pytest.param(
            V4_SLICE + "endpoints:\n" + "- addresses: [10.0.0.1]\n" * 1001,
            6,
            "endpoints: expected at most 1000 endpoints, found 1001",
            True,
            id="endpoints",
        ),
        pytest.param(
            V4_SLICE + "endpoints:\n- {addresses: [10.0.0.1], hostname: a.b}\n",
            7,
            "endpoints[0].hostname: expected a DNS label (a-z, 0-9, -), found 'a.b'; the hostname is left out",
            True,
            id="endpoint-hostname",
        ),
        pytest.param(
            ENDPOINTS + "subsets:\n- addresses: [{ip: 127.0.0.1}]\n",
            6,
            "subsets[0].addresses[0].ip: expected an address that other hosts reach, found 127.0.0.1",
            True,
            id="loopback",
        ),
        pytest.param(
            POD + "spec:\n  hostname: A\n",
            6,
            "spec.hostname: expected a DNS label (a-z, 0-9, -), found 'A'; the hostname is left out",
            True,
            id="pod-hostname",
        ),
        pytest.param(
            POD + "spec:\n  containers: [{ports: [{containerPort: 0}]}]\n",
            6,
            "spec.containers[0].ports[0].containerPort: expected a port number from 1 to 65535, found 0;"
            " the port is left out",
            True,
            id="container-port",
        ),
        pytest.param(
            DEPLOYMENT + "  replicas: 1\n", 5, "spec: expected selector, which is missing", True, id="no-selector"
        ),
        pytest.param(
            DEPLOYMENT + "  selector:\n    matchLabels: {app: a}\n  template: {metadata: {labels: {app: b}}}\n",
            6,
            "spec.selector: expected labels that the template has",
            True,
            id="other-selector",
        ),
    ],
)
def test_a_field_has_a_warning(tmp_path: Path, text: str, line: int, expected: str, served: bool) -> None:
    """The warning has file and line, and says whether the object is skipped."""
    found = content(tmp_path, text)
    kind = text.split("kind: ")[1].split("\n", maxsplit=1)[0]
    result = f"an API server would refuse this {kind}{'' if served else ', so it is skipped'}"
    assert f"{tmp_path}/a.yaml:{line}: {expected}; {result}" in found.warnings
    assert [item.kind for item in found.objects] == ([kind] if served else [])
    assert not found.errors


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PORTS + "  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.1]\n  ipFamilies: [IPv4]\n", id="service"),
        pytest.param(PORTS.replace("80", "80, targetPort: 0"), id="target port of 0"),
        pytest.param(SERVICE + "  clusterIP: None\n", id="headless without ports"),
        pytest.param(SERVICE + "  type: ExternalName\n  externalName: a.test.\n", id="external name"),
        pytest.param(
            PORTS
            + "  ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv6, IPv4]\n  clusterIPs: [fd00::1, 10.0.0.1]\n",
            id="dual-stack",
        ),
        pytest.param(V4_SLICE + "endpoints:\n- {addresses: [10.0.0.1], hostname: a}\nports: [{port: 1}]\n", id="slice"),
        pytest.param(
            DEPLOYMENT + "  selector:\n    matchLabels: {app: a}\n  template: {metadata: {labels: {app: a, b: c}}}\n",
            id="deployment",
        ),
        pytest.param(
            PORTS.replace("spec:", "  labels:\n    app.kubernetes.io/name: a_b.C-1\n    empty: ''\nspec:"), id="labels"
        ),
        pytest.param(JOB + "  template: {}\n", id="job"),
    ],
)
def test_a_good_object_has_no_warning(tmp_path: Path, text: str) -> None:
    assert content(tmp_path, text).warnings == []


def test_the_rest_of_an_object_is_served(say: Callable[..., Any]) -> None:
    """The invalid part is left out. The other ports and addresses are served."""
    cluster = say(
        SERVICE
        + "  ports: [{port: 70000, name: a}, {port: 2, name: b}]\n  clusterIPs: [10.0.0.1, 'fd00::1']\n---\n"
        + SERVICE.replace("web", "bare")
        + "  clusterIP: fd00::2\n  ipFamilies: [IPv4]\n---\n"
        + V4_SLICE
        + "endpoints: [{addresses: [x, 10.0.0.9]}]\n---\n"
        + DEPLOYMENT
        + "  replicas: -1\n"
    )
    service = cluster.objects[Kind.SERVICE, "default", "web"]
    assert service.ports == (Port("b", "TCP", 2),)
    assert service.cluster_ips == ("10.0.0.1", "fd00::1")
    bare = cluster.objects[Kind.SERVICE, "default", "bare"]
    assert (bare.cluster_ips, bare.ports) == (("fd00::2",), PLACEHOLDER_PORTS)
    assert [e.address for e in cluster.objects[Kind.ENDPOINT_SLICE, "default", "web"].endpoints] == ["10.0.0.9"]
    assert not [key for key in cluster.objects if key.kind is Kind.POD]


def test_many_warnings_are_counted(tmp_path: Path) -> None:
    """After some warnings for a file, one line says that there are more."""
    found = content(tmp_path, SERVICE + "  ports:\n" + "  - {port: 0, name: a}\n" * 100)
    assert len(found.warnings) == SHOWN_REFUSALS + 1
    assert found.warnings[-1].endswith("more fields from here on that an API server would refuse")


def test_a_used_object_that_would_be_skipped_is_an_error(tmp_path: Path) -> None:
    """An edit with such an error leaves the last good state in use. At a start there is only a warning."""
    reader = Reader()
    path = tmp_path / "a.yaml"
    for text in (SERVICE + "  clusterIP: 10.0.0\n", PORTS):
        path.write_text(text)
        reader.read(find((str(path),)))
    path.write_text(PORTS + "  clusterIP: 10.0.0\n")
    with pytest.raises(ManifestError, match=r"a\.yaml:7: spec\.clusterIP: .* so it is skipped"):
        reader.read(find((str(path),)))


def test_a_template_is_found_by_a_refused_field(tmp_path: Path) -> None:
    """A file with an action of a Go template is skipped as a whole, with one warning."""
    found = content(tmp_path, PORTS.replace("name: web", "name: '{{ .Values.name }}'"))
    assert (len(found.warnings), found.objects) == (1, ())
    assert found.warnings[0].endswith("; skipped")

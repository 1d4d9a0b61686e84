"""Fields that an API server refuses are refused here too, each with its line."""

from collections.abc import Callable
from typing import Any

import pytest

from svcdns.cluster.changes import Kind
from svcdns.sources.manifests import ManifestError

SERVICE = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n"
SLICE = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web\n"
ENDPOINTS = "apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: web\n"
JOB = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: web\nspec:\n"
DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n"


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        pytest.param("apiVersion: v1\nkind: Pod\n", 1, "expected metadata, which is missing", id="no-metadata"),
        pytest.param(
            "apiVersion: v1\nkind: Pod\nmetadata: {}\n",
            3,
            "metadata.name: expected a DNS name (a-z, 0-9, -, .), found ''",
            id="no-name",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a.b\n",
            4,
            "metadata.name: expected a DNS label (a-z, 0-9, -), found 'a.b'",
            id="dot",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: A\n",
            5,
            "metadata.namespace: expected a DNS label (a-z, 0-9, -), found 'A'",
            id="namespace",
        ),
        pytest.param(SERVICE + "  ports: http\n", 6, "spec.ports: expected a list, found text 'http'", id="ports"),
        pytest.param(
            SERVICE + "  ports:\n  - name: a\n", 7, "spec.ports[0]: expected port, which is missing", id="port-missing"
        ),
        pytest.param(
            SERVICE + "  ports:\n  - port: 70000\n",
            7,
            "spec.ports[0].port: expected a port number from 1 to 65535, found 70000",
            id="port",
        ),
        pytest.param(
            SERVICE + "  ports:\n  - port: 1\n    targetPort: 0\n",
            8,
            "spec.ports[0].targetPort: expected a port number from 1 to 65535, found 0",
            id="target-port",
        ),
        pytest.param(
            SERVICE + "  clusterIP: 10.0.0\n",
            6,
            "spec.clusterIP: expected an IPv4 or IPv6 address, found '10.0.0'",
            id="cluster-ip",
        ),
        pytest.param(
            SERVICE + "  clusterIPs:\n  - 10.0.0.1\n  - x\n",
            8,
            "spec.clusterIPs[1]: expected an IPv4 or IPv6 address, found 'x'",
            id="cluster-ips",
        ),
        pytest.param(
            SERVICE + "  type: Node\n",
            6,
            "spec.type: expected ClusterIP, NodePort, LoadBalancer or ExternalName, found 'Node'",
            id="type",
        ),
        pytest.param(
            SERVICE + "  ipFamilies: [IPv5]\n",
            6,
            "spec.ipFamilies[0]: expected IPv4 or IPv6, found 'IPv5'",
            id="family",
        ),
        pytest.param(
            SERVICE + "  ipFamilyPolicy: Dual\n",
            6,
            "spec.ipFamilyPolicy: expected SingleStack, PreferDualStack or RequireDualStack, found 'Dual'",
            id="policy",
        ),
        pytest.param(
            SERVICE + "  type: ExternalName\n",
            5,
            "spec.externalName: expected the name that a Service of type ExternalName points to",
            id="external-name",
        ),
        pytest.param(
            SERVICE + "  selector:\n    app: 1\n",
            7,
            "spec.selector.app: expected text, found a whole number 1",
            id="selector",
        ),
        pytest.param(
            POD + "status:\n  podIP: x\n", 6, "status.podIP: expected an IPv4 or IPv6 address, found 'x'", id="pod-ip"
        ),
        pytest.param(
            POD + "status:\n  podIPs:\n  - ip: x\n",
            7,
            "status.podIPs[0].ip: expected an IPv4 or IPv6 address, found 'x'",
            id="pod-ips",
        ),
        pytest.param(
            SLICE + "ports:\n- port: 0\n",
            6,
            "ports[0].port: expected a port number from 1 to 65535, found 0",
            id="slice-port",
        ),
        pytest.param(
            SLICE + "addressType: IPv4\nendpoints:\n- addresses:\n  - web.example\n",
            8,
            "endpoints[0].addresses[0]: expected an IPv4 or IPv6 address, found 'web.example'",
            id="slice-address",
        ),
        pytest.param(
            ENDPOINTS + "subsets:\n- addresses:\n  - ip: x\n",
            7,
            "subsets[0].addresses[0].ip: expected an IPv4 or IPv6 address, found 'x'",
            id="endpoint",
        ),
        pytest.param(
            DEPLOYMENT + "  replicas: three\n",
            6,
            "spec.replicas: expected a whole number, found text 'three'",
            id="replicas",
        ),
        pytest.param(
            DEPLOYMENT + "  replicas: -1\n",
            6,
            "spec.replicas: expected a number from 0 to 65534, found -1",
            id="negative",
        ),
        pytest.param(
            DEPLOYMENT + "  ordinals:\n    start: -1\n",
            7,
            "spec.ordinals.start: expected a number from 0, found -1",
            id="negative-ordinal",
        ),
        pytest.param(
            JOB + "  parallelism: -1\n",
            6,
            "spec.parallelism: expected a number from 0 to 65534, found -1",
            id="negative-parallelism",
        ),
        pytest.param(
            JOB + "  completionMode: Some\n",
            6,
            "spec.completionMode: expected NonIndexed or Indexed, found 'Some'",
            id="completion-mode",
        ),
        pytest.param(
            JOB + "  completionMode: Indexed\n",
            5,
            "spec: expected completions, which an Indexed Job needs",
            id="indexed-without-completions",
        ),
    ],
)
def test_refused(say: Callable[..., Any], text: str, line: int, expected: str) -> None:
    """The error names the file, the line and what was expected."""
    with pytest.raises(ManifestError) as caught:
        say(text)
    assert caught.value.position.line == line
    assert str(caught.value).endswith(f"/cluster.yaml:{line}: {expected}")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: x}\n",
            id="service-of-another-group",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {replicas: three}\n", id="config-map"
        ),
        pytest.param("apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: web}\n", id="cron-job"),
        pytest.param("apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: web-}\n", id="generated-name"),
    ],
)
def test_ignored(say: Callable[..., Any], text: str) -> None:
    """A kind that no DNS name depends on is not checked, and is logged once."""
    cluster = say(text)
    assert len(cluster.ignored) == 1
    assert not [name for _, _, name in cluster.objects if name == "web"]


def test_fqdn_slices(say: Callable[..., Any]) -> None:
    """A slice of addressType FQDN keeps its names as addresses."""
    cluster = say(SLICE + "addressType: FQDN\nendpoints:\n- addresses: [web.example]\n")
    (endpoint,) = cluster.objects[Kind.ENDPOINT_SLICE, "default", "web"].endpoints
    assert endpoint.address == "web.example"

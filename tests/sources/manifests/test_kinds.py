"""Fields of a wrong type are left out with a warning. Kinds that svcdns does not use are ignored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svcdns.cluster.changes import Kind
from svcdns.sources.manifests import ManifestError, kinds

SERVICE = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n"
SLICE = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web\n"
ENDPOINTS = "apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: web\n"
JOB = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: web\nspec:\n"
DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n"


SKIPPED = "so it is skipped"


@pytest.mark.parametrize(
    ("text", "line", "expected", "left_out"),
    [
        pytest.param(
            "apiVersion: v1\nkind: Pod\n", 1, "expected metadata, which is missing", SKIPPED, id="no metadata"
        ),
        pytest.param(
            SERVICE + "  ports: http\n", 6, "spec.ports: expected a list, found text 'http'", "spec.ports", id="ports"
        ),
        pytest.param(
            SERVICE + "  ports:\n  - name: a\n", 7, "spec.ports[0]: expected port, which is missing", "spec.ports[0]",
            id="a port without a number",
        ),
        pytest.param(
            SERVICE + '  ports:\n  - port: "80"\n', 7, "spec.ports[0].port: expected a whole number, found text '80'",
            "spec.ports[0]", id="a quoted number",
        ),
        pytest.param(
            SERVICE + "  selector:\n    app: 1\n", 7, "spec.selector.app: expected text, found a whole number 1",
            "spec.selector.app", id="a label",
        ),
        pytest.param(
            DEPLOYMENT + "  replicas: three\n", 6, "spec.replicas: expected a whole number, found text 'three'",
            "spec.replicas", id="replicas",
        ),
        pytest.param(
            SLICE + "addressType: IPv4\nendpoints:\n- addresses: 10.0.0.1\n", 7,
            "endpoints[0].addresses: expected a list, found text '10.0.0.1'", "endpoints[0].addresses", id="a slice",
        ),
        pytest.param(
            ENDPOINTS + "subsets:\n- addresses: [{ip: 1}]\n", 6,
            "subsets[0].addresses[0].ip: expected text, found a whole number 1", "subsets[0].addresses[0]",
            id="Endpoints",
        ),
        pytest.param(
            POD + "status:\n  podIP: [10.0.0.1]\n", 6, "status.podIP: expected text, found a list", "status.podIP",
            id="a Pod",
        ),
        pytest.param(
            JOB + "  completions: 1.5\n", 6, "spec.completions: expected a whole number, found a number 1.5",
            "spec.completions", id="a Job",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Namespace\nmetadata: [web]\n", 3, "metadata: expected a mapping, found a list",
            SKIPPED, id="metadata",
        ),
    ],
)  # fmt: skip
def test_wrong_types(
    say: Callable[..., Any], tmp_path: Path, text: str, line: int, expected: str,
    left_out: str,
) -> None:  # fmt: skip
    """The warning has the file, the line, what was expected, and the part that is left out. The rest is served."""
    say(text + "---\n" + SERVICE.replace("web", "other"))
    content = kinds.read(str(tmp_path / "cluster.yaml"))
    warning = next(warning for warning in content.warnings if expected in warning)
    assert warning.startswith(f"{tmp_path}/cluster.yaml:{line}: {expected}; ")
    assert (left_out if left_out == SKIPPED else f"; {left_out} is left out; ") in warning
    assert content.warnings.count(warning) == 1
    assert "other" in [item.name for item in content.objects]
    assert ("web" in [item.name for item in content.objects]) is (left_out != SKIPPED)


def test_more_pods_than_addresses(say: Callable[..., Any]) -> None:
    with pytest.raises(
        ManifestError, match=r"/cluster\.yaml:6: spec\.replicas: expected a number from 0 to 65534"
    ) as caught:
        say(DEPLOYMENT + "  replicas: 65535\n")
    assert caught.value.position.line == 6


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
    """If no DNS name depends on a kind, the kind is not checked, and is logged once."""
    cluster = say(text)
    assert len(cluster.ignored) == 1
    assert not [name for _, _, name in cluster.objects if name == "web"]


def test_fqdn_slices(say: Callable[..., Any]) -> None:
    """A slice of addressType FQDN has names as its addresses."""
    cluster = say(SLICE + "addressType: FQDN\nendpoints:\n- addresses: [web.example]\n")
    (endpoint,) = cluster.objects[Kind.ENDPOINT_SLICE, "default", "web"].endpoints
    assert endpoint.address == "web.example"

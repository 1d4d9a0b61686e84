"""A field of a wrong type is an error, or is left out with a warning. Kinds that svcdns does not use are ignored."""

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


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        pytest.param("apiVersion: v1\nkind: Pod\n", 1, "expected metadata, which is missing", id="no-metadata"),
        pytest.param(SERVICE + "  ports: http\n", 6, "spec.ports: expected a list, found text 'http'", id="ports"),
        pytest.param(
            SERVICE + "  ports:\n  - name: a\n", 7, "spec.ports[0]: expected port, which is missing", id="port-missing"
        ),
        pytest.param(
            DEPLOYMENT + "  replicas: three\n",
            6,
            "spec.replicas: expected a whole number, found text 'three'",
            id="replicas",
        ),
    ],
)
def test_errors(say: Callable[..., Any], text: str, line: int, expected: str) -> None:
    """The error names the file, the line and what was expected."""
    with pytest.raises(ManifestError) as caught:
        say(text)
    assert caught.value.position.line == line
    assert str(caught.value).endswith(f"/cluster.yaml:{line}: {expected}")


@pytest.mark.parametrize(
    ("text", "line", "expected", "left_out"),
    [
        pytest.param(
            SERVICE + '  ports:\n  - port: "80"\n', 7, "spec.ports[0].port: expected a whole number, found text '80'",
            "spec.ports[0]", id="a port",
        ),
        pytest.param(
            SERVICE + "  selector:\n    app: 1\n", 7, "spec.selector.app: expected text, found a whole number 1",
            "spec.selector.app", id="a label",
        ),
        pytest.param(
            SERVICE + "  publishNotReadyAddresses: 'true'\n", 6,
            "spec.publishNotReadyAddresses: expected true or false, found text 'true'", "spec.publishNotReadyAddresses",
            id="a flag",
        ),
        pytest.param(
            ENDPOINTS + "subsets:\n- addresses: [{ip: 1}]\n", 6,
            "subsets[0].addresses[0].ip: expected text, found a whole number 1", "subsets[0].addresses[0]",
            id="Endpoints",
        ),
        pytest.param(
            POD + "spec:\n  hostname: 1.5\n", 6, "spec.hostname: expected text, found a number 1.5", "spec.hostname",
            id="a Pod",
        ),
        pytest.param(
            JOB + "  completions: '2'\n", 6, "spec.completions: expected a whole number, found text '2'",
            "spec.completions", id="a Job",
        ),
    ],
)  # fmt: skip
def test_quotes_that_are_missing_or_too_many(
    say: Callable[..., Any], tmp_path: Path, text: str, line: int, expected: str, left_out: str
) -> None:
    """The warning has the file, the line, what was expected, and the part that is left out. The rest is served."""
    say(text + "---\n" + SERVICE.replace("web", "other"))
    content = kinds.read(str(tmp_path / "cluster.yaml"))
    warning = next(warning for warning in content.warnings if expected in warning)
    assert warning.startswith(f"{tmp_path}/cluster.yaml:{line}: {expected}; {left_out} is left out; ")
    assert content.warnings.count(warning) == 1
    assert {"web", "other"} <= {item.name for item in content.objects}


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

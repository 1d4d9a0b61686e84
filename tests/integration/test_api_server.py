"""Answers with a real API server have each change immediately."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab import Api
from tests.support.server import Server, until

pytestmark = pytest.mark.integration

# kubeadm's Corefile with other ports and a kubeconfig.
COREFILE = """
.:{port} {
    errors
    health :{health} {
        lameduck 300ms
    }
    ready :{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig KUBECONFIG
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus :{metrics}
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""


@pytest.fixture
def api() -> Api:
    """The API server that KUBECONFIG names."""
    return Api(os.environ["KUBECONFIG"])


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    name = "svcdns-" + uuid.uuid4().hex[:8]
    api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    api("DELETE", f"/api/v1/namespaces/{name}")


def test_answers_have_each_change_immediately(api: Api, namespace: str, tmp_path: Path) -> None:
    name = f"db.{namespace}.svc.cluster.local."
    with Server(tmp_path, COREFILE.replace("KUBECONFIG", os.environ["KUBECONFIG"])) as server:
        server.until_ready()
        assert server.records(name) == ["NXDOMAIN"]
        services = f"/api/v1/namespaces/{namespace}/services"
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        api(
            "POST",
            services,
            {"metadata": {"name": "db"}, "spec": {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}},
        )
        one: dict[str, Any] = {
            "metadata": {"name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.244.7.1"], "hostname": "db-0", "conditions": {"ready": True}}],
        }
        api("POST", slices, one)
        until("the endpoint", lambda: server.records(name) == ["10.244.7.1"])
        assert server.records("_sql._tcp." + name, "SRV") == [f"0 100 5432 db-0.{name}"]
        assert server.records("1.7.244.10.in-addr.arpa.", "PTR") == ["db-0." + name]
        one["endpoints"].append({"addresses": ["10.244.7.2"], "hostname": "db-1", "conditions": {"ready": True}})
        api("PUT", slices + "/db-1", one)
        until("the second endpoint", lambda: server.records(name) == ["10.244.7.1", "10.244.7.2"])
        api("DELETE", slices + "/db-1")
        until("no endpoint", lambda: "10.244.7.1" not in server.records(name))
        api("DELETE", services + "/db")
        until("the name to go", lambda: server.records(name) == ["NXDOMAIN"])
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_the_version_that_the_page_names(api: Api) -> None:
    """docs/scaling.md#kubernetes-versions has the version of the API server that these tests use."""
    version = api.get("/version")
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    assert f"\n| {version['major']}.{version['minor']} | the API server of the integration tests" in page

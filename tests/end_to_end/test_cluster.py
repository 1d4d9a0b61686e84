"""The real server with the Corefile of kubeadm and an API server: changes, outages, and a late start of
the API server.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_double import NAMESPACES, SERVICES, SLICES, ApiDouble, Fault, endpoint_slice, namespace, service
from tests.support.server import Server, http, until

COREFILE = """
.:{port} {
    bind 127.0.0.1
    errors
    health 127.0.0.1:{health} {
        lameduck 100ms
    }
    ready 127.0.0.1:{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        endpoint API
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
        startup_timeout 300ms
    }
    prometheus 127.0.0.1:{metrics}
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""
WEB, DB = "web.default.svc.cluster.local.", "db.default.svc.cluster.local."


@pytest.fixture
def api() -> Iterator[ApiDouble]:
    """Starts an API server with a small cluster."""
    objects = [
        namespace("default"),
        service("web", "10.96.0.20"),
        service("db"),
        endpoint_slice("db-1", "db", "10.244.1.1"),
    ]
    with ApiDouble(objects) as double:
        yield double


def start(folder: Path, api: ApiDouble, lameduck: str = "100ms") -> Server:
    """Returns a server for that cluster, with its own resolv.conf."""
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n")
    corefile = COREFILE.replace("100ms", lameduck)
    return Server(
        folder, corefile.replace("API", api.url).replace("/etc/resolv.conf", str(resolv)).replace("    loop\n", "")
    )


def number_of_lists(api: ApiDouble) -> int:
    return sum(not request.watch for request in api.requests)


def test_watches_bring_changes(tmp_path: Path, api: ApiDouble) -> None:
    """The changes are new endpoints, a deleted Service and a deleted Namespace. Nothing is listed again."""
    with start(tmp_path, api) as server:
        server.until_ready()
        assert server.records(WEB) == ["10.96.0.20"]
        assert server.records("20.0.96.10.in-addr.arpa.", "PTR") == [WEB]
        assert server.records("10-244-9-9.default.pod.cluster.local.") == ["10.244.9.9"]
        lists = number_of_lists(api)
        for number in range(5):
            api.put(endpoint_slice("db-1", "db", "10.244.1.1", f"10.244.2.{number}"))
            until("the endpoint", lambda: server.records(DB) == ["10.244.1.1", f"10.244.2.{number}"])  # noqa: B023
        api.delete(service("web"))
        until("the deletion", lambda: server.records(WEB) == ["NXDOMAIN"])
        api.delete(namespace("default"))
        until("the deletion", lambda: server.records(DB) == ["NXDOMAIN"])
        assert number_of_lists(api) == lists


def test_an_outage_of_the_api_server(tmp_path: Path, api: ApiDouble) -> None:
    """The server answers from the objects that it has. After the outage, it has the changes made during the outage."""
    with start(tmp_path, api) as server:
        server.until_ready()
        api.standing = Fault()
        api.compact()
        for path in (SERVICES, SLICES, NAMESPACES):
            api.cut(path)
        server.until_logged("cannot reach the Kubernetes API")
        assert server.records(WEB) == ["10.96.0.20"]
        assert http(server.ports["ready"], "/ready")[0] == 200
        api.lose(service("web"))
        api.standing = None
        server.until_logged("the Kubernetes API answers again")
        until("the new list", lambda: server.records(WEB) == ["NXDOMAIN"])
        assert server.records(DB) == ["10.244.1.1"]


def test_changes_are_served_during_lame_duck(tmp_path: Path, api: ApiDouble) -> None:
    with start(tmp_path, api, lameduck="600s") as server:
        server.until_ready()
        assert server.records(DB) == ["10.244.1.1"]
        server.process.send_signal(signal.SIGTERM)
        server.until_logged("Going into lameduck mode")
        api.put(endpoint_slice("db-1", "db", "10.244.1.2"))
        until("the new endpoint", lambda: server.records(DB) == ["10.244.1.2"])


def test_a_start_without_an_api_server(tmp_path: Path, api: ApiDouble) -> None:
    """After `startup_timeout`, the server answers, but is not ready. Cluster names get SERVFAIL until the objects are
    listed.
    """
    api.standing = Fault(503, "starting")
    with start(tmp_path, api) as server:
        server.until_logged("starting server with unsynced Kubernetes API")
        server.until_serving()
        assert server.records(WEB) == ["SERVFAIL"]
        assert http(server.ports["ready"], "/ready") == (503, "kubernetes")
        assert http(server.ports["health"], "/health") == (200, "OK")
        api.standing = None
        server.until_ready()
        assert server.records(WEB) == ["10.96.0.20"]


def test_a_start_waits_for_no_api_server_whose_port_is_closed(tmp_path: Path) -> None:
    corefile = """
    .:{port} {
        health :{health}
        ready :{ready}
        kubernetes cluster.local {
            endpoint http://127.0.0.1:1
            startup_timeout 10m
        }
        prometheus :{metrics}
        hosts {
            192.0.2.1 outside.test
        }
    }
    """
    with Server(tmp_path, corefile) as server:
        server.until_serving()
        assert server.records("outside.test.") == ["192.0.2.1"]
        assert server.records(WEB) == ["SERVFAIL"]
        until("/ready to say no", lambda: http(server.ports["ready"], "/ready") == (503, "kubernetes"))


def test_a_missing_right_is_one_line(tmp_path: Path, api: ApiDouble) -> None:
    """The line has the resource and the permission that the ServiceAccount needs."""
    api.fail(SLICES, *[Fault(403, "endpointslices.discovery.k8s.io is forbidden")] * 100)
    with start(tmp_path, api) as server:
        server.until_logged("starting server with unsynced Kubernetes API")
        said = [line for line in server.log.splitlines() if "forbidden" in line]
        assert len(said) == 1
        assert said[0].startswith(
            "[ERROR] plugin/kubernetes: forbidden: the ServiceAccount needs the verbs list and watch in all namespaces "
            "verb=list kind=endpointslices.discovery.k8s.io error="
        )

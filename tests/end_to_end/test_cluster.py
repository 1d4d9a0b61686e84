"""The real server with the Corefile of kubeadm, watching an API server: changes, outages, a late start."""

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
    """A small cluster."""
    objects = [namespace("default"), service("web", "10.96.0.20"), service("db"), endpoint_slice("db-1", "db", "10.244.1.1")]
    with ApiDouble(objects) as double:
        yield double


def start(folder: Path, api: ApiDouble, lameduck: str = "100ms") -> Server:
    """A server of that cluster; a resolv.conf of its own, as not every machine names a resolver."""
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n")
    corefile = COREFILE.replace("100ms", lameduck)
    return Server(folder, corefile.replace("API", api.url).replace("/etc/resolv.conf", str(resolv)).replace("    loop\n", ""))


def test_changes_are_in_the_answers_at_once(tmp_path: Path, api: ApiDouble) -> None:
    """Endpoints, Services, Namespaces: come and gone."""
    with start(tmp_path, api) as server:
        server.until_ready()
        assert server.records(WEB) == ["10.96.0.20"]
        assert server.records("20.0.96.10.in-addr.arpa.", "PTR") == [WEB]
        assert server.records("10-244-9-9.default.pod.cluster.local.") == ["10.244.9.9"]
        for number in range(5):
            api.put(endpoint_slice("db-1", "db", "10.244.1.1", f"10.244.2.{number}"))
            until("the endpoint", lambda: server.records(DB) == ["10.244.1.1", f"10.244.2.{number}"], 1)  # noqa: B023
        api.delete(service("web"))
        until("its end", lambda: server.records(WEB) == ["NXDOMAIN"], 1)
        api.delete(namespace("default"))
        until("its end", lambda: server.records(DB) == ["NXDOMAIN"], 1)


def test_an_outage_of_the_api_server(tmp_path: Path, api: ApiDouble) -> None:
    """Answers go on from what is known; what changed meanwhile is there when it is back."""
    with start(tmp_path, api) as server:
        server.until_ready()
        for path in (SERVICES, SLICES, NAMESPACES):
            api.fail(path, *[Fault()] * 2)
            api.compact()
            api.cut(path)
        server.until_logged("cannot reach the Kubernetes API")
        assert server.records(WEB) == ["10.96.0.20"]
        assert http(server.ports["ready"], "/ready")[0] == 200
        api.lose(service("web"))
        server.until_logged("the Kubernetes API answers again")
        until("the new list", lambda: server.records(WEB) == ["NXDOMAIN"])
        assert server.records(DB) == ["10.244.1.1"]


def test_changes_are_seen_until_the_end(tmp_path: Path, api: ApiDouble) -> None:
    """A stop that is under way answers for the cluster as it is, not as it was."""
    with start(tmp_path, api, lameduck="1500ms") as server:
        server.until_ready()
        assert server.records(DB) == ["10.244.1.1"]
        server.process.send_signal(signal.SIGTERM)
        server.until_logged("Going into lameduck mode")
        api.put(endpoint_slice("db-1", "db", "10.244.1.2"))
        until("the new endpoint", lambda: server.records(DB) == ["10.244.1.2"], 1.4)
        assert server.process.wait(15) == 0


def test_a_start_without_an_api_server(tmp_path: Path, api: ApiDouble) -> None:
    """Serves after the start-up time: SERVFAIL for what it cannot know, and not ready; right once the lists are through."""
    for path in (SERVICES, SLICES, NAMESPACES):
        api.fail(path, *[Fault(503, "starting")] * 3)
    with start(tmp_path, api) as server:
        server.until_logged("starting server with unsynced Kubernetes API")
        server.until_serving()
        assert server.records(WEB) == ["SERVFAIL"]
        assert http(server.ports["ready"], "/ready") == (503, "kubernetes")
        assert http(server.ports["health"], "/health") == (200, "OK")
        server.until_ready()
        assert server.records(WEB) == ["10.96.0.20"]


def test_a_start_where_nobody_answers_waits_for_nothing(tmp_path: Path) -> None:
    """Outside names are answered long before the start-up time is over; cluster names are SERVFAIL."""
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
    """Which right, for whom it concerns."""
    api.fail(SLICES, *[Fault(403, "endpointslices.discovery.k8s.io is forbidden")] * 100)
    with start(tmp_path, api) as server:
        server.until_logged("starting server with unsynced Kubernetes API")
        said = [line for line in server.log.splitlines() if "forbidden" in line]
        assert len(said) == 1
        assert said[0].startswith(
            "[ERROR] plugin/kubernetes: cannot list endpointslices.discovery.k8s.io: forbidden; the ServiceAccount needs"
        )

"""Faults of a real API server. svcdns goes on answering existing names, and serves changes soon after the fault."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_api_server import COREFILE
from tests.support.lab import Lab
from tests.support.server import Server, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        "SVCDNS_TEST_APISERVER" not in os.environ, reason="SVCDNS_TEST_APISERVER does not name a test API server"
    ),
]

SERVICES = "/api/v1/namespaces/default/services"
ONE_SECOND = 10.0
"""Seconds for an operation of one second, on a busy machine."""
THREE_SECONDS = 15.0
"""Seconds for an operation of three seconds."""
OUTAGE = 1.5
"""Seconds that a fault lasts: several attempts."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Starts an API server for all tests. Each test ends its own fault."""
    with Lab(tmp_path_factory.mktemp("lab") / "lab") as lab:
        for number in range(3):
            create_service(lab, f"stays-{number}", number + 1)
        lab.admin("compact")
        lab.settle()
        yield lab


@pytest.fixture
def server(lab: Lab, tmp_path: Path) -> Iterator[Server]:
    for what in ("fault", "deny"):
        lab.admin(what)
    with Server(tmp_path, COREFILE.replace("KUBECONFIG", str(lab.kubeconfig))) as server:
        server.until_ready()
        yield server
        assert "Traceback" not in server.log


def create_service(lab: Lab, name: str, number: int) -> None:
    spec = {"clusterIP": f"10.96.7.{number}", "ports": [{"name": "http", "port": 80}]}
    lab.api("POST", SERVICES, {"metadata": {"name": name}, "spec": spec})


def fqdn(name: str) -> str:
    return f"{name}.default.svc.cluster.local."


@contextlib.contextmanager
def existing_names_are_answered(server: Server) -> Iterator[None]:
    """Queries existing names continuously. Every answer must be correct."""
    wrong: list[object] = []
    count = 0
    ended = threading.Event()

    def send_queries() -> None:
        nonlocal count
        while not ended.is_set():
            name = f"stays-{count % 3}"
            found = server.records(fqdn(name))
            if found != [f"10.96.7.{count % 3 + 1}"]:
                wrong.append((name, found))
            count += 1
            ended.wait(0.005)

    thread = threading.Thread(target=send_queries)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert count >= 10
    assert wrong == []


@contextlib.contextmanager
def services_swapped(lab: Lab, server: Server, within: float) -> Iterator[None]:
    """Deletes one Service and creates another in the context. At its end, DNS must have both changes within `within`
    seconds.
    """
    create_service(lab, "goes", 50)
    until("the Service to go", lambda: server.records(fqdn("goes")) == ["10.96.7.50"], THREE_SECONDS)
    with existing_names_are_answered(server):
        try:
            yield
            repaired = time.monotonic()
            until("the new Service", lambda: server.records(fqdn("comes")) == ["10.96.7.51"], within)
            until("the old Service's end", lambda: server.records(fqdn("goes")) == ["NXDOMAIN"], within)
            assert time.monotonic() - repaired <= within
        finally:
            for name in ("goes", "comes"):
                with contextlib.suppress(OSError):
                    lab.api("DELETE", f"{SERVICES}/{name}")


def swap_services(lab: Lab) -> None:
    """Creates the Service `comes`, and deletes the Service `goes`."""
    create_service(lab, "comes", 51)
    lab.api("DELETE", f"{SERVICES}/goes")


def test_closed_watches_are_reopened_without_a_list(lab: Lab, server: Server) -> None:
    lists = server.log.count("listing again")
    with services_swapped(lab, server, ONE_SECOND):
        lab.admin("closewatches")
        swap_services(lab)
    assert server.log.count("listing again") == lists


def test_410_in_a_watch(lab: Lab, server: Server) -> None:
    """After a 410 in the watch of Services, only Services are listed again. The other watches stay open."""
    with services_swapped(lab, server, ONE_SECOND):
        lab.admin("fault", verb="watch", resource="services", status="410", count="1")
        lab.admin("closewatches", resource="services")
        swap_services(lab)
    assert server.log.count("listing again") == 1
    server.until_logged('kind=services error="too old resource version')


def test_expired_watch_cache(lab: Lab, server: Server) -> None:
    """The API server closes the watches after a second, and answers 429 until then. Changes arrive within a bounded
    time.
    """
    with services_swapped(lab, server, 1.0 + THREE_SECONDS):
        lab.admin("expire", resource="services")
        swap_services(lab)


def test_changes_are_served_after_a_compaction(lab: Lab, server: Server) -> None:
    with services_swapped(lab, server, 1.0 + THREE_SECONDS):
        lab.admin("compact")
        swap_services(lab)
    assert server.log.count("listing again") >= 1


@pytest.mark.parametrize("status", ["500", "429"])
def test_watch_errors_are_logged_once(lab: Lab, server: Server, status: str) -> None:
    with services_swapped(lab, server, THREE_SECONDS):
        lab.admin("fault", status=status, verb="watch")
        lab.admin("closewatches")
        swap_services(lab)
        server.until_logged(f'refuses a request verb=watch kind=services error="{status}')
        threading.Event().wait(OUTAGE)
        lab.admin("fault")
    assert server.log.count(f'refuses a request verb=watch kind=services error="{status}') == 1


def test_retry_after_is_obeyed(lab: Lab, server: Server) -> None:
    with services_swapped(lab, server, THREE_SECONDS + 3.0):
        lab.admin("fault", **{"status": "429", "retry-after": "3", "verb": "watch"})
        lab.admin("closewatches")
        swap_services(lab)
        server.until_logged('refuses a request verb=watch kind=services error="429')
        threading.Event().wait(OUTAGE)
        refused = 'coredns_kubernetes_rest_client_requests_total{code="429"'
        until("every watch to have been refused", lambda: server.metric(refused) >= 3)
        assert server.metric(refused) == 3
        lab.admin("fault")


def test_a_denied_resource_is_logged_once(lab: Lab, server: Server) -> None:
    """The next list also removes the objects that were deleted in the meantime."""
    with services_swapped(lab, server, THREE_SECONDS):
        lab.admin("deny", deny="watch:services,list:services")
        lab.admin("closewatches", resource="services")
        server.until_logged(
            "forbidden: the ServiceAccount needs the verbs list and watch in all namespaces verb=watch kind=services"
        )
        swap_services(lab)
        lab.admin("compact")
        threading.Event().wait(OUTAGE)
        lab.admin("deny")
    assert server.log.count("forbidden: the ServiceAccount needs") == 1


def test_a_replaced_token_in_the_kubeconfig_is_used(lab: Lab, server: Server) -> None:
    try:
        with services_swapped(lab, server, THREE_SECONDS):
            api = lab.api
            lab.admin("tokens", token="new-token")
            api.headers["Authorization"] = "Bearer new-token"
            lab.admin("closewatches")
            server.until_logged("unauthorized; reading the credentials again verb=watch kind=services")
            spec = {"clusterIP": "10.96.7.51", "ports": [{"name": "http", "port": 80}]}
            api("POST", SERVICES, {"metadata": {"name": "comes"}, "spec": spec})
            api("DELETE", f"{SERVICES}/goes")
            threading.Event().wait(OUTAGE)
            lab.kubeconfig.write_text(lab.given.read_text().replace("lab-token", "new-token"))
            repaired = time.monotonic()
        assert time.monotonic() - repaired < 2 * THREE_SECONDS
    finally:
        lab.admin("tokens", token="lab-token")
        lab.kubeconfig.write_text(lab.given.read_text())
        with contextlib.suppress(OSError):
            lab.api("DELETE", f"{SERVICES}/comes")


def test_an_api_server_that_hangs(lab: Lab, server: Server) -> None:
    """A stopped API server is not logged, because a watch without events is normal."""
    with services_swapped(lab, server, THREE_SECONDS):
        lab.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(OUTAGE)
        lab.process.send_signal(signal.SIGCONT)
        swap_services(lab)


def test_an_api_server_that_crashes(lab: Lab, server: Server) -> None:
    """After SIGKILL, the API server starts again without its old history."""
    with services_swapped(lab, server, THREE_SECONDS):
        lab.kill()
        server.until_logged("cannot reach the Kubernetes API")
        threading.Event().wait(OUTAGE)
        lab.start()
        swap_services(lab)
    assert server.log.count("cannot reach the Kubernetes API") <= 3, "a line for each reason"
    server.until_logged("the Kubernetes API answers again")


def test_a_start_without_the_api_server(lab: Lab, tmp_path: Path) -> None:
    lab.kill()
    with Server(
        tmp_path, COREFILE.replace("KUBECONFIG", str(lab.kubeconfig)).replace("ttl 30", "ttl 30\n startup_timeout 1s")
    ) as server:
        server.until_logged("cannot reach the Kubernetes API")
        server.until_serving()
        assert server.records(fqdn("stays-0")) == ["SERVFAIL"]
        lab.start()
        until("the first names", lambda: server.records(fqdn("stays-0")) == ["10.96.7.1"], THREE_SECONDS)


def test_without_streamed_lists(tmp_path: Path) -> None:
    """The API server does not support WatchList. Its certificate authority changes during the test."""
    with Lab(tmp_path / "lab", "--feature-gates", "WatchList=false") as lab:
        for number in range(3):
            create_service(lab, f"stays-{number}", number + 1)
        with Server(tmp_path, COREFILE.replace("KUBECONFIG", str(lab.kubeconfig))) as server:
            server.until_ready()
            with services_swapped(lab, server, ONE_SECOND):
                swap_services(lab)
            lab.kill()
            lab.use_new_authority()
            lab.start()
            server.until_logged("certificate verify failed")
            with existing_names_are_answered(server):
                create_service(lab, "new", 60)
                lab.kubeconfig.write_text(lab.given.read_text())
                until("the new authority", lambda: server.records(fqdn("new")) == ["10.96.7.60"], THREE_SECONDS)
            assert "Traceback" not in server.log

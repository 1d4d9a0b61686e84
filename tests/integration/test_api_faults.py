"""Faults of a real API server: known names answer through all of them, and answers are right again soon after its end."""

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
    pytest.mark.skipif("SVCDNS_TEST_APISERVER" not in os.environ, reason="SVCDNS_TEST_APISERVER does not name a test API server"),
]

SERVICES = "/api/v1/namespaces/default/services"
AT_ONCE = 2.0
"""Seconds for what is to take one: this may be a busy machine."""
SOON = 5.0
"""Seconds for what is to take three."""
OUTAGE = 1.5
"""Seconds that a fault lasts: several tries."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One API server for all tests; each leaves it well."""
    with Lab(tmp_path_factory.mktemp("lab") / "lab") as lab:
        for number in range(3):
            put(lab, f"stays-{number}", number + 1)
        lab.admin("compact")
        lab.settle()
        yield lab


@pytest.fixture
def server(lab: Lab, tmp_path: Path) -> Iterator[Server]:
    """A server that watches it."""
    for what in ("fault", "deny"):
        lab.admin(what)
    with Server(tmp_path, COREFILE.replace("KUBECONFIG", str(lab.kubeconfig))) as server:
        server.until_ready()
        yield server
        assert "Traceback" not in server.log


def put(lab: Lab, name: str, number: int) -> None:
    """Makes a Service with a cluster IP."""
    spec = {"clusterIP": f"10.96.7.{number}", "ports": [{"name": "http", "port": 80}]}
    lab.api("POST", SERVICES, {"metadata": {"name": name}, "spec": spec})


def fqdn(name: str) -> str:
    """The name of a Service in DNS."""
    return f"{name}.default.svc.cluster.local."


@contextlib.contextmanager
def known_names_answer(server: Server) -> Iterator[None]:
    """Asks for what was there before and stays, all the time; every answer has to be right."""
    wrong: list[object] = []
    asked = 0
    over = threading.Event()

    def ask() -> None:
        nonlocal asked
        while not over.is_set():
            name = f"stays-{asked % 3}"
            found = server.records(fqdn(name))
            if found != [f"10.96.7.{asked % 3 + 1}"]:
                wrong.append((name, found))
            asked += 1
            over.wait(0.005)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert asked >= 10
    assert wrong == []


@contextlib.contextmanager
def swapped(lab: Lab, server: Server, within: float) -> Iterator[None]:
    """One Service is there before and gone afterwards, another the other way round; both have to show soon after the block."""
    put(lab, "goes", 50)
    until("the Service to go", lambda: server.records(fqdn("goes")) == ["10.96.7.50"], SOON)
    with known_names_answer(server):
        try:
            yield
            well = time.monotonic()
            until("the new Service", lambda: server.records(fqdn("comes")) == ["10.96.7.51"], within)
            until("the old Service's end", lambda: server.records(fqdn("goes")) == ["NXDOMAIN"], within)
            assert time.monotonic() - well <= within
        finally:
            for name in ("goes", "comes"):
                with contextlib.suppress(OSError):
                    lab.api("DELETE", f"{SERVICES}/{name}")


def swap(lab: Lab) -> None:
    """Changes the cluster."""
    put(lab, "comes", 51)
    lab.api("DELETE", f"{SERVICES}/goes")


def test_watches_that_are_closed(lab: Lab, server: Server) -> None:
    """Go on at once, without a list."""
    lists = server.log.count("listing again")
    with swapped(lab, server, AT_ONCE):
        lab.admin("closewatches")
        swap(lab)
    assert server.log.count("listing again") == lists


def test_410_in_the_stream(lab: Lab, server: Server) -> None:
    """While the watches of the other kinds go on."""
    with swapped(lab, server, AT_ONCE):
        lab.admin("fault", verb="watch", resource="services", status="410", count="1")
        lab.admin("closewatches", resource="services")
        swap(lab)
    assert server.log.count("listing again") == 1
    server.until_logged("services: too old resource version")


def test_a_cache_that_expired(lab: Lab, server: Server) -> None:
    """The server closes the watches after a second, and says 429 meanwhile: that second is its own."""
    with swapped(lab, server, 1.0 + SOON):
        lab.admin("expire", resource="services")
        swap(lab)


def test_compaction(lab: Lab, server: Server) -> None:
    """Of everything: every kind is listed anew."""
    with swapped(lab, server, 1.0 + SOON):
        lab.admin("compact")
        swap(lab)
    assert server.log.count("listing again") >= 1


@pytest.mark.parametrize("status", ["500", "429"])
def test_errors(lab: Lab, server: Server, status: str) -> None:
    """For lists and watches; each kind of trouble is said once."""
    with swapped(lab, server, SOON):
        lab.admin("fault", status=status, verb="watch")
        lab.admin("closewatches")
        swap(lab)
        server.until_logged(f"cannot watch services: {status}")
        threading.Event().wait(OUTAGE)
        lab.admin("fault")
    assert server.log.count(f"cannot watch services: {status}") == 1


def test_a_busy_server_is_left_alone_as_long_as_it_says(lab: Lab, server: Server) -> None:
    """Retry-After."""
    with swapped(lab, server, SOON + 3.0):
        lab.admin("fault", **{"status": "429", "retry-after": "3", "verb": "watch"})
        lab.admin("closewatches")
        swap(lab)
        server.until_logged("cannot watch services: 429")
        threading.Event().wait(OUTAGE)
        refused = 'coredns_kubernetes_rest_client_requests_total{code="429"'
        until("every watch to have been refused", lambda: server.metric(refused) >= 3, 1.4)
        assert server.metric(refused) == 3
        lab.admin("fault")


def test_denied_resources(lab: Lab, server: Server) -> None:
    """And what was deleted meanwhile, beyond the history, is gone after the relist."""
    with swapped(lab, server, SOON):
        lab.admin("deny", deny="watch:services,list:services")
        lab.admin("closewatches", resource="services")
        server.until_logged('cannot watch services: forbidden; the ServiceAccount needs "list" and "watch" on services')
        swap(lab)
        lab.admin("compact")
        threading.Event().wait(OUTAGE)
        lab.admin("deny")
    assert server.log.count("cannot watch services: forbidden") == 1


def test_a_token_that_is_replaced(lab: Lab, server: Server) -> None:
    """The new one is in the kubeconfig a while later."""
    try:
        with swapped(lab, server, SOON):
            swap_with = lab.api
            lab.admin("tokens", token="new-token")
            swap_with.headers["Authorization"] = "Bearer new-token"
            lab.admin("closewatches")
            server.until_logged("cannot watch services: unauthorized")
            spec = {"clusterIP": "10.96.7.51", "ports": [{"name": "http", "port": 80}]}
            swap_with("POST", SERVICES, {"metadata": {"name": "comes"}, "spec": spec})
            swap_with("DELETE", f"{SERVICES}/goes")
            threading.Event().wait(OUTAGE)
            lab.kubeconfig.write_text(lab.given.read_text().replace("lab-token", "new-token"))
            well = time.monotonic()
        assert time.monotonic() - well < 2 * SOON
    finally:
        lab.admin("tokens", token="lab-token")
        lab.kubeconfig.write_text(lab.given.read_text())
        with contextlib.suppress(OSError):
            lab.api("DELETE", f"{SERVICES}/comes")


def test_a_server_that_hangs(lab: Lab, server: Server) -> None:
    """SIGSTOP: nothing is said of it, as nothing may have happened; when it goes on, so do the watches."""
    with swapped(lab, server, SOON):
        lab.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(OUTAGE)
        lab.process.send_signal(signal.SIGCONT)
        swap(lab)


def test_a_server_that_crashes(lab: Lab, server: Server) -> None:
    """SIGKILL, and a restart on the same address; its old versions are no longer there."""
    with swapped(lab, server, SOON):
        lab.kill()
        server.until_logged("cannot reach the Kubernetes API")
        threading.Event().wait(OUTAGE)
        lab.start()
        swap(lab)
    assert server.log.count("cannot reach the Kubernetes API") <= 3, "a line for each reason"
    server.until_logged("the Kubernetes API answers again")


def test_a_start_while_the_server_is_away(lab: Lab, tmp_path: Path) -> None:
    """Names are there as soon as it is."""
    lab.kill()
    with Server(tmp_path, COREFILE.replace("KUBECONFIG", str(lab.kubeconfig)).replace("ttl 30", "ttl 30\n startup_timeout 1s")) as server:
        server.until_logged("cannot reach the Kubernetes API")
        server.until_serving()
        assert server.records(fqdn("stays-0")) == ["SERVFAIL"]
        lab.start()
        until("the first names", lambda: server.records(fqdn("stays-0")) == ["10.96.7.1"], SOON)


def test_without_streamed_lists(tmp_path: Path) -> None:
    """A server that knows no WatchList, and then another authority that signs its certificate."""
    with Lab(tmp_path / "lab", "--feature-gates", "WatchList=false") as lab:
        for number in range(3):
            put(lab, f"stays-{number}", number + 1)
        with Server(tmp_path, COREFILE.replace("KUBECONFIG", str(lab.kubeconfig))) as server:
            server.until_ready()
            with swapped(lab, server, AT_ONCE):
                swap(lab)
            lab.kill()
            lab.use_new_authority()
            lab.start()
            server.until_logged("certificate verify failed")
            with known_names_answer(server):
                put(lab, "new", 60)
                lab.kubeconfig.write_text(lab.given.read_text())
                until("the new authority", lambda: server.records(fqdn("new")) == ["10.96.7.60"], SOON)
            assert "Traceback" not in server.log

"""The Pods of clients by their addresses."""

from __future__ import annotations

import asyncio
import logging
import tracemalloc

import pytest

from svcdns.cluster.changes import Begin, Complete, Gone, Kind, Put
from svcdns.cluster.objects import Pod, Service
from svcdns.cluster.watch_options import WatchOptions
from svcdns.control.client_names import ClientNames, PodName, follow_pods
from tests.support.api_double import PODS, SERVICES, ApiDouble
from tests.support.followed import Observed, VirtualTime

WEB, DB = PodName("d", "web-1"), PodName("e", "db-0")


def test_pods_are_found_by_their_addresses() -> None:
    names = ClientNames()
    names.apply(
        [Put(Pod("d", "web-1", "10.0.0.1", ("fd00::1",))), Put(Pod("e", "db-0", "10.0.0.2")), Put(Pod("e", "new"))]
    )
    assert [names.find(address) for address in ("10.0.0.1", "fd00::1", "10.0.0.2", "10.0.0.3")] == [WEB, WEB, DB, None]
    names.apply([Put(Pod("d", "web-1", "10.0.0.3")), Gone(Kind.POD, "e", "db-0"), Gone(Kind.POD, "e", "db-0")])
    assert [names.find(address) for address in ("10.0.0.1", "fd00::1", "10.0.0.2", "10.0.0.3")] == [
        None,
        None,
        None,
        WEB,
    ]
    assert len(names) == 1


def test_a_shared_address_names_no_pod() -> None:
    names = ClientNames()
    names.apply([Put(Pod("d", f"web-{number}", "192.0.2.1")) for number in range(3)])
    assert names.find("192.0.2.1") is None
    names.remove(PodName("d", "web-0"))
    assert names.find("192.0.2.1") is None
    names.remove(PodName("d", "web-2"))
    assert names.find("192.0.2.1") == WEB


def test_a_list_removes_the_pods_that_are_gone() -> None:
    names = ClientNames()
    names.apply([Put(Pod("d", "web-1", "10.0.0.1")), Put(Pod("e", "db-0", "10.0.0.2"))])
    names.apply([Begin(Kind.POD), Put(Pod("d", "web-1", "10.0.0.1")), Put(Service("d", "web")), Complete(Kind.POD)])
    assert (names.find("10.0.0.1"), names.find("10.0.0.2")) == (WEB, None)


def test_memory() -> None:
    """The bound is in docs/plugins/traffic.md."""
    pods = [
        Pod("namespace", f"deployment-5d8f7c9b4-{number:05}", f"10.244.{number >> 8}.{number & 255}")
        for number in range(5000)
    ]
    copies = [Pod(one.namespace, "".join(list(one.name)), "".join(list(one.ip))) for one in pods]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    names = ClientNames()
    while copies:
        one = copies.pop()
        names.put(Pod(one.namespace, "".join(list(one.name)), "".join(list(one.ip))))
        del one
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(names) == 5000
    assert used / 5000 < 450


def pod(name: str, ip: str) -> dict[str, object]:
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "d"}, "status": {"podIP": ip}}


async def test_a_watch_of_pods_only() -> None:
    names = ClientNames()
    with ApiDouble([pod("web-1", "10.0.0.1")]) as api:
        watching = asyncio.create_task(
            follow_pods(
                names, WatchOptions(endpoint=api.url, labels="a=b"), logging.getLogger(), Observed(VirtualTime())
            )
        )
        async with asyncio.timeout(20):
            while names.find("10.0.0.1") is None:
                await asyncio.sleep(0.001)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert names.find("10.0.0.1") == WEB
        assert {request.path for request in api.requests} == {PODS}
        assert SERVICES not in {request.path for request in api.requests}
        assert not any("labelSelector" in request.query for request in api.requests)


async def test_a_cluster_that_cannot_be_set_up(caplog: pytest.LogCaptureFixture) -> None:
    options = WatchOptions(kubeconfig="/nonexistent")
    await follow_pods(ClientNames(), options, logging.getLogger("svcdns"), Observed(VirtualTime()))
    assert "clients are not named" in caplog.text

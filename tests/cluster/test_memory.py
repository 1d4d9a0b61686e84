"""Memory in octets that a cluster needs: in the index of a worker and in the cluster view of the control process.
docs/performance.md has the figures.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from svcdns.cluster.changes import Change, Complete, Kind, Put
from svcdns.cluster.index import Index
from svcdns.cluster.objects import Endpoint, EndpointSlice, Namespace, Pod, Port, Service
from svcdns.control.cluster_view import ClusterView

KINDS = (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE, Kind.POD)
SERVICES = 2_000
PODS_OF_A_NODE = 50
PORTS = (Port("http", "TCP", 80), Port("metrics", "TCP", 9090))


def address(pod: int, nodes: int) -> str:
    """Returns the address of a Pod. Each node has 254 Pods, and the Pods of a Service are on different nodes."""
    node = pod % nodes
    return f"10.{node >> 8}.{node & 255}.{1 + pod // nodes}"


def cluster(endpoints: int, pods: int) -> Iterator[Change]:
    """Yields the objects of a cluster with 20 namespaces. Each Service has `endpoints` endpoints."""
    for number in range(SERVICES):
        namespace, name = f"team-{number % 20}", f"service-{number:05}"
        yield Put(Service(namespace, name, (f"10.96.{number >> 8}.{number & 255}",), PORTS))
        addresses = [address(number + at * SERVICES, SERVICES * endpoints // PODS_OF_A_NODE) for at in range(endpoints)]
        yield Put(EndpointSlice(namespace, f"{name}-abcde", name, PORTS, tuple(map(Endpoint, addresses))))
    for number in range(pods):
        yield Put(
            Pod(f"team-{number % 20}", f"service-{number:05}-7d4b9c6f5-abcde", address(number, pods // PODS_OF_A_NODE))
        )
    for number in range(20):
        yield Put(Namespace(f"team-{number}"))
    for kind in KINDS:
        yield Complete(kind)


def memory_of(endpoints: int, pods: int, make: Callable[[], Callable[[Change], object]]) -> int:
    """Returns the number of octets that the index or view made by `make` needs for the cluster."""
    gc.collect()
    tracemalloc.start()
    apply = make()
    for change in cluster(endpoints, pods):
        apply(change)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used


def index() -> Callable[[Change], object]:
    """Returns the `apply` method of a new index."""
    return Index(KINDS).apply


def view() -> Callable[[Change], object]:
    """Returns the `apply` method of a new cluster view."""
    return ClusterView(1, KINDS, lambda: 0.0).apply


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "service", "endpoint", "pod"),
    [pytest.param(index, 850, 42, 360, id="index"), pytest.param(view, 700, 22, 300, id="control")],
)
def test_memory_per_object_is_bounded(
    make: Callable[[], Callable[[Change], object]], service: int, endpoint: int, pod: int
) -> None:
    alone, large, with_pods = memory_of(1, 0, make), memory_of(21, 0, make), memory_of(1, SERVICES, make)
    assert alone / SERVICES < service
    assert (large - alone) / (20 * SERVICES) < endpoint
    assert (with_pods - alone) / SERVICES < pod

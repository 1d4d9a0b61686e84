"""Calculates replicas, memory and the load on the API server for clusters of several sizes: docs/scaling.md.

`python -m tools.scaling` prints the tables of the page. Each assumption is an option, such as `--pods-per-node 60`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

NODES: Final = (500, 5_000, 15_000)
MIB: Final = 1 << 20
MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Measured:
    """Measured figures of svcdns 0.2.0 on one core. docs/scaling.md has the command for each figure."""

    rate: float = 20_000
    """Queries a second at which one worker was measured, without a lost query."""
    query_us: float = 35
    """CPU microseconds for a query at the measured rate or below it."""
    forwarded_us: float = 146
    """CPU microseconds for a query that is forwarded to an upstream."""
    base_mib: float = 53
    """Memory of all processes with an empty cluster."""
    service_octets: float = 1_300
    """Memory for a Service with its EndpointSlice of one endpoint."""
    endpoint_octets: float = 69
    """Memory for each further endpoint."""
    answer_octets: float = 550
    """Memory for a stored answer."""
    event_octets: float = 1_243
    """Octets of a watch event about an EndpointSlice, without its endpoints."""
    event_endpoint_octets: float = 262
    """Octets of each endpoint in a watch event."""
    event_us: float = 450
    """CPU microseconds of a replica for a watch event."""
    list_service_octets: float = 60
    """Octets of a Service and its EndpointSlice in compressed lists, without endpoints."""
    list_endpoint_octets: float = 15
    """Octets of each endpoint in compressed lists."""
    api_event_us: float = 17
    """CPU microseconds of the API server for one event on one watch, without endpoints."""
    api_event_endpoint_us: float = 0.28
    """CPU microseconds of the API server for each endpoint in the event."""
    local_mib: float = 60
    """Memory of a node-local cache with 5,000 names."""
    local_forwarded_us: float = 104
    """CPU microseconds of a node-local cache for a query that is forwarded over TCP."""
    local_second_us: float = 58
    """CPU microseconds of a node-local cache for the first query of a name after the forwarded one."""
    local_stored_us: float = 41
    """CPU microseconds of a node-local cache for each further query of this name."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """The assumptions about a cluster. Each field is an option of the command line."""

    pods_per_node: float = 30
    services_per_node: float = 1.64
    cores_per_node: float = 16
    queries_per_pod: float = 5
    """Queries a second, at the busiest time."""
    forwarded_share: float = 0.05
    """Share of all queries that a replica forwards to an upstream."""
    pods_replaced: float = 0.0001
    """Share of all Pods that are replaced each second."""
    changes_per_pod: float = 4
    """Changes of an EndpointSlice for each replaced Pod."""
    names_per_node: float = 200
    """Pairs of an existing name and a type that the Pods of a node query all the time."""
    absent_per_node: float = 100
    """Pairs of a nonexistent name and a type that these Pods query, because of the search path."""
    success_ttl: float = 30
    """Seconds for which a node-local cache stores an answer."""
    denial_ttl: float = 5
    """Seconds for which a node-local cache stores that a name does not exist."""
    zones: int = 3
    zone_changes: float = 10
    """Changes of each EndpointSlice after the loss of a zone."""
    zone_seconds: float = 600
    """Seconds after the loss of a zone in which all changes of EndpointSlices come."""
    surge: float = 0.01
    """Share of the nodes whose node-local Pod is replaced at the same time."""
    replace_seconds: float = 10
    """Seconds until a new node-local Pod is ready and the old one has ended."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The figures of a cluster with `nodes` nodes."""

    nodes: int
    assumed: Assumed
    measured: Measured

    @property
    def pods(self) -> float:
        """Pods of the cluster."""
        return self.nodes * self.assumed.pods_per_node

    @property
    def services(self) -> float:
        """Services of the cluster."""
        return self.nodes * self.assumed.services_per_node

    @property
    def endpoints(self) -> float:
        """Endpoints of each Service, on average: each Pod belongs to one Service."""
        return self.pods / self.services

    @property
    def queries(self) -> float:
        """Queries a second of all Pods."""
        return self.pods * self.assumed.queries_per_pod

    @property
    def query_us(self) -> float:
        """CPU microseconds of a replica for a query, on average."""
        share = self.assumed.forwarded_share
        return (1 - share) * self.measured.query_us + share * self.measured.forwarded_us

    def replicas(self, queries: float) -> int:
        """Returns the number of replicas that can answer `queries` a second after the loss of one zone.

        At least one replica is in each zone.
        """
        left, zones = math.ceil(queries / self.measured.rate), self.assumed.zones
        return max(zones, -(-left * zones // (zones - 1)))

    def cpu(self, queries: float) -> float:
        """Returns the cores that each replica uses for `queries` a second and for changes, if no zone is lost."""
        per_replica = queries / self.replicas(queries) * self.query_us
        return (per_replica + self.events * self.measured.event_us) / 1e6

    def cpu_after_loss(self, queries: float) -> float:
        """Returns the cores that each remaining replica uses for queries after the loss of a zone."""
        return queries / self.replicas_left(queries) * self.query_us / 1e6

    def replicas_left(self, queries: float) -> int:
        """Returns the number of remaining replicas after the loss of the zone with the most replicas."""
        replicas = self.replicas(queries)
        return replicas - math.ceil(replicas / self.assumed.zones)

    @property
    def memory(self) -> float:
        """MiB of a replica after two stored answers for each Service, and 10,000 others."""
        figures = self.measured
        objects = figures.service_octets + figures.endpoint_octets * (self.endpoints - 1)
        answers = 2 * self.services + 10_000
        return figures.base_mib + (self.services * objects + answers * figures.answer_octets) / MIB

    @property
    def limit(self) -> int:
        """The memory limit of a replica in MiB: 1.5 times the memory, at least the 170 MiB of kubeadm."""
        return max(170, math.ceil(1.5 * self.memory / 10) * 10)

    @property
    def missed(self) -> float:
        """Queries a second that a node-local cache forwards."""
        assumed = self.assumed
        stale = assumed.names_per_node / assumed.success_ttl + assumed.absent_per_node / assumed.denial_ttl
        return min(stale, assumed.pods_per_node * assumed.queries_per_pod)

    @property
    def central(self) -> float:
        """Queries a second that all node-local caches forward to the central replicas."""
        return self.nodes * self.missed

    @property
    def local_cpu(self) -> float:
        """Cores that a node-local cache uses."""
        figures, stored = self.measured, self.assumed.pods_per_node * self.assumed.queries_per_pod - self.missed
        second = min(self.missed, stored)
        further = (stored - second) * figures.local_stored_us
        return (self.missed * figures.local_forwarded_us + second * figures.local_second_us + further) / 1e6

    @property
    def events(self) -> float:
        """Changes of EndpointSlices a second."""
        return self.pods * self.assumed.pods_replaced * self.assumed.changes_per_pod

    @property
    def event_octets(self) -> float:
        """Octets of a watch event about an EndpointSlice."""
        return self.measured.event_octets + self.measured.event_endpoint_octets * self.endpoints

    @property
    def list_octets(self) -> float:
        """Octets of the lists at the start of a replica."""
        figures = self.measured
        return self.services * (figures.list_service_octets + figures.list_endpoint_octets * self.endpoints)

    def api_traffic(self, watchers: float) -> float:
        """Returns the octets a second that the API server sends to replicas or nodes with watches."""
        return self.events * self.event_octets * watchers

    def api_cpu(self, watchers: float) -> float:
        """Returns the cores that the API servers use to send events to `watchers` replicas or nodes with watches."""
        figures = self.measured
        return self.events * (figures.api_event_us + figures.api_event_endpoint_us * self.endpoints) * watchers / 1e6

    @property
    def zone_events(self) -> float:
        """Changes a second after the loss of a zone."""
        return self.services * self.assumed.zone_changes / self.assumed.zone_seconds

    @property
    def proportional(self) -> int:
        """Replicas by the linear mode of the proportional autoscaler, with 256 cores and 16 nodes for each."""
        return max(2, math.ceil(self.nodes * self.assumed.cores_per_node / 256), math.ceil(self.nodes / 16))

    @property
    def coredns_mb(self) -> float:
        """MB of a CoreDNS replica by the formula of its scaling guide."""
        return (self.pods + self.services) * 0.000858 + 49.1

    @property
    def coredns_replicas(self) -> int:
        """CoreDNS replicas with two cores by the rate of its scaling guide, without reserve."""
        return math.ceil(self.queries / 33_669)


Line = tuple[str, Callable[[Plan], str]]


def whole(value: float) -> str:
    """Returns a number without decimals."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """Returns a number with two significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.2g}'):g}"


TABLES: Final[dict[str, tuple[Line, ...]]] = {
    "cluster": (
        ("Pods", lambda plan: whole(plan.pods)),
        ("Services", lambda plan: whole(plan.services)),
        ("endpoints of a Service", lambda plan: short(plan.endpoints)),
        ("queries a second, all Pods", lambda plan: whole(plan.queries)),
        ("changes of EndpointSlices a second", lambda plan: short(plan.events)),
        ("octets of a change", lambda plan: whole(plan.event_octets)),
    ),
    "replicas": (
        ("replicas", lambda plan: whole(plan.replicas(plan.queries))),
        ("queries a second for each replica", lambda plan: whole(plan.queries / plan.replicas(plan.queries))),
        ("cores for each replica", lambda plan: short(plan.cpu(plan.queries))),
        ("memory of each replica, MiB", lambda plan: whole(plan.memory)),
        ("memory limit, MiB", lambda plan: whole(plan.limit)),
        ("memory of all replicas, GiB", lambda plan: short(plan.memory * plan.replicas(plan.queries) / 1024)),
        ("after the loss of a zone: replicas", lambda plan: whole(plan.replicas_left(plan.queries))),
        (
            "after the loss of a zone: queries a second for each",
            lambda plan: whole(plan.queries / plan.replicas_left(plan.queries)),
        ),
        ("after the loss of a zone: cores for each", lambda plan: short(plan.cpu_after_loss(plan.queries))),
    ),
    "node-local": (
        (
            "queries a second of a node",
            lambda plan: whole(plan.assumed.pods_per_node * plan.assumed.queries_per_pod),
        ),
        ("of these, forwarded", lambda plan: short(plan.missed)),
        ("cores on each node", lambda plan: short(plan.local_cpu)),
        ("memory on each node, MiB", lambda plan: whole(plan.measured.local_mib)),
        ("memory on all nodes, GiB", lambda plan: short(plan.measured.local_mib * plan.nodes / 1024)),
        ("queries a second to the central replicas", lambda plan: whole(plan.central)),
        ("central replicas", lambda plan: whole(plan.replicas(plan.central))),
        ("memory of the central replicas, GiB", lambda plan: short(plan.memory * plan.replicas(plan.central) / 1024)),
        (
            "connections for each central replica after the loss of a zone",
            lambda plan: whole(plan.nodes / plan.replicas_left(plan.central)),
        ),
        (
            "update of all nodes: minutes",
            lambda plan: short(plan.assumed.replace_seconds / plan.assumed.surge / 60),
        ),
        (
            "update of all nodes: further queries a second to the central replicas",
            lambda plan: whole(
                max(1, plan.nodes * plan.assumed.surge)
                * (plan.assumed.names_per_node + plan.assumed.absent_per_node)
                / plan.assumed.replace_seconds
            ),
        ),
    ),
    "api server": (
        ("octets of the lists at a start, MB", lambda plan: short(plan.list_octets / MB)),
        ("replicas: watches", lambda plan: whole(3 * plan.replicas(plan.queries))),
        ("replicas: MB a second", lambda plan: short(plan.api_traffic(plan.replicas(plan.queries)) / MB)),
        ("replicas: cores of the API servers", lambda plan: short(plan.api_cpu(plan.replicas(plan.queries)))),
        ("replicas: MB if all list again", lambda plan: short(plan.list_octets * plan.replicas(plan.queries) / MB)),
        ("node-local tier: watches", lambda plan: whole(3 * plan.replicas(plan.central))),
        ("node-local tier: MB a second", lambda plan: short(plan.api_traffic(plan.replicas(plan.central)) / MB)),
        ("node-local tier: cores of the API servers", lambda plan: short(plan.api_cpu(plan.replicas(plan.central)))),
        ("watches on every node: watches", lambda plan: whole(3 * plan.nodes)),
        ("watches on every node: MB a second", lambda plan: short(plan.api_traffic(plan.nodes) / MB)),
        ("watches on every node: cores of the API servers", lambda plan: short(plan.api_cpu(plan.nodes))),
        ("watches on every node: MB if all list again", lambda plan: short(plan.list_octets * plan.nodes / MB)),
        (
            "loss of a zone: changes a second, for ten minutes",
            lambda plan: whole(plan.zone_events),
        ),
        (
            "loss of a zone, replicas: MB a second",
            lambda plan: short(plan.zone_events * plan.event_octets * plan.replicas_left(plan.queries) / MB),
        ),
        (
            "loss of a zone: cores of each replica for the changes",
            lambda plan: short(plan.zone_events * plan.measured.event_us / 1e6),
        ),
    ),
    "guidance": (
        ("svcdns: replicas", lambda plan: whole(plan.replicas(plan.queries))),
        ("proportional autoscaler: replicas", lambda plan: whole(plan.proportional)),
        ("CoreDNS guide: replicas with two cores, without reserve", lambda plan: whole(plan.coredns_replicas)),
        ("svcdns: memory of a replica, MiB", lambda plan: whole(plan.memory)),
        ("CoreDNS guide: memory of a replica, MB", lambda plan: whole(plan.coredns_mb)),
    ),
}  # fmt: skip


def table(name: str, plans: Sequence[Plan]) -> str:
    """Returns a table in Markdown, with a column for each plan."""
    head = ["", *(f"{whole(plan.nodes)} nodes" for plan in plans)]
    rows = [head, ["---", *("---:" for _ in plans)]]
    rows += [[label, *(value(plan) for plan in plans)] for label, value in TABLES[name]]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints all tables. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="scaling", description="Calculates replicas, memory and API server load.")
    parser.add_argument("--nodes", type=int, nargs="+", default=NODES, help="nodes of each cluster (%(default)s)")
    for field in dataclasses.fields(Assumed):
        kind = int if field.name == "zones" else float
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help="%(default)s")
    options = vars(parser.parse_args(arguments))
    nodes = options.pop("nodes")
    if options["zones"] < 2:
        parser.error("--zones: expected at least 2")
    plans = [Plan(count, Assumed(**options), Measured()) for count in nodes]
    print("\n".join(f"{name}:\n\n{table(name, plans)}" for name in TABLES), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

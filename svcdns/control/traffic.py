"""Estimates from the samples of queries that workers write (plugin *traffic*, docs/plugins/traffic.md).

Once a second, new samples are added to the metrics, which have totals by namespace only. `Traffic.report` returns the
top names and clients of the last WINDOW seconds as plain data. Rules:

1. Every estimate has an error bound: in 95 of 100 cases, the true number differs by at most this bound.
2. Names and addresses are in reports only, never in metrics or in the log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from math import sqrt
from time import monotonic
from typing import Any, Final, TypeVar

import msgspec

from svcdns.control.client_names import ClientNames
from svcdns.eventloop.clock import Clock
from svcdns.eventloop.time_slice import TimeSlice
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.telemetry.query_samples import CAPACITY, NO_CLIENT_TEXTS, UNKNOWN, Ring, Sample
from svcdns.wire import names
from svcdns.wire.codes import Rcode, rcode_label, type_text
from svcdns.wire.errors import FormError
from svcdns.wire.request import read_query_name

FORMAT: Final = 1
"""The format of the document, for tools."""
WINDOW: Final = 60.0
"""The seconds that a report covers."""
MAX_NAMESPACES: Final = 200
"""The most namespaces with series of their own. All other namespaces have the label OTHER."""
OTHER: Final = "(other)"
MAX_CLIENTS: Final = 4096
"""The most clients whose namespace is remembered from their search path."""
MAX_NDOTS: Final = 15
"""The largest value of the resolver option `ndots` (resolv.conf(5))."""
_NAME_AT: Final = 10
_NO_ID: Final = b"\0\0"
_Key = TypeVar("_Key")

QUERIES: Final = Family(
    "svcdns_client_queries_total",
    MetricKind.COUNTER,
    "Estimated queries over UDP by namespace of the client, from samples (plugin traffic).",
    ("namespace",),
)
NXDOMAIN: Final = Family(
    "svcdns_client_nxdomain_total",
    MetricKind.COUNTER,
    "Estimated queries over UDP for names that do not exist, by namespace of the client (plugin traffic).",
    ("namespace",),
)
SEARCH_MISSES: Final = Family(
    "svcdns_client_search_path_misses_total",
    MetricKind.COUNTER,
    "Estimated queries over UDP for outside names with a domain of the search path appended (plugin traffic).",
    ("namespace",),
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated number of queries in the window. `error` is the bound of the error (see the module)."""

    queries: float
    error: float


@dataclass(frozen=True, slots=True)
class TopName:
    """A name that clients query, as text in lower case."""

    name: str
    rtypes: tuple[str, ...]
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class TopClient:
    """A client. `pod` is empty if the Pod is not known.

    `namespace` is that of the Pod, or the one in the search path of the client's queries, or empty.
    """

    address: str
    namespace: str
    pod: str
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class NamespaceTraffic:
    """The queries of the Pods of one namespace. The namespace is empty for clients that are not known.

    `search_path_misses` are queries for outside names with a domain of the search path appended. `outside` has these
    names, without the domain. If the Pods have the option `ndots`, resolvers first query these names as they are.
    `dns_config` is the text for the Pod template, or empty if there are no such queries.
    """

    namespace: str
    queries: Estimate
    nxdomain: Estimate
    search_path_misses: Estimate
    outside: tuple[TopName, ...]
    ndots: int
    dns_config: str


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """Estimates for the last `seconds`, from `samples` samples. Each list has its largest items first.

    `unseen_clients` is the number of queries that the accelerator answered in the kernel, where clients are unknown.
    These queries are not in `clients`. In `namespaces`, their namespace is known only from a search path.
    """

    format: int
    seconds: float
    samples: int
    queries: Estimate
    rcodes: tuple[tuple[str, Estimate], ...]
    names: tuple[TopName, ...]
    nonexistent: tuple[TopName, ...]
    clients: tuple[TopClient, ...]
    namespaces: tuple[NamespaceTraffic, ...]
    unseen_clients: Estimate = Estimate(0.0, 0.0)


def schema() -> dict[str, Any]:
    """Returns the JSON schema of the document that `msgspec.json.encode` makes of a report."""
    return msgspec.json.schema(TrafficReport)


class _Sum:
    """The sum of weights, and its variance: a query was sampled with the probability 1 / weight."""

    __slots__ = ("total", "variance")

    def __init__(self) -> None:
        self.total = self.variance = 0.0

    def add(self, weight: float) -> None:
        self.total += weight
        self.variance += weight * (weight - 1)

    @property
    def estimate(self) -> Estimate:
        return Estimate(round(self.total, 1), round(2 * sqrt(self.variance), 1))


class Expansion:
    """A query name with a domain of the search path appended.

    `outside` is the name without the domain, as labels. `namespace` is the one in the domain, or empty.
    """

    __slots__ = ("namespace", "outside")

    def __init__(self, outside: Sequence[bytes], namespace: str) -> None:
        self.outside, self.namespace = tuple(outside), namespace


class Traffic:
    """The samples of all workers."""

    def __init__(
        self,
        counters: Counters,
        rings: Callable[[], Iterable[Ring]],
        clients: ClientNames,
        exists: Callable[[str, str], bool],
        clock: Clock = monotonic,
    ) -> None:
        """`rings` returns the rings of all workers. `clients` has the Pods that are known.

        `exists(namespace, service)` returns True if the Service exists, or with an empty `service`, if the namespace
        exists.
        """
        self._counters, self._rings, self._clients, self._exists, self._clock = (
            counters,
            rings,
            clients,
            exists,
            clock,
        )
        self.zones: tuple[bytes, ...] = ()
        """The zones of the cluster in wire format, in lower case. The longest are first."""
        self._namespaces: dict[str, str] = {}
        """The namespace of clients that are not known as Pods, from the search path of their queries."""
        self._labels: set[str] = set()

    # -- metrics

    def count(self) -> None:
        """Adds new samples to the metrics. Called once a second."""
        for ring in self._rings():
            first, end = ring.counted, ring.written
            if first == end:
                continue
            for sample in ring.samples(first):
                self._count(sample)
            ring.counted = end

    def _count(self, sample: Sample) -> None:
        name = _name(sample)
        expansion = self.expansion(name) if name is not None and sample.rcode == Rcode.NXDOMAIN else None
        label = self._label(self._namespace(sample.client, expansion))
        self._counters.count(QUERIES, label, amount=sample.weight)
        if sample.rcode == Rcode.NXDOMAIN:
            self._counters.count(NXDOMAIN, label, amount=sample.weight)
        if expansion is not None:
            self._counters.count(SEARCH_MISSES, label, amount=sample.weight)

    def _label(self, namespace: str) -> str:
        if namespace and namespace not in self._labels:
            if len(self._labels) >= MAX_NAMESPACES:
                return OTHER
            self._labels.add(namespace)
        return namespace

    # -- search paths

    def expansion(self, name: bytes) -> Expansion | None:
        """Returns the outside name in a nonexistent query name that ends with a domain of the search path.

        Returns None for other names. `name` is in wire format and lower case. A name of two labels or more counts as
        an outside name unless it ends with a namespace, or with a Service of the namespace in the domain.
        """
        zone = next((zone for zone in self.zones if name.endswith(zone) and names.is_within(name, zone)), None)
        if zone is None:
            return None
        labels, namespace = names.labels_of(name[: len(name) - len(zone)] + b"\0"), ""
        if len(labels) > 2 and labels[-1] == b"svc" and self._exists(labels[-2].decode("latin-1"), ""):
            namespace, labels = labels[-2].decode("latin-1"), labels[:-2]
        elif labels and labels[-1] == b"svc":
            labels = labels[:-1]
        last = labels[-1].decode("latin-1") if labels else ""
        if len(labels) < 2 or not last[0].isalpha() or last == "svc" or self._exists(last, ""):
            return None
        if namespace and self._exists(namespace, last):
            return None
        return Expansion(labels, namespace)

    def _namespace(self, client: str, expansion: Expansion | None) -> str:
        """Returns the namespace of a client, or an empty text."""
        if client in NO_CLIENT_TEXTS:
            return "" if expansion is None else expansion.namespace
        pod = self._clients.find(client)
        if pod is not None:
            return pod.namespace
        known = self._namespaces
        if expansion is not None and expansion.namespace and client:
            if len(known) >= MAX_CLIENTS and client not in known:
                known.pop(next(iter(known)))
            known[client] = expansion.namespace
        return known.get(client, "")

    # -- reports

    async def report(self, top: int = 20) -> TrafficReport:
        """Returns the estimates for the last WINDOW seconds. Each list has at most `top` items."""
        began, slice_, sums = self._clock() - WINDOW, TimeSlice(), _Sums()
        for ring in self._rings():
            scale = 0.0
            for sample in ring.samples():
                if not scale:  # the oldest sample: after a burst, the ring covers less than the window
                    covered = began + WINDOW - sample.at if ring.written > CAPACITY else WINDOW
                    scale = max(1.0, WINDOW / max(1.0, covered))
                if sample.at >= began:
                    self._add(sums, sample, sample.weight * scale)
                await slice_.pause()
        return self._report(sums, top)

    def _add(self, sums: _Sums, sample: Sample, weight: float) -> None:
        name = _name(sample)
        expansion = self.expansion(name) if name is not None and sample.rcode == Rcode.NXDOMAIN else None
        namespace = self._namespace(sample.client, expansion)
        sums.samples += 1
        sums.queries.add(weight)
        sums.rcodes[sample.rcode].add(weight)
        (sums.unseen if sample.client in NO_CLIENT_TEXTS else sums.clients[sample.client]).add(weight)
        one = sums.namespaces[namespace]
        one.queries.add(weight)
        if name is not None:
            sums.names[name].add(weight)
            sums.types[name].add(_type(sample.key, len(name)))
        if sample.rcode != Rcode.NXDOMAIN:
            return
        one.nxdomain.add(weight)
        if name is not None:
            sums.nonexistent[name].add(weight)
        if expansion is not None:
            one.misses.add(weight)
            one.outside[names.from_labels(expansion.outside)].add(weight)

    def _report(self, sums: _Sums, top: int) -> TrafficReport:
        def top_names(found: dict[bytes, _Sum], count: int) -> tuple[TopName, ...]:
            return tuple(
                TopName(names.to_text(name), tuple(sorted(sums.types.get(name, ()))), one.estimate)
                for name, one in _largest(found, count)
            )

        clients = []
        for address, one in _largest(sums.clients, top):
            pod = self._clients.find(address)
            namespace = pod.namespace if pod is not None else self._namespaces.get(address, "")
            clients.append(TopClient(address, namespace, "" if pod is None else pod.name, one.estimate))
        namespaces = []
        for namespace, traffic in sorted(sums.namespaces.items(), key=lambda item: -item[1].queries.total)[:top]:
            ndots = ndots_for(traffic.outside)
            namespaces.append(
                NamespaceTraffic(
                    namespace,
                    traffic.queries.estimate,
                    traffic.nxdomain.estimate,
                    traffic.misses.estimate,
                    top_names(traffic.outside, 5),
                    ndots,
                    dns_config(ndots) if traffic.outside else "",
                )
            )
        return TrafficReport(
            FORMAT,
            WINDOW,
            sums.samples,
            sums.queries.estimate,
            tuple(
                ("unknown" if rcode == UNKNOWN else rcode_label(rcode), one.estimate)
                for rcode, one in _largest(sums.rcodes, top)
            ),
            top_names(sums.names, top),
            top_names(sums.nonexistent, top),
            tuple(clients),
            tuple(namespaces),
            sums.unseen.estimate,
        )


def _name(sample: Sample) -> bytes | None:
    """Returns the query name in lower case, or None if the sample does not have the whole name."""
    try:
        name, _ = read_query_name(_NO_ID + sample.key)
    except FormError:
        return None
    return name.lower()


def _type(key: bytes, octets: int) -> str:
    """Returns the query type in a query without message id whose name has `octets` octets."""
    at = _NAME_AT + octets
    return type_text(int.from_bytes(key[at : at + 2], "big")) if len(key) >= at + 2 else ""


def _largest(found: dict[_Key, _Sum], count: int) -> list[tuple[_Key, _Sum]]:
    return nlargest(count, found.items(), key=lambda item: item[1].total)


class _NamespaceSums:
    def __init__(self) -> None:
        self.queries, self.nxdomain, self.misses = _Sum(), _Sum(), _Sum()
        self.outside: dict[bytes, _Sum] = defaultdict(_Sum)


class _Sums:
    def __init__(self) -> None:
        self.samples = 0
        self.queries = _Sum()
        self.unseen = _Sum()
        self.names: dict[bytes, _Sum] = defaultdict(_Sum)
        self.nonexistent: dict[bytes, _Sum] = defaultdict(_Sum)
        self.types: dict[bytes, set[str]] = defaultdict(set)
        self.rcodes: dict[int, _Sum] = defaultdict(_Sum)
        self.clients: dict[str, _Sum] = defaultdict(_Sum)
        self.namespaces: dict[str, _NamespaceSums] = defaultdict(_NamespaceSums)


def ndots_for(outside: Iterable[bytes]) -> int:
    """Returns the largest `ndots` with which resolvers first query all of these names as they are.

    The names are in wire format. A resolver does so for a name with at least `ndots` dots.
    """
    return min((min(MAX_NDOTS, len(names.labels_of(name)) - 1) for name in outside), default=5)


def dns_config(ndots: int) -> str:
    """Returns the part of a Pod template (YAML) that sets the resolver option `ndots`."""
    return f'dnsConfig:\n  options:\n    - name: ndots\n      value: "{ndots}"\n'

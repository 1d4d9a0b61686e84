"""The state of a running server as one document, for tools (docs/plugins/admin.md#status)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import psutil

from svcdns import __version__
from svcdns.chain.routing import Listener
from svcdns.cluster.changes import Kind
from svcdns.cluster.watch_options import WatchOptions
from svcdns.control.cluster_views import ClusterViews, number_of
from svcdns.control.configuration import Setup
from svcdns.control.metric_sums import Combined, combined
from svcdns.control.reload_log import ReloadLog
from svcdns.control.traffic_samples import TrafficSamples
from svcdns.control.workers import CallError, Workers
from svcdns.feed.tool_messages import WorkerStatus

FORMAT: Final = 1
CALL_TIMEOUT: Final = 2.0
"""Seconds that a worker may take to report its state."""
SHORTEST_RATE: Final = 0.5
"""The shortest interval in seconds that rates are computed over."""


class Served(msgspec.Struct, frozen=True):
    """A zone of a server block. `address` has the form of the label `server` of metrics, such as `dns://:53`."""

    zone: str
    address: str
    view: str
    plugins: list[str]


class Corefile(msgspec.Struct, frozen=True):
    """The Corefile in use, and reloads. Times are in Unix seconds; a time is 0 if there was no such event.

    `fallback` is true while the last good Corefile is in use because the present one cannot be used.
    """

    sha512: str
    loaded_at: float
    fallback: bool
    reloads_failed: int
    last_failure_at: float
    last_error: str


class Cluster(msgspec.Struct, frozen=True):
    """A cluster view. `age` is in seconds since the source last confirmed its objects.

    `complete` is true if all objects are known. `objects` counts them by kind.
    """

    plugin: str
    source: str
    complete: bool
    age: float
    objects: dict[str, int]


class Latency(msgspec.Struct, frozen=True):
    """A histogram of durations. `bounds` are upper bounds in seconds.

    `counts` has one number for each bound, and one for longer durations. The numbers are not cumulative.
    """

    bounds: list[float]
    counts: list[int]
    sum: float


class Queries(msgspec.Struct, frozen=True):
    """Queries since the start of the program, in server blocks with *prometheus*.

    `from_kernel` are those of `from_table` that the accelerator answered in the kernel.
    """

    total: int
    types: dict[str, int]
    transports: dict[str, int]
    rcodes: dict[str, int]
    from_table: int
    latency: Latency
    from_kernel: int = 0


class Rates(msgspec.Struct, frozen=True):
    """The rates of queries since an earlier request for this document, which was `seconds` ago."""

    seconds: float
    queries: float
    from_table: float
    rcodes: dict[str, float]


class Upstream(msgspec.Struct, frozen=True):
    """An upstream. `open_circuits` counts the workers that send no queries because the upstream does not reply.

    `mean` is the mean duration of its queries since the start of the program, in seconds.
    """

    plugin: str
    address: str
    open_circuits: int
    failed_checks: int
    queries: int
    rcodes: dict[str, int]
    mean: float


class Cache(msgspec.Struct, frozen=True):
    """A store of the plugin *cache*, in all workers. `kind` is `success` or `denial`."""

    server: str
    zones: str
    view: str
    kind: str
    entries: int
    bytes: int
    hits: int
    evictions: int


class Process(msgspec.Struct, frozen=True):
    """A process. For a worker, `table_*` describe its answer tables. `state` is empty for the other processes."""

    name: str
    pid: int
    state: str
    resident_bytes: int
    cpu_seconds: float
    table_entries: int = 0
    table_bytes: int = 0
    table_limit: int = 0


class Restarts(msgspec.Struct, frozen=True):
    """Unexpected ends of a process."""

    process: str
    reason: str
    count: int


class Memory(msgspec.Struct, frozen=True):
    """The memory of the container. `limit_bytes` and `working_set_bytes` are null without a limit.

    `share` is the present size of answer tables and caches, relative to their usual size.
    """

    limit_bytes: int | None
    working_set_bytes: int | None
    share: float


class Status(msgspec.Struct, frozen=True):
    """The state of a server. `time` and `started_at` are in Unix seconds.

    `rates` is null if no tool has asked for the document before.
    """

    format: int
    version: str
    time: float
    started_at: float
    serving: list[Served]
    corefile: Corefile
    clusters: list[Cluster]
    queries: Queries
    rates: Rates | None
    upstreams: list[Upstream]
    caches: list[Cache]
    processes: list[Process]
    restarts: list[Restarts]
    memory: Memory
    panics: int
    log_lines_dropped: int


def schema() -> dict[str, Any]:
    """Returns the JSON schema of the document."""
    return msgspec.json.schema(Status)


@dataclass(frozen=True, slots=True)
class ServerParts:
    """The parts of the control process that the document describes.

    `regions` are all regions of the shared memory. `own` is the number of this process's region.
    """

    setup: Callable[[], Setup]
    workers: Workers
    views: ClusterViews
    regions: list[memoryview]
    own: int
    reloads: ReloadLog
    traffic: TrafficSamples


class StatusPage:
    """Makes the document. Remembers the numbers of queries of earlier requests, for the rates."""

    def __init__(self, parts: ServerParts) -> None:
        self._parts = parts
        self._before: list[tuple[float, Queries]] = []
        """Of the last requests, oldest first: the time on the machine's monotonic clock, and the numbers of queries."""

    async def status(self) -> Status:
        """Returns the document."""
        parts, now = self._parts, time.time()
        setup, of_workers = parts.setup(), await self._of_workers()
        metrics = combined(parts.regions, parts.own)
        queries = _queries(metrics)
        return Status(
            FORMAT,
            __version__,
            now,
            _created(os.getppid()),
            _serving(setup),
            _corefile(setup, parts.reloads, metrics),
            _clusters(setup, parts.views),
            queries,
            self._rates(queries, time.monotonic()),
            _upstreams(metrics),
            _caches(metrics),
            _processes(of_workers, parts.workers),
            [
                Restarts(values[0], values[1], count)
                for values, count in _counts(metrics, "svcdns_process_restarts_total")
                if count
            ],
            _memory(metrics),
            _total(metrics, "coredns_panics_total"),
            _total(metrics, "svcdns_log_lines_dropped_total"),
        )

    async def _of_workers(self) -> dict[str, WorkerStatus]:
        workers = self._parts.workers
        names = workers.callable_workers()
        calls = (workers.call(region, "status", b"", CALL_TIMEOUT) for region in names.values())
        found = await asyncio.gather(*calls, return_exceptions=True)
        out: dict[str, WorkerStatus] = {}
        for name, result in zip(names, found, strict=True):
            if isinstance(result, bytes):
                out[name] = msgspec.msgpack.decode(result, type=WorkerStatus)
            elif not isinstance(result, CallError):
                raise result
        return out

    def _rates(self, queries: Queries, now: float) -> Rates | None:
        """Returns the rates since the newest earlier request that is old enough."""
        usable = [one for one in self._before if now - one[0] >= SHORTEST_RATE]
        self._before = [*usable[-1:], *(one for one in self._before if now - one[0] < SHORTEST_RATE)][-4:]
        self._before.append((now, queries))
        if not usable:
            return None
        then, before = usable[-1]
        seconds = now - then
        rcodes = {
            rcode: (count - before.rcodes.get(rcode, 0)) / seconds
            for rcode, count in queries.rcodes.items()
            if count > before.rcodes.get(rcode, 0)
        }
        return Rates(
            seconds,
            (queries.total - before.total) / seconds,
            (queries.from_table - before.from_table) / seconds,
            rcodes,
        )


def _serving(setup: Setup) -> list[Served]:
    out = []
    for block, hosts in zip(setup.plans, setup.hosts, strict=True):
        view = next((one.view.name for one in block.settings.values() if one.view is not None), "")
        out += [
            Served(key.zone, Listener(host, key.port, key.transport).server, view, list(block.settings))
            for key in block.keys
            for host in hosts
        ]
    return out


def _corefile(setup: Setup, reloads: ReloadLog, metrics: Mapping[str, Combined]) -> Corefile:
    return Corefile(
        setup.corefile.digest,
        reloads.loaded_at,
        bool(_total(metrics, "svcdns_corefile_fallback")),
        _total(metrics, "coredns_reload_failed_total"),
        reloads.failed_at,
        reloads.error,
    )


def _clusters(setup: Setup, views: ClusterViews) -> list[Cluster]:
    out = []
    for encoded, watched in setup.views.items():
        number = number_of(encoded)
        view = views.by_number.get(number)
        if view is not None:
            objects = {_kind(kind): sum(1 for _ in view.keys(kind)) for kind in view.kinds}
            out.append(Cluster(watched.plugin, _source(watched.options), view.is_whole, views.age(number), objects))
    return out


def _kind(kind: Kind) -> str:
    return kind.name.lower()


def _source(options: WatchOptions) -> str:
    if options.manifests:
        return " ".join(options.manifests)
    return options.endpoint or options.kubeconfig or "in-cluster"


def _queries(metrics: Mapping[str, Combined]) -> Queries:
    requests = metrics.get("coredns_dns_requests_total")
    total = _total(metrics, "coredns_dns_requests_total")
    return Queries(
        total,
        _by(requests, "type"),
        _by(requests, "proto"),
        _by(metrics.get("coredns_dns_responses_total"), "rcode"),
        _total(metrics, "svcdns_answer_table_hits_total"),
        _latency(metrics.get("coredns_dns_request_duration_seconds")),
        _total(metrics, "svcdns_accelerator_replies_total"),
    )


def _latency(metric: Combined | None) -> Latency:
    if metric is None:
        return Latency([], [], 0.0)
    cells = [sum(column) for column in zip(*metric.series.values(), strict=True)]
    return Latency(list(metric.family.buckets), [int(count) for count in cells[:-1]], cells[-1])


def _upstreams(metrics: Mapping[str, Combined]) -> list[Upstream]:
    durations, out = metrics.get("coredns_proxy_request_duration_seconds"), []
    circuits, checks = (
        metrics.get("svcdns_forward_circuit_open"),
        metrics.get("coredns_proxy_healthcheck_failures_total"),
    )
    names = {values[:2] for values in durations.series} if durations is not None else set()
    names |= {("forward", values[0]) for values in circuits.series} if circuits is not None else set()
    for plugin, address in sorted(names):
        rows = {} if durations is None else {v[2]: c for v, c in durations.series.items() if v[:2] == (plugin, address)}
        count = sum(int(sum(cells[:-1])) for cells in rows.values())
        seconds = sum(cells[-1] for cells in rows.values())
        out.append(
            Upstream(
                plugin,
                address,
                int(_value(circuits, (address,))),
                int(_value(checks, (plugin, address))),
                count,
                {rcode: int(sum(cells[:-1])) for rcode, cells in sorted(rows.items())},
                seconds / count if count else 0.0,
            )
        )
    return out


def _caches(metrics: Mapping[str, Combined]) -> list[Cache]:
    entries = metrics.get("coredns_cache_entries")
    out = []
    for values in sorted(entries.series) if entries is not None else ():
        server, kind, zones, view = values
        numbers = [
            int(_value(metrics.get(name), values))
            for name in (
                "coredns_cache_entries",
                "svcdns_cache_bytes",
                "coredns_cache_hits_total",
                "coredns_cache_evictions_total",
            )
        ]
        out.append(Cache(server, zones, view, kind, *numbers))
    return out


def _processes(of_workers: Mapping[str, WorkerStatus], workers: Workers) -> list[Process]:
    out = [_process("supervisor", os.getppid(), ""), _process("control", os.getpid(), "")]
    states = workers.named_states()
    for name in sorted({*of_workers, *states}):
        found = of_workers.get(name)
        if found is None:
            out.append(Process(name, 0, states[name].name.lower(), 0, 0.0))
        else:
            made = _process(name, found.pid, states[name].name.lower() if name in states else "")
            out.append(
                msgspec.structs.replace(
                    made, table_entries=found.entries, table_bytes=found.octets, table_limit=found.limit
                )
            )
    return out


def _process(name: str, pid: int, state: str) -> Process:
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return Process(name, pid, state, process.memory_info().rss, times.user + times.system)
    except psutil.Error:
        return Process(name, pid, state, 0, 0.0)


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


def _memory(metrics: Mapping[str, Combined]) -> Memory:
    limit, used = metrics.get("svcdns_memory_limit_bytes"), metrics.get("svcdns_memory_working_set_bytes")
    share = metrics.get("svcdns_memory_share")
    return Memory(
        None if limit is None or not limit.series else int(_value(limit, ())),
        None if used is None or not used.series else int(_value(used, ())),
        1.0 if share is None or not share.series else _value(share, ()),
    )


def _value(metric: Combined | None, values: tuple[str, ...]) -> float:
    return 0.0 if metric is None else metric.series.get(values, [0.0])[0]


def _counts(metrics: Mapping[str, Combined], name: str) -> Iterable[tuple[tuple[str, ...], int]]:
    metric = metrics.get(name)
    return () if metric is None else [(values, int(cells[0])) for values, cells in sorted(metric.series.items())]


def _total(metrics: Mapping[str, Combined], name: str) -> int:
    return sum(count for _, count in _counts(metrics, name))


def _by(metric: Combined | None, label: str) -> dict[str, int]:
    """Returns the sums of a metric by the values of one label."""
    out: dict[str, int] = {}
    if metric is not None:
        at = metric.family.labels.index(label)
        for values, cells in metric.series.items():
            out[values[at]] = out.get(values[at], 0) + int(cells[0])
    return dict(sorted(out.items()))

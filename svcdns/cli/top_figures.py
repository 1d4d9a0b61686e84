"""The figures of `svcdns top`: the differences of two states of a running server, as one document."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from svcdns.cli.errors import CannotRun
from svcdns.cli.server_socket import ask
from svcdns.control.status import Cache, Cluster, Corefile, Latency, Memory, Process, Restarts, Status, Upstream
from svcdns.control.traffic import TrafficReport

FORMAT: Final = 1
"""The format of the document, for tools."""
TOP: Final = 100
"""The number of items that are requested for each list in the report of *traffic*."""
_SUCCESS: Final = ("NOERROR", "NXDOMAIN")


class Percentiles(msgspec.Struct, frozen=True):
    """The durations of the interval's queries in milliseconds, as `histogram_quantile` of Prometheus computes them."""

    p50: float
    p90: float
    p99: float
    mean: float


class UpstreamFigures(msgspec.Struct, frozen=True):
    """An upstream. `queries` and `failures` are rates. `mean` is in milliseconds, and null without queries.

    A failure is a response code other than NOERROR and NXDOMAIN. `open_circuits` is the number of workers that send
    the upstream no queries. `failed_checks` counts since the start of the server.
    """

    plugin: str
    address: str
    open_circuits: int
    failed_checks: int
    queries: float
    failures: float
    mean: float | None


class CacheFigures(msgspec.Struct, frozen=True):
    """A store of the plugin *cache*, in all workers. `hits` and `evictions` are rates."""

    server: str
    zones: str
    view: str
    kind: str
    entries: int
    bytes: int
    hits: float
    evictions: float


class ProcessFigures(msgspec.Struct, frozen=True):
    """A process. `cpu` is the share of one processor in the interval: 1 is a whole processor."""

    name: str
    pid: int
    state: str
    cpu: float
    resident_bytes: int
    table_entries: int
    table_bytes: int
    table_limit: int


class TopReport(msgspec.Struct, frozen=True):
    """What a running server did in the last `seconds` seconds. All rates are per second.

    `time` is in Unix seconds, and `uptime` in seconds. `latency` is null if there were no queries.

    `traffic` has the estimates of the plugin *traffic*. Without the plugin, `traffic` is
    null, and `traffic_error` has the reason.

    `kernel_hits` are those of `table_hits` that the accelerator answered in the kernel.
    """

    format: int
    version: str
    time: float
    uptime: float
    seconds: float
    queries: float
    types: dict[str, float]
    transports: dict[str, float]
    rcodes: dict[str, float]
    table_hits: float
    cache_hits: float
    latency: Percentiles | None
    upstreams: list[UpstreamFigures]
    caches: list[CacheFigures]
    clusters: list[Cluster]
    processes: list[ProcessFigures]
    restarts: list[Restarts]
    memory: Memory
    corefile: Corefile
    panics: int
    log_lines_dropped: int
    traffic: TrafficReport | None
    traffic_error: str
    kernel_hits: float = 0.0


def schema() -> dict[str, Any]:
    """Returns the JSON schema of the document."""
    return msgspec.json.schema(TopReport)


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of a server at one time. `at` is on this machine's monotonic clock."""

    at: float
    status: Status
    traffic: TrafficReport | None = None
    traffic_error: str = ""


def take(path: str) -> Sample:
    """Requests the state of the server whose socket is `path`. Raises CannotRun."""
    status = ask(path, "status", {}, Status)
    at = time.monotonic()
    try:
        return Sample(at, status, ask(path, "traffic", {"top": str(TOP)}, TrafficReport))
    except CannotRun as failure:
        return Sample(at, status, None, str(failure))


def compute(before: Sample | None, after: Sample) -> TopReport:
    """Returns the figures between two samples.

    All rates and `seconds` are 0 if `before` is None or if the server was started between the samples.
    """
    if before is None or _restarted(before.status, after.status):
        before = after
    then, now = before.status, after.status
    seconds = after.at - before.at
    caches = _cache_figures(then.caches, now.caches, seconds)
    return TopReport(
        FORMAT,
        now.version,
        now.time,
        now.time - now.started_at,
        seconds,
        _rate(now.queries.total - then.queries.total, seconds),
        _rates(then.queries.types, now.queries.types, seconds),
        _rates(then.queries.transports, now.queries.transports, seconds),
        _rates(then.queries.rcodes, now.queries.rcodes, seconds),
        _rate(now.queries.from_table - then.queries.from_table, seconds),
        sum(one.hits for one in caches),
        percentiles(then.queries.latency, now.queries.latency),
        _upstream_figures(then.upstreams, now.upstreams, seconds),
        caches,
        now.clusters,
        _process_figures(then.processes, now.processes, seconds),
        now.restarts,
        now.memory,
        now.corefile,
        now.panics,
        now.log_lines_dropped,
        after.traffic,
        after.traffic_error,
        _rate(now.queries.from_kernel - then.queries.from_kernel, seconds),
    )


def percentiles(before: Latency, after: Latency) -> Percentiles | None:
    """Returns the percentiles of the durations that the second histogram has in addition to the first one."""
    if before.bounds != after.bounds:
        before = Latency(after.bounds, [0] * len(after.counts), 0.0)
    counts = [max(new - old, 0) for old, new in zip(before.counts, after.counts, strict=True)]
    total = sum(counts)
    if not total:
        return None
    p50, p90, p99 = (1000 * _quantile(share, after.bounds, counts) for share in (0.5, 0.9, 0.99))
    return Percentiles(p50, p90, p99, 1000 * max(after.sum - before.sum, 0.0) / total)


def _quantile(share: float, bounds: Sequence[float], counts: Sequence[int]) -> float:
    """Returns a quantile, interpolated within its bucket. For durations above the largest bound, returns this bound."""
    rank, below, lower = share * sum(counts), 0, 0.0
    for bound, count in zip(bounds, counts[: len(bounds)], strict=True):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below, lower = below + count, bound
    return lower


def _restarted(before: Status, after: Status) -> bool:
    return abs(before.started_at - after.started_at) > 1 or before.queries.total > after.queries.total


def _rate(difference: float, seconds: float) -> float:
    return max(difference, 0.0) / seconds if seconds > 0 else 0.0


def _rates(before: Mapping[str, int], after: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Returns the rates that are not 0, the largest first."""
    found = {key: _rate(count - before.get(key, 0), seconds) for key, count in after.items()}
    return dict(sorted(((key, rate) for key, rate in found.items() if rate), key=lambda item: -item[1]))


def _upstream_figures(before: list[Upstream], after: list[Upstream], seconds: float) -> list[UpstreamFigures]:
    old, out = {(one.plugin, one.address): one for one in before}, []
    for one in after:
        then = old.get((one.plugin, one.address)) or msgspec.structs.replace(one, queries=0, rcodes={}, mean=0.0)
        count = one.queries - then.queries
        spent = one.mean * one.queries - then.mean * then.queries
        rcodes = _rates(then.rcodes, one.rcodes, seconds)
        out.append(
            UpstreamFigures(
                one.plugin,
                one.address,
                one.open_circuits,
                one.failed_checks,
                _rate(count, seconds),
                sum(rate for rcode, rate in rcodes.items() if rcode not in _SUCCESS),
                1000 * max(spent, 0.0) / count if count > 0 else None,
            )
        )
    return out


def _cache_figures(before: list[Cache], after: list[Cache], seconds: float) -> list[CacheFigures]:
    old = {(one.server, one.zones, one.view, one.kind): one for one in before}
    out = []
    for one in after:
        then = old.get((one.server, one.zones, one.view, one.kind))
        hits, evictions = (0, 0) if then is None else (then.hits, then.evictions)
        out.append(
            CacheFigures(
                one.server,
                one.zones,
                one.view,
                one.kind,
                one.entries,
                one.bytes,
                _rate(one.hits - hits, seconds),
                _rate(one.evictions - evictions, seconds),
            )
        )
    return out


def _process_figures(before: list[Process], after: list[Process], seconds: float) -> list[ProcessFigures]:
    old = {(one.name, one.pid): one.cpu_seconds for one in before}
    return [
        ProcessFigures(
            one.name,
            one.pid,
            one.state,
            _rate(one.cpu_seconds - old.get((one.name, one.pid), one.cpu_seconds), seconds),
            one.resident_bytes,
            one.table_entries,
            one.table_bytes,
            one.table_limit,
        )
        for one in after
    ]

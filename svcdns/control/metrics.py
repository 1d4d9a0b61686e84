"""The page /metrics: the counters of all processes added up, and the standard process metrics.

Each process writes its counters to a region of the shared memory (`svcdns.telemetry.counters`). This module only reads
them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Final

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from svcdns.control.metric_sums import Combined, combined
from svcdns.process.shared_memory import control_region
from svcdns.telemetry.counters import Family, MetricKind

UNLIMITED: Final = 2.0**64
"""The value of the metric for the limit of virtual memory if there is no limit, the same as in CoreDNS."""
NETWORK_COUNTERS: Final = Path("/proc/self/net/netstat")
"""Where the kernel has the counters of this process's network namespace. CoreDNS's metrics are from the same file."""
_WHOLE_BOUND: Final = re.compile(rb'([{,]le="[0-9]+)\.0"')
"""A bound of a histogram that CoreDNS prints as `100`; OpenMetrics wants `100.0`."""


OF_PLUGINS: Final = (
    Family(
        "coredns_forward_healthcheck_broken_total",
        MetricKind.COUNTER,
        "Queries that found all upstreams down and were sent to one at random.",
    ),
    Family(
        "coredns_forward_max_concurrent_rejects_total",
        MetricKind.COUNTER,
        "Queries refused because too many were in flight.",
    ),
    Family(
        "coredns_hosts_reload_timestamp_seconds",
        MetricKind.GAUGE,
        "Modification time of the hosts file that was read last, in Unix seconds.",
        uniform=True,
    ),
    Family(
        "coredns_local_localhost_requests_total",
        MetricKind.COUNTER,
        "Queries for localhost.<domain> names.",
    ),
)
"""Metrics of plugins that are 0 if the plugin is not in the Corefile, as in CoreDNS. The plugins are not imported."""


class Totals(Collector):
    """The metrics of all processes (`metric_sums`)."""

    def __init__(self, regions: list[memoryview], own: int) -> None:
        """`regions` are all regions of the shared memory. `own` is the number of this control process's region."""
        self._regions, self._own = regions, own

    def collect(self) -> Iterable[Metric]:
        """Returns the metric families, each with all its series."""
        found = combined(self._regions, self._own)
        for family in OF_PLUGINS:
            found.setdefault(family.name, Combined(family, {})).series.setdefault((), [0.0])
        for family, series in found.values():
            yield _metric(family, series)


def _metric(family: Family, series: dict[tuple[str, ...], list[float]]) -> Metric:
    if family.kind == MetricKind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        bounds = [*map(floatToGoString, family.buckets), "+Inf"]
        for values, cells in series.items():
            histogram.add_metric(values, list(zip(bounds, accumulate(cells[:-1]), strict=True)), cells[-1])
        return histogram
    make = CounterMetricFamily if family.kind == MetricKind.COUNTER else GaugeMetricFamily
    metric = make(family.name, family.help, labels=family.labels)
    for values, cells in series.items():
        metric.add_metric(values, cells[0])
    return metric


class Processes(Collector):
    """The standard `process_*` metrics, summed over the supervisor, the control process and the workers."""

    def collect(self) -> Iterator[Metric]:
        """Returns the metrics of CPU, memory and descriptors, each summed over all processes, and the supervisor's
        start time.
        """
        cpu = resident = virtual = descriptors = 0.0
        start = 0.0
        max_fds = max_virtual = 0.0
        for process in _all_processes():
            with contextlib.suppress(psutil.Error):
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
                    cpu += times.user + times.system
                    resident += memory.rss
                    virtual += memory.vms
                    start = start or process.create_time()
                descriptors += process.num_fds()
                max_fds += process.rlimit(psutil.RLIMIT_NOFILE)[0]
                limit = process.rlimit(psutil.RLIMIT_AS)[0]
                max_virtual = UNLIMITED if limit == psutil.RLIM_INFINITY else min(max_virtual + limit, UNLIMITED)
        yield CounterMetricFamily(
            "process_cpu_seconds_total", "User and system CPU seconds of all processes.", value=cpu
        )
        yield GaugeMetricFamily(
            "process_resident_memory_bytes",
            "Resident memory of all processes. A shared page is counted once for each process.",
            value=resident,
        )
        yield GaugeMetricFamily("process_virtual_memory_bytes", "Virtual memory of all processes.", value=virtual)
        yield GaugeMetricFamily("process_open_fds", "Open file descriptors of all processes.", value=descriptors)
        yield GaugeMetricFamily("process_max_fds", "Open file descriptors that all processes may have.", value=max_fds)
        yield GaugeMetricFamily(
            "process_virtual_memory_max_bytes", "Virtual memory that all processes may have.", value=max_virtual
        )
        yield GaugeMetricFamily("process_start_time_seconds", "Start of the program, Unix seconds.", value=start)
        received, sent = _network_octets()
        yield CounterMetricFamily(
            "process_network_receive_bytes_total", "Octets that the network namespace has received.", value=received
        )
        yield CounterMetricFamily(
            "process_network_transmit_bytes_total", "Octets that the network namespace has sent.", value=sent
        )


def _network_octets(path: Path = NETWORK_COUNTERS) -> tuple[float, float]:
    """Returns the octets received and sent over IP in this network namespace, or (0, 0) if they cannot be read."""
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.startswith("IpExt:")]
        values = dict(zip(lines[0], lines[1], strict=True))
        return float(values["InOctets"]), float(values["OutOctets"])
    except (OSError, ValueError, KeyError, IndexError):
        return 0.0, 0.0


def _all_processes() -> list[psutil.Process]:
    try:
        supervisor = psutil.Process(os.getppid())
        return [supervisor, *supervisor.children()]
    except psutil.Error:
        return []


def registry(regions: list[memoryview], own: int = control_region(0)) -> CollectorRegistry:
    """Returns the registry for /metrics. `own` is the number of this control process's region in the shared memory."""
    out = CollectorRegistry()
    out.register(Totals(regions, own))
    out.register(Processes())
    return out


def page(shown: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Returns the body and the content type of /metrics, in a format that the header Accept allows."""
    encode, content_type = choose_encoder(accept)
    body = encode(shown)
    return body if "openmetrics" in content_type else _WHOLE_BOUND.sub(rb'\1"', body), content_type

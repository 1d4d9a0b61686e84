"""The panels of the Grafana dashboard. `tools/monitoring.py` writes them to a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SELECTOR: Final = 'job=~"$job",instance=~"$instance"'


@dataclass(frozen=True, slots=True)
class Query:
    """One line of a panel. In `expression`, SELECT stands for the labels that the viewer has chosen."""

    expression: str
    legend: str = ""

    @property
    def promql(self) -> str:
        """Returns the expression as Grafana takes it."""
        return self.expression.replace("SELECT", SELECTOR)


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart, or with `stat` a single number. `unit` is a unit of Grafana, such as `s`, `reqps` or `percentunit`."""

    title: str
    help: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 8
    stat: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels below one heading."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str = "") -> str:
    """Returns the rate of a counter, summed over the replicas, for each combination of the labels in `by`."""
    group = f"by ({by}) " if by else ""
    return f"sum {group}(rate({metric}{{SELECT}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "") -> str:
    """Returns a quantile of a histogram over all replicas, for each combination of the labels in `by`."""
    return f"histogram_quantile({share}, {rate(metric + '_bucket', by + ', le' if by else 'le')})"


def quantiles(metric: str, by: str = "", legend: str = "") -> tuple[Query, ...]:
    """Returns the lines for the median and the 99th percentile of a histogram."""
    return tuple(Query(quantile(share, metric, by), f"{name} {legend}".strip()) for share, name in SHARES)


SHARES: Final = ((0.5, "p50"), (0.99, "p99"))
DURATION: Final = "coredns_dns_request_duration_seconds"
RESTARTS: Final = "sum by (process) (increase(svcdns_process_restarts_total{SELECT}[$__rate_interval]))"
SERVFAIL: Final = 'sum(rate(coredns_dns_responses_total{SELECT,rcode="SERVFAIL"}[$__rate_interval]))'
PROGRAMMING: Final = "coredns_kubernetes_dns_programming_duration_seconds"

ROWS: Final = (
    Row(
        "Overview",
        (
            Panel("Replicas", "Replicas that Prometheus scrapes.", "short", (Query("sum(up{SELECT})"),), 4, stat=True),
            Panel("Queries", "Queries a second, over all replicas.", "reqps", (Query(rate("coredns_dns_requests_total")),), 4, stat=True),
            Panel(
                "SERVFAIL", "Share of replies with the response code SERVFAIL.", "percentunit",
                (Query(f"{SERVFAIL} / {rate('coredns_dns_responses_total')} or vector(0)"),), 4, stat=True,
            ),
            Panel("p99", "99th percentile of the time from a query to its reply.", "s", (Query(quantile(0.99, DURATION)),), 4, stat=True),
            Panel(
                "Age of the view", "Seconds since the API server last confirmed the cluster's objects, oldest replica.", "s",
                (Query("max(svcdns_kubernetes_view_age_seconds{SELECT})"),), 4, stat=True,
            ),
            Panel(
                "Failures in plugins", "Exceptions in plugins since the start.", "short",
                (Query("sum(coredns_panics_total{SELECT})"),), 4, stat=True,
            ),
        ),
    ),
    Row(
        "Queries",
        (
            Panel("Queries by type", "", "reqps", (Query(rate("coredns_dns_requests_total", "type"), "{{type}}"),)),
            Panel("Queries by zone", "", "reqps", (Query(rate("coredns_dns_requests_total", "zone"), "{{zone}}"),)),
            Panel("Replies by response code", "", "reqps", (Query(rate("coredns_dns_responses_total", "rcode"), "{{rcode}}"),)),
            Panel("Queries by transport", "", "reqps", (Query(rate("coredns_dns_requests_total", "proto"), "{{proto}}"),)),
            Panel("Duration by zone", "From a query to its reply.", "s", quantiles(DURATION, "zone", "{{zone}}")),
            Panel(
                "Replies by plugin", "The label `plugin` as CoreDNS sets it: the first plugin that passed the reply on.", "reqps",
                (Query(rate("coredns_dns_responses_total", "plugin"), "{{plugin}}"),),
            ),
            Panel("Size of queries", "", "bytes", quantiles("coredns_dns_request_size_bytes")),
            Panel("Size of replies", "", "bytes", quantiles("coredns_dns_response_size_bytes")),
            Panel("Queries by replica", "", "reqps", (Query(rate("coredns_dns_requests_total", "instance"), "{{instance}}"),)),
        ),
    ),
    Row(
        "Answer table and cache",
        (
            Panel(
                "Share from the answer table", "Replies that needed no plugin chain.", "percentunit",
                (Query(f"{rate('svcdns_answer_table_hits_total')} / {rate('coredns_dns_requests_total')}"),),
            ),
            Panel(
                "Share from the cache", "Of the queries that reached the plugin cache.", "percentunit",
                (Query(f"{rate('coredns_cache_hits_total')} / {rate('coredns_cache_requests_total')}"),),
            ),
            Panel("Entries of the cache", "", "short", (Query("sum by (type) (coredns_cache_entries{SELECT})", "{{type}}"),)),
        ),
    ),
    Row(
        "Kubernetes",
        (
            Panel(
                "Age of the view", "Seconds since the API server last confirmed the objects.", "s",
                (Query("max by (resource) (svcdns_kubernetes_view_age_seconds{SELECT})", "{{resource}}"),),
            ),
            Panel("Programming latency", "From the change of an endpoint to its answer.", "s", quantiles(PROGRAMMING)),
            Panel(
                "Requests to the API server", "", "reqps",
                (Query(rate("coredns_kubernetes_rest_client_requests_total", "code, method"), "{{method}} {{code}}"),),
            ),
        ),
    ),
    Row(
        "Upstreams",
        (
            Panel(
                "Queries by upstream", "", "reqps",
                (Query(rate("coredns_proxy_request_duration_seconds_count", "to, rcode"), "{{to}} {{rcode}}"),),
            ),
            Panel("Duration by upstream", "", "s", quantiles("coredns_proxy_request_duration_seconds", "to", "{{to}}")),
            Panel(
                "Upstreams without queries", "1 while an upstream gets no queries because it does not reply.", "short",
                (Query("max by (to) (svcdns_forward_circuit_open{SELECT})", "{{to}}"),),
            ),
            Panel(
                "Names that should not leave the cluster", "", "reqps",
                (Query(rate("svcdns_forward_leaked_total", "kind, action"), "{{kind}} {{action}}"),),
            ),
            Panel(
                "Queries to a second upstream", "", "reqps",
                (Query(f"{rate('svcdns_forward_hedges_total', 'reason')} or vector(0)", "{{reason}}"),),
            ),
            Panel(
                "Refused by max_concurrent", "", "reqps", (Query(rate("coredns_forward_max_concurrent_rejects_total")),),
            ),
        ),
    ),
    Row(
        "Processes",
        (
            Panel(
                "Processors", "Processor seconds a second, all processes of a replica.", "short",
                (Query(rate("process_cpu_seconds_total", "instance"), "{{instance}}"),),
            ),
            Panel(
                "Memory", "Resident memory; pages that processes share are counted for each process.", "bytes",
                (Query("sum by (instance) (process_resident_memory_bytes{SELECT})", "{{instance}}"),),
            ),
            Panel(
                "Unexpected ends of processes", "", "short",
                (Query(f"{RESTARTS} or vector(0)", "{{process}}"),),
            ),
            Panel(
                "Given up under overload", "Queries and connections.", "reqps",
                (Query(f"{rate('svcdns_shed_total', 'reason')} or vector(0)", "{{reason}}"),),
            ),
            Panel(
                "Packets dropped by the kernel", "", "pps",
                (Query(f"{rate('svcdns_socket_dropped_packets_total')} or vector(0)"),),
            ),
            Panel(
                "Malformed queries", "", "reqps",
                (Query(f"{rate('svcdns_malformed_queries_total', 'reason')} or vector(0)", "{{reason}}"),),
            ),
        ),
    ),
)  # fmt: skip

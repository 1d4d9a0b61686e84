"""The queries of dashboards and alerts that people use for CoreDNS: coredns-mixin, and the dashboard in the chart
kube-prometheus-stack. Metrics, labels and filters are theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Form(Enum):
    """How a query uses its metric."""

    VALUE = "the values, summed"
    RATE = "the rate of a counter"
    QUANTILE = "the 99th percentile of a histogram"


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """A query of a panel or an alert. `by` are the labels that it groups by, and `where` is a label filter."""

    title: str
    metric: str
    form: Form
    by: tuple[str, ...] = ()
    where: str = ""

    def expression(self, window: str) -> str:
        """Returns the query in PromQL, with rates over `window`."""
        selector = f"{{{self.where}}}"
        match self.form:
            case Form.VALUE:
                return f"sum by ({', '.join(self.by)}) ({self.metric}{selector})"
            case Form.RATE:
                return f"sum by ({', '.join(self.by)}) (rate({self.metric}{selector}[{window}]))"
            case Form.QUANTILE:
                buckets = f"rate({self.metric}_bucket{selector}[{window}])"
                return f"histogram_quantile(0.99, sum by ({', '.join((*self.by, 'le'))}) ({buckets}))"


def sizes(title: str, metric: str) -> tuple[PanelQuery, ...]:
    return tuple(
        PanelQuery(f"{title}, {proto}", metric, Form.QUANTILE, ("proto",), f'proto="{proto}"')
        for proto in ("udp", "tcp")
    )


MIXIN: Final = (
    PanelQuery("Panics", "coredns_panics_total", Form.VALUE),
    PanelQuery("RPC rate", "coredns_dns_responses_total", Form.RATE, ("rcode",)),
    PanelQuery("RPC rate, forwarded", "coredns_forward_responses_total", Form.RATE, ("rcode",)),
    PanelQuery("request duration", "coredns_dns_request_duration_seconds", Form.QUANTILE, ("server", "zone")),
    PanelQuery("request duration, forwarded", "coredns_forward_request_duration_seconds", Form.QUANTILE, ("to",)),
    PanelQuery("requests by type", "coredns_dns_requests_total", Form.RATE, ("type",)),
    PanelQuery("requests by zone", "coredns_dns_requests_total", Form.RATE, ("zone",)),
    PanelQuery("requests by upstream", "coredns_forward_requests_total", Form.RATE, ("to",)),
    PanelQuery("cached, hits", "coredns_cache_hits_total", Form.VALUE),
    PanelQuery("cached, misses", "coredns_cache_misses_total", Form.VALUE),
    PanelQuery("cache hit rate", "coredns_cache_hits_total", Form.RATE, ("type",)),
    PanelQuery("cache misses", "coredns_cache_misses_total", Form.RATE),
    PanelQuery("cache size", "coredns_cache_entries", Form.VALUE, ("type",)),
    PanelQuery(
        "programming duration", "coredns_kubernetes_dns_programming_duration_seconds", Form.QUANTILE, ("service_kind",)
    ),
    PanelQuery("plugins", "coredns_plugin_enabled", Form.VALUE, ("name",)),
    PanelQuery("request size", "coredns_dns_request_size_bytes", Form.QUANTILE, ("server", "zone", "proto")),
    PanelQuery("response size", "coredns_dns_response_size_bytes", Form.QUANTILE, ("server", "zone", "proto")),
    PanelQuery("memory", "process_resident_memory_bytes", Form.VALUE),
    PanelQuery("CPU", "process_cpu_seconds_total", Form.RATE),
    PanelQuery("goroutines", "go_goroutines", Form.VALUE),
    PanelQuery("instances", "coredns_build_info", Form.VALUE, ("version",)),
    PanelQuery("alert: errors, all responses", "coredns_dns_responses_total", Form.RATE),
    PanelQuery("alert: failures of health checks", "coredns_forward_healthcheck_failures_total", Form.RATE, ("to",)),
    PanelQuery("alert: all upstreams failed", "coredns_forward_healthcheck_broken_total", Form.RATE),
)
STACK: Final = (
    PanelQuery("requests", "coredns_dns_requests_total", Form.RATE, ("proto",)),
    PanelQuery("requests before CoreDNS 1.7", "coredns_dns_request_count_total", Form.RATE, ("proto",)),
    PanelQuery("requests by type", "coredns_dns_requests_total", Form.RATE, ("type",)),
    PanelQuery("requests by type before CoreDNS 1.7", "coredns_dns_request_type_count_total", Form.RATE, ("type",)),
    PanelQuery("requests by zone", "coredns_dns_requests_total", Form.RATE, ("zone",)),
    PanelQuery("DO bit", "coredns_dns_do_requests_total", Form.RATE),
    PanelQuery("DO bit before CoreDNS 1.7", "coredns_dns_request_do_count_total", Form.RATE),
    *sizes("request size", "coredns_dns_request_size_bytes"),
    PanelQuery("responses by rcode", "coredns_dns_responses_total", Form.RATE, ("rcode",)),
    PanelQuery("responses before CoreDNS 1.7", "coredns_dns_response_rcode_count_total", Form.RATE, ("rcode",)),
    PanelQuery("duration", "coredns_dns_request_duration_seconds", Form.QUANTILE),
    *sizes("response size", "coredns_dns_response_size_bytes"),
    PanelQuery("cache size", "coredns_cache_entries", Form.VALUE, ("type",)),
    PanelQuery("cache size before CoreDNS 1.7", "coredns_cache_size", Form.VALUE, ("type",)),
    PanelQuery("cache hits", "coredns_cache_hits_total", Form.RATE, ("type",)),
    PanelQuery("cache misses", "coredns_cache_misses_total", Form.RATE),
)
NOT_IN_COREDNS: Final = {
    "coredns_forward_responses_total",
    "coredns_forward_request_duration_seconds",
    "coredns_forward_requests_total",
    "coredns_forward_healthcheck_failures_total",
    "coredns_dns_request_count_total",
    "coredns_dns_request_type_count_total",
    "coredns_dns_request_do_count_total",
    "coredns_dns_response_rcode_count_total",
    "coredns_cache_size",
}
"""Metrics in these queries that CoreDNS 1.14.7 does not have."""
FILLED: Final = [
    query for query in (*MIXIN, *STACK) if query.metric not in NOT_IN_COREDNS and not query.metric.startswith("go_")
]

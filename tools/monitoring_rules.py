"""The recording rules and alerts for Prometheus. `tools/monitoring.py` writes them to files.

docs/runbooks has a page for each alert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Record:
    """A recording rule. In `expression`, SELECT stands for the label matcher of the scrape job."""

    name: str
    expression: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule. `lasting` is a duration of Prometheus; the condition must hold that long."""

    name: str
    severity: Literal["critical", "warning"]
    lasting: str
    expression: str
    summary: str
    description: str


def _p99(metric: str, by: str = "") -> str:
    return f"histogram_quantile(0.99, sum by ({by + ', ' if by else ''}le) (rate({metric}_bucket{{SELECT}}[5m])))"


# Kubernetes has two service level indicators for DNS (SIG Scalability, dns_latency.md and dns_programming_latency.md).
# Both are 99th percentiles over 5 minutes. Clients measure the first one; here it is the server's part of it.
RECORDS: Final = (
    Record("svcdns:dns_request_duration_seconds:p99_5m", _p99("coredns_dns_request_duration_seconds", "zone")),
    Record(
        "svcdns:dns_programming_duration_seconds:p99_5m", _p99("coredns_kubernetes_dns_programming_duration_seconds")
    ),
    Record(
        "svcdns:servfail:ratio_5m",
        'sum(rate(coredns_dns_responses_total{SELECT,rcode="SERVFAIL"}[5m]))'
        " / sum(rate(coredns_dns_responses_total{SELECT}[5m]))",
    ),
)

ALERTS: Final = (
    Alert(
        "SvcdnsDown",
        "critical",
        "5m",
        "absent(up{SELECT} == 1)",
        "Prometheus reaches no replica of the cluster DNS.",
        "No target of the job answers on its metrics port.",
    ),
    Alert(
        "SvcdnsServfailHigh",
        "critical",
        "10m",
        "svcdns:servfail:ratio_5m > 0.03",
        "More than 3 % of the replies are SERVFAIL.",
        "{{ $value | humanizePercentage }} of the replies of the last 5 minutes are SERVFAIL.",
    ),
    Alert(
        "SvcdnsLatencyHigh",
        "warning",
        "10m",
        "svcdns:dns_request_duration_seconds:p99_5m > 1",
        "Replies are slow.",
        "The 99th percentile of the reply time in the zone {{ $labels.zone }} is {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "SvcdnsProgrammingLatencyHigh",
        "warning",
        "10m",
        "svcdns:dns_programming_duration_seconds:p99_5m > 10",
        "Changes of endpoints reach DNS late.",
        "The 99th percentile from the change of an endpoint to its answer is {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "SvcdnsClusterViewStale",
        "critical",
        "1m",
        "max by (instance, resource) (svcdns_kubernetes_view_age_seconds{SELECT}) > 300",
        "A replica does not hear from the API server.",
        "{{ $labels.instance }} answers with {{ $labels.resource }} as they were {{ $value | humanizeDuration }} ago.",
    ),
    Alert(
        "SvcdnsApiRequestsFail",
        "warning",
        "10m",
        'sum by (instance, code) (rate(coredns_kubernetes_rest_client_requests_total{SELECT,code=~"401|403|5.."}[5m])) > 0',
        "The API server refuses or fails requests.",
        "Requests of {{ $labels.instance }} end with the status {{ $labels.code }}.",
    ),
    Alert(
        "SvcdnsUpstreamDown",
        "warning",
        "5m",
        "max by (instance, to) (svcdns_forward_circuit_open{SELECT}) == 1",
        "An upstream does not reply.",
        "{{ $labels.instance }} sends no queries to {{ $labels.to }}, which does not reply.",
    ),
    Alert(
        "SvcdnsAllUpstreamsDown",
        "critical",
        "2m",
        "sum by (instance) (rate(coredns_forward_healthcheck_broken_total{SELECT}[5m])) > 0",
        "No upstream replies.",
        "{{ $labels.instance }} finds all upstreams down, so names outside the cluster are not resolved.",
    ),
    Alert(
        "SvcdnsUpstreamSlow",
        "warning",
        "10m",
        _p99("coredns_proxy_request_duration_seconds", "to") + " > 1",
        "An upstream is slow.",
        "The 99th percentile of the reply time of {{ $labels.to }} is {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "SvcdnsForwardQueriesRefused",
        "warning",
        "5m",
        "sum by (instance) (rate(coredns_forward_max_concurrent_rejects_total{SELECT}[5m])"
        " + rate(svcdns_forward_shed_queries_total{SELECT}[5m])) > 0",
        "Queries to be forwarded are refused.",
        "Too many queries of {{ $labels.instance }} wait for an upstream.",
    ),
    Alert(
        "SvcdnsForgedReplies",
        "warning",
        "5m",
        'sum by (instance, to) (rate(svcdns_forward_foreign_replies_total{SELECT,reason="id"}[5m])) > 10',
        "Packets pretend to be replies of an upstream.",
        "{{ $labels.instance }} drops {{ $value | humanize }} packets a second from {{ $labels.to }} with wrong IDs.",
    ),
    Alert(
        "SvcdnsOverload",
        "warning",
        "5m",
        "sum by (instance, reason) (rate(svcdns_shed_total{SELECT}[5m])) > 1",
        "Queries or connections are given up.",
        "{{ $labels.instance }} gives up {{ $value | humanize }} a second; the reason is {{ $labels.reason }}.",
    ),
    Alert(
        "SvcdnsPacketsDropped",
        "warning",
        "5m",
        "sum by (instance) (rate(svcdns_socket_dropped_packets_total{SELECT}[5m])) > 1",
        "The kernel drops queries.",
        "Receive buffers of {{ $labels.instance }} are full: {{ $value | humanize }} packets are lost a second.",
    ),
    Alert(
        "SvcdnsMemoryShort",
        "warning",
        "15m",
        "min by (instance) (svcdns_memory_share{SELECT}) < 1",
        "The memory limit of a replica is too small.",
        "Answer tables and caches of {{ $labels.instance }} may use {{ $value | humanizePercentage }} of their usual size.",
    ),
    Alert(
        "SvcdnsProcessCrashLoop",
        "critical",
        "1m",
        "max by (instance, process) (svcdns_process_crash_loop{SELECT}) == 1",
        "A process keeps ending soon after its start.",
        "{{ $labels.process }} of {{ $labels.instance }} is in a crash loop.",
    ),
    Alert(
        "SvcdnsProcessRestarts",
        "warning",
        "0m",
        "sum by (instance, process, reason) (increase(svcdns_process_restarts_total{SELECT}[30m])) > 2",
        "A process has ended several times.",
        "{{ $labels.process }} of {{ $labels.instance }} ended {{ $value | humanize }} times in 30 minutes ({{ $labels.reason }}).",
    ),
    Alert(
        "SvcdnsPluginFailures",
        "warning",
        "0m",
        "sum by (instance) (increase(coredns_panics_total{SELECT}[15m])) > 0",
        "A plugin has raised an exception.",
        "{{ $labels.instance }} replied SERVFAIL to {{ $value | humanize }} queries because a plugin failed.",
    ),
    Alert(
        "SvcdnsReloadFailed",
        "warning",
        "0m",
        "sum by (instance) (increase(coredns_reload_failed_total{SELECT}[10m])) > 0",
        "The changed Corefile cannot be used.",
        "{{ $labels.instance }} keeps its old Corefile.",
    ),
    Alert(
        "SvcdnsCorefileFallback",
        "warning",
        "5m",
        "max by (instance) (svcdns_corefile_fallback{SELECT}) == 1",
        "A replica has started with an old Corefile.",
        "The present Corefile of {{ $labels.instance }} cannot be used.",
    ),
    Alert(
        "SvcdnsCertificateExpires",
        "warning",
        "1h",
        "min by (instance, certificate) (svcdns_tls_certificate_expiry_timestamp_seconds{SELECT}) - time() < 7 * 86400",
        "A certificate expires within a week.",
        "{{ $labels.certificate }} of {{ $labels.instance }} expires in {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "SvcdnsCertificateRefused",
        "warning",
        "5m",
        "max by (instance, certificate) (svcdns_tls_certificate_refused{SELECT}) == 1",
        "A new certificate cannot be used.",
        "{{ $labels.instance }} serves the previous certificate instead of {{ $labels.certificate }}.",
    ),
    Alert(
        "SvcdnsZoneFileRefused",
        "warning",
        "5m",
        "max by (instance, file, zone) (svcdns_file_zone_refused{SELECT}) == 1",
        "A zone file cannot be used.",
        "{{ $labels.instance }} cannot use {{ $labels.file }} for the zone {{ $labels.zone }}.",
    ),
    Alert(
        "SvcdnsForwardLoop",
        "critical",
        "1m",
        "max by (instance, zone) (svcdns_loop_found{SELECT}) == 1",
        "Forwarded queries come back.",
        "Queries that {{ $labels.instance }} forwards from the zone {{ $labels.zone }} come back to it.",
    ),
)

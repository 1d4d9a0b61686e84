"""deploy/monitoring: the files, their metrics, and the alerts by Prometheus's own unit tests."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tools import monitoring
from tools.monitoring_panels import ROWS
from tools.monitoring_rules import ALERTS, RECORDS

ROOT: Final = Path(__file__).parents[2]
RUNBOOKS: Final = ROOT / "docs" / "runbooks"
METRICS: Final = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
NAME: Final = re.compile(r"\b((?:coredns|svcdns|process)_\w+?)(?:_bucket|_sum|_count)?(?=[{\[])")
EXPRESSIONS: Final = [
    *(query.expression for row in ROWS for panel in row.panels for query in panel.queries),
    *(rule.expression for rule in (*RECORDS, *ALERTS)),
]
PROMTOOL: Final = shutil.which("promtool") or ""
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed (Debian: prometheus)")

LABELS: Final = 'job="kube-dns",instance="a"'
RISING: Final = "0+600x120"  # 10 a second, as a value every minute for two hours
# Of each alert: series that raise it after two hours, and series that do not. A series is a metric, its further labels,
# and the values in the notation of promtool.
FIRING: Final[dict[str, tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]]] = {
    "SvcdnsDown": ([("up", "", "0x120")], [("up", "", "1x120")]),
    "SvcdnsServfailHigh": (
        [
            ("coredns_dns_responses_total", 'rcode="NOERROR"', "0+900x120"),
            ("coredns_dns_responses_total", 'rcode="SERVFAIL"', "0+100x120"),
        ],
        [
            ("coredns_dns_responses_total", 'rcode="NOERROR"', "0+980x120"),
            ("coredns_dns_responses_total", 'rcode="SERVFAIL"', "0+20x120"),
        ],
    ),
    "SvcdnsLatencyHigh": (
        [
            ("coredns_dns_request_duration_seconds_bucket", 'zone=".",le="1"', "0+90x120"),
            ("coredns_dns_request_duration_seconds_bucket", 'zone=".",le="4"', "0+100x120"),
            ("coredns_dns_request_duration_seconds_bucket", 'zone=".",le="+Inf"', "0+100x120"),
        ],
        [
            ("coredns_dns_request_duration_seconds_bucket", 'zone=".",le="1"', "0+100x120"),
            ("coredns_dns_request_duration_seconds_bucket", 'zone=".",le="+Inf"', "0+100x120"),
        ],
    ),
    "SvcdnsProgrammingLatencyHigh": (
        [
            ("coredns_kubernetes_dns_programming_duration_seconds_bucket", 'le="8"', "0+90x120"),
            ("coredns_kubernetes_dns_programming_duration_seconds_bucket", 'le="16"', "0+100x120"),
            ("coredns_kubernetes_dns_programming_duration_seconds_bucket", 'le="+Inf"', "0+100x120"),
        ],
        [
            ("coredns_kubernetes_dns_programming_duration_seconds_bucket", 'le="8"', "0+100x120"),
            ("coredns_kubernetes_dns_programming_duration_seconds_bucket", 'le="+Inf"', "0+100x120"),
        ],
    ),
    "SvcdnsClusterViewStale": (
        [("svcdns_kubernetes_view_age_seconds", 'resource="services"', "0+60x120")],
        [("svcdns_kubernetes_view_age_seconds", 'resource="services"', "90x120")],
    ),
    "SvcdnsApiRequestsFail": (
        [("coredns_kubernetes_rest_client_requests_total", 'code="403"', RISING)],
        [("coredns_kubernetes_rest_client_requests_total", 'code="200"', RISING)],
    ),
    "SvcdnsUpstreamDown": (
        [("svcdns_forward_circuit_open", 'to="192.0.2.1:53"', "1x120")],
        [("svcdns_forward_circuit_open", 'to="192.0.2.1:53"', "0x120")],
    ),
    "SvcdnsAllUpstreamsDown": (
        [("coredns_forward_healthcheck_broken_total", "", RISING)],
        [("coredns_forward_healthcheck_broken_total", "", "7x120")],
    ),
    "SvcdnsUpstreamSlow": (
        [
            ("coredns_proxy_request_duration_seconds_bucket", 'to="192.0.2.1:53",le="1"', "0+90x120"),
            ("coredns_proxy_request_duration_seconds_bucket", 'to="192.0.2.1:53",le="4"', "0+100x120"),
            ("coredns_proxy_request_duration_seconds_bucket", 'to="192.0.2.1:53",le="+Inf"', "0+100x120"),
        ],
        [
            ("coredns_proxy_request_duration_seconds_bucket", 'to="192.0.2.1:53",le="1"', "0+100x120"),
            ("coredns_proxy_request_duration_seconds_bucket", 'to="192.0.2.1:53",le="+Inf"', "0+100x120"),
        ],
    ),
    "SvcdnsForwardQueriesRefused": (
        [
            ("coredns_forward_max_concurrent_rejects_total", "", RISING),
            ("svcdns_forward_shed_queries_total", "", "0x120"),
        ],
        [
            ("coredns_forward_max_concurrent_rejects_total", "", "9x120"),
            ("svcdns_forward_shed_queries_total", "", "0x120"),
        ],
    ),
    "SvcdnsForgedReplies": (
        [("svcdns_forward_foreign_replies_total", 'to="192.0.2.1:53",reason="id"', "0+6000x120")],
        [("svcdns_forward_foreign_replies_total", 'to="192.0.2.1:53",reason="late"', "0+6000x120")],
    ),
    "SvcdnsOverload": (
        [("svcdns_shed_total", 'reason="queue"', RISING)],
        [("svcdns_shed_total", 'reason="queue"', "0+6x120")],
    ),
    "SvcdnsPacketsDropped": (
        [("svcdns_socket_dropped_packets_total", 'slot="0"', RISING)],
        [("svcdns_socket_dropped_packets_total", 'slot="0"', "5000x120")],
    ),
    "SvcdnsMemoryShort": ([("svcdns_memory_share", "", "0.5x120")], [("svcdns_memory_share", "", "1x120")]),
    "SvcdnsProcessCrashLoop": (
        [("svcdns_process_crash_loop", 'process="control"', "1x120")],
        [("svcdns_process_crash_loop", 'process="control"', "0x120")],
    ),
    "SvcdnsProcessRestarts": (
        [("svcdns_process_restarts_total", 'process="worker 0",reason="exit"', "0x100 1+1x20")],
        [("svcdns_process_restarts_total", 'process="worker 0",reason="exit"', "0x100 1x20")],
    ),
    "SvcdnsPluginFailures": (
        [("coredns_panics_total", "", "0x115 1x5")],
        [("coredns_panics_total", "", "3x120")],
    ),
    "SvcdnsReloadFailed": (
        [("coredns_reload_failed_total", "", "0x115 1x5")],
        [("coredns_reload_failed_total", "", "1x120")],
    ),
    "SvcdnsCorefileFallback": ([("svcdns_corefile_fallback", "", "1x120")], [("svcdns_corefile_fallback", "", "0x120")]),
    "SvcdnsCertificateExpires": (
        [("svcdns_tls_certificate_expiry_timestamp_seconds", 'certificate="tls.crt"', "600000x120")],
        [("svcdns_tls_certificate_expiry_timestamp_seconds", 'certificate="tls.crt"', "6000000x120")],
    ),
    "SvcdnsCertificateRefused": (
        [("svcdns_tls_certificate_refused", 'certificate="tls.crt"', "1x120")],
        [("svcdns_tls_certificate_refused", 'certificate="tls.crt"', "0x120")],
    ),
    "SvcdnsZoneFileRefused": (
        [("svcdns_file_zone_refused", 'file="db",zone="a.test."', "1x120")],
        [("svcdns_file_zone_refused", 'file="db",zone="a.test."', "0x120")],
    ),
    "SvcdnsForwardLoop": ([("svcdns_loop_found", 'zone="."', "1x120")], [("svcdns_loop_found", 'zone="."', "0x120")]),
}  # fmt: skip


def test_the_files_are_those_that_the_script_writes() -> None:
    written = {name: (ROOT / "deploy" / name).read_text() for name in monitoring.files()}
    assert written == monitoring.files(), "run `python -m tools.monitoring`"


def test_every_metric_is_documented() -> None:
    used = {name for expression in EXPRESSIONS for name in NAME.findall(expression)}
    assert len(used) > 30
    assert used - METRICS == set()


def test_every_alert_has_a_runbook() -> None:
    """A runbook has three sections. The first one has the condition in words, the others how to check and to mend."""
    pages = {path.stem: path.read_text() for path in RUNBOOKS.glob("Svcdns*.md")}
    assert set(pages) == {alert.name for alert in ALERTS}
    assert [
        name
        for name, text in pages.items()
        if re.findall(r"^## (.+)$", text, re.MULTILINE) != ["Meaning", "Check", "Mend"]
    ] == []
    index = (RUNBOOKS / "README.md").read_text()
    assert re.findall(r"\]\((\w+)\.md\)", index) == [alert.name for alert in ALERTS]


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in monitoring.dashboard()["panels"]:
        place = panel["gridPos"]
        fields = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not fields & taken, panel["title"]
        assert max(x for x, _ in fields) < monitoring.WIDTH
        taken |= fields


def test_another_job_and_another_place_of_the_runbooks(tmp_path: Path) -> None:
    assert monitoring.main(["--job", "dns", "--runbooks", "https://wiki.test", "--folder", str(tmp_path)]) == 0
    rules = (tmp_path / "monitoring/rules.yaml").read_text()
    assert 'job=~"dns"' in rules
    assert monitoring.JOB not in rules
    assert "https://wiki.test/SvcdnsDown.md" in rules
    assert (
        'label_values(coredns_build_info{job=~\\"dns\\"}, job)' in (tmp_path / "monitoring/dashboard.json").read_text()
    )


def promtool(*arguments: str) -> str:
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def series(rows: list[tuple[str, str, str]]) -> list[dict[str, str]]:
    return [
        {"series": f"{name}{{{LABELS}{',' + labels if labels else ''}}}", "values": values}
        for name, labels, values in rows
    ]


def unit_test(name: str, rows: list[tuple[str, str, str]], expected: int) -> dict[str, Any]:
    """Returns a rule test for promtool: two hours after the start, `expected` alerts with this name are firing."""
    expression = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
    samples = [{"labels": "{}", "value": expected}]
    return {
        "name": f"{name}: {expected}",
        "interval": "1m",
        "input_series": series(rows),
        "promql_expr_test": [{"expr": expression, "eval_time": "119m", "exp_samples": samples}],
    }


@pytest.mark.integration
@needs_promtool
def test_prometheus_accepts_the_rules() -> None:
    assert f"{len(RECORDS) + len(ALERTS)} rules found" in promtool(
        "check", "rules", str(ROOT / "deploy/monitoring/rules.yaml")
    )


@pytest.mark.integration
@needs_promtool
def test_each_alert_is_raised_by_its_condition_alone(tmp_path: Path) -> None:
    """Each alert has one input that raises it, and one that is just below its bound."""
    assert set(FIRING) == {alert.name for alert in ALERTS}
    tests = [
        unit_test(name, rows, count) for name, both in FIRING.items() for rows, count in zip(both, (1, 0), strict=True)
    ]
    path = tmp_path / "tests.yaml"
    path.write_text(
        yaml.safe_dump(
            {"rule_files": [str(ROOT / "deploy/monitoring/rules.yaml")], "evaluation_interval": "1m", "tests": tests}
        )
    )
    assert "SUCCESS" in promtool("test", "rules", str(path))


def test_the_dashboard_is_json_with_one_query_language() -> None:
    panels = json.loads((ROOT / "deploy/monitoring/dashboard.json").read_text())["panels"]
    sources = {panel["datasource"]["type"] for panel in panels if panel["type"] != "row"}
    assert sources == {"prometheus"}

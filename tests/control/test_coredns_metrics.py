"""Metrics have the names, types and labels of CoreDNS's metrics, which `coredns_metrics.json` lists."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import svcdns
from svcdns.control.metrics import OF_PLUGINS, Processes, Totals
from svcdns.plugins.forward.metrics import BROKEN, REJECTED
from svcdns.plugins.hosts.handler import RELOADED
from svcdns.plugins.local import LOCALHOST_REQUESTS
from svcdns.telemetry.counters import Family
from tests.support.coredns_panels import FILLED, MIXIN, STACK, Form, PanelQuery

ROOT = Path(__file__).parents[2]
COREDNS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("coredns_metrics.json").read_text(encoding="utf-8")
)["metrics"]
MISSING = {"coredns_cache_drops_total", "coredns_kubernetes_rest_client_rate_limiter_duration_seconds"}
"""Metrics that svcdns does not have; docs/supported.md has the reasons."""

EXTERNAL = {"coredns_rrl_responses_exceeded_total", "coredns_rrl_requests_exceeded_total"}
"""Metrics of external plugins of CoreDNS that svcdns has built in."""
OF_TRANSPORTS = {
    "coredns_dns_https_responses_total",
    "coredns_grpc_requests_total",
    "coredns_grpc_responses_total",
    "coredns_grpc_request_duration_seconds",
    "coredns_dns_https3_responses_total",
    "coredns_dns_quic_responses_total",
    "coredns_dnssec_cache_entries",
    "coredns_dnssec_cache_hits_total",
    "coredns_dnssec_cache_misses_total",
    "coredns_nomad_success_requests_total",
    "coredns_nomad_failed_requests_total",
}
"""Metrics of CoreDNS that were not recorded: they appear with the first query over a transport or to a plugin."""


@cache
def ours() -> dict[str, tuple[str, set[str]]]:
    """Returns type and labels of each metric that a module declares, and of the process metrics."""
    found: dict[str, tuple[str, set[str]]] = {}
    for module in pkgutil.walk_packages(svcdns.__path__, "svcdns."):
        if not module.name.endswith("__main__"):
            values = vars(importlib.import_module(module.name)).values()
            families = [value for value in values if isinstance(value, Family)]
            found |= {one.name: (one.kind.name.lower(), set(one.labels)) for one in families}
    for metric in Processes().collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        found[name] = (metric.type, set())
    return found


def test_every_metric_of_coredns_is_there() -> None:
    """The metrics in MISSING are the exception."""
    found = ours()
    wanted = {name: (one["type"], set(one["labels"])) for name, one in COREDNS.items() if name not in MISSING}
    assert {name: found.get(name) for name in wanted} == wanted
    assert [name for name in MISSING if name in found] == []
    assert set(COREDNS) >= MISSING


def test_metrics_that_do_not_depend_on_the_corefile() -> None:
    """CoreDNS has these metrics from the start, also for plugins that no server block has."""
    wanted = {name for name in COREDNS if name.startswith(("coredns_forward_", "coredns_hosts_", "coredns_local_"))}
    wanted = {name for name in wanted if COREDNS[name]["seen"] == "start" and not COREDNS[name]["labels"]}
    assert {family.name for family in OF_PLUGINS} == wanted
    assert set(OF_PLUGINS) == {BROKEN, REJECTED, RELOADED, LOCALHOST_REQUESTS}
    names = {name for metric in Totals([], 0).collect() for name in (metric.name, f"{metric.name}_total")}
    assert wanted <= names


def test_other_metrics_have_the_prefix_svcdns() -> None:
    known = COREDNS.keys() | EXTERNAL | OF_TRANSPORTS
    assert [name for name in ours() if not name.startswith("svcdns_") and name not in known] == []


@pytest.mark.parametrize("name", sorted(MISSING))
def test_missing_metrics_are_in_docs_supported(name: str) -> None:
    section = (ROOT / "docs" / "supported.md").read_text(encoding="utf-8").partition("### Metrics\n")[2]
    assert re.search(rf"^\| `{name}` \|", section.partition("\n### ")[0], re.MULTILINE)


@pytest.mark.parametrize("query", [*MIXIN, *STACK], ids=lambda query: f"{query.title}: {query.metric}")
def test_dashboards_for_coredns_work_as_with_coredns(query: PanelQuery) -> None:
    """A query whose metric CoreDNS 1.14.7 has finds the same metric with the labels that it uses."""
    if query not in FILLED:
        assert query.metric not in COREDNS
        return
    if query.metric.startswith("coredns_"):
        assert set(query.by) <= set(COREDNS[query.metric]["labels"])
    kind, labels = ours()[query.metric]
    assert set(query.by) <= labels
    assert (kind == "histogram") == (query.form is Form.QUANTILE)

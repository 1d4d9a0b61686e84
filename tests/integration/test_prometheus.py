"""A real Prometheus scrapes a running server. Every panel of the dashboard has data, and every rule is evaluated."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dns.message
import dns.query
import pytest
import yaml

from tests.support.api_double import ApiDouble, endpoint_slice, namespace, service
from tests.support.coredns_panels import FILLED, PanelQuery
from tests.support.server import Server, free_port, http, until
from tests.support.zone_upstream import ZoneUpstream
from tools import monitoring
from tools.monitoring_panels import ROWS

PROMETHEUS: Final = shutil.which("prometheus") or ""
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PROMETHEUS, reason="prometheus is not installed (Debian: prometheus)"),
]

COREFILE = """
.:{port} {
    bind 127.0.0.1
    errors
    health 127.0.0.1:{health}
    ready 127.0.0.1:{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        endpoint API
        fallthrough in-addr.arpa ip6.arpa
    }
    prometheus 127.0.0.1:{metrics}
    forward . 127.0.0.1:UPSTREAM {
        max_concurrent 1000
        leak_guard count
    }
    cache 30
    reload
    loadbalance
}
"""
RECORDS = (
    "www.example.org. 60 IN A 192.0.2.1",
    "example.org. 60 IN SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60",
)
WINDOW = "8s"  # four scrapes and more


class Prometheus:
    """A running Prometheus with the rules of deploy/monitoring and one target."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = free_port()
        rules = folder / "rules.yaml"
        rules.write_text(yaml.safe_dump(monitoring.rules()))
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "kube-dns", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
        }
        path = folder / "prometheus.yaml"
        path.write_text(yaml.safe_dump(config))
        with (folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    PROMETHEUS, f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Returns the series of an expression, or an empty list while Prometheus starts."""
        status, body = http(self.port, f"/api/v1/query?query={urllib.parse.quote(expression)}")
        if status != 200:
            return []
        found: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        status, body = http(self.port, "/api/v1/rules")
        return (
            [rule for group in json.loads(body)["data"]["groups"] for rule in group["rules"]] if status == 200 else []
        )

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def changed(*addresses: str) -> dict[str, Any]:
    """Returns an EndpointSlice with the time stamp of a change, as the controller of EndpointSlices writes it."""
    stamp = (datetime.now(UTC) - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": stamp}
    return endpoint_slice("db-1", "db", *addresses, annotations=annotations)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Starts a cluster DNS under a small load, and a Prometheus that has scraped it ten times."""
    folder = tmp_path_factory.mktemp("prometheus")
    objects = [
        namespace("default"),
        service("web", "10.96.0.20"),
        service("db"),
        endpoint_slice("db-1", "db", "10.244.1.1"),
    ]
    with ApiDouble(objects) as api, ZoneUpstream(RECORDS) as upstream:
        corefile = COREFILE.replace("API", api.url).replace("UPSTREAM", str(upstream.port))
        with Server(folder, corefile) as server:
            server.until_ready()
            started = Prometheus(folder, server.ports["metrics"])
            try:
                count = 0

                def scraped() -> bool:
                    nonlocal count
                    count += 1
                    api.put(changed("10.244.1.1", f"10.244.2.{count % 250}"))
                    names = (
                        "web.default.svc.cluster.local.",
                        "no.default.svc.cluster.local.",
                        "www.example.org.",
                        "web.",
                    )
                    for name in (*names, f"{count}.example.org."):
                        server.ask(name)
                        server.ask(name, "AAAA", tcp=True)
                    with_do = dns.message.make_query(names[0], "A", want_dnssec=True)
                    dns.query.udp(with_do, "127.0.0.1", 10, server.ports["port"])
                    return float((started.query("count_over_time(up[1h])") or [{"value": [0, 0]}])[0]["value"][1]) > 10

                until("ten scrapes", scraped, 60)
                yield started
            finally:
                started.close()


@pytest.mark.parametrize("panel", [panel for row in ROWS for panel in row.panels], ids=lambda panel: panel.title)
def test_every_panel_has_data(prometheus: Prometheus, panel: Any) -> None:
    for query in panel.queries:
        expression = query.promql.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", WINDOW)
        assert prometheus.query(expression), expression


def test_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    """No alert fires in a cluster without faults, but those with a time-out pass through `pending`."""
    rules = until("the rules", lambda: [rule for rule in prometheus.rules() if rule["health"] == "ok"])
    assert {rule["health"] for rule in prometheus.rules()} == {"ok"}
    assert len(rules) == sum(len(group["rules"]) for group in monitoring.rules()["groups"])
    assert [rule["name"] for rule in prometheus.rules() if rule.get("state") == "firing"] == []


@pytest.mark.parametrize("query", FILLED, ids=lambda query: f"{query.title}: {query.metric}")
def test_queries_of_dashboards_for_coredns_have_data(prometheus: Prometheus, query: PanelQuery) -> None:
    """Each series of the result has all labels that the query groups by."""
    found = prometheus.query(query.expression(WINDOW))
    assert found, query.expression(WINDOW)
    assert {frozenset(series["metric"]) for series in found} == {frozenset(query.by)}
    assert {series["value"][1] for series in found} != {"NaN"}

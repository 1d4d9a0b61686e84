"""The page /metrics of the real server, compared with the list of CoreDNS's metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support.server import Server, http, until

LIST = Path(__file__).parents[1] / "control" / "coredns_metrics.json"
COREFILE = """
.:{port} {
    bind 127.0.0.1
    errors
    log
    health 127.0.0.1:{health}
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}
    reload 2s 0s
    local
    acl refused.test {
        block
    }
    cache 30
    template IN A made.test {
        answer "{{ .Name }} 60 IN A 192.0.2.9"
    }
    hosts {
        192.0.2.1 a.hosts.test
        fallthrough
    }
    loop
    forward . 127.0.0.1:9
}
"""
SERIES = re.compile(r"^([a-z]\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? \S+$", re.MULTILINE)
LATER = ("kubernetes", "proxy", "dns_", "acl_allowed")
"""What the Corefile above does not have, and what CoreDNS counts for the probe query of *loop*."""


def test_the_page_of_a_real_server(tmp_path: Path) -> None:
    """The metrics that CoreDNS has at its start are on the page at the start."""
    listed = json.loads(LIST.read_text(encoding="utf-8"))["metrics"]
    with Server(tmp_path, COREFILE) as server:
        server.until_ready()
        first = until("the page of metrics", lambda: http(server.ports["metrics"], "/metrics")[1])
        assert re.search(r"^coredns_panics_total 0\.0$", first, re.MULTILINE)
        assert re.search(r"^coredns_reload_failed_total 0\.0$", first, re.MULTILINE)
        names = set(re.findall(r"^# TYPE (\S+)", first, re.MULTILINE))
        at_start = {name for name, one in listed.items() if one["seen"] == "start"}
        assert {name for name in at_start - names if not name.removeprefix("coredns_").startswith(LATER)} == set()
        for name in ("a.hosts.test.", "x.made.test.", "x.refused.test.", "localhost.", "x.example."):
            assert server.ask(name) is not None
        server.corefile.write_text(server.corefile.read_text().replace("    errors\n", "    no-such-plugin\n"))
        until("the failed reload", lambda: server.metric("coredns_reload_failed_total") == 1)
        until("the queries", lambda: server.metric("coredns_dns_requests_total") >= 5)
        page = http(server.ports["metrics"], "/metrics")[1]
        server.until_logged(" HINFO: ")  # the error of the probe query of loop
        assert '"HINFO IN ' not in server.log
        assert '"A IN x.made.test. udp ' in server.log
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    seen = {name: kind for name, kind in types.items() if not name.startswith("svcdns_")}
    assert seen == {name: listed[name]["type"] for name in seen}
    assert {"coredns_acl_blocked_requests_total", "coredns_template_matches_total"} <= set(seen)
    checked = set()
    for name, text in SERIES.findall(page):
        if name in seen:
            checked.add(name)
            labels = set(re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', text)) - {"le"}
            assert labels == set(listed[name]["labels"]), name
    assert "coredns_dns_request_duration_seconds" in checked
    assert re.search(r'^coredns_build_info\{goversion="CPython 3', page, re.MULTILINE)
    enabled = set(re.findall(r'^coredns_plugin_enabled\{.*name="(\w+)"', page, re.MULTILINE))
    assert enabled == {"acl", "cache", "errors", "forward", "hosts", "local", "log", "loop", "prometheus", "template"}
    assert re.search(r'^coredns_dns_request_size_bytes_bucket\{[^}]*le="100"', page, re.MULTILINE)

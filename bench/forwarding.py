"""Measures the CPU time of servers per answer for external names that no client has queried before."""

from __future__ import annotations

from collections.abc import Sequence

from bench import queries
from bench.cluster import Cluster
from bench.results import Target
from bench.run import Run
from bench.servers import Server
from bench.throughput import CPU, measure, servers_of

MAX_RATE = 60_000
"""Queries a second, more than the upstream can answer while it shares a core with dnsperf. Each name is queried once,
so there must be enough names.
"""

HOSTS = """\
hosts {
   192.0.2.10 node-1.example.test
   192.0.2.11 node-2.example.test
   fallthrough
}
"""
"""The plugin *hosts* with the addresses of the nodes, as in the Corefile of K3s."""

PLUGINS = {", with hosts": HOSTS, ", with hosts and log": f"{HOSTS}log\n"}


def forward(run: Run) -> None:
    """Measures CPU per answer for A queries of new external names, with three Corefiles.

    These are the Corefile of kubeadm, the same with `hosts`, and the same with `hosts` and `log`.
    """
    _measure(run, "forward", 0, servers_of(run, ("unbound", "dnsmasq", "coredns")), 0.8)
    for label, plugins in PLUGINS.items():
        with run.server_group(Cluster(100), run.peers("coredns"), plugins=plugins) as server_group:
            _measure(run, "forward", 0, list(server_group.servers.values()), 1.0, label)


def forward_2k(run: Run) -> None:
    """Measures CPU per answer for A queries of new external names, at 2,000 queries a second."""
    _measure(run, "forward-2k", 2_000, servers_of(run, ("unbound", "dnsmasq", "coredns")), 1.0)


def _measure(run: Run, scenario: str, rate: int, servers: Sequence[Server], limit: float, label: str = "") -> None:
    """Measures the servers in turn. The target is at most `limit` times the CPU time of CoreDNS."""
    rows = [run.row(scenario, f"{CPU}{label}", "µs", Target(limit, "coredns"))]
    if not rate:
        rows.append(run.row(scenario, f"answers{label}", "1/s"))
    load = run.load(rate)
    count = 1_000 if run.options.smoke else (rate or MAX_RATE) * (load.seconds + 1)
    for _ in run.rounds(f"{scenario}{label}"):
        for server in servers:
            with run.catching_failures(scenario, server.name):
                measure(run, server, load, run.queries(scenario, queries.new_external(count)), 0.0, rows)

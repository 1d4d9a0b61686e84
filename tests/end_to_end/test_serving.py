"""The whole server as a user runs it: answers from manifests, reloads, metrics, faults and stops."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from tests.support.server import TIMEOUT, Server, http, is_alive, until

CLUSTER = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.20
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  clusterIP: None
  ports: [{name: sql, port: 5432}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432}]
endpoints:
  - {addresses: [10.244.1.1], hostname: db-0}
  - {addresses: [10.244.1.2], hostname: db-1}
"""
COREFILE = """
.:{port} {
    %s
    errors
    health 127.0.0.1:{health} {
        lameduck 300ms
    }
    ready 127.0.0.1:{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests {dir}/cluster.yaml
        ttl 30
    }
    prometheus 127.0.0.1:{metrics}
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    reload 2s 0s
    loadbalance
}
"""
BOUND = COREFILE % "bind 127.0.0.1"
WEB = "web.default.svc.cluster.local."
DB = "db.default.svc.cluster.local."


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Starts a server of the small cluster, and waits until it is ready."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, BOUND) as running:
        running.until_ready()
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts a server of the small cluster for all tests that only send queries."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "cluster.yaml").write_text(CLUSTER)
    with Server(folder, BOUND) as running:
        running.until_ready()
        yield running


def test_answers_over_udp_and_tcp(shared: Server) -> None:
    for tcp in (False, True):
        assert shared.records(WEB, tcp=tcp) == ["10.96.0.20"]
        assert shared.records(DB, tcp=tcp) == ["10.244.1.1", "10.244.1.2"]
        assert shared.records("db-0." + DB, tcp=tcp) == ["10.244.1.1"]
        assert shared.records("_http._tcp." + WEB, "SRV", tcp=tcp) == [f"0 100 80 {WEB}"]
        assert shared.records("20.0.96.10.in-addr.arpa.", "PTR", tcp=tcp) == [WEB]
        assert shared.records("none." + WEB, tcp=tcp) == ["NXDOMAIN"]


def test_an_edited_manifest_is_in_the_next_answers(server: Server) -> None:
    """Replies in the answer table change, too. A file that cannot be parsed changes nothing, and is logged."""
    for _ in range(4):
        assert len(server.records(DB)) == 2
    path = server.folder / "cluster.yaml"
    path.write_text(CLUSTER.replace("  - {addresses: [10.244.1.2], hostname: db-1}\n", ""))
    until("the endpoint to go", lambda: server.records(DB) == ["10.244.1.1"])
    path.write_text("kind: Service\nmetadata: [\n")
    server.until_logged("cluster.yaml:3")
    assert server.records(DB) == ["10.244.1.1"]
    assert "Traceback" not in server.log


def test_metrics_count_every_query(server: Server) -> None:
    """Queries that the answer table replies to are counted, also by *cache*."""
    for _ in range(25):
        server.records(WEB)
    for _ in range(10):
        server.records("no." + WEB, tcp=True)
    labels = (
        'coredns_dns_requests_total{family="1",proto="%s",server="dns://127.0.0.1:[0-9]+",type="A",view="",zone="."}'
    )
    udp, tcp = (re.sub(r"([{}])", r"\\\1", labels % proto) for proto in ("udp", "tcp"))
    until("all counted", lambda: (server.metric(udp), server.metric(tcp)) == (25, 10))
    assert server.metric(r'coredns_dns_responses_total\{plugin="errors",rcode="NXDOMAIN"') == 10
    assert server.metric("coredns_cache_misses_total") == server.metric("coredns_cache_requests_total") == 35
    assert server.metric("coredns_dns_request_duration_seconds_count") == 35
    assert server.metric("coredns_dns_response_size_bytes_count") == 35


def test_reload_takes_a_new_corefile_and_refuses_a_bad_one(server: Server) -> None:
    """The Corefile is read again after an edit and after SIGUSR1. The cluster's objects stay, and no counter falls."""
    server.records(WEB)
    server.write(BOUND.replace("ttl 30", "ttl 60"))
    until("the new TTL", lambda: server.ask(WEB).answer[0].ttl == 30 and "Reloading complete" in server.log)
    server.write(BOUND.replace("ttl 30", "ttl 60").replace("cache 30", "cache 45"))
    server.process.send_signal(signal.SIGUSR1)
    until("the TTL of the second reload", lambda: server.ask(WEB).answer[0].ttl == 45)
    server.write(BOUND.replace("ttl 30", "ttl never"))
    server.process.send_signal(signal.SIGUSR1)
    server.until_logged("'never' is not a whole number")
    server.write("# nothing\n")
    server.process.send_signal(signal.SIGUSR1)
    server.until_logged("the Corefile has no server block; a server block was expected")
    assert server.ask(WEB).answer[0].ttl == 45
    assert http(server.ports["ready"], "/ready") == (200, "OK")
    until("the count of the first query too", lambda: server.metric(r"coredns_dns_requests_total") >= 3)


def test_a_bad_corefile_at_a_start(tmp_path: Path) -> None:
    """With a state folder, the last good Corefile is served, with a log line and a metric. Without it,
    the start fails.
    """
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, BOUND, "-state", str(tmp_path / "state")) as server:
        server.until_ready()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(TIMEOUT) == 0
        server.write(BOUND.replace("ttl 30", "ttl never"))
        server.process = server.launch()
        server.until_ready()
        assert server.records(WEB) == ["10.96.0.20"]
        assert "'never' is not a whole number" in server.log
        assert "serving the last good Corefile" in server.log
        assert server.metric("svcdns_corefile_fallback") == 1
        server.write(BOUND.replace("ttl 30", "ttl 31"))
        server.process.send_signal(signal.SIGUSR1)
        server.until_logged("Reloading complete")
        assert server.metric("svcdns_corefile_fallback") == 0
    with Server(tmp_path, BOUND.replace("ttl 30", "ttl never")) as server:
        assert server.process.wait(TIMEOUT) == 1
        assert "Corefile:" in server.log


def test_names_that_do_not_exist(server: Server) -> None:
    """NXDOMAIN is counted. If the name is created, the next query gets its answer."""
    for tcp in (False, True):
        for number in range(20):
            reply = server.ask(f"x{tcp:d}{number:02d}.default.svc.cluster.local.", tcp=tcp)
            assert (dns.rcode.to_text(reply.rcode()), reply.authority[0].name.to_text()) == (
                "NXDOMAIN",
                "cluster.local.",
            )
    (server.folder / "cluster.yaml").write_text(CLUSTER.replace("{name: web}", "{name: x999}"))
    until("the new name", lambda: server.records("x999.default.svc.cluster.local.", tcp=True) == ["10.96.0.20"])
    assert server.records("x999.default.svc.cluster.local.") == ["10.96.0.20"]
    until("the count", lambda: server.metric(r'coredns_dns_responses_total{.*rcode="NXDOMAIN"') >= 40)


def test_control_has_a_lower_priority_than_workers(shared: Server) -> None:
    """On a shared processor, queries are more important."""
    own, children = os.getpriority(os.PRIO_PROCESS, 0), shared.children()
    assert os.getpriority(os.PRIO_PROCESS, children["worker 0"]) == own
    assert os.getpriority(os.PRIO_PROCESS, children["control"]) == min(19, own + 15)


def test_a_reload_moves_to_another_address(server: Server) -> None:
    """The new address is opened before the old one is closed."""
    server.write(BOUND.replace("bind 127.0.0.1", "bind 127.0.0.2"))
    server.process.send_signal(signal.SIGUSR1)
    server.until_logged("Reloading complete")
    until("the new address", lambda: server.records(WEB, host="127.0.0.2") == ["10.96.0.20"])
    assert server.ask(WEB, timeout=0.3) is None


def test_a_killed_worker_is_replaced(server: Server) -> None:
    server.records(WEB)
    until("the count", lambda: server.metric("coredns_dns_requests_total") == 1)
    old = server.children()["worker 0"]
    os.kill(old, signal.SIGKILL)
    until(
        "an answer from a new worker",
        lambda: server.ask(WEB, timeout=0.2) is not None and server.children().get("worker 0") != old,
    )
    assert server.metric("coredns_dns_requests_total") >= 1


def test_children_do_not_outlive_the_supervisor(server: Server) -> None:
    """When the supervisor is killed, the port must become free."""
    children = list(server.children().values())
    server.process.kill()
    server.process.wait()
    until("the children to leave", lambda: not any(map(is_alive, children)))


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param([signal.SIGINT], id="INT"),
        pytest.param([signal.SIGQUIT], id="QUIT"),
        pytest.param([signal.SIGHUP, signal.SIGTERM], id="HUP is ignored"),
    ],
)
def test_signals_that_stop_the_server(server: Server, signals: list[signal.Signals]) -> None:
    """After SIGINT, SIGQUIT and SIGTERM, the exit code is 0. SIGHUP is ignored."""
    for one in signals:
        server.process.send_signal(one)
    assert server.process.wait(TIMEOUT) == 0
    assert "Traceback" not in server.log


def test_a_wildcard_listener_answers_from_the_destination_address_of_the_query(tmp_path: Path) -> None:
    """The address may be IPv4 or IPv6, and the transport UDP or TCP."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, COREFILE % "") as server:
        server.until_ready()
        for host in ("127.0.0.1", "127.0.0.5", "::1"):
            for tcp in (False, True):
                assert server.records(WEB, host=host, tcp=tcp) == ["10.96.0.20"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.sendto(dns.message.make_query(WEB, "A").to_wire(), ("127.0.0.1", server.ports["port"]))
        assert server.records(WEB) == ["10.96.0.20"]


BAD = {
    "unknown": (
        ". {\n  forwad . 1.1.1.1\n}",
        "Corefile:2:3 - Error during parsing: Unknown directive 'forwad' (did you mean 'forward'?)",
    ),
    "listen": (
        ". {\n  bind 192.0.2.200\n  whoami\n}",
        "listen udp 192.0.2.200:53: bind: cannot assign requested address",
    ),
    "manifests": (
        ". {\n  kubernetes c.l {\n    manifests none.yaml\n  }\n}",
        "none.yaml",
    ),
    "not in a cluster": (
        ". {\n  kubernetes c.l\n}",
        "unable to load in-cluster configuration",
    ),
    "resolv.conf": (
        ". {\n  forward . /dev/null\n}",
        "plugin/forward: no valid upstream addresses found in /dev/null",
    ),
}


@pytest.mark.parametrize(("corefile", "line"), BAD.values(), ids=BAD)
def test_a_bad_corefile_ends_the_start_with_one_line(tmp_path: Path, corefile: str, line: str) -> None:
    """The exit code is 1."""
    with Server(tmp_path, corefile, "-quiet") as server:
        assert server.process.wait(TIMEOUT) == 1
        assert len(server.log.strip().splitlines()) == 1, server.log
        assert line in server.log
        assert line.startswith("listen") or re.search(r"Corefile:\d+:\d+ - ", server.log)


def test_replies_that_cannot_be_delivered_do_no_harm(shared: Server) -> None:
    """The client's port is closed, or is 0."""
    query = dns.message.make_query(WEB, "A").to_wire()
    target = ("127.0.0.1", shared.ports["port"])
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(query, target)
    if os.geteuid() == 0:
        header = (0).to_bytes(2, "big") + target[1].to_bytes(2, "big") + (8 + len(query)).to_bytes(2, "big") + b"\0\0"
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
            for _ in range(50):
                raw.sendto(header + query, ("127.0.0.1", 0))
    worker = shared.children()["worker 0"]
    assert shared.records(WEB) == ["10.96.0.20"]
    assert shared.children()["worker 0"] == worker
    assert "Traceback" not in shared.log


def test_an_edited_zone_file_is_read_again(tmp_path: Path) -> None:
    """The serial must have grown. An error in the file is logged, and the old zone is served."""
    zone = tmp_path / "zone"
    zone.write_text("@ 60 IN SOA ns root 1 2 3 4 5\nwww 60 IN A 10.0.0.1\n")
    with Server(
        tmp_path, "example.org:{port} {\n bind 127.0.0.1\n file {dir}/zone {\n  reload 50ms\n }\n}\n"
    ) as server:
        server.until_serving()
        until("the zone", lambda: server.records("www.example.org.") == ["10.0.0.1"])
        zone.write_text("@ 60 IN SOA ns root 2 2 3 4 5\nwww 60 IN A 10.0.0.2\n")
        until("the edit", lambda: server.records("www.example.org.") == ["10.0.0.2"])
        zone.write_text("@ 60 IN SOA ns root 3 2 3 4 5\nwww 60 IN A nonsense\n")
        server.until_logged(
            f'[ERROR] plugin/file: the zone is served as it was read before zone=example.org. error="{zone}:2:13: A'
        )
        assert server.records("www.example.org.") == ["10.0.0.2"]


def test_the_plugin_log_logs_every_query(tmp_path: Path) -> None:
    """The lines have CoreDNS's format. Queries that the answer table replies to are logged, too."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, BOUND.replace("errors\n", "errors\n    log\n", 1)) as server:
        server.until_ready()
        for _ in range(4):
            server.ask(WEB)
        line = (
            rf'^\[INFO\] 127\.0\.0\.1:\d+ - \d+ "A IN {re.escape(WEB)} udp \d+ false \d+" NOERROR qr,aa,rd \d+ 0\.\d+s$'
        )
        until("four lines", lambda: len(re.findall(line, server.log, re.MULTILINE)) == 4)


def test_pidfile_and_quiet(tmp_path: Path) -> None:
    """`-pidfile` writes the supervisor's process id. With `-quiet`, zones and version are not printed."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    pidfile = tmp_path / "pid"
    with Server(tmp_path, BOUND, "-pidfile", str(pidfile), "-quiet") as server:
        server.until_ready()
        assert int(pidfile.read_text()) == server.process.pid
        assert "svcdns-" not in server.log

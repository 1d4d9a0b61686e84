"""Forwarding in the whole server: failing upstreams, changing files of upstreams, and clients that disconnect."""

from __future__ import annotations

import socket
from pathlib import Path

import dns.message
import dns.query

from tests.support.server import Server, until
from tests.support.zone_upstream import ZoneUpstream

COREFILE = """
.:{port} {
    bind 127.0.0.1
    errors
    prometheus 127.0.0.1:{metrics}
    cache
    forward . UPSTREAM
}
"""
NAME = "outside.example.org."
RECORDS = (
    f"{NAME} 60 IN A 192.0.2.1",
    "example.org. 60 IN SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60",
)


def test_a_file_of_upstreams_that_changes(tmp_path: Path) -> None:
    """No reload is needed. The log names the upstream that refused the query."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.98\n")
    with Server(tmp_path, COREFILE.replace("UPSTREAM", "{dir}/resolv.conf")) as server:
        server.until_serving()
        assert server.records(NAME) == ["SERVFAIL"]
        server.until_logged("127.0.0.98:53: connection refused")
        path.write_text("nameserver 127.0.0.99\n")
        server.until_logged(f"upstreams changed path={path} upstreams=127.0.0.99:53")
        until(
            "the new upstream's turn",
            lambda: server.records(NAME) and "127.0.0.99:53: connection refused" in server.log,
        )
        assert "Reloading" not in server.log


def test_an_upstream_whose_port_is_closed_and_then_open(tmp_path: Path) -> None:
    """While the port is closed, clients get SERVFAIL, with an extended error if they use EDNS."""
    with ZoneUpstream(RECORDS) as first:
        port = first.port
    with Server(tmp_path, COREFILE.replace("UPSTREAM", f"127.0.0.1:{port}")) as server:
        server.until_serving()
        query = dns.message.make_query(NAME, "A", use_edns=0)
        (error,) = dns.query.udp(query, "127.0.0.1", 10, server.ports["port"]).options
        assert error.to_text() == "EDE 23 (Network Error)"
        assert server.ask(NAME).edns == -1
        until("the circuit to open", lambda: server.records(NAME) and server.metric("svcdns_forward_circuit_open") == 1)
        with ZoneUpstream(RECORDS, port=port):
            until("an answer", lambda: server.records(NAME) == ["192.0.2.1"])
            until("the circuit to close", lambda: server.metric("svcdns_forward_circuit_open") == 0)


def test_a_client_that_disconnects(tmp_path: Path) -> None:
    with (
        ZoneUpstream(RECORDS) as upstream,
        Server(tmp_path, COREFILE.replace("UPSTREAM", f"127.0.0.1:{upstream.port}")) as server,
    ):
        server.until_serving()
        asked = upstream.asked
        packet = dns.message.make_query(NAME, "A").to_wire()
        with socket.create_connection(("127.0.0.1", server.ports["port"])) as client:
            client.sendall(len(packet).to_bytes(2, "big") + packet)
        until("the query", lambda: upstream.asked == asked + 1)
        until("the entry", lambda: server.metric("coredns_cache_entries") > 0)
        assert server.records(NAME) == ["192.0.2.1"]
        assert upstream.asked == asked + 1

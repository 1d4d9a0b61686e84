"""Differences from CoreDNS that only a whole server can show (docs/supported.md#deliberate-differences)."""

from __future__ import annotations

import socket
from pathlib import Path

import dns.message
import dns.rcode

from tests.support.server import TIMEOUT, Server

COREFILE = """
.:{port} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    log . "{name} {rcode} {rsize}"
    acl {
        drop type TXT
    }
    autopath {dir}/search
    file {dir}/zone .
}
"""
ZONE = "@ 60 IN SOA ns root 7 2 3 4 30\nwww.example.org. 60 IN A 192.0.2.1\n"


def exchange(server: Server, name: str, rtype: str) -> bytes:
    """Returns the octets of the reply, or no octets if no reply comes in time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT if rtype != "TXT" else 0.3)
        client.connect(("127.0.0.1", server.ports["port"]))
        client.send(dns.message.make_query(name, rtype).to_wire())
        try:
            return client.recv(65535)
        except TimeoutError:
            return b""


def test_names_and_the_query_log(tmp_path: Path) -> None:
    """The log has the length of the sent reply, and no line for a dropped query. After *autopath*, the question has the
    spelling of the query.
    """
    (tmp_path / "zone").write_text(ZONE)
    (tmp_path / "search").write_text("search example.net example.com\n")
    with Server(tmp_path, COREFILE) as server:
        server.until_ready()
        wire = exchange(server, "www.example.org.", "A")
        message = dns.message.from_wire(wire)
        assert message.answer[0][0].to_text() == "192.0.2.1"
        assert wire.count(b"\xc0\x0c") == 1
        assert exchange(server, "dropped.example.org.", "TXT") == b""
        wire = exchange(server, "Odd.Example.Net.", "A")
        message = dns.message.from_wire(wire)
        assert (message.rcode(), message.question[0].name.to_text()) == (dns.rcode.NXDOMAIN, "Odd.Example.Net.")
        server.until_logged(f"odd.example.net. NXDOMAIN {len(wire)}")
        assert "www.example.org. NOERROR 49" in server.log
        assert "dropped.example.org." not in server.log

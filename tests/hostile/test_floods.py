"""Floods from one address, while a well-behaved client of another address sends queries to the real processes."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dns.message
import dns.rcode

from bench.cluster import ZONE as CLUSTER_ZONE
from bench.http_attackers import ATTACKER
from tests.support.certificates import Authority
from tests.support.server import Server, free_port, until

COREFILE = """
.:{port} {
    bind 127.0.0.1
    prometheus 127.0.0.1:{metrics}
    file {dir}/zone {zone}
}
tls://.:{tls} {
    bind 127.0.0.1
    tls {dir}/server.crt {dir}/server.key
    file {dir}/zone {zone}
}
"""
ZONE = "@ 60 IN SOA ns root 7 2 3 4 30\nwww 60 IN A 192.0.2.1\n"
CLIENT = "127.0.0.10"
FLOOD = 1.5
"""The seconds for which the well-behaved client sends queries."""
HALF_OPEN = 300
"""TLS handshakes that the attacker begins; 256 may be in progress."""
TIMEOUT = 20.0
"""Seconds after which a query is lost. It is long, because the machine may be busy with other tests."""


@contextmanager
def attacked(server: Server) -> Iterator[None]:
    """Floods the server with queries for nonexistent names and with half-open TLS handshakes."""
    with ExitStack() as stack:
        words = ("denied", "60", str(server.ports["port"]), str(server.ports["tls"]), "0", "0")
        command = [sys.executable, "-m", "bench.attackers", *words]
        flood = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        stack.callback(flood.kill)
        assert flood.stdout is not None
        assert flood.stdout.readline()
        for _ in range(HALF_OPEN):
            stack.enter_context(connected(server.ports["tls"], ATTACKER))
        yield


def connected(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), TIMEOUT, source_address=(source, 0))


def ask(sock: socket.socket, name: str) -> dns.rcode.Rcode:
    """Sends one query over UDP, TCP or TLS, and returns the rcode of the reply. Raises TimeoutError."""
    packet = dns.message.make_query(name, "A").to_wire()
    if sock.type == socket.SOCK_DGRAM:
        sock.send(packet)
        return dns.message.from_wire(sock.recv(4096)).rcode()
    sock.sendall(struct.pack("!H", len(packet)) + packet)
    with sock.makefile("rb") as stream:
        return dns.message.from_wire(stream.read(*struct.unpack("!H", stream.read(2)))).rcode()


def test_other_clients_lose_no_reply(tmp_path: Path) -> None:
    authority = Authority()
    authority.pair("dns.test").write(tmp_path)
    (tmp_path / "zone").write_text(ZONE)
    corefile = COREFILE.replace("{tls}", str(tls := free_port())).replace("{zone}", CLUSTER_ZONE)
    context = authority.client()
    with Server(tmp_path, corefile) as server, ExitStack() as stack:
        server.ports["tls"] = tls
        server.until_serving()
        children = server.children()
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind((CLIENT, 0))
        udp.connect(("127.0.0.1", server.ports["port"]))
        udp.settimeout(TIMEOUT)
        stack.enter_context(attacked(server))
        begun, number = time.monotonic(), 0
        while time.monotonic() < begun + FLOOD:
            number += 1
            assert ask(udp, f"www.{CLUSTER_ZONE}") == dns.rcode.NOERROR
            assert ask(udp, f"other-{number}.{CLUSTER_ZONE}") == dns.rcode.NXDOMAIN
            if number % 8 == 0:
                with connected(server.ports["port"], CLIENT) as tcp:
                    assert ask(tcp, f"www.{CLUSTER_ZONE}") == dns.rcode.NOERROR
            if number % 16 == 0:
                with context.wrap_socket(connected(tls, CLIENT), server_hostname="dns.test") as secure:
                    assert ask(secure, f"tls-{number}.{CLUSTER_ZONE}") == dns.rcode.NXDOMAIN
        until("the dropped queries", lambda: shed(server, "queue") + shed(server, "flood") > 0)
        until("the closed handshakes", lambda: shed(server, "handshakes") >= HALF_OPEN - 256)
        assert server.process.poll() is None
        assert server.children() == children


def shed(server: Server, reason: str) -> float:
    """Returns the number of queries and connections that the server has dropped for `reason`."""
    return server.metric(f'svcdns_shed_total{{[^}}]*reason="{reason}"')

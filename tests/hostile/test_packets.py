"""Malformed, unusual and hostile packets over UDP, TCP and TLS, sent to the real processes."""

from __future__ import annotations

import struct
from pathlib import Path

import psutil

from bench.packet_costs import ORDINARY, TRANSPORTS, ZONE, Connection, ratios
from svcdns.conformance.replies import Reply, read_reply
from tests.hostile.packets import ROWS, SILENCE, Row
from tests.support.certificates import Authority
from tests.support.server import Server, free_port

COREFILE = """
example.test:{port} {
    bind 127.0.0.1
    prometheus 127.0.0.1:{metrics}
    file {dir}/zone
}
tls://example.test:{tls} {
    bind 127.0.0.1
    prometheus 127.0.0.1:{metrics}
    tls {dir}/server.crt {dir}/server.key
    file {dir}/zone
}
"""
MEMORY = 16 << 20
"""The octets by which all processes together may grow."""
TIMES = 10
"""How many times the CPU time of an ordinary query a malformed one may take."""
REPEATS = 100


class HostileServer(Server):
    def __init__(self, folder: Path) -> None:
        self.authority = Authority()
        self.authority.pair("dns.test").write(folder)
        (folder / "zone").write_text(ZONE)
        super().__init__(folder, COREFILE.replace("{tls}", str(tls := free_port())), GOMAXPROCS="1")
        self.ports["tls"] = tls

    def connect(self, transport: str) -> Client:
        port = self.ports["tls" if transport == "tls" else "port"]
        context = self.authority.client() if transport == "tls" else None
        return Client(Connection(port, context, stream=transport != "udp"))

    def processes(self) -> list[psutil.Process]:
        """Returns control and the workers."""
        return [psutil.Process(pid) for pid in self.children().values()]


class Client:
    """Sends packets over one transport. After each packet an ordinary query follows, so that a missing reply is noticed
    without a timeout.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._ident = 0

    def exchange(self, packet: bytes) -> bytes:
        """Returns the reply to a packet, or no octets if the server answers only the ordinary query after it."""
        self._ident += 2
        own, next_ = struct.pack("!H", self._ident), struct.pack("!H", self._ident + 1)
        self.connection.send((own + packet[2:])[: len(packet)], next_ + ORDINARY[2:])
        reply = self.connection.receive()
        if reply[:2] == next_:
            return b""
        assert reply[:2] == own, reply.hex()
        assert self.connection.receive()[:2] == next_
        return reply


def defects(row: Row, wire: bytes) -> str:
    """Returns a description of what is defects with a reply, or an empty text."""
    if not wire:
        return "" if row.rcode == SILENCE else "no reply"
    reply = read_reply(wire)  # raises for octets that do not parse
    if row.rcode == SILENCE:
        return f"a reply: {reply}"
    asked = row.packet[12:]
    if reply.questions and not asked.startswith(reply.questions[0]):
        return f"another question: {reply}"
    if reply.rcode != row.rcode or not row.check(reply) or has_another_class(reply):
        return f"{reply} {reply.opt}"
    return ""


def has_another_class(reply: Reply) -> bool:
    """Returns True if a record has another class than the question."""
    if not reply.questions:
        return False
    rclass = int.from_bytes(reply.questions[0][-2:], "big")
    return any(line.rclass != rclass for line in (*reply.answer, *reply.authority, *reply.additional))


def test_packets(tmp_path: Path) -> None:
    """No packet makes the processes grow or end. No packet costs more than ten ordinary queries."""
    assert len(ROWS) >= 120
    assert len({row.name for row in ROWS}) == len(ROWS)
    failures: list[str] = []
    with HostileServer(tmp_path) as server:
        server.until_serving()
        clients = {transport: server.connect(transport) for transport in TRANSPORTS}
        before = server.children()
        memory = sum(process.memory_info().rss for process in server.processes())
        for _ in range(2):  # the second time, a reply may come from the answer table
            for transport, client in clients.items():
                for row in ROWS:
                    if transport in row.over:
                        found = defects(row, client.exchange(row.packet))
                        failures += [f"{row.name} over {transport}: {found}"] if found else []
        assert not failures, "\n".join(failures)
        for transport, client in clients.items():
            _, costs = ratios(server.process.pid, client.connection, stream=transport != "udp", times=REPEATS)
            assert {name: ratio for name, ratio in costs.items() if ratio > TIMES} == {}, transport
        assert server.children() == before
        assert sum(process.memory_info().rss for process in server.processes()) - memory < MEMORY
        assert server.metric('svcdns_malformed_queries_total{[^}]*reason="trailing"') >= len(clients)
        for client in clients.values():
            client.connection.close()

"""Malformed, unusual and hostile packets over UDP, TCP and TLS, to the real processes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import psutil

from svcdns.conformance.replies import Reply, read_reply
from tests.hostile.packets import IN, PLAIN, ROWS, SILENCE, Row, edns, message, option, question, record
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
ZONE = "@ 60 IN SOA ns root 7 2 3 4 30\n@ 60 IN NS ns\nns 60 IN A 192.0.2.1\nwww 60 IN A 192.0.2.2\n"
TIMEOUT = 5.0
MEMORY = 16 << 20
"""The octets by which all processes together may grow."""
TIMES = 10
"""How many times the CPU time of an ordinary query a malformed one may take."""
REPEATS = 100


class HostileServer(Server):
    """A server with a port for TLS."""

    def __init__(self, folder: Path) -> None:
        """Writes the zone and the certificate, and starts the server with one worker."""
        self.authority = Authority()
        self.authority.pair("dns.test").write(folder)
        (folder / "zone").write_text(ZONE)
        super().__init__(folder, COREFILE.replace("{tls}", str(tls := free_port())), GOMAXPROCS="1")
        self.ports["tls"] = tls

    def connect(self, transport: str) -> socket.socket:
        """A socket of a client."""
        port = self.ports["tls" if transport == "tls" else "port"]
        if transport == "udp":
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(("127.0.0.1", port))
        else:
            sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(TIMEOUT)
        return self.authority.client().wrap_socket(sock, server_hostname="dns.test") if transport == "tls" else sock

    def processes(self) -> list[psutil.Process]:
        """Control and the workers."""
        return [psutil.Process(pid) for pid in self.children().values()]

    def worker_time(self) -> float:
        """The CPU seconds of the worker, to the nanosecond (`/proc/PID/schedstat`)."""
        (pid,) = [pid for name, pid in self.children().items() if name.startswith("worker")]
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


class Client:
    """Sends packets over one transport, each followed by an ordinary query, so that silence needs no waiting."""

    def __init__(self, connect: Callable[[], socket.socket], *, stream: bool) -> None:
        """Connects."""
        self._sock, self._stream = connect(), stream
        self._received = b""
        self._ident = 0

    def exchange(self, packet: bytes) -> bytes:
        """Returns the reply to a packet, or no octets if the server is silent and answers the next query."""
        self._ident += 2
        own, next_ = struct.pack("!H", self._ident), struct.pack("!H", self._ident + 1)
        self._send((own + packet[2:])[: max(len(packet), 0)], next_ + PLAIN[2:] + next_)
        reply = self._receive()
        if reply[:2] == next_:
            return b""
        assert reply[:2] == own, reply.hex()
        assert self._receive()[:2] == next_
        return reply

    def repeat(self, packet: bytes, times: int) -> None:
        """Sends a packet several times, each after the reply to the one before."""
        for number in range(times):
            self._send(struct.pack("!H", number) + packet[2:])
            self._receive()

    def close(self) -> None:
        """Closes the socket."""
        self._sock.close()

    def _send(self, *packets: bytes) -> None:
        if self._stream:
            self._sock.sendall(b"".join(struct.pack("!H", len(packet)) + packet for packet in packets))
        else:
            for packet in packets:
                self._sock.send(packet)

    def _receive(self) -> bytes:
        if not self._stream:
            return self._sock.recv(65535)
        while len(self._received) < 2 or len(self._received) < 2 + int.from_bytes(self._received[:2], "big"):
            data = self._sock.recv(65535)
            assert data, "the connection was closed"
            self._received += data
        end = 2 + int.from_bytes(self._received[:2], "big")
        reply, self._received = self._received[2:end], self._received[end:]
        return reply


def wrong(row: Row, wire: bytes) -> str:
    """What is wrong with a reply; empty text if nothing is."""
    if not wire:
        return "" if row.rcode == SILENCE else "no reply"
    reply = read_reply(wire)  # raises for octets that do not parse
    if row.rcode == SILENCE:
        return f"a reply: {reply}"
    asked = row.packet[12:]
    if reply.questions and not asked.startswith(reply.questions[0]):
        return f"another question: {reply}"
    if reply.rcode != row.rcode or not row.check(reply) or foreign(reply):
        return f"{reply} {reply.opt}"
    return ""


def foreign(reply: Reply) -> bool:
    """True if a record has another class than the question."""
    if not reply.questions:
        return False
    rclass = int.from_bytes(reply.questions[0][-2:], "big")
    return any(line.rclass != rclass for line in (*reply.answer, *reply.authority, *reply.additional))


def test_packets(tmp_path: Path) -> None:
    """Each packet gets the response code of the RFCs, or silence, over each transport. None makes the processes grow or
    end, and none costs more than ten ordinary queries.
    """
    assert len(ROWS) >= 120
    assert len({row.name for row in ROWS}) == len(ROWS)
    failures: list[str] = []
    with HostileServer(tmp_path) as server:
        server.until_serving()
        clients = {
            transport: Client(lambda t=transport: server.connect(t), stream=transport != "udp")  # type: ignore[misc]
            for transport in ("udp", "tcp", "tls")
        }
        before = server.children()
        memory = sum(process.memory_info().rss for process in server.processes())
        for _ in range(2):  # the second time, a reply may come from the answer table
            for transport, client in clients.items():
                for row in ROWS:
                    if transport in row.over:
                        found = wrong(row, client.exchange(row.packet))
                        failures += [f"{row.name} over {transport}: {found}"] if found else []
        assert not failures, "\n".join(failures)
        costs = {transport: expensive(server, client, transport) for transport, client in clients.items()}
        assert {transport: found for transport, found in costs.items() if found} == {}
        assert server.children() == before
        assert sum(process.memory_info().rss for process in server.processes()) - memory < MEMORY
        assert server.metric('svcdns_malformed_queries_total{[^}]*reason="trailing"') >= len(clients)
        for client in clients.values():
            client.close()


def bomb(pointers: int) -> bytes:
    """A query whose two additional records have chains of pointers, each to the pointer before it."""
    chain = b"".join(struct.pack("!H", 0xC000 | (12 + 22 + 11 + 2 * number)) for number in range(pointers))
    first = b"\0" + struct.pack("!HHIH", 65280, IN, 0, 2 + len(chain)) + b"\0\0" + chain
    return message(question(), first, record(owner=chain[-2:]), counts=(1, 0, 0, 2))


COSTLY: dict[str, Callable[[bool], bytes]] = {
    "a chain of pointers": lambda stream: bomb(7000 if stream else 240),
    "many options": lambda stream: edns(*[option(65001)] * (16000 if stream else 1000)),
    "512 options": lambda _: edns(*[option(65001)] * 512) + b"\0",
    "octets after the message": lambda stream: PLAIN + bytes(60000 if stream else 4000),
    "two long names": lambda _: message(question(), *[record(owner=b"\1a" * 127 + b"\0")] * 2, counts=(1, 0, 0, 2)),
}


def expensive(server: HostileServer, client: Client, transport: str) -> str:
    """Names the packets that cost more than TIMES ordinary queries that the answer table cannot answer."""

    def cost(packet: bytes) -> float:
        begun = server.worker_time()
        client.repeat(packet, REPEATS)
        return server.worker_time() - begun

    ordinary = cost(PLAIN + b"\0")  # its reply is not stored, so each query takes the chain
    costs = {name: cost(make(transport != "udp")) for name, make in COSTLY.items()}
    return ", ".join(
        f"{name}: {seconds / ordinary:.1f}" for name, seconds in costs.items() if seconds > TIMES * ordinary
    )

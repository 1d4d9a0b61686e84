"""A flood from one network against a server with *rrl*, while a client of another network sends queries."""

from __future__ import annotations

import select
import socket
from pathlib import Path

import dns.flags
import dns.message

from tests.support.server import Server, until

COREFILE = """
.:{port} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}
    rrl {
        responses-per-second 10
        nxdomains-per-second 20
        slip-ratio 4
    }
    file {dir}/zone example.org
}
"""
ZONE = "@ 60 IN SOA ns root 7 2 3 4 30\nwww 60 IN A 192.0.2.1\n"
FLOOD = 400


def flood(server: Server, names: list[str]) -> list[dns.message.Message]:
    """Sends one query for each name from 127.0.0.1, and returns the replies."""
    out = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.connect(("127.0.0.1", server.ports["port"]))
        for number, name in enumerate(names):
            client.send(dns.message.make_query(name, "A").to_wire())
            while select.select([client], [], [], 0.0005 if number % 16 == 15 else 0)[0]:
                out.append(dns.message.from_wire(client.recv(65535)))
        while select.select([client], [], [], 0.3)[0]:
            out.append(dns.message.from_wire(client.recv(65535)))
    return out


def test_floods_from_one_network(tmp_path: Path) -> None:
    """The network gets its allowance and truncated replies. Another network, and clients over TCP, lose no reply."""
    (tmp_path / "zone").write_text(ZONE)
    over = 0
    with Server(tmp_path, COREFILE) as server:
        server.until_ready()
        for names, allowed in (
            (["www.example.org."] * FLOOD, 10),
            ([f"n{number}.example.org." for number in range(FLOOD)], 20),
        ):
            replies = flood(server, names)
            whole = [reply for reply in replies if reply.authority or reply.answer]
            cut = [reply for reply in replies if reply.flags & dns.flags.TC]
            assert allowed <= len(whole) <= 3 * allowed, "the allowance of the seconds that the flood took"
            assert len(cut) + len(whole) == len(replies)
            assert (FLOOD - len(whole)) // 4 - 1 <= len(cut) <= FLOOD // 4
            over += FLOOD - len(whole)
            for options in ({"source": "127.0.9.1"}, {"tcp": True}):
                found = [server.records("www.example.org.", **options) for _ in range(5)]
                assert found == [["192.0.2.1"]] * 5
        until("the metric", lambda: server.metric("svcdns_rrl_limited_total") == over)
        assert server.metric('coredns_rrl_responses_exceeded_total{client_ip="127.0.0.1"}') == over

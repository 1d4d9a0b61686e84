"""A server that stops answers every query that arrived before its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import dns.message

from tests.end_to_end.test_restarts import Asking
from tests.end_to_end.test_serving import BOUND, CLUSTER, WEB
from tests.support.kept import KeptConnections
from tests.support.scripted_upstream import ScriptedUpstream, answer
from tests.support.server import TIMEOUT, Server, http, is_alive, until

FORWARD = "\n.:{port} {\n bind 127.0.0.1\n forward . 127.0.0.1:%d\n}\n"
LAMEDUCK = "lameduck 300ms"


def closed(port: int) -> bool:
    """Returns True if no socket listens on the port."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


async def test_a_query_that_waits_for_an_upstream_is_answered(tmp_path: Path) -> None:
    """The query arrives before the stop, over UDP or TCP. The upstream replies during the stop."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    corefile = BOUND.replace(".:{port}", "cluster.local:{port}").replace(LAMEDUCK, "lameduck 0s")
    async with ScriptedUpstream(lambda _query, _transport: None) as upstream:
        with Server(tmp_path, corefile + FORWARD % upstream.port) as server:
            await asyncio.to_thread(server.until_ready)
            clients = {
                name: asyncio.create_task(asyncio.to_thread(server.records, f"{name}.example.", tcp=name == "tcp"))
                for name in ("udp", "tcp")
            }
            async with asyncio.timeout(TIMEOUT):
                while len({query.name for query, _ in upstream.asked}) < len(clients):
                    await asyncio.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(until, "/ready to close", lambda: closed(server.ports["ready"]))
            upstream.respond = lambda query, transport: answer(f"{query.question[0].name} 5 IN A 192.0.2.1")(
                query, transport
            )
            for client in clients.values():
                assert await client == ["192.0.2.1"]
            assert await asyncio.to_thread(server.process.wait, TIMEOUT) == 0


def test_every_query_during_lame_duck_is_answered(tmp_path: Path) -> None:
    """DNS is served, and /ready is not. Each client connection is closed once, and its client opens a new one."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, BOUND.replace(LAMEDUCK, "lameduck 5s")) as server:
        server.until_ready()
        with KeptConnections(20, server.ports["port"], WEB, may_end=True) as kept:
            server.process.send_signal(signal.SIGTERM)
            until("/ready to close", lambda: closed(server.ports["ready"]))
            with Asking(server) as asking:
                assert server.records(WEB, tcp=True) == ["10.96.0.20"]
                until("some answers", lambda: len(asking.answers) >= 20)
            assert asking.lost == 0
            assert kept.lost == []
            assert http(server.ports["health"], "/health") == (200, "OK")
            until("each connection to be closed", lambda: kept.ended >= 20)
        assert kept.lost == []
        assert kept.ended == 20
        assert server.process.wait(TIMEOUT) == 0
        assert "[INFO] SIGTERM: Shutting down servers then terminating" in server.log
        assert "Traceback" not in server.log


def test_a_query_in_a_socket_buffer_is_answered(tmp_path: Path) -> None:
    """The worker was suspended when the queries arrived over UDP and TCP."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    query = dns.message.make_query(WEB, "A").to_wire()
    with Server(tmp_path, BOUND.replace(LAMEDUCK, "lameduck 0s")) as server:
        server.until_ready()
        target = ("127.0.0.1", server.ports["port"])
        worker = server.children()["worker 0"]
        with socket.create_connection(target, TIMEOUT) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(TIMEOUT)
            assert server.records(WEB, tcp=True) == ["10.96.0.20"]  # so the connection before it has been accepted
            os.kill(worker, signal.SIGSTOP)
            udp.sendto(query, target)
            tcp.sendall(len(query).to_bytes(2, "big") + query)
            server.process.send_signal(signal.SIGTERM)
            until("/ready to close", lambda: closed(server.ports["ready"]))
            os.kill(worker, signal.SIGCONT)
            assert dns.message.from_wire(udp.recv(512)).answer
            size = int.from_bytes(tcp.recv(2, socket.MSG_WAITALL), "big")
            assert dns.message.from_wire(tcp.recv(size, socket.MSG_WAITALL)).answer
            assert tcp.recv(1) == b""
        assert server.process.wait(TIMEOUT) == 0


def test_a_second_sigint_ends_lame_duck(tmp_path: Path) -> None:
    """The exit code is 2, and all processes end."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, BOUND.replace(LAMEDUCK, "lameduck 600s")) as server:
        server.until_ready()
        children = list(server.children().values())
        server.process.send_signal(signal.SIGINT)
        server.until_logged("Going into lameduck mode for 600s")
        assert server.records(WEB) == ["10.96.0.20"]
        assert server.stop(signal.SIGINT) == 2
        until("the children to end", lambda: not any(map(is_alive, children)))

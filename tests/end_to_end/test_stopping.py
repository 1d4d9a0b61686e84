"""A stop loses nothing that was asked before its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import dns.message
import pytest

from tests.end_to_end.test_restarts import Asking
from tests.end_to_end.test_serving import BOUND, CLUSTER, WEB
from tests.support.kept import KeptConnections
from tests.support.scripted_upstream import ScriptedUpstream, answer
from tests.support.server import PATIENCE, Server, http, is_alive, until

FORWARD = "\n.:{port} {\n bind 127.0.0.1\n forward . 127.0.0.1:%d\n}\n"
LAMEDUCK = "lameduck 300ms"


def closed(port: int) -> bool:
    """Whether nobody listens there. A page that is asked for just now could keep us waiting."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_a_question_that_an_upstream_has_is_answered(tmp_path: Path, tcp: bool) -> None:
    """It was asked before the stop, and the upstream answers when the workers drain already."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    corefile = BOUND.replace(".:{port}", "cluster.local:{port}").replace(LAMEDUCK, "lameduck 0s")
    async with ScriptedUpstream(lambda _query, _transport: None) as upstream:
        with Server(tmp_path, corefile + FORWARD % upstream.port) as server:
            await asyncio.to_thread(server.until_ready)
            asking = asyncio.create_task(asyncio.to_thread(server.records, "slow.example.", tcp=tcp, timeout=10.0))
            async with asyncio.timeout(PATIENCE):
                while not upstream.asked:
                    await asyncio.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(until, "/ready to close", lambda: closed(server.ports["ready"]))
            upstream.respond = answer("slow.example. 5 IN A 192.0.2.1")
            assert await asking == ["192.0.2.1"]
            assert await asyncio.to_thread(server.process.wait, PATIENCE) == 0


def test_all_is_answered_during_lame_duck(tmp_path: Path) -> None:
    """New questions and connections too; connections that are kept end when they are quiet, and who asks again is answered."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, BOUND.replace(LAMEDUCK, "lameduck 2s")) as server:
        server.until_ready()
        with KeptConnections(20, server.ports["port"], WEB, may_end=True) as kept:
            server.process.send_signal(signal.SIGTERM)
            until("/ready to close", lambda: closed(server.ports["ready"]))
            with Asking(server) as asking:
                assert server.records(WEB, tcp=True) == ["10.96.0.20"]
                until("some answers", lambda: len(asking.answers) >= 50)
            assert asking.lost == 0
            assert kept.lost == []
            assert kept.ended > 0
            assert http(server.ports["health"], "/health") == (200, "OK")
        assert server.process.wait(PATIENCE) == 0


def test_what_waits_in_a_socket_is_answered(tmp_path: Path) -> None:
    """Questions that came while the worker stood still, on UDP and on a connection, before it was told to drain."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    question = dns.message.make_query(WEB, "A").to_wire()
    with Server(tmp_path, BOUND.replace(LAMEDUCK, "lameduck 0s")) as server:
        server.until_ready()
        target = ("127.0.0.1", server.ports["port"])
        worker = server.children()["worker 0"]
        with socket.create_connection(target, 5) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(5)
            assert server.records(WEB, tcp=True) == ["10.96.0.20"]  # so the connection before it has been accepted
            os.kill(worker, signal.SIGSTOP)
            udp.sendto(question, target)
            tcp.sendall(len(question).to_bytes(2, "big") + question)
            server.process.send_signal(signal.SIGTERM)
            until("/ready to close", lambda: closed(server.ports["ready"]))
            os.kill(worker, signal.SIGCONT)
            assert dns.message.from_wire(udp.recv(512)).answer
            size = int.from_bytes(tcp.recv(2, socket.MSG_WAITALL), "big")
            assert dns.message.from_wire(tcp.recv(size, socket.MSG_WAITALL)).answer
            assert tcp.recv(1) == b""
        assert server.process.wait(PATIENCE) == 0


def test_a_second_interrupt_ends_lame_duck_at_once(tmp_path: Path) -> None:
    """With exit code 2, and nothing is left running."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, BOUND.replace(LAMEDUCK, "lameduck 600s")) as server:
        server.until_ready()
        children = list(server.children().values())
        server.process.send_signal(signal.SIGINT)
        server.until_logged("Going into lameduck mode for 600s")
        assert server.records(WEB) == ["10.96.0.20"]
        assert server.stop(signal.SIGINT) == 2
        until("the children to leave", lambda: not any(map(is_alive, children)))

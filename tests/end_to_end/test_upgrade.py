"""Upgrades in place with SIGUSR2. Clients notice nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import dns.asyncquery
import dns.edns
import dns.message
import dns.query
import pytest

from svcdns.log_line import LogLine
from tests.end_to_end.test_restarts import TWO, Asking
from tests.end_to_end.test_serving import BOUND, CLUSTER, WEB
from tests.support.installed import install, version
from tests.support.kept import KeptConnections
from tests.support.scripted_upstream import ScriptedUpstream, answer
from tests.support.server import Server, http, is_alive, until

RETRANSMIT = 1.5
"""A bit less than the seconds after which *forward* sends a query to a silent upstream again."""
COOKIE_QUERIES = 8
COMPLETE = "[INFO] the upgrade is complete"
FORWARD = "\n.:{port} {\n bind 127.0.0.1\n forward . 127.0.0.1:%d {\n  max_fails 0\n }\n}\n"


def upgrade(server: Server, times: int = 1) -> None:
    """Starts an upgrade, and waits for its end. `times` is the number of upgrades since the start of the server."""
    server.process.send_signal(signal.SIGUSR2)
    until(
        "the end of the upgrade", lambda: server.process.poll() is not None or server.log.count(COMPLETE) == times, 60.0
    )
    assert server.process.poll() is None, server.log


def cookie(server: Server, data: bytes = bytes(range(8))) -> bytes:
    """Returns the DNS cookie in each worker's reply to a cookie. A valid cookie is returned unchanged (RFC 9018)."""
    option = dns.edns.GenericOption(dns.edns.OptionType(10), data)
    found = set()
    for _ in range(COOKIE_QUERIES):  # each query has a port of its own, so that the kernel chooses among the workers
        query = dns.message.make_query(WEB, "A", use_edns=0, options=[option])
        reply = dns.query.udp(query, "127.0.0.1", 10, server.ports["port"])
        (given,) = reply.options
        found.add(given.to_wire())
        data = given.to_wire()
        option = dns.edns.GenericOption(dns.edns.OptionType(10), data)
    assert data in found
    assert len(found) == 1
    return data


@pytest.mark.slow
def test_nothing_is_lost_through_upgrades(tmp_path: Path) -> None:
    """Each query is answered and counted once, over UDP and on open connections. Only the supervisor's process id stays
    the same.
    """
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    install(tmp_path)
    with Server(tmp_path, TWO) as server:
        server.until_ready()
        given = cookie(server)
        with KeptConnections(40, server.ports["port"], WEB) as kept, Asking(server) as asking:
            for number in (1, 2):
                before = server.children()
                install(tmp_path, version=version(f"9.{number}"))
                upgrade(server, number)
                after = server.children()
                assert set(before) == set(after)
                assert not set(before.values()) & set(after.values())
                assert http(server.ports["ready"], "/ready") == (200, "OK")
                assert server.metric(rf'coredns_build_info\{{[^}}]*version="9.{number}"\}}') == 1
        assert kept.lost == []
        assert asking.lost == 0
        assert cookie(server, given) == given
        asked = kept.answered + len(asking.answers) + 2 * COOKIE_QUERIES
        until("every query to be counted", lambda: server.metric("coredns_dns_requests_total") >= asked)
        assert server.metric("coredns_dns_requests_total") == asked
        assert server.metric("svcdns_process_restarts_total") == 0
        server.write(TWO.replace("ttl 30", "ttl 20"))
        server.process.send_signal(signal.SIGUSR1)
        until("a reload afterwards", lambda: server.ask(WEB).answer[0].ttl == 20)
        (tmp_path / "cluster.yaml").write_text(CLUSTER.replace("10.96.0.20", "10.96.0.21"))
        until("an edit afterwards", lambda: server.records(WEB) == ["10.96.0.21"])
        assert "ERROR" not in server.log
        assert "Traceback" not in server.log
        assert server.stop() == 0


INCOMPATIBLE = {
    "broken": (
        ("worker/worker.py", "import asyncio\n", "import asyncio, nothing_of_that_name\n"),
        "it does not start (exit code 1: ModuleNotFoundError: No module named 'nothing_of_that_name')",
    ),
    "other hand-over": (
        ("process/shared_memory.py", "HANDOVER: Final = ", "HANDOVER: Final = 99"),
        "its hand-over format is 99",
    ),
    "other feed": (("feed/frames.py", "    share: float\n", "    share: int\n"), "a restart is needed"),
}


@pytest.mark.slow
def test_a_program_that_cannot_take_over_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    install(tmp_path)
    with Server(tmp_path, BOUND) as server:
        server.until_ready()
        before = server.children()
        for number, (edit, reason) in enumerate(INCOMPATIBLE.values(), 1):
            install(tmp_path, edit=edit)
            server.process.send_signal(signal.SIGUSR2)
            refused = "[ERROR] SIGUSR2: the program that is installed now cannot take over, nothing has changed"
            until("the refusal", lambda: server.log.count(refused) == number)  # noqa: B023
            assert reason in server.log.rpartition(refused)[2]
            assert server.children() == before
            assert server.records(WEB) == ["10.96.0.20"]
        install(tmp_path)
        upgrade(server)
        assert server.records(WEB) == ["10.96.0.20"]


@pytest.mark.slow
def test_a_new_process_that_fails_is_started_again(tmp_path: Path) -> None:
    """The old process goes on meanwhile. Another upgrade is refused until this one is complete."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    install(tmp_path)
    with Server(tmp_path, BOUND) as server:
        server.until_ready()
        call = "    die_with_parent()\n"
        edits, faults = {}, {"control": tmp_path / "control-fault", "worker 0": tmp_path / "worker-fault"}
        for process, fault in faults.items():
            fault.touch()
            code = f"{call}    if __import__('os').path.exists('{fault}'):\n        return 7\n"
            edits[process] = (f"{process.split()[0]}/__main__.py", call, code)
        old = server.children()
        install(tmp_path, **edits)
        with KeptConnections(10, server.ports["port"], WEB) as kept, Asking(server) as asking:
            server.process.send_signal(signal.SIGUSR2)
            for process, fault in faults.items():
                server.until_logged(
                    LogLine(
                        "a process ended",
                        process=process,
                        exit_code=7,
                        consequence="starting it again, its predecessor goes on",
                    )
                )
                assert is_alive(old[process])
                if process == "control":
                    server.until_logged("a process is in a crash loop process=control")
                    server.process.send_signal(signal.SIGUSR2)
                    server.until_logged("[ERROR] SIGUSR2: an upgrade is in progress; this one is refused")
                fault.unlink()
            server.until_logged(COMPLETE)
        assert not set(old.values()) & set(server.children().values())
        assert (kept.lost, asking.lost) == ([], 0)


@pytest.mark.slow
@pytest.mark.parametrize("process", ["control", "worker 0"])
def test_an_old_process_that_is_killed_during_an_upgrade_is_replaced(tmp_path: Path, process: str) -> None:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, BOUND if process == "control" else TWO) as server:
        server.until_ready()
        old = server.children()
        server.process.send_signal(signal.SIGUSR2)
        server.until_logged("has taken over" if process == "control" else "a process is replaced process=control")
        with Asking(server) as asking:
            os.kill(old[process], signal.SIGKILL)
            server.until_logged(COMPLETE)
        assert asking.lost <= 2
        assert not set(old.values()) & set(server.children().values())
        server.until_ready()
        assert server.records(WEB) == ["10.96.0.20"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        pytest.param("SIGUSR2: checking", marks=pytest.mark.slow),
        "has taken over",
        pytest.param("a process is replaced process=control", marks=pytest.mark.slow),
        'a process is replaced process="worker 0"',
    ],
)
def test_a_stop_during_an_upgrade(tmp_path: Path, line: str) -> None:
    """The exit code is 0. `make test` tries two of the four moments."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, TWO) as server:
        server.until_ready()
        server.process.send_signal(signal.SIGUSR2)
        server.until_logged(line)
        assert server.stop() == 0
        assert "Traceback" not in server.log


async def sent(port: int, transport: str, number: int) -> tuple[float, list[str]]:
    """Sends a query for a unique name. Returns the time of sending and the answer."""
    begun = time.monotonic()
    send = dns.asyncquery.udp if transport == "udp" else dns.asyncquery.tcp
    reply = await send(dns.message.make_query(f"name-{number}-{transport}.example.", "A"), "127.0.0.1", 20.0, port)
    return begun, [rrset[0].to_text() for rrset in reply.answer]


@pytest.mark.slow
async def test_queries_that_wait_for_an_upstream_are_answered(tmp_path: Path) -> None:
    """The upgrade happens while the query waits. The old worker answers it, over UDP and TCP."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    async with ScriptedUpstream(lambda _query, _transport: None) as upstream:
        with Server(tmp_path, BOUND.replace(".:{port}", "cluster.local:{port}") + FORWARD % upstream.port) as server:
            await asyncio.to_thread(server.until_ready)
            server.process.send_signal(signal.SIGUSR2)
            await asyncio.to_thread(server.until_logged, "a process is replaced process=control")
            asking: list[asyncio.Task[tuple[float, list[str]]]] = []
            replaced = asyncio.create_task(
                asyncio.to_thread(server.until_logged, 'a process is replaced process="worker 0"')
            )
            while not replaced.done():
                asking += [
                    asyncio.create_task(sent(server.ports["port"], transport, len(asking)))
                    for transport in ("udp", "tcp")
                ]
                await asyncio.wait([replaced], timeout=0.25)
            await replaced
            at = time.monotonic()
            upstream.respond = lambda query, transport: answer(f"{query.question[0].name} 5 IN A 192.0.2.1")(
                query, transport
            )
            answers = await asyncio.gather(*asking)
            recent = [found for begun, found in answers if begun > at - RETRANSMIT]
            assert len(recent) >= 2
            assert all(found == ["192.0.2.1"] for found in recent)
            await asyncio.to_thread(server.until_logged, COMPLETE)

"""The C programs of the bench, against a server in the test."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench import pacing
from bench.client import write_queries
from bench.pacing import Figures, Pace
from bench.processes import cpu_seconds
from tests.support.server import TIMEOUT
from tests.support.sockets import udp_and_tcp

pytestmark = pytest.mark.integration

LOST = b"lost"


@pytest.fixture
def lossy_server() -> Iterator[int]:
    """Runs a server that returns each query over UDP and TCP, except for names with the text LOST. Yields its port."""
    server, listener = udp_and_tcp()
    with server, listener:

        def serve_udp() -> None:
            while (received := server.recvfrom(4096))[0] != b"end":
                if LOST not in received[0]:
                    server.sendto(*received)

        def serve_tcp() -> None:
            with suppress(OSError):  # the listener was shut down
                while True:
                    with listener.accept()[0] as connection:
                        connection.sendall(connection.recv(4096))

        threads = [threading.Thread(target=serve_udp), threading.Thread(target=serve_tcp)]
        for thread in threads:
            thread.start()
        yield server.getsockname()[1]
        server.sendto(b"end", server.getsockname())
        listener.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(TIMEOUT)


def run(tmp_path: Path, port: int, pace: Pace, *names: str) -> Figures:
    """Returns the figures of a run. The queries are for A records of these names."""
    path = write_queries(tmp_path / "queries", [f"{name} A" for name in names])
    program = pacing.compiled("pace", tmp_path)
    return pacing.finish(pacing.start(pace, program, port, path, sorted(os.sched_getaffinity(0))))


@pytest.mark.parametrize("mode", ["wait", "open"])
def test_all_queries_are_answered(tmp_path: Path, lossy_server: int, mode: str) -> None:
    """At 2,000 queries a second for 0.2 s, 400 queries are sent. Their latencies are positive and in order."""
    found = run(tmp_path, lossy_server, Pace(2_000, 0.2, mode), "a.test", "b.test")
    assert (found.sent, found.answered, found.lost, found.codes["NOERROR"]) == (400, 400, 0, 400)
    assert 0 < found.p50 <= found.p90 <= found.p99 <= found.p999 <= found.slowest
    assert 0.19 < found.seconds < 30


def test_losses_are_counted(tmp_path: Path, lossy_server: int) -> None:
    """A query without a reply is lost. In the mode without waiting, a lost query does not delay the next one."""
    found = run(tmp_path, lossy_server, Pace(1_000, 0.1, "open"), "a.test", "lost.test")
    assert (found.sent, found.answered, found.lost) == (100, 50, 50)


def test_each_query_has_a_connection(tmp_path: Path, lossy_server: int) -> None:
    """In the mode `tcp`, queries are sent over new connections until the time has passed."""
    found = run(tmp_path, lossy_server, Pace(1_000_000, 0.2, "tcp"), "a.test")
    assert found.sent == found.answered > 10


def test_the_neighbour_uses_its_core(tmp_path: Path) -> None:
    """The neighbour runs until the block ends."""
    before = children_of_this_process()
    with pacing.neighbour(tmp_path, sorted(os.sched_getaffinity(0))):
        [pid] = children_of_this_process() - before
        while cpu_seconds(pid) < 0.01:
            pass
    assert pid not in children_of_this_process()


def children_of_this_process() -> set[int]:
    """Returns the process ids of the children of this process."""
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}

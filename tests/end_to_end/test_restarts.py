"""Processes that are killed, hang or fail. Queries are answered, the process is replaced, and metrics and log report
it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from svcdns.log_line import LogLine
from tests.end_to_end.test_serving import BOUND, CLUSTER, WEB
from tests.support.installed import install
from tests.support.server import Server, until

TWO = BOUND.replace("errors\n", "errors\n    multisocket 2\n", 1)
FAULT = """
    if arguments.slot == 1 and __import__("os").path.exists({fault!r}):
        return 7
"""


class Asking:
    """Two threads that query the server until the context ends. Each query comes from a new port, so that both workers
    get queries.
    """

    def __init__(self, server: Server) -> None:
        self._server, self._over = server, threading.Event()
        self.answers: list[list[str]] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.03):
            self.answers.append(self._server.records(WEB, timeout=10.0))

    @property
    def lost(self) -> int:
        """Returns the number of queries without an answer, or with a wrong one."""
        return sum(answer != ["10.96.0.20"] for answer in self.answers)


def restarts(server: Server, process: str, reason: str) -> float:
    """Returns the number of restarts of a process for this reason, from the metric."""
    return server.metric(rf'svcdns_process_restarts_total\{{process="{process}",reason="{reason}"')


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with two workers. Both have answered a query."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, TWO) as running:
        running.until_ready()
        until(
            "both workers to read",
            lambda: sum(running.records(WEB, timeout=0.5) == ["10.96.0.20"] for _ in range(20)) == 20,
        )
        yield running


@pytest.mark.parametrize(
    ("process", "most"), [pytest.param("worker 1", 2, id="worker"), pytest.param("control", 0, id="control")]
)
def test_a_process_that_is_killed_or_hangs_is_replaced(server: Server, process: str, most: int) -> None:
    """Another worker reads its sockets. Each of two clients may lose one query."""
    for number, reason in ((signal.SIGKILL, "signal"), (signal.SIGSTOP, "silent")):
        old = server.children()[process]
        with Asking(server) as asking:
            os.kill(old, number)
            until("another process", lambda: server.children().get(process, old) != old)  # noqa: B023
            until("the metric", lambda: restarts(server, process, reason) == 1)  # noqa: B023
            server.until_ready()
            until("answers from both workers", lambda: len(asking.answers) > 20)
        assert asking.lost <= most
    assert server.log.count(LogLine("[ERROR] a process ended", process=process, signal="SIGKILL")) == 2
    assert server.metric("svcdns_process_crash_loop") == 0


@pytest.mark.slow  # the back-off of a crash loop is real time
def test_a_crash_loop_is_seen_and_ends(tmp_path: Path) -> None:
    """The log and a metric report the crash loop until it ends, also after a restart of control."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    fault = tmp_path / "fault"
    call = "    die_with_parent()\n"
    install(tmp_path, fault=("worker/__main__.py", call, call + FAULT.format(fault=str(fault))))
    with Server(tmp_path, TWO) as server:
        server.until_ready()
        fault.touch()
        os.kill(server.children()["worker 1"], signal.SIGKILL)
        server.until_logged('[ERROR] a process is in a crash loop process="worker 1"')
        with Asking(server) as asking:
            until("the metric", lambda: server.metric(r'svcdns_process_crash_loop\{process="worker 1"') == 1)
            assert restarts(server, "worker 1", "exit") >= 2
            os.kill(server.children()["control"], signal.SIGKILL)
            until("the metric of another control", lambda: restarts(server, "control", "signal") == 1)
            assert server.metric(r'svcdns_process_crash_loop\{process="worker 1"') == 1
        assert asking.lost == 0
        fault.unlink()
        until(
            "the end of the crash loop",
            lambda: 'its crash loop is over process="worker 1"' in server.log,
            60.0,
        )
        until("the metric to be back", lambda: server.metric("svcdns_process_crash_loop") == 0)
        server.until_ready()


def test_a_corefile_from_standard_input_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, BOUND, "-conf", "stdin") as server:
        server.until_ready()
        server.corefile.unlink()
        server.process.send_signal(signal.SIGUSR1)
        server.until_logged("Reloading complete")
        assert server.records(WEB) == ["10.96.0.20"]
        os.kill(server.children()["control"], signal.SIGKILL)
        until("another control", lambda: restarts(server, "control", "signal") == 1)
        server.until_ready()
        (tmp_path / "cluster.yaml").write_text(CLUSTER.replace("10.96.0.20", "10.96.0.21"))
        until("the edit to be seen", lambda: server.records(WEB) == ["10.96.0.21"])


def test_a_control_that_dies_after_a_reload(tmp_path: Path) -> None:
    """The reload changed the source of the cluster's objects. No answer is wrong afterwards."""
    for name in ("cluster", "other"):
        (tmp_path / f"{name}.yaml").write_text(CLUSTER)
    with Server(tmp_path, TWO) as server:
        server.until_ready()
        server.write(TWO.replace("cluster.yaml", "other.yaml"))
        server.process.send_signal(signal.SIGUSR1)
        server.until_logged("Reloading complete")
        with Asking(server) as asking:
            os.kill(server.children()["control"], signal.SIGKILL)
            until("another control", lambda: restarts(server, "control", "signal") == 1)
            server.until_ready()
        assert asking.lost == 0

"""Processes that are killed, hang or fail: answers go on, the process is back, and it can be seen."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.end_to_end.test_serving import BOUND, CLUSTER, WEB
from tests.support.installed import install
from tests.support.server import Server, until

TWO = BOUND.replace("errors\n", "errors\n    multisocket 2\n", 1)
FAULT = """
    if arguments.slot == 1 and __import__("os").path.exists({fault!r}):
        return 7
"""


class Asking:
    """Asks on and on, a client for each question, so that both workers are asked; each has two seconds to answer."""

    def __init__(self, server: Server) -> None:
        """Begins with the context."""
        self._server, self._over = server, threading.Event()
        self.answers: list[list[str]] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def __enter__(self) -> Self:
        """Asks."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Asks no more."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.01):
            self.answers.append(self._server.records(WEB, timeout=2.0))

    @property
    def lost(self) -> int:
        """Questions that got no answer, or a wrong one."""
        return sum(answer != ["10.96.0.20"] for answer in self.answers)


def restarts(server: Server, process: str, reason: str) -> float:
    """The metric."""
    return server.metric(rf'svcdns_process_restarts_total\{{process="{process}",reason="{reason}"')


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Two workers, ready."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Server(tmp_path, TWO) as running:
        running.until_ready()
        until("both workers to read", lambda: sum(running.records(WEB, timeout=0.5) == ["10.96.0.20"] for _ in range(20)) == 20)
        yield running


@pytest.mark.parametrize(
    ("process", "number", "reason", "most"),
    [
        pytest.param("worker 1", signal.SIGKILL, "signal", 2, id="worker killed"),
        pytest.param("worker 1", signal.SIGSTOP, "silent", 2, id="worker hung"),
        pytest.param("control", signal.SIGKILL, "signal", 0, id="control killed"),
        pytest.param("control", signal.SIGSTOP, "silent", 0, id="control hung"),
    ],
)
def test_answers_go_on(server: Server, process: str, number: int, reason: str, most: int) -> None:
    """A worker takes with it at most what was in its hands, one question of each client; the other one reads its sockets."""
    old = server.children()[process]
    with Asking(server) as asking:
        os.kill(old, number)
        until("another process", lambda: server.children().get(process, old) != old)
        until("the metric", lambda: restarts(server, process, reason) == 1)
        server.until_ready()
    assert len(asking.answers) > 20
    assert asking.lost <= most
    assert f"[ERROR] {process} ended (signal SIGKILL): starting it again" in server.log
    assert server.metric("svcdns_process_crash_loop") == 0


def test_a_crash_loop_is_seen_and_ends(tmp_path: Path) -> None:
    """A worker that fails again and again is tried more and more slowly; the other one answers all; a new control knows of it too."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    fault = tmp_path / "fault"
    call = "    follow_parent()\n"
    install(tmp_path, fault=("worker/__main__.py", call, call + FAULT.format(fault=str(fault))))
    with Server(tmp_path, TWO) as server:
        server.until_ready()
        fault.touch()
        os.kill(server.children()["worker 1"], signal.SIGKILL)
        server.until_logged("[ERROR] worker 1 ends again and again soon after its start: crash loop, next try in")
        with Asking(server) as asking:
            until("the metric", lambda: server.metric(r'svcdns_process_crash_loop\{process="worker 1"') == 1)
            assert restarts(server, "worker 1", "exit") >= 2
            os.kill(server.children()["control"], signal.SIGKILL)
            until("the metric of another control", lambda: restarts(server, "control", "signal") == 1)
            assert server.metric(r'svcdns_process_crash_loop\{process="worker 1"') == 1
        assert asking.lost == 0
        fault.unlink()
        until("the end of the crash loop", lambda: "[INFO] worker 1 runs again: its crash loop is over" in server.log, 30.0)
        until("the metric to be back", lambda: server.metric("svcdns_process_crash_loop") == 0)
        server.until_ready()


def test_a_corefile_from_standard_input_is_there_again(tmp_path: Path) -> None:
    """For a reload, and for a control that takes the place of one that died."""
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
    """It had watched another cluster before: names of the present one are known without a gap."""
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

"""The memory budget of the whole server, in its own memory control group if the machine permits one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.memory_group import MemoryGroup
from svcdns.process.memory_cgroup import MemoryGroup as OwnGroup
from tests.support.server import Server, until

COREFILE = """
.:{port} {
    bind 127.0.0.1
    errors
    hosts {dir}/names
    prometheus 127.0.0.1:{metrics}
    cache 30
}
"""
NAME = "a.example.org."
BALLAST = 200 << 20
"""Octets that another process of the group holds, so that one percent of the limit is more than the use varies."""


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    """A control group with a very high limit."""
    with MemoryGroup(4 * BALLAST) as made:
        if made.path is None:
            pytest.skip("no memory control group can be made here")
        hold = f"held = b'x' * {BALLAST}; print(flush=True); input()"
        with subprocess.Popen(
            [*made.prefix, sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as ballast:
            assert ballast.stdout is not None
            ballast.stdout.readline()
            yield made
            ballast.communicate(b"\n")


def test_steps_as_memory_fills_up(tmp_path: Path, group: MemoryGroup) -> None:
    """Answer tables and caches shrink, and then control is restarted. Queries are answered all the time."""
    (tmp_path / "names").write_text("10.0.0.1 a.example.org\n")
    with Server(tmp_path, COREFILE) as server:
        group.add(server.process.pid)
        server.until_serving()
        until("the limit to be shown", lambda: server.metric("svcdns_memory_limit_bytes") == 4 * BALLAST)
        used = until("the use", lambda: server.metric("svcdns_memory_working_set_bytes"))
        assert BALLAST < used < 2 * BALLAST
        before = server.children()

        group.set_limit(int(used / 0.89))
        until("a step", lambda: server.metric('svcdns_memory_pressure_total{action="shrink"}') == 1)
        assert server.metric("svcdns_memory_share") == 0.5
        server.until_logged("answer tables and caches shrink share=0.5 ")
        assert server.records(NAME) == ["10.0.0.1"]

        group.set_limit(int(server.metric("svcdns_memory_working_set_bytes") / 0.965))
        until(
            "the restart", lambda: "is restarted; workers go on" in server.log or server.records(NAME) != ["10.0.0.1"]
        )
        group.set_limit(4 * BALLAST)
        until("the next control", lambda: server.children().get("control") not in {None, before["control"]})
        until("its metrics", lambda: server.metric('svcdns_memory_pressure_total{action="restart"}') == 1)
        assert server.records(NAME) == ["10.0.0.1"]
        assert server.children()["worker 0"] == before["worker 0"]
        assert server.metric("svcdns_memory_share") < 1, server.log
        assert server.stop() == 0


def test_the_files_of_this_machine_are_read(group: MemoryGroup) -> None:
    """Limit and memory use are those of the process's own control group."""
    read = "from svcdns.process.memory_cgroup import MemoryGroup; print(*MemoryGroup().usage())"
    shown = subprocess.run(
        [*group.prefix, sys.executable, "-c", read], check=True, capture_output=True, text=True
    ).stdout.split()
    assert int(shown[0]) == 4 * BALLAST
    assert BALLAST < int(shown[1]) < 2 * BALLAST
    assert OwnGroup().limit() != 4 * BALLAST

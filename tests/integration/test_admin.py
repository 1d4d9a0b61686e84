"""The socket for tools of a real server: two workers, a reload, an upgrade in place, a killed server, and a stop."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcdns.cli.errors import CannotRun
from svcdns.cli.server_socket import ask
from svcdns.control.cache_pages import CacheFlush, CacheList
from svcdns.control.status import Status
from tests.support.server import Server, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
COREFILE = """
example.org:{port} {
    bind 127.0.0.1
    admin {dir}/s
    prometheus 127.0.0.1:{metrics}
    ready 127.0.0.1:{ready}
    multisocket 2
    cache 30
    reload 2s 1s
    file {dir}/zone
}
"""
ZONE = "@ 60 IN SOA ns a 1 2 3 4 5\n@ IN NS ns\nns IN A 192.0.2.53\n" + "".join(
    f"n{number} IN A 192.0.2.{number}\n" for number in range(20)
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "zone").write_text(ZONE)
    with Server(tmp_path, COREFILE) as made:
        made.until_ready()
        yield made


def status(server: Server) -> Status:
    return ask(f"{server.folder}/s", "status", {}, Status)


def answers(server: Server) -> bool:
    try:
        return len(status(server).processes) == 4
    except CannotRun:
        return False


def test_lists_and_flushes_are_exact(server: Server) -> None:
    path = f"{server.folder}/s"
    for _ in range(6):
        for number in range(20):
            assert server.records(f"n{number}.example.org.") == [f"192.0.2.{number}"]
    listed = ask(path, "cache", {}, CacheList)
    assert listed.total == sum(one.count for one in listed.replies) > 20
    one = ask(path, "cache", {"name": "n1.example.org"}, CacheList)
    assert one.total > 0
    flushed = ask(path, "cache/flush", {"name": "N1.example.org."}, CacheFlush, "POST")
    assert (flushed.flushed, set(flushed.workers)) == (one.total, {"worker 0", "worker 1"})
    assert ask(path, "cache", {}, CacheList).total == listed.total - one.total
    assert ask(path, "cache/flush", {"zone": "org"}, CacheFlush, "POST").flushed == listed.total - one.total
    assert ask(path, "cache", {}, CacheList).replies == []
    for _ in range(8):
        assert server.records("n1.example.org.") == ["192.0.2.1"]
    command = [sys.executable, "-m", "svcdns", "explain", "n1.example.org.", "--server", path, "--output", "json"]
    explained = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    assert explained["queries"][0]["records"] == ["n1.example.org. 30 IN A 192.0.2.1"]
    assert [one["store"] for one in explained["running"]["stored"]] == ["table"]
    found = status(server)
    assert found.serving[0].zone == "example.org."
    assert all(one.pid and one.resident_bytes for one in found.processes)
    until("the queries", lambda: status(server).queries.total >= 128)


def test_the_life_of_the_socket(server: Server) -> None:
    path = server.folder / "s"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = path.stat().st_ino
    server.corefile.write_text(server.corefile.read_text().replace("cache 30", "cache 20"))
    server.until_logged("Reloading complete")
    assert path.stat().st_ino == first
    assert status(server).corefile.last_error == ""
    server.corefile.write_text(server.corefile.read_text().replace("cache 20", "cach 20"))
    until("the failed reload", lambda: "cach" in status(server).corefile.last_error)
    server.corefile.write_text(server.corefile.read_text().replace("cach 20", "cache 20"))

    server.process.send_signal(signal.SIGUSR2)
    server.until_logged("the upgrade is complete")
    until("the new socket", lambda: path.exists() and path.stat().st_ino != first and answers(server))

    os.kill(server.children()["control"], signal.SIGKILL)
    second = path.stat().st_ino
    until("a new control process", lambda: path.stat().st_ino != second and answers(server))

    assert server.stop() == 0
    assert not path.exists()

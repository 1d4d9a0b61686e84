"""`svcdns top` with a real server under a small load: the report, the live view, a restart of the server, a signal."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.screen import Screen
from tests.support.server import Server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
COREFILE = """
example.org:{port} {
    bind 127.0.0.1
    admin {dir}/s
    traffic
    prometheus 127.0.0.1:{metrics}
    ready 127.0.0.1:{ready}
    multisocket 2
    cache 30
    file {dir}/zone
}
"""
ZONE = "@ 60 IN SOA ns a 1 2 3 4 5\n@ IN NS ns\nns IN A 192.0.2.53\nwww IN A 192.0.2.1\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that gets queries until the end of the test: three for a name that exists, and one for another."""
    (tmp_path / "zone").write_text(ZONE)
    stop = threading.Event()
    with Server(tmp_path, COREFILE) as made:
        made.until_ready()

        def load() -> None:
            while not stop.wait(0.01):
                for name in ("www", "www", "www", "no"):
                    made.ask(f"{name}.example.org.", timeout=0.5)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            yield made
        finally:
            stop.set()
            thread.join()


def test_the_report(server: Server) -> None:
    command = [sys.executable, "-m", "svcdns", "top", "--socket", f"{server.folder}/s", "--every", "3"]
    done = subprocess.run([*command, "--output", "json"], check=True, capture_output=True, timeout=60)
    found = json.loads(done.stdout)
    assert found["queries"] > 1
    assert found["rcodes"]["NOERROR"] / found["rcodes"]["NXDOMAIN"] == pytest.approx(3, rel=0.5)
    assert 0 < found["latency"]["p50"] <= found["latency"]["p99"]
    assert {one["name"] for one in found["traffic"]["names"]} == {"www.example.org.", "no.example.org."}
    assert [one["name"] for one in found["processes"]] == ["supervisor", "control", "worker 0", "worker 1"]
    text = subprocess.run([*command, "--once"], check=True, capture_output=True, timeout=60, text=True).stdout
    assert "127.0.0.1" in text.partition("\nclients\n")[2]


async def test_the_live_view(server: Server) -> None:
    with Screen(["top", "--socket", f"{server.folder}/s", "--every", "1"]) as terminal:
        await terminal.until("www.example.org.", "NXDOMAIN", without="measuring")
        terminal.press("9/worker\r")
        await terminal.until("worker 1", "serving", without="supervisor")
        assert await asyncio.to_thread(server.stop) == 0
        await terminal.until("no contact for")
        server.process = server.launch()
        await terminal.until("worker 1", "NXDOMAIN", without="no contact")
        terminal.process.send_signal(signal.SIGTERM)
        assert await terminal.ended() == 128 + signal.SIGTERM
        assert terminal.mode() == terminal.mode_before
        assert terminal.output.endswith("\x1b[?1049l")

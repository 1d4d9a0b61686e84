"""A forwarding loop through a server with two workers. The server finds the loop, goes on serving, and
notices its end.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.support.server import TIMEOUT, Server, until
from tests.support.zone_upstream import ZoneUpstream

COREFILE = """
.:{port} {
    bind 127.0.0.1
    multisocket 2
    errors
    hosts {dir}/names {
        fallthrough
    }
    prometheus 127.0.0.1:{metrics}
    loop
    forward . UPSTREAM
}
"""
TO_ITSELF = COREFILE.replace("UPSTREAM", "127.0.0.1:{port}")
OURS, OUTSIDE = "ours.example.net.", "outside.example.org."


@pytest.fixture
def outside() -> Iterator[ZoneUpstream]:
    """Starts an upstream that answers from its own records, so there is no loop."""
    records = (
        f"{OUTSIDE} 60 IN A 192.0.2.1",
        "example.org. 60 IN SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60",
    )
    with ZoneUpstream(records) as upstream:
        yield upstream


def test_a_loop_until_a_reload_ends_it(tmp_path: Path, outside: ZoneUpstream) -> None:
    """Names in *hosts* are answered all the time. External names get SERVFAIL until the reload."""
    (tmp_path / "names").write_text("10.0.0.1 ours.example.net\n")
    with Server(tmp_path, TO_ITSELF) as server:
        server.until_serving()
        until("the loop to be found", lambda: server.metric("svcdns_loop_found") == 1)
        server.until_logged("[ERROR] plugin/loop: Loop (127.0.0.1:")
        before = server.children()
        for tcp in (False, True):
            for _ in range(8):
                assert server.records(OUTSIDE, tcp=tcp) == ["SERVFAIL"]
                assert server.records(OURS, tcp=tcp) == ["10.0.0.1"]
        query = dns.message.make_query(OUTSIDE, "A", use_edns=0)
        (error,) = dns.query.udp(query, "127.0.0.1", TIMEOUT, server.ports["port"]).options
        assert error.to_text() == "EDE 14 (Not Ready): forwarding loop"

        server.write(COREFILE.replace("UPSTREAM", f"127.0.0.1:{outside.port}"))
        server.process.send_signal(signal.SIGUSR1)
        until(
            "the metric", lambda: server.metric("svcdns_loop_found") == 0 and "is gone: forwarding again" in server.log
        )
        for _ in range(8):
            assert server.records(OUTSIDE) == ["192.0.2.1"]
        assert server.children() == before
        assert server.log.count(" detected for zone ") == 1
        assert server.stop() == 0


def test_a_loop_begins_with_a_reload(tmp_path: Path, outside: ZoneUpstream) -> None:
    (tmp_path / "names").write_text("10.0.0.1 ours.example.net\n")
    with Server(tmp_path, COREFILE.replace("UPSTREAM", f"127.0.0.1:{outside.port}")) as server:
        server.until_serving()
        assert server.records(OUTSIDE) == ["192.0.2.1"]
        assert server.metric("svcdns_loop_found") == 0
        server.write(TO_ITSELF)
        server.process.send_signal(signal.SIGUSR1)
        until("the loop to be found", lambda: server.metric("svcdns_loop_found") == 1)
        assert server.records(OUTSIDE) == ["SERVFAIL"]
        assert server.records(OURS) == ["10.0.0.1"]

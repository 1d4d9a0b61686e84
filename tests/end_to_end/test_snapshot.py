"""Snapshots of the cluster on disk: starts without an API server, and the return of the API server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.query
import pytest

from tests.support.api_double import NAMESPACES, SERVICES, SLICES, ApiDouble, Fault, endpoint_slice, namespace, service
from tests.support.server import TIMEOUT, Server, http, until

COREFILE = """
.:{port} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}
    kubernetes cluster.local in-addr.arpa {
        endpoint API
        startup_timeout 200ms
        OPTIONS
    }
    hosts {
        192.0.2.80 www.example.org
        fallthrough
    }
}
"""
WEB, DB, NEW, NOTHING = (f"{name}.default.svc.cluster.local." for name in ("web", "db", "new", "nothing"))
AWAY = Fault(503, "away")


@pytest.fixture
def api() -> Iterator[ApiDouble]:
    """Starts an API server with a small cluster."""
    objects = [
        namespace("default"),
        service("web", "10.96.0.20"),
        service("db"),
        endpoint_slice("db-1", "db", "10.244.1.1"),
    ]
    with ApiDouble(objects) as double:
        yield double


def start(folder: Path, api: ApiDouble, options: str = "", **environ: str) -> Server:
    """Returns a server whose snapshots are in the folder `state`, unless the environment says otherwise."""
    text = COREFILE.replace("API", api.url).replace("OPTIONS", options)
    return Server(folder, text, **{"SVCDNS_SNAPSHOT": str(folder / "state"), **environ})


def write_snapshot(folder: Path, api: ApiDouble) -> Path:
    """Runs a server until it has written its snapshot, and returns the file."""
    with start(folder, api) as server:
        server.until_ready()
        assert server.stop() == 0
        (found,) = (folder / "state").glob("*.snapshot")
        return found


def extended_errors(server: Server, name: str) -> list[str]:
    """Returns the extended errors in the reply to a client with EDNS."""
    reply: Any = dns.query.udp(
        dns.message.make_query(name, "A", use_edns=0), "127.0.0.1", TIMEOUT, server.ports["port"]
    )
    return [option.to_text() for option in reply.options if option.otype == dns.edns.OptionType.EDE]


def test_a_start_without_an_api_server(tmp_path: Path, api: ApiDouble) -> None:
    """The server becomes ready and answers from its snapshot. Old answers have extended error 3. When the API server is
    back, no answer is missing at any time.
    """
    write_snapshot(tmp_path, api)
    api.standing = AWAY
    with start(tmp_path, api, SVCDNS_STALE_AFTER="2s") as server:
        server.until_serving()
        assert server.records(WEB) == ["10.96.0.20"]
        assert server.records(DB) == ["10.244.1.1"]
        assert server.records("20.0.96.10.in-addr.arpa.", "PTR") == [WEB]
        assert server.records(NOTHING) == ["NXDOMAIN"]
        server.until_ready()
        assert "until the API server has been listed objects=4 " in server.log
        assert "starting server with unsynced" not in server.log
        until(
            "the extended errors",
            lambda: extended_errors(server, WEB) and extended_errors(server, NOTHING) and extended_errors(server, DB),
        )
        assert extended_errors(server, WEB) == ["EDE 3 (Stale Answer)"]
        until(
            "the age", lambda: server.metric("svcdns_kubernetes_view_age_seconds") >= 2
        )  # control shows it once a second
        assert server.metric('svcdns_kubernetes_snapshot_loads_total{result="used"}') == 1
        api.put(service("new", "10.96.0.30"))
        api.put(endpoint_slice("db-1", "db", "10.244.1.2"))
        api.delete(service("web"))
        missing: list[object] = []
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                found = server.records(DB)
                if found not in (["10.244.1.1"], ["10.244.1.2"]):
                    missing.append(found)

        asking = threading.Thread(target=watch, daemon=True)
        asking.start()
        try:
            api.standing = None
            until("the new Service", lambda: server.records(NEW) == ["10.96.0.30"])
            until("the moved endpoint", lambda: server.records(DB) == ["10.244.1.2"])
            until("the deletion", lambda: server.records(WEB) == ["NXDOMAIN"])
            until(
                "the end of the extended errors",
                lambda: not extended_errors(server, DB) and not extended_errors(server, WEB),
            )
        finally:
            over.set()
            asking.join(TIMEOUT)
        assert missing == []


def test_old_answers_of_a_running_server_have_the_extended_error_too(tmp_path: Path, api: ApiDouble) -> None:
    """The watches have delivered nothing for `stale_after`. No snapshot is needed."""
    with start(tmp_path, api, "stale_after 2s", SVCDNS_SNAPSHOT="") as server:
        server.until_ready()

        def fresh() -> bool:
            for path in (SERVICES, NAMESPACES, SLICES):
                api.bookmark(path)
            return extended_errors(server, WEB) == []

        until("answers without extended errors", fresh)
        until("the extended errors", lambda: extended_errors(server, WEB))
        assert server.records(WEB) == ["10.96.0.20"]
        until("the end of the extended errors", fresh)


def test_a_damaged_snapshot(tmp_path: Path, api: ApiDouble) -> None:
    """The server starts without the snapshot, and logs one line. Once the API server answers, a new snapshot is
    written.
    """
    file = write_snapshot(tmp_path, api)
    file.write_bytes(file.read_bytes()[:-100])
    api.standing = AWAY
    with start(tmp_path, api) as server:
        server.until_serving()
        assert server.log.count("the snapshot is not used") == server.log.count("it is damaged") == 1
        assert server.records(WEB) == ["SERVFAIL"]
        assert server.records("www.example.org.") == ["192.0.2.80"]
        assert http(server.ports["ready"], "/ready") == (503, "kubernetes")
        api.standing = None
        server.until_ready()
        assert server.records(WEB) == ["10.96.0.20"]
        assert server.stop() == 0
    api.standing = AWAY
    with start(tmp_path, api) as server:
        server.until_serving()
        assert server.records(WEB) == ["10.96.0.20"]


def test_not_ready_waits_for_the_api_server(tmp_path: Path, api: ApiDouble) -> None:
    write_snapshot(tmp_path, api)
    api.standing = AWAY
    with start(tmp_path, api, SVCDNS_SNAPSHOT=f"{tmp_path}/state not_ready") as server:
        server.until_serving()
        assert server.records(WEB) == ["10.96.0.20"]
        until("/ready to say no", lambda: http(server.ports["ready"], "/ready") == (503, "kubernetes"))
        api.standing = None
        server.until_ready()


def test_a_wrong_variable_ends_the_start(tmp_path: Path, api: ApiDouble) -> None:
    with start(tmp_path, api, SVCDNS_SNAPSHOT=f"{tmp_path}/state soon") as server:
        assert server.process.wait(TIMEOUT) == 1
        assert server.log.startswith(
            f"SVCDNS_SNAPSHOT:1:{len(str(tmp_path)) + 8} - Error during parsing: 'soon' is not a duration"
        )
        assert "Traceback" not in server.log
